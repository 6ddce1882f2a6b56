//! The thread behind an access log: what has gathered goes to a file or to a syslog. Nobody waits for it: lines that find
//! no place are lost, counted, and told of.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::SendFlags;
use trivet_wire::channel::Channel;
use trivet_wire::control::FromEdge;

use crate::config;
use crate::log;
use crate::syslog::Syslog;

/// Lines that wait for the disk; what comes beyond is lost and counted.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Lines are gathered for so long before they are written.
const GATHER: Duration = Duration::from_millis(20);
/// What takes no lines is waited for by pieces of this, between which there may be news.
const PATIENCE: Duration = Duration::from_millis(250);
/// Lost lines are told of at once, and then again so often.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// Another socket is asked for so often.
const ASKED_EVERY: Duration = Duration::from_secs(5);
/// At the end, what takes no lines is not waited for any longer.
const LAST_PATIENCE: Duration = Duration::from_millis(1_500);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    bell: Condvar,
    lost: AtomicU64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    asleep: bool,
    finish: bool,
    writing: bool,
    /// Another file, and how many bytes of the lines still belong to the one before.
    sink: Option<(usize, OwnedFd)>,
}

/// The edge's half.
#[derive(Debug)]
pub(crate) struct LogWriter(Arc<Shared>);

impl LogWriter {
    /// `control`: to ask the supervisor for another socket.
    pub(crate) fn start(log: &config::AccessLog, sink: OwnedFd, control: OwnedFd) -> io::Result<Self> {
        let shared =
            Arc::new(Shared { waiting: Mutex::default(), bell: Condvar::new(), lost: AtomicU64::new(0) });
        let thread = Thread {
            shared: shared.clone(),
            name: log.name.clone(),
            sink,
            syslog: log.syslog.as_ref().map(Syslog::new),
            control: Channel::from_fd(control),
            torn: false,
            told: 0,
            told_at: None,
            asked_at: None,
            error: None,
            until: None,
        };
        std::thread::Builder::new()
            .name("access-log".into())
            .stack_size(128 * 1024)
            .spawn(move || thread.run())?;
        Ok(Self(shared))
    }

    /// Lines that could not be kept.
    pub(crate) fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    pub(crate) fn put(&self, line: &[u8]) {
        let mut waiting = self.0.lock();
        if waiting.lines.len() + line.len() > WAITING_BYTES_MAX {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.lines.extend_from_slice(line);
        if std::mem::take(&mut waiting.asleep) {
            self.0.bell.notify_all();
        }
    }

    /// From the next line on, another file.
    pub(crate) fn reopen(&self, sink: OwnedFd) {
        let mut waiting = self.0.lock();
        let before = waiting.sink.as_ref().map_or(waiting.lines.len(), |(before, _)| *before);
        waiting.sink = Some((before, sink));
        waiting.asleep = false;
        self.0.bell.notify_all();
    }

    /// Waits (for two seconds at most) until all lines are written.
    pub(crate) fn finish(&self) {
        let mut waiting = self.0.lock();
        waiting.finish = true;
        self.0.bell.notify_all();
        let busy = |w: &mut Waiting| !w.lines.is_empty() || w.writing;
        drop(self.0.bell.wait_timeout_while(waiting, Duration::from_secs(2), busy));
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // The thread writes what it has, and ends.
        self.0.lock().finish = true;
        self.0.bell.notify_all();
    }
}

struct Thread {
    shared: Arc<Shared>,
    name: String,
    sink: OwnedFd,
    syslog: Option<Syslog>,
    control: Channel,
    /// The last line in the file has no end.
    torn: bool,
    /// Of the lost lines, those that were told of.
    told: u64,
    told_at: Option<Instant>,
    asked_at: Option<Instant>,
    /// What was last in the way.
    error: Option<Errno>,
    /// When it is over whatever is left.
    until: Option<Instant>,
}

impl Thread {
    fn run(mut self) {
        let mut lines = Vec::new();
        loop {
            let next = self.wait_for_lines(&mut lines);
            let before = match &next {
                // The old socket may be the one that nobody listens at any more.
                Some(_) if self.syslog.is_some() => 0,
                Some((before, _)) => (*before).min(lines.len()),
                None => lines.len(),
            };
            self.write(&lines[..before]);
            if let Some((_, next)) = next {
                self.sink = next;
                self.torn = false;
                self.write(&lines[before..]);
            }
            lines.clear();
            self.tell_of_lost();
            let mut waiting = self.shared.lock();
            waiting.writing = false;
            if waiting.finish {
                if waiting.lines.is_empty() {
                    self.shared.bell.notify_all();
                    return;
                }
                continue;
            }
            drop(waiting);
            std::thread::sleep(GATHER);
        }
    }

    /// The lines that have gathered, and what they belong to from where on.
    fn wait_for_lines(&mut self, lines: &mut Vec<u8>) -> Option<(usize, OwnedFd)> {
        let shared = self.shared.clone();
        let mut waiting = shared.lock();
        while waiting.lines.is_empty() && waiting.sink.is_none() && !waiting.finish {
            waiting.asleep = true;
            if self.told == shared.lost.load(Ordering::Relaxed) {
                waiting = shared.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (guard, late) =
                shared.bell.wait_timeout(waiting, TOLD_EVERY).unwrap_or_else(PoisonError::into_inner);
            waiting = guard;
            if late.timed_out() {
                drop(waiting);
                self.tell_of_lost();
                waiting = shared.lock();
            }
        }
        waiting.asleep = false;
        std::mem::swap(lines, &mut waiting.lines);
        waiting.writing = true;
        waiting.sink.take()
    }

    fn write(&mut self, lines: &[u8]) {
        if self.syslog.is_some() {
            for line in lines.split_inclusive(|b| *b == b'\n') {
                self.send(line);
            }
            return;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            if self.torn {
                // What was begun when the disk was full is no part of this one.
                self.torn = rustix::io::write(&self.sink, b"\n").is_err();
            }
            match rustix::io::write(&self.sink, rest) {
                Ok(n) => rest = &rest[n..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if self.may_wait() => self.wait_until_it_takes(),
                Err(error) => {
                    let at = lines.len() - rest.len();
                    self.torn |= at > 0 && lines[at - 1] != b'\n';
                    self.lose(memchr::memchr_iter(b'\n', rest).count(), error);
                    return;
                }
            }
        }
    }

    /// One line, as one message.
    fn send(&mut self, line: &[u8]) {
        let mut told_of_another = false;
        loop {
            let Some(syslog) = &mut self.syslog else { return };
            let network = syslog.is_network();
            let message = syslog.message(line);
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::send(&self.sink, message, flags) {
                Ok(_) => return,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if self.may_wait() => self.wait_until_it_takes(),
                Err(Errno::NOBUFS) if self.may_wait() => std::thread::sleep(GATHER),
                // Of an earlier one, which nobody took.
                Err(error @ Errno::CONNREFUSED) if network && !told_of_another => {
                    told_of_another = true;
                    self.lose(1, error);
                }
                Err(
                    error @ (Errno::CONNREFUSED
                    | Errno::CONNRESET
                    | Errno::NOTCONN
                    | Errno::DESTADDRREQ
                    | Errno::PIPE),
                ) if !network && self.may_wait() => {
                    self.error = Some(error);
                    self.wait_for_another_socket();
                }
                Err(error) => return self.lose(1, error),
            }
        }
    }

    /// Whether there is still time to wait for anything.
    fn may_wait(&mut self) -> bool {
        if self.until.is_none() && self.shared.lock().finish {
            self.until = Some(Instant::now() + LAST_PATIENCE);
        }
        self.until.is_none_or(|until| Instant::now() < until)
    }

    fn wait_until_it_takes(&mut self) {
        let timeout = Timespec { tv_sec: 0, tv_nsec: PATIENCE.subsec_nanos().into() };
        // An error shows itself at the next attempt.
        let _ = rustix::event::poll(&mut [PollFd::new(&self.sink, PollFlags::OUT)], Some(&timeout));
        self.error = Some(Errno::AGAIN);
        self.tell_of_lost();
    }

    /// The lines wait meanwhile, as far as there is space.
    fn wait_for_another_socket(&mut self) {
        if self.asked_at.is_none_or(|at| at.elapsed() > ASKED_EVERY) {
            self.asked_at = Some(Instant::now());
            // A supervisor that is gone is noticed elsewhere.
            let _ = self.control.send_json(&FromEdge::LogGone, &[]);
        }
        let waiting = self.shared.lock();
        let (mut waiting, _) = self
            .shared
            .bell
            .wait_timeout_while(waiting, PATIENCE, |w| w.sink.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sink)) = waiting.sink.take() {
            drop(waiting);
            self.sink = sink;
            self.asked_at = None;
        } else {
            drop(waiting);
        }
        self.tell_of_lost();
    }

    fn lose(&mut self, lines: usize, error: Errno) {
        self.shared.lost.fetch_add(lines as u64, Ordering::Relaxed);
        self.error = Some(error);
    }

    fn tell_of_lost(&mut self) {
        let lost = self.shared.lost.load(Ordering::Relaxed);
        if lost == self.told || self.told_at.is_some_and(|at| at.elapsed() < TOLD_EVERY) {
            return;
        }
        let why = match self.error.take() {
            None | Some(Errno::AGAIN) => "it does not keep up".to_owned(),
            Some(error) => {
                let text = io::Error::from(error).to_string();
                text.split(" (os error").next().unwrap_or(&text).to_lowercase()
            }
        };
        let lines = lost - self.told;
        log::error(
            "lines of the access log are lost",
            &[("log", &self.name), ("lines", &lines), ("why", &why)],
        );
        self.told = lost;
        self.told_at = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::config::{AccessLog, LogFormat};

    fn writer(sink: OwnedFd, syslog: bool) -> (LogWriter, Channel) {
        let syslog = syslog.then_some(config::Syslog { network: false, priority: 190 });
        let log = AccessLog { name: "test".into(), format: LogFormat::Combined, syslog };
        let (ours, theirs) = Channel::pair().unwrap();
        (LogWriter::start(&log, sink, theirs.into_fd()).unwrap(), ours)
    }

    fn pipe() -> (std::io::PipeReader, OwnedFd) {
        let (read, write) = std::io::pipe().unwrap();
        (read, write.into())
    }

    #[test]
    fn lines_go_to_the_file_of_their_time_and_none_is_torn() {
        use std::io::Read as _;
        let (mut first, sink) = pipe();
        let (writer, _control) = writer(sink, false);
        writer.put(b"one\n");
        writer.put(b"two\n");
        let (mut second, sink) = pipe();
        writer.reopen(sink);
        writer.put(b"three\n");
        writer.finish();
        drop(writer);
        let (mut before, mut after) = (String::new(), String::new());
        first.read_to_string(&mut before).unwrap();
        second.read_to_string(&mut after).unwrap();
        assert_eq!((before.as_str(), after.as_str()), ("one\ntwo\n", "three\n"));
    }

    #[test]
    fn what_takes_nothing_loses_lines_and_holds_nobody_up() {
        let (_read, sink) = pipe();
        rustix::io::ioctl_fionbio(&sink, true).unwrap();
        let (writer, _control) = writer(sink, false);
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let began = Instant::now();
        for _ in 0..20_000 {
            writer.put(&line);
        }
        assert!(began.elapsed() < Duration::from_secs(1));
        assert!(writer.lost() > 10_000, "{}", writer.lost());
        let began = Instant::now();
        writer.finish();
        assert!(began.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn a_syslog_that_is_gone_is_asked_for_and_gets_what_has_gathered() {
        let (dead, sink) = UnixDatagram::pair().unwrap();
        drop(dead);
        let (writer, control) = writer(sink.into(), true);
        writer.put(b"one\n");
        writer.put(b"two\n");
        let asked = control.receive().unwrap().unwrap().json::<FromEdge>().unwrap();
        assert!(matches!(asked, FromEdge::LogGone));
        let (new, sink) = UnixDatagram::pair().unwrap();
        new.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        writer.reopen(sink.into());
        let read = || {
            let mut bytes = [0; 100];
            let n = new.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..n]).into_owned()
        };
        let pid = std::process::id();
        assert_eq!(
            [read(), read()],
            [format!("<190>trivet[{pid}]: one"), format!("<190>trivet[{pid}]: two")]
        );
        assert_eq!(writer.lost(), 0);
    }
}

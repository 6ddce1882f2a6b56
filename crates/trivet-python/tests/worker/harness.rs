//! Plays supervisor and edge to a real worker process, over both transports.
#![allow(unsafe_code, reason = "a child's descriptor 3 is set up between fork and exec")]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use trivet_wire::channel::{Channel, Message, Notice};
use trivet_wire::control::{Attach, Attached, FromWorker, ToWorker, Transport, WorkerStart};
use trivet_wire::frame::{
    FrameHeader, HEADER_BYTES, Kind, RequestHead, RequestWriter, Response, UNKNOWN, flag, seal,
};
use trivet_wire::segment::{Bell, Layout, Receiver, Segment, Sender};
use trivet_wire::stream::{self, Filled, FrameReader, FrameWriter};

const PATIENCE: Duration = Duration::from_secs(20);
const TICKETS: u16 = 64;
const RING_BYTES: u32 = 512 * 1024;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The extension. Cargo builds no `cdylib` for the tests of its own package, so this does, unless it is given.
fn extension() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            if let Some(path) = std::env::var_os("TRIVET_NATIVE") {
                return path.into();
            }
            // This program is `<target>/<profile>/deps/worker-…`.
            let program = std::env::current_exe().unwrap();
            let profile = program.ancestors().nth(2).unwrap();
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--locked", "--package", "trivet-python", "--target-dir"]);
            cargo.arg(profile.parent().unwrap()).current_dir(root());
            if profile.ends_with("release") {
                cargo.arg("--release");
            }
            assert!(cargo.status().unwrap().success(), "the extension could not be built");
            profile.join("libtrivet_native.so")
        })
        .clone()
}

/// The interpreter with its boot file, as a supervisor would start it.
pub(crate) fn python() -> Command {
    let python = std::env::var("TRIVET_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let mut command = Command::new(python);
    command
        .arg(root().join("python/trivet/worker/boot.py"))
        .env("TRIVET_NATIVE", extension())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn wait_readable(fd: impl AsFd, until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&timeout)).unwrap_or(1) > 0
}

pub(crate) struct Worker {
    pub(crate) child: Child,
    pub(crate) supervisor: Option<Channel>,
    stderr: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    generation: u32,
}

pub(crate) struct Options {
    pub(crate) threads: u16,
    pub(crate) reload: bool,
    pub(crate) check_only: bool,
    pub(crate) chdir: Option<PathBuf>,
    pub(crate) build: &'static str,
    pub(crate) known_failure: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 1,
            reload: false,
            check_only: false,
            chdir: None,
            build: trivet_wire::BUILD,
            known_failure: None,
        }
    }
}

impl Worker {
    /// Starts a worker and sends `Start`.
    pub(crate) fn spawn(app: &str, options: Options) -> Self {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut command = python();
        command.stdin(Stdio::null()).stdout(Stdio::inherit()).stderr(Stdio::piped()).process_group(0);
        let fd = theirs.as_fd().as_raw_fd();
        // SAFETY: only dup2 and prctl, which are async-signal-safe, between fork and exec.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::dup2(fd, 3) == 3 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
            });
        }
        let mut child = command.spawn().unwrap();
        drop(theirs);
        let stderr = Arc::new(Mutex::new(String::new()));
        let (pipe, text) = (child.stderr.take().unwrap(), stderr.clone());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                text.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let chdir = options.chdir.unwrap_or_else(|| root().join("crates/trivet-python/tests/apps"));
        let start = WorkerStart {
            build: options.build.into(),
            worker: 0,
            app: app.into(),
            chdir: chdir.to_str().unwrap().into(),
            pythonpath: vec![],
            fallback_path: None,
            threads: options.threads,
            multiprocess: false,
            reload: options.reload,
            check_only: options.check_only,
            title: "trivet: worker".into(),
            known_failure: options.known_failure,
        };
        ours.send_json(&ToWorker::Start(start), &[]).unwrap();
        Self { child, supervisor: Some(ours), stderr, reader: Some(reader), generation: 0 }
    }

    /// A worker whose app is imported.
    pub(crate) fn ready(app: &str, options: Options) -> Self {
        let worker = Self::spawn(app, options);
        match worker.says() {
            FromWorker::Ready { .. } => worker,
            other => panic!("{other:?}\n{}", worker.stderr()),
        }
    }

    /// The next message to the supervisor.
    pub(crate) fn says(&self) -> FromWorker {
        let channel = self.supervisor.as_ref().unwrap();
        assert!(wait_readable(channel, Instant::now() + PATIENCE), "no message\n{}", self.stderr());
        channel.receive().unwrap().unwrap_or_else(|| panic!("worker gone\n{}", self.stderr())).json().unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until the standard error holds `text`.
    pub(crate) fn logs(&self, text: &str) -> String {
        until(|| self.stderr().contains(text), || format!("no `{text}` in:\n{}", self.stderr()));
        self.stderr()
    }

    pub(crate) fn attach(&mut self, transport: Transport) -> Edge {
        self.attach_with(transport, &|_| {})
    }

    /// `before`: what the edge does with its channel before it reads the answer.
    pub(crate) fn attach_with(&mut self, transport: Transport, before: &dyn Fn(&Channel)) -> Edge {
        self.generation += 1;
        let (ours, theirs) = Channel::pair().unwrap();
        let say = ToWorker::Edge { generation: self.generation };
        self.supervisor.as_ref().unwrap().send_json(&say, &[theirs.as_fd()]).unwrap();
        drop(theirs);
        let layout = Layout { tickets: TICKETS, request_bytes: RING_BYTES, response_bytes: RING_BYTES };
        let attach = Attach {
            version: trivet_wire::VERSION,
            transport,
            generation: self.generation,
            tickets: TICKETS,
            request_bytes: RING_BYTES,
            response_bytes: RING_BYTES,
        };
        let link = match transport {
            Transport::Ring => {
                let (segment, memory) = Segment::create(layout).unwrap();
                let (theirs, mine) = (Bell::new().unwrap(), Bell::new().unwrap());
                ours.send_json(&attach, &[memory.as_fd(), theirs.as_fd(), mine.as_fd()]).unwrap();
                let (tx, rx) = segment.edge_ends();
                Link::Ring { tx, rx, segment, theirs, ours: mine }
            }
            Transport::Socket => {
                let (a, b) = stream::pair().unwrap();
                ours.send_json(&attach, &[b.as_fd()]).unwrap();
                Link::Socket { socket: a, reader: FrameReader::default(), writer: FrameWriter::default() }
            }
        };
        before(&ours);
        let mut edge = Edge {
            channel: ours,
            link,
            slots: 0,
            ticket: 0,
            use_count: 0,
            window: 1 << 20,
            later: VecDeque::new(),
        };
        edge.slots = edge.channel_message().json::<Attached>().unwrap().slots;
        edge
    }

    pub(crate) fn quit(mut self) -> (ExitStatus, String) {
        self.supervisor.as_ref().unwrap().send_json(&ToWorker::Quit, &[]).unwrap();
        let status = self.exit_status();
        self.reader.take().unwrap().join().unwrap();
        (status, self.stderr())
    }

    /// Waits for the end: the exit code and all that was printed.
    pub(crate) fn ends(mut self) -> (Option<i32>, String) {
        let status = self.exit_status();
        self.reader.take().unwrap().join().unwrap();
        (status.code(), self.stderr())
    }

    pub(crate) fn exit_status(&mut self) -> ExitStatus {
        let mut status = None;
        until(
            || {
                status = self.child.try_wait().unwrap();
                status.is_some()
            },
            || "the worker does not end".into(),
        );
        status.unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the worker's standard error:\n{}", self.stderr());
        }
    }
}

/// Polls until true, with a deadline.
pub(crate) fn until(mut done: impl FnMut() -> bool, why: impl Fn() -> String) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{}", why());
        std::thread::yield_now();
    }
}

enum Link {
    Ring { tx: Sender, rx: Receiver, segment: Arc<Segment>, theirs: Bell, ours: Bell },
    Socket { socket: OwnedFd, reader: FrameReader, writer: FrameWriter },
}

pub(crate) struct Edge {
    pub(crate) channel: Channel,
    link: Link,
    pub(crate) slots: u16,
    ticket: u16,
    use_count: u32,
    /// Of each request.
    pub(crate) window: u32,
    /// Frames of other requests than the one that was waited for.
    later: VecDeque<Frame>,
}

#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) header: FrameHeader,
    pub(crate) payload: Vec<u8>,
}

/// What names a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(pub(crate) u16, pub(crate) u32);

pub(crate) enum Body<'a> {
    None,
    Inline(&'a [u8]),
    Spooled(u32, u64),
    Streamed(u64),
}

pub(crate) struct Req<'a> {
    pub(crate) head: RequestHead<'a>,
    pub(crate) fields: Vec<(&'a str, &'a [u8])>,
    pub(crate) body: Body<'a>,
}

pub(crate) fn get(target: &str) -> Req<'_> {
    Req {
        head: RequestHead {
            method: b"GET",
            request_id: b"rid-1",
            target: target.as_bytes(),
            peer: b"127.0.0.1",
            peer_port: 4711,
            server: b"127.0.0.1",
            server_port: 8000,
            ..RequestHead::default()
        },
        fields: vec![("Host", b"localhost")],
        body: Body::None,
    }
}

impl<'a> Req<'a> {
    pub(crate) fn method(mut self, method: &'a str) -> Self {
        self.head.method = method.as_bytes();
        self
    }

    pub(crate) fn field(mut self, name: &'a str, value: &'a str) -> Self {
        self.fields.push((name, value.as_bytes()));
        self
    }

    pub(crate) fn body(mut self, body: Body<'a>) -> Self {
        self.head.method = b"POST";
        self.body = body;
        self
    }
}

/// A whole answer, put together from its frames.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body_bytes: Option<u64>,
    pub(crate) body: Vec<u8>,
    pub(crate) complete: bool,
    pub(crate) aborted: bool,
    pub(crate) informational: Vec<Vec<(String, String)>>,
    /// Kinds in order, as they came.
    pub(crate) kinds: Vec<Kind>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| &**v)
    }
}

impl Edge {
    pub(crate) fn is_ring(&self) -> bool {
        matches!(self.link, Link::Ring { .. })
    }

    pub(crate) fn channel_message(&self) -> Message {
        assert!(wait_readable(&self.channel, Instant::now() + PATIENCE), "nothing on the channel");
        self.channel.receive().unwrap().expect("the worker closed the channel")
    }

    pub(crate) fn push(&mut self, header: FrameHeader, payload: &[u8]) {
        match &mut self.link {
            Link::Ring { tx, theirs, .. } => {
                until(|| tx.push(header, &[payload]).unwrap(), || "the request ring stays full".into());
                if tx.publish() {
                    theirs.ring();
                }
            }
            Link::Socket { socket, writer, .. } => {
                writer.push(header, &[payload]);
                assert!(writer.flush(socket.as_fd(), true).unwrap());
            }
        }
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, request: &Req<'_>) -> Id {
        self.ticket = (self.ticket + 1) % TICKETS;
        self.use_count += 1;
        let id = Id(self.ticket, self.use_count);
        let mut frame = Vec::new();
        let mut writer = RequestWriter::begin(&mut frame, &request.head);
        for (name, value) in &request.fields {
            writer.field(name.as_bytes(), value);
        }
        writer.finish_head();
        let (flags, bytes, spool) = match request.body {
            Body::None => (0, 0, 0),
            Body::Inline(body) => {
                frame.extend_from_slice(body);
                (flag::BODY_INLINE, body.len() as u64, 0)
            }
            Body::Spooled(id, bytes) => (flag::BODY_SPOOLED, bytes, id),
            Body::Streamed(bytes) => (flag::BODY_STREAMED, bytes, 0),
        };
        seal(&mut frame, id.0, id.1, flags, bytes, spool, self.window);
        if let Link::Ring { segment, .. } = &self.link {
            segment.ticket(id.0).unwrap().offer(id.1);
        }
        let header = FrameHeader::parse(frame.first_chunk().unwrap()).unwrap();
        self.push(header, &frame[HEADER_BYTES..]);
        id
    }

    pub(crate) fn tell(&mut self, id: Id, kind: Kind, flags: u8, aux: u32, payload: &[u8]) {
        let len = (HEADER_BYTES + payload.len()) as u32;
        if kind == Kind::Cancel
            && let Link::Ring { segment, .. } = &self.link
        {
            segment.ticket(id.0).unwrap().cancel(id.1);
        }
        self.push(FrameHeader { len, kind, flags, ticket: id.0, generation: id.1, aux }, payload);
    }

    /// Takes an unstarted request back; ring only.
    pub(crate) fn recall(&self, id: Id) -> bool {
        let Link::Ring { segment, .. } = &self.link else { panic!("only rings recall") };
        segment.ticket(id.0).unwrap().recall(id.1)
    }

    pub(crate) fn busy_since(&self, id: Id) -> u64 {
        let Link::Ring { segment, .. } = &self.link else { panic!("only rings have a scoreboard") };
        segment.ticket(id.0).unwrap().busy_since.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn try_frame(&mut self) -> Option<Frame> {
        match &mut self.link {
            Link::Ring { rx, theirs, .. } => {
                let (header, payload) = rx.peek().unwrap()?;
                let payload = payload.to_vec();
                rx.next(header);
                if rx.release() {
                    theirs.ring();
                }
                Some(Frame { header, payload })
            }
            Link::Socket { reader, socket, .. } => loop {
                if let Some((header, payload)) = reader.peek().unwrap() {
                    let payload = payload.to_vec();
                    reader.next(header);
                    break Some(Frame { header, payload });
                }
                if reader.fill(socket.as_fd(), false).unwrap() != Filled::Some {
                    break None;
                }
            },
        }
    }

    /// The next frame of this request, if one comes within the time.
    pub(crate) fn frame_within(&mut self, id: Id, time: Duration) -> Option<Frame> {
        let end = Instant::now() + time;
        let is_his = |f: &Frame| f.header.ticket == id.0 && f.header.generation == id.1;
        if let Some(at) = self.later.iter().position(is_his) {
            return self.later.remove(at);
        }
        loop {
            if let Some(frame) = self.try_frame() {
                if frame.header.kind == Kind::Started {
                    continue;
                }
                if is_his(&frame) {
                    return Some(frame);
                }
                self.later.push_back(frame);
                continue;
            }
            let readable = match &mut self.link {
                Link::Ring { rx, ours, .. } => {
                    if !rx.arm().unwrap() {
                        continue;
                    }
                    let readable = wait_readable(&*ours, end);
                    if readable {
                        ours.wait().unwrap();
                    }
                    readable
                }
                Link::Socket { socket, .. } => wait_readable(&*socket, end),
            };
            if !readable {
                return None;
            }
        }
    }

    pub(crate) fn frame(&mut self, id: Id) -> Frame {
        self.frame_within(id, PATIENCE).expect("no frame came")
    }

    /// All frames up to the one that frees the slot; grants credit for what was taken if `credit`.
    pub(crate) fn answer_with(&mut self, id: Id, credit: bool) -> Answer {
        let mut answer = Answer::default();
        loop {
            let Frame { header, payload } = self.frame(id);
            answer.kinds.push(header.kind);
            assert!(!answer.complete || matches!(header.kind, Kind::Done), "{:?} after the end", header.kind);
            match header.kind {
                Kind::Head => {
                    let head = Response::parse(&payload).unwrap();
                    answer.status = head.status;
                    answer.reason = latin1(head.reason);
                    answer.fields = fields(&head);
                    answer.body_bytes = (head.body_bytes != UNKNOWN).then_some(head.body_bytes);
                    answer.body.extend_from_slice(head.body);
                }
                Kind::Informational => {
                    answer.informational.push(fields(&Response::parse(&payload).unwrap()));
                }
                Kind::Data => {
                    answer.body.extend_from_slice(&payload);
                    if credit {
                        self.tell(id, Kind::Credit, 0, payload.len() as u32, &[]);
                    }
                }
                Kind::File => {
                    let message = self.channel_message();
                    assert_eq!(Notice::parse(&message.bytes), Some(Notice::File(id.0.into())));
                    let number = |at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().unwrap());
                    let mut part = vec![0; number(8) as usize];
                    let mut got = 0;
                    while got < part.len() {
                        let at = number(0) + got as u64;
                        got += rustix::io::pread(&message.fds[0], &mut part[got..], at).unwrap();
                    }
                    answer.body.extend(part);
                }
                Kind::Abort => answer.aborted = true,
                Kind::End | Kind::Done => {}
                other => panic!("unexpected {other:?}"),
            }
            if header.flags & flag::END != 0 || header.kind == Kind::End {
                answer.complete = true;
            }
            if header.flags & flag::DONE != 0 || header.kind == Kind::Done {
                return answer;
            }
        }
    }

    pub(crate) fn answer(&mut self, id: Id) -> Answer {
        self.answer_with(id, true)
    }

    pub(crate) fn exchange(&mut self, request: &Req<'_>) -> Answer {
        let id = self.send(request);
        self.answer(id)
    }

    /// Answers `WantBody` with these pieces, then with the end.
    pub(crate) fn feed(&mut self, id: Id, pieces: &[&[u8]]) {
        let mut asked = 0u32;
        for (at, piece) in pieces.iter().enumerate() {
            while asked < piece.len() as u32 {
                let frame = self.frame(id);
                assert_eq!(frame.header.kind, Kind::WantBody);
                asked += frame.header.aux;
            }
            asked -= piece.len() as u32;
            let end = if at + 1 == pieces.len() { flag::END } else { 0 };
            self.tell(id, Kind::Body, end, 0, piece);
        }
    }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

fn fields(head: &Response<'_>) -> Vec<(String, String)> {
    head.fields().map(|(n, v)| (latin1(n), latin1(v))).collect()
}

/// Runs a test over both transports.
pub(crate) fn over_both(test: impl Fn(Transport)) {
    for transport in [Transport::Ring, Transport::Socket] {
        test(transport);
    }
}

/// An unlinked file with this content, as the edge spools bodies.
pub(crate) fn spool_file(content: &[u8]) -> OwnedFd {
    let fd = rustix::fs::memfd_create(c"spool", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut at = 0;
    while at < content.len() {
        at += rustix::io::write(&fd, &content[at..]).unwrap();
    }
    fd
}

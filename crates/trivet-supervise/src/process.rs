//! Spawning and ending processes: the one place of the parent where the system is called without a safe wrapper.
#![allow(unsafe_code, reason = "fork, credentials and signals have no safe wrapper")]

pub mod account;
pub mod inherit;
pub mod signals;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, WaitOptions, waitpid};
use trivet_wire::control::CHANNEL_FD;

use self::account::Account;
use crate::machine::End;

/// What a child is started with. Its standard input is empty; of descriptors it gets its channel alone.
#[derive(Debug)]
pub struct Launch<'a> {
    pub program: &'a OsStr,
    pub title: Option<String>,
    pub args: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    pub channel: OwnedFd,
    /// What it gets when the supervisor dies, should its own watch over the channel fail.
    pub death_signal: i32,
    pub account: Option<&'a Account>,
    pub umask: Option<u32>,
    /// No program that it executes has more rights than itself.
    pub confined: bool,
    /// Descriptors that it may open; `None`: as many as the supervisor.
    pub descriptors: Option<Rlimit>,
    pub stdout: Option<BorrowedFd<'a>>,
    pub stderr: Option<BorrowedFd<'a>>,
}

/// The signal by which a worker whose supervisor is dead ends itself and its process group.
pub fn worker_death_signal() -> i32 {
    libc::SIGRTMAX() - 1
}

/// The signal by which a worker shows the stacks of all its threads.
pub fn dump_signal() -> i32 {
    libc::SIGRTMIN() + 7
}

pub fn edge_death_signal() -> i32 {
    libc::SIGKILL
}

impl Launch<'_> {
    /// Starts it, in a process group of its own, and returns its process id. Must be called on the main thread:
    /// the death signal comes when the thread that forked ends.
    pub fn spawn(self) -> io::Result<u32> {
        let mut command = Command::new(self.program);
        if let Some(title) = &self.title {
            command.arg0(title);
        }
        command.args(&self.args).stdin(Stdio::null());
        // What was meant for the supervisor alone.
        for name in
            ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"]
        {
            command.env_remove(name);
        }
        command.envs(self.env);
        if let Some(fd) = self.stdout {
            command.stdout(fd.try_clone_to_owned()?);
        }
        if let Some(fd) = self.stderr {
            command.stderr(fd.try_clone_to_owned()?);
        }
        let parent = std::process::id() as libc::pid_t;
        let channel = self.channel.as_raw_fd();
        let credentials = self.account.map(|a| (a.uid, a.gid, a.groups.clone()));
        let (death_signal, umask, confined) = (self.death_signal, self.umask, self.confined);
        let descriptors = self.descriptors.map(|limit| libc::rlimit {
            rlim_cur: limit.current.unwrap_or(libc::RLIM_INFINITY),
            rlim_max: limit.maximum.unwrap_or(libc::RLIM_INFINITY),
        });
        let prepare = move || {
            // SAFETY: between fork and exec, only calls that are safe in a signal handler, on values made before
            // the fork; nothing is allocated.
            unsafe {
                let mut none: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&raw mut none);
                libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
                check(libc::setpgid(0, 0))?;
                if let Some(limit) = &descriptors {
                    check(libc::setrlimit(libc::RLIMIT_NOFILE, limit))?;
                }
                if let Some((uid, gid, groups)) = &credentials {
                    check(libc::setgroups(groups.len(), groups.as_ptr()))?;
                    check(libc::setgid(*gid))?;
                    check(libc::setuid(*uid))?;
                }
                if let Some(mask) = umask {
                    libc::umask(mask as libc::mode_t);
                }
                if confined {
                    check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
                }
                // After the change of credentials, which would clear it.
                check(libc::prctl(libc::PR_SET_PDEATHSIG, death_signal, 0, 0, 0))?;
                if libc::getppid() != parent {
                    libc::_exit(1);
                }
                // The parent keeps this number occupied, so nothing that std needs here is overwritten.
                check(libc::dup2(channel, CHANNEL_FD))?;
                check(libc::fcntl(CHANNEL_FD, libc::F_SETFD, 0))?;
            }
            Ok(())
        };
        // SAFETY: `prepare` keeps to what may be done between fork and exec, see there.
        unsafe { command.pre_exec(prepare) };
        // Dropping the handle neither waits nor kills: `reap` finds whoever has ended.
        Ok(command.spawn()?.id())
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub fn send_signal(pid: u32, signal: i32) {
    // SAFETY: no memory is involved. That the process may be gone already is no error here.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// SIGKILL to a child and to its process group, which its own children are in.
pub fn kill_group(pid: u32) {
    if pid > 1 {
        // SAFETY: as above; never 0 or 1, which mean other groups.
        unsafe { libc::kill(-(pid as libc::pid_t), libc::SIGKILL) };
        send_signal(pid, libc::SIGKILL);
    }
}

/// One child that has ended, started by us or handed to us as the nearest living ancestor. `before`: what is to be
/// done while its number, and that of its process group, cannot be given to somebody else.
pub fn reap(mut before: impl FnMut(u32)) -> Option<(u32, End)> {
    loop {
        let pid = ended_child()?;
        before(pid);
        let (_, status) = waitpid(Pid::from_raw(pid as i32), WaitOptions::NOHANG).ok()??;
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => return Some((pid, End::Exited(code))),
            (None, Some(signal)) => return Some((pid, End::Killed(signal))),
            (None, None) => {}
        }
    }
}

/// Waits until this child has ended.
pub fn wait_for(pid: u32) {
    while waitpid(Pid::from_raw(pid as i32), WaitOptions::empty())
        .is_err_and(|e| e == rustix::io::Errno::INTR)
    {}
}

/// The number of a child that has ended and is not yet waited for.
fn ended_child() -> Option<u32> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: a zeroed siginfo is a valid one; `si_pid` is set for a child, and stays zero where there is none.
    let pid = unsafe {
        if libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), flags) != 0 {
            return None;
        }
        info.assume_init().si_pid()
    };
    (pid > 0).then_some(pid as u32)
}

/// Orphans among our descendants become our children, so that none is left when we end.
pub fn adopt_orphans() {
    // SAFETY: no memory is involved. Where it is refused, orphans go to the first process, as everywhere.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

/// Raises the soft limit of open descriptors; returns what it was.
pub fn raise_descriptor_limit() -> Option<Rlimit> {
    const ENOUGH: u64 = 1 << 20;
    let before = rustix::process::getrlimit(Resource::Nofile);
    let now = before.current.unwrap_or(u64::MAX);
    let wanted = before.maximum.unwrap_or(u64::MAX).min(ENOUGH).max(now);
    let raised = Rlimit { current: Some(wanted), maximum: before.maximum };
    (wanted > now && rustix::process::setrlimit(Resource::Nofile, raised).is_ok()).then_some(before)
}

pub fn alive(pid: u32) -> bool {
    let Some(pid) = Pid::from_raw(pid as i32) else { return false };
    !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// All living descendants of this process.
pub fn descendants() -> Vec<u32> {
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name in parentheses may hold anything.
        let mut fields = stat.rsplit(") ").next().unwrap_or("").split(' ');
        if let (Some(state), Some(Ok(parent))) = (fields.next(), fields.next().map(str::parse::<u32>))
            && state != "Z"
        {
            parents.insert(pid, parent);
        }
    }
    let me = std::process::id();
    let mut found = vec![me];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|&(_, &p)| p == parent).map(|(&pid, _)| pid));
        next += 1;
    }
    found.remove(0);
    found
}

pub fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGHUP => "SIGHUP",
        libc::SIGILL => "SIGILL",
        libc::SIGINT => "SIGINT",
        libc::SIGKILL => "SIGKILL",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsFd as _;

    use trivet_wire::channel::Channel;

    use super::*;

    /// Makes the channel's number one that nothing else gets, as a supervisor does first of all.
    fn occupy() {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| inherit::seal().unwrap());
    }

    /// What a shell that is started so writes.
    fn told(script: &str, account: Option<&Account>, shape: impl FnOnce(&mut Launch<'_>)) -> (u32, String) {
        occupy();
        let (ours, theirs) = Channel::pair().unwrap();
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let mut launch = Launch {
            program: "/bin/sh".as_ref(),
            title: None,
            args: vec!["-c".into(), script.into()],
            env: vec![("GREETING".into(), "hello".into())],
            channel: theirs.into_fd(),
            death_signal: libc::SIGKILL,
            account,
            umask: None,
            confined: false,
            descriptors: None,
            stdout: Some(write.as_fd()),
            stderr: None,
        };
        shape(&mut launch);
        let pid = launch.spawn().unwrap();
        drop(write);
        let mut text = String::new();
        std::fs::File::from(read).read_to_string(&mut text).unwrap();
        wait_for(pid);
        drop(ours);
        (pid, text.trim().to_owned())
    }

    #[test]
    fn a_child_has_its_channel_and_no_other_descriptor() {
        let (_, text) = told(
            "n=0; while [ $n -lt 64 ]; do [ -e /proc/$$/fd/$n ] && echo $n; n=$((n+1)); done",
            None,
            |_| {},
        );
        assert_eq!(text, "0\n1\n2\n3");
    }

    #[test]
    fn a_child_has_a_group_of_its_own_no_blocked_signal_and_its_environment() {
        let script = "read -r _ _ _ _ group _ < /proc/$$/stat; echo $group $GREETING; exec grep SigBlk /proc/self/status";
        let (pid, text) = told(script, None, |_| {});
        assert_eq!(text, format!("{pid} hello\nSigBlk:\t0000000000000000"));
    }

    #[test]
    fn mask_limit_and_confinement_are_set() {
        let script = "umask; ulimit -Sn; exec grep NoNewPrivs /proc/self/status";
        let (_, text) = told(script, None, |launch| {
            launch.umask = Some(0o027);
            launch.confined = true;
            launch.descriptors = Some(Rlimit { current: Some(77), maximum: Some(99) });
        });
        assert_eq!(text, "0027\n77\nNoNewPrivs:\t1");
    }

    #[test]
    fn a_child_that_changes_its_account_keeps_no_group_of_ours() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let account = Account { name: "x".into(), uid: 54321, gid: 54322, groups: vec![54322, 54323] };
        let (_, text) = told("id -u; id -G", Some(&account), |_| {});
        assert_eq!(text, "54321\n54322 54323");
    }

    #[test]
    fn what_cannot_be_executed_is_an_error() {
        occupy();
        let (_ours, theirs) = Channel::pair().unwrap();
        let launch = Launch {
            program: "/no/such/program".as_ref(),
            title: None,
            args: vec![],
            env: vec![],
            channel: theirs.into_fd(),
            death_signal: libc::SIGKILL,
            account: None,
            umask: None,
            confined: false,
            descriptors: None,
            stdout: None,
            stderr: None,
        };
        assert_eq!(launch.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

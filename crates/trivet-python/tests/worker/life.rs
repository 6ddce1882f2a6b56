//! A worker's life: its edges, its supervisor, its threads, its children.

use std::collections::HashSet;
use std::time::Duration;

use trivet_wire::control::{Free, FromWorker, ToWorker, Transport};
use trivet_wire::frame::Kind;

use crate::harness::{Edge, Options, Worker, get, over_both, until};
use crate::responses::tempdir;

fn start(transport: Transport, threads: u16) -> (Worker, Edge) {
    let mut worker = Worker::ready("wsgi_apps:app", Options { threads, ..Options::default() });
    let edge = worker.attach(transport);
    (worker, edge)
}

/// A slot that was just answered may still be on its way back: then it is offered a moment later.
fn all_slots(edge: &Edge, count: u16) {
    let mut slots = edge.slots;
    while slots < count {
        slots += edge.channel_message().json::<Free>().unwrap().free;
    }
    assert_eq!(slots, count);
}

fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

#[test]
fn slots_run_side_by_side() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport, 4);
        assert_eq!(edge.slots, 4);
        let folder = tempdir();
        let names = ["1", "2", "3", "4"];
        let targets = names.map(|n| format!("/slow?{n}"));
        let ids: Vec<_> =
            targets.iter().map(|t| edge.send(&get(t).field("X-Folder", folder.path()))).collect();
        for name in names {
            folder.waits_for(&format!("entered-{name}"));
        }
        let queued = edge.send(&get("/many_parts"));
        assert!(edge.frame_within(queued, Duration::from_millis(30)).is_none(), "all four are busy");
        for (at, name) in names.iter().enumerate().rev() {
            folder.touch(&format!("go-{name}"));
            assert_eq!(edge.answer(ids[at]).text(), format!("slow {name}"));
        }
        assert!(edge.answer(queued).complete);
    });
}

#[test]
fn many_requests_on_many_threads_are_all_answered_once() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport, 3);
        let mut open = Vec::new();
        let mut done = 0;
        for n in 0..3000 {
            open.push(edge.send(&get(if n % 3 == 0 { "/late_start" } else { "/many_parts" })));
            if open.len() == 20 {
                for id in open.drain(..) {
                    assert!(edge.answer(id).complete);
                    done += 1;
                }
            }
        }
        assert_eq!(done, 3000);
        for id in [edge.send(&get("/big?100000&30")), edge.send(&get("/big?100000&30"))] {
            assert_eq!(edge.answer(id).body.len(), 3_000_000);
        }
    });
}

#[test]
fn with_one_thread_the_app_runs_on_pythons_main_thread() {
    let folder = tempdir();
    folder.write(
        "main_thread.py",
        "import threading\n\
         def app(environ, start_response):\n\
         \x20   start_response('200 OK', [])\n\
         \x20   return [repr(threading.current_thread() is threading.main_thread()).encode()]\n",
    );
    for (threads, expected) in [(1, "True"), (2, "False")] {
        let options = Options { threads, chdir: Some(folder.path().into()), ..Options::default() };
        let mut worker = Worker::ready("main_thread", options);
        let mut edge = worker.attach(Transport::Ring);
        assert_eq!(edge.exchange(&get("/")).text(), expected);
    }
}

#[test]
fn a_request_taken_back_is_never_started() {
    let (_worker, mut edge) = start(Transport::Ring, 1);
    let folder = tempdir();
    let first = edge.send(&get("/slow?1").field("X-Folder", folder.path()));
    folder.waits_for("entered-1");
    let taken_back = edge.send(&get("/slow?2").field("X-Folder", folder.path()));
    let kept = edge.send(&get("/many_parts"));
    assert!(edge.recall(taken_back));
    assert!(!edge.recall(first), "what has begun cannot be taken back");
    folder.touch("go-1");
    assert!(edge.answer(first).complete && edge.answer(kept).complete);
    assert!(edge.frame_within(taken_back, Duration::from_millis(30)).is_none());
    assert!(!std::path::Path::new(folder.path()).join("entered-2").exists());
}

#[test]
fn requests_that_come_while_the_only_slot_waits_can_still_be_taken_back() {
    let (_worker, mut edge) = start(Transport::Ring, 1);
    edge.window = 1000;
    let first = edge.send(&get("/big?2000&2"));
    assert_eq!(edge.frame(first).header.kind, Kind::Head);
    let folder = tempdir();
    let taken_back = edge.send(&get("/slow?2").field("X-Folder", folder.path()));
    let kept = edge.send(&get("/many_parts"));
    assert!(edge.frame_within(kept, Duration::from_millis(30)).is_none(), "it waits for credit");
    assert!(edge.recall(taken_back));
    edge.tell(first, Kind::Credit, 0, 100_000, &[]);
    assert!(edge.answer(first).complete && edge.answer(kept).complete);
    assert!(!std::path::Path::new(folder.path()).join("entered-2").exists());
}

#[test]
fn a_cancelled_request_that_waits_in_the_worker_is_never_started() {
    let (_worker, mut edge) = start(Transport::Socket, 1);
    edge.window = 1000;
    let first = edge.send(&get("/big?2000&2"));
    assert_eq!(edge.frame(first).header.kind, Kind::Head);
    let folder = tempdir();
    let gone = edge.send(&get("/slow?2").field("X-Folder", folder.path()));
    edge.tell(gone, Kind::Cancel, 0, 0, &[]);
    assert_eq!(edge.frame(gone).header.kind, Kind::Done, "its slot is free at once");
    edge.tell(first, Kind::Credit, 0, 100_000, &[]);
    assert!(edge.answer(first).complete);
    assert!(!std::path::Path::new(folder.path()).join("entered-2").exists());
}

#[test]
fn a_worker_outlives_its_edges_and_loses_no_slot() {
    over_both(|transport| {
        let (mut worker, mut first) = start(transport, 2);
        let folder = tempdir();
        first.send(&get("/slow?1").field("X-Folder", folder.path()));
        folder.waits_for("entered-1");
        drop(first);

        let mut second = worker.attach(transport);
        assert_eq!(second.slots, 1, "one slot is busy for the old edge");
        assert!(second.exchange(&get("/many_parts")).complete);
        folder.touch("go-1");
        assert_eq!(second.channel_message().json::<Free>().unwrap().free, 1);
        let ids = ["/slow?3", "/slow?4"].map(|t| second.send(&get(t).field("X-Folder", folder.path())));
        folder.waits_for("entered-3");
        folder.waits_for("entered-4");
        folder.touch("go-3");
        folder.touch("go-4");
        assert!(ids.into_iter().all(|id| second.answer(id).complete));
        let events = second.exchange(&get("/events")).text();
        assert!(events.contains("close 1"), "the old request was closed: {events}");
        drop(second);
        for _ in 0..20 {
            let mut edge = worker.attach(transport);
            all_slots(&edge, 2);
            assert!(edge.exchange(&get("/many_parts")).complete);
        }
        let (status, stderr) = worker.quit();
        assert!(status.success());
        assert_eq!(stderr, "atexit ran\n");
    });
}

#[test]
fn an_edge_that_dies_while_its_slots_wait_for_it_frees_them() {
    over_both(|transport| {
        let (mut worker, mut first) = start(transport, 2);
        first.window = 1000;
        // One waits for credit, one for body bytes.
        let a = first.send(&get("/big?2000&2"));
        first.frame(a);
        let b = first.send(&get("/upload_error").body(crate::harness::Body::Streamed(1000)));
        assert_eq!(first.frame(b).header.kind, Kind::WantBody);
        drop(first);
        let mut second = worker.attach(transport);
        all_slots(&second, 2);
        let events: HashSet<String> = serde_json::from_slice(&second.exchange(&get("/events")).body).unwrap();
        assert_eq!(events, ["generator closed", "ConnectionResetError"].map(String::from).into());
        assert_eq!(worker.stderr(), "");
    });
}

#[test]
fn quit_ends_a_worker_in_order_with_or_without_an_edge() {
    for threads in [1, 3] {
        over_both(|transport| {
            let (worker, edge) = start(transport, threads);
            let (status, stderr) = worker.quit();
            assert!(status.success());
            assert_eq!(stderr, "atexit ran\n");
            drop(edge);
        });
        let worker = Worker::ready("wsgi_apps:app", Options { threads, ..Options::default() });
        let (status, stderr) = worker.quit();
        assert!(status.success());
        assert_eq!(stderr, "atexit ran\n");
    }
}

#[test]
fn a_running_request_is_finished_before_quit() {
    over_both(|transport| {
        let (mut worker, mut edge) = start(transport, 2);
        let folder = tempdir();
        let id = edge.send(&get("/slow?1").field("X-Folder", folder.path()));
        folder.waits_for("entered-1");
        worker.supervisor.as_ref().unwrap().send_json(&ToWorker::Quit, &[]).unwrap();
        folder.touch("go-1");
        assert_eq!(edge.answer(id).text(), "slow 1");
        assert!(worker.exit_status().success());
    });
}

#[test]
fn without_the_supervisor_nothing_is_left_within_a_second() {
    for by_signal in [false, true] {
        let (mut worker, mut edge) = start(Transport::Ring, 2);
        let text = edge.exchange(&get("/spawns")).text();
        let pids: Vec<i32> = text.split_whitespace().map(|n| n.parse().unwrap()).collect();
        assert!(pids.len() == 2 && pids.iter().all(|&pid| alive(pid)));
        let me = worker.child.id() as i32;
        // A C call that keeps the interpreter to itself makes no difference.
        let folder = tempdir();
        edge.send(&get("/holds_gil").field("X-Folder", folder.path()));
        folder.waits_for("entered-gil");
        let began = std::time::Instant::now();
        if by_signal {
            rustix::process::kill_process(
                rustix::process::Pid::from_raw(me).unwrap(),
                rustix::process::Signal::from_named_raw(libc::SIGRTMAX() - 1).unwrap_or_else(|| {
                    // SAFETY: a real-time signal of this system.
                    #[allow(unsafe_code, reason = "rustix names no real-time signals")]
                    unsafe {
                        rustix::process::Signal::from_raw_unchecked(libc::SIGRTMAX() - 1)
                    }
                }),
            )
            .unwrap();
        } else {
            worker.supervisor = None;
        }
        worker.exit_status();
        until(|| pids.iter().all(|&pid| !alive(pid)), || format!("{pids:?} live on"));
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn a_forked_child_cannot_touch_the_edge() {
    over_both(|transport| {
        let (_worker, mut edge) = start(transport, 1);
        let body = || crate::harness::Body::Inline(b"body");
        let answer = edge.exchange(&get("/forks?uses").body(body()));
        assert_eq!(answer.text(), "RuntimeError OSError RuntimeError 0");
        assert_eq!(edge.exchange(&get("/forks?exit")).text(), "child 0");
        assert_eq!(edge.exchange(&get("/forks?returns")).text(), "returned 0", "it leaves by itself");
        assert!(edge.exchange(&get("/many_parts")).complete);
    });
}

#[test]
fn stacks_are_dumped_while_a_c_call_holds_the_interpreter() {
    let (worker, mut edge) = start(Transport::Ring, 2);
    let folder = tempdir();
    edge.send(&get("/slow?1").field("X-Folder", folder.path()));
    folder.waits_for("entered-1");
    edge.send(&get("/holds_gil").field("X-Folder", folder.path()));
    folder.waits_for("entered-gil");
    // SAFETY: a signal to a child of ours.
    #[allow(unsafe_code, reason = "rustix names no real-time signals")]
    unsafe {
        libc::kill(worker.child.id() as i32, libc::SIGRTMIN() + 7);
    }
    worker.logs("in wait_for");
    worker.logs("in holds_gil");
    worker.logs("in serve");
}

#[test]
fn signals_to_a_worker_make_no_noise() {
    for (signal, ends) in [(libc::SIGINT, false), (libc::SIGTERM, true)] {
        for threads in [1, 2] {
            let (mut worker, mut edge) = start(Transport::Ring, threads);
            edge.exchange(&get("/many_parts"));
            // SAFETY: a signal to a child of ours.
            #[allow(unsafe_code, reason = "a plain signal")]
            unsafe {
                libc::kill(worker.child.id() as i32, signal);
            }
            if ends {
                assert!(!worker.exit_status().success());
            } else {
                assert!(edge.exchange(&get("/many_parts")).complete);
            }
            assert_eq!(worker.stderr(), "");
        }
    }
}

#[test]
fn an_apps_own_signal_handler_runs_while_the_worker_is_idle() {
    let folder = tempdir();
    folder.write(
        "handles.py",
        "import signal, sys\n\
         def leave(*_):\n\
         \x20   sys.stderr.write('handled\\n')\n\
         \x20   sys.exit(5)\n\
         signal.signal(signal.SIGTERM, leave)\n\
         def app(environ, start_response): pass\n",
    );
    for (threads, attached) in [(1, true), (2, true), (1, false)] {
        let options = Options { threads, chdir: Some(folder.path().into()), ..Options::default() };
        let mut worker = Worker::ready("handles", options);
        let edge = attached.then(|| worker.attach(Transport::Ring));
        // SAFETY: a signal to a child of ours.
        #[allow(unsafe_code, reason = "a plain signal")]
        unsafe {
            libc::kill(worker.child.id() as i32, libc::SIGTERM);
        }
        worker.logs("handled");
        assert_eq!(worker.exit_status().code(), Some(5));
        drop(edge);
    }
}

#[test]
fn a_changed_file_is_told_once_it_is_there() {
    let folder = tempdir();
    folder.write("shop.py", "import shop_views\napp = shop_views.app\n");
    folder.write("shop_views.py", "def app(environ, start_response): pass\n");
    let options = || Options { reload: true, chdir: Some(folder.path().into()), ..Options::default() };
    let worker = Worker::ready("shop", options());
    folder.write("shop_views.py", "def app(environ, start_response): return None\n");
    match worker.says() {
        FromWorker::Changed { path } => assert!(path.ends_with("/shop_views.py"), "{path}"),
        other => panic!("{other:?}"),
    }

    folder.write("shop_views.py", "def app(environ, start_response) return None\n");
    let mut worker = Worker::spawn("shop", options());
    assert!(matches!(worker.says(), FromWorker::ImportFailed { .. }));
    folder.write("shop_views.py", "def app(environ, start_response): return 1\n");
    assert!(matches!(worker.says(), FromWorker::Changed { .. }), "a broken app is watched too");
    assert_eq!(worker.exit_status().code(), Some(70));
}

//! W48: what `MODULE:APP` may be, and what is said when it cannot be had.

use trivet_wire::control::{FromWorker, Transport};

use crate::harness::{Options, Worker, get};

#[test]
fn w48_apps_may_be_functions_instances_factories_and_attributes() {
    for (target, text) in [
        ("targets", "application"),
        ("targets:", "application"),
        ("targets:application", "application"),
        ("targets:Namespace.inner", "dotted"),
        ("targets:instance", "instance"),
        ("targets:create_app()", "factory default 0"),
        ("targets:create_app('a:b', size=3)", "factory a:b 3"),
    ] {
        let mut worker = Worker::ready(target, Options::default());
        let mut edge = worker.attach(Transport::Ring);
        assert_eq!(edge.exchange(&get("/")).text(), text, "{target}");
    }
}

/// Starts what cannot start: the summary that the supervisor gets and all that was printed.
fn fails(target: &str) -> (String, String) {
    let worker = Worker::spawn(target, Options::default());
    let FromWorker::ImportFailed { summary } = worker.says() else { panic!("{target} was imported") };
    let (code, log) = worker.ends();
    assert_eq!(code, Some(70), "{target}");
    assert!(!log.contains("gateway.py") && !log.contains("boot.py"), "our frames are shown: {log}");
    (summary, log)
}

#[test]
fn a_wrong_target_gets_one_line_and_a_hint_and_no_traceback() {
    for (target, summary, hint) in [
        ("hallo:app", "no module named `hallo`", "did you mean `hello`?"),
        ("hello.py:app", "no module named `hello.py`", "a module is named as in an import: `hello`"),
        ("hello.sub:app", "no module named `hello.sub`", ""),
        ("zzz", "no module named `zzz`", "hint: it was looked for in `"),
        ("hello:ap", "module `hello` has no `ap`", "did you mean `hello:app`?"),
        ("targets:Namespace.outer", "module `targets` has no `Namespace.outer`", "hint: "),
        ("targets:number", "`targets:number` cannot be called, it is of type `int`", "hint: "),
        ("targets:number()", "`targets:number` cannot be called, it is of type `int`", ""),
        ("targets:create_app(len)", "the arguments of `create_app(len)` are not literals", ""),
        ("targets:create app", "`create app` is neither an attribute nor a call", "hint: "),
        (
            "factory_only",
            "module `factory_only` has neither `app` nor `application`",
            "`factory_only:create_app()`",
        ),
        (
            "factory_only:create_app()",
            "`factory_only:create_app()` cannot be called, it is of type `NoneType`",
            "",
        ),
    ] {
        let (told, log) = fails(target);
        assert_eq!(told, summary, "{target}");
        assert!(log.contains(hint), "{target}: {log}");
        assert!(!log.contains("Traceback"), "{target}: {log}");
    }
}

#[test]
fn an_error_of_the_app_is_shown_once_and_whole() {
    let (told, log) = fails("raises:app");
    assert_eq!(told, "module `raises` raised RuntimeError while being imported: the settings are wrong");
    assert_eq!(log.matches("RuntimeError: the settings are wrong").count(), 1, "{log}");
    assert!(log.starts_with("Traceback") && log.contains("in setup"), "{log}");
    assert!(!log.contains("importlib"), "{log}");
    assert!(log.trim_end().ends_with("module `raises` raised RuntimeError while being imported"), "{log}");

    let options = Options { known_failure: Some(told.clone()), ..Options::default() };
    let worker = Worker::spawn("raises:app", options);
    assert!(matches!(worker.says(), FromWorker::ImportFailed { summary } if summary == told));
    assert_eq!(worker.ends(), (Some(70), String::new()), "what was said is not said again");

    let (told, log) = fails("broken_import:app");
    assert_eq!(
        told,
        "module `broken_import` imports `a_package_that_nobody_has`, which is not installed in this Python: \
         No module named 'a_package_that_nobody_has'"
    );
    assert!(log.contains("broken_import.py\", line 3") && log.contains("`--venv`"), "{log}");

    let (told, log) = fails("targets:broken_factory()");
    assert_eq!(told, "`targets:broken_factory()` raised LookupError: no configuration");
    assert!(log.contains("LookupError: no configuration") && log.contains("in broken_factory"), "{log}");
}

#[test]
fn another_build_is_refused() {
    let worker = Worker::spawn("hello:app", Options { build: "9.9/wire-9", ..Options::default() });
    let FromWorker::Unfit { why } = worker.says() else { panic!("it was taken") };
    assert!(why.contains("9.9/wire-9"), "{why}");
    assert_eq!(worker.ends(), (Some(70), String::new()));
}

#[test]
fn check_only_imports_and_ends() {
    let mut worker = Worker::spawn("hello:app", Options { check_only: true, ..Options::default() });
    let FromWorker::Ready { python, app } = worker.says() else { panic!() };
    assert!(python.starts_with("3.") && app == "hello:app", "{python} {app}");
    assert!(worker.exit_status().success());
}

#[test]
fn the_apps_world_has_nothing_of_ours_in_it() {
    let folder = crate::responses::tempdir();
    folder.write(
        "world.py",
        "import os, sys\n\
         def app(environ, start_response):\n\
         \x20   start_response('200 OK', [])\n\
         \x20   ours = [p for p in sys.path if 'trivet/worker' in p]\n\
         \x20   names = [m for m in sys.modules if 'trivet' in m and not m.startswith('_trivet')]\n\
         \x20   links = {int(n): os.readlink('/proc/self/fd/' + n) for n in os.listdir('/proc/self/fd')\n\
         \x20            if os.path.exists('/proc/self/fd/' + n)}\n\
         \x20   fds = [t for n, t in links.items() if n > 2 and os.get_inheritable(n)\n\
         \x20          and ('socket:' in t or 'memfd:' in t or 'anon_inode:' in t)]\n\
         \x20   return [repr((ours, names, sys.path[0] == os.getcwd(), 'TRIVET_NATIVE' in os.environ,\n\
         \x20                 fds, sys.argv)).encode()]\n",
    );
    let options = Options { chdir: Some(folder.path().into()), ..Options::default() };
    let mut worker = Worker::ready("world", options);
    let mut edge = worker.attach(Transport::Ring);
    assert_eq!(edge.exchange(&get("/")).text(), "([], [], True, False, [], ['trivet'])");
}

#[test]
fn started_by_hand_it_says_how_it_is_started() {
    let output = crate::harness::python().stdin(std::process::Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "a worker is started by the server\nhint: `trivet run MODULE:APP`\n");
}

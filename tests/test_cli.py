"""`trivet run` as a person meets it: what it says at the start, and what it says when something is wrong."""

import re
import signal
import socket
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import Start
from support import procs
from support.poll import until
from support.server import APPS, Finished, free_port, run

USAGE, SOFTWARE, CONFIG = 64, 70, 78
GOOD = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"NAME"]
"""


def write(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))


def refused(tmp_path: Path, *arguments: str, code: int | tuple[int, ...] = USAGE, **env: str) -> Finished:
    """Ends by itself with one clear message, a hint and nothing of our own insides."""
    done = run("run", *arguments, "--venv", sys.prefix, cwd=tmp_path, env=env)
    assert done.code in ((code,) if isinstance(code, int) else code), done
    assert "hint:" in done.err, done
    assert "panicked" not in done.said, done
    assert "boot.py" not in done.said, done
    assert "\x1b[" not in done.said, "no colour without a terminal"
    return done


def bind() -> list[str]:
    return ["--bind", f"127.0.0.1:{free_port()}"]


# What is wrong with the app


def test_a_module_that_does_not_exist(tmp_path: Path) -> None:
    done = refused(tmp_path, "no_such_module:app", *bind(), code=SOFTWARE)
    assert "no_such_module" in done.err
    assert done.err.count("Traceback") <= 1


def test_a_module_that_is_named_as_a_file(tmp_path: Path) -> None:
    write(tmp_path, "app.py", GOOD)
    done = refused(tmp_path, "app.py", *bind(), code=(USAGE, SOFTWARE))
    assert "app" in done.err


def test_an_import_error_inside_the_app_is_shown_once_and_whole(tmp_path: Path) -> None:
    write(tmp_path, "app.py", "import helper\n")
    write(tmp_path, "helper.py", "import no_such_dependency\n")
    done = refused(tmp_path, "app:application", *bind(), "--workers", "3", code=SOFTWARE)
    assert done.err.count("Traceback (most recent call last)") == 1
    assert done.err.count("ModuleNotFoundError: No module named 'no_such_dependency'") == 1
    assert "helper.py" in done.err
    assert "import helper" in done.err
    assert "importlib" not in done.err, "none of the frames that are not the app's"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("raise SystemExit(5)\n", "SystemExit"),
    ],
)
def test_an_app_that_fails_at_its_import(tmp_path: Path, text: str, error: str) -> None:
    write(tmp_path, "app.py", text)
    done = run("run", "app:application", *bind(), "--venv", sys.prefix, cwd=tmp_path)
    assert done.code == SOFTWARE, done
    assert error in done.err
    assert done.err.count("Traceback") <= 1


def test_an_attribute_that_does_not_exist_with_near_names(tmp_path: Path) -> None:
    write(tmp_path, "app.py", GOOD)
    done = refused(tmp_path, "app:aplication", *bind(), code=SOFTWARE)
    assert "aplication" in done.err
    assert "application" in done.err.replace("aplication", "")


def test_an_attribute_that_is_not_callable(tmp_path: Path) -> None:
    write(tmp_path, "app.py", "application = 5\n")
    done = refused(tmp_path, "app:application", *bind(), code=SOFTWARE)
    assert "cannot be called" in done.err


def test_a_factory_that_is_not_called_is_named_in_the_hint(tmp_path: Path) -> None:
    write(tmp_path, "app.py", "def create_app():\n    return None\n")
    done = refused(tmp_path, "app", *bind(), code=SOFTWARE)
    assert "create_app()" in done.err


def test_a_factory_that_fails_shows_its_traceback(tmp_path: Path) -> None:
    write(tmp_path, "app.py", "def create_app():\n    raise KeyError('no configuration')\n")
    done = run("run", "app:create_app()", *bind(), "--venv", sys.prefix, cwd=tmp_path)
    assert done.code == SOFTWARE
    assert "no configuration" in done.err
    assert "create_app" in done.err


def test_no_app_at_all(tmp_path: Path) -> None:
    refused(tmp_path, code=USAGE)


# What is wrong with the flags


@pytest.mark.parametrize(
    "flags",
    [
        ["--no-such-flag"],
        ["--workers", "many"],
        ["--workers", "0"],
        ["--workers=-1"],
        ["--threads", "0"],
        ["--threads", "x"],
        ["--timeout", "soon"],
        ["--bind", "127.0.0.1:99999"],
        ["--bind", "127.0.0.1:http"],
        ["--forwarded-allow-ips", "not an address"],
        ["--limit-request-body", "12 parsecs"],
        ["--log-level", "loud"],
        ["--env", "NO_EQUALS_SIGN"],
        ["--umask", "9"],
    ],
    ids=lambda flags: " ".join(flags),
)
def test_a_bad_flag(tmp_path: Path, flags: list[str]) -> None:
    write(tmp_path, "app.py", GOOD)
    done = refused(tmp_path, "app:application", *bind(), *flags, code=USAGE)
    assert flags[0].split("=")[0] in done.err


def test_a_flag_with_a_typing_error_is_answered_with_the_right_one(tmp_path: Path) -> None:
    assert "--workers" in run("run", "app", "--worker", "3", cwd=tmp_path).err


@pytest.mark.parametrize(
    "flag", ["--worker-class", "--preload", "--max-requests", "--ca-certs", "--reuse-port"]
)
def test_flags_of_gunicorn_that_are_not_here_are_answered_with_one_line(tmp_path: Path, flag: str) -> None:
    write(tmp_path, "app.py", GOOD)
    value = [] if flag in ("--preload", "--reuse-port") else ["5"]
    done = run(
        "run", "app:application", *bind(), flag, *value, "--check-config", "--venv", sys.prefix, cwd=tmp_path
    )
    assert flag in done.err
    lines = [line for line in done.err.splitlines() if flag in line and not line.startswith("hint:")]
    assert len(lines) == 1, lines


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    done = refused(tmp_path, "app:application", *bind(), "--chdir", "/no/such/folder", code=(USAGE, CONFIG))
    assert "/no/such/folder" in done.err


def test_a_venv_without_python(tmp_path: Path) -> None:
    done = run("run", "app", *bind(), "--venv", str(tmp_path), cwd=tmp_path)
    assert done.code in (USAGE, CONFIG)
    assert "hint:" in done.err
    assert str(tmp_path) in done.err


def test_an_account_that_does_not_exist(tmp_path: Path) -> None:
    write(tmp_path, "app.py", GOOD)
    done = refused(tmp_path, "app:application", *bind(), "--user", "no-such-user", code=(USAGE, CONFIG))
    assert "no-such-user" in done.err


# What is wrong with the address


def test_a_port_in_use(tmp_path: Path) -> None:
    write(tmp_path, "app.py", GOOD)
    with socket.create_server(("127.0.0.1", free_port())) as other:
        port = other.getsockname()[1]
        done = refused(tmp_path, "app:application", "--bind", f"127.0.0.1:{port}", code=CONFIG)
    assert str(port) in done.err
    assert "in use" in done.err


def test_a_port_in_use_by_another_of_us(start: Start, tmp_path: Path) -> None:
    server = start("echo")
    assert isinstance(server.address, tuple)
    done = refused(APPS, "echo", "--bind", f"127.0.0.1:{server.address[1]}", code=CONFIG)
    assert "in use" in done.err
    assert server.get("/").status == 200


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    write(tmp_path, "app.py", GOOD)
    refused(tmp_path, "app:application", "--bind", "192.0.2.1:8000", code=CONFIG)


# How the app is named


def text_of(start: Start, folder: Path, app: str, **options: object) -> str:
    return start(app, chdir=folder, **options).get("/").text


def test_w48_a_function_an_instance_and_a_class_are_apps(start: Start, tmp_path: Path) -> None:
    write(
        tmp_path,
        "app.py",
        GOOD.replace("NAME", "function")
        + """
class Callable:
    def __call__(self, environ, start_response):
        return application(environ, start_response)

class Page:
    def __init__(self, environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
    def __iter__(self):
        yield b"class"

class Namespace:
    inner = Callable()

instance = Callable()
namespace = Namespace()
""",
    )
    assert text_of(start, tmp_path, "app:application") == "function"
    assert text_of(start, tmp_path, "app:instance") == "function"
    assert text_of(start, tmp_path, "app:Page") == "class"
    assert text_of(start, tmp_path, "app:namespace.inner") == "function"


def test_w48_factories_with_and_without_arguments(start: Start, tmp_path: Path) -> None:
    write(
        tmp_path,
        "app.py",
        """
def create_app(name="default", *, loud=False):
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [(name.upper() if loud else name).encode()]
    return application
""",
    )
    assert text_of(start, tmp_path, "app:create_app()") == "default"
    assert text_of(start, tmp_path, "app:create_app('shop', loud=True)") == "SHOP"


@pytest.mark.parametrize("name", ["app", "application"])
def test_w48_the_name_of_the_app_may_be_left_out(start: Start, tmp_path: Path, name: str) -> None:
    write(tmp_path, "site_main.py", GOOD.replace("application", name))
    assert text_of(start, tmp_path, "site_main") == "NAME"


def test_a_module_in_a_package(start: Start, tmp_path: Path) -> None:
    write(tmp_path, "shop/__init__.py", "")
    write(tmp_path, "shop/web/__init__.py", "")
    write(tmp_path, "shop/web/wsgi.py", "from . import answer\n" + GOOD.replace('b"NAME"', "answer.TEXT"))
    write(tmp_path, "shop/web/answer.py", "TEXT = b'packaged'\n")
    assert text_of(start, tmp_path, "shop.web.wsgi:application") == "packaged"


def test_the_apps_imports_are_its_own(start: Start, tmp_path: Path) -> None:
    """Neither our folder nor our modules are in its way, and its folder stands first."""
    write(
        tmp_path,
        "app.py",
        """
import json as jsonlib, os, sys
import boot, worker
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [jsonlib.dumps({"path": sys.path, "main": sys.modules["__main__"].__name__, "argv": sys.argv,
                           "cwd": os.getcwd(), "prefix": sys.prefix}).encode()]
""",
    )
    write(tmp_path, "boot.py", "")
    write(tmp_path, "worker.py", "")
    shown = start("app", chdir=tmp_path).get("/").json()
    assert Path(shown["path"][0]) == tmp_path
    assert Path(shown["cwd"]) == tmp_path
    assert Path(shown["prefix"]) == Path(sys.prefix)
    assert not [p for p in shown["path"] if p.endswith("trivet/worker")]


def test_pythonpath_and_env_reach_the_app(start: Start, tmp_path: Path) -> None:
    write(tmp_path, "lib/helper.py", "")
    write(
        tmp_path,
        "main/app.py",
        "import helper, os\n" + GOOD.replace('b"NAME"', "os.environ['GREETING'].encode()"),
    )
    flags = ["--pythonpath", str(tmp_path / "lib"), "--env", "GREETING=good = day", "-e", "OTHER=1"]
    server = start("app", *flags, chdir=tmp_path / "main")
    assert server.get("/").text == "good = day"


# The environment of the process


def test_web_concurrency_gives_the_number_of_workers_and_the_flag_goes_before_it(start: Start) -> None:
    start("echo", env={"WEB_CONCURRENCY": "3"}).wait_for_workers(3)
    start("echo", "--workers", "2", env={"WEB_CONCURRENCY": "3"}).wait_for_workers(2)


def test_workers_auto(start: Start) -> None:
    server = start("echo", "--workers", "auto")
    assert len(server.workers()) >= 1


def test_port_binds_to_all_addresses(start: Start) -> None:
    port = free_port()
    server = start("echo", bind="", env={"PORT": str(port)}, answers=False)
    server.address = ("127.0.0.1", port)
    assert server.wait_until_it_answers().get("/").status == 200


def test_gunicorn_cmd_args(start: Start) -> None:
    start("echo", env={"GUNICORN_CMD_ARGS": "--workers 2 --threads=3"}).wait_for_workers(2)


# What it prints and leaves


def test_the_start_says_what_where_and_with_which_python(start: Start) -> None:
    server = start("echo", "--workers", "2", "--threads", "3")
    assert isinstance(server.address, tuple)
    log = server.wait_for_log("3 threads")
    assert "echo" in log
    assert f"http://127.0.0.1:{server.address[1]}" in log
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in log
    assert re.search(r"\b2 workers?\b", log)
    assert re.search(r"\b3 threads?\b", log)
    assert 1 <= len(log.splitlines()) <= 8
    assert "\x1b[" not in log


def test_version_and_help(tmp_path: Path) -> None:
    version = run("--version", cwd=tmp_path)
    assert (version.code, version.out.startswith("trivet ")) == (0, True)
    text = run("run", "--help", cwd=tmp_path)
    assert text.code == 0
    for flag in (
        "--bind",
        "--workers",
        "--threads",
        "--timeout",
        "--access-logfile",
        "--reload",
        "--forwarded-allow-ips",
    ):
        assert flag in text.out
    assert "--transport" not in text.out, "hidden"


def test_check_config(tmp_path: Path) -> None:
    write(tmp_path, "good.py", GOOD)
    write(tmp_path, "bad.py", "import no_such_dependency\n")
    assert run("run", "good", "--check-config", "--venv", sys.prefix, cwd=tmp_path).code == 0
    done = run("run", "bad", "--check-config", "--venv", sys.prefix, cwd=tmp_path)
    assert done.code == SOFTWARE
    assert "no_such_dependency" in done.err


def test_a_pid_file_is_written_and_removed(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "trivet.pid"
    server = start("echo", "--pid", str(file))
    assert file.read_text().strip() == str(server.pid)
    done = refused(APPS, "echo", *bind(), "--pid", str(file), code=CONFIG)
    assert str(server.pid) in done.err
    assert file.read_text().strip() == str(server.pid)
    assert server.stop() == 0
    assert not file.exists()


def test_a_stale_pid_file_is_taken_over(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "trivet.pid"
    file.write_text("999999\n")
    server = start("echo", "--pid", str(file))
    assert file.read_text().strip() == str(server.pid)


def test_names_show_in_the_process_list(start: Start) -> None:
    server = start("echo", "--name", "shop")
    comms = [(procs.PROC / str(p.pid) / "comm").read_text() for p in server.family()]
    commands = [" ".join(p.command) for p in server.family()]
    assert any("shop" in text for text in comms + commands)


def test_status_shows_the_service(start: Start, tmp_path: Path) -> None:
    server = start(
        "echo", "--workers", "2", "--threads", "3", env={"XDG_RUNTIME_DIR": str(runtime(tmp_path))}
    )
    done = run("status", str(server.pid), cwd=tmp_path, env={"XDG_RUNTIME_DIR": str(runtime(tmp_path))})
    if done.code:
        done = run("status", cwd=tmp_path, env={"XDG_RUNTIME_DIR": str(runtime(tmp_path))})
    assert done.code == 0, done
    assert "echo" in done.out
    for pid in server.workers():
        assert str(pid) in done.out
    for word in "queue", "slots ", "slots_free ", "in_flight", "restarts":
        assert word in done.out.lower()


def test_status_without_a_server(tmp_path: Path) -> None:
    done = run(
        "status", cwd=tmp_path, env={"XDG_RUNTIME_DIR": str(runtime(tmp_path)), "TMPDIR": str(tmp_path)}
    )
    if done.code == 0:
        pytest.skip("another server of this user is running")
    assert "hint:" in done.err


def runtime(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


# Reloading


def test_reload_replaces_the_worker_when_a_file_changes(start: Start, tmp_path: Path) -> None:
    write(tmp_path, "app.py", "import part\n" + GOOD.replace('b"NAME"', "part.TEXT"))
    write(tmp_path, "part.py", "TEXT = b'one'\n")
    server = start("app", "--reload", chdir=tmp_path)
    assert server.get("/").text == "one"
    write(tmp_path, "part.py", "TEXT = b'second'\n")
    until(lambda: server.get("/").text == "second", 15)


def test_reload_stays_when_the_app_is_broken_and_serves_when_it_is_mended(
    start: Start, tmp_path: Path
) -> None:
    write(tmp_path, "app.py", GOOD)
    server = start("app", "--reload", chdir=tmp_path)
    before = len(server.log())
    write(tmp_path, "app.py", "def broken(:\n")
    server.wait_for_log("SyntaxError", 15, after=before)
    assert server.popen.poll() is None
    write(tmp_path, "app.py", GOOD.replace("NAME", "mended"))
    until(lambda: server.get("/").text == "mended", 15)


def test_reload_waits_for_an_app_that_was_broken_from_the_start(start: Start, tmp_path: Path) -> None:
    write(tmp_path, "app.py", "import no_such_dependency\n")
    server = start("app", "--reload", chdir=tmp_path, answers=False)
    server.wait_for_log("no_such_dependency")
    assert server.popen.poll() is None
    write(tmp_path, "app.py", GOOD.replace("NAME", "mended"))
    server.wait_until_it_answers()
    assert server.get("/").text == "mended"


def test_sighup_with_a_broken_app_leaves_the_old_generation_alone(start: Start, tmp_path: Path) -> None:
    write(tmp_path, "app.py", "import os, pathlib\npathlib.Path(f'{os.getpid()}.imported').touch()\n" + GOOD)
    server = start("app", "--workers", "2", chdir=tmp_path)
    old = server.wait_for_workers(2)
    until(lambda: all((tmp_path / f"{pid}.imported").exists() for pid in old), why="both have the app")
    write(tmp_path, "app.py", "import no_such_dependency\n")
    before = len(server.log())
    server.signal(signal.SIGHUP)
    server.wait_for_log("no_such_dependency", after=before)
    until(lambda: server.workers() == old, why="the old workers are those that serve")
    for _ in range(20):
        assert server.get("/").text == "NAME"
    assert server.log()[before:].count("Traceback") == 1
    write(tmp_path, "app.py", GOOD.replace("NAME", "mended"))
    server.signal(signal.SIGHUP)
    server.wait_for_workers(2, without=old)
    until(lambda: server.get("/").text == "mended")

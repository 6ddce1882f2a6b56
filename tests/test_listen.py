"""Where it listens: TCP, unix sockets, inherited descriptors; and how it tells a service manager."""

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Start
from support.http import once
from support.poll import until
from support.server import APPS, free_port, run


def test_several_addresses(start: Start, tmp_path: Path) -> None:
    port, path = free_port(), str(tmp_path / "s.sock")
    server = start("echo", "--bind", f"127.0.0.1:{port}", "-b", f"unix:{path}")
    addresses = [server.address, ("127.0.0.1", port), path]
    for address in addresses:
        assert once(address, "GET", "/x").status == 200  # type: ignore[arg-type]
    environ = once(("127.0.0.1", port)).json()["environ"]
    assert environ["SERVER_PORT"] == str(port)


def test_ipv6(start: Start) -> None:
    try:
        socket.create_server(("::1", free_port()), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = start("echo", bind=f"[::1]:{free_port()}")
    environ = server.get("/").json()["environ"]
    assert environ["REMOTE_ADDR"] == "::1"


def test_a_unix_socket(start: Start, tmp_path: Path, transport: str) -> None:
    path = tmp_path / "trivet.sock"
    server = start("echo", "--transport", transport, bind=f"unix:{path}")
    environ = server.get("/a?b").json()["environ"]
    assert environ["PATH_INFO"] == "/a"
    assert environ["REMOTE_ADDR"] == ""
    assert environ["SERVER_NAME"] != ""
    assert environ["SERVER_PORT"].isdigit()
    # a peer on a unix socket is trusted
    fields = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    environ = server.get("/", fields).json()["environ"]
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("203.0.113.9", "https")
    assert server.stop() == 0
    assert not path.exists(), "removed at the end"


def test_a_stale_unix_socket_is_taken_over_and_a_living_one_is_not(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "trivet.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    server = start("echo", bind=f"unix:{path}")
    assert server.get("/").status == 200
    done = run("run", "echo", "--bind", f"unix:{path}", "--venv", sys.prefix, cwd=APPS)
    assert done.code == 78
    assert "in use" in done.err
    assert server.get("/").status == 200


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    done = run("run", "echo", "--bind", f"unix:{path}", "--venv", sys.prefix, cwd=APPS)
    assert done.code == 78
    assert path.read_text() == "data"


def test_the_umask_shapes_the_socket(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "trivet.sock"
    start("echo", "--umask", "077", bind=f"unix:{path}")
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_an_inherited_descriptor(start: Start, transport: str) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        fd = listener.fileno()
        server = start(
            "echo", "--bind", f"fd://{fd}", "--transport", transport, bind="", pass_fds=(fd,), answers=False
        )
        server.address = listener.getsockname()
        server.wait_until_it_answers()
        assert server.get("/").status == 200


def test_socket_activation(start: Start) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        # as systemd does it: descriptor 3, and a LISTEN_PID that only the new process can know
        script = f'exec 3<&{listener.fileno()}; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'
        wrap = ["bash", "-c", script, "activated"]
        server = start("echo", bind="", answers=False, pass_fds=(listener.fileno(),), wrap=wrap)
        server.address = listener.getsockname()
        server.wait_until_it_answers()
        assert server.get("/").status == 200


def test_a_service_manager_is_told(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(20)
        server = start("echo", env={"NOTIFY_SOCKET": str(path)})

        def told(what: str) -> None:
            while what not in manager.recv(4096).decode().splitlines():
                pass

        told("READY=1")
        server.signal(signal.SIGHUP)
        told("RELOADING=1")
        told("READY=1")
        server.signal(signal.SIGTERM)
        told("STOPPING=1")
        assert server.wait() == 0


def test_no_process_holds_what_it_should_not(start: Start) -> None:
    """Workers and their children have no listening socket and no client's."""
    server = start("loss", "--workers", "2", env={"RECORD": "/dev/null"})
    with server.connect() as idle:
        assert idle.request("GET", "/children").status == 200
        listening = socket_inodes(server.pid) & socket_inodes(server.edge())
        assert listening, "the supervisor and the edge share the listener"
        for p in server.family():
            if p.pid in (server.pid, server.edge()):
                continue
            assert not listening & socket_inodes(p.pid), p.command
        # an app's child has neither rings nor channels
        for p in server.family():
            if "sleep" in p.command:
                held = [os.readlink(fd) for fd in Path(f"/proc/{p.pid}/fd").iterdir()]
                assert not [h for h in held if h.startswith(("socket:", "anon_inode:", "/memfd"))], held


def socket_inodes(pid: int) -> set[str]:
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(fd)
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def test_every_child_goes_to_its_own_process_group_and_ignores_the_terminals_ctrl_c(start: Start) -> None:
    server = start("echo")
    before = server.workers()
    for pid in [server.edge(), *before]:
        assert os.getpgid(pid) != os.getpgid(server.pid)
    for pid in before:
        os.kill(pid, signal.SIGINT)
    for _ in range(10):
        assert server.get("/").status == 200
    assert server.workers() == before


def _works_for(account: str, *command: str) -> bool:
    try:
        return subprocess.run(command, user=account, capture_output=True, cwd="/").returncode == 0
    except OSError:
        return False


def test_root_can_drop_to_another_account(start: Start, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can change accounts")
    tmp_path.chmod(0o755)
    # a Python in root's home is out of reach for anybody else, and so is a checkout there
    look = f"import os; os.listdir({str(APPS)!r})"
    pythons = [sys.executable, "/usr/bin/python3"]
    reached = [p for p in pythons if os.path.exists(p) and _works_for("nobody", p, "-c", look)]
    if not reached:
        pytest.skip("no Python here that `nobody` may run")
    prefix = subprocess.check_output([reached[0], "-c", "import sys; print(sys.prefix)"], text=True).strip()
    flags = ["--venv", prefix] if prefix != "/usr" else []
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" if not flags else os.environ["PATH"]
    server = start("echo", "--user", "nobody", *flags, venv=False, env={"PATH": path})
    owners = {pid: os.stat(f"/proc/{pid}").st_uid for pid in [server.edge(), *server.workers()]}
    assert 0 not in owners.values(), owners
    until(lambda: server.get("/").status == 200)


def test_workers_that_stay_root_are_warned_about(start: Start) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root")
    server = start("echo")
    server.wait_for_log("(?i)root")
    assert os.stat(f"/proc/{server.edge()}").st_uid != 0, "the edge drops to its own account"

"""Access logs that go to a syslog: the daemon is a socket of the test's own."""

import contextlib
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Serve, Start
from support.server import Server, SiteServer

LOCAL = re.compile(r"<(?P<priority>\d+)>trivet\[(?P<pid>\d+)\]: (?P<line>.*)")
NETWORK = re.compile(
    r"<(?P<priority>\d+)>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?P<host>\S+) "
    r"trivet (?P<pid>\d+) access - (?P<line>.*)"
)
SITE = """
[site.one]
listen = ["http://127.0.0.1:${P0}"]
access-log = { file = "SINK", format = "%(U)s", MORE }
route = [{ path = "/*", respond = 204 }]
"""

Listen = Callable[[], socket.socket]


@pytest.fixture
def listen(place: Path) -> Iterator[Listen]:
    """Binds the syslog's socket, which only root may reach."""
    bound: list[socket.socket] = []

    def bind() -> socket.socket:
        path = place / "syslog"
        path.unlink(missing_ok=True)
        daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        daemon.settimeout(10)
        daemon.bind(str(path))
        path.chmod(0o600)
        bound.append(daemon)
        return daemon

    yield bind
    for daemon in bound:
        daemon.close()


def message(daemon: socket.socket) -> re.Match[str]:
    """The next one that is no line of the start."""
    while True:
        text = daemon.recv(65536).decode()
        match = LOCAL.fullmatch(text) or NETWORK.fullmatch(text)
        assert match, text
        if "/-ready" not in match["line"]:
            return match


def configured(serve: Serve, sink: str, more: str = "") -> SiteServer:
    return serve(SITE.replace("SINK", sink).replace(", MORE", f", {more}" if more else ""))


def test_the_socket_of_this_machine(serve: Serve, place: Path, listen: Listen) -> None:
    daemon = listen()
    server = configured(serve, f"syslog:{place}/syslog")
    server.ask("/a")
    got = message(daemon)
    assert (got["priority"], got["line"], int(got["pid"])) == ("190", "/a", server.edge())


def test_facility_and_severity(serve: Serve, place: Path, listen: Listen) -> None:
    daemon = listen()
    server = configured(serve, f"syslog:{place}/syslog", 'facility = "local0", severity = "notice"')
    server.ask("/a")
    assert message(daemon)["priority"] == "133"


def test_udp(start: Start) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.settimeout(10)
        daemon.bind(("127.0.0.1", 0))
        sink = f"syslog:udp://127.0.0.1:{daemon.getsockname()[1]}"
        server = start("echo", "--access-logfile", sink, "--access-logformat", "%(U)s %(ended)s")
        server.get("/a")
        got = message(daemon)
        assert (got["priority"], got["line"], got["host"]) == ("190", "/a done", socket.gethostname())


def test_an_address_that_is_none_is_refused(start: Start) -> None:
    server = start("echo", "--access-logfile", "syslog:tcp://a", answers=False)
    server.expected_code = 64
    assert server.wait() == 64
    assert "syslog:udp://" in server.log()


def test_a_daemon_that_starts_later_or_anew_gets_every_line(
    serve: Serve, place: Path, listen: Listen
) -> None:
    server = configured(serve, f"syslog:{place}/syslog")
    server.wait_for_log("nobody takes the access log")
    for number in range(3):
        server.ask(f"/early/{number}")
    daemon = listen()
    assert [message(daemon)["line"] for _ in range(3)] == [f"/early/{n}" for n in range(3)]
    daemon.close()
    for number in range(3):
        server.ask(f"/between/{number}")
    daemon = listen()
    assert [message(daemon)["line"] for _ in range(3)] == [f"/between/{n}" for n in range(3)]
    assert "are lost" not in server.log()


def lost(server: Server) -> int:
    said = server.log()
    return sum(int(n) for n in re.findall(r"lines of the access log are lost .*lines=(\d+)", said))


def test_a_daemon_that_does_not_read_holds_nobody_up_and_its_loss_is_told(
    serve: Serve, place: Path, listen: Listen
) -> None:
    daemon = listen()
    server = configured(serve, f"syslog:{place}/syslog")
    target = "/" + "x" * 7000
    began = time.monotonic()
    with server.connect() as connection:
        for _ in range(100):
            connection.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode() * 20)
            for _ in range(20):
                assert connection.read().status == 204
    assert time.monotonic() - began < 30
    server.wait_for_log("lines of the access log are lost")
    assert lost(server) > 0
    assert server.log().count("lines of the access log are lost") == 1
    daemon.settimeout(1)
    read = 0
    with contextlib.suppress(TimeoutError):
        while True:
            message(daemon)
            read += 1
    assert 100 < read < 2000
    server.ask("/after")
    daemon.settimeout(10)
    assert message(daemon)["line"] == "/after"


def test_a_stop_does_not_wait_for_a_daemon_that_does_not_read(
    serve: Serve, place: Path, listen: Listen
) -> None:
    listen()
    server = configured(serve, f"syslog:{place}/syslog")
    for number in range(100):
        server.ask(f"/{number}")
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 10
    assert lost(server) > 0


def test_two_sites_may_use_one_syslog_in_two_formats(serve: Serve, place: Path, listen: Listen) -> None:
    daemon = listen()
    sites = "".join(
        f'[site.{name}]\nlisten = ["http://127.0.0.1:${{P0}}"]\nhosts = ["{name}.example"]\n'
        f'access-log = {{ file = "syslog:{place}/syslog", format = "{form}" }}\n'
        'route = [{ path = "/*", respond = 204 }]\n'
        for name, form in (("one", "1 %(U)s"), ("two", "2 %(U)s"))
    )
    server = serve(
        sites + '[site.rest]\nlisten = ["http://127.0.0.1:${P0}"]\nroute = [{ path = "/*", respond = 204 }]\n'
    )
    server.ask("/a", "one.example")
    assert message(daemon)["line"] == "1 /a"
    server.ask("/b", "two.example")
    assert message(daemon)["line"] == "2 /b"
    assert os.stat(place / "syslog").st_mode & 0o777 == 0o600

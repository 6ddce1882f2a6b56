"""One queue for the app: its limits, its order, and who is still there to be answered."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from conftest import Start
from support.http import Connection, Response, request
from support.load import recorded
from support.poll import throughout, until
from support.server import Server


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "record"


def get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: test.example\r\n\r\n".encode()


def slow(start: Start, record: Path, seconds: str, *flags: str) -> Server:
    return start("loss", *flags, env={"RECORD": str(record), "SERVICE_SECONDS": seconds})


def entered(record: Path, request_id: str) -> bool:
    return record.exists() and recorded(record)[request_id] > 0


def refusal_is_right(response: Response) -> None:
    assert response.status == 503
    assert (response.get("retry-after") or "").isdigit()


def let_go(record: Path) -> None:
    """Ends the `/hold/` requests."""
    record.with_name(record.name + ".go").touch()


def test_a_full_queue_is_503_with_retry_after(start: Start, transport: str, record: Path) -> None:
    server = slow(start, record, "0.01", "--queue-length", "3", "--transport", transport)
    connections = [server.connect() for _ in range(12)]
    try:
        connections[0].send(get("/hold/0"))
        until(lambda: entered(record, "0"))
        for i, connection in enumerate(connections[1:], 1):
            connection.send(get(f"/get/{i}"))
            until(lambda connection=connection: was_read(connection))
        for connection in connections[5:]:
            refusal_is_right(connection.read())
        let_go(record)
        assert [connection.read().status for connection in connections[:4]] == [200] * 4
    finally:
        for connection in connections:
            connection.socket.close()
    ran = recorded(record)
    assert not [i for i in range(5, 12) if ran[str(i)]]


def test_a_request_that_waits_too_long_is_503_and_never_runs(
    start: Start, transport: str, record: Path
) -> None:
    server = slow(start, record, "3", "--queue-timeout", "1", "--transport", transport)
    with server.connect() as running, server.connect() as waiting:
        running.send(get("/get/running"))
        until(lambda: entered(record, "running"))
        begun = time.monotonic()
        waiting.send(get("/get/waiting"))
        refusal_is_right(waiting.read())
        assert 0.8 < time.monotonic() - begun < 2
        assert running.read().status == 200
    assert server.get("/get/after").status == 200
    assert not entered(record, "waiting")


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_request_whose_client_has_gone_is_never_started(
    start: Start, transport: str, record: Path, tmp_path: Path, how: str
) -> None:
    access = tmp_path / "access.log"
    server = slow(start, record, "0.01", "--transport", transport, "--access-logfile", str(access))
    with server.connect() as running, server.connect() as kept:
        running.send(get("/hold/running"))
        until(lambda: entered(record, "running"))
        gone = [server.connect() for _ in range(5)]
        for i, connection in enumerate(gone):
            connection.send(get(f"/get/gone{i}"))
        kept.send(get("/get/kept"))
        for connection in gone:
            until(lambda connection=connection: was_read(connection))
            if how == "rst":
                connection.reset()
            else:
                connection.socket.close()
        until(lambda: access.read_text().count(" 499 ") == 5, why="they are in the log as 499")
        let_go(record)
        assert running.read().status == 200
        assert kept.read().status == 200
    assert not [i for i in range(5) if entered(record, f"gone{i}")]


def test_a_half_closed_client_with_a_slot_free_is_served(start: Start, transport: str) -> None:
    server = start("echo", "--transport", transport)
    for _ in range(20):
        with server.connect() as connection:
            connection.send(get("/half")).finish_sending()
            assert connection.read().json()["environ"]["PATH_INFO"] == "/half"
            connection.assert_closed()


def test_waiting_requests_are_served_in_the_order_of_their_arrival(
    start: Start, transport: str, record: Path
) -> None:
    server = slow(start, record, "0.05", "--transport", transport, "--workers", "2")
    connections: list[Connection] = []
    try:
        for i in range(30):
            connection = server.connect()
            connections.append(connection)
            connection.send(get(f"/get/{i}"))
            # the next one shall arrive after this one
            until(lambda connection=connection: was_read(connection))
        for connection in connections:
            assert connection.read().status == 200
    finally:
        for connection in connections:
            connection.socket.close()
    order = [int(line.split()[0]) for line in record.read_text().splitlines()]
    assert sorted(order) == list(range(30))
    displaced = max(abs(at - i) for at, i in enumerate(order))
    assert displaced <= 4, order


def was_read(connection: Connection) -> bool:
    """The server has taken all that was sent out of its kernel's buffer."""
    ours = f":{connection.socket.getsockname()[1]:04X}"
    theirs = f":{connection.socket.getpeername()[1]:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, _, queues = line.split()[1:5]
        if local.endswith(theirs) and remote.endswith(ours):
            return int(queues.split(":")[1], 16) == 0
    return False


def test_a_free_slot_is_used_whatever_runs_elsewhere(start: Start, transport: str) -> None:
    """No request waits behind a slow one while another slot is free."""
    server = start("hang", "--workers", "2", "--threads", "2", "--transport", transport)
    slow_ones = [server.connect().send(get("/block/3")) for _ in range(3)]
    begun = time.monotonic()
    for _ in range(200):
        assert server.get("/").status == 200
    assert time.monotonic() - begun < 3
    for connection in slow_ones:
        assert connection.read().status == 200
        connection.socket.close()


def test_health_is_answered_by_the_edge(start: Start, transport: str, record: Path) -> None:
    server = slow(
        start, record, "2", "--queue-length", "1", "--health", "/-/health", "--transport", transport
    )
    connections = [server.connect().send(get(f"/get/{i}")) for i in range(4)]
    until(lambda: entered(record, "0"))
    begun = time.monotonic()
    assert server.get("/-/health").status == 200
    assert time.monotonic() - begun < 1
    assert server.get("/-/healthy").status != 0
    for connection in connections:
        connection.read()
        connection.socket.close()


def test_health_fails_while_no_worker_can_serve(start: Start, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import pathlib, time\n"
        "while pathlib.Path('wait').exists(): time.sleep(0.01)\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [b'well']\n"
    )
    server = start("app", "--health", "/-/health", chdir=tmp_path)
    assert server.get("/-/health").status == 200
    (tmp_path / "wait").touch()
    os.kill(server.workers()[0], signal.SIGKILL)
    until(lambda: server.get("/-/health").status == 503, why="nobody is there to serve")
    waiting: list[Response] = []
    thread = threading.Thread(target=lambda: waiting.append(server.get("/")))
    thread.start()
    throughout(lambda: not waiting, 0.3, "the request waits")
    (tmp_path / "wait").unlink()
    thread.join(20)
    assert waiting[0].body == b"well"
    until(lambda: server.get("/-/health").status == 200)


def test_who_comes_late_is_heard_while_every_worker_is_well_supplied(start: Start) -> None:
    """Under steady load the edge sleeps in short naps: connections that come meanwhile must be seen too."""
    server = start("echo")
    ended = threading.Event()

    def keep_busy() -> None:
        with server.connect() as connection:
            while not ended.is_set():
                connection.send(request("GET", "/busy/300", {}) * 8)
                for _ in range(8):
                    assert connection.read().status == 200

    threads = [threading.Thread(target=keep_busy) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.5)
        for _ in range(5):
            with server.connect() as late:
                time.sleep(0.05)
                begun = time.monotonic()
                for _ in range(3):
                    late.send(request("GET", "/", {}))
                    assert late.read().status == 200
                    time.sleep(0.02)
                assert time.monotonic() - begun < 3
    finally:
        ended.set()
        for thread in threads:
            thread.join()

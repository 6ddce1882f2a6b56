"""Why a request ended, as the access log says it: each way that a client or an app can bring about."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Start
from h2.errors import ErrorCodes
from support.http import Cut
from support.http2 import Peer
from support.poll import until
from support.server import BINARY, Server
from test_tls import certificate, context

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def served(start: Start, log: Path, app: str, *flags: str) -> Server:
    return start(app, "--access-logfile", str(log), "--access-logformat", "%(U)s %(s)s %(ended)s", *flags)


def ended(log: Path, path: str, count: int = 1) -> list[str]:
    """Status and ending of the requests for a path."""

    def there() -> list[str] | None:
        text = log.read_text() if log.exists() else ""
        found = [line.split(" ", 1)[1] for line in text.splitlines() if line.startswith(f"{path} ")]
        return found if len(found) >= count else None

    return until(there, 40, f"{count} lines for {path}")


def status(server: Server) -> dict[str, int]:
    said = subprocess.run(
        [str(BINARY), "status", "--json", str(server.pid)],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    return json.loads(said.stdout)["edge"]["report"]


def test_answers_that_went_out_whole_are_done(start: Start, log: Path) -> None:
    server = served(start, log, "echo", "--health", "/health")
    for path in "/a", "/sized/3000000", "/chunks/10", "/health":
        assert server.get(path).status == 200
    with server.connect() as connection:
        connection.request("HEAD", "/head")
    for path in "/a", "/sized/3000000", "/chunks/10", "/health", "/head":
        assert ended(log, path) == ["200 done"]


def test_what_may_not_be_served_is_refused_and_what_is_too_large_hits_a_limit(
    start: Start, log: Path
) -> None:
    server = served(start, log, "echo", "--limit-request-body", "10")
    for head in (
        b"GET /bad HTTP/1.1\r\n\r\n",
        b"GET /nul%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /over HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n",
        b"POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n"
        + b"x" * 255
        + b"\r\n",
        b"POST /broken HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnope\r\n",
        b"GET /" + b"a" * 9000,
    ):
        with server.connect() as connection:
            connection.send(head).read()
    assert ended(log, "/over") == ["413 limit"]
    assert ended(log, "/chunks") == ["413 limit"]
    assert ended(log, "/nul%00") == ["400 refused"]
    assert ended(log, "/broken") == ["400 refused"]
    # Of these there is no path to be told.
    assert sorted(ended(log, "-", 2)) == ["400 refused", "414 limit"]


def test_failures_of_the_app(start: Start, log: Path) -> None:
    server = served(start, log, "rules", "--workers", "1", "--no-request-buffering")
    assert server.get("/plain/fails_before").status == 500
    assert ended(log, "/plain/fails_before") == ["500 app-error"]
    for name, why in (
        ("fails_in_the_middle", "app-error"),
        ("shorter", "cut-short"),
        ("shorter_generator", "cut-short"),
    ):
        with server.connect() as connection, pytest.raises(Cut):
            connection.request("GET", f"/plain/{name}")
        assert ended(log, f"/plain/{name}") == [f"200 {why}"]


def test_a_worker_that_dies_in_mid_request(start: Start, log: Path) -> None:
    server = served(start, log, "echo")
    [worker] = server.workers()
    with server.connect() as connection:
        connection.send(b"POST /nap/30 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        until(lambda: status(server)["slots_free"] == 0, 10, "the app has it")
        os.kill(worker, signal.SIGKILL)
        assert connection.read().status == 502
    assert ended(log, "/nap/30") == ["502 app-died"]


def test_an_app_that_takes_too_long(start: Start, log: Path) -> None:
    flags = ["--timeout", "1", "--threads", "2", "--graceful-timeout", "1"]
    server = served(start, log, "hang", *flags)
    assert server.get("/block/60").status == 504
    assert ended(log, "/block/60") == ["504 app-timeout"]


def test_a_queue_that_is_full(start: Start, log: Path) -> None:
    server = served(start, log, "echo", "--queue-length", "1", "--queue-timeout", "1")
    connections = [server.connect() for _ in range(3)]
    for number, connection in enumerate(connections):
        connection.send(GET % f"/nap/{3 + number}".encode())
        until(lambda n=number: status(server)["in_flight"] > min(n, 1), 10, "it is there")  # type: ignore[misc]
    assert [c.read().status for c in connections[1:]] == [503, 503]
    assert [ended(log, path) for path in ("/nap/4", "/nap/5")] == [["503 overload"]] * 2
    for connection in connections:
        connection.socket.close()


def test_clients_that_go_away(start: Start, log: Path) -> None:
    """While the app works, in the queue, in their own body, before they have taken the whole answer."""
    server = served(start, log, "echo")
    with server.connect() as busy:
        busy.send(GET % b"/nap/1")
        until(lambda: status(server)["slots_free"] == 0, 10, "the app has it")
        with server.connect() as queued:
            queued.send(GET % b"/queued")
            until(lambda: status(server)["queue"] == 1, 10, "it is queued")
        assert ended(log, "/queued") == ["499 client-closed"]
        busy.reset()
    assert ended(log, "/nap/1") == ["499 client-closed"]
    with server.connect() as connection:
        connection.send(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
    assert ended(log, "/body") == ["499 client-closed"]
    size = 50_000_000
    with server.connect(receive_buffer=4096) as connection:
        connection.send(GET % f"/sized/{size}".encode())
        connection.read_head()
        connection.reset()
    assert ended(log, f"/sized/{size}") == ["200 client-closed"]


def test_a_file_that_the_client_does_not_take_whole(start: Start, tmp_path: Path, place: Path) -> None:
    """The edge is done with it long before the client is: what is logged is what was sent."""
    log = tmp_path / "access.log"
    size = 60_000_000
    with (place / "large.bin").open("wb") as large:
        large.truncate(size)
    server = start(
        *["echo", "--access-logfile", str(log), "--access-logformat", "%(U)s %(B)s %(ended)s"],
        *["--static", f"/static={place}"],
    )
    with server.connect(receive_buffer=4096) as connection:
        connection.send(GET % b"/static/large.bin")
        connection.read_head()
        connection.reset()
    [line] = ended(log, "/static/large.bin")
    sent, why = line.split()
    assert why == "client-closed"
    assert 0 < int(sent) < size
    with server.connect() as connection:
        assert len(connection.request("GET", "/static/large.bin?again").body) == size
    assert ended(log, "/static/large.bin", 2)[1] == f"{size} done"


def test_a_file_that_becomes_shorter_while_it_is_sent(start: Start, log: Path, place: Path) -> None:
    large = place / "large.bin"
    with large.open("wb") as file:
        file.truncate(60_000_000)
    server = served(start, log, "echo", "--static", f"/static={place}")
    with server.connect(receive_buffer=4096) as connection:
        connection.send(GET % b"/static/large.bin")
        connection.read_head()
        os.truncate(large, 1_000)
        connection.rest()
    assert ended(log, "/static/large.bin") == ["200 cut-short"]


def test_a_head_that_does_not_come_in_time(start: Start, log: Path) -> None:
    server = served(start, log, "echo")
    with server.connect() as connection:
        connection.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n")
        assert connection.read().status == 408
    assert ended(log, "-") == ["408 head-timeout"]


def test_a_body_that_does_not_come_in_time_and_an_answer_that_is_not_taken(
    start: Start, log: Path, slow_set: bool
) -> None:
    if not slow_set:
        pytest.skip("takes more than a minute")
    server = served(start, log, "echo", "--threads", "2")
    with server.connect() as body, server.connect(receive_buffer=4096) as answer:
        body.send(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
        answer.send(GET % b"/sized/50000000")
        assert ended(log, "/body") == ["408 body-timeout"]
        until(lambda: "/sized/50000000 200 send-timeout" in log.read_text(), 80, "the answer is given up")


def test_the_time_to_stop_is_over(start: Start, log: Path) -> None:
    server = served(start, log, "echo", "--graceful-timeout", "1")
    with server.connect() as connection:
        connection.send(GET % b"/nap/60")
        until(lambda: status(server)["slots_free"] == 0, 10, "the app has it")
        server.signal(signal.SIGTERM)
        server.wait()
    [line] = ended(log, "/nap/60")
    assert line.split()[1] in ("shutdown", "app-died")


def peer(server: Server, **options: object) -> Peer:
    return Peer(server.address, **options)  # type: ignore[arg-type]


def test_streams_end_by_the_same_words(start: Start, log: Path, tmp_path: Path) -> None:
    server = served(start, log, "streams", "--threads", "8", "--limit-request-body", "1000")
    with peer(server) as client:
        assert client.get("/slow/0").status == 200
        assert client.get("/status/204").status == 204
        stream = client.ask("/endless/k1")
        client.until(lambda: client.answers[stream].body)
        client.machine.reset_stream(stream, ErrorCodes.CANCEL)
        client.flush()
        assert ended(log, "/endless/k1") == ["200 reset"]
        stream = client.ask("/slow/5")
        until(lambda: status(server)["slots_free"] == 7, 10, "the app has it")
        client.machine.reset_stream(stream, ErrorCodes.CANCEL)
        client.flush()
        assert ended(log, "/slow/5") == ["499 reset"]
        assert client.get("/read", "POST", body=b"x" * 2000).status == 413
        assert client.get("/fails").reset is not None
        stream = client.ask("/endless/k2")
        client.until(lambda: client.answers[stream].body)
    assert ended(log, "/endless/k2") == ["200 client-closed"]
    assert ended(log, "/slow/0") == ["200 done"]
    assert ended(log, "/status/204") == ["204 done"]
    assert ended(log, "/read") == ["413 limit"]
    assert ended(log, "/fails") == ["200 app-error"]


def test_a_stream_that_is_not_taken_whole(start: Start, log: Path, place: Path) -> None:
    with (place / "large.bin").open("wb") as large:
        large.truncate(20_000_000)
    server = served(start, log, "streams", "--static", f"/static={place}")
    with peer(server, opens_windows=False, window=100_000) as client:
        stream = client.ask("/static/large.bin")
        client.until(lambda: client.answers[stream].body)
        client.machine.reset_stream(stream, ErrorCodes.CANCEL)
        client.flush()
        assert ended(log, "/static/large.bin") == ["200 reset"]
        assert client.get("/pid").status == 200


def test_json_has_the_word_too(start: Start, log: Path) -> None:
    server = start("echo", "--access-logfile", str(log), "--access-logformat", "json")
    server.get("/a")
    until(lambda: '"/a"' in log.read_text(), 10, "the line is there")
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [e["ended"] for e in entries if e["target"] == "/a"] == ["done"]


@pytest.mark.parametrize(
    ("leave", "count"),
    [
        (lambda c: c.socket.close(), "connections_unused_closed"),
        (lambda c: c.reset(), "connections_unused_closed"),
    ],
)
def test_connections_without_a_request_are_counted(
    start: Start, log: Path, leave: Callable[..., None], count: str
) -> None:
    server = served(start, log, "echo", "--log-level", "debug")
    before = status(server)[count]
    leave(server.connect())
    until(lambda: status(server)[count] == before + 1, 10, "it is counted")
    server.wait_for_log(re.escape("a connection ended without a request"))
    server.get("/a")
    with server.connect() as connection:
        connection.request("GET", "/b")
    assert ended(log, "/b") == ["200 done"]
    assert status(server)[count] == before + 1, "those with a request are not"


def test_handshakes_that_fail_or_never_end_are_counted(start: Start, log: Path, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path, "localhost")
    server = served(start, log, "echo", "--tls-cert", str(chain), "--tls-key", str(key))
    with server.connect() as silent:
        with server.connect() as wrong:
            wrong.send(b"\x16\x03\x01\x00\x02no")
            until(lambda: status(server)["connections_unused_refused"] == 1, 10, "it is refused")
        with server.connect() as plain:
            plain.send(GET % b"/plain").rest()
        until(lambda: status(server)["connections_unused_refused"] == 2, 10, "it is refused")
        until(lambda: status(server)["connections_unused_timed_out"] == 1, 20, "it is given up")
        # The last word is that of TLS.
        silent.rest()
    with server.connect(tls=context(chain)) as connection:
        assert connection.request("GET", "/sized/100000").status == 200
    assert ended(log, "/sized/100000") == ["200 done"]
    assert "/plain" not in log.read_text()

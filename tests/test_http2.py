"""HTTP/2: both transports, over TLS and in the clear, and what hostile clients do with it (H14)."""

import hashlib
import json
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from conftest import TRANSPORTS, Start
from h2.errors import ErrorCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from support import procs
from support.http import request
from support.http2 import CALM, PREFACE, Peer
from support.poll import until
from support.server import Server
from test_tls import certificate

MIB = 1 << 20
LARGE = hashlib.sha256(b"large").digest() * (10 * MIB // 32)
SMALL = b"body { color: teal }\n" * 40
BLOCK = bytes(range(256)) * 256
# What the edge may grow by under any attack from a handful of connections.
GROWTH_BYTES_MAX = 24 * MIB


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where the edge's own account can read."""
    made = Path(tempfile.mkdtemp(prefix="trivet-h2-", dir="/var/tmp"))
    made.chmod(0o755)
    (made / "large.bin").write_bytes(LARGE)
    (made / "site.css").write_bytes(SMALL)
    (made / "kept.bin").write_bytes(LARGE[:60_000])
    try:
        yield made
    finally:
        shutil.rmtree(made)


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("identity"), "localhost")


def flags(folder: Path) -> list[str]:
    return ["--static", f"/static={folder}", "--threads", "16"]


@pytest.fixture(scope="module")
def server(start_shared: Callable[..., Server], shared_transport: str, folder: Path) -> Server:
    return start_shared(
        "streams",
        *["--transport", shared_transport, *flags(folder)],
        env={"BIG_FILE": str(folder / "large.bin")},
    )


@pytest.fixture(scope="module")
def secure(
    start_shared: Callable[..., Server], shared_transport: str, folder: Path, identity: tuple[Path, Path]
) -> Server:
    return start_shared(
        "streams",
        *["--transport", shared_transport, *flags(folder)],
        *["--tls-cert", str(identity[0]), "--tls-key", str(identity[1])],
        env={"BIG_FILE": str(folder / "large.bin")},
    )


@pytest.fixture(params=TRANSPORTS)
def streaming(start: Start, request: pytest.FixtureRequest, folder: Path) -> Server:
    return start(
        "streams",
        *["--transport", request.param, "--no-request-buffering", *flags(folder)],
        env={"BIG_FILE": str(folder / "large.bin")},
    )


def trust(identity: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(identity[0]))
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def url(server: Server, path: str, scheme: str = "http") -> str:
    host, port = server.address
    return f"{scheme}://{'localhost' if scheme == 'https' else host}:{port}{path}"


def digest(body: bytes) -> list[object]:
    return [len(body), hashlib.sha256(body).hexdigest()]


def command(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, timeout=120).stdout.decode()


# ---------------------------------------------------------------------- usual clients


def test_curl_speaks_it_in_the_clear_and_over_tls(
    server: Server, secure: Server, identity: tuple[Path, Path]
) -> None:
    shown = json.loads(command("curl", "-sS", "--http2-prior-knowledge", url(server, "/show")))
    assert (shown["SERVER_PROTOCOL"], shown["wsgi.url_scheme"]) == ("HTTP/2", "http")
    curl = ["curl", "-sS", "--http2", "--cacert", str(identity[0])]
    shown = json.loads(command(*curl, url(secure, "/show", "https")))
    assert (shown["SERVER_PROTOCOL"], shown["wsgi.url_scheme"]) == ("HTTP/2", "https")
    shown = json.loads(command("curl", "-sS", "--http1.1", *curl[3:], url(secure, "/show", "https")))
    assert shown["SERVER_PROTOCOL"] == "HTTP/1.1"


def test_httpx_speaks_it(secure: Server, identity: tuple[Path, Path]) -> None:
    with httpx.Client(http2=True, verify=trust(identity), timeout=20) as client:
        for _ in range(20):
            answer = client.get(url(secure, "/show?a=b", "https"), headers={"X-One": "1"})
            assert answer.http_version == "HTTP/2"
            assert answer.json()["QUERY_STRING"] == "a=b"
        body = os.urandom(300_000)
        assert client.post(url(secure, "/read", "https"), content=body).json() == digest(body)


@pytest.mark.parametrize("target", ["/static/site.css", "/status/200"])
def test_many_requests_on_many_streams_without_a_failure(server: Server, target: str) -> None:
    said = command("h2load", "-n", "20000", "-c", "16", "-m", "32", url(server, target))
    assert "20000 succeeded, 0 failed, 0 errored" in said


def test_many_requests_over_tls(secure: Server) -> None:
    said = command("h2load", "-n", "10000", "-c", "8", "-m", "16", url(secure, "/status/200", "https"))
    assert "10000 succeeded, 0 failed, 0 errored" in said


def test_nghttp_understands_every_frame(server: Server) -> None:
    said = command("nghttp", "-v", url(server, "/hints"))
    assert "103" in said
    assert "hinted" in said


# ---------------------------------------------------------------------- requests and answers


def test_heads_are_those_of_the_protocol(server: Server) -> None:
    with Peer(server.address) as peer:
        answer = peer.get("/status/200")
        assert (answer.status, answer.body) == (200, b"sent")
        assert answer.fields["server"] == "trivet"
        assert answer.fields["date"]
        assert answer.fields["x-request-id"]
        assert answer.fields["x-kept"] == "yes"
        assert not answer.fields.keys() & {"connection", "keep-alive", "transfer-encoding"}
        assert answer.fields["content-length"] == "4"


@pytest.mark.parametrize("status", ["204", "304"])
def test_h12_some_answers_have_no_body(server: Server, status: str) -> None:
    with Peer(server.address) as peer:
        answer = peer.get(f"/status/{status}")
        assert (answer.status, answer.body, answer.ended) == (int(status), b"", True)
        assert peer.get("/status/200").body == b"sent"


def test_head_has_the_fields_alone(server: Server) -> None:
    with Peer(server.address) as peer:
        for target, size in ("/generate-sized/65536", 65_536), ("/static/site.css", len(SMALL)):
            answer = peer.get(target, "HEAD")
            assert (answer.status, answer.body) == (200, b"")
            assert answer.fields["content-length"] == str(size)


def test_what_the_app_sees(server: Server) -> None:
    with Peer(server.address) as peer:
        more = [("cookie", "a=1"), ("x-twice", "1"), ("cookie", "b=2"), ("x-twice", "2"), ("te", "trailers")]
        shown = json.loads(peer.get("/show/a%20b?q=%20", more=more).body)
        assert shown["SERVER_PROTOCOL"] == "HTTP/2"
        assert shown["HTTP_COOKIE"] == "a=1; b=2"
        assert shown["HTTP_X_TWICE"] in ("1,2", "1, 2")
        assert shown["HTTP_HOST"] == peer.authority
        assert shown["PATH_INFO"] == "/show/a b"
        assert shown["QUERY_STRING"] == "q=%20"
        assert shown["REMOTE_ADDR"] == "127.0.0.1"
        assert not {"HTTP_TE", "HTTP_TRANSFER_ENCODING"} & shown.keys()


def test_trailers_of_a_request_are_dropped(server: Server) -> None:
    with Peer(server.address) as peer:
        stream = peer.machine.get_next_available_stream_id()
        peer.machine.send_headers(stream, peer.fields("POST", "/read"))
        peer.machine.send_data(stream, b"body")
        peer.machine.send_headers(stream, [("x-sum", "1")], end_stream=True)
        peer.flush()
        assert json.loads(peer.wait(stream).body) == digest(b"body")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([("host", "other.example")], 400),
        ([("content-length", "1"), ("content-length", "1")], 400),
        ([("x-field", "a" * 40_000)], 431),
        ([(f"x-{n}", "a") for n in range(120)], 431),
        ([("expect", "miracles")], 417),
    ],
)
def test_what_is_refused_is_refused_alone(server: Server, fields: list[tuple[str, str]], status: int) -> None:
    with Peer(server.address) as peer:
        body = b"1" if fields[0][0] == "content-length" else None
        answer = peer.get("/read", "POST" if body else "GET", fields, body)
        assert answer.status == status
        assert peer.get("/status/200").status == 200


@pytest.mark.parametrize("path", ["http://other.example/", "?q", "a", "*", "/a b", "/\u00e9", "/%00"])
def test_paths_that_are_none_are_refused(server: Server, path: str) -> None:
    with Peer(server.address) as peer:
        answer = peer.get(path)
        assert answer.status == 400 or answer.reset == ErrorCodes.PROTOCOL_ERROR
        assert peer.get("/status/200").status == 200


def test_connect_and_trace_are_not_there(server: Server) -> None:
    with Peer(server.address) as peer:
        assert peer.get("/status/200").status == 200
        # RFC 8441 §3: nobody may ask for what was not offered.
        assert not peer.machine.remote_settings.enable_connect_protocol
        stream = peer.machine.get_next_available_stream_id()
        peer.machine.send_headers(stream, [(":method", "CONNECT"), (":authority", "a.example:443")])
        peer.flush()
        assert peer.wait(stream).status == 501
        assert peer.get("/", "TRACE").status == 501
        stream = peer.machine.get_next_available_stream_id()
        peer.machine.send_headers(stream, [*peer.fields("CONNECT", "/"), (":protocol", "websocket")])
        peer.flush()
        assert peer.wait(stream).reset == ErrorCodes.PROTOCOL_ERROR
        assert peer.get("/status/200").status == 200


@pytest.mark.parametrize(
    "field", ["connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection"]
)
def test_fields_of_connections_make_a_request_malformed(server: Server, field: str) -> None:
    with Peer(server.address) as peer:
        answer = peer.get("/status/200", more=[(field, "a")])
        assert answer.reset == ErrorCodes.PROTOCOL_ERROR
        assert peer.get("/status/200").status == 200


def test_a_name_in_capitals_ends_the_connection(server: Server) -> None:
    with Peer(server.address) as peer:
        peer.ask("/status/200", more=[("X-Upper", "a")])
        assert peer.until_closed() == ErrorCodes.PROTOCOL_ERROR


@pytest.mark.parametrize("size", [0, 1, 16_384, 65_537, 5 * MIB])
def test_bodies_that_are_taken_whole(server: Server, size: int) -> None:
    body = os.urandom(size)
    with Peer(server.address) as peer:
        assert json.loads(peer.get("/read", "POST", body=body).body) == digest(body)
        sized = [("content-length", str(size))]
        assert json.loads(peer.get("/upload", "POST", sized, body).body) == digest(body)


@pytest.mark.parametrize("target", ["/upload", "/upload-with-pause"])
def test_bodies_that_are_streamed(streaming: Server, target: str) -> None:
    body = os.urandom(8 * MIB)
    with Peer(streaming.address) as peer:
        assert json.loads(peer.get(target, "POST", body=body).body) == digest(body)
        assert json.loads(peer.get(target, "POST", body=b"").body) == digest(b"")
        sized = [("content-length", str(len(body)))]
        assert json.loads(peer.get(target, "POST", sized, body).body) == digest(body)
        # The end comes by itself, long after the last byte.
        stream = peer.machine.get_next_available_stream_id()
        peer.machine.send_headers(stream, peer.fields("POST", target))
        peer.machine.send_data(stream, b"abc")
        peer.flush()
        time.sleep(0.3)
        peer.machine.end_stream(stream)
        peer.flush()
        assert json.loads(peer.wait(stream).body) == digest(b"abc")


@pytest.mark.parametrize("sent", [b"short", b"much too long"])
def test_a_body_that_is_not_what_its_length_says(server: Server, sent: bytes) -> None:
    with Peer(server.address) as peer:
        stream = peer.machine.get_next_available_stream_id()
        peer.machine.send_headers(stream, peer.fields("POST", "/read", [("content-length", "8")]))
        peer.flush()
        frame = DataFrame(stream, sent)
        frame.flags.add("END_STREAM")
        peer.raw(frame)
        assert peer.wait(stream).reset == ErrorCodes.PROTOCOL_ERROR
        assert peer.get("/status/200").status == 200


def test_an_answer_before_the_body_was_read(streaming: Server) -> None:
    with Peer(streaming.address) as peer:
        stream = peer.machine.get_next_available_stream_id()
        peer.machine.send_headers(stream, peer.fields("POST", "/early"))
        peer.machine.send_data(stream, b"a" * 1000)
        peer.flush()
        answer = peer.answers[stream]
        peer.until(lambda: answer.reset is not None)
        assert (answer.status, answer.body, answer.ended) == (200, b"not read", True)
        assert answer.reset == ErrorCodes.NO_ERROR
        assert peer.get("/status/200").status == 200


def test_a_body_over_the_limit(start: Start) -> None:
    server = start("streams", "--limit-request-body", "1000")
    with Peer(server.address) as peer:
        assert peer.get("/read", "POST", [("content-length", "2000")], b"a" * 2000).status == 413
        stream = peer.machine.get_next_available_stream_id()
        peer.machine.send_headers(stream, peer.fields("POST", "/read"))
        peer.machine.send_data(stream, b"a" * 2000)
        peer.flush()
        peer.until(lambda: peer.answers[stream].status)
        assert peer.answers[stream].status == 413
        assert peer.get("/read", "POST", body=b"a" * 1000).status == 200


def test_h11_continue_is_sent_to_who_waits_for_it(server: Server, streaming: Server) -> None:
    for each in server, streaming:
        with Peer(each.address) as peer:
            stream = peer.machine.get_next_available_stream_id()
            more = [("expect", "100-continue"), ("content-length", "4")]
            peer.machine.send_headers(stream, peer.fields("POST", "/read", more))
            peer.flush()
            answer = peer.answers[stream]
            peer.until(lambda answer=answer: answer.informational)
            assert answer.informational == [[(":status", "100")]]
            peer.upload(stream, b"body")
            assert json.loads(peer.wait(stream).body) == digest(b"body")


def test_w42_early_hints_on_both_protocols(server: Server) -> None:
    with Peer(server.address) as peer:
        answer = peer.get("/hints")
        hints = [(":status", "103"), ("link", "</a.css>; rel=preload"), ("link", "</b.js>; rel=preload")]
        assert answer.informational == [hints]
        assert (answer.status, answer.body) == (200, b"hinted")
    with server.connect() as connection:
        connection.send(request("GET", "/hints", {}))
        raw = b""
        while b"hinted" not in raw:
            raw += connection.socket.recv(4096)
        assert raw.startswith(b"HTTP/1.1 103 Early Hints\r\n")
        assert raw.index(b"Link: </b.js>; rel=preload\r\n\r\n") < raw.index(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("over", ["clear", "tls"])
def test_large_answers_arrive_unchanged(
    server: Server, secure: Server, identity: tuple[Path, Path], over: str
) -> None:
    made = {
        "/generate": BLOCK * (8 * MIB // len(BLOCK)),
        "/generate-sized": BLOCK * (8 * MIB // len(BLOCK)),
    }
    address = server.address if over == "clear" else ("localhost", secure.address[1])
    with Peer(address, tls=trust(identity) if over == "tls" else None) as peer:
        streams = {peer.ask(f"{kind}/{8 * MIB}"): body for kind, body in made.items()}
        streams |= {peer.ask("/file"): LARGE, peer.ask("/static/large.bin"): LARGE}
        for stream, body in streams.items():
            answer = peer.wait(stream)
            assert answer.reset is None
            assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest()


def test_files_and_their_parts(server: Server) -> None:
    with Peer(server.address) as peer:
        whole = peer.get("/static/site.css")
        assert (whole.status, whole.body) == (200, SMALL)
        assert whole.fields["content-type"] == "text/css; charset=utf-8"
        assert whole.fields["etag"]
        assert peer.get("/static/site.css", more=[("if-none-match", whole.fields["etag"])]).status == 304
        part = peer.get("/static/site.css", more=[("range", "bytes=10-19")])
        assert (part.status, part.body) == (206, SMALL[10:20])
        assert part.fields["content-range"] == f"bytes 10-19/{len(SMALL)}"
        part = peer.get("/static/large.bin", more=[("range", "bytes=1000000-3000000")])
        assert (part.status, part.body) == (206, LARGE[1_000_000:3_000_001])
        several = peer.get("/static/large.bin", more=[("range", "bytes=0-9,100-109")])
        assert several.fields["content-type"].startswith("multipart/byteranges; boundary=")
        assert LARGE[100:110] in several.body
        beyond = peer.get("/static/site.css", more=[("range", "bytes=99999999-")])
        assert (beyond.status, beyond.fields["content-range"]) == (416, f"bytes */{len(SMALL)}")
        assert peer.get("/static/none").status == 404
        assert peer.get("/static/site.css", "DELETE").fields["allow"] == "GET, HEAD"


def test_events_come_one_by_one(server: Server) -> None:
    with Peer(server.address) as peer:
        stream = peer.ask("/events/5")
        arrivals = []
        seen = 0
        while not peer.answers[stream].ended:
            peer.pump()
            lines = peer.answers[stream].body.count(b"\n\n")
            arrivals += [time.monotonic()] * (lines - seen)
            seen = lines
        assert seen == 5
        assert arrivals[-1] - arrivals[0] > 0.3


def test_the_preface_may_come_in_pieces(server: Server) -> None:
    for cut in (1, 3, 14, 16, 18, 23):
        with socket.create_connection(server.address) as plain:
            plain.settimeout(5)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.sendall(PREFACE[:cut])
            time.sleep(0.05)
            plain.sendall(PREFACE[cut:] + SettingsFrame(0).serialize())
            assert plain.recv(9)[3] == 4, "SETTINGS"
    for nonsense in b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", b"PRI / HTTP/2.0\r\n\r\n", b"GET / HTTP/2.0\r\n\r\n":
        with socket.create_connection(server.address) as plain:
            plain.settimeout(5)
            plain.sendall(nonsense)
            assert plain.recv(4096).startswith((b"HTTP/1.1 505 ", b"HTTP/1.1 400 "))


def test_unix_sockets_speak_it(start: Start, tmp_path: Path) -> None:
    path = f"/tmp/trivet-h2-{os.getpid()}.sock"
    server = start("streams", bind=f"unix:{path}")
    curl = ["curl", "-sS", "--http2-prior-knowledge", "--unix-socket", path, "http://some.example/show"]
    shown = json.loads(command(*curl))
    assert (shown["SERVER_PROTOCOL"], shown["HTTP_HOST"]) == ("HTTP/2", "some.example")
    assert server.get("/status/200").status == 200


def test_upgrade_to_it_is_ignored(server: Server) -> None:
    with server.connect() as connection:
        more = {
            "Connection": "Upgrade, HTTP2-Settings",
            "Upgrade": "h2c",
            "HTTP2-Settings": "AAMAAABkAAQAAP__",
        }
        assert connection.request("GET", "/status/200", more).status == 200


def test_the_access_log_names_it(start: Start) -> None:
    server = start("streams", "--access-logfile", "-")
    with Peer(server.address) as peer:
        peer.get("/status/200?x")
        server.wait_for_log(r'"GET /status/200\?x HTTP/2\.0" 200 4')
        # Heads that are too large are refused by us, not by the machine, of which the log knows nothing.
        assert peer.get("/a", more=[("x-large", "a" * 40_000)]).status == 431
        server.wait_for_log(r'"-" 431 ')
        assert peer.get("/b", more=[(f"x-{n}", "a" * 600) for n in range(70)]).status == 431
        until(lambda: server.log().count('"-" 431 ') == 2)


# ---------------------------------------------------------------------- what goes wrong


def test_an_app_that_fails_in_mid_body_never_ends_it(server: Server) -> None:
    with Peer(server.address) as peer:
        answer = peer.get("/fails")
        assert (answer.body, answer.ended) == (b"a part", False)
        assert answer.reset == ErrorCodes.INTERNAL_ERROR
        assert peer.get("/status/200").status == 200


def test_a_worker_killed_in_mid_answer_resets_its_streams_alone(start: Start, transport: str) -> None:
    server = start("streams", "--transport", transport, "--workers", "2", "--threads", "4")
    with Peer(server.address) as peer:
        streams = [peer.ask(f"/endless/{n}") for n in range(6)]
        peer.until(lambda: all(peer.answers[s].body for s in streams))
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        for stream in streams:
            assert peer.wait(stream).reset == ErrorCodes.INTERNAL_ERROR
        assert peer.get("/status/200").status == 200
        assert peer.goaway is None


def test_a_client_that_resets_a_stream_ends_the_request(server: Server) -> None:
    key = os.urandom(4).hex()
    with Peer(server.address) as peer:
        stream = peer.ask(f"/endless/{key}")
        peer.until(lambda: peer.answers[stream].body)
        peer.machine.reset_stream(stream, ErrorCodes.CANCEL)
        peer.flush()
        until(lambda: key in json.loads(server.get("/seen").body), 10, "the app's generator was closed")
        assert peer.get("/status/200").status == 200


def test_a_client_that_goes_ends_all_its_requests(server: Server) -> None:
    keys = [os.urandom(4).hex() for _ in range(4)]
    with Peer(server.address) as peer:
        streams = [peer.ask(f"/endless/{key}") for key in keys]
        peer.until(lambda: all(peer.answers[s].body for s in streams))
    until(lambda: set(keys) <= set(json.loads(server.get("/seen").body)), 10, "all generators were closed")


def test_a_slow_reader_holds_up_nobody_and_no_memory(server: Server) -> None:
    edge = server.edge()
    with Peer(server.address, window=64, opens_windows=False) as peer:
        before = procs.memory_bytes(edge)
        stuck = [peer.ask("/static/large.bin") for _ in range(50)]
        stuck += [peer.ask(f"/generate/{64 * MIB}") for _ in range(8)]
        # Its own window is for each stream: one that reads goes on beside those that do not.
        reads = peer.ask("/status/200")
        assert peer.wait(reads).body == b"sent"
        for _ in range(20):
            stream = peer.ask("/events/1")
            peer.until(lambda stream=stream: peer.answers[stream].body)
            if peer.answers[stream].ended:
                continue
            peer.machine.increment_flow_control_window(1000, stream)
            peer.flush()
            assert peer.wait(stream).ended
        assert all(len(peer.answers[s].body) <= 64 for s in stuck)
        assert procs.memory_bytes(edge) - before < GROWTH_BYTES_MAX
        with server.connect() as other:
            assert other.request("GET", "/status/200").status == 200


@pytest.mark.parametrize("over", ["clear", "tls"])
def test_a_client_that_reads_nothing_costs_little(
    server: Server, secure: Server, identity: tuple[Path, Path], over: str
) -> None:
    server = server if over == "clear" else secure
    edge = server.edge()
    before = procs.memory_bytes(edge)
    tls = trust(identity) if over == "tls" else None
    with Peer(server.address, tls=tls, window=1 << 30, opens_windows=False, receive_buffer=4096) as peer:
        for _ in range(20):
            peer.ask("/static/large.bin")
        time.sleep(1)
        assert procs.memory_bytes(edge) - before < 4 * MIB
        with Peer(server.address, tls=tls) as other:
            assert other.get("/status/200").status == 200
        # Once it reads, everything comes.
        peer.opens_windows = True
        assert hashlib.sha256(peer.wait(1, 60).body).digest() == hashlib.sha256(LARGE).digest()


@pytest.mark.parametrize("over", ["clear", "tls"])
def test_a_graceful_stop_finishes_what_is_under_way(
    start: Start, transport: str, identity: tuple[Path, Path], over: str
) -> None:
    tls = ["--tls-cert", str(identity[0]), "--tls-key", str(identity[1])] if over == "tls" else []
    server = start("streams", "--transport", transport, "--threads", "4", *tls)
    address = ("localhost", server.address[1]) if tls else server.address
    with (
        Peer(address, tls=trust(identity) if tls else None) as peer,
        Peer(address, tls=trust(identity) if tls else None) as idle,
    ):
        assert idle.get("/status/200").status == 200
        slow, events = peer.ask("/slow/1"), peer.ask("/events/12")
        peer.until(lambda: peer.answers[events].body)
        server.signal(signal.SIGTERM)
        peer.until(lambda: peer.goaway is not None)
        assert peer.goaway == ErrorCodes.NO_ERROR
        assert peer.goaways[0] == (1 << 31) - 1
        assert peer.wait(slow).body == b"slow"
        assert peer.wait(events).body.count(b"\n\n") == 12
        assert peer.until_closed() == ErrorCodes.NO_ERROR
        assert idle.until_closed() == ErrorCodes.NO_ERROR
    assert server.wait() == 0


def test_an_idle_connection_is_told_to_go(start: Start) -> None:
    server = start("streams", "--keep-alive", "1")
    with Peer(server.address) as peer:
        peer.get("/slow/2.5")
        began = time.monotonic()
        assert peer.until_closed() == ErrorCodes.NO_ERROR
        assert 0.5 < time.monotonic() - began < 4


# ---------------------------------------------------------------------- floods


class Probe:
    """Asks again and again on a connection of its own; the slowest answer tells what the others suffer."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.slowest = 0.0
        self.count = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        with self.server.connect() as connection:
            while not self.stop.is_set():
                began = time.monotonic()
                assert connection.request("GET", "/static/site.css").status == 200
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.count += 1
                time.sleep(0.005)

    def __enter__(self) -> "Probe":
        self.edge = self.server.edge()
        self.before = procs.memory_bytes(self.edge)
        self.thread.start()
        until(lambda: self.count > 0, 10, "the probe is answered")
        return self

    def __exit__(self, *failed: object) -> None:
        self.growth = procs.memory_bytes(self.edge) - self.before
        self.stop.set()
        self.thread.join()
        if not any(failed):
            assert self.count > 0
            assert self.slowest < 0.5, f"an answer took {self.slowest} s"
            assert self.growth < GROWTH_BYTES_MAX, f"{self.growth / MIB:.1f} MiB more"


def attack(peer: Peer, piece: Callable[[int], bytes], pieces: int) -> int | None:
    """Sends until the server has had enough; returns what it said."""
    raw = Raw(peer.socket)
    for number in range(pieces):
        if select.select([peer.socket], [], [], 0)[0] and not raw.read():
            break
        if raw.goaway is not None:
            break
        peer.socket.settimeout(0.5)
        try:
            peer.socket.sendall(piece(number))
        except OSError:
            # Full, or closed: what was said before that is still there to read.
            break
    while raw.read():
        pass
    return raw.goaway


def opening(peer: Peer, encoder: Encoder, stream: int, path: str = "/slow/0.2", end: bool = True) -> bytes:
    frame = HeadersFrame(stream, encoder.encode(peer.fields("GET", path)))
    frame.flags.add("END_HEADERS")
    if end:
        frame.flags.add("END_STREAM")
    return frame.serialize()


def test_h14_rapid_reset(server: Server) -> None:
    encoder = Encoder()

    def piece(number: int) -> bytes:
        stream = 2 * number + 1
        return opening(peer, encoder, stream) + RstStreamFrame(stream, 8).serialize()

    with Probe(server):
        for _ in range(5):
            encoder = Encoder()
            with Peer(server.address) as peer:
                peer.pump()
                assert attack(peer, piece, 50_000) == CALM


def test_h14_made_you_reset(server: Server) -> None:
    """The client breaks rules so that the server resets each stream: RFC-wise its own resets."""

    def zero_window(stream: int) -> bytes:
        return WindowUpdateFrame(stream, 0).serialize()

    def overflow(stream: int) -> bytes:
        return WindowUpdateFrame(stream, (1 << 31) - 1).serialize() * 2

    def half_closed(stream: int) -> bytes:
        return DataFrame(stream, b"more").serialize()

    with Probe(server):
        for breach in zero_window, overflow, half_closed:
            encoder = Encoder()

            def piece(number: int, breach: Callable[[int], bytes] = breach) -> bytes:
                return opening(peer, encoder, 2 * number + 1) + breach(2 * number + 1)  # noqa: B023

            with Peer(server.address) as peer:
                peer.pump()
                said = attack(peer, piece, 50_000)
                assert said in (
                    CALM,
                    ErrorCodes.PROTOCOL_ERROR,
                    ErrorCodes.STREAM_CLOSED,
                    ErrorCodes.FLOW_CONTROL_ERROR,
                )


def test_h14_continuation_without_end(server: Server) -> None:
    with Probe(server):
        for payload in b"", b"\x00\x01a\x01b" * 2000:
            with Peer(server.address) as peer:
                peer.pump()
                begin = HeadersFrame(1, Encoder().encode(peer.fields("GET", "/"))).serialize()
                peer.raw(begin)
                assert (
                    attack(peer, lambda _, p=payload: ContinuationFrame(1, p).serialize(), 50_000) is not None
                )


def test_h14_frames_that_bring_nothing(server: Server) -> None:
    floods = {
        "SETTINGS": SettingsFrame(0, settings={3: 100, 4: 65_535}).serialize(),
        "PING": PingFrame(0, b"12345678").serialize(),
        "PRIORITY": PriorityFrame(1, depends_on=3).serialize(),
        "WINDOW_UPDATE": WindowUpdateFrame(0, 1).serialize(),
        "unknown": b"\0\0\0\xbe\0\0\0\0\0",
    }
    with Probe(server):
        for name, frame in floods.items():
            with Peer(server.address) as peer:
                peer.pump()
                assert attack(peer, lambda _, f=frame: f * 100, 10_000) == CALM, name


def test_h14_empty_data(server: Server) -> None:
    with Probe(server):
        for data in b"", b"a":
            with Peer(server.address) as peer:
                stream = peer.machine.get_next_available_stream_id()
                peer.machine.send_headers(stream, peer.fields("POST", "/read"))
                peer.flush()
                frame = DataFrame(stream, data).serialize()
                assert attack(peer, lambda _, f=frame: f * 100, 10_000) == CALM


def test_h14_header_bombs(server: Server) -> None:
    """A field of 4 KB in the table, then a frame of nothing but references to it."""
    with Probe(server):
        for _ in range(3):
            encoder = Encoder()
            with Peer(server.address) as peer:
                peer.pump()
                first = HeadersFrame(
                    1, encoder.encode([*peer.fields("GET", "/status/200"), ("x-bomb", "b" * 3900)])
                )
                first.flags |= {"END_HEADERS", "END_STREAM"}
                peer.raw(first)
                base = encoder.encode(peer.fields("GET", "/status/200"))

                def piece(number: int, base: bytes = base) -> bytes:
                    frame = HeadersFrame(2 * number + 3, base + b"\xbe" * (16_384 - len(base)))
                    frame.flags |= {"END_HEADERS", "END_STREAM"}
                    return frame.serialize()

                assert attack(peer, piece, 10_000) is not None


def test_h14_windows_that_never_open(server: Server) -> None:
    peers = []
    with Probe(server):
        try:
            for _ in range(8):
                peer = Peer(server.address, window=0, opens_windows=False)
                peers.append(peer)
                for _ in range(60):
                    peer.ask("/static/kept.bin")
                    peer.ask("/static/large.bin")
            for peer in peers:
                peer.until(lambda peer=peer: all(peer.answers[s].status for s in range(1, 241, 2)))
            assert not any(a.body for peer in peers for a in peer.answers.values())
            # One byte at a time is no way to read either.
            drip = b"".join(WindowUpdateFrame(s, 1).serialize() for s in range(1, 241, 2))
            assert attack(peers[0], lambda _: drip, 5_000) == CALM
        finally:
            for peer in peers:
                peer.socket.close()


def test_h14_more_streams_than_allowed_are_refused(server: Server) -> None:
    with Probe(server), Peer(server.address) as peer:
        encoder = Encoder()
        peer.pump()
        peer.raw(*[opening(peer, encoder, 2 * n + 1, "/slow/0.3") for n in range(200)])
        raw = Raw(peer.socket)
        while len(raw.ended | raw.reset) < 200:
            assert raw.read()
        assert len(raw.reset) == 200 - 128
        assert len(raw.ended) == 128


def test_h13_a_head_that_does_not_come_whole(start: Start) -> None:
    server = start("streams")  # 10 s
    with Peer(server.address) as peer:
        peer.pump()
        frame = HeadersFrame(1, Encoder().encode(peer.fields("GET", "/")))
        peer.raw(frame)
        began = time.monotonic()
        while time.monotonic() - began < 8:
            peer.socket.sendall(ContinuationFrame(1, b"").serialize())
            peer.pump(3)
        assert peer.until_closed(15) == CALM
        assert 9 < time.monotonic() - began < 13
    with socket.create_connection(server.address) as plain:
        plain.settimeout(13)
        plain.sendall(PREFACE[:20])
        plain.recv(100)


def test_h13_a_body_that_does_not_come_costs_its_stream_alone(server: Server) -> None:
    with Peer(server.address, seconds=50) as peer:
        stream = peer.machine.get_next_available_stream_id()
        peer.machine.send_headers(stream, peer.fields("POST", "/read"))
        peer.flush()
        answer = peer.answers[stream]
        peer.until(lambda: answer.status, 40)
        assert answer.status == 408
        assert peer.get("/status/200").status == 200


@pytest.mark.slow
def test_h13_a_window_that_never_opens_costs_its_stream_alone(server: Server) -> None:
    with Peer(server.address, window=10, opens_windows=False, seconds=80) as peer:
        stuck = [peer.ask("/static/kept.bin"), peer.ask("/static/large.bin"), peer.ask("/generate/655360")]
        for stream in stuck:
            peer.until(lambda stream=stream: peer.answers[stream].reset is not None, 70)
        assert peer.get("/status/200").status == 200


class Raw:
    """What has become of the streams, by frame headers alone: the library follows no breach of its rules."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.buffer = b""
        self.ended: set[int] = set()
        self.reset: set[int] = set()
        self.goaway: int | None = None

    def read(self) -> bool:
        """`False`: the end."""
        self.connection.settimeout(10)
        try:
            data = self.connection.recv(1 << 16)
        except ConnectionResetError:
            return False
        self.buffer += data
        while len(self.buffer) >= 9:
            length = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + length:
                break
            kind, bits = self.buffer[3], self.buffer[4]
            stream = int.from_bytes(self.buffer[5:9], "big")
            if kind in (0, 1) and bits & 1:
                self.ended.add(stream)
            if kind == 3:
                self.reset.add(stream)
            if kind == 7:
                self.goaway = int.from_bytes(self.buffer[13:17], "big")
            self.buffer = self.buffer[9 + length :]
        return bool(data)

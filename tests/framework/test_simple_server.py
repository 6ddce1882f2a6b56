"""`trivet.simple_server` on a socket."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest
from trivet.simple_server import Server, make_server, serve_in_thread

PACKAGE = Path(__file__).resolve().parents[2] / "python"
closed: list[str] = []


class Closing:
    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = iter(pieces)

    def __iter__(self) -> Iterator[bytes]:
        return self.pieces

    def close(self) -> None:
        closed.append("closed")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    text = [("Content-Type", "text/plain")]
    if path == "/echo":
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or -1))
        start_response("200 OK", text)
        return [environ["REQUEST_METHOD"].encode(), b" ", body]
    if path == "/stream":
        start_response("200 OK", text)
        return Closing([b"one", b"", b"two"])
    if path == "/empty":
        start_response("204 No Content", [])
        return []
    if path == "/raise":
        raise ValueError("<secret>")
    if path == "/late":
        start_response("200 OK", text)
        return (b"x" if number == 0 else 1 / 0 for number in range(2))  # type: ignore[misc]
    if path == "/split":
        start_response("200 OK", [*text, ("X-A", "a\r\nX-B: b")])
        return [b""]
    if path == "/ignores":
        start_response("200 OK", text)
        return [b"ignored"]
    told = f"{path} {environ['QUERY_STRING']} {environ['HTTP_X_A']} {environ.get('HTTP_X_U')}"
    start_response("200 OK", text)
    return [told.encode("latin-1")]


@pytest.fixture
def server() -> Iterator[Server]:
    server, thread = serve_in_thread(app)
    yield server
    server.shutdown()
    thread.join(5)
    assert not thread.is_alive()


def ask(server: Server, raw: bytes) -> bytes:
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        got = b""
        while piece := connection.recv(65536):
            got += piece
        return got


def test_requests_follow_each_other_on_one_connection(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for method, path, body, expected in [
        ("POST", "/echo", b"x" * 300_000, b"POST " + b"x" * 300_000),
        ("GET", "/stream", None, b"onetwo"),
        ("GET", "/empty", None, b""),
        ("PUT", "/ignores", b"y" * 100_000, b"ignored"),
        ("HEAD", "/stream", None, b""),
        ("POST", "/echo", iter([b"ab", b"c"]), b"POST abc"),
    ]:
        connection.request(method, path, body, {"X-A": "1"}, encode_chunked=not isinstance(body, bytes))
        response = connection.getresponse()
        assert response.read() == expected, path
        sock = connection.sock
        assert sock is not None, f"{path} closed the connection"
    connection.close()
    assert closed.count("closed") == 2


def test_the_environ_is_as_the_request_said(server: Server) -> None:
    head = b"GET /a%2Fb%C3%A9?q=%20 HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\nX_U: no\r\n"
    head += b"Connection: close\r\n\r\n"
    head, _, body = ask(server, head).partition(b"\r\n\r\n")
    assert body.decode() == "/a/bé q=%20 1,2 None"
    assert b"Content-Length: 21\r\n" in head + b"\r\n"
    assert b"Connection: close" in head


@pytest.mark.parametrize(
    "head",
    [
        b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\nabc",
        b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\nabc",
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(server: Server, head: bytes) -> None:
    assert ask(server, head).startswith(b"HTTP/1.1 400 ")


def test_a_failure_is_a_500_and_a_cut_stream(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(server, b"GET /raise HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"ValueError" in answer
    assert b"secret" not in answer
    answer = ask(server, b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.endswith(b"1\r\nx\r\n"), "no last chunk: a part is not the whole"
    answer = ask(server, b"GET /split HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"X-B" not in answer
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_client_that_waits_for_leave_gets_it(server: Server) -> None:
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall(
            b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"hi")
        answer = b""
        while not answer.endswith(b"POST hi"):
            answer += connection.recv(65536) or pytest.fail(f"the end after {answer!r}")


def test_an_old_client_gets_the_end_of_the_connection_as_the_end_of_the_body(server: Server) -> None:
    answer = ask(server, b"GET /stream HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nonetwo")
    assert b"chunked" not in answer


def test_the_validator_is_content() -> None:
    def simple(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        assert environ["wsgi.input"].read(2) == b"ab"
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"fine"]

    server, thread = serve_in_thread(validator(simple))
    try:
        assert ask(server, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab").endswith(
            b"fine\r\n0\r\n\r\n"
        )
    finally:
        server.shutdown()
        thread.join(5)


def test_a_script_says_where_it_serves_and_ends_at_ctrl_c(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            from trivet.simple_server import run
            def hello(environ, start_response):
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [b"hello"]
            run(hello, port=0)
        """)
    )
    env = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        # A shell's background job has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("serving `hello` at http://127.0.0.1:"), line
        port = int(line.split("127.0.0.1:")[1].split()[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/x?y")
        assert connection.getresponse().read() == b"hello"
        connection.close()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(10) == 0
        assert " GET /x?y 200 " in rest
        assert rest.endswith("\nended\n")
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def test_a_port_that_is_taken_is_told_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    from trivet.simple_server import run

    server = make_server("127.0.0.1", 0, app, quiet=True)
    try:
        with pytest.raises(SystemExit):
            run(app, port=server.port)
    finally:
        server.server_close()
    said = capsys.readouterr().err
    assert said.startswith(f"error: cannot listen at 127.0.0.1:{server.port}: Address already in use\nhint: ")

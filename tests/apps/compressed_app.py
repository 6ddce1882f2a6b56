"""Answers of many kinds, to be compressed on their way; and files that the server is asked to send."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]


def app(environ: Environ, start_response: StartResponse) -> object:
    path = environ["PATH_INFO"]
    if path == "/json":
        start_response("200 OK", [("Content-Type", "application/json"), ("ETag", '"v1"')])
        return [b'["' + b"x" * 5000 + b'"]']
    if path == "/known":
        if environ.get("HTTP_IF_NONE_MATCH") == '"v1"':
            start_response("304 Not Modified", [("ETag", '"v1"')])
            return []
        start_response("200 OK", [("Content-Type", "text/plain"), ("ETag", '"v1"')])
        return [b"y" * 5000]
    if path == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream")])

        def events() -> Iterator[bytes]:
            for n in range(3):
                yield b"data: %d\n\n" % n
                time.sleep(0.3)

        return events()
    if path == "/large":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "20000000")])
        return (b"%09d\n" % n * 100 for n in range(20_000))
    if path == "/file":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](open(os.environ["LARGE"], "rb"))
    if path == "/short":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "9000")])
        return [b"z" * 5000]
    if path == "/breaks":
        start_response("200 OK", [("Content-Type", "text/plain")])

        def breaking() -> Iterator[bytes]:
            yield b"z" * 5000
            raise RuntimeError("in mid-answer")

        return breaking()
    if path.startswith("/as/"):
        kind, _, rest = path.removeprefix("/as/").partition("|")
        fields = [("Content-Type", kind)]
        if rest:
            name, _, value = rest.partition("=")
            fields.append((name, value))
        start_response("200 OK", fields)
        return [b"t" * 5000]
    if path.startswith("/send/"):
        name = environ["QUERY_STRING"] or "X-Accel-Redirect"
        fields = [
            ("Content-Type", "application/x-report"),
            ("Content-Disposition", "attachment; filename=report"),
            ("Set-Cookie", "seen=1"),
            ("X-Other", "stays here"),
            (name, path.removeprefix("/send/")),
        ]
        start_response("200 OK", fields)
        return [b"never seen"]
    if path == "/send-and-go-on":
        start_response("200 OK", [("X-Accel-Redirect", "/internal/report.bin")])
        return (b"n" * 65536 for _ in range(1000))
    start_response("404 Not Found", [])
    return [b""]

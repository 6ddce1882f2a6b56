"""Calls an application as a server would: WSGI under `wsgiref.validate`, and ASGI 3.0, both without sockets.

Written from PEP 3333 and the ASGI specification, not from the framework: the other side of the contract.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlencode
from wsgiref.validate import validator

from support import package

ROOT = Path(package.SOURCE).parent
HOST = "test.example"
SECONDS_MAX = 20.0
Fields = list[tuple[str, str]]


@dataclass
class Answer:
    """What came back. `body` is whole; `pieces` as they came; `log` what was written to `wsgi.errors`."""

    status: int
    fields: Fields
    body: bytes
    pieces: list[bytes] = field(default_factory=list)
    log: str = ""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The field's value; None where there is none. Twice is a mistake of the application."""
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def allow(self) -> set[str]:
        return {method.strip() for method in (self.get("Allow") or "").split(",")} - {""}


Ask = Callable[..., Answer]


def environ_of(
    method: str, target: str, fields: Iterable[tuple[str, str]] = (), body: bytes = b"", script_name: str = ""
) -> dict[str, Any]:
    """`target` as in the request line; its path is decoded as servers do, octet by octet."""
    path, _, query = target.partition("?")
    decoded = unquote_to_bytes(path).decode("latin-1")
    assert decoded.startswith(script_name)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": script_name,
        "PATH_INFO": decoded[len(script_name) :],
        "QUERY_STRING": query,
        "SERVER_NAME": HOST,
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.1",
        "HTTP_HOST": HOST,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if body:
        environ["CONTENT_LENGTH"] = str(len(body))
    for name, value in fields:
        key = name.upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ and key != "HTTP_HOST" else value
    return environ


def call(app: Any, environ: dict[str, Any], *, validate: bool = True) -> Answer:
    """One call of a WSGI application, read to its end and closed."""
    began: list[tuple[int, Fields]] = []
    pieces: list[bytes] = []
    errors = environ["wsgi.errors"]

    def start_response(status: str, headers: Fields, exc_info: Any = None) -> Callable[[bytes], object]:
        began.append((int(status[:3]), list(headers)))
        return pieces.append

    result = (validator(app) if validate else app)(environ, start_response)
    try:
        pieces.extend(result)
    finally:
        if hasattr(result, "close"):
            result.close()
    status, fields = began[-1]
    return Answer(status, fields, b"".join(pieces), pieces, errors.getvalue())


async def converse(
    app: Any,
    method: str,
    target: str,
    fields: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    root_path: str = "",
    scheme: str = "http",
) -> tuple[int, Fields, list[bytes]]:
    """One HTTP request to an ASGI application; the body comes in two messages."""
    path, _, query = target.partition("?")
    half = len(body) // 2
    incoming = [
        {"type": "http.request", "body": body[:half], "more_body": True},
        {"type": "http.request", "body": body[half:], "more_body": False},
    ]
    gone = asyncio.Event()
    begun: list[dict[str, Any]] = []
    pieces: list[bytes] = []
    ended = False

    async def receive() -> dict[str, Any]:
        if incoming:
            return incoming.pop(0)
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal ended
        assert not ended, "nothing may follow the last message"
        if message["type"] == "http.response.start":
            assert not begun, "two heads"
            begun.append(message)
            for name, value in message["headers"]:
                assert type(name) is bytes
                assert type(value) is bytes
                assert name == name.lower(), name
        else:
            assert message["type"] == "http.response.body", message
            assert begun, "a body before its head"
            pieces.append(bytes(message.get("body", b"")))
            ended = not message.get("more_body", False)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": scheme,
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": root_path,
        "headers": [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in fields],
        "client": ("192.0.2.1", 4711),
        "server": (HOST, 80),
    }
    await asyncio.wait_for(app(scope, receive, send), SECONDS_MAX)
    gone.set()
    assert ended, "the answer has no end"
    head = begun[0]
    return head["status"], [(n.decode("latin-1"), v.decode("latin-1")) for n, v in head["headers"]], pieces


def asgi_exchange(
    app: Any, method: str, target: str, fields: Iterable[tuple[str, str]], body: bytes
) -> tuple[int, Fields, bytes]:
    status, headers, pieces = asyncio.run(converse(app, method, target, fields, body))
    return status, headers, b"".join(pieces)


# What tests call


def prepared(
    fields: dict[str, str] | Fields | None, form: Any, data: Any, body: bytes, cookies: dict[str, str] | None
) -> tuple[Fields, bytes]:
    given = list(fields.items()) if isinstance(fields, dict) else list(fields or [])
    if form is not None:
        body = urlencode(form, doseq=True).encode()
        given.append(("Content-Type", "application/x-www-form-urlencoded"))
    if data is not None:
        body = json.dumps(data).encode()
        given.append(("Content-Type", "application/json"))
    if cookies:
        given.append(("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items())))
    return given, body


def ask_wsgi(
    app: Any,
    target: str = "/",
    method: str = "GET",
    *,
    fields: dict[str, str] | Fields | None = None,
    form: Any = None,
    data: Any = None,
    body: bytes = b"",
    cookies: dict[str, str] | None = None,
    scheme: str = "http",
) -> Answer:
    """One request under `wsgiref.validate`. `form` and `data` (JSON) are encoded."""
    given, body = prepared(fields, form, data, body, cookies)
    environ = environ_of(method, target, given, body)
    environ["wsgi.url_scheme"] = scheme
    return call(app, environ)


def ask_asgi(
    app: Any,
    target: str = "/",
    method: str = "GET",
    *,
    fields: dict[str, str] | Fields | None = None,
    form: Any = None,
    data: Any = None,
    body: bytes = b"",
    cookies: dict[str, str] | None = None,
    scheme: str = "http",
) -> Answer:
    """The same to `app.asgi`."""
    given, body = prepared(fields, form, data, body, cookies)
    if not any(name.lower() == "host" for name, _ in given):
        given.insert(0, ("Host", HOST))
    if body and not any(name.lower() == "content-length" for name, _ in given):
        given.append(("Content-Length", str(len(body))))
    status, headers, pieces = asyncio.run(converse(app.asgi, method, target, given, body, scheme=scheme))
    return Answer(status, headers, b"".join(pieces), pieces)


def multipart(*parts: tuple[str, str | None, bytes], boundary: str = "line") -> tuple[dict[str, str], bytes]:
    """A `multipart/form-data` body of (name, file name or None, content), and its field (RFC 7578)."""
    body = b""
    for name, filename, content in parts:
        said = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
        body += f"--{boundary}\r\nContent-Disposition: {said}\r\n\r\n".encode() + content + b"\r\n"
    return {
        "Content-Type": f"multipart/form-data; boundary={boundary}"
    }, body + f"--{boundary}--\r\n".encode()


def cookies_of(answer: Answer) -> dict[str, str]:
    """What a browser would send back, attributes left aside."""
    pairs = (line.partition(";")[0].partition("=") for line in answer.all("Set-Cookie"))
    return {name.strip(): value for name, _, value in pairs}


def refused(app: Any) -> str:
    """What start-up says against this application; which class it raises is not settled."""
    try:
        ask_wsgi(app, "/-")
    except Exception as problem:  # noqa: BLE001
        return str(problem)
    raise AssertionError("the application starts")

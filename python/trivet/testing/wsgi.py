"""One call of a WSGI application (PEP 3333)."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from .answers import Headers, Response
from .requests import Target


def environ_of(
    method: str,
    target: Target,
    fields: Iterable[tuple[str, str]],
    body: bytes | Iterable[bytes],
    peer: tuple[str, int],
) -> dict[str, Any]:
    """What a server gives the application."""
    content = body if isinstance(body, bytes) else b"".join(body)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(target.path).decode("latin-1"),
        "QUERY_STRING": target.query,
        "RAW_URI": target.raw,
        "REQUEST_URI": target.raw,
        "SERVER_NAME": target.host.strip("[]"),
        "SERVER_PORT": str(target.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": peer[0],
        "REMOTE_PORT": str(peer[1]),
        "HTTP_HOST": target.authority,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": target.scheme,
        "wsgi.input": io.BytesIO(content),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in fields:
        key = name.upper().replace("-", "_")
        if key == "TRANSFER_ENCODING":
            environ["wsgi.input_terminated"] = True
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = "HTTP_" + key
        # Fields that come several times are one to WSGI (RFC 9110, section 5.3); cookies have a sign of
        # their own.
        sign = "; " if key == "HTTP_COOKIE" else ","
        known = environ.get(key) if key != "HTTP_HOST" else None
        value = value.encode("utf-8").decode("latin-1")
        environ[key] = f"{known}{sign}{value}" if known is not None else value
    return environ


class Call:
    """One call of a WSGI application. ``raises``: its exception is the caller's too."""

    def __init__(self, app: Any, environ: dict[str, Any], raises: bool) -> None:
        self.app = app
        self.raises = raises
        self.environ = environ
        self.head: tuple[str, list[tuple[str, str]]] | None = None
        self.written: list[bytes] = []
        self.sent = False

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        if exc_info is not None:
            try:
                if self.sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.head is not None:
            raise AssertionError("start_response was called a second time without exc_info")
        self.head = (status, list(headers))
        return self.written.append

    def answer(self, url: str) -> Response:
        try:
            iterable = self.app(self.environ, self.start_response)
            body = _Body(self, iterable)
            # The head may come as late as the first piece.
            body.fill()
        except Exception:
            if self.raises:
                raise
            return Response(500, "Internal Server Error", Headers(), iter(()), url)
        if self.head is None:
            body.close()
            raise AssertionError("the application did not call start_response")
        status, headers = self.head
        self.sent = True
        code, _, reason = status.partition(" ")
        return Response(int(code), reason, Headers(headers), body, url)


class _Body:
    def __init__(self, call: Call, iterable: Iterable[bytes]) -> None:
        self.call = call
        self.iterable = iterable
        self.iterator = iter(iterable)
        self.first: list[bytes] = []
        self.closed = False

    def fill(self) -> None:
        try:
            while self.call.head is None or not self.first:
                self.first.append(next(self.iterator))
        except StopIteration:
            return
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self.call.written:
            return self.call.written.pop(0)
        if self.first:
            return self.first.pop(0)
        if self.closed:
            raise StopIteration
        try:
            return next(self.iterator)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        close = getattr(self.iterable, "close", None)
        if close is not None:
            close()

"""A server for scripts and examples: threads, HTTP/1.1, nothing else. ``trivet run`` is the one for visitors.

::

    make_server("127.0.0.1", 8000, app).serve_forever()
"""

from __future__ import annotations

import errno
import html
import io
import os
import socket
import socketserver
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler
from typing import IO, Any
from urllib.parse import unquote_to_bytes

from trivet.dev import log_line, wants_color

__all__ = ["Server", "make_server", "run"]

IDLE_S = 15.0
LINE_BYTES_MAX = 65_536
# A body that nobody read is taken up to here, so that the connection can be used again.
DRAIN_BYTES_MAX = 1 << 20
NO_BODY = (204, 304)
# RFC 9110, section 7.6.1: between us and the client, not the application's.
HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A listening server; a thread for each connection. ``port`` is the one that it got, should 0 have been
    asked.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, app: App, *, quiet: bool = False) -> None:
        self.app = app
        self.quiet = quiet
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            what = error.strerror or str(error)
            raise OSError(error.errno, f"cannot listen at {_shown(host)}:{port}: {what}") from None
        self.host = host
        self.port = int(self.server_address[1])

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{_shown(host)}:{self.port}"

    def serve_forever(self, poll_interval: float = 0.1) -> None:
        """Serves until :meth:`shutdown`, from another thread, or Ctrl-C."""
        if not self.quiet:
            print(f"serving {_name(self.app)} at {self.url} (Ctrl-C ends it)", file=sys.stderr, flush=True)
        try:
            super().serve_forever(poll_interval)
        except KeyboardInterrupt:
            if not self.quiet:
                print("\nended", file=sys.stderr, flush=True)
        finally:
            self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Prints what went wrong, unless the client has merely gone."""
        # A client that has gone is nobody's mistake.
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            traceback.print_exc()


def make_server(host: str, port: int, app: App, *, quiet: bool = False) -> Server:
    """A server that listens already. ``port`` 0: one that is free, see ``server.port``. Raises OSError."""
    return Server(host, port, app, quiet=quiet)


def run(app: App, host: str = "127.0.0.1", port: int | None = None, *, quiet: bool = False) -> None:
    """Serves until Ctrl-C; the port of the environment's ``PORT``, or 8000, where none is given."""
    chosen = int(os.environ.get("PORT") or 8000) if port is None else port
    try:
        server = make_server(host, chosen, app, quiet=quiet)
    except OSError as error:
        hint = (
            "another program listens there; give another `port`, or 0 for any"
            if error.errno == errno.EADDRINUSE
            else None
        )
        sys.stderr.write(f"error: {error.strerror}\n" + (f"hint: {hint}\n" if hint else ""))
        raise SystemExit(1) from None
    server.serve_forever()


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _name(app: App) -> str:
    return f"`{getattr(app, 'name', None) or getattr(app, '__name__', None) or type(app).__name__}`"


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "trivet"
    sys_version = ""
    timeout = IDLE_S
    # A head and the body after it in one packet; no waiting for an acknowledgement in between.
    wbufsize = -1
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        try:
            self.raw_requestline = self.rfile.readline(LINE_BYTES_MAX + 1)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
            return
        if len(self.raw_requestline) > LINE_BYTES_MAX:
            self.requestline = self.request_version = self.command = ""
            self._refuse(414)
        elif not self.raw_requestline:
            self.close_connection = True
        elif self.parse_request():
            self._answer()
        self.wfile.flush()

    def handle_expect_100(self) -> bool:
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def _refuse(self, code: int) -> None:
        self.close_connection = True
        self.send_error(code)

    def _answer(self) -> None:
        lengths = set(self.headers.get_all("content-length", []))
        coding = self.headers.get("transfer-encoding")
        body: io.RawIOBase
        if coding is not None:
            if coding.strip().lower() != "chunked" or lengths:
                return self._refuse(400)
            body = _Chunked(self.rfile)
        else:
            length = lengths.pop() if lengths else "0"
            if lengths or not (length.isascii() and length.isdigit()):
                return self._refuse(400)
            body = _Sized(self.rfile, int(length))
        started = time.perf_counter()
        stream: io.BufferedReader[Any] = io.BufferedReader(body)
        call = _Call(self, stream, length=None if coding else int(length))
        call.run()
        self._log(call, time.perf_counter() - started)
        if not self.close_connection:
            self._drain(stream)
        return None

    def _drain(self, stream: io.BufferedReader[Any]) -> None:
        left = DRAIN_BYTES_MAX
        try:
            while left > 0 and (piece := stream.read(min(left, LINE_BYTES_MAX))):
                left -= len(piece)
            self.close_connection = self.close_connection or left <= 0
        except OSError:
            self.close_connection = True

    def _log(self, call: _Call, seconds: float) -> None:
        if not self.server.quiet:
            status = int(call.status.partition(" ")[0] or 0)
            clock = time.strftime("%H:%M:%S")
            color = wants_color()
            line = log_line(clock, self.command, self.path, status, seconds, color=color)
            sys.stderr.write(line + "\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Our own line says it all."""

    def environ(self, stream: io.BufferedReader[Any], length: int | None) -> dict[str, Any]:
        """The environ of PEP 3333, with RAW_URI as it was sent."""
        target = self.path
        if "://" in target.partition("?")[0]:  # absolute form, RFC 9112, section 3.2.2
            target = "/" + target.partition("://")[2].partition("/")[2]
        path, _, query = target.partition("?")
        host = self.server.host or "localhost"
        environ: dict[str, Any] = {
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path.encode("latin-1")).decode("latin-1"),
            "QUERY_STRING": query,
            "RAW_URI": target,
            "REQUEST_URI": target,
            "SERVER_NAME": host,
            "SERVER_PORT": str(self.server.port),
            "SERVER_PROTOCOL": self.request_version,
            "SERVER_SOFTWARE": self.server_version,
            "REMOTE_ADDR": str(self.client_address[0]),
            "REMOTE_PORT": str(self.client_address[1]),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": stream,
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
        }
        if length is not None and (length or "content-length" in self.headers):
            environ["CONTENT_LENGTH"] = str(length)
        if "content-type" in self.headers:
            environ["CONTENT_TYPE"] = self.headers["content-type"]
        for name, value in self.headers.items():
            # A name with an underscore would stand for another one (as servers have learnt).
            if "_" in name or name.lower() in ("content-type", "content-length"):
                continue
            key = "HTTP_" + name.upper().replace("-", "_")
            sign = "; " if key == "HTTP_COOKIE" else ","
            environ[key] = f"{environ[key]}{sign}{value}" if key in environ else value
        return environ


class FileWrapper:
    """``wsgi.file_wrapper``."""

    def __init__(self, file: IO[bytes], size: int = 65_536) -> None:
        self.file = file
        self.size = size
        self.close = getattr(file, "close", lambda: None)

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        piece = self.file.read(self.size)
        if not piece:
            raise StopIteration
        return piece


class _Call:
    """One call of the application."""

    def __init__(self, handler: Handler, stream: io.BufferedReader[Any], length: int | None) -> None:
        self.handler = handler
        self.environ = handler.environ(stream, length)
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.sent = False
        self.left: int | None = None  # bytes of a body whose length was told
        self.chunked = False

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None:
            try:
                if self.sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status:
            raise AssertionError("start_response was called a second time without exc_info")
        self.status = status
        self.headers = list(headers)
        return self.write

    def run(self) -> None:
        iterable: Any = None
        try:
            iterable = self.handler.server.app(self.environ, self.start_response)
            whole = isinstance(iterable, (list, tuple))
            for piece in [b"".join(iterable)] if whole else iterable:
                if piece:
                    self.write(piece, whole)
            if not self.sent:
                self._head(b"", True)
            self._end()
        except (ConnectionError, TimeoutError):
            self.handler.close_connection = True
        except Exception as error:  # noqa: BLE001 - the client gets an answer, the terminal the traceback
            self._failed(error)
        finally:
            close = getattr(iterable, "close", None)
            if close is not None:
                close()

    def write(self, piece: bytes, whole: bool = False) -> None:
        if not self.sent:
            self._head(piece, whole)
        if self.handler.command == "HEAD" or self._code() in NO_BODY:
            return
        out = self.handler.wfile
        if self.chunked:
            out.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        else:
            if self.left is not None:
                if len(piece) > self.left:
                    raise AssertionError("the application gave more than its Content-Length")
                self.left -= len(piece)
            out.write(piece)
        # A stream is for reading as it comes; what is whole leaves with its head at the end.
        if not whole:
            out.flush()

    def _code(self) -> int:
        return int(self.status.partition(" ")[0])

    def _head(self, piece: bytes, whole: bool) -> None:
        if not self.status:
            raise AssertionError("the application did not call start_response")
        self.sent = True
        handler, code = self.handler, self._code()
        names = {name.lower(): value for name, value in self.headers}
        lines = [f"HTTP/1.1 {self.status}"]
        lines += [f"{name}: {value}" for name, value in self.headers if name.lower() not in HOP_BY_HOP]
        if code in NO_BODY or code < 200:
            pass
        elif "content-length" in names:
            self.left = int(names["content-length"])
        elif whole:
            self.left = len(piece)
            if handler.command != "HEAD":
                lines.append(f"Content-Length: {self.left}")
        elif handler.request_version == "HTTP/1.1":
            self.chunked = True
            lines.append("Transfer-Encoding: chunked")
        else:
            handler.close_connection = True
        if "date" not in names:
            lines.append(f"Date: {handler.date_time_string()}")
        if "server" not in names:
            lines.append(f"Server: {handler.server_version}")
        if names.get("connection", "").lower() == "close":
            handler.close_connection = True
        if handler.close_connection:
            lines.append("Connection: close")
        elif handler.request_version != "HTTP/1.1":
            lines.append("Connection: keep-alive")
        text = "\r\n".join(lines)
        if any(c in "\r\n\0" for line in lines for c in line):
            self.sent = False
            raise AssertionError("a header field of the application has a line break or NUL")
        handler.wfile.write(text.encode("latin-1") + b"\r\n\r\n")

    def _end(self) -> None:
        no_body = self.handler.command == "HEAD" or self._code() in NO_BODY
        if self.chunked and not no_body:
            self.handler.wfile.write(b"0\r\n\r\n")
        elif self.left and not no_body:
            self.handler.close_connection = True
            raise AssertionError("the application gave less than its Content-Length")

    def _failed(self, error: Exception) -> None:
        traceback.print_exception(type(error), error, error.__traceback__)
        # Whatever was sent is cut off: a part must not look like the whole.
        self.handler.close_connection = True
        if not self.sent:
            page = _page(error)
            self.status = "500 Internal Server Error"
            self.headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(page)))]
            self.write(page, whole=True)


def _page(error: Exception) -> bytes:
    name = html.escape(type(error).__name__)
    return (
        "<!doctype html><meta charset=utf-8><title>500 Internal Server Error</title>"
        f"<h1>Internal Server Error</h1><p>The application raised <code>{name}</code>; "
        "the terminal that it runs in has the traceback."
    ).encode()


class _Sized(io.RawIOBase):
    """A body whose length is known."""

    def __init__(self, source: Any, length: int) -> None:
        self.source = source
        self.left = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.left:
            return 0
        piece: bytes = self.source.read1(min(len(buffer), self.left))
        if not piece:
            raise ConnectionError("the client has gone in the middle of its body")
        buffer[: len(piece)] = piece
        self.left -= len(piece)
        return len(piece)


class _Chunked(io.RawIOBase):
    """A body in chunks (RFC 9112, section 7.1)."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.left = 0
        self.ended = False

    def readable(self) -> bool:
        return True

    def _line(self) -> bytes:
        line: bytes = self.source.readline(LINE_BYTES_MAX)
        if not line.endswith(b"\r\n"):
            raise ConnectionError("a chunk that has no end of line")
        return line[:-2]

    def readinto(self, buffer: Any) -> int:
        if self.ended:
            return 0
        if not self.left:
            size = self._line().partition(b";")[0].strip()
            if not size or size.strip(b"0123456789abcdefABCDEF") or len(size) > 16:
                raise ConnectionError("a chunk whose size is no number")
            self.left = int(size, 16)
            if not self.left:
                while self._line():
                    pass
                self.ended = True
                return 0
        piece: bytes = self.source.read1(min(len(buffer), self.left))
        if not piece:
            raise ConnectionError("the client has gone in the middle of its body")
        buffer[: len(piece)] = piece
        self.left -= len(piece)
        if not self.left and self._line():
            raise ConnectionError("a chunk longer than its size")
        return len(piece)


def serve_in_thread(app: App, host: str = "127.0.0.1", port: int = 0) -> tuple[Server, threading.Thread]:
    """A server that runs beside the caller, for tests and notebooks; ``server.shutdown()`` ends it."""
    server = make_server(host, port, app, quiet=True)
    thread = threading.Thread(target=server.serve_forever, name="trivet-server", daemon=True)
    thread.start()
    return server, thread

"""What a WSGI server would have made of an ASGI request (PEP 3333): the environ, and the body to read."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from urllib.parse import unquote_to_bytes

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: What a body may have in memory that an async handler asks for later.
PREFETCH_BYTES_MAX = 16 * 1024 * 1024
#: What a body may have in memory while an answer is sent that may still read it.
AHEAD_BYTES_MAX = 64 * 1024


def environ_of(scope: Scope, body: Input) -> dict[str, Any]:
    """What a WSGI server would have made of the scope (PEP 3333)."""
    raw = scope.get("raw_path")
    told = scope["path"]
    path = told.encode("utf-8", "surrogateescape")
    # A middleware may have checked or rewritten `path`, so `raw_path` never leads elsewhere: it only gives
    # back the bytes that are no UTF-8, which `path` cannot say.
    if raw and "\ufffd" in told and (sent := unquote_to_bytes(raw)).decode("utf-8", "replace") == told:
        path = sent
    root = (scope.get("root_path") or "").rstrip("/").encode()
    if root and (path == root or path.startswith(root + b"/")):
        path = path[len(root) :]
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "WEBSOCKET" if scope["type"] == "websocket" else scope["method"],
        "SCRIPT_NAME": root.decode("latin-1"),
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": (scope.get("query_string") or b"").decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": {"ws": "http", "wss": "https"}.get(
            scope.get("scheme", "http"), scope.get("scheme", "http")
        ),
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "asgi.scope": scope,
    }
    if raw:
        environ["RAW_URI"] = raw.decode("latin-1")
    if scope.get("server"):
        environ["SERVER_NAME"], environ["SERVER_PORT"] = (
            str(scope["server"][0]),
            str(scope["server"][1] or ""),
        )
    if scope.get("client"):
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = str(scope["client"][0]), str(scope["client"][1])
    for name, value in scope["headers"]:
        if b"_" in name:
            # `X_Real_Ip` would become the same key as `X-Real-Ip`.
            continue
        key = name.decode("latin-1").upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        text = value.decode("latin-1")
        if key in environ:
            text = environ[key] + ("; " if key == "HTTP_COOKIE" else ", ") + text
        environ[key] = text
    return environ


class Input:
    """`wsgi.input` over `receive`: threads wait for the loop; on the loop everything must be there."""

    def __init__(self, receive: Receive, loop: asyncio.AbstractEventLoop, ended: bool = False) -> None:
        self._receive = receive
        self._loop = loop
        self._thread = threading.get_ident()
        self._buffer = bytearray()
        self._ended = ended
        #: The client has gone, and before the end.
        self._gone = self._cut = False
        #: Around the time in which a thread waits for the client.
        self.waiting: Callable[[], AbstractContextManager[None]] = nullcontext
        self._turn = asyncio.Lock()
        self._messages = 0
        #: Of who waits until something has been taken.
        self._room: asyncio.Event | None = None

    async def _more(self) -> None:
        """Takes the next message. Who ask at the same time, for a body and for its end, share one."""
        messages = self._messages
        async with self._turn:
            if messages != self._messages:
                return
            message = await self._receive()
            self._messages += 1
            if message["type"] != "http.request":
                self._gone, self._cut = True, not self._ended
                self._ended = True
            elif not self._ended:
                self._buffer += message.get("body", b"")
                self._ended = not message.get("more_body", False)
        if self._ended and self._room is not None:
            self._room.set()

    async def prefetch(self, bytes_max: int) -> None:
        """Takes what is coming, so that an async handler can read it on the loop; what is too much stays."""
        while not self._ended and len(self._buffer) <= min(bytes_max, PREFETCH_BYTES_MAX):
            await self._more()

    async def disconnected(self) -> None:
        """Returns when the client has gone. What it had sent of the body stays."""
        while not self._gone:
            self._room = asyncio.Event()
            if not self._ended and len(self._buffer) >= AHEAD_BYTES_MAX:
                await self._room.wait()
            else:
                await self._more()

    def _lacks(self, size: int) -> bool:
        # As of a file: less than `size` only at the end, whatever pieces the server got it in.
        return not self._ended and (size < 0 or len(self._buffer) < size)

    async def _fill(self, size: int) -> None:
        # Asked here, where messages come: one that came before us is not to be waited for once more.
        while self._lacks(size):
            await self._more()

    def read(self, size: int = -1) -> bytes:
        if self._lacks(size):
            if threading.get_ident() == self._thread:
                raise RuntimeError(
                    f"the body is larger than {PREFETCH_BYTES_MAX} bytes and would block the loop\n"
                    "hint: a handler that is not `async` can read it"
                )
            with self.waiting():
                asyncio.run_coroutine_threadsafe(self._fill(size), self._loop).result()
        if self._cut:
            raise OSError("the client has gone")
        taken = bytes(self._buffer[:] if size < 0 else self._buffer[:size])
        del self._buffer[: len(taken)]
        if self._room is not None and not self._ended:
            self._loop.call_soon_threadsafe(self._room.set)
        return taken

    def readline(self, size: int = -1) -> bytes:
        line = bytearray()
        while size < 0 or len(line) < size:
            byte = self.read(1)
            line += byte
            if byte in (b"", b"\n"):
                break
        return bytes(line)

    def readlines(self, hint: int = -1) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

"""`app.asgi`: the same app for ASGI servers; and coroutines for servers that have no loop.

The request is opened and finished as under WSGI (`_web.App._open`). In between, an `async def` handler
runs on the
loop, any other in a bounded pool of threads, where interceptors and providers run too.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote_to_bytes

from ._load import native
from .response import Response, encoded

if TYPE_CHECKING:
    from . import _web
    from .app import App
else:
    _web = native("_web")

T = TypeVar("T")
Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Threads for handlers that are not async; more requests wait.
THREADS = 40
#: What a body may have in memory that an async handler asks for later.
PREFETCH_BYTES_MAX = 16 * 1024 * 1024


class Asgi:
    """An ASGI app (version 3) for http, websocket and lifespan."""

    def __init__(self, app: App, threads: int = THREADS) -> None:
        self._app = app
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._pool_lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(receive, send)
        elif kind == "http":
            await self._http(scope, receive, send)
        elif kind == "websocket":
            await self._websocket(scope, receive, send)
        else:
            raise RuntimeError(f"an ASGI scope of type `{kind}` is not known")

    async def _in_pool(self, function: Callable[..., T], *args: Any) -> T:
        if self._pool is None:
            with self._pool_lock:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="trivet")
        context = contextvars.copy_context()
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, lambda: context.run(function, *args)
            )
        finally:
            # What an interceptor set is there for the handler, as it is under WSGI.
            for variable, value in context.items():
                if variable.get(context) is not value:
                    variable.set(value)

    def _may_block(self, method: str) -> bool:
        """Whether the way to the handler may run code of the app, or wait for the body."""
        app = self._app
        if app._wraps:
            raise RuntimeError("`wrap` is for WSGI middlewares: put ASGI middlewares around `app.asgi`")
        return (
            method not in ("GET", "HEAD", "OPTIONS")
            or app.sessions.store is not None
            or app._runs_more_than_handlers
            or self._reads_without_post
        )

    @cached_property
    def _reads_without_post(self) -> bool:
        """Whether an argument for GET, HEAD or OPTIONS comes from the body. The app is frozen."""
        return any(
            parameter.source in ("body", "form", "upload")
            for route in self._app.routes()
            if not {"GET", "HEAD", "OPTIONS"}.isdisjoint(route.methods)
            for parameter in route.parameters
        )

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    self._app.freeze()
                except Exception as error:  # noqa: BLE001 - the server prints it and ends
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self._pool is not None:
                    self._pool.shutdown(wait=False)
                    self._pool = None
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _begin(self, environ: dict[str, Any]) -> Response | _web.Flight:
        """The answer, or what is left to be awaited. A handler that is not async runs in the thread that its
        providers ran in: some of what they give belongs to a thread."""
        flight = self._app._open(environ)
        return flight if flight.is_async else flight.run()

    async def _open(self, environ: dict[str, Any]) -> tuple[Response | _web.Flight, bool]:
        self._app.freeze()
        if self._may_block(environ["REQUEST_METHOD"]):
            return await self._in_pool(self._begin, environ), True
        flight = self._app._open(environ)
        return (flight, False) if flight.is_async else (await self._in_pool(flight.run), False)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Input(receive, asyncio.get_running_loop())
        environ = environ_of(scope, body)
        begun, blocks = await self._open(environ)
        if isinstance(begun, Response):
            response = begun
        else:
            await body.prefetch(self._app._limits[0])
            try:
                value = await begun.call()
            except Exception as error:  # noqa: BLE001 - the app's error handlers look at it
                response = await self._in_pool(begun.fail, error)
            except BaseException as error:
                # Cancelled: providers and interceptors are told, and nothing is answered.
                begun.fail(error)
                raise
            else:
                response = await self._in_pool(begun.finish, value) if blocks else begun.finish(value)
        await self._answer(environ, response, body, send)

    async def _answer(self, environ: dict[str, Any], response: Response, body: _Input, send: Send) -> None:
        is_head = environ["REQUEST_METHOD"] == "HEAD"
        try:
            status, fields, bodiless = _web.response_head(response, is_head)
            await send(
                {
                    "type": "http.response.start",
                    "status": status,
                    "headers": [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in fields],
                }
            )
            content = response.body
            if bodiless or isinstance(content, bytes):
                data = b"" if bodiless else content
                await send({"type": "http.response.body", "body": data})
            else:
                await self._stream(content, response, body, send)
        finally:
            if response._closers or not isinstance(response.body, bytes):
                await self._in_pool(response.close)

    async def _stream(self, content: Any, response: Response, body: _Input, send: Send) -> None:
        pieces = content if hasattr(content, "__aiter__") else self._pieces(content)
        iterator = aiter(pieces)
        gone = asyncio.ensure_future(body.disconnected())
        try:
            while True:
                step = asyncio.ensure_future(_next(iterator))
                await asyncio.wait((step, gone), return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    step.cancel()
                    await asyncio.wait((step,))
                    break
                piece = step.result()
                if piece is None:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    return
                data = encoded(piece)
                if data:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        except Exception as error:
            if response._lenders:
                response._give_back(error)
            raise
        finally:
            gone.cancel()
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    async def _pieces(self, content: Any) -> AsyncIterator[object]:
        iterator: Iterator[object] = await self._in_pool(iter, content)
        end = object()
        while True:
            piece = await self._in_pool(next, iterator, end)
            if piece is end:
                return
            yield piece

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        if message["type"] != "websocket.connect":
            return
        body = _Input(receive, asyncio.get_running_loop(), ended=True)
        environ = environ_of(scope, body)
        socket = WebSocket(scope, receive, send)
        environ["trivet.websocket"] = socket
        flight, _ = await self._open(environ)
        if isinstance(flight, Response):
            await self._refuse(environ, flight, scope, send)
            return
        try:
            await flight.call()
        except Disconnected:
            await self._in_pool(flight.finish, None)
        except Exception as error:  # noqa: BLE001 - what became of it is logged or raised there
            response = await self._in_pool(flight.fail, error)
            if socket._state == "new":
                await self._refuse(environ, response, scope, send)
            elif socket._state == "open":
                await socket.close(1011)
            return
        except BaseException as error:
            flight.fail(error)
            raise
        else:
            await self._in_pool(flight.finish, None)
        if socket._state == "new":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
        elif socket._state == "open":
            await socket.close()

    async def _refuse(self, environ: dict[str, Any], response: Response, scope: Scope, send: Send) -> None:
        """An HTTP answer where the server can send one, else its own 403."""
        try:
            if "websocket.http.response" in (scope.get("extensions") or {}):
                status, fields, _ = _web.response_head(response, False)
                await send(
                    {
                        "type": "websocket.http.response.start",
                        "status": status,
                        "headers": [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in fields],
                    }
                )
                data = response.body if isinstance(response.body, bytes) else b""
                await send({"type": "websocket.http.response.body", "body": data})
            else:
                await send({"type": "websocket.close", "code": 1008, "reason": ""})
        finally:
            await self._in_pool(response.close)


async def _next(iterator: AsyncIterator[Any]) -> Any:
    async for piece in iterator:
        return piece
    return None


def environ_of(scope: Scope, body: _Input) -> dict[str, Any]:
    """What a WSGI server would have made of the scope (PEP 3333)."""
    raw = scope.get("raw_path")
    told = scope["path"]
    path = told.encode("utf-8", "surrogateescape")
    # A middleware may have checked or rewritten `path`, so `raw_path` never leads elsewhere: it only gives back
    # the bytes that are no UTF-8, which `path` cannot say.
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


class _Input:
    """`wsgi.input` over `receive`: threads of the pool wait for the loop; on the loop everything must be
    there.
    """

    def __init__(self, receive: Receive, loop: asyncio.AbstractEventLoop, ended: bool = False) -> None:
        self._receive = receive
        self._loop = loop
        self._thread = threading.get_ident()
        self._buffer = bytearray()
        self._ended = ended
        self._gone = False

    async def _more(self) -> None:
        message = await self._receive()
        if message["type"] == "http.request":
            self._buffer += message.get("body", b"")
            self._ended = not message.get("more_body", False)
        else:
            self._ended = self._gone = True

    async def prefetch(self, bytes_max: int) -> None:
        """Takes what is coming, so that an async handler can read it on the loop; what is too much stays."""
        while not self._ended and len(self._buffer) <= min(bytes_max, PREFETCH_BYTES_MAX):
            await self._more()

    async def disconnected(self) -> None:
        """Returns when the client has gone."""
        while not self._gone:
            await self._more()
            self._buffer.clear()

    def read(self, size: int = -1) -> bytes:
        # As of a file: less than `size` only at the end, whatever pieces the server got it in.
        while not self._ended and (size < 0 or len(self._buffer) < size):
            if threading.get_ident() == self._thread:
                raise RuntimeError(
                    f"the body is larger than {PREFETCH_BYTES_MAX} bytes and would block the loop\n"
                    "hint: a handler that is not `async` can read it"
                )
            asyncio.run_coroutine_threadsafe(self._more(), self._loop).result()
        if self._gone:
            raise OSError("the client has gone")
        taken = bytes(self._buffer) if size < 0 else bytes(self._buffer[:size])
        del self._buffer[: len(taken)]
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


class Disconnected(Exception):
    """The other end of a WebSocket has gone. `code` is RFC 6455's."""

    def __init__(self, code: int = 1005, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class WebSocket:
    """A WebSocket (RFC 6455): `async for message in ws: await ws.send(message)`.

    It is accepted by the first `receive` or `send`, or by `accept`. Messages are texts or bytes.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._state = "new"

    @property
    def subprotocols(self) -> list[str]:
        """What the client offers."""
        return list(self._scope.get("subprotocols") or ())

    async def accept(self, subprotocol: str | None = None) -> None:
        """Completes the handshake."""
        if self._state != "new":
            raise RuntimeError("the WebSocket has been accepted or closed already")
        self._state = "open"
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})

    async def receive(self) -> str | bytes:
        """The next message. Raises `Disconnected` when there is none any more."""
        if self._state == "new":
            await self.accept()
        if self._state != "open":
            raise Disconnected()
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._state = "closed"
            raise Disconnected(message.get("code", 1005), message.get("reason") or "")
        text = message.get("text")
        data: str | bytes = text if text is not None else message.get("bytes") or b""
        return data

    async def send(self, message: object) -> None:
        """Sends a text, bytes, or anything else as JSON."""
        if self._state == "new":
            await self.accept()
        if self._state != "open":
            raise Disconnected()
        if isinstance(message, (bytes, bytearray, memoryview)):
            await self._send({"type": "websocket.send", "bytes": bytes(message)})
        else:
            text = message if isinstance(message, str) else _web.json_bytes(message).decode()
            await self._send({"type": "websocket.send", "text": text})

    async def json(self) -> Any:
        """The next message, read as JSON."""
        return json.loads(await self.receive())

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Says goodbye; before the handshake, refuses it."""
        if self._state != "closed":
            self._state = "closed"
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    def __aiter__(self) -> WebSocket:
        return self

    async def __anext__(self) -> str | bytes:
        try:
            return await self.receive()
        except Disconnected:
            raise StopAsyncIteration from None


# Coroutines under WSGI: one loop in a thread of its own, for the whole process.

_loop: asyncio.AbstractEventLoop | None = None
_loop_pid = 0
_loop_thread: int | None = None
_loop_lock = threading.Lock()


def _process_loop() -> asyncio.AbstractEventLoop:
    global _loop, _loop_pid, _loop_thread
    with _loop_lock:
        # A forked child has the object but not the thread.
        if _loop is None or _loop_pid != os.getpid():
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="trivet-loop", daemon=True)
            thread.start()
            _loop, _loop_pid, _loop_thread = loop, os.getpid(), thread.ident
        return _loop


def wait(app: App | None, awaitable: Awaitable[T]) -> T:
    """The result of a coroutine, from a thread without a loop; context variables go with it.

    Raises `RuntimeError` in the thread of the loop itself, which would wait for itself for ever.
    """
    loop = _process_loop()
    if threading.get_ident() == _loop_thread:
        close = getattr(awaitable, "close", None)
        if close is not None:
            close()
        raise RuntimeError(
            "an `async def` handler asks for another one in its own loop, which would wait for itself\n"
            "hint: `await` it, or call the app in a thread (`asyncio.to_thread`)"
        )
    result: Future[T] = Future()

    async def run() -> T:
        return await awaitable

    def begin() -> None:
        task = loop.create_task(run())
        task.add_done_callback(finish)

    def finish(task: asyncio.Task[T]) -> None:
        if task.cancelled():
            result.set_exception(asyncio.CancelledError())
            return
        error = task.exception()
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(task.result())

    loop.call_soon_threadsafe(begin, context=contextvars.copy_context())
    return result.result()


class blocking:
    """An async iterable as a plain one, for a server without a loop."""

    def __init__(self, source: Any, app: App | None) -> None:
        self._iterator = aiter(source)
        self._app = app

    def __iter__(self) -> blocking:
        return self

    def __next__(self) -> Any:
        end = object()

        async def step() -> Any:
            async for piece in self._iterator:
                return piece
            return end

        piece = wait(self._app, step())
        if piece is end:
            raise StopIteration
        return piece

    def close(self) -> None:
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            wait(self._app, close())

"""`app.asgi`: the same app for ASGI servers; and coroutines for servers that have no loop.

The request is opened and finished as under WSGI (`_web.App._open`). In between, an `async def` handler
runs on the
loop, any other in a bounded pool of threads, where interceptors and providers run too.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import os
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote_to_bytes

from ._load import native
from .response import Begun, Response, encoded

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
#: Threads that each belong to one request, because a generator around it or its answer's body must
#: go on where
#: it began. As many as `THREADS` of them work at a time, the others wait for their loop or their client.
LANES_MAX = 400
LANE_IDLE_SECONDS = 10.0
#: What a body may have in memory that an async handler asks for later.
PREFETCH_BYTES_MAX = 16 * 1024 * 1024


class Asgi:
    """An ASGI app (version 3) for http, websocket and lifespan."""

    def __init__(self, app: App, threads: int = THREADS) -> None:
        self._app = app
        self._threads = threads
        self._lanes = _Lanes(threads)
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

    def _submit(self, lane: _Lane | None, function: Callable[[], T]) -> Future[T]:
        if lane is not None:
            return lane.submit(function)
        if self._pool is None:
            with self._pool_lock:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="trivet")
        return self._pool.submit(function)

    async def _in_pool(
        self,
        function: Callable[..., T],
        *args: Any,
        lane: _Lane | None = None,
        undo: Callable[[T], object] | None = None,
        must: bool = True,
    ) -> T:
        """The function's result, from a thread: the lane's, else any.

        `undo` gets what comes when nobody waits for it any more. With it, what has not begun by then is still
        done if it `must`.
        """
        context = contextvars.copy_context()
        future = self._submit(lane, lambda: context.run(function, *args))
        waiting = asyncio.wrap_future(future)
        try:
            return await (waiting if undo is None else asyncio.shield(waiting))
        except BaseException:
            if undo is not None:
                if not must:
                    future.cancel()
                self._late(lane, future, undo)
            raise
        finally:
            # What an interceptor set is there for the handler, as it is under WSGI.
            for variable, value in context.items():
                if variable.get(context) is not value:
                    variable.set(value)

    def _late(self, lane: _Lane | None, future: Future[T], undo: Callable[[T], object]) -> None:
        def drop(done: Future[T]) -> None:
            if not done.cancelled() and done.exception() is None:
                try:
                    undo(done.result())
                except asyncio.CancelledError:
                    pass
                except BaseException:  # noqa: BLE001 - nobody is there who could be told otherwise
                    traceback.print_exc()

        if lane is not None:
            # After it, in the same thread.
            lane.submit(lambda: drop(future))
        else:
            future.add_done_callback(drop)

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
    def _pins(self) -> bool:
        """Whether something waits at its `yield` around a request: it must go on in the thread that it began
        in, where a transaction of a database is, for one. The app is frozen.
        """
        apps = {owner for route in self._app.routes() for owner in route._owners} | {self._app}
        functions = [provider.function for app in apps for provider in app._providers.values()]
        functions += [one.handler for app in apps for one in app._interceptors]
        return any(inspect.isgeneratorfunction(inspect.unwrap(function)) for function in functions)

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

    async def _open(self, environ: dict[str, Any], seat: _Seat) -> tuple[Response | _web.Flight, bool]:
        self._app.freeze()
        if self._may_block(environ["REQUEST_METHOD"]):
            seat.lane = _Lane(self._lanes)
            begun = await self._in_pool(self._begin, environ, lane=seat.lane, undo=_give_up, must=False)
            if not self._pins and not isinstance(begun, Response):
                seat.leave()  # what is awaited now keeps no thread
            return begun, True
        flight = self._app._open(environ)
        if flight.is_async:
            return flight, False
        # The handler may begin what goes on while its answer is sent.
        seat.lane = _Lane(self._lanes)
        return await self._in_pool(flight.run, lane=seat.lane, undo=_give_up, must=False), False

    async def _cancelled(self, flight: _web.Flight, error: BaseException, seat: _Seat) -> None:
        """Providers and interceptors are told, and nothing is answered."""
        if seat.lane is None:
            _give_up(flight, error)
            return
        told = seat.lane.submit(lambda: _give_up(flight, error))
        if isinstance(error, asyncio.CancelledError):
            await asyncio.shield(asyncio.wrap_future(told))

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Input(receive, asyncio.get_running_loop())
        environ = environ_of(scope, body)
        seat = _Seat()
        try:
            response = await self._ask(environ, body, seat)
            if not response._lenders and not _goes_on(response.body):
                seat.leave()
            await self._answer(environ, response, body, send, seat)
        finally:
            seat.leave()

    async def _ask(self, environ: dict[str, Any], body: _Input, seat: _Seat) -> Response:
        begun, blocks = await self._open(environ, seat)
        if isinstance(begun, Response):
            return begun
        try:
            await body.prefetch(self._app._limits[0])
            value = begun.call()
            if inspect.isawaitable(value):
                value = await value
        except Exception as error:  # noqa: BLE001 - the app's error handlers look at it
            return await self._in_pool(begun.fail, error, lane=seat.lane, undo=_give_up)
        except BaseException as error:
            await self._cancelled(begun, error, seat)
            raise
        if blocks:
            return await self._in_pool(begun.finish, value, lane=seat.lane, undo=_give_up)
        response: Response = begun.finish(value)
        return response

    async def _answer(
        self, environ: dict[str, Any], response: Response, body: _Input, send: Send, seat: _Seat
    ) -> None:
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
                if seat.lane is None and _goes_on(content):
                    seat.lane = _Lane(self._lanes)
                await self._stream(content, response, body, send, seat)
        finally:
            if response._closers or not isinstance(response.body, bytes):
                await self._in_pool(response.close, lane=seat.lane, undo=bool)

    async def _stream(self, content: Any, response: Response, body: _Input, send: Send, seat: _Seat) -> None:
        pieces = content if hasattr(content, "__aiter__") else self._pieces(content, seat)
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
                await self._in_pool(response._give_back, error, lane=seat.lane)
            raise
        finally:
            gone.cancel()
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    async def _pieces(self, content: Any, seat: _Seat) -> AsyncIterator[object]:
        iterator: Iterator[object] = await self._in_pool(iter, content, lane=seat.lane)
        end = object()
        while True:
            piece = await self._in_pool(next, iterator, end, lane=seat.lane)
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
        seat = _Seat()
        try:
            await self._talk(environ, socket, seat, scope, send)
        finally:
            seat.leave()

    async def _talk(
        self, environ: dict[str, Any], socket: WebSocket, seat: _Seat, scope: Scope, send: Send
    ) -> None:
        flight, _ = await self._open(environ, seat)
        if isinstance(flight, Response):
            await self._refuse(environ, flight, scope, send, seat)
            return
        try:
            await flight.call()
        except Disconnected:
            await self._in_pool(flight.finish, None, lane=seat.lane, undo=_give_up)
        except Exception as error:  # noqa: BLE001 - what became of it is logged or raised there
            response = await self._in_pool(flight.fail, error, lane=seat.lane, undo=_give_up)
            if socket._state == "new":
                await self._refuse(environ, response, scope, send, seat)
            elif socket._state == "open":
                await socket.close(1011)
            return
        except BaseException as error:
            await self._cancelled(flight, error, seat)
            raise
        else:
            await self._in_pool(flight.finish, None, lane=seat.lane, undo=_give_up)
        if socket._state == "new":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
        elif socket._state == "open":
            await socket.close()

    async def _refuse(
        self, environ: dict[str, Any], response: Response, scope: Scope, send: Send, seat: _Seat
    ) -> None:
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
            await self._in_pool(response.close, lane=seat.lane, undo=bool)


def _goes_on(body: object) -> bool:
    """Whether code of the app goes on while the body is sent: its transaction, say, belongs to a thread.

    A file's does not, and its slow clients keep no thread.
    """
    return inspect.isgenerator(body) or isinstance(body, Begun)


class _Lanes:
    """Threads for lanes. They end when they have had nothing to do for a while, and with the process."""

    def __init__(self, threads: int) -> None:
        #: A thread that only waits for its request keeps no other from working.
        self.running = threading.Semaphore(threads)
        self._new: SimpleQueue[_Lane] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        #: Threads without a lane less lanes without a thread.
        self._free = 0

    def add(self, lane: _Lane) -> None:
        with self._lock:
            if self._free > 0 or self._threads >= LANES_MAX:
                self._free -= 1
            else:
                threading.Thread(target=self._serve, name="trivet-lane", daemon=True).start()
                self._threads += 1
        self._new.put(lane)

    def _serve(self) -> None:
        while True:
            try:
                lane = self._new.get(timeout=LANE_IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if self._free > 0:
                        self._free -= 1
                        self._threads -= 1
                        return
                continue
            lane.serve()
            del lane
            with self._lock:
                self._free += 1


class _Lane:
    """A thread that belongs to one request until `leave`; its work is done in the order it was given."""

    def __init__(self, lanes: _Lanes) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._running = lanes.running
        lanes.add(self)

    def serve(self) -> None:
        while (work := self._work.get()) is not None:
            with self._running:
                work()
            del work

    def submit(self, function: Callable[[], T]) -> Future[T]:
        result: Future[T] = Future()

        def work() -> None:
            if result.set_running_or_notify_cancel():
                try:
                    value = function()
                except BaseException as error:  # noqa: BLE001 - it is whose result it is
                    result.set_exception(error)
                else:
                    result.set_result(value)

        self._work.put(work)
        return result

    def leave(self) -> None:
        """The thread is free once it has done what it was given."""
        self._work.put(None)


class _Seat:
    """Where a request's lane is kept, if it has one."""

    lane: _Lane | None = None

    def leave(self) -> None:
        lane, self.lane = self.lane, None
        if lane is not None:
            lane.leave()


def _give_up(begun: Response | _web.Flight, error: BaseException | None = None) -> None:
    """Ends what nobody waits for any more, so that everything around it is told."""
    if not isinstance(begun, Response):
        error = error or asyncio.CancelledError()
        try:
            begun = begun.fail(error)
        except BaseException as raised:
            if raised is error:
                return
            raise
    begun.close()


async def _next(iterator: AsyncIterator[Any]) -> Any:
    async for piece in iterator:
        return piece
    return None


def environ_of(scope: Scope, body: _Input) -> dict[str, Any]:
    """What a WSGI server would have made of the scope (PEP 3333)."""
    raw = scope.get("raw_path")
    told = scope["path"]
    path = told.encode("utf-8", "surrogateescape")
    # A middleware may have checked or rewritten `path`, so `raw_path` never leads elsewhere: it
    # only gives back
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


def wait(app: App | None, awaitable: Awaitable[T] | T) -> T:
    """The result of a coroutine, from a thread without a loop; context variables go with it.

    Raises `RuntimeError` in the thread of the loop itself, which would wait for itself for ever.
    """
    if not inspect.isawaitable(awaitable):
        # A plain function around an `async def` has waited already.
        return awaitable
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

"""Calls of an ASGI application (version 3): its loop, its messages, its lifespan, a WebSocket."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import json
import threading
from collections.abc import Awaitable, Coroutine, Iterable, Iterator, MutableMapping
from typing import Any, TypeVar, cast
from urllib.parse import unquote_to_bytes

from .answers import Headers, Response, WebSocketClosed, WebSocketRefused
from .requests import Target

TIMEOUT_S = 10.0

T = TypeVar("T")
Message = MutableMapping[str, Any]


def is_asgi(app: Any) -> bool:
    while hasattr(app, "func"):  # functools.partial
        app = app.func
    if inspect.iscoroutinefunction(app):
        return True
    call = getattr(type(app), "__call__", None)  # noqa: B004 - the function itself is looked at
    return not inspect.isfunction(app) and inspect.iscoroutinefunction(call)


def scope_of(
    kind: str,
    target: Target,
    fields: Iterable[tuple[str, str]],
    peer: tuple[str, int],
    state: dict[str, Any],
) -> dict[str, Any]:
    """What a server gives the application; of HTTP, `method` is the caller's to add."""
    headers = [(name.lower().encode("latin-1"), value.encode("utf-8")) for name, value in fields]
    if not any(name == b"host" for name, _ in headers):
        headers.insert(0, (b"host", target.authority.encode("ascii")))
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": target.scheme,
        "path": unquote_to_bytes(target.path).decode("utf-8", "replace"),
        "raw_path": target.path.encode("ascii"),
        "query_string": target.query.encode("ascii"),
        "root_path": "",
        "headers": headers,
        "client": list(peer),
        "server": [target.host.strip("[]"), target.port],
        "state": state.copy(),
        "extensions": {},
    }


def ask(
    app: Any,
    scope: dict[str, Any],
    body: bytes | Iterable[bytes],
    url: str,
    loop: Loop,
    timeout: float,
    raises: bool,
) -> Response:
    """One request. ``raises``: an exception of the application is the caller's too."""
    pieces = [body] if isinstance(body, bytes) else list(body)
    exchange = Exchange(app, scope, loop, timeout)
    for number, piece in enumerate(pieces or [b""]):
        more = number + 1 < len(pieces)
        exchange.put({"type": "http.request", "body": piece, "more_body": more})
    try:
        start = exchange.message()
    except Exception:
        if raises:
            raise
        start = None
    if start is None:
        exchange.close()
        return Response(500, "Internal Server Error", Headers(), iter(()), url)
    if start["type"] != "http.response.start":
        exchange.close()
        raise AssertionError(f"the application sent {start['type']!r} before its response's head")
    return Response(int(start["status"]), "", _headers(start), _Body(exchange, raises), url)


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name="trivet-testing", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        pending = asyncio.all_tasks(self.loop)
        for task in pending:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError:
            if future.done():
                raise
            future.cancel()
            raise TimeoutError(f"the application said nothing for {timeout:g} s") from None

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(TIMEOUT_S)


class Exchange:
    """One call of an ASGI application, whose messages wait until they are asked for."""

    AHEAD_MAX = 16

    def __init__(self, app: Any, scope: dict[str, Any], loop: Loop, timeout: float) -> None:
        self.loop = loop
        self.timeout = timeout
        self.ended = False
        self.task: asyncio.Task[None] = loop.run(self._begin(app, scope), timeout)

    async def _begin(self, app: Any, scope: dict[str, Any]) -> asyncio.Task[None]:
        self.to_app: asyncio.Queue[Message] = asyncio.Queue()
        self.from_app: asyncio.Queue[Message | BaseException | None] = asyncio.Queue(self.AHEAD_MAX)
        self.kind = scope["type"]
        return asyncio.get_running_loop().create_task(self._call(app, scope))

    async def _call(self, app: Any, scope: dict[str, Any]) -> None:
        try:
            await cast(Awaitable[None], app(scope, self.to_app.get, self.from_app.put))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            await self.from_app.put(error)
        else:
            await self.from_app.put(None)

    def put(self, message: Message) -> None:
        self.loop.loop.call_soon_threadsafe(self.to_app.put_nowait, message)

    def next(self) -> Message | None:
        """The next message; None when the application has returned."""
        if self.ended:
            return None
        item = self.loop.run(self.from_app.get(), self.timeout)
        if isinstance(item, BaseException):
            self.ended = True
            raise item
        if item is None:
            self.ended = True
        return item

    def message(self) -> Message:
        message = self.next()
        if message is None:
            raise AssertionError("the application returned before it had answered")
        return message

    def close(self) -> None:
        """Tells the application that the client has gone, and cancels it where it does not end by itself."""
        if self.kind == "http":
            self.put({"type": "http.disconnect"})
        self.loop.run(self._end(), self.timeout + 1)

    async def _end(self) -> None:
        async def drain() -> None:
            while not self.task.done():
                await self.from_app.get()

        draining = asyncio.ensure_future(drain())
        await asyncio.wait([self.task], timeout=min(1.0, self.timeout))
        draining.cancel()
        self.task.cancel()
        await asyncio.gather(self.task, draining, return_exceptions=True)


class _Body:
    def __init__(self, exchange: Exchange, raises: bool) -> None:
        self.exchange = exchange
        self.raises = raises
        self.done = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while not self.done:
            message = self.exchange.message()
            if message["type"] != "http.response.body":
                raise AssertionError(f"the application sent {message['type']!r} in its response's body")
            self.done = not message.get("more_body", False)
            body = bytes(message.get("body", b""))
            if self.done:
                self._wait()
            if body:
                return body
        raise StopIteration

    def _wait(self) -> None:
        """What the application still does after its answer belongs to the request."""
        try:
            while self.exchange.next() is not None:
                raise AssertionError("the application sent something after the end of its response")
        except Exception:
            if self.raises:
                raise

    def close(self) -> None:
        if not self.exchange.ended:
            self.done = True
            self.exchange.close()
            self.exchange.ended = True


class Lifespan:
    """Start-up and shutdown of an ASGI application. One that knows no lifespan raises at once, which is
    allowed.
    """

    def __init__(self, app: Any, loop: Loop, state: dict[str, Any], timeout: float) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
        self.exchange = Exchange(app, scope, loop, timeout)
        self.supported = False

    def start(self) -> None:
        self.exchange.put({"type": "lifespan.startup"})
        try:
            message = self.exchange.next()
        except TimeoutError:
            raise
        except Exception:  # noqa: BLE001 - whatever it raises, it knows no lifespan
            return
        if message is None:
            return
        if message["type"] == "lifespan.startup.failed":
            self.exchange.close()
            raise RuntimeError(f"the application failed to start: {message.get('message', '')}")
        self.supported = True

    def stop(self) -> None:
        if not self.supported:
            return
        self.exchange.put({"type": "lifespan.shutdown"})
        message = self.exchange.next()
        if message is not None and message["type"] == "lifespan.shutdown.failed":
            raise RuntimeError(f"the application failed to shut down: {message.get('message', '')}")


class WebSocket:
    """An open WebSocket, from the client's side."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._closed = False
        exchange.put({"type": "websocket.connect"})
        try:
            first = exchange.message()
            if first["type"] != "websocket.accept":
                raise self._refusal(first)
        except BaseException:
            exchange.close()
            raise
        self.subprotocol: str | None = first.get("subprotocol")
        self.headers = _headers(first)

    def _refusal(self, first: Message) -> Exception:
        if first["type"] == "websocket.close":
            return WebSocketRefused(403)
        if first["type"] != "websocket.http.response.start":
            return AssertionError(f"the application sent {first['type']!r} before it accepted")
        body, more = b"", True
        while more:
            message = self._exchange.message()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return WebSocketRefused(first["status"], body)

    def send(self, message: str | bytes) -> None:
        """Sends a text or bytes."""
        kind = "text" if isinstance(message, str) else "bytes"
        self._exchange.put({"type": "websocket.receive", kind: message})

    def send_json(self, value: Any) -> None:
        """Sends a value as JSON, in a text."""
        self.send(json.dumps(value))

    def receive(self) -> str | bytes:
        """The next message. Raises WebSocketClosed, or TimeoutError."""
        message = self._exchange.message()
        if message["type"] == "websocket.close":
            self._closed = True
            raise WebSocketClosed(message.get("code", 1000), message.get("reason") or "")
        if message["type"] != "websocket.send":
            raise AssertionError(f"the application sent {message['type']!r} on an open WebSocket")
        text = message.get("text")
        return cast(str, text) if text is not None else cast(bytes, message["bytes"])

    def receive_json(self) -> Any:
        """The next message, read as JSON."""
        return json.loads(self.receive())

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Says goodbye with a code of RFC 6455 §7.4."""
        if not self._closed:
            self._closed = True
            self._exchange.put({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._exchange.close()

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _headers(message: Message) -> Headers:
    """The fields of a message; names and values may be any bytes-like objects."""
    pairs = message.get("headers", ())
    return Headers((bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in pairs)

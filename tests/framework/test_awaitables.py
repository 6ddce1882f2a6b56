"""What any handler gives is awaited if it can be: by the server's loop under ASGI, our own under WSGI."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest
from framework import drive
from trivet import App, HTTPError, Request, Response
from trivet.registry import StartError
from trivet.testing import Client, WebSocketRefused

BOTH = pytest.mark.parametrize("ask", [drive.ask_wsgi, drive.ask_asgi])


async def plain(n: int) -> dict[str, int]:
    await asyncio.sleep(0)
    return {"n": n}


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    """As many decorators are: not async, whatever they are around."""

    @functools.wraps(function)
    def around(*given: Any, **named: Any) -> Any:
        return function(*given, **named)

    return around


class Handler:
    async def __call__(self, n: int) -> dict[str, int]:
        return await plain(n)

    async def method(self, n: int) -> dict[str, int]:
        return await plain(n)

    def passes_on(self, n: int) -> Any:
        return plain(n)


class Later:
    def __init__(self, n: int) -> None:
        self.n = n

    def __await__(self) -> Generator[Any, None, dict[str, int]]:
        return plain(self.n).__await__()


def of_no_name(n: int) -> Awaitable[dict[str, int]]:
    return plain(n)


def later(n: int) -> Later:
    return Later(n)


HANDLERS = {
    "async def": plain,
    "partial": functools.partial(plain),
    "partial of an object": functools.partial(Handler()),
    "object": Handler(),
    "method": Handler().method,
    "function that gives a coroutine": of_no_name,
    "method that gives a coroutine": Handler().passes_on,
    "decorated": decorated(plain),
    "partial of what gives a coroutine": functools.partial(of_no_name),
    "what has __await__": later,
}


@BOTH
@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("kind", HANDLERS)
def test_a_coroutine_is_awaited_whoever_gives_it(kind: str, guarded: bool, ask: drive.Ask) -> None:
    app = App()
    if guarded:

        @app.intercept("/*")
        def around() -> Any:
            response = yield
            response.headers["X-Seen"] = response.text

    app.get("/{n:int}")(HANDLERS[kind])
    answer = ask(app, "/7")
    assert (answer.status, answer.json) == (200, {"n": 7})
    assert answer.get("X-Seen") == ('{"n":7}' if guarded else None)


@BOTH
def test_a_lambda_may_give_anything_later(ask: drive.Ask) -> None:
    app = App()

    async def given(value: Any) -> Any:
        await asyncio.sleep(0)
        if isinstance(value, BaseException):
            raise value
        return value

    app.get("/text")(lambda: given("text"))
    app.get("/tuple")(lambda: given(("made", 201)))
    app.get("/none")(lambda: given(None))
    app.get("/response")(lambda: given(Response("gone", 410)))
    app.get("/error")(lambda: given(HTTPError(418)))
    app.get("/stream")(lambda: given(iter(["a", "b"])))
    app.get("/twice")(lambda: given(given("x")))
    told = [(answer.status, answer.text) for answer in (ask(app, path) for path in ("/text", "/tuple"))]
    assert told == [(200, "text"), (201, "made")]
    assert [ask(app, path).status for path in ("/none", "/response", "/error")] == [204, 410, 418]
    assert ask(app, "/stream").text == "ab"
    app.propagate_errors = True
    with pytest.raises(TypeError, match="returned a coroutine"):
        ask(app, "/twice")


@pytest.mark.parametrize("kind", ["async def", "function that gives a coroutine", "object", "decorated"])
def test_under_asgi_it_is_the_servers_loop_that_awaits(kind: str) -> None:
    app = App()
    loops: list[Any] = []
    threads: list[int] = []

    async def here() -> str:
        loops.append(asyncio.get_running_loop())
        threads.append(threading.get_ident())
        return "x"

    class Object:
        async def __call__(self) -> str:
            return await here()

    app.get("/")(
        {
            "async def": here,
            "function that gives a coroutine": lambda: here(),
            "object": Object(),
            "decorated": decorated(here),
        }[kind]
    )

    async def main() -> None:
        status, _, _ = await drive.converse(app.asgi, "GET", "/")
        assert (status, loops) == (200, [asyncio.get_running_loop()])

    asyncio.run(main())
    assert threads == [threading.get_ident()]


def test_the_plain_part_of_a_decorated_handler_does_not_hold_up_the_loop() -> None:
    app = App()
    threads: list[int] = []

    async def inner() -> str:
        threads.append(threading.get_ident())
        return "x"

    @app.get("/")
    @functools.wraps(inner)
    def around() -> Any:
        threads.append(threading.get_ident())
        return inner()

    assert drive.ask_asgi(app).text == "x"
    assert threads[0] != threads[1] == threading.get_ident()


def test_a_provider_is_told_when_what_a_plain_handler_gave_fails_or_is_cancelled() -> None:
    app = App()
    told: list[str] = []

    class Thing:
        pass

    @app.provide(Thing)
    def thing() -> Iterator[Thing]:
        try:
            yield Thing()
        except BaseException as error:
            told.append(type(error).__name__)
            raise
        told.append("well")

    waits = asyncio.Event()

    async def fails(how: str) -> str:
        if how == "fail":
            raise LookupError
        if how == "wait":
            waits.set()
            await asyncio.Event().wait()
        return how

    @app.get("/{how}")
    def handler(how: str, given: Thing) -> Any:
        return fails(how)

    assert drive.ask_asgi(app, "/fine").text == "fine"
    assert drive.ask_asgi(app, "/fail").status == 500

    async def main() -> None:
        task = asyncio.ensure_future(drive.converse(app.asgi, "GET", "/wait"))
        await asyncio.wait_for(waits.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert told == ["well", "LookupError", "CancelledError"]


def test_a_websocket_may_be_a_partial_an_object_or_decorated() -> None:
    app = App()

    async def echo(ws: Any, mark: str = "") -> None:
        async for message in ws:
            await ws.send(message)

    class Echo:
        async def __call__(self, ws: Any) -> None:
            await echo(ws)

    app.websocket("/object")(Echo())
    app.websocket("/decorated")(decorated(echo))
    with Client(app, interface="asgi") as client:
        for path in ("/object", "/decorated"):
            with client.websocket(path) as socket:
                socket.send("hello")
                assert socket.receive() == "hello"
        with pytest.raises(WebSocketRefused):
            client.websocket("/nowhere")
    plain_one = App()
    plain_one.websocket("/")(lambda ws: echo(ws))
    assert "is not `async def`" in drive.refused(plain_one)


class AsyncCall:
    async def __call__(self, req: Request) -> None:
        raise AssertionError("never")


class AsyncPieces:
    async def __call__(self) -> AsyncIterator[int]:
        yield 1


@pytest.mark.parametrize("function", [AsyncCall(), functools.partial(AsyncCall()), AsyncPieces()])
def test_an_object_that_is_async_is_no_interceptor_and_no_provider(function: Any) -> None:
    app = App()
    with pytest.raises(StartError, match="is `async`"):
        app.intercept("/*")(function)
    with pytest.raises(StartError, match="is `async`"):
        app.provide(AsyncCall, function)


@BOTH
def test_an_object_may_be_a_generator_around_a_request(ask: drive.Ask) -> None:
    app = App()
    told: list[str] = []

    class Timing:
        def __call__(self) -> Iterator[None]:
            told.append("before")
            yield
            told.append("after")

    class Thing:
        pass

    class Things:
        def __call__(self) -> Iterator[Thing]:
            yield Thing()
            told.append("given back")

    app.intercept("/*")(Timing())
    app.provide(Thing, functools.partial(Things()))

    @app.get("/")
    def handler(thing: Thing) -> str:
        return type(thing).__name__

    assert ask(app).text == "Thing"
    assert told == ["before", "after", "given back"]

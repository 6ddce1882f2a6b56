"""What would end a process ends a request: `SystemExit` and `KeyboardInterrupt` of a handler."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from framework import drive
from trivet import App, Request, stream
from trivet.testing import Client

ENDING = pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt])


def in_time(function: Callable[[], Any]) -> Any:
    """What it gives or raises, in a thread that may hang."""
    given: list[Any] = []

    def run() -> None:
        try:
            given.append(function())
        except BaseException as error:  # noqa: BLE001
            given.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(drive.SECONDS_MAX)
    assert given, "it hangs"
    return given[0]


def ending_app(ending: type[BaseException]) -> App:
    app = App()

    @app.get("/async")
    async def awaited() -> str:
        raise ending

    @app.get("/task")
    async def task() -> str:
        async def ends() -> None:
            raise ending

        begun = asyncio.ensure_future(ends())
        await asyncio.wait((begun,))
        assert begun.exception() is not None
        return "on"

    @app.get("/fine")
    async def fine() -> str:
        return "fine"

    @app.get("/sync")
    def plain() -> str:
        raise ending

    return app


@ENDING
def test_a_coroutine_that_ends_the_process_ends_its_request_under_wsgi(ending: type[BaseException]) -> None:
    app = ending_app(ending)
    for _ in range(2):
        assert isinstance(in_time(lambda: drive.ask_wsgi(app, "/async")), ending)
        assert in_time(lambda: drive.ask_wsgi(app, "/fine")).text == "fine"
    assert in_time(lambda: drive.ask_wsgi(app, "/task")).text == "on"
    assert in_time(lambda: drive.ask_wsgi(app, "/fine")).text == "fine"


@ENDING
@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("path", ["/async", "/sync"])
def test_the_loop_goes_on_under_asgi(
    ending: type[BaseException], around: bool, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    app = ending_app(ending)
    told: list[str] = []
    if around:

        @app.intercept("/*")
        def tell() -> Iterator[None]:
            try:
                yield
            except BaseException as error:
                told.append(type(error).__name__)
                raise

    async def main() -> None:
        for asked in (path, "/fine"):
            status, _, _ = await drive.converse(app.asgi, "GET", asked)
            assert status == (200 if asked == "/fine" else 500)

    asyncio.run(main())
    assert told == ([ending.__name__] if around else [])
    assert ending.__name__ in capfd.readouterr().err


@ENDING
@pytest.mark.parametrize("is_async", [False, True])
def test_pieces_that_end_the_process_end_their_answer(ending: type[BaseException], is_async: bool) -> None:
    app = App()

    async def awaited() -> AsyncIterator[str]:
        yield "a"
        raise ending

    def plain() -> Iterator[str]:
        yield "a"
        raise ending

    app.get("/")(lambda: stream(awaited() if is_async else plain()))

    async def main() -> None:
        with pytest.raises(RuntimeError, match=ending.__name__):
            await drive.converse(app.asgi, "GET", "/")

    asyncio.run(main())


@ENDING
def test_a_websocket_that_ends_the_process_is_closed(ending: type[BaseException]) -> None:
    app = App()

    @app.websocket("/")
    async def ends(ws: Any) -> None:
        await ws.accept()
        raise ending

    with Client(app, interface="asgi") as client:
        for _ in range(2):
            with client.websocket("/") as socket, pytest.raises(Exception, match="1011"):
                socket.receive()


@pytest.mark.parametrize("way", ["well", "gone", "fails", "refused"])
@pytest.mark.parametrize("around", [False, True])
def test_what_waits_for_the_end_of_a_websocket_is_called(way: str, around: bool) -> None:
    app = App()
    told: list[str] = []
    if around:

        @app.intercept("/*")
        def nothing() -> Iterator[None]:
            yield

    @app.websocket("/")
    async def handler(ws: Any, req: Request) -> None:
        req.after(lambda: told.append("after"))
        if way != "refused":
            await ws.accept()
        if way == "gone":
            await ws.receive()
        elif way != "well":
            raise LookupError

    incoming = iter([{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}])
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return next(incoming)  # type: ignore[return-value]

    async def send(message: dict[str, Any]) -> None:
        assert told == []
        sent.append(message["type"])

    scope = {
        "type": "websocket", "path": "/", "raw_path": b"/", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"a")], "scheme": "ws", "http_version": "1.1", "subprotocols": [],
    }  # fmt: skip
    asyncio.run(app.asgi(scope, receive, send))  # type: ignore[arg-type]
    assert told == ["after"]
    accepted, closed = ["websocket.accept"], ["websocket.close"]
    assert sent == {"gone": accepted, "refused": closed}.get(way, accepted + closed)

"""Under ASGI, a body that is read while its answer is sent, and clients that are slow to send one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from framework import drive
from trivet import App, Request, stream
from trivet.asgi.environ import Input

SECONDS_MAX = 20.0


class Client:
    """One that sends its body when the test says so."""

    def __init__(self, app: App, path: str, length: int) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self.status = 0
        self.asked = 0
        scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": [(b"host", b"a"), (b"content-length", b"%d" % length)], "scheme": "http",
            "http_version": "1.1", "root_path": "",
        }  # fmt: skip
        self.task = asyncio.ensure_future(app.asgi(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        self.asked += 1
        assert self.asked == 1, "two wait for the same message"
        try:
            return await self.incoming.get()
        finally:
            self.asked -= 1

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["body"]:
            self.pieces.put_nowait(message["body"])

    def sends(self, body: bytes, more: bool = True) -> None:
        self.incoming.put_nowait({"type": "http.request", "body": body, "more_body": more})

    async def piece(self) -> bytes:
        return await asyncio.wait_for(self.pieces.get(), SECONDS_MAX)


def echoing() -> App:
    app = App()

    @app.post("/")
    def echo(req: Request) -> Any:
        def pieces() -> Iterator[bytes]:
            while piece := req.stream.read(4):
                yield piece

        return stream(pieces())

    return app


def test_an_answer_may_read_the_body_while_it_is_sent() -> None:
    async def main() -> None:
        client = Client(echoing(), "/", 16)
        for piece in (b"abcd", b"efgh", b"ijkl", b"mnop"):
            client.sends(piece, more=piece != b"mnop")
            assert await client.piece() == piece
        await asyncio.wait_for(client.task, SECONDS_MAX)

    asyncio.run(main())


def test_a_read_waits_for_no_more_than_it_lacks() -> None:
    async def main() -> None:
        messages: asyncio.Queue[Any] = asyncio.Queue()
        messages.put_nowait({"type": "http.request", "body": b"abcd", "more_body": True})
        loop = asyncio.get_running_loop()
        body = Input(messages.get, loop)

        @contextmanager
        def meanwhile() -> Iterator[None]:
            # Who looks whether the client has gone takes the message.
            asyncio.run_coroutine_threadsafe(body._more(), loop).result(SECONDS_MAX)
            yield

        body.waiting = meanwhile
        reading = asyncio.create_task(asyncio.to_thread(body.read, 4))
        try:
            assert await asyncio.wait_for(asyncio.shield(reading), SECONDS_MAX) == b"abcd"
        finally:
            messages.put_nowait({"type": "http.disconnect"})
            await asyncio.wait((reading,))

    asyncio.run(main())


@pytest.mark.parametrize("ahead", [8, 64 * 1024])
def test_a_body_that_came_before_it_was_read_is_whole(ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trivet.asgi.environ.AHEAD_BYTES_MAX", ahead)

    async def main() -> None:
        client = Client(echoing(), "/", 400)
        for n in range(100):
            client.sends(b"%04d" % n, more=n < 99)
        for n in range(100):
            assert await client.piece() == b"%04d" % n
        await asyncio.wait_for(client.task, SECONDS_MAX)

    asyncio.run(main())


def test_a_client_that_goes_is_noticed_though_nobody_reads_its_body() -> None:
    app = App()

    @app.post("/")
    def endless() -> Any:
        def pieces() -> Iterator[bytes]:
            while True:
                yield b"x"

        return stream(pieces())

    async def main() -> None:
        client = Client(app, "/", 16)
        client.sends(b"abcd")
        assert await client.piece() == b"x"
        client.incoming.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(client.task, SECONDS_MAX)

    asyncio.run(main())


def test_a_body_that_is_all_there_is_echoed() -> None:
    status, _, pieces = asyncio.run(drive.converse(echoing().asgi, "POST", "/", [], b"abcdefgh"))
    assert (status, b"".join(pieces)) == (200, b"abcdefgh")


@pytest.mark.parametrize("threads", [8, 400])
def test_clients_that_are_slow_to_send_take_no_place(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trivet.asgi.lanes.AT_WORK_MAX", 2)
    monkeypatch.setattr("trivet.asgi.lanes.THREADS_MAX", threads)
    app = App()
    app.get("/plain")(lambda: "plain")

    @app.post("/")
    def whole(req: Request) -> bytes:
        return req.body

    async def plain() -> None:
        for _ in range(10):
            _, _, pieces = await asyncio.wait_for(drive.converse(app.asgi, "GET", "/plain"), SECONDS_MAX)
            assert pieces == [b"plain"]

    async def main() -> None:
        slow = [Client(app, "/", 8) for _ in range(8)]
        lanes = app.asgi._lanes
        for client in slow:
            client.sends(b"abcd")
        deadline = asyncio.get_running_loop().time() + SECONDS_MAX
        while lanes._kept < 8:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.001)
        await plain()
        for client in slow:
            client.sends(b"efgh", more=False)
        for client in slow:
            assert await client.piece() == b"abcdefgh"
            await asyncio.wait_for(client.task, SECONDS_MAX)
        await plain()
        while lanes._at_work or lanes._kept:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.001)

    asyncio.run(main())

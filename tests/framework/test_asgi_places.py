"""Under ASGI, threads are left for those who need one, whatever other requests wait for."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from framework import drive
from trivet import App, Response, stream

SECONDS_MAX = 20.0


def limit(monkeypatch: pytest.MonkeyPatch, **limits: int) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(f"trivet.asgi.lanes.{name.upper()}", value)


async def statuses(app: App, paths: list[str]) -> Counter[int]:
    asked = asyncio.gather(*(drive.converse(app.asgi, "GET", path) for path in paths))
    return Counter(status for status, _, _ in await asyncio.wait_for(asked, SECONDS_MAX))


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("path", ["/sync", "/async"])
def test_handlers_may_wait_for_what_the_end_of_another_request_gives_back(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, at_work_max=4)
    app = App()
    one = threading.Semaphore(1)

    def answer() -> Response:
        response = Response("ok")
        response.on_close(one.release)
        return response

    @app.get("/sync")
    def waits() -> Any:
        return answer() if one.acquire(timeout=SECONDS_MAX / 4) else ("late", 504)

    @app.get("/async")
    async def takes() -> Any:
        while not one.acquire(blocking=False):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)  # until the places are taken
        return answer()

    paths = [path] + ["/sync"] * 12
    assert asyncio.run(statuses(app, paths)) == {200: 13}


@pytest.mark.parametrize("threads", [4, 8])
def test_lanes_that_keep_their_thread_leave_some_to_the_others(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, threads_max=threads, at_work_max=2)
    app = App()
    told: list[str] = []

    @app.intercept("/poll")
    def around() -> Iterator[None]:
        told.append("in")
        try:
            yield
        finally:
            told.append("out")

    go: list[asyncio.Event] = []

    @app.get("/poll")
    async def poll() -> str:
        await go[0].wait()
        return "x"

    app.get("/plain")(lambda: "plain")

    async def main() -> None:
        go.append(asyncio.Event())
        polls = asyncio.ensure_future(statuses(app, ["/poll"] * threads * 2))
        lanes = app.asgi._lanes
        await until(lambda: told.count("out") == threads)
        assert lanes._kept == threads
        assert await statuses(app, ["/plain"] * 10) == {200: 10}
        go[0].set()
        # Who would have left no thread for them was refused, and its interceptors were told.
        assert await polls == {200: threads, 503: threads}
        assert await statuses(app, ["/poll"]) == {200: 1}
        await until(lambda: lanes._kept == 0 and told.count("out") == told.count("in"))

    asyncio.run(main())


class Thing:
    pass


def test_a_body_with_a_lent_thing_is_refused_where_no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, threads_max=0, at_work_max=2)
    app = App()
    told: list[str] = []

    @app.provide(Thing)
    def thing() -> Iterator[Thing]:
        try:
            yield Thing()
        except Exception as error:
            told.append(type(error).__name__)
            raise

    @app.get("/")
    def lent(thing: Thing) -> Any:
        return stream(str(n) for n in range(3))

    monkeypatch.setattr("trivet.asgi.lanes.Lanes._best", lambda self, begins: self._new())
    assert asyncio.run(statuses(app, ["/"])) == {503: 1}
    assert told == ["HTTPError"]


def test_too_many_that_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, at_work_max=1, waiting_max=2)
    app = App()
    go = threading.Event()
    app.get("/")(lambda: str(go.wait(SECONDS_MAX)))

    async def main() -> None:
        asked = asyncio.ensure_future(statuses(app, ["/"] * 8))
        await until(lambda: len(app.asgi._lanes._waiting) == 2)
        await asyncio.sleep(0)
        go.set()
        assert await asked == {200: 3, 503: 5}

    asyncio.run(main())


def test_without_a_thread_a_request_fails_and_its_handler_never_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = App()
    ran: list[int] = []

    @app.get("/{n:int}")
    def handler(n: int) -> str:
        ran.append(n)
        return "x"

    async def main() -> None:
        def start(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(RuntimeError, match="new thread"):
                await drive.converse(app.asgi, "GET", "/1")
        assert await statuses(app, ["/2"]) == {200: 1}
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            assert await statuses(app, ["/3", "/4", "/5"]) == {200: 3}

    asyncio.run(main())
    assert sorted(ran) == [2, 3, 4, 5]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own() -> None:
    app = App()
    app.get("/")(lambda: "x")
    assert drive.ask_asgi(app).text == "x"
    child = os.fork()
    if child == 0:
        import signal

        signal.alarm(10)
        os._exit(0 if drive.ask_asgi(app).text == "x" else 1)
    assert os.waitpid(child, 0)[1] == 0

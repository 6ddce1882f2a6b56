"""Under ASGI, what is not async: a thread and a context for each request, which slow clients do not keep."""

from __future__ import annotations

import asyncio
import gc
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from framework import drive
from trivet import App, Request, Response, events, stream
from trivet.asgi.lanes import Lane, Lanes, Need
from trivet.db import Database

SECONDS_MAX = 20.0


class Client:
    """One that takes the next piece when the test says so."""

    def __init__(self, app: App, path: str) -> None:
        self.pieces: list[bytes] = []
        self.status = 0
        self._asked = False
        self._allowed = asyncio.Semaphore(0)
        self._came = asyncio.Event()
        self._gone = asyncio.Event()
        scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": [(b"host", b"a")], "scheme": "http", "http_version": "1.1", "root_path": "",
        }  # fmt: skip
        self.task = asyncio.ensure_future(app.asgi(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["body"]:
            self.pieces.append(message["body"])
            self._came.set()
            await self._allowed.acquire()

    async def begun(self) -> None:
        """Waits for the first piece."""
        await asyncio.wait_for(self._came.wait(), SECONDS_MAX)

    async def next(self) -> bytes:
        """Takes one piece more and gives it."""
        self._came.clear()
        self._allowed.release()
        await self.begun()
        return self.pieces[-1]

    def go_away(self) -> None:
        self._gone.set()
        self._allowed.release()

    async def rest(self) -> bytes:
        """Takes everything."""
        for _ in range(10_000):
            self._allowed.release()
        await asyncio.wait_for(self.task, SECONDS_MAX)
        return b"".join(self.pieces)


def limit(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr("trivet.asgi.lanes.THREADS_MAX", threads)


def at_rest(lanes: Lanes) -> bool:
    """Whether no thread is anybody's, and nobody waits for one."""
    with lanes._lock:
        spare = len(lanes._spare) == lanes._threads
        return spare and not lanes._shared and not lanes._waiting and lanes._at_work == 0


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.001)


def old(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return (str(n).encode() for n in range(3))


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("path", ["/plain", "/begun", "/events", "/old/x"])
def test_slow_clients_of_generators_keep_no_thread(
    path: str, around: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, 4)
    app = App()
    if around:

        @app.intercept("/*")
        def timing() -> Any:
            yield

    def numbers() -> Iterator[str]:
        for n in range(3):
            yield str(n)

    app.get("/plain")(lambda: stream(numbers()))
    app.get("/begun")(numbers)
    app.get("/events")(lambda: events(numbers()))
    app.get("/other")(lambda: "other")
    app.mount("/old", old)

    async def main() -> None:
        slow = [Client(app, path) for _ in range(54)]
        for client in slow:
            await client.begun()
        for _ in range(3):
            _, _, pieces = await drive.converse(app.asgi, "GET", "/other")
            assert b"".join(pieces) == b"other"
        for client in slow:
            body = await client.rest()
            assert (client.status, body.count(b"0"), body.count(b"2")) == (200, 1, 1)

    asyncio.run(main())
    assert app.asgi._lanes._threads == 4
    wait_for(lambda: at_rest(app.asgi._lanes))


class Tx:
    pass


@pytest.mark.parametrize("way", ["provider", "body", "async"])
def test_nobody_meets_what_is_open_in_a_thread_or_waits_for_it_there(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, 2)
    db = Database(f"sqlite:///{tmp_path / 'a.db'}")
    db.execute("CREATE TABLE t (a)")
    app = App()
    here = threading.local()

    @app.provide(Tx)
    def tx() -> Iterator[Tx]:
        with db.tx():
            here.open = True
            db.execute("INSERT INTO t VALUES (1)")
            yield Tx()
            del here.open

    def counted() -> Iterator[str]:
        for _ in range(3):
            yield str(db.value("SELECT count(*) FROM t"))

    @app.get("/provider")
    def provider(x: Tx) -> Any:
        return stream(counted())

    @app.get("/body")
    def body() -> Iterator[str]:
        with db.tx():
            here.open = True
            db.execute("INSERT INTO t VALUES (1)")
            yield from counted()
            del here.open

    events_of: list[asyncio.Event] = []

    @app.get("/async")
    async def waits(x: Tx) -> Any:
        events_of[0].set()
        await events_of[1].wait()
        return Response(b"111")

    busy, go = threading.Event(), threading.Event()

    @app.get("/busy")
    def occupies() -> str:
        busy.set()
        return str(go.wait(SECONDS_MAX))

    @app.get("/write")
    def write() -> str:
        db.execute("INSERT INTO t VALUES (2)")  # waits for the lock, which the transaction has
        return str(getattr(here, "open", False))

    async def main() -> None:
        events_of[:] = [asyncio.Event(), asyncio.Event()]
        first = Client(app, f"/{way}")
        await (events_of[0].wait() if way == "async" else first.begun())
        others = [asyncio.ensure_future(drive.converse(app.asgi, "GET", "/busy"))]
        while not busy.is_set():
            await asyncio.sleep(0.001)
        # No thread is left but the one that waits for the slow client.
        others += [asyncio.ensure_future(drive.converse(app.asgi, "GET", "/write")) for _ in range(3)]
        await asyncio.sleep(0.01)
        if way != "async":
            assert await first.next() == b"1"
        events_of[1].set()
        assert await first.rest() == b"111"
        go.set()
        for status, _, pieces in (await asyncio.gather(*others))[1:]:
            assert (status, pieces) == (200, [b"False"])

    asyncio.run(main())
    wait_for(lambda: at_rest(app.asgi._lanes))
    assert db.value("SELECT count(*) FROM t") == 4


def test_a_transaction_of_a_client_that_has_gone_is_not_left_open(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'a.db'}")
    db.execute("CREATE TABLE t (a)")
    app = App()

    @app.get("/")
    def body() -> Iterator[str]:
        with db.tx():
            db.execute("INSERT INTO t VALUES (1)")
            while True:
                yield "x"

    async def main() -> None:
        client = Client(app, "/")
        await client.begun()
        client.go_away()
        await client.rest()

    asyncio.run(main())
    wait_for(lambda: at_rest(app.asgi._lanes))
    assert db.value("SELECT count(*) FROM t") == 0
    db.execute("INSERT INTO t VALUES (2)")


def test_each_request_stays_in_its_thread_however_many_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, 3)
    app = App()

    @app.get("/")
    def rows() -> Iterator[str]:
        connection = sqlite3.connect(tmp_path / "a.db")  # which may be used in this thread alone
        try:
            for _ in range(3):
                (one,) = connection.execute("SELECT 1").fetchone()
                yield f"{one} {threading.get_ident()}\n"
        finally:
            connection.close()

    async def main() -> list[list[bytes]]:
        clients = [Client(app, "/") for _ in range(12)]
        for client in clients:
            await client.begun()
        for _ in range(2):
            for client in reversed(clients):
                await client.next()
        for client in clients:
            await client.rest()
        return [client.pieces for client in clients]

    threads = []
    for pieces in asyncio.run(main()):
        assert len(pieces) == 3
        assert len(set(pieces)) == 1
        threads.append(pieces[0])
    assert len(set(threads)) == 3


WHO: ContextVar[str] = ContextVar("who", default="nobody")


def test_a_request_has_one_context_in_all_of_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 2)
    app = App()
    ends: list[tuple[str, str, int]] = []

    @app.get("/{name}")
    def body(name: str, req: Request) -> Any:
        WHO.set(name)
        before = threading.get_ident()
        req.after(lambda: ends.append(("after", WHO.get(), before - threading.get_ident())))

        def pieces() -> Iterator[str]:
            try:
                for _ in range(3):
                    yield WHO.get()
                    WHO.set(WHO.get() + name)
            finally:
                ends.append(("finally", WHO.get(), before - threading.get_ident()))

        return stream(pieces())

    async def main() -> None:
        WHO.set("server")
        clients = {name: Client(app, f"/{name}") for name in "abcdef"}
        for client in clients.values():
            await client.begun()
        for name, client in clients.items():
            assert await client.next() == name.encode() * 2
        for name, client in clients.items():
            if name < "d":
                assert await client.next() == name.encode() * 3
            else:
                client.go_away()
            await client.rest()
        assert WHO.get() == "server"

    asyncio.run(main())
    assert sorted(end for end in ends if end[1][0] < "d") == [
        (way, name * count, 0) for way, count in [("after", 4), ("finally", 4)] for name in "abc"
    ]
    left = [end for end in ends if end[1][0] >= "d"]
    assert sorted((way, name[0], moved) for way, name, moved in left) == [
        (way, name, 0) for way in ["after", "finally"] for name in "def"
    ]


def test_what_an_interceptor_sets_the_async_handler_has_and_the_other_way_round() -> None:
    app = App()
    seen: list[str] = []

    @app.intercept("/*")
    def around() -> Any:
        token = WHO.set("interceptor")
        yield
        seen.append(WHO.get())
        WHO.reset(token)  # of this very context, else it raises
        seen.append(WHO.get())

    @app.get("/")
    async def handler() -> str:
        seen.append(WHO.get())
        WHO.set("handler")
        await asyncio.sleep(0)
        return "x"

    assert drive.ask_asgi(app).text == "x"
    assert seen == ["interceptor", "handler", "nobody"]


@pytest.mark.parametrize("how", ["gone", "cancelled"])
def test_a_generator_is_closed_once_and_not_while_it_runs(how: str) -> None:
    app = App()
    running, go = threading.Event(), threading.Event()
    told: list[str] = []

    def pieces() -> Iterator[str]:
        try:
            yield "first"
            running.set()
            assert go.wait(SECONDS_MAX)
            told.append("made")
            yield "second"
        except GeneratorExit:
            told.append("closed")
            raise
        finally:
            told.append("finally")

    @app.get("/")
    def handler(req: Request) -> Any:
        req.after(lambda: told.append("after"))
        return stream(pieces())

    async def main() -> None:
        client = Client(app, "/")
        await client.begun()
        client._allowed.release()
        while not running.is_set():
            await asyncio.sleep(0.001)
        if how == "gone":
            client.go_away()
        else:
            client.task.cancel()
        for _ in range(10):
            await asyncio.sleep(0.001)
        assert told == []
        go.set()
        if how == "gone":
            await asyncio.wait_for(client.task, SECONDS_MAX)
        else:
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(client.task, SECONDS_MAX)

    asyncio.run(main())
    wait_for(lambda: at_rest(app.asgi._lanes))
    assert told == ["made", "closed", "finally", "after"]


def test_those_who_wait_for_a_thread_are_given_one_in_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trivet.asgi.lanes.AT_WORK_MAX", 2)
    app = App()
    working = most = 0
    lock = threading.Lock()

    @app.get("/")
    def work() -> str:
        nonlocal working, most
        with lock:
            working += 1
            most = max(most, working)
        time.sleep(0.002)
        with lock:
            working -= 1
        return "done"

    async def main() -> None:
        asked = [drive.converse(app.asgi, "GET", "/") for _ in range(40)]
        assert {status for status, _, _ in await asyncio.gather(*asked)} == {200}

    asyncio.run(main())
    assert most == 2
    assert app.asgi._lanes._threads == 2


def test_what_a_request_held_is_free_at_its_end() -> None:
    app = App()
    held: list[weakref.ref[Tx]] = []

    @app.intercept("/*")
    def hold(req: Request) -> None:
        made = req.environ["test.held"] = Tx()
        held.append(weakref.ref(made))

    app.get("/sync")(lambda: "x")
    app.get("/stream")(lambda: stream(str(n) for n in range(3)))

    @app.get("/async")
    async def awaited() -> str:
        return "x"

    for path in ("/sync", "/stream", "/async"):
        gc.disable()
        try:
            assert drive.ask_asgi(app, path).status == 200
            wait_for(lambda: all(ref() is None for ref in held))
        finally:
            gc.enable()
    assert len(held) == 3


def test_threads_without_work_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trivet.asgi.lanes.IDLE_SECONDS", 0.01)
    app = App()
    app.get("/")(lambda: "x")
    for _ in range(3):
        assert drive.ask_asgi(app).text == "x"
        wait_for(lambda: app.asgi._lanes._threads == 0)
    assert at_rest(app.asgi._lanes)


@pytest.mark.parametrize("seed", range(8))
def test_steps_keep_their_order_thread_and_distance(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random requests on few threads: whatever they do, the rules of `lanes` hold."""
    limit(monkeypatch, 3)
    monkeypatch.setattr("trivet.asgi.lanes.AT_WORK_MAX", 2)
    lanes = Lanes()
    here = threading.local()
    wrong: list[str] = []

    async def request(number: int, chance: random.Random) -> None:
        need = Need.ANY
        thread: int | None = None
        done = 0

        def step(place: int, needs: Need) -> None:
            nonlocal need, thread, done
            if place != done:
                wrong.append(f"step {place} came after {done}")
            done += 1
            if need is not Need.ANY and thread != threading.get_ident():
                wrong.append("it moved")
            if getattr(here, "of", number) != number:
                wrong.append("it met what is another's")
            thread = threading.get_ident()
            need = needs
            if need is Need.ALONE:
                here.of = number
            elif hasattr(here, "of"):
                del here.of

        lane = Lane(lanes, lambda: need)
        steps = chance.randrange(1, 8)
        for place in range(steps):
            # The last one ends what is open.
            needs = chance.choice(list(Need)) if place < steps - 1 else Need.SAME
            given = lane.submit(step, place, needs)
            if chance.random() < 0.7:
                await asyncio.wrap_future(given)
                if chance.random() < 0.5:
                    await asyncio.sleep(chance.random() / 500)
        lane.leave()
        await asyncio.wrap_future(given)

    async def main() -> None:
        chance = random.Random(seed)
        requests = [request(number, random.Random(chance.random())) for number in range(150)]
        await asyncio.wait_for(asyncio.gather(*requests), SECONDS_MAX)

    asyncio.run(main())
    assert wrong == []
    wait_for(lambda: at_rest(lanes))
    assert lanes._threads <= 3 + 2 * 2

"""What went wrong once under ASGI, and with coroutines."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from framework import drive
from trivet import App, Body, Request, file
from trivet.db import Database


def ask(app: App, path: str, raw: bytes | None = None, root: str = "") -> drive.Answer:
    """One GET whose `raw_path` may say something else than its `path`."""

    async def between(scope: Any, receive: Any, send: Any) -> None:
        scope = {**scope, "path": path, "root_path": root, "raw_path": path.encode() if raw is None else raw}
        await app.asgi(scope, receive, send)

    status, fields, pieces = asyncio.run(drive.converse(between, "GET", "/"))
    return drive.Answer(status, fields, b"".join(pieces), pieces)


def test_what_a_middleware_says_about_the_path_is_what_is_routed() -> None:
    app = App()

    @app.get("/admin/x")
    def admin() -> str:
        return "admin"

    @app.get("/pub/{name}")
    def public(name: str) -> str:
        return f"public {name}"

    assert ask(app, "/pub/x", b"/admin/x").text == "public x"
    assert ask(app, "/pub/x", b"/en/pub/x").text == "public x"
    assert ask(app, "/root/pub/x", b"/root/pub/x", root="/root").text == "public x"
    # Which slashes were sent as `%2F` is still known, and bytes that are no UTF-8 are no text.
    assert ask(app, "/pub/a/b", b"/pub/a%2Fb").text == "public a/b"
    assert ask(app, "/pub/a/b", b"/pub/a/b").status == 404
    assert ask(app, "/pub/\ufffd", b"/pub/%FF").status == drive.ask_wsgi(app, "/pub/%FF").status
    assert ask(app, "/admin/\ufffd", b"/pub/%FF").status == 404


def test_a_get_with_a_body_is_read_beside_the_loop() -> None:
    app = App()

    @app.get("/x")
    def handler(data: Body[dict]) -> Any:  # type: ignore[type-arg]
        return data

    assert drive.ask_asgi(app, "/x", data={"a": 1}).json == {"a": 1}


def test_waiting_for_the_loop_in_the_loop_is_an_error() -> None:
    inner, outer = App(), App()
    outer.propagate_errors = True

    @inner.get("/")
    async def inside() -> str:
        return "inside"

    inner.propagate_errors = True

    @outer.get("/")
    async def around() -> str:
        return drive.ask_wsgi(inner).text

    caught: list[BaseException] = []

    def main() -> None:
        try:
            drive.ask_wsgi(outer)
        except BaseException as error:  # noqa: BLE001
            caught.append(error)

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert "wait for itself" in str(caught[0])
    assert drive.ask_wsgi(inner).text == "inside"


class Tx:
    pass


@pytest.mark.parametrize("way", ["/stream", "/async", "/sync", "/own"])
def test_a_transaction_around_a_request_stays_in_its_thread(tmp_path: Path, way: str) -> None:
    db = Database(f"sqlite:///{tmp_path / 'a.db'}")
    db.execute("CREATE TABLE t (a)")
    app = App()

    @app.provide(Tx)
    def tx() -> Iterator[Tx]:
        with db.tx():
            yield Tx()

    @app.get("/stream")
    def streamed(x: Tx) -> Any:
        db.execute("INSERT INTO t VALUES (1)")
        return (str(db.value("SELECT 1")) for _ in range(3))

    @app.get("/own")
    def own() -> Any:
        with db.tx():
            db.execute("INSERT INTO t VALUES (1)")
            for _ in range(3):
                yield str(db.value("SELECT 1"))

    @app.get("/async")
    async def awaited(x: Tx) -> str:
        await asyncio.sleep(0.02)
        return "111"

    @app.get("/sync")
    def plain(x: Tx) -> str:
        db.execute("INSERT INTO t VALUES (1)")
        return "111"

    @app.get("/other")
    def other() -> str:
        return "other"

    async def main() -> None:
        some = [drive.converse(app.asgi, "GET", path) for path in [way, "/other", "/other"] * 4]
        for number, (status, _, pieces) in enumerate(await asyncio.gather(*some)):
            assert (status, b"".join(pieces)) == (200, b"other" if number % 3 else b"111")

    asyncio.run(main())
    assert db.value("SELECT count(*) FROM t") == (0 if way == "/async" else 4)


def test_parked_requests_keep_no_other_from_working() -> None:
    app = App()
    threads: set[tuple[str, int]] = set()

    @app.intercept("/*")
    def around(req: Request) -> Any:
        name = req.query.get("n", "")
        threads.add((name, threading.get_ident()))
        yield
        threads.add((name, threading.get_ident()))

    go: list[asyncio.Event] = []

    @app.get("/wait")
    async def waits() -> str:
        await go[0].wait()
        return "waited"

    @app.get("/now")
    def now() -> str:
        return "now"

    async def main() -> None:
        go.append(asyncio.Event())
        waiting = [asyncio.ensure_future(drive.converse(app.asgi, "GET", f"/wait?n={n}")) for n in range(60)]
        while len(threads) < 60 and not any(one.done() for one in waiting):
            await asyncio.sleep(0.001)
        assert (await drive.converse(app.asgi, "GET", "/now"))[0] == 200
        go[0].set()
        assert {status for status, _, _ in await asyncio.gather(*waiting)} == {200}

    asyncio.run(main())
    assert (
        len({thread for name, thread in threads if name}) == len({name for name, _ in threads if name}) == 60
    )


@pytest.mark.parametrize("stage", ["begin", "prefetch", "await"])
@pytest.mark.parametrize("pinned", [True, False])
def test_who_waits_around_a_request_is_told_when_it_is_cancelled(stage: str, pinned: bool) -> None:
    app = App()
    told: list[str] = []
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    if pinned:

        @app.intercept("/*")
        def around() -> Any:
            begun.set()
            try:
                yield
            except BaseException as error:
                told.append(type(error).__name__)
                ended.set()
                raise

    @app.post("/begin", csrf=False)
    def begin(req: Request) -> str:
        begun.set()
        req.after(lambda: (told.append("after"), ended.set()))
        assert go.wait(10)
        return "x"

    @app.post("/await", csrf=False)
    async def awaits(req: Request) -> str:
        begun.set()
        await asyncio.Event().wait()
        return "x"

    async def main() -> None:
        async def receive() -> Any:
            begun.set()
            if stage == "prefetch":
                await asyncio.Event().wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            raise AssertionError(message)

        path = "/begin" if stage == "begin" else "/await"
        scope = {
            "type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"",
            "http_version": "1.1", "scheme": "http",
        }  # fmt: skip
        task = asyncio.ensure_future(app.asgi(scope, receive, send))
        while not begun.is_set() and not task.done():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()

    asyncio.run(main())
    if pinned or stage == "begin":
        assert ended.wait(10)
        assert told == (["after"] if stage == "begin" else ["CancelledError"])


@pytest.mark.parametrize("ask_it", [drive.ask_wsgi, drive.ask_asgi])
def test_a_wrapper_may_be_async_where_the_handler_is_not_and_the_other_way_round(ask_it: drive.Ask) -> None:
    app = App()

    async def slow() -> str:
        return "slow"

    def quick() -> str:
        return "quick"

    @app.get("/a")
    @functools.wraps(quick)
    async def around_quick() -> str:
        return quick() + "er"

    @app.get("/b")
    @functools.wraps(slow)
    def around_slow() -> str:
        return "cached"

    @app.get("/c")
    @functools.wraps(slow)
    def passes_on() -> Any:
        return slow()

    assert [ask_it(app, path).text for path in ("/a", "/b", "/c")] == ["quicker", "cached", "slow"]


def test_slow_clients_of_files_keep_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trivet.asgi.lanes.THREADS_MAX", 4)
    (tmp_path / "large").write_bytes(b"x" * 1_000_000)
    app = App()
    app.get("/file")(lambda: file(tmp_path / "large"))
    app.get("/other")(lambda: "other")

    async def main() -> None:
        taken = asyncio.Event()
        begun = 0

        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError("never")

        async def slowly(message: dict[str, Any]) -> None:
            nonlocal begun
            if message["type"] == "http.response.body":
                begun += 1
                await taken.wait()

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/file",
            "raw_path": b"/file",
            "query_string": b"",
            "headers": [(b"host", b"a")],
            "scheme": "http",
            "http_version": "1.1",
            "root_path": "",
        }
        downloads = [asyncio.create_task(app.asgi(scope, receive, slowly)) for _ in range(8)]
        for _ in range(2000):
            if begun == 8:
                break
            await asyncio.sleep(0.01)
        assert begun == 8, "each of them has its first piece"
        answer = await asyncio.wait_for(drive.converse(app.asgi, "GET", "/other"), 20)
        assert b"".join(answer[2]) == b"other"
        taken.set()
        await asyncio.gather(*downloads)

    asyncio.run(main())

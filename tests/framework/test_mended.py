"""Defects that a review found, each as what a client or an app saw of it."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from framework.caller import Answer, Caller
from trivet import (
    App,
    Form,
    HTTPError,
    MemoryStore,
    Request,
    Response,
    Session,
    Sessions,
    file,
    redirect,
)

SECRET = "0123456789abcdef0123456789abcdef"


def cookie_of(answer: Answer) -> str:
    return (answer["Set-Cookie"] or "").partition(";")[0]


def shared_handler(app: App, shared: Response) -> None:
    @app.get("/{name}")
    def show(name: str) -> Response:
        return shared


def shared_tuple(app: App, shared: Response) -> None:
    @app.get("/{name}")
    def show(name: str) -> Any:
        return shared, 303


def shared_interceptor(app: App, shared: Response) -> None:
    @app.intercept("/*")
    def stop(req: Request) -> Response:
        return shared

    @app.get("/{name}")
    def show(name: str) -> str:
        return name


def shared_in_the_place_of_another(app: App, shared: Response) -> None:
    @app.intercept("/*")
    def instead(req: Request) -> Iterator[Any]:
        yield
        return shared

    @app.get("/{name}")
    def show(name: str) -> str:
        return name


def shared_for_an_exception(app: App, shared: Response) -> None:
    @app.intercept("/*")
    def instead(req: Request) -> Iterator[Any]:
        try:
            yield
        except KeyError:
            return shared

    @app.get("/{name}")
    def show(name: str) -> str:
        raise KeyError(name)


def shared_error_handler(app: App, shared: Response) -> None:
    @app.error(404)
    def missing() -> Response:
        return shared

    @app.get("/{name}")
    def show(name: str) -> str:
        raise HTTPError(404)


def shared_by_a_cache(app: App, shared: Response) -> None:
    kept: list[Response] = []

    @app.intercept("/*")
    def cache(req: Request) -> Iterator[Any]:
        if kept:
            return kept[0]
        kept.append((yield))

    @app.get("/{name}")
    def show(name: str) -> Response:
        response = Response("", headers={"Location": "/login"})
        response.on_close(*shared._closers)
        return response


@pytest.mark.parametrize(
    "declare",
    [
        shared_handler,
        shared_tuple,
        shared_interceptor,
        shared_in_the_place_of_another,
        shared_for_an_exception,
        shared_error_handler,
        shared_by_a_cache,
    ],
)
def test_one_response_for_all_is_not_one_for_each_others_cookies(
    declare: Callable[[App, Response], None],
) -> None:
    app = App(secret=SECRET)
    log: list[str] = []

    @app.intercept("/*")
    def touch(req: Request) -> None:
        who = req.path.strip("/")
        req.after(lambda: log.append(who))
        if who != "nobody":
            req.session["who"] = who
            req.reply_headers["X-Who"] = who

    shared = redirect("/login")
    shared.on_close(lambda: log.append("closed"))
    before = shared.headers.items()
    declare(app, shared)
    caller = Caller(app)
    for who in ("anna", "bert"):
        log.clear()
        answer = caller.get(f"/{who}")
        assert (answer["Location"], answer.all("X-Who")) == ("/login", [who])
        assert len(answer.all("Set-Cookie")) == 1
        assert sorted(log) == sorted([who, "closed"])
    answer = caller.get("/nobody")
    assert (answer["Location"], answer["Set-Cookie"], answer["X-Who"]) == ("/login", None, None)
    assert shared.headers.items() == before


def test_a_list_of_fields_stays_the_apps_own() -> None:
    app = App()
    fields = [("X-Fixed", "1")]

    @app.get("/{name}")
    def show(req: Request, name: str) -> Response:
        req.reply_headers["X-Who"] = name
        return Response("x", 200, fields)

    assert Caller(app).get("/anna")["X-Who"] == "anna"
    assert fields == [("X-Fixed", "1")]


def test_a_response_knows_what_is_added_while_it_is_sent() -> None:
    app = App()
    log: list[str] = []

    @app.get("/")
    def late() -> Response:
        def pieces() -> Iterator[bytes]:
            response.on_close(lambda: log.append("late"))
            yield b"x"

        response = Response(pieces())
        return response

    assert Caller(app).get("/").body == b"x"
    assert log == ["late"]


def test_a_file_with_a_status_keeps_its_conditions(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"0123456789")
    app = App()

    @app.get("/{status}")
    def show(status: int) -> Any:
        return file(path), status, {"X-A": "1"}

    @app.error(410)
    def gone() -> Any:
        return file(path), 200

    @app.get("/gone")
    def fail() -> None:
        raise HTTPError(410)

    caller = Caller(app)
    for url in ("/200", "/gone"):
        whole = caller.get(url)
        assert (whole.status, whole.body) == (200, b"0123456789")
        again = caller.get(url, if_none_match=whole["ETag"])
        assert (again.status, again.body) == (304, b"")
        part = caller.get(url, range="bytes=2-4")
        assert (part.status, part.body, part["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    assert caller.get("/200", range="bytes=2-4")["X-A"] == "1"
    other = caller.get("/404", range="bytes=2-4")
    assert (other.status, other.body, other["Content-Range"]) == (404, b"0123456789", None)


class Tx:
    pass


@pytest.mark.parametrize("fails", ["large", "store"])
def test_nothing_is_committed_for_an_answer_that_fails(fails: str) -> None:
    class Broken(MemoryStore):
        def save(self, id: str, data: bytes, max_age: int) -> None:
            raise OSError("the store is away")

    app = App(secret=SECRET, sessions=Sessions(store=Broken() if fails == "store" else None))
    log: list[str] = []

    @app.provide(Tx)
    def tx() -> Iterator[Tx]:
        try:
            yield Tx()
        except BaseException:
            log.append("rollback")
            raise
        log.append("commit")

    @app.get("/{size}")
    def show(size: int, tx: Tx, req: Request, session: Session) -> str:
        req.after(lambda: log.append("after"))
        session["x"] = secrets.token_hex(size)
        return "done"

    caller = Caller(app)
    answer = caller.get("/5000")
    assert answer.status == 500
    assert log == ["rollback", "after"]
    if fails == "large":
        log.clear()
        answer = caller.get("/5")
        assert (answer.text, log, len(answer.all("Set-Cookie"))) == ("done", ["commit", "after"], 1)


def test_a_commit_that_fails_is_a_500_with_one_session_cookie() -> None:
    app = App(secret=SECRET, sessions=Sessions(store=MemoryStore()))

    @app.provide(Tx)
    def tx() -> Iterator[Tx]:
        yield Tx()
        raise OSError("no commit")

    @app.get("/in")
    def sign_in(session: Session) -> str:
        session["a"] = 1
        return "in"

    @app.get("/rotate")
    def rotate(tx: Tx, session: Session) -> str:
        session.rotate()
        return "done"

    @app.get("/who")
    def who(session: Session) -> dict[str, Any]:
        return dict(session)

    caller = Caller(app)
    old = cookie_of(caller.get("/in"))
    answer = caller.get("/rotate", cookie=old)
    assert (answer.status, len(answer.all("Set-Cookie"))) == (500, 1)
    assert caller.get("/who", cookie=cookie_of(answer)).json == {"a": 1}
    assert caller.get("/who", cookie=old).json == {}


class Socket(io.BytesIO):
    """As a connection that stays open: to read beyond what came would wait for ever."""

    ended = False

    def read(self, size: int | None = -1) -> bytes:
        assert not self.ended, "the rest was asked for again"
        data = super().read(size)
        self.ended = not data
        return data


MULTIPART = "multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    ("kind", "body", "length"),
    [
        (MULTIPART, b"abc", 3),
        (MULTIPART, b"abc", 10),
        ("application/x-www-form-urlencoded", b"name=a", 10),
    ],
)
@pytest.mark.parametrize("again", ["form", "files", "body", "stream"])
def test_a_body_that_failed_is_not_read_again(kind: str, body: bytes, length: int, again: str) -> None:
    app = App()
    seen: list[str] = []

    @app.post("/")
    def show(name: Form[str]) -> str:
        return name

    @app.error(400)
    def bad(req: Request, error: HTTPError) -> Any:
        try:
            value = getattr(req, again)
            if again == "stream":
                value.read()
        except HTTPError as second:
            seen.append("same" if second is error else str(second))
        return "bad", 400

    answer = Caller(app).request(
        "POST", "/", body, content_type=kind, content_length=str(length), **{"wsgi.input": Socket(body)}
    )
    assert (answer.status, answer.text, seen) == (400, "bad", ["same"])


def test_a_stream_that_ended_early_says_so_again() -> None:
    app = App()

    @app.post("/")
    def show(req: Request) -> str:
        stream = req.stream
        assert stream.read(3) == b"abc"
        for _ in range(2):
            with pytest.raises(HTTPError, match="shorter"):
                stream.read(3)
        with pytest.raises(HTTPError, match="shorter"):
            _ = req.body
        return "ok"

    answer = Caller(app).request("POST", "/", content_length="10", **{"wsgi.input": Socket(b"abc")})
    assert answer.text == "ok"


class Plain:
    """A store without `replace`."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def load(self, id: str) -> bytes | None:
        return self.kept.get(id)

    def save(self, id: str, data: bytes, max_age: int) -> None:
        self.kept[id] = data

    def delete(self, id: str) -> None:
        self.kept.pop(id, None)


@pytest.mark.parametrize("make", [MemoryStore, Plain])
@pytest.mark.parametrize("how", ["write", "rotate", "refresh"])
def test_a_revoked_session_stays_revoked(
    make: Callable[[], Any], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(secret=SECRET, sessions=Sessions(store=make(), max_age=1000))

    @app.get("/in")
    def sign_in(session: Session) -> str:
        session["uid"] = 5
        return "in"

    @app.get("/out")
    def sign_out(session: Session) -> str:
        session.clear()
        return "out"

    @app.get("/who")
    def who(session: Session) -> dict[str, Any]:
        return dict(session)

    @app.get("/slow")
    def slow(session: Session, meanwhile: str = "") -> str:
        assert session["uid"] == 5
        if meanwhile:
            Caller(app).get(meanwhile, cookie=cookie)
        if how == "write":
            session["seen"] = True
        elif how == "rotate":
            session.rotate()
        return "slow"

    caller = Caller(app)
    cookie = cookie_of(caller.get("/in"))
    if how == "refresh":
        import time

        now = time.time()
        monkeypatch.setattr("trivet.session.time.time", lambda: now + 500)
    answer = caller.get("/slow?meanwhile=/out", cookie=cookie)
    assert (answer.text, answer["Set-Cookie"]) == ("slow", None)
    assert caller.get("/who", cookie=cookie).json == {}
    monkeypatch.undo()
    cookie = cookie_of(caller.get("/in"))
    answer = caller.get("/slow", cookie=cookie)
    if how != "refresh":
        cookie = cookie_of(answer)
    assert caller.get("/who", cookie=cookie).json["uid"] == 5


def test_a_memory_store_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("trivet.session.time.time", lambda: now)
    store = MemoryStore()
    for number in range(1000):
        store.save(f"old-{number}", b"x", 10)
    now = 2000.0
    for number in range(100):
        store.save(f"new-{number}", b"x", 10)
    assert len(store._kept) == 100

    store = MemoryStore(3)
    for name in ("a", "b", "c", "a", "d"):
        store.save(name, b"x", 10)
    assert [store.load(name) for name in "abcd"] == [b"x", None, b"x", b"x"]
    with pytest.raises(ValueError, match="at least 1"):
        MemoryStore(0)


def test_a_generator_may_fail_before_its_first_piece() -> None:
    app = App()
    log: list[str] = []

    @app.get("/{what}")
    def show(what: str) -> Iterator[str]:
        try:
            if what == "missing":
                raise HTTPError(404)
            if what == "wrong":
                raise KeyError(what)
            if what == "nothing":
                return
            yield "a"
            yield "b"
        finally:
            log.append(what)

    @app.error(KeyError)
    def wrong() -> Any:
        return "handled", 418

    @app.intercept("/*")
    def instead(req: Request) -> Iterator[Any]:
        yield
        if req.path == "/replaced":
            return Response("other")

    caller = Caller(app)
    expected = [
        ("pieces", 200, "ab"),
        ("wrong", 418, "handled"),
        ("nothing", 200, ""),
        ("replaced", 200, "other"),
    ]
    for what, status, text in expected:
        answer = caller.get(f"/{what}")
        assert (answer.status, answer.text) == (status, text)
    assert caller.get("/missing").status == 404
    assert caller.head("/missing").status == 404
    assert log == ["pieces", "wrong", "nothing", "replaced", "missing", "missing"]

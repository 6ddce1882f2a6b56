"""Defects that a review found, each as what a client or an app saw of it."""

from __future__ import annotations

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

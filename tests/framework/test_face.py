"""Handlers on the public face, sentence by sentence: WSGI under `wsgiref.validate`, and ASGI."""

from __future__ import annotations

import asyncio
import io
import threading
import uuid
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from framework import drive
from framework.drive import Ask
from trivet import (
    App,
    Request,
    Response,
    WebSocket,
    events,
    file,
    redirect,
    stream,
)

KEY = "a key that only tests know, and long enough"


@pytest.fixture(params=["wsgi", "asgi"])
def ask(request: pytest.FixtureRequest) -> Ask:
    return drive.ask_wsgi if request.param == "wsgi" else drive.ask_asgi


def says(value: Any) -> App:
    """An application whose front page returns this."""
    app = App(secret=KEY)
    app.get("/")(lambda: value)
    return app


# Results


def test_str_is_html(ask: Ask) -> None:
    answer = ask(says("caf\u00e9"))
    assert (answer.status, answer.body) == (200, "caf\u00e9".encode())
    assert (answer.get("Content-Type") or "").lower() == "text/html; charset=utf-8"
    assert answer.get("Content-Length") == "5"


def test_bytes_are_an_octet_stream(ask: Ask) -> None:
    answer = ask(says(b"\x00\xff"))
    assert (answer.body, answer.get("Content-Type")) == (b"\x00\xff", "application/octet-stream")


@dataclass
class Point:
    x: int
    y: float = 0.5


Row = namedtuple("Row", "id name")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"a": [1, None, True, "\u2603"]}, {"a": [1, None, True, "\u2603"]}),
        ([1, 2.5, {"b": []}], [1, 2.5, {"b": []}]),
        (Point(1), {"x": 1, "y": 0.5}),
        ([Point(1), Point(2)], [{"x": 1, "y": 0.5}, {"x": 2, "y": 0.5}]),
        ({}, {}),
        ([], []),
    ],
)
def test_dict_list_and_dataclass_are_json(ask: Ask, value: Any, shown: Any) -> None:
    answer = ask(says(value))
    assert (answer.status, answer.json) == (200, shown)
    assert (answer.get("Content-Type") or "").startswith("application/json")


def test_none_is_204(ask: Ask) -> None:
    answer = ask(says(None))
    assert (answer.status, answer.body, answer.get("Content-Type")) == (204, b"", None)


def test_a_tuple_is_body_status_and_headers(ask: Ask) -> None:
    assert ask(says(("made", 201))).status == 201
    answer = ask(says(({"a": 1}, 202, {"X-Own": "yes"})))
    assert (answer.status, answer.json, answer.get("X-Own")) == (202, {"a": 1}, "yes")


def test_rows_and_named_tuples_are_json_and_no_status(ask: Ask) -> None:
    answer = ask(says(Row(404, "ada")))
    assert answer.status == 200
    assert answer.json in ([404, "ada"], {"id": 404, "name": "ada"})
    assert ask(says([Row(1, "a")])).status == 200


def test_generators_stream(ask: Ask) -> None:
    app = App()

    @app.get("/")
    def lines() -> Iterator[str]:
        for i in range(3):
            yield f"line {i}\n"

    answer = ask(app)
    assert answer.body == b"line 0\nline 1\nline 2\n"
    assert answer.get("Content-Length") is None
    assert len([piece for piece in answer.pieces if piece]) == 3


def test_a_generator_begins_only_when_it_is_read_and_ends_when_the_client_goes() -> None:
    app, seen = App(), []

    @app.get("/")
    def endless() -> Iterator[bytes]:
        try:
            while True:
                seen.append("made")
                yield b"x"
        finally:
            seen.append("closed")

    result = app(drive.environ_of("GET", "/"), lambda status, headers, exc_info=None: lambda data: None)
    iterator = iter(result)
    assert [next(iterator), next(iterator)] == [b"x", b"x"]
    result.close()
    assert seen[-1] == "closed"
    assert seen.count("made") <= 3


def test_a_value_that_nobody_knows_is_500(ask: Ask) -> None:
    assert ask(says(object())).status == 500


def test_response_redirect_file_stream_and_events(ask: Ask, tmp_path: Any) -> None:
    picture = tmp_path / "a picture.png"
    picture.write_bytes(b"\x89PNG" + bytes(range(256)) * 300)
    app = App()
    app.get("/response")(lambda: Response("x", status=418, headers={"X-A": "1"}))
    app.get("/redirect")(lambda: redirect("/there"))
    app.get("/file")(lambda: file(picture))
    app.get("/download")(lambda: file(picture, download="caf\u00e9 1.png"))
    app.get("/stream")(lambda: stream(iter([b"a", b"b"])))
    app.get("/events")(lambda: events(iter(["one", "two\nlines"])))
    answer = ask(app, "/response")
    assert (answer.status, answer.get("X-A"), answer.body) == (418, "1", b"x")
    answer = ask(app, "/redirect")
    assert (answer.status in (302, 303), answer.get("Location")) == (True, "/there")
    answer = ask(app, "/file")
    assert (answer.body, answer.get("Content-Type")) == (picture.read_bytes(), "image/png")
    assert answer.get("Content-Length") == str(picture.stat().st_size)
    part = ask(app, "/file", fields={"Range": "bytes=4-7"})
    assert (part.status, part.body) == (206, b"\0\1\2\3")
    assert part.get("Content-Range") == f"bytes 4-7/{picture.stat().st_size}"
    unchanged = ask(app, "/file", fields={"If-None-Match": answer.get("ETag") or ""})
    assert (unchanged.status, unchanged.body) == (304, b"")
    said = ask(app, "/download").get("Content-Disposition") or ""
    assert said.startswith("attachment")
    assert "filename*=UTF-8''caf%C3%A9%201.png" in said
    assert ask(app, "/stream").body == b"ab"
    answer = ask(app, "/events")
    assert (answer.get("Content-Type") or "").startswith("text/event-stream")
    assert answer.body == b"data: one\n\ndata: two\ndata: lines\n\n"


def test_redirect_carries_next_and_location_never_leaves_by_accident(ask: Ask) -> None:
    app = App()

    @app.get("/{rest:path}")
    def go(req: Request) -> Response:
        return redirect("/login", next=req.path)

    assert ask(app, "/a/b?c=d").get("Location") == "/login?next=%2Fa%2Fb"
    for target in ("//evil.example", "/\\evil.example"):
        location = ask(says(redirect("/ok"))).get("Location") or ""
        assert location == "/ok"
        try:
            location = ask(says(redirect(target))).get("Location") or "/"
        except ValueError:
            continue
        assert not location.startswith(("//", "/\\")), location


# Routes


def test_every_method_has_its_decorator_and_returns_the_function_unchanged(ask: Ask) -> None:
    app = App()
    for name in ("get", "post", "put", "patch", "delete", "head", "options"):

        def handle(req: Request) -> tuple[str, int, dict[str, str]]:
            return "", 200, {"X-Method": req.method}

        assert getattr(app, name)(f"/{name}")(handle) is handle
        assert ask(app, f"/{name}", name.upper()).get("X-Method") == name.upper()
        app = App()

    async def chat(ws: WebSocket) -> None: ...

    assert app.websocket("/ws")(chat) is chat

    @app.route("/both", methods=["GET", "POST"])
    def both(req: Request) -> str:
        return req.method

    assert [ask(app, "/both", m).text for m in ("GET", "POST")] == ["GET", "POST"]


def test_converters(ask: Ask) -> None:
    app = App()
    seen: list[Any] = []

    def keep(v: Any) -> str:
        seen.append(v)
        return type(v).__name__

    # Annotated as the converter gives them.
    def int_(v: int) -> str:
        return keep(v)

    def float_(v: float) -> str:
        return keep(v)

    def uuid_(v: uuid.UUID) -> str:
        return keep(v)

    def date_(v: date) -> str:
        return keep(v)

    def str_(v: str) -> str:
        return keep(v)

    app.get("/str/{v}")(str_)
    app.get("/int/{v:int}")(int_)
    app.get("/float/{v:float}")(float_)
    app.get("/uuid/{v:uuid}")(uuid_)
    app.get("/date/{v:date}")(date_)
    app.get("/path/{v:path}")(str_)
    app.get("/re/{v:re([a-z]{2}[0-9]+)}")(str_)
    a_uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    good: dict[str, Any] = {
        "/str/a%20b": "a b",
        "/str/%C3%A9;x=1": "\u00e9;x=1",
        "/int/0": 0,
        "/int/-12": -12,
        "/int/9223372036854775807": 9223372036854775807,
        "/float/1.50": 1.5,
        f"/uuid/{a_uuid.upper()}": uuid.UUID(a_uuid),
        "/date/2024-02-29": date(2024, 2, 29),
        "/path/a/b.txt": "a/b.txt",
        "/re/ab12": "ab12",
    }
    for target, value in good.items():
        assert ask(app, target).status == 200, target
        assert seen[-1] == value
        assert type(seen[-1]) is type(value)
    bad = (
        "/int/01 /int/+1 /int/1.0 /int/x /int/%D9%A1 /int/1_0 /float/1 /float/.5 /float/1e3 /float/nan "
        "/date/2023-02-29 /date/2024-2-9"
        " /uuid/a0eebc999c0b4ef8bb6d6bb9bd380a11 /re/abc /re/ab12x /str/ /path/"
    )
    for target in bad.split():
        assert ask(app, target).status == 404, target


def test_own_converters_can_be_registered(ask: Ask) -> None:
    app = App()

    @app.converter("even", "[0-9]*[02468]")
    def to_even(text: str) -> int:
        return int(text)

    @app.get("/{n:even}")
    def even(n: Any) -> dict[str, Any]:
        return {"even": n}

    app.get("/{n}")(lambda n: {"other": n})
    assert ask(app, "/4").json == {"even": 4}
    assert ask(app, "/5").json == {"other": "5"}


def says_itself(text: str) -> Callable[[], str]:
    return lambda: text


def test_static_goes_before_typed_before_str_before_path(ask: Ask) -> None:
    app = App()
    for template in ("/{p:path}", "/{s}", "/{n:int}", "/x{s}", "/42", "/{s}/end", "/42/{n:int}"):
        app.get(template)(says_itself(template))

    wanted = {
        "/42": "/42", "/43": "/{n:int}", "/abc": "/{s}", "/xbc": "/x{s}", "/a/b": "/{p:path}",
        "/42/end": "/{s}/end", "/42/7": "/42/{n:int}", "/42/x": "/{p:path}",
    }  # fmt: skip
    for target, template in wanted.items():
        assert ask(app, target).text == template, target


def test_head_runs_get_without_its_body_and_closes_the_iterable(ask: Ask) -> None:
    app, seen = App(), []

    @app.get("/")
    def page() -> Response:
        def body() -> Iterator[bytes]:
            try:
                yield b"x" * 10
            finally:
                seen.append("closed")

        made = body()
        seen.append("made")
        response = stream(made, headers={"X-Own": "1"})
        response.on_close(lambda: seen.append("on_close"))
        return response

    answer = ask(app, "/", "HEAD")
    assert (answer.status, answer.body, answer.get("X-Own")) == (200, b"", "1")
    assert "on_close" in seen
    text = ask(says("12345"), "/", "HEAD")
    assert (text.body, text.get("Content-Length")) == (b"", "5")


def test_options_and_405_carry_allow(ask: Ask) -> None:
    app = App()
    app.get("/a")(lambda: "get")
    app.put("/a")(lambda: "put")
    app.post("/{any}")(lambda: "post")
    for method in ("OPTIONS", "DELETE"):
        answer = ask(app, "/a", method)
        assert answer.status == 405 if method == "DELETE" else answer.status in (200, 204)
        assert {"GET", "HEAD", "PUT", "POST"} <= answer.allow, answer.fields
        assert "DELETE" not in answer.allow
    assert ask(app, "/a", "POST").text == "post"
    assert ask(app, "/nothing/here", "OPTIONS").status == 404


def test_the_declared_slash_is_canonical(ask: Ask) -> None:
    app = App()
    app.get("/with/")(lambda: "with")
    app.get("/without")(lambda: "without")
    app.post("/post/")(lambda: "post")
    for method in ("GET", "HEAD"):
        answer = ask(app, "/with?a=1", method)
        assert (answer.status, answer.get("Location")) == (308, "/with/?a=1")
        assert ask(app, "/without/", method).get("Location") == "/without"
    assert ask(app, "/post", "POST").status == 404
    assert ask(app, "/with/").text == "with"


def test_location_never_starts_with_two_slashes(ask: Ask) -> None:
    app = App()
    app.get("/{a}/{b}/")(lambda a, b: "x")
    app.get("/{a}/")(lambda a: "x")
    for target in (
        "//evil.example",
        "//evil.example/x",
        "/%2Fevil.example",
        "/%5Cevil.example",
        "/\\evil.example",
        "/%2F/x",
    ):
        answer = ask(app, target)
        location = answer.get("Location")
        assert answer.status in (308, 404), target
        assert location is None or (location[0] == "/" and location[1:2] not in ("/", "\\")), location


# Async


def test_async_handlers_are_awaited(ask: Ask) -> None:
    app = App()

    @app.get("/{n:int}")
    async def slow(n: int, req: Request) -> dict[str, Any]:
        await asyncio.sleep(0.001)
        return {"n": n, "thread": threading.current_thread().name}

    assert ask(app, "/3").json["n"] == 3


def test_under_plain_wsgi_one_loop_thread_serves_the_process() -> None:
    app = App()
    loops: set[int] = set()
    threads: set[int] = set()

    @app.get("/")
    async def f() -> str:
        loops.add(id(asyncio.get_running_loop()))
        threads.add(threading.get_ident())
        await asyncio.sleep(0.01)
        return "x"

    callers = [threading.Thread(target=drive.ask_wsgi, args=(app,)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert (len(loops), len(threads)) == (1, 1)
    assert threading.get_ident() not in threads


def test_under_asgi_async_handlers_run_on_the_loop_and_sync_ones_beside_it() -> None:
    app = App()
    seen: dict[str, int] = {}

    @app.get("/async")
    async def on_loop() -> str:
        seen["async"] = threading.get_ident()
        return "x"

    @app.get("/sync")
    def beside() -> str:
        seen["sync"] = threading.get_ident()
        return "x"

    drive.ask_asgi(app, "/async")
    drive.ask_asgi(app, "/sync")
    assert seen["async"] == threading.get_ident()
    assert seen["sync"] != threading.get_ident()


def test_an_async_generator_streams(ask: Ask) -> None:
    app = App()

    @app.get("/")
    async def lines() -> Any:
        for i in range(3):
            await asyncio.sleep(0)
            yield f"{i}\n"

    assert ask(app).body == b"0\n1\n2\n"


# Errors


def test_an_exception_is_500_and_tells_the_client_nothing(ask: Ask) -> None:
    app = App()

    @app.get("/")
    def f() -> str:
        raise ZeroDivisionError("the secret reason")

    answer = ask(app)
    assert answer.status == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_an_exception_goes_to_the_servers_log() -> None:
    app = App()

    @app.get("/")
    def f() -> str:
        raise ZeroDivisionError("the reason")

    answer = drive.ask_wsgi(app)
    assert "ZeroDivisionError: the reason" in answer.log
    assert "test_face.py" in answer.log


def test_error_handlers_the_most_specific_class_first(ask: Ask) -> None:
    app = App()

    @app.error(LookupError)
    def lookup(req: Request, error: LookupError) -> tuple[str, int]:
        return f"lookup {type(error).__name__}", 410

    @app.error(KeyError)
    def key(req: Request, error: KeyError) -> tuple[str, int]:
        return "key", 411

    @app.error(404)
    def missing(req: Request) -> tuple[str, int]:
        return f"nothing at {req.path}", 404

    def fails(error: Exception) -> Any:
        def f() -> str:
            raise error

        return f

    app.get("/key")(fails(KeyError("x")))
    app.get("/index")(fails(IndexError("x")))
    assert (ask(app, "/key").status, ask(app, "/key").text) == (411, "key")
    assert (ask(app, "/index").status, ask(app, "/index").text) == (410, "lookup IndexError")
    assert ask(app, "/nowhere").text == "nothing at /nowhere"


def test_a_childs_error_handler_goes_before_its_parents(ask: Ask) -> None:
    app, blog = App(), App()

    def boom() -> str:
        raise KeyError("x")

    app.error(KeyError)(lambda req, error: ("parent", 500))
    blog.error(KeyError)(lambda req, error: ("child", 500))
    app.get("/boom")(boom)
    blog.get("/boom")(boom)
    app.mount("/blog", blog)
    assert ask(app, "/boom").text == "parent"
    assert ask(app, "/blog/boom").text == "child"


def test_a_stream_that_fails_after_its_head_aborts() -> None:
    app = App()

    @app.get("/")
    def f() -> Iterator[bytes]:
        yield b"begun"
        raise ZeroDivisionError("half way")

    pieces = []
    result = app(drive.environ_of("GET", "/"), lambda status, headers, exc_info=None: lambda data: None)
    with pytest.raises(Exception):  # noqa: B017, PT011 - the server must learn of it, whatever its class
        pieces.extend(result)
    result.close()
    assert b"".join(pieces) == b"begun"


def test_on_close_runs_once_the_body_is_done(ask: Ask) -> None:
    app, seen = App(), []

    @app.get("/")
    def f() -> Response:
        response = Response("x")
        response.on_close(lambda: seen.append("closed"))
        return response

    assert ask(app).body == b"x"
    assert seen == ["closed"]


# The environment


def test_the_app_is_wsgi_and_its_asgi_face_is_an_object_of_its_own() -> None:
    app = says("x")
    assert app.asgi is not app
    assert not asyncio.iscoroutinefunction(app)
    face: Any = app.asgi
    assert asyncio.iscoroutinefunction(face) or asyncio.iscoroutinefunction(type(face).__call__)


def test_an_answer_needs_no_content_length_of_the_request() -> None:
    app = App()

    @app.post("/")
    def f(req: Request) -> bytes:
        return req.body

    environ = drive.environ_of("POST", "/")
    environ["wsgi.input"] = io.BytesIO(b"not mine to read")
    assert drive.call(app, environ).body == b""
    environ = drive.environ_of("POST", "/")
    environ["wsgi.input"] = io.BytesIO(b"without a length")
    environ["wsgi.input_terminated"] = True
    assert drive.call(app, environ, validate=False).body == b"without a length"


def test_dates_and_times_and_more_are_json(ask: Ask) -> None:
    value = {
        "date": date(2024, 2, 29),
        "datetime": datetime(2024, 2, 29, 10),
        "uuid": uuid.UUID(int=1),
        "decimal": Decimal("1.10"),
    }
    shown = ask(says(value)).json
    assert shown["date"] == "2024-02-29"
    assert shown["datetime"].startswith("2024-02-29T10:00:00")
    assert shown["uuid"] == str(uuid.UUID(int=1))
    assert str(shown["decimal"]) in ("1.10", "1.1")


def test_not_a_number_is_no_json(ask: Ask) -> None:
    assert ask(says({"x": float("nan")})).status == 500


def test_a_header_cannot_be_split(ask: Ask) -> None:
    app = App()

    @app.get("/")
    def f(q: str) -> Response:
        return Response("x", headers={"X-Echo": q})

    for bad in ("a%0d%0aSet-Cookie:%20x=1", "a%0ab", "a%00b"):
        answer = ask(app, f"/?q={bad}")
        assert answer.status == 500
        assert not answer.all("Set-Cookie")

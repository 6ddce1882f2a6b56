"""What handlers get, on the public face, sentence by sentence: WSGI under `wsgiref.validate`, and ASGI."""

from __future__ import annotations

import enum
import gc
import hashlib
import threading
import uuid
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional

import pytest
from framework import drive
from framework.drive import Ask, refused
from trivet import (
    App,
    Body,
    Form,
    HTTPError,
    Query,
    Request,
    Upload,
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


@dataclass
class Point:
    x: int
    y: float = 0.5


# Arguments


def test_path_parameters_cannot_be_overridden_by_the_query(ask: Ask) -> None:
    app = App()

    @app.get("/users/{id:int}")
    def user(id: int) -> dict[str, int]:
        return {"id": id}

    assert ask(app, "/users/7?id=8").json == {"id": 7}


def test_query_parameters_by_annotation(ask: Ask) -> None:
    app = App()

    class Colour(enum.Enum):
        RED = "red"

    @app.get("/search")
    def search(
        q: str,
        page: int = 1,
        tag: list[str] = [],  # noqa: B006 - as the page shows it
        exact: bool = False,
        weight: float = 1.0,
        day: Optional[date] = None,  # noqa: UP045 - both spellings count
        at: datetime | None = None,
        price: Decimal = Decimal("1.10"),
        key: uuid.UUID | None = None,
        colour: Colour | None = None,
        order: Literal["up", "down"] = "up",
        numbers: list[int] = [],  # noqa: B006
    ) -> dict[str, Any]:
        shown = dict(locals())
        return {
            name: value if isinstance(value, (list, bool)) else str(value) for name, value in shown.items()
        }

    app.search = search  # type: ignore[attr-defined]
    plain = ask(app, "/search?q=x").json
    assert (plain["q"], plain["page"], plain["tag"], plain["exact"]) == ("x", "1", [], False)
    target = (
        "/search?q=a+b&page=-2&tag=x&tag=y&exact=true&weight=2.5&day=2024-02-29&at=2024-02-29T10:00:00"
        "&price=2.30&key=a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11&colour=red&order=down&numbers=1&numbers=2"
    )
    shown = ask(app, target).json
    assert shown["q"] == "a b"
    assert shown["page"] == "-2"
    assert shown["tag"] == ["x", "y"]
    assert shown["exact"] is True
    assert shown["weight"] == "2.5"
    assert shown["day"] == "2024-02-29"
    assert shown["at"] == "2024-02-29 10:00:00"
    assert shown["price"] == "2.30"
    assert shown["key"] == "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    assert shown["colour"] == "Colour.RED"
    assert shown["order"] == "down"
    assert shown["numbers"] == [1, 2]
    bad = (
        "page=x page=1.5 colour=blue order=sideways day=2023-02-29 exact=maybe numbers=1&numbers=x "
        "price=NaNa key=1"
    )
    for query in ["", *(f"?q=x&{each}" for each in bad.split())]:
        assert ask(app, f"/search{query}").status == 400, query


def test_a_repeated_scalar_is_400(ask: Ask) -> None:
    app = App()

    @app.get("/")
    def one(q: str) -> str:
        return q

    assert ask(app, "/?q=1&q=2").status == 400
    assert ask(app, "/?q=1&other=1&other=2").text == "1"


def test_an_annotated_query_has_any_name(ask: Ask) -> None:
    app = App()

    @app.get("/")
    def f(sender: Annotated[str, Query("from")], q: str = "-") -> str:
        return f"{sender} {q}"

    assert ask(app, "/?from=ada&sender=eve").text == "ada -"


def test_annotations_without_a_provider_stop_start_up() -> None:
    class Secret:
        pass

    for annotation in (
        Secret,
        dict,
        dict[str, str],
        set[str],
        Any,
        object,
        Point,
        list[Point],
        bytes,
        type,
        App,
    ):
        app = App()

        def handler(x) -> str:  # type: ignore[no-untyped-def]
            return "never"

        handler.__annotations__["x"] = annotation
        app.get("/x")(handler)
        assert "x" in refused(app), annotation


def test_star_arguments_are_errors() -> None:
    app = App()
    app.get("/")(lambda *args: "never")
    assert refused(app)
    app = App()
    app.get("/")(lambda **kw: "never")
    assert refused(app)


def test_an_injected_type_for_a_path_parameter_is_an_error() -> None:
    app = App()

    @app.get("/{req}")
    def f(req: Request) -> str:
        return "never"

    assert "req" in refused(app)


def test_an_annotation_that_cannot_be_resolved_stops_start_up() -> None:
    app = App()

    def f(x) -> str:  # type: ignore[no-untyped-def]
        return "never"

    f.__annotations__["x"] = "NoSuchThing"
    app.get("/")(f)
    assert "NoSuchThing" in refused(app)


def test_annotations_are_read_with_the_frame_of_the_decorator(ask: Ask) -> None:
    @dataclass
    class Local:
        n: int

    app = App()

    @app.post("/")
    def f(made: Body[Local]) -> str:
        return f"{type(made).__name__} {made.n}"

    assert ask(app, "/", "POST", data={"n": 3}).text == "Local 3"


def test_registering_after_the_first_call_raises() -> None:
    app = says("x")
    drive.ask_wsgi(app)
    with pytest.raises(RuntimeError):
        app.get("/late")(lambda: "late")
    with pytest.raises(RuntimeError):
        app.intercept("/*")(lambda: None)


def test_the_plan_is_frozen_once_though_many_threads_come_first() -> None:
    app = App()
    calls: list[str] = []

    class User:
        pass

    @app.provide(User)
    def user() -> User:
        return User()

    @app.get("/")
    def f(user: User) -> str:
        calls.append("f")
        return "ok"

    barrier = threading.Barrier(8)
    answers: list[int] = []

    def one() -> None:
        barrier.wait()
        answers.append(drive.ask_wsgi(app).status)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 8


# Bodies


@dataclass
class Todo:
    title: str
    done: bool = False
    tags: list[str] | None = None


def todos() -> App:
    app = App()

    @app.post("/todos")
    def add(todo: Body[Todo]) -> tuple[Todo, int]:
        assert isinstance(todo, Todo)
        return todo, 201

    return app


def test_a_body_becomes_a_dataclass(ask: Ask) -> None:
    answer = ask(todos(), "/todos", "POST", data={"title": "tea", "tags": ["a"]})
    assert (answer.status, answer.json) == (201, {"title": "tea", "done": False, "tags": ["a"]})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"done": true}',
        b'{"title": 1}',
        b'{"title": "x", "done": "yes"}',
        b'{"title": "\xff"}',
    ],
)
def test_a_body_that_does_not_fit_is_refused_by_400_or_422(ask: Ask, body: bytes) -> None:
    answer = ask(todos(), "/todos", "POST", body=body, fields={"Content-Type": "application/json"})
    assert answer.status in (400, 422), answer.text


def test_a_body_of_another_type_is_415(ask: Ask) -> None:
    answer = ask(todos(), "/todos", "POST", body=b'{"title": "x"}', fields={"Content-Type": "text/plain"})
    assert answer.status == 415


def test_msgspec_and_pydantic_by_duck_typing(ask: Ask) -> None:
    class Model:  # as pydantic's: no import of it anywhere
        def __init__(self, n: int) -> None:
            self.n = n

        @classmethod
        def model_validate(cls, value: Any) -> Model:
            if not isinstance(value.get("n"), int):
                raise ValueError("n: an int is needed")
            return cls(value["n"])

        def model_dump(self, mode: str = "python") -> dict[str, int]:
            return {"n": self.n}

    app = App()

    @app.post("/")
    def f(model: Body[Model]) -> str:
        return f"n is {model.n}"

    assert ask(app, "/", "POST", data={"n": 3}).text == "n is 3"
    assert ask(app, "/", "POST", data={"n": "x"}).status in (400, 422)


def profile() -> App:
    app = App()

    @app.post("/profile")
    def save(name: Form[str], picture: Upload, tags: Form[list[str]] = []) -> dict[str, Any]:  # noqa: B006
        data = picture.read()
        return {
            "name": name,
            "tags": tags,
            "file": picture.filename,
            "sha": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
        }

    return app


@pytest.mark.parametrize("size", [0, 10, 70_000, 3_000_000])
def test_forms_and_uploads(ask: Ask, size: int) -> None:
    content = bytes(i * 7 % 256 for i in range(size))
    fields, body = drive.multipart(
        ("name", None, "Zo\u00eb".encode()),
        ("tags", None, b"a"),
        ("tags", None, b"b"),
        ("picture", "p.png", content),
    )
    shown = ask(profile(), "/profile", "POST", body=body, fields=fields).json
    assert shown == {
        "name": "Zo\u00eb",
        "tags": ["a", "b"],
        "file": "p.png",
        "sha": hashlib.sha256(content).hexdigest(),
        "bytes": size,
    }


def test_a_missing_field_or_file_is_400(ask: Ask) -> None:
    for parts in ([("name", None, b"x")], [("picture", "p", b"x")]):
        fields, body = drive.multipart(*parts)
        assert ask(profile(), "/profile", "POST", body=body, fields=fields).status == 400


def test_an_urlencoded_form(ask: Ask) -> None:
    app = App()

    @app.post("/")
    def f(name: Form[str], age: Form[int] = 0) -> dict[str, Any]:
        return {"name": name, "age": age}

    assert ask(app, "/?name=no", "POST", form={"name": "a b&c", "age": "7"}).json == {
        "name": "a b&c",
        "age": 7,
    }
    assert ask(app, "/?name=no", "POST", form={"age": "7"}).status == 400


# Request


def test_the_request_shows_itself(ask: Ask) -> None:
    app = App(secret=KEY)

    @app.post("/a/{b}")
    def f(req: Request) -> dict[str, Any]:
        req.reply_headers["X-Reply"] = "1"
        req.ctx.note = "kept"
        return {
            "query": req.query["q"],
            "cookie": req.cookies["c"],
            "header": req.headers["x-own"],
            "HEADER": req.headers["X-OWN"],
            "json": req.json(),
            "body": req.body.decode(),
            "client": str(req.client),
            "method": req.method,
            "path": req.path,
            "ctx": req.ctx.note,
        }

    answer = ask(app, "/a/%C3%A9?q=1", "POST", data={"k": [1]}, fields={"X-Own": "v"}, cookies={"c": "d"})
    assert answer.json == {
        "query": "1", "cookie": "d", "header": "v", "HEADER": "v", "json": {"k": [1]}, "body": '{"k": [1]}',
        "client": "192.0.2.1", "method": "POST", "path": "/a/\u00e9", "ctx": "kept",
    }  # fmt: skip
    assert answer.get("X-Reply") == "1"


def test_reply_headers_reach_errors_too(ask: Ask) -> None:
    app = App()

    @app.get("/")
    def f(req: Request) -> str:
        req.reply_headers["X-Reply"] = "1"
        raise HTTPError(403, "no")

    answer = ask(app)
    assert (answer.status, answer.get("X-Reply")) == (403, "1")


def test_form_and_files_of_a_request(ask: Ask) -> None:
    app = App()

    @app.post("/")
    def f(req: Request) -> dict[str, Any]:
        return {
            "name": req.form["name"],
            "file": req.files["f"].filename,
            "data": req.files["f"].read().decode(),
        }

    fields, body = drive.multipart(("name", None, b"ada"), ("f", "n.txt", b"text"))
    assert ask(app, "/", "POST", body=body, fields=fields).json == {
        "name": "ada",
        "file": "n.txt",
        "data": "text",
    }


def test_the_stream_gives_the_body_as_it_comes(ask: Ask) -> None:
    app = App()

    @app.post("/")
    def f(req: Request) -> str:
        return str(len(req.stream.read(3))) + req.stream.read().decode()

    assert ask(app, "/", "POST", body=b"abcdef").text == "3def"


def test_body_form_and_stream_share_one_body(ask: Ask) -> None:
    app = App()

    @app.post("/rest")
    def rest(req: Request) -> str:
        same = req.stream is req.stream
        return f"{same} {req.stream.read(2).decode()} {req.body.decode()} {req.stream.read().decode()}"

    @app.post("/again")
    def again(req: Request) -> str:
        return f"{req.body.decode()} {req.stream.read(1).decode()} {req.stream.read().decode()}"

    @app.post("/form")
    def form(req: Request) -> str:
        return f"{req.form['a']} {req.stream.read()!r}"

    assert ask(app, "/rest", "POST", body=b"abcdef").text == "True ab cdef "
    assert ask(app, "/again", "POST", body=b"abcdef").text == "abcdef a bcdef"
    fields, body = drive.multipart(("a", None, b"x"))
    assert ask(app, "/form", "POST", body=body, fields=fields).text == "x b''"


@pytest.mark.parametrize("streams", [False, True])
def test_a_spooled_upload_ends_with_the_answer(ask: Ask, streams: bool) -> None:
    app, seen = App(), []

    @app.post("/")
    def f(req: Request, picture: Upload) -> Any:
        seen.append(picture)
        req.after(lambda: seen.append(picture.file.closed))
        if not streams:
            return str(len(picture.read()))
        return (str(len(picture.read())) for _ in range(1))

    fields, body = drive.multipart(("picture", "p.png", b"x" * 2_000_000))
    assert ask(app, "/", "POST", body=body, fields=fields).text == "2000000"
    assert seen[1:] == [False]
    assert seen[0].file.closed


def test_a_spooled_upload_that_is_cut_off_leaves_no_file_open(ask: Ask) -> None:
    app = App()
    app.post("/")(upload_size)
    fields, body = drive.multipart(("picture", "p.png", b"x" * 2_000_000))
    assert ask(app, "/", "POST", body=body[:-9], fields=fields).status == 400
    # Warnings are errors here: one about an open file would come now.
    gc.collect()


def upload_size(picture: Upload) -> str:
    return str(picture.size)


def test_a_spooled_upload_ends_with_what_nobody_takes() -> None:
    app, seen = App(), []
    app.propagate_errors = True

    @app.post("/")
    def f(picture: Upload) -> str:
        seen.append(picture)
        raise KeyError("nobody's")

    fields, body = drive.multipart(("picture", "p.png", b"x" * 2_000_000))
    environ = drive.environ_of("POST", "/", list(fields.items()), body)
    with pytest.raises(KeyError):
        app(environ, lambda status, headers, exc_info=None: lambda data: None)
    assert seen[0].file.closed


def test_after_runs_when_the_answer_has_gone() -> None:
    app, seen = App(), []

    @app.get("/")
    def f(req: Request) -> str:
        req.after(lambda: seen.append("after"))
        return "x"

    result = app(drive.environ_of("GET", "/"), lambda status, headers, exc_info=None: lambda data: None)
    assert list(result) == [b"x"]
    assert not seen
    result.close()
    assert seen == ["after"]


@pytest.mark.parametrize("target", ["/?q=%ff", "/?q=%c0%af", "/?q=%ed%a0%80"])
def test_text_that_is_not_utf8_is_400(ask: Ask, target: str) -> None:
    app = App()

    @app.get("/")
    def f(q: str) -> str:
        return q

    assert ask(app, target).status == 400
    assert ask(app, "/?q=%C3%A9").text == "\u00e9"


def test_a_path_that_is_not_utf8_reaches_no_handler() -> None:
    app = App()

    @app.get("/{name}")
    def f(name: str) -> str:
        return name

    assert drive.ask_wsgi(app, "/%ff").status in (400, 404)


def test_a_form_that_is_not_utf8_is_400(ask: Ask) -> None:
    app = App()

    @app.post("/")
    def f(a: Form[str]) -> str:
        return a

    fields = {"Content-Type": "application/x-www-form-urlencoded"}
    assert ask(app, "/", "POST", body=b"a=%ff", fields=fields).status == 400
    fields, body = drive.multipart(("a", None, b"\xff"))
    assert ask(app, "/", "POST", body=body, fields=fields).status == 400


def test_text_is_never_normalised_and_knows_case(ask: Ask) -> None:
    app = App()
    app.get("/caf\u00e9")(lambda: "NFC")
    app.get("/Case")(lambda: "Case")

    @app.get("/echo")
    def echo(q: str) -> str:
        return q

    assert ask(app, "/caf%C3%A9").text == "NFC"
    assert ask(app, "/cafe%CC%81").status == 404
    assert ask(app, "/case").status == 404
    assert ask(app, "/echo?q=cafe%CC%81").text == "cafe\u0301"
    assert ask(app, "/echo?Q=x").status == 400

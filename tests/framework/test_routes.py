"""Routes, arguments and results of `trivet.App` under WSGI."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections import namedtuple
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional

import pytest
from framework.caller import Caller, call, environ_of
from trivet import (
    App,
    Body,
    Form,
    Headers,
    HTTPError,
    MethodNotAllowed,
    NotFound,
    PlanError,
    Query,
    Request,
    Response,
    Router,
    Session,
    StartError,
    Upload,
)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Item:
    title: str
    price: float = 0.0
    tags: list[str] = field(default_factory=list)
    due: datetime.date | None = None


def app_with(path: str, handler: Any, **more: Any) -> Caller:
    app = App()
    app.route(path, **more)(handler)
    return Caller(app)


@pytest.mark.parametrize(
    ("value", "status", "kind", "body"),
    [
        ("héllo", 200, "text/html; charset=utf-8", "héllo".encode()),
        (b"\x00\xff", 200, "application/octet-stream", b"\x00\xff"),
        ({"a": [1, 2.5, True, None, "é\n"]}, 200, "application/json",
         '{"a":[1,2.5,true,null,"é\\n"]}'.encode()),
        ([1, {"b": ()}], 200, "application/json", b'[1,{"b":[]}]'),
        (None, 204, None, b""),
        (("made", 201), 201, "text/html; charset=utf-8", b"made"),
        (({"a": 1}, 202, {"X-Y": "z"}), 202, "application/json", b'{"a":1}'),
        ((None, 404), 404, "text/html; charset=utf-8", b""),
        (Item("t", 1.5), 200, "application/json", b'{"title":"t","price":1.5,"tags":[],"due":null}'),
        (Response("x", 203, {"X-A": "1"}, content_type="text/plain"), 203, "text/plain", b"x"),
        (namedtuple("Row", "a b")(1, "x"), 200, "application/json", b'{"a":1,"b":"x"}'),
    ],
)  # fmt: skip
def test_results_become_answers(value: Any, status: int, kind: str | None, body: bytes) -> None:
    caller = app_with("/", lambda: value)
    for _ in range(2):
        answer = caller.get("/")
        assert (answer.status, answer["Content-Type"], answer.body) == (status, kind, body), caller.errors
        assert answer["Content-Length"] == (None if status == 204 else str(len(body)))
    head = caller.head("/")
    assert (head.status, head.body, head["Content-Length"]) == (answer.status, b"", answer["Content-Length"])


def test_json_knows_the_standard_library() -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5)
    value = {
        "uuid": uuid.UUID(int=5),
        "decimal": Decimal("1.10"),
        "date": moment.date(),
        "moment": moment,
        "time": moment.time(),
        "enum": Colour.RED,
        1: 2**70,
        None: -1,
    }
    assert app_with("/", lambda: value).get("/").json == {
        "uuid": str(uuid.UUID(int=5)),
        "decimal": "1.10",
        "date": "2026-01-02",
        "moment": "2026-01-02T03:04:05",
        "time": "03:04:05",
        "enum": "red",
        "1": 2**70,
        "null": -1,
    }


def test_what_json_does_not_know_is_500_and_says_why() -> None:
    for value in ({"a": object()}, [float("nan")], ["\ud800"], {(1,): 2}):
        caller = app_with("/", (lambda v: lambda: v)(value))
        assert caller.get("/").status == 500
        assert "Error" in caller.errors
    loop: list[Any] = []
    loop.append(loop)
    caller = app_with("/", lambda: loop)
    assert caller.get("/").status == 500
    assert "contain itself" in caller.errors
    app = App(json=lambda value: "special")
    app.get("/")(lambda: {"a": object()})
    assert Caller(app).get("/").json == {"a": "special"}


@pytest.mark.parametrize("value", [5, 1.5, object(), (1, 2, 3, 4), ((1, 2), 200), ("x", 99), ("x", 1000)])
def test_what_is_no_answer_is_500(value: Any) -> None:
    caller = app_with("/", lambda: value)
    assert caller.get("/").status == 500
    assert "Error" in caller.errors


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("/{x}", "/é", "é"),
        ("/{x:int}", "/42", 42),
        ("/{x:int}", "/-9223372036854775808", -9223372036854775808),
        ("/{x:float}", "/1.50", 1.5),
        ("/{x:uuid}", "/00000000-0000-0000-0000-00000000000A", uuid.UUID(int=10)),
        ("/{x:date}", "/2024-02-29", datetime.date(2024, 2, 29)),
        ("/{x:path}", "/a/b/c", "a/b/c"),
        ("/{x:re([a-c]+)}", "/abc", "abc"),
        ("/f-{x:int}.txt", "/f-7.txt", 7),
    ],
)
def test_path_parameters_are_converted(template: str, path: str, expected: object) -> None:
    seen: list[object] = []
    caller = app_with(template, lambda x: seen.append(x))
    assert caller.get(path).status == 204
    assert seen == [expected]
    assert type(seen[0]) is type(expected)


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("/{x:int}", "/x"),
        ("/{x:int}", "/01"),
        ("/{x:date}", "/2023-02-29"),
        ("/{x:uuid}", "/1"),
        ("/{x}", "/a/b"),
        ("/a", "/A"),
        ("/a", "//a"),
        ("/a", "/./a"),
        ("/a", "/b/../a"),
        ("/{x}", "/.."),
    ],
)
def test_other_paths_are_404(template: str, path: str) -> None:
    assert app_with(template, lambda: "no").get(path).status == 404


def test_an_annotation_may_ask_for_more_than_the_template() -> None:
    def handler(n: int, colour: Colour, raw: str) -> list[Any]:
        return [n, colour.name, raw]

    caller = app_with("/{n}/{colour}/{raw:int}", handler)
    assert caller.get("/7/red/5").json == [7, "RED", "5"]
    assert caller.get("/x/red/5").status == 404
    assert caller.get("/7/green/5").status == 404


def test_a_converter_of_the_app() -> None:
    app = App()

    @app.converter("even", "[0-9]+")
    def even(text: str) -> int:
        if int(text) % 2:
            raise ValueError(text)
        return int(text)

    app.get("/{n:even}")(lambda n: {"n": n})
    assert Caller(app).get("/8").json == {"n": 8}
    assert Caller(app).get("/7").status == 404
    assert Caller(app).get("/x").status == 404


def test_query_parameters() -> None:
    def handler(
        q: str,
        page: int = 1,
        ratio: float = 0.5,
        on: bool = False,
        tag: list[str] = [],  # noqa: B006 - a copy for each request
        ids: Optional[list[int]] = None,  # noqa: UP045 - both ways of writing it
        since: datetime.date | None = None,
        colour: Colour = Colour.BLUE,
        order: Literal["asc", "desc"] = "asc",
        source: Annotated[str, Query("from")] = "",
        price: Decimal = Decimal("0"),
    ) -> Any:
        tag.append("own")
        return [q, page, ratio, on, tag, ids, since, colour, order, source, price]

    caller = app_with("/s", handler)
    assert caller.get("/s?q=a+b%26").json == [
        "a b&",
        1,
        0.5,
        False,
        ["own"],
        None,
        None,
        "blue",
        "asc",
        "",
        "0",
    ]
    assert caller.get("/s?q=").json[4] == ["own"], "a default list is not shared"
    full = (
        "/s?q=%C3%A9&page=-3&ratio=1e3&on=on&tag=a&tag=b&ids=1&ids=2&since=2026-01-02"
        "&colour=red&order=desc&from=x&price=1.10"
    )
    assert caller.get(full).json == [
        "é",
        -3,
        1000.0,
        True,
        ["a", "b", "own"],
        [1, 2],
        "2026-01-02",
        "red",
        "desc",
        "x",
        "1.10",
    ]
    assert caller.get("/s?q=a&since=").json[6] is None
    for query in (
        "", "q=a&q=b", "q=a&page=x", "q=a&page=1_0", "q=a&page=+5", "q=a&page=%EF%BC%91", "q=a&ratio=nan",
        "q=a&on=maybe",
        "q=a&since=2026-1-2", "q=a&colour=green", "q=a&order=up", "q=%FF", "q=a&ids=1&ids=x", "q=a&price=nan",
    ):  # fmt: skip
        answer = caller.get(f"/s?{query}")
        assert answer.status == 400, query
    assert "`page` is not an integer" in caller.get("/s?q=a&page=x").text
    assert caller.get("/s?" + "&".join(["q=a"] * 1001)).status == 413


def test_the_path_wins_over_the_query() -> None:
    assert app_with("/{id:int}", lambda id: {"id": id}).get("/1?id=2").json == {"id": 1}


def test_body_into_a_dataclass() -> None:
    def handler(item: Body[Item]) -> Any:
        return item, 201

    caller = app_with("/", handler, methods="POST")
    answer = caller.post("/", json={"title": "a", "price": 2, "tags": ["x"], "due": "2026-01-02"})
    assert (answer.status, answer.json) == (
        201,
        {"title": "a", "price": 2.0, "tags": ["x"], "due": "2026-01-02"},
    )
    for wrong, says in [
        ({}, "`title` is missing"),
        ({"title": 1}, "`title` should be a text, not a number"),
        ({"title": "a", "more": 1}, "`more` is not known"),
        ({"title": "a", "price": True}, "`price` should be a number, not a boolean"),
        ({"title": "a", "tags": ["x", None]}, "`tags[1]` should be a text, not null"),
        ({"title": "a", "due": "soon"}, "`due` should be a date"),
        ([], "`the body` should be an object, not a list"),
    ]:
        answer = caller.post("/", json=wrong, accept="application/json")
        assert answer.status == 422, answer
        assert says in answer.json["detail"]
    assert caller.post("/", b"{", content_type="application/json").status == 400
    assert caller.post("/", b'{"title": NaN}', content_type="application/json").status == 400
    assert caller.post("/", b"[" * 100_000, content_type="application/json").status == 400
    assert caller.post("/", b"{}", content_type="text/plain").status == 415


def test_forms_and_uploads(tmp_path: Any) -> None:
    def handler(name: Form[str], picture: Upload, age: Form[int] = 0, more: list[Upload] = []) -> Any:  # noqa: B006
        where = picture.save(tmp_path)
        return [
            name,
            age,
            picture.filename,
            picture.client_filename,
            picture.content_type,
            picture.size,
            where.name,
            len(more),
        ]

    caller = app_with("/", handler, methods="POST")
    big = b"x" * 3_000_000
    parts = [
        b'Content-Disposition: form-data; name="name"\r\n\r\n\xc3\xa9',
        b'Content-Disposition: form-data; name="picture"; filename="../../a b.png"\r\n'
        b"Content-Type: image/png\r\n\r\n" + big,
        b'Content-Disposition: form-data; name="more"; filename="x"\r\n\r\n1',
        b'Content-Disposition: form-data; name="more"; filename="y"\r\n\r\n2',
    ]
    body = b"".join(b"--b0\r\n" + part + b"\r\n" for part in parts) + b"--b0--\r\n"
    kind = "multipart/form-data; boundary=b0"
    answer = caller.post("/", body, content_type=kind)
    assert answer.status == 200, caller.errors
    name, age, filename, client, content_type, size, saved, more = answer.json
    assert (name, age, client, content_type, size, more) == (
        "é",
        0,
        "../../a b.png",
        "image/png",
        3_000_000,
        2,
    )
    assert "/" not in filename
    assert saved == filename
    assert (tmp_path / saved).read_bytes() == big
    assert caller.post("/", body[:-50], content_type=kind).status == 400
    assert caller.post("/", form="name=a").status == 400, "no picture"


def test_an_upload_may_be_missing() -> None:
    def handler(picture: Upload | None, note: Form[str] | None) -> Any:
        return [picture and picture.size, note]

    caller = app_with("/", handler, methods="POST")
    assert caller.post("/", form="note=a").json == [None, "a"]
    part = b'--b\r\nContent-Disposition: form-data; name="picture"; filename="x"\r\n\r\n123\r\n--b--\r\n'
    assert caller.post("/", part, content_type="multipart/form-data; boundary=b").json == [3, None]
    nothing = b'--b\r\nContent-Disposition: form-data; name="picture"; filename=""\r\n\r\n\r\n--b--\r\n'
    assert caller.post("/", nothing, content_type="multipart/form-data; boundary=b").json == [None, None]


def test_limits_are_413_and_say_which() -> None:
    app = App(body_bytes_max=1000, form_bytes_max=100, parts_max=2)

    @app.post("/form")
    def form(req: Request) -> int | Any:
        return {"n": len(req.form)}

    @app.post("/body")
    def body(req: Request) -> Any:
        return {"n": len(req.body)}

    caller = Caller(app)
    assert caller.post("/body", b"x" * 1000).json == {"n": 1000}
    answer = caller.post("/body", b"x" * 1001)
    assert (answer.status, "body_bytes_max" in answer.text) == (413, True)
    answer = caller.post("/form", form="a=" + "x" * 100)
    assert (answer.status, "form_bytes_max" in answer.text) == (413, True)
    part = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    answer = caller.post("/form", part * 3 + b"--b--\r\n", content_type="multipart/form-data; boundary=b")
    assert (answer.status, "parts_max" in answer.text) == (413, True)
    short = environ_of("POST", "/body", b"abc", content_length="10")
    assert call(app, short).status == 400


def test_methods_options_and_slashes() -> None:
    app = App()
    app.get("/a")(lambda: "get")
    app.post("/a")(lambda: "post")
    app.get("/dir/")(lambda: "dir")
    app.post("/only/")(lambda: "only")
    caller = Caller(app)
    assert caller.post("/a").text == "post"
    answer = caller.request("DELETE", "/a")
    assert answer.status == 405
    assert set((answer["Allow"] or "").split(", ")) == {"GET", "HEAD", "POST", "OPTIONS"}
    answer = caller.request("OPTIONS", "/a")
    assert (answer.status, set((answer["Allow"] or "").split(", "))) == (
        204,
        {"GET", "HEAD", "POST", "OPTIONS"},
    )
    answer = caller.get("/a/?x=%20y")
    assert (answer.status, answer["Location"]) == (308, "/a?x=%20y")
    answer = caller.get("/dir", script_name="/app")
    assert (answer.status, answer["Location"]) == (308, "/app/dir/")
    assert caller.request("POST", "/only").status == 404
    assert caller.get("//evil.com/..").status == 404


def test_registration_returns_the_function_and_ends_with_the_first_request() -> None:
    app = App()

    def handler() -> str:
        return "x"

    assert app.get("/")(handler) is handler
    assert Caller(app).get("/").text == "x"
    with pytest.raises(RuntimeError, match="begun to serve"):
        app.get("/later")


def starts(app: App) -> None:
    app.freeze()


def test_clear_errors_at_start() -> None:
    class Unknown:
        pass

    def args(*names: str) -> None: ...
    def named(**names: str) -> None: ...
    def unknown(x: Unknown) -> None: ...
    def bare(x) -> None: ...  # type: ignore[no-untyped-def]
    def unresolved(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
    def injected(id: Request) -> None: ...

    for handler, says in [
        (args, r"\*names"),
        (named, r"\*\*names"),
        (unknown, "provide"),
        (bare, "no annotation"),
        (unresolved, "Nowhere"),
    ]:
        app = App()
        app.get("/")(handler)
        with pytest.raises(PlanError, match=says):
            app.freeze()
    app = App()
    app.get("/{id}")(injected)
    with pytest.raises(PlanError, match="in the path"):
        app.freeze()
    for path in ("/{x", "/{x:nothing}", "/{x}/{x}", "/a//b", "/{x:path}/y"):
        app = App()
        app.get(path)(lambda: "x")
        with pytest.raises(StartError, match="hint"):
            app.freeze()
    app = App()
    app.get("/x/{a}")(lambda a: "x")
    app.get("/x/{b}")(lambda b: "x")
    with pytest.raises(StartError, match="same"):
        app.freeze()


def test_types_of_the_function_that_registers_are_known() -> None:
    @dataclass
    class Local:
        a: int

    app = App()

    @app.post("/")
    def handler(value: Body[Local]) -> Any:
        return {"got": value.a}

    assert Caller(app).post("/", json={"a": 5}).json == {"got": 5}


def test_keyword_only_and_many_arguments() -> None:
    def handler(a: int, b: int, c: int, d: int, e: int, f: int, *, g: int, h: int = 8) -> Any:
        return [a, b, c, d, e, f, g, h]

    caller = app_with("/{a:int}/{b:int}", handler)
    assert caller.get("/1/2?c=3&d=4&e=5&f=6&g=7").json == [1, 2, 3, 4, 5, 6, 7, 8]


def test_request_tells_everything() -> None:
    app = App()
    seen: dict[str, Any] = {}

    @app.route("/x/{id:int}", methods=["GET", "POST"], name="the-x", needs="role")
    def handler(req, id: int) -> None:  # type: ignore[no-untyped-def]
        seen.update(
            method=req.method, path=req.path, query=dict(req.query), tags=req.query.all("t"),
            cookies=req.cookies,
            accept=req.headers["accept"], missing=req.headers.get("X-No"), host=req.host, url=req.url,
            client=req.client, needs=req.route.needs, name=req.route.name, params=req.params,
            scheme=req.scheme,
            template=req.route.template, environ=req.environ["PATH_INFO"], same=req.app is app,
        )  # fmt: skip
        req.ctx.user = "ada"
        assert req.ctx.user == "ada"

    caller = Caller(app)
    answer = caller.get(
        "/x/5?t=1&t=2&q=%C3%A9", accept="a/b", cookie="a=1; b=2; a=3", script_name="/app", REMOTE_ADDR="::1"
    )
    assert answer.status == 204, caller.errors
    assert seen == {
        "method": "GET", "path": "/x/5", "query": {"t": "1", "q": "é"}, "tags": ["1", "2"],
        "cookies": {"a": "1", "b": "2"}, "accept": "a/b", "missing": None, "host": "example.com",
        "url": "http://example.com/app/x/5?t=1&t=2&q=%C3%A9", "client": "::1", "needs": "role",
        "name": "the-x",
        "params": {"id": 5}, "scheme": "http", "template": "/x/{id:int}", "environ": "/x/5", "same": True,
    }  # fmt: skip


def test_a_request_works_without_an_app() -> None:
    request = Request(
        environ_of("POST", "/p?x=1", b"a=1&b=2", content_type="application/x-www-form-urlencoded")
    )
    assert (request.method, request.path, request.query["x"], request.form["b"]) == ("POST", "/p", "1", "2")
    assert request.route is None


def test_a_router_works_without_an_app() -> None:
    router = Router()
    router.add("/users/{id:int}", "user", ["GET", "POST"])
    router.add("/files/{path:path}", "file")
    assert router.find(environ_of("POST", "/users/5")) == ("user", {"id": 5})
    assert router.find(environ_of("HEAD", "/files/a/é")) == ("file", {"path": "a/é"})
    with pytest.raises(MethodNotAllowed) as refused:
        router.find(environ_of("DELETE", "/users/5"))
    assert dict(refused.value.headers)["Allow"] == "GET, POST, HEAD"
    for path in ("/users/x", "/files/../x", "/none"):
        with pytest.raises(NotFound):
            router.find(environ_of("GET", path))
    with pytest.raises(RuntimeError):
        router.add("/late", "x")
    with pytest.raises(ValueError, match="not closed"):
        Router().add("/{x", "x")


def test_urls_of_routes() -> None:
    app = App()
    app.get("/a/{x}/{n:int}", name="a")(lambda x, n: "")
    app.freeze()
    assert app.url("a", x="é /", n=5, q="1 2", more=[1, 2]) == "/a/%C3%A9%20%2F/5?q=1+2&more=1&more=2"
    with pytest.raises(LookupError):
        app.url("b")
    with pytest.raises(ValueError, match="n"):
        app.url("a", x="y")
    with pytest.raises(ValueError, match="`n`"):
        app.url("a", x="y", n="z")


def test_sessions_need_a_secret() -> None:
    app = App()

    @app.get("/")
    def index(session: Session) -> str:
        return "x"

    with pytest.raises(StartError, match="takes the session, but the app has no secret"):
        app.freeze()


def test_errors_are_small_pages_or_json() -> None:
    app = App()

    @app.get("/")
    def index() -> None:
        raise HTTPError(418, "<teapot>", {"X-Tea": "green"})

    app.get("/nf")(lambda: (_ for _ in ()).throw(NotFound("gone")))
    caller = Caller(app)
    answer = caller.get("/", accept="text/html,*/*")
    assert (answer.status, answer["X-Tea"]) == (418, "green")
    assert "&lt;teapot&gt;" in answer.text
    answer = caller.get("/", accept="application/json")
    assert answer.json == {"status": 418, "error": "I'm a Teapot", "detail": "<teapot>"}
    assert caller.get("/", accept="*/*")["Content-Type"] == "text/html; charset=utf-8"


def test_exceptions_are_500_without_details_and_logged() -> None:
    app = App()
    app.get("/")(lambda: 1 // 0)
    caller = Caller(app)
    answer = caller.get("/")
    assert answer.status == 500
    assert "ZeroDivision" not in answer.text
    assert "ZeroDivisionError" in caller.errors
    app.propagate_errors = True
    with pytest.raises(ZeroDivisionError):
        caller.get("/")


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\0b", "a\x1fb", "ünïcode☃"])
def test_header_injection_is_refused(value: str) -> None:
    caller = app_with("/", lambda: ("x", 200, {"X-A": value}))
    assert caller.get("/").status == 500
    caller = app_with("/", lambda: ("x", 200, {value: "x"}))
    assert caller.get("/").status == 500

    class Lying(str):
        __slots__ = ()

        def __str__(self) -> str:
            return value

    headers = Headers()
    with pytest.raises(ValueError, match="header field"):
        headers.add("X-A", Lying("harmless"))
    headers.items().append(("X-A", value))
    assert len(headers) == 0

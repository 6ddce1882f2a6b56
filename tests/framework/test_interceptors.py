"""Interceptors, providers and error handlers: who runs, in which order, and who sees what."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from framework.caller import Caller
from trivet import (
    App,
    Forbidden,
    HTTPError,
    NotFound,
    PlanError,
    Request,
    Response,
    StartError,
    Unauthorized,
    redirect,
    stream,
)


class User:
    def __init__(self, name: str) -> None:
        self.name = name


def test_order_and_what_passes_below_a_pattern() -> None:
    app = App()
    ran: list[str] = []
    app.intercept("/admin/deep/*")(lambda req: ran.append("deep"))
    app.intercept("/admin/*")(lambda req: ran.append("one"))
    app.intercept("/admin/*")(lambda: ran.append("two"))
    app.intercept("/*")(lambda: ran.append("root"))
    app.get("/admin")(lambda: ran.append("handler"))
    app.get("/admin/deep/x")(lambda: "x")
    app.post("/admin/only")(lambda: "x")
    app.get("/open")(lambda: "x")
    app.static("/admin/files", "/nonexistent")
    caller = Caller(app)
    for method, path, status, chain in [
        ("GET", "/admin", 204, ["root", "one", "two", "handler"]),
        ("GET", "/admin/", 308, ["root", "one", "two"]),
        ("GET", "/admin/deep/x", 200, ["root", "one", "two", "deep"]),
        ("HEAD", "/admin/deep/x", 200, ["root", "one", "two", "deep"]),
        ("POST", "/admin/deep/x", 405, ["root", "one", "two", "deep"]),
        ("OPTIONS", "/admin/only", 204, ["root", "one", "two"]),
        ("GET", "/admin/only", 405, ["root", "one", "two"]),
        ("GET", "/admin/nothing", 404, ["root", "one", "two"]),
        ("GET", "/admin/files/x", 404, ["root", "one", "two"]),
        ("GET", "/admin/../admin", 404, ["root", "one", "two"]),
        ("GET", "/open", 200, ["root"]),
        ("GET", "/nothing", 404, ["root"]),
        ("GET", "/Admin", 404, ["root"]),
    ]:
        ran.clear()
        answer = caller.request(method, path)
        assert (answer.status, ran) == (status, chain), (method, path)


def test_what_an_interceptor_may_give() -> None:
    app = App()
    called: list[str] = []

    @app.intercept("/stop/*")
    def stop(req: Request) -> Response:
        return redirect("/login", next=req.path)

    app.intercept("/wrong/*")(lambda: "text")

    @app.intercept("/raise/*")
    def refuse() -> None:
        raise Unauthorized("who?", {"WWW-Authenticate": "Basic"})

    for name in ("stop", "wrong", "raise"):
        app.get(f"/{name}/x")(lambda: called.append("handler"))
    caller = Caller(app)
    answer = caller.get("/stop/x")
    assert (answer.status, answer["Location"]) == (302, "/login?next=%2Fstop%2Fx")
    assert caller.get("/wrong/x").status == 500
    assert "an interceptor returned `str`" in caller.errors
    answer = caller.get("/raise/x")
    assert (answer.status, answer["WWW-Authenticate"]) == (401, "Basic")
    assert called == []


def test_generators_are_around_the_handler() -> None:
    app = App()
    seen: list[Any] = []

    @app.intercept("/*")
    def outer() -> Iterator[None]:
        try:
            response = yield
        except ValueError as error:
            seen.append(("outer", str(error)))
            raise
        response.headers["X-Outer"] = str(response.status)

    @app.intercept("/in/*")
    def inner(req: Request) -> Any:
        try:
            response = yield
        except KeyError:
            return Response("caught", 202)
        if req.path.endswith("replace"):
            return Response("replaced", 201)
        response.headers["X-Inner"] = "1"
        return None

    @app.intercept("/early/*")
    def early() -> Any:
        return Response("early", 203)
        yield

    @app.intercept("/twice/*")
    def twice() -> Any:
        yield
        yield

    @app.intercept("/swallow/*")
    def swallow() -> Any:
        with contextlib.suppress(ValueError):
            yield

    def value_error() -> None:
        raise ValueError("x")

    def key_error() -> None:
        raise KeyError("x")

    app.get("/in/plain")(lambda: {"a": 1})
    app.get("/in/replace")(lambda: "x")
    app.get("/in/value")(value_error)
    app.get("/in/key")(key_error)
    app.get("/early/x")(lambda: seen.append("never"))
    app.get("/twice/x")(lambda: "x")
    app.get("/swallow/x")(value_error)
    caller = Caller(app)
    answer = caller.get("/in/plain")
    assert (answer.status, answer["X-Outer"], answer["X-Inner"], answer.json) == (200, "200", "1", {"a": 1})
    answer = caller.get("/in/replace")
    assert (answer.status, answer["X-Outer"], answer.text) == (201, "201", "replaced")
    answer = caller.get("/in/key")
    assert (answer.status, answer["X-Outer"], answer.text) == (202, "202", "caught")
    assert caller.get("/in/value").status == 500
    assert seen == [("outer", "x")]
    answer = caller.get("/early/x")
    assert (answer.status, answer["X-Outer"], answer.text) == (203, "203", "early")
    assert caller.get("/twice/x").status == 500
    assert "exactly once" in caller.errors
    assert caller.get("/swallow/x").status == 500
    assert "gave no response" in caller.errors
    assert caller.get("/in/none").status == 404, "a 404 runs through generators as an exception"


def test_an_answer_that_is_replaced_is_closed() -> None:
    app = App()
    log: list[str] = []

    @app.intercept("/replace/*")
    def replace() -> Any:
        yield
        return Response("other")

    @app.intercept("/fail/*")
    def fail() -> Any:
        yield
        raise ValueError("x")

    def handler() -> Response:
        response = stream(iter(["x"]))
        response.on_close(lambda: log.append("closed"))
        return response

    app.get("/replace/x")(handler)
    app.get("/fail/x")(handler)
    caller = Caller(app)
    assert caller.get("/replace/x").text == "other"
    assert log == ["closed"]
    assert caller.get("/fail/x").status == 500
    assert log == ["closed", "closed"]


def test_captures_are_converted() -> None:
    app = App()
    seen: list[Any] = []

    @app.intercept("/projects/{project}/*")
    def member(project: int) -> None:
        seen.append(project)

    app.get("/projects/{project:int}/x")(lambda project: "x")
    app.get("/projects/{name}/y")(lambda name: name)
    caller = Caller(app)
    assert caller.get("/projects/7/x").text == "x"
    assert caller.get("/projects/8/y").text == "8"
    assert caller.get("/projects/9/none").status == 404
    assert seen == [7, 8, 9]
    assert caller.get("/projects/a/y").status == 404, "what is no int is refused"
    assert seen == [7, 8, 9]


def test_exceptions_hosts_and_methods() -> None:
    app = App()
    ran: list[str] = []
    app.intercept("/a/*", except_="/a/login")(lambda: ran.append("guard"))
    app.intercept("/a/*", host=["admin.example.com", "*.local"])(lambda: ran.append("host"))
    app.intercept("/a/*", methods="GET")(lambda: ran.append("get"))
    app.get("/a/login")(lambda: "login")
    app.post("/a/x")(lambda: "x")
    app.get("/a/x")(lambda: "x")
    caller = Caller(app)
    for method, path, host, expected in [
        ("GET", "/a/login", "example.com", ["get"]),
        ("GET", "/a/login/", "example.com", ["get"]),
        ("GET", "/a/x", "ADMIN.example.com:8000", ["guard", "host", "get"]),
        ("HEAD", "/a/x", "x.local.", ["guard", "host", "get"]),
        ("POST", "/a/x", "local", ["guard"]),
    ]:
        ran.clear()
        caller.request(method, path, host=host)
        assert ran == expected, (method, path, host)


@pytest.mark.parametrize(
    ("pattern", "except_"), [("/nothing/*", ()), ("/a/*", "/a/nothing"), ("/a/**", ()), ("a/*", ()),
     ("/a/*", "/b")]
)  # fmt: skip
def test_a_typo_stops_start_up(pattern: str, except_: Any) -> None:
    app = App()
    app.get("/a/x")(lambda: "x")
    app.get("/b")(lambda: "x")
    app.intercept(pattern, except_=except_)(lambda: None)
    with pytest.raises(StartError):
        app.freeze()


def test_interceptors_take_only_what_is_injected() -> None:
    app = App()
    app.get("/a")(lambda: "x")
    app.intercept("/*")(lambda user: None)
    with pytest.raises(PlanError):
        app.freeze()


def test_default_deny() -> None:
    def app_of(public: bool, **more: Any) -> App:
        app = App(guard="required")
        app.intercept("/a/*", guard=True, **more)(lambda: None)
        app.intercept("/*")(lambda: None)
        app.get("/a/x")(lambda: "x")
        app.get("/open", public=public)(lambda: "x")
        return app

    app_of(True).freeze()
    with pytest.raises(StartError, match="`/open`"):
        app_of(False).freeze()
    open_app = app_of(False)
    assert [route.template for route in open_app.unguarded()] == ["/open"]
    with pytest.raises(StartError):
        Caller(open_app).get("/a/x")
    for more in ({"methods": "POST"}, {"host": "a.b"}, {"except_": "/a/x"}):
        with pytest.raises(StartError):
            app_of(True, **more).freeze()
    maybe = App(guard="required")
    maybe.intercept("/{x}/admin", guard=True)(lambda x: None)
    maybe.intercept("/b/*", guard=True)(lambda: None)
    maybe.get("/{x}/admin")(lambda x: "")
    maybe.get("/{x}")(lambda x: "")
    assert [route.template for route in maybe.unguarded()] == ["/{x}"], "perhaps is not always"


def test_routes_tell_their_chain() -> None:
    app = App()

    @app.intercept("/a/*", guard=True)
    def need_login(req: Request) -> None: ...

    app.get("/a/{id:int}", needs="x")(lambda id: "")
    app.post("/b", public=True)(lambda: "")
    one, two = app.routes()
    assert (one.methods, one.template, one.needs, one.is_guarded, two.public) == (
        ("GET",),
        "/a/{id:int}",
        "x",
        True,
        True,
    )
    assert [link.name for link in one.chain] == ["need_login"]
    assert two.chain == ()
    assert [(p.name, p.source) for p in one.parameters] == [("id", "path")]


def test_providers_are_called_once_and_shared() -> None:
    app = App()
    calls: list[str] = []

    class Token(str):
        pass

    @app.provide(Token)
    def token(req: Request) -> Token:
        calls.append("token")
        return Token(req.headers.get("X-Token", ""))

    @app.provide(User)
    def user(token: Token) -> User:
        calls.append("user")
        if not token:
            raise Unauthorized()
        return User(token)

    @app.intercept("/in/*")
    def check(user: User) -> None:
        if user.name == "eve":
            raise Forbidden()

    @app.get("/in/x")
    def handler(user: User, token: Token) -> str:
        return user.name

    app.get("/free")(lambda: "free")
    caller = Caller(app)
    assert caller.get("/in/x", x_token="ada").text == "ada"
    assert calls == ["token", "user"]
    assert caller.get("/in/x").status == 401
    assert caller.get("/in/x", x_token="eve").status == 403
    calls.clear()
    assert caller.get("/free").text == "free"
    assert calls == []


def test_a_provider_that_yields_ends_before_the_head() -> None:
    app = App()
    log: list[str] = []

    class Tx:
        pass

    @app.provide(Tx)
    def tx(req: Request) -> Iterator[Tx]:
        try:
            yield Tx()
        except Exception as error:
            log.append(f"rollback {type(error).__name__}")
            raise
        if req.path == "/commit-fails":
            raise RuntimeError("commit")
        log.append("commit")

    def fail(tx: Tx) -> None:
        raise NotFound()

    def pieces(tx: Tx) -> Response:
        def body() -> Iterator[str]:
            for piece in ("a", "b"):
                log.append(piece)
                yield piece

        return stream(body())

    def broken(tx: Tx) -> Response:
        def body() -> Iterator[str]:
            yield "a"
            raise KeyError("x")

        return stream(body())

    for path, handler in [
        ("/ok", lambda tx: "ok"),
        ("/commit-fails", lambda tx: "ok"),
        ("/fail", fail),
        ("/stream", pieces),
        ("/broken", broken),
    ]:
        handler.__annotations__ = {"tx": Tx}
        app.get(path)(handler)
    caller = Caller(app)
    assert caller.get("/ok").text == "ok"
    assert caller.get("/commit-fails").status == 500
    assert caller.get("/fail").status == 404
    assert log == ["commit", "rollback NotFound"]
    log.clear()
    assert caller.get("/stream").text == "ab"
    assert log == ["a", "b", "commit"]
    log.clear()
    with pytest.raises(KeyError):
        caller.get("/broken")
    assert log == ["rollback KeyError"]


def test_providers_must_make_sense() -> None:
    class A: ...

    class B: ...

    app = App()

    @app.provide(A)
    def a(b: B) -> A: ...  # type: ignore[empty-body]

    @app.provide(B)
    def b(a: A) -> B: ...  # type: ignore[empty-body]

    app.get("/")(lambda: "")
    with pytest.raises(StartError, match="needs itself"):
        app.freeze()
    with pytest.raises(StartError):
        App().provide(str)


def test_error_handlers() -> None:
    class Base(Exception): ...

    class Derived(Base): ...

    app = App()

    @app.error(404)
    def missing(error: HTTPError, req: Request) -> Any:
        return {"missing": req.path}

    @app.error(Base)
    def base(error: Base) -> Any:
        return f"base {type(error).__name__}", 409

    @app.error(500)
    def server(error: Exception) -> str:
        return "ours"

    @app.error(405)
    def broken() -> None:
        raise RuntimeError("in the handler")

    def raising(error: Exception) -> Any:
        def handler() -> None:
            raise error

        return handler

    app.get("/derived")(raising(Derived()))
    app.get("/key")(raising(KeyError("x")))
    app.get("/nf")(raising(NotFound("x", {"X-A": "1"})))
    caller = Caller(app)
    answer = caller.get("/none")
    assert (answer.status, answer.json) == (404, {"missing": "/none"})
    assert caller.get("/nf")["X-A"] == "1"
    assert (caller.get("/derived").status, caller.get("/derived").text) == (409, "base Derived")
    assert (caller.get("/key").status, caller.get("/key").text) == (500, "ours")
    assert caller.post("/nf").status == 500
    assert "in the handler" in caller.errors


def test_groups_and_merged_apps() -> None:
    ran: list[str] = []
    blog = App()
    blog.get("/")(lambda: "index")
    blog.get("/{slug}")(lambda slug: slug)
    blog.intercept("/*")(lambda: ran.append("blog"))

    @blog.error(404)
    def nothing(error: HTTPError) -> str:
        return "no such post"

    @blog.provide(User)
    def blog_user() -> User:
        return User("blogger")

    @blog.get("/who/am/i")
    def who(user: User) -> str:
        return user.name

    app = App()

    @app.provide(User)
    def user() -> User:
        return User("main")

    @app.get("/who")
    def main_who(user: User) -> str:
        return user.name

    @app.error(404)
    def not_here(error: HTTPError) -> str:
        return "nothing here"

    admin = app.group("/admin", needs="admin")
    admin.intercept()(lambda: ran.append("admin"))
    deep = admin.group("/deep", needs="deep")

    @deep.get("/x")
    def x(req: Request) -> Any:
        return req.route.needs

    admin.get("")(lambda: "admin")
    app.mount("/blog", blog)
    caller = Caller(app)
    assert caller.get("/blog/").text == "index"
    assert caller.get("/blog")["Location"] == "/blog/"
    assert caller.get("/blog/post").text == "post"
    assert caller.get("/blog/who/am/i").text == "blogger"
    assert caller.get("/who").text == "main"
    assert caller.get("/blog/a/b").text == "no such post"
    assert caller.get("/other").text == "nothing here"
    assert ran == ["blog"] * 5
    ran.clear()
    assert caller.get("/admin/deep/x").text == "deep"
    assert caller.get("/admin").text == "admin"
    assert ran == ["admin", "admin"]
    assert Caller(blog).get("/post").text == "post", "the mounted app still works by itself"
    late = App()
    outer = App()
    outer.mount("/late", late)
    late.get("/")(lambda: "x")
    assert Caller(outer).get("/late/").text == "x"
    with pytest.raises(RuntimeError, match="begun to serve"):
        late.get("/later")


def test_foreign_wsgi_apps() -> None:
    ran: list[str] = []

    def old(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(
            "404 Not Found" if environ["PATH_INFO"] == "/none" else "200 OK",
            [("Content-Type", "text/plain"), ("X-Old", "1")],
        )
        return [f"{environ['REQUEST_METHOD']} {environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode()]

    def lazy(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            yield b"a"
            yield b"b"
        finally:
            ran.append("closed")

    app = App()
    app.mount("/old", old)
    app.mount("/lazy", lazy)
    app.intercept("/old/*")(lambda: ran.append("guard"))
    app.get("/old/new")(lambda: "new")
    caller = Caller(app)
    assert caller.get("/old/a/b").text == "GET /old|/a/b"
    assert caller.get("/old").text == "GET /old|"
    assert caller.get("/old/", script_name="/app").text == "GET /app/old|/"
    assert caller.request("DELETE", "/old/x").text == "DELETE /old|/x"
    answer = caller.get("/old/none")
    assert (answer.status, answer.text, answer["X-Old"]) == (404, "GET /old|/none", "1")
    assert caller.get("/older").status == 404
    assert caller.get("/old/new").text == "new"
    assert ran == ["guard"] * 6
    ran.clear()
    assert caller.get("/lazy/x").text == "ab"
    assert ran == ["closed"]
    inside = App()
    inside.mount("/old", old)
    inside.intercept("/old/admin/*")(lambda: None)
    with pytest.raises(StartError, match="inside"):
        inside.freeze()


def test_wrap_puts_middlewares_around() -> None:
    app = App()
    app.get("/")(lambda: "x")

    def shout(inner: Any) -> Any:
        def middleware(environ: dict[str, Any], start_response: Any) -> Any:
            return [piece.upper() for piece in inner(environ, start_response)]

        return middleware

    app.wrap(shout)
    assert Caller(app).get("/").text == "X"


def test_reply_headers_and_after() -> None:
    app = App()
    log: list[str] = []

    @app.get("/{what}")
    def handler(req: Request, what: str) -> Any:
        req.reply_headers["X-Reply"] = what
        req.reply_headers.add("Set-Cookie", "a=1")
        req.reply_headers.add("Set-Cookie", "b=2")
        req.after(lambda: log.append("after"))
        log.append("handler")
        if what == "fail":
            raise NotFound()
        return "ok"

    caller = Caller(app)
    for what, status in (("ok", 200), ("fail", 404)):
        answer = caller.get(f"/{what}")
        assert (answer.status, answer["X-Reply"], answer.all("Set-Cookie")) == (status, what, ["a=1", "b=2"])
    assert log == ["handler", "after"] * 2
    assert caller.head("/ok").body == b""
    assert log[-1] == "after"


def test_csrf() -> None:
    app = App(trusted_origins=["https://partner.example"])
    app.post("/x")(lambda: "x")
    app.post("/hook", csrf=False)(lambda: "hook")
    app.get("/x")(lambda: "x")
    caller = Caller(app)
    for fields, status in [
        ({}, 200),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "none"}, 200),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "cross-site", "origin": "http://example.com"}, 403),
        ({"origin": "http://example.com"}, 200),
        ({"origin": "http://EXAMPLE.com:80"}, 200),
        ({"origin": "https://example.com"}, 403),
        ({"origin": "http://example.com.evil"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"sec_fetch_site": "cross-site", "origin": "https://partner.example"}, 200),
    ]:
        assert caller.post("/x", **fields).status == status, fields
        assert caller.post("/hook", **fields).status == 200
        assert caller.get("/x", **fields).status == 200
    assert caller.post("/none", sec_fetch_site="cross-site").status == 403


def test_cors() -> None:
    from trivet import CORS

    app = App()
    app.get("/open", cors=CORS("*"))(lambda: "x")
    app.post("/own", cors=CORS("https://app.example", credentials=True, expose=["X-A"]))(lambda: "x")
    app.get("/none")(lambda: "x")
    caller = Caller(app)
    answer = caller.get("/open", origin="https://any.example")
    assert answer["Access-Control-Allow-Origin"] == "*"
    answer = caller.request(
        "OPTIONS", "/own", origin="https://app.example", access_control_request_method="POST"
    )
    assert answer.status == 204
    assert answer["Access-Control-Allow-Origin"] == "https://app.example"
    assert "POST" in (answer["Access-Control-Allow-Methods"] or "")
    assert "Origin" in (answer["Vary"] or "")
    answer = caller.post("/own", origin="https://app.example", sec_fetch_site="cross-site")
    assert (
        answer.status,
        answer["Access-Control-Allow-Credentials"],
        answer["Access-Control-Expose-Headers"],
    ) == (200, "true", "X-A")
    answer = caller.post("/own", origin="https://evil.example")
    assert (answer.status, answer["Access-Control-Allow-Origin"]) == (403, None)
    assert (
        caller.request(
            "OPTIONS", "/own", origin="https://evil.example", access_control_request_method="POST"
        )["Access-Control-Allow-Origin"]
        is None
    )
    assert caller.get("/none", origin="https://app.example")["Access-Control-Allow-Origin"] is None
    with pytest.raises(ValueError, match="every site"):
        CORS("*", credentials=True)

"""The interceptors' half of the public face, sentence by sentence, through WSGI and ASGI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from framework import drive
from framework.drive import Ask, refused
from trivet import CORS, App, HTTPError, Request, Response, Session, redirect

KEY = "a key that only tests know, and long enough"


@pytest.fixture(params=["wsgi", "asgi"])
def ask(request: pytest.FixtureRequest) -> Ask:
    return drive.ask_wsgi if request.param == "wsgi" else drive.ask_asgi


def guarded(seen: list[str] | None = None) -> App:
    """The page's own example."""
    app = App(secret=KEY)
    log = seen if seen is not None else []

    @app.intercept("/admin/*", except_="/admin/login")
    def need_login(req: Request, session: Session) -> Response | None:
        log.append(f"need_login {req.method} {req.path}")
        return None if "uid" in session else redirect("/login", next=req.path)

    @app.get("/login")
    def login(session: Session) -> str:
        session["uid"] = 1
        return "in"

    app.get("/admin/login")(lambda: "the door")
    app.get("/admin")(lambda: "admin")
    app.get("/admin/users")(lambda: "users")
    app.post("/admin/users")(lambda: "added")
    app.get("/admin/folder/")(lambda: "folder")
    app.get("/public")(lambda: "public")
    return app


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/admin"),
        ("GET", "/admin/users"),
        ("HEAD", "/admin/users"),
        ("POST", "/admin/users"),
        ("OPTIONS", "/admin/users"),  # automatic
        ("DELETE", "/admin/users"),  # would be 405
        ("GET", "/admin/nothing"),  # would be 404
        ("GET", "/admin/folder"),  # would be 308
        ("GET", "/admin/users/"),
        ("GET", "/admin/"),
        ("GET", "/%61dmin/users"),
        ("GET", "/admin/users%20"),
        ("GET", "/admin/%C3%A9"),
    ],
)
def test_everything_below_a_pattern_passes_it(ask: Ask, method: str, target: str) -> None:
    answer = ask(guarded(), target, method)
    assert answer.status in (302, 303), target
    assert (answer.get("Location") or "").startswith("/login?next=")
    assert answer.body in (b"", answer.body if method != "HEAD" else b"")


def test_what_is_excepted_or_elsewhere_is_not_touched(ask: Ask) -> None:
    seen: list[str] = []
    app = guarded(seen)
    assert ask(app, "/admin/login").text == "the door"
    assert ask(app, "/public").text == "public"
    assert ask(app, "/administrator").status == 404
    assert ask(app, "/Admin/users").status == 404
    assert seen == []


def test_who_may_goes_on(ask: Ask) -> None:
    app = guarded()
    cookies = drive.cookies_of(ask(app, "/login", scheme="https"))
    assert cookies
    assert ask(app, "/admin/users", cookies=cookies, scheme="https").text == "users"
    assert ask(app, "/admin/folder", cookies=cookies, scheme="https").status == 308
    assert ask(app, "/admin/nothing", cookies=cookies, scheme="https").status == 404
    assert ask(app, "/admin/users", "DELETE", cookies=cookies, scheme="https").status == 405


def test_an_exception_names_templates_never_values(ask: Ask) -> None:
    app = App()
    app.intercept("/a/*", except_="/a/{x}")(lambda: Response("stopped", status=403))
    app.get("/a/{x}")(lambda x: x)
    app.get("/a/fixed")(lambda: "fixed")
    assert ask(app, "/a/any").text == "any"
    assert ask(app, "/a/fixed").status == 403
    app = App()
    app.intercept("/a/*", except_="/a/any")(lambda: None)
    app.get("/a/{x}")(lambda x: x)
    assert "/a/any" in refused(app)


@pytest.mark.parametrize("value", [True, False, 0, "", "no", {}, [], ("x", 403)])
def test_any_other_value_of_an_interceptor_is_500(ask: Ask, value: Any) -> None:
    app, seen = App(), []
    app.intercept("/*")(lambda: value)

    @app.get("/")
    def f() -> str:
        seen.append("ran")
        return "open"

    assert ask(app).status == 500
    assert seen == []


def test_a_generator_is_around_the_handler(ask: Ask) -> None:
    app, seen = App(), []

    @app.intercept("/api/*")
    def timing(req: Request) -> Iterator[None]:
        seen.append("before")
        response = yield
        seen.append(f"after {response.status}")
        response.headers["Server-Timing"] = "app;dur=1"

    @app.get("/api/x")
    def x() -> tuple[str, int]:
        seen.append("handler")
        return "x", 202

    answer = ask(app, "/api/x")
    assert (answer.status, answer.get("Server-Timing")) == (202, "app;dur=1")
    assert seen == ["before", "handler", "after 202"]
    assert ask(app, "/api/none").get("Server-Timing") == "app;dur=1"
    assert ask(app, "/api/x", "POST").get("Server-Timing") == "app;dur=1"


@pytest.mark.parametrize("yields", [0, 2])
def test_a_generator_yields_exactly_once(ask: Ask, yields: int) -> None:
    app = App()

    @app.intercept("/*")
    def wrong() -> Iterator[None]:
        for _ in range(yields):
            yield

    app.get("/")(lambda: "open")
    answer = ask(app)
    assert answer.status == 500
    assert "open" not in answer.text


def test_a_generator_that_never_yields_can_only_stop(ask: Ask) -> None:
    app, seen = App(), []

    @app.intercept("/*")
    def door(req: Request) -> Iterator[None]:
        if req.query.get("stop"):
            return Response("stopped", status=403)  # type: ignore[return-value]
        if not req.query.get("lost"):
            yield

    @app.get("/")
    def index() -> str:
        seen.append("handler")
        return "open"

    assert (ask(app, "/?stop=1").status, seen) == (403, [])
    assert (ask(app, "/?lost=1").status, seen) == (500, [])
    assert "`yield`" in drive.ask_wsgi(app, "/?lost=1").log
    assert (ask(app).text, seen) == ("open", ["handler"])


def test_what_the_router_answers_comes_back_and_what_is_raised_is_thrown(ask: Ask) -> None:
    app, seen = App(), []

    @app.intercept("/a/*")
    def around() -> Iterator[None]:
        try:
            response = yield
        except HTTPError as error:
            seen.append(f"raised {error.status}")
            raise
        seen.append(f"answer {response.status} {response.headers.get('Allow', '')}".strip())
        response.headers["X-Around"] = "1"

    @app.error(404)
    def lost(error: HTTPError) -> str:
        return "a page of our own"

    @app.get("/a/raises")
    def raises() -> str:
        raise HTTPError(404)

    @app.get("/a/wants")
    def wants(n: int) -> str:
        return str(n)

    app.get("/a/dir/")(lambda: "dir")
    app.converter("odd", "[0-9]+")(odd)
    app.get("/a/odd/{n:odd}")(lambda n: "odd")

    def told(target: str, method: str = "GET") -> tuple[int, str | None, list[str]]:
        seen.clear()
        answer = ask(app, target, method)
        return answer.status, answer.get("X-Around"), list(seen)

    assert told("/a/none") == (404, "1", ["answer 404"])
    assert ask(app, "/a/none").text == "a page of our own"
    assert told("/a/wants", "PUT") == (405, "1", ["answer 405 GET, HEAD, OPTIONS"])
    assert told("/a/wants", "OPTIONS") == (204, "1", ["answer 204 GET, HEAD, OPTIONS"])
    assert told("/a/dir") == (308, "1", ["answer 308"])
    assert told("/a/odd/2") == (404, "1", ["answer 404"])
    assert told("/a/raises") == (404, None, ["raised 404"])
    assert told("/a/wants?n=x") == (400, None, ["raised 400"])
    seen.clear()
    # The converter's own exception is one like a handler's.
    assert (ask(app, "/a/odd/13").status, seen) == (500, [])


def odd(text: str) -> int:
    if text == "13":
        raise RuntimeError("unlucky")
    if int(text) % 2 == 0:
        raise ValueError
    return int(text)


def test_what_a_guard_lets_through_is_private_unless_it_says_otherwise(ask: Ask, tmp_path: Any) -> None:
    (tmp_path / "a.txt").write_text("a")
    app = App()
    app.intercept("/in/*", guard=True)(lambda: None)
    app.intercept("/timed/*")(lambda: None)
    app.get("/in/plain")(lambda: "x")
    app.get("/in/none")(lambda: None)
    app.get("/in/said")(lambda: ("x", {"Cache-Control": "max-age=60"}))
    app.get("/in/old")(lambda: ("x", {"Expires": "0"}))

    @app.get("/in/reply")
    def reply(req: Request) -> str:
        req.reply_headers["Cache-Control"] = "no-cache"
        return "x"

    @app.get("/in/raises")
    def raises() -> str:
        raise HTTPError(404)

    app.get("/timed/plain")(lambda: "x")
    app.get("/out")(lambda: "x")
    app.static("/in/files", tmp_path, max_age=60)
    app.static("/timed/files", tmp_path)
    app.static("/timed/assets", tmp_path, max_age=60, name="assets")
    app.static("/files", tmp_path, name="open")
    private = "private, no-store"
    for target, said in {
        "/in/plain": private,
        "/in/none": private,
        "/in/said": "max-age=60",
        "/in/old": None,
        "/in/reply": "no-cache",
        "/in/raises": private,
        "/timed/plain": None,
        "/out": None,
        "/in/files/a.txt": private,
        "/timed/files/a.txt": private,
        "/timed/assets/a.txt": "max-age=60",
        "/files/a.txt": None,
    }.items():
        assert ask(app, target).get("Cache-Control") == said, target


def test_what_the_router_answers_below_a_guard_is_not_for_caches(ask: Ask) -> None:
    app = App(cors=CORS(["https://a.example"]))

    @app.intercept("/in/*", guard=True)
    def guard(req: Request) -> None:
        if req.headers.get("X-Out"):
            raise HTTPError(401)

    @app.intercept("/timed/*")
    def timed() -> None:
        return None

    @app.converter("even", "[0-9]+")
    def even(text: str) -> int:
        if int(text) % 2:
            raise ValueError(text)
        return int(text)

    @app.error(405)
    def wrong_method() -> Any:
        return "no", 405, {"Cache-Control": "max-age=5"} if speaks else {}

    speaks = False
    for below in ("/in", "/timed", "/out"):
        app.get(below + "/a")(lambda: "a")
        app.get(below + "/slash/")(lambda: "slash")
        app.get(below + "/even/{n:even}")(lambda n: str(n))
    requests = [
        ("/none", "GET", {}, 404),
        ("/none", "GET", {"X-Out": "1"}, 404),
        ("/even/3", "GET", {}, 404),
        ("/a", "POST", {}, 405),
        ("/a", "DELETE", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("/a", "OPTIONS", {}, 204),
        ("/a", "OPTIONS", {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}, 204),
        ("/slash", "GET", {}, 308),
        ("/slash", "HEAD", {}, 308),
        ("/slash", "PUT", {}, 404),
    ]
    for below in ("/in", "/timed", "/out"):
        for target, method, fields, status in requests:
            answer = ask(app, below + target, method, fields=fields)
            if below == "/in" and "X-Out" in fields:
                status = 401
            assert answer.status == status, (below, target, method)
            wanted = "private, no-store" if below == "/in" else None
            assert answer.get("Cache-Control") == wanted, (below, target, method)
    speaks = True
    assert ask(app, "/in/a", "POST").get("Cache-Control") == "max-age=5"


def test_captures_are_given_and_converted(ask: Ask) -> None:
    app, seen = App(), []

    class User:
        def __init__(self, name: str) -> None:
            self.name = name

    made: list[User] = []

    @app.provide(User)
    def user(req: Request) -> User:
        made.append(User(req.headers.get("X-User") or "nobody"))
        return made[-1]

    @app.intercept("/projects/{project}/*")
    def member(project: int, user: User) -> None:
        seen.append((project, user.name))
        if user.name == "nobody":
            raise HTTPError(403, "members only")

    @app.get("/projects/{id:int}/files/{name}")
    def files(id: int, name: str, user: User) -> dict[str, Any]:
        assert user is made[-1]
        return {"id": id, "name": name, "user": user.name}

    assert ask(app, "/projects/7/files/a", fields={"X-User": "ada"}).json == {
        "id": 7,
        "name": "a",
        "user": "ada",
    }
    assert seen == [(7, "ada")]
    assert len(made) == 1
    assert ask(app, "/projects/7/files/a").status == 403
    assert ask(app, "/projects/x/files/a", fields={"X-User": "ada"}).status in (400, 404)


def test_a_maybe_is_decided_for_each_request(ask: Ask) -> None:
    app, seen = App(), []

    @app.intercept("/admin/report")
    def check(req: Request) -> Response:
        seen.append(req.path)
        return Response("stopped", status=403)

    app.get("/{section}/report")(lambda section: section)
    assert ask(app, "/shop/report").text == "shop"
    assert seen == []
    for target in ("/admin/report", "/%61dmin/report", "/admin/report/", "/admin/%72eport"):
        assert ask(app, target).status == 403, target


def test_a_maybe_compares_values_of_typed_parameters(ask: Ask) -> None:
    app = App()
    lower = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    for pattern in (f"/u/{lower}", "/f/1.5", "/i/0"):
        app.intercept(pattern)(lambda: Response("stopped", status=403))
    for kind, first in (("uuid", "u"), ("float", "f"), ("int", "i")):
        app.get(f"/{first}/{{v:{kind}}}")(lambda v: str(v))
    for target in (f"/u/{lower}", f"/u/{lower.upper()}", "/f/1.5", "/f/1.50", "/f/01.5", "/i/0", "/i/-0"):
        assert ask(app, target).status in (403, 404), target
    assert ask(app, "/f/1.51").status == 200


def test_an_encoded_slash_never_makes_a_segment() -> None:
    app = App()
    app.intercept("/admin/*")(lambda: Response("stopped", status=403))
    app.get("/admin/users")(lambda: "users")
    app.get("/{one}")(lambda one: f"one {one}")
    for key in ("RAW_URI", "REQUEST_URI"):
        environ = drive.environ_of("GET", "/admin%2Fusers")
        environ[key] = "/admin%2Fusers"
        answer = drive.call(app, environ)
        assert answer.text != "users"
        environ = drive.environ_of("GET", "/admin/users")
        environ[key] = "/public"  # a lie: it does not decode to what the server says
        assert drive.call(app, environ).status == 403
        environ = drive.environ_of("GET", "/admin/users")
        environ[key] = "/admin%2Fusers"  # true as far as one can know: one segment, and no guarded handler
        assert drive.call(app, environ).text != "users"


@pytest.mark.parametrize(
    "target",
    [
        "/admin/../public",
        "/./public",
        "//public",
        "/admin//users",
        "/%2e%2e/public",
        "/public/.",
        "/public/..",
        "/%2E/public",
    ],
)
def test_dots_and_double_slashes_are_404(ask: Ask, target: str) -> None:
    answer = ask(guarded(), target)
    assert answer.status in (404, 302, 303), answer.text
    app = App()
    app.get("/{rest:path}")(lambda rest: "reached")
    assert ask(app, target).status == 404


def test_a_star_is_one_whole_segment(ask: Ask) -> None:
    app = App()
    app.intercept("/a/*/b")(lambda: Response("stopped", status=403))
    app.get("/a/{rest:path}")(lambda rest: rest)
    assert ask(app, "/a/x/b").status == 403
    assert ask(app, "/a/x/b/").status in (403, 404, 308)
    assert [ask(app, t).status for t in ("/a/b", "/a/x/y/b", "/a/x/b/c", "/a/x/bb")] == [200] * 4


def test_a_last_star_is_the_subtree_with_its_root(ask: Ask) -> None:
    app = App()
    app.intercept("/a/*")(lambda: Response("stopped", status=403))
    for template in ("/a", "/a/b", "/a/b/c", "/ab"):
        app.get(template)(lambda: "open")
    assert [ask(app, t).status for t in ("/a", "/a/", "/a/b", "/a/b/c", "/ab")] == [403, 403, 403, 403, 200]


@pytest.mark.parametrize(
    "pattern", ["/admn/*", "/admin/*/x", "/admin/users/deep", "admin/*", "", "/a*", "/{a}b", "/**"]
)
def test_a_pattern_that_matches_no_route_raises(pattern: str) -> None:
    app = App()
    app.get("/admin/users")(lambda: "x")
    app.get("/admin")(lambda: "x")

    def start() -> None:
        app.intercept(pattern)(lambda: None)
        drive.ask_wsgi(app, "/admin")

    with pytest.raises(Exception):  # noqa: B017, PT011 - at once or at start-up
        start()


# Order


def test_the_order_is_parents_first_then_registration(ask: Ask) -> None:
    app, seen = App(), []

    def note(name: str) -> Any:
        return lambda: seen.append(name)

    app.intercept("/a/b/*")(note("child"))
    app.intercept("/a/*")(note("parent 1"))
    app.intercept("/*")(note("root"))
    app.intercept("/a/*")(note("parent 2"))
    app.get("/a/b/c")(lambda: "x")
    assert ask(app, "/a/b/c").status == 200
    assert seen == ["root", "parent 1", "parent 2", "child"]


def test_no_body_is_read_for_a_refused_request() -> None:
    app = App()
    app.intercept("/*")(lambda: Response("stopped", status=403))

    @app.post("/")
    def f(req: Request) -> bytes:
        return req.body

    class Untouchable:
        def read(self, size: int = -1) -> bytes:
            raise AssertionError("the body was read")

        readline = readlines = __iter__ = read

    environ = drive.environ_of("POST", "/", [("Content-Length", "10"), ("Content-Type", "application/json")])
    environ["wsgi.input"] = Untouchable()
    assert drive.call(app, environ, validate=False).status == 403


def test_csrf_comes_before_interceptors(ask: Ask) -> None:
    app, seen = App(), []
    app.intercept("/*")(lambda: seen.append("ran"))
    app.post("/")(lambda: "x")
    assert ask(app, "/", "POST", fields={"Sec-Fetch-Site": "cross-site"}).status == 403
    assert seen == []


def test_exceptions_run_through_generators_from_the_inside_out_then_error_handlers(ask: Ask) -> None:
    app, seen = App(), []

    def around(name: str) -> Any:
        def wrap() -> Iterator[None]:
            try:
                yield
            except KeyError:
                seen.append(name)
                raise

        return wrap

    app.intercept("/*")(around("outer"))
    app.intercept("/a/*")(around("inner"))

    @app.error(KeyError)
    def on_error(req: Request, error: KeyError) -> tuple[str, int]:
        seen.append("error")
        return "handled", 418

    @app.get("/a/b")
    def boom() -> str:
        raise KeyError("x")

    assert (ask(app, "/a/b").status, seen) == (418, ["inner", "outer", "error"])


# Roles and default deny


def test_needs_is_shown_to_interceptors(ask: Ask) -> None:
    app = App()

    @app.intercept("/*")
    def allowed(req: Request) -> Response | None:
        if req.route and req.route.needs and req.headers.get("X-Can") != req.route.needs:
            return Response("not yours", status=403)
        return None

    app.post("/orders", needs="orders.write")(lambda: "written")
    app.get("/orders")(lambda: "read")
    assert ask(app, "/orders").text == "read"
    assert ask(app, "/orders", "POST").status == 403
    assert ask(app, "/orders", "POST", fields={"X-Can": "orders.write"}).text == "written"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_provider_may_refuse(ask: Ask, status: int) -> None:
    app = App()

    class User:
        pass

    @app.provide(User)
    def user() -> User:
        raise HTTPError(status)

    @app.get("/")
    def f(user: User) -> str:
        return "open"

    assert ask(app).status == status


def test_default_deny_refuses_to_start_with_an_open_route(ask: Ask) -> None:
    app = App(guard="required")
    app.intercept("/admin/*", guard=True)(lambda: None)
    app.intercept("/*")(lambda: None)  # not a guard
    app.get("/admin/a")(lambda: "x")
    app.get("/open")(lambda: "x")
    assert "/open" in refused(app)
    app = App(guard="required")
    app.intercept("/admin/*", guard=True)(lambda: None)
    app.get("/admin/a")(lambda: "a")
    app.get("/open", public=True)(lambda: "open")
    assert [ask(app, t).text for t in ("/admin/a", "/open")] == ["a", "open"]


def test_a_guard_that_covers_only_perhaps_is_none() -> None:
    app = App(guard="required")
    app.intercept("/admin/report", guard=True)(lambda: None)
    app.get("/{section}/report")(lambda section: "x")
    assert "/{section}/report" in refused(app)


def test_a_guard_with_conditions_does_not_cover_the_rest() -> None:
    app = App(guard="required")
    app.intercept("/a/*", guard=True, methods=["POST"])(lambda: None)
    app.get("/a/b")(lambda: "x")
    app.post("/a/b")(lambda: "x")
    assert "/a/b" in refused(app)


def test_conditions_on_host_and_method(ask: Ask) -> None:
    app = App()
    app.intercept("/a/*", methods=["POST"])(lambda: Response("no posts", status=403))
    app.intercept("/b/*", host="internal.example")(lambda: Response("not here", status=403))
    app.get("/a/x")(lambda: "read")
    app.post("/a/x")(lambda: "written")
    app.get("/b/x")(lambda: "b")
    assert (ask(app, "/a/x").text, ask(app, "/a/x", "POST").status) == ("read", 403)
    assert ask(app, "/b/x").text == "b"
    for host in ("internal.example", "INTERNAL.example", "internal.example:80", "internal.example."):
        assert ask(app, "/b/x", fields=[("Host", host)]).status in (400, 403), host


def test_a_group_has_interceptors_for_all_of_it(ask: Ask) -> None:
    app, seen = App(), []
    admin = app.group("/admin")
    admin.intercept()(lambda: seen.append("group"))
    admin.get("/users")(lambda: "users")
    deep = admin.group("/deep")
    deep.get("/x")(lambda: "x")
    app.get("/open")(lambda: "open")
    for target, text in (("/admin/users", "users"), ("/admin/deep/x", "x")):
        seen.clear()
        assert ask(app, target).text == text
        assert seen == ["group"]
    seen.clear()
    assert ask(app, "/open").text == "open"
    assert seen == []
    assert ask(app, "/admin/nothing").status == 404
    assert seen == ["group"]


# What else answers below a pattern


def test_static_mounts_pass_interceptors_and_are_private(ask: Ask, tmp_path: Any) -> None:
    (tmp_path / "secret.txt").write_text("the secret")
    app = App()

    @app.intercept("/files/*")
    def check(req: Request) -> Response | None:
        return None if req.headers.get("X-Pass") else Response("stopped", status=403)

    app.static("/files", tmp_path)
    assert ask(app, "/files/secret.txt").status == 403
    answer = ask(app, "/files/secret.txt", fields={"X-Pass": "1"})
    assert answer.text == "the secret"
    said = answer.get("Cache-Control") or ""
    assert "private" in said
    assert "no-store" in said
    for target in ("/files/../secret.txt", "/files/%2e%2e/x", "/files/..%2fsecret.txt", "/files/nothing"):
        assert ask(app, target).status in (403, 404), target


def test_a_pattern_of_the_outer_app_reaches_into_a_mounted_one(ask: Ask) -> None:
    app, blog = App(), App()
    app.intercept("/blog/drafts/*")(lambda: Response("stopped", status=403))
    blog.get("/drafts/{n:int}")(lambda n: "draft")
    blog.get("/")(lambda: "blog")
    app.mount("/blog", blog)
    assert ask(app, "/blog/drafts/1").status == 403
    assert ask(app, "/blog/").text == "blog"


def test_a_foreign_mount_is_guarded_as_a_whole_or_not_at_all(ask: Ask) -> None:
    def old(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode()]

    app = App()
    app.intercept("/old/*")(
        lambda req: None if req.headers.get("X-Pass") else Response("stopped", status=403)
    )
    app.mount("/old", old)
    assert ask(app, "/old/a/b").status == 403
    assert ask(app, "/old").status == 403
    assert ask(app, "/old/a/b", fields={"X-Pass": "1"}).text == "/old|/a/b"
    assert ask(app, "/older").status == 404
    app = App()
    app.intercept("/old/admin/*")(lambda: None)
    app.mount("/old", old)
    assert "/old" in refused(app)

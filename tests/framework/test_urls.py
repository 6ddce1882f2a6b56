"""URLs that an app makes of its own routes: below which path it is served, and mounted, is part of them."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from framework.caller import Caller
from framework.drive import ask_wsgi, converse
from trivet import App, Request, redirect
from trivet.templates import Templates


def blog_app() -> App:
    blog = App()

    @blog.get("/posts/{n:int}")
    def post(n: int, req: Request) -> Any:
        return {"req": req.url_for("post", n=n + 1, q="a b"), "app": blog.url("post", n=n + 1)}

    @blog.get("/", name="index")
    def index(req: Request) -> Any:
        return [req.url_for("index"), req.url_for("shop"), req.url_for("static", path="é.css")]

    @blog.get("/move")
    def move(req: Request) -> Any:
        return redirect(req.url_for("post", n=1))

    @blog.get("/slash/")
    def slash() -> str:
        return "slash"

    blog.static("/files", ".")
    return blog


def shop_app(blog: App) -> App:
    app = App()

    @app.get("/", name="index")
    def index(req: Request) -> Any:
        return [req.url_for("index"), app.url("index"), req.url_for("post", n=1), app.url("post", n=1)]

    app.get("/shop", name="shop")(lambda: "")
    app.static("/static", ".")
    app.mount("/blog", blog)
    return app


@pytest.mark.parametrize("script", ["", "/x", "/x/é y"])
def test_a_url_begins_with_where_the_app_is_served_and_mounted(script: str) -> None:
    raw = script.encode().decode("latin-1")
    front = {"": "", "/x": "/x", "/x/é y": "/x/%C3%A9%20y"}[script]
    caller = Caller(shop_app(blog_app()))
    get = lambda path: caller.get(path, script_name=raw)  # noqa: E731
    assert get("/").json == [front + "/", "/", front + "/blog/posts/1", "/blog/posts/1"]
    assert get("/blog/posts/7").json == {
        "req": front + "/blog/posts/8?q=a+b",
        "app": "/blog/posts/8",
    }
    assert get("/blog/").json == [front + "/blog/", front + "/shop", front + "/blog/files/%C3%A9.css"]
    assert get("/blog/move")["Location"] == front + "/blog/posts/1"
    assert get("/blog/slash")["Location"] == front + "/blog/slash/"
    assert (get("/blog/slash").status, get("/blog/slash?a=b").status) == (308, 308)


def test_asgi_has_its_root_path() -> None:
    app = shop_app(blog_app())
    status, fields, body = asyncio.run(converse(app.asgi, "GET", "/x/blog/move", root_path="/x"))
    assert (status, dict(fields)["location"]) == (302, "/x/blog/posts/1"), body
    status, fields, _ = asyncio.run(converse(app.asgi, "GET", "/x/blog/slash", root_path="/x"))
    assert (status, dict(fields)["location"]) == (308, "/x/blog/slash/")


@pytest.mark.parametrize("script", ["//evil.example", "/\\evil.example", "//"])
def test_no_url_of_ours_names_another_host(script: str) -> None:
    caller = Caller(blog_app())
    location = caller.get("/move", script_name=script)["Location"] or ""
    assert location.startswith("/")
    assert location[1:2] not in ("/", "\\")
    moved = caller.get("/slash", script_name=script)
    assert moved.status in (308, 404)
    assert (moved["Location"] or "/x")[1:2] not in ("/", "\\")


def test_an_app_under_a_wsgi_app_of_others_knows_its_place() -> None:
    blog, app = blog_app(), App()
    app.mount("/old", lambda environ, start: blog(environ, start))
    assert Caller(app).get("/old/move", script_name="/x")["Location"] == "/x/old/posts/1"


def test_an_app_that_is_mounted_twice_needs_the_request() -> None:
    blog = App()

    @blog.get("/here", name="here")
    def here(req: Request) -> str:
        return req.url_for("here")

    app = App()
    app.mount("/a", blog)
    app.group("/g").mount("/b", blog)
    assert [ask_wsgi(app, path).text for path in ("/a/here", "/g/b/here")] == ["/a/here", "/g/b/here"]
    with pytest.raises(ValueError, match="mounted at `/a` and `/g/b`"):
        blog.url("here")


def test_apps_in_apps_in_apps() -> None:
    leaf, middle, top = App(), App(), App()

    @leaf.get("/{x}", name="page")
    def page(x: str, req: Request) -> Any:
        return [req.url_for("page", x="1"), req.url_for("only"), req.url_for("top"), leaf.url("page", x="1")]

    @middle.get("/only", name="only")
    def only(req: Request) -> Any:
        return [req.url_for("page", x="1"), middle.url("only"), middle.url("top")]

    top.get("/page", name="page")(lambda: "")
    top.get("/top", name="top")(lambda: "")
    middle.mount("/leaf", leaf)
    top.mount("/middle", middle)
    inside = ["/middle/leaf/1", "/middle/only", "/top"]
    assert ask_wsgi(top, "/middle/leaf/x").json == [*inside, "/middle/leaf/1"]
    assert ask_wsgi(top, "/middle/only").json == ["/middle/leaf/1", "/middle/only", "/top"]
    assert top.url("page") == "/page"
    with pytest.raises(LookupError, match="`nothing`"):
        leaf.url("nothing")
    # The innermost app that knows the name is meant, whatever values another one would take.
    with pytest.raises(ValueError, match="needs `x`"):
        leaf.url("page")


def test_the_latest_outer_app_counts_and_one_that_is_gone_does_not() -> None:
    blog = App()
    blog.get("/here", name="here")(lambda: "")
    assert blog.url("here") == "/here"
    first = App()
    first.mount("/first", blog)
    first.freeze()
    assert blog.url("here") == "/first/here"
    second = App()
    second.mount("/second", blog)
    second.freeze()
    assert blog.url("here") == "/second/here"
    del second
    gc.collect()
    assert blog.url("here") in ("/first/here", "/second/here")


def test_refusals_and_interceptors_have_urls_too() -> None:
    app, blog = App(), blog_app()
    app.mount("/blog", blog)
    app.get("/login", name="login")(lambda: "")

    @app.intercept("/blog/*")
    def closed(req: Request) -> Any:
        return redirect(req.url_for("login", next=req.path)) if "X-Out" in req.headers else None

    @blog.error(404)
    def lost(req: Request) -> Any:
        return req.url_for("index"), 404

    caller = Caller(app)
    answer = caller.get("/blog/posts/1", script_name="/x", x_out="1")
    assert answer["Location"] == "/x/login?next=%2Fblog%2Fposts%2F1"
    assert caller.get("/blog/none", script_name="/x", x_out="1")["Location"] == "/x/login?next=%2Fblog%2Fnone"
    assert caller.get("/blog/none", script_name="/x").text == "/x/blog/"


@pytest.mark.parametrize("engine", ["minijinja", "jinja2"])
def test_templates_make_the_urls_of_the_request_that_they_get(tmp_path: Path, engine: str) -> None:
    if engine == "jinja2":
        pytest.importorskip("jinja2")
    (tmp_path / "page.html").write_text(
        "{% from 'macro.html' import link %}"
        "{{ url_for('page', n=2) }} {{ link(3) }} {% include 'part.html' %}"
    )
    (tmp_path / "macro.html").write_text("{% macro link(n) %}{{ url_for('page', n=n) }}{% endmacro %}")
    (tmp_path / "part.html").write_text("{{ url_for('static', path='a.css') }}")
    blog = App(templates=Templates(tmp_path, engine=engine))

    @blog.get("/{n:int}", name="page")
    def page(n: int, req: Request) -> str:
        given: dict[str, Any] = {0: {}, 1: {"req": req}, 2: {"request": req}, 3: {"req": "a text"}}[n]
        return blog.render("page.html", **given)

    blog.static("/static", tmp_path)
    app = App()
    app.mount("/blog", blog)

    @app.get("/front")
    def front(req: Request) -> str:
        return blog.render("page.html", req=req)

    caller = Caller(app)
    plain = "/blog/2 /blog/3 /blog/static/a.css"
    served = "/x/blog/2 /x/blog/3 /x/blog/static/a.css"
    for path, text in [("/blog/0", plain), ("/blog/1", served), ("/blog/2", served), ("/blog/3", plain)]:
        assert caller.get(path, script_name="/x").text == text, path
    assert caller.get("/front", script_name="/x").text == served


def test_a_request_without_an_app_has_no_routes() -> None:
    with pytest.raises(AttributeError, match="without an app"):
        Request({"PATH_INFO": "/"}).url_for("x")


def test_a_parameter_may_be_called_name() -> None:
    app = App()

    @app.get("/{name}", name="page")
    def page(name: str, req: Request) -> str:
        return req.url_for("page", name=name) + app.url("page", name=name)

    assert ask_wsgi(app, "/ada").text == "/ada/ada"


@pytest.mark.parametrize("prefix", ["/a b", "/é", "/{tenant}", "/x-{tenant}"])
def test_a_mounted_app_answers_what_is_missing_below_it(prefix: str) -> None:
    below = App()

    @below.error(404)
    def missing(req: Request) -> tuple[str, int]:
        return "below", 404

    @below.get("/here", name="here")
    def here(req: Request) -> str:
        return req.url_for("here")

    app = App()
    app.mount(prefix, below)
    at = prefix.replace("{tenant}", "acme")
    caller = Caller(app)
    assert caller.get(f"{at}/none").text == "below"
    assert caller.get(f"{at}/here").text == quote(f"{at}/here")

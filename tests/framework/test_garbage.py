"""Apps that nobody has any more are collected, in whatever cycle they stand; those in use are not."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import io
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from framework.drive import ask_asgi, ask_wsgi
from trivet import App, Body, Request, Router, Session
from trivet.templates import Templates

APPS = 200
#: `Py_tp_clear` of CPython's typeslots.h, which is part of its stable ABI.
TP_CLEAR = 51


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    gc.collect()
    yield
    gc.collect()


def closing_over(*, wrapped: bool = False) -> App:
    """Everything that may hold a function holds one that knows the app."""
    app = App(secret="0123456789abcdef", json=lambda value: [str(app), value])

    class Thing:
        of = app

    @app.provide(Thing)
    def thing(req: Request) -> Any:
        yield Thing()
        assert app is req.app

    @app.intercept("/*")
    def around(req: Request) -> Any:
        req.ctx.app, req.ctx.me = app, req
        yield

    @app.intercept("/*", guard=True)
    def guard() -> None:
        assert app

    @app.error(404)
    def lost() -> Any:
        return str(app), 404

    @app.converter("even", "[0-9]+")
    def even(text: str) -> int:
        return int(text) if app else 0

    @app.get("/{n:even}")
    def index(n: int, thing: Thing, session: Session, default: int = 3) -> Any:
        session["n"] = n
        return {"app": app is thing.of}

    @app.post("/body")
    def body(data: Body[dict]) -> Any:  # type: ignore[type-arg]
        return data if app else None

    @app.get("/wait")
    async def wait() -> str:
        await asyncio.sleep(0)
        return str(bool(app))

    group = app.group("/group")
    group.get("/a")(lambda: "a" if group else "")
    other = App()
    other.get("/x")(lambda: str(app))
    app.mount("/other", other)
    app.mount("/foreign", functools.partial(foreign, app))
    if wrapped:  # for WSGI alone
        app.wrap(lambda inner: lambda environ, start: inner(environ, start) if app else [])
    return app


def foreign(app: App, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"foreign"]


def use(app: App, *asks: Any) -> None:
    for ask in asks or (ask_wsgi, ask_asgi):
        assert ask(app, "/2").json == {"app": True}
        assert ask(app, "/wait").text == "True"
        assert ask(app, "/group/a").text == "a"
        assert ask(app, "/foreign/x").text == "foreign"
        assert ask(app, "/other/none").status == 404


def alive(known: list[weakref.ref[Any]], wanted: int = 0) -> int:
    """How many are there, once threads have let go of what they did last; `wanted` ends the waiting."""
    deadline = time.monotonic() + 5
    while True:
        gc.collect()
        there = sum(ref() is not None for ref in known)
        if there == wanted or time.monotonic() > deadline:
            return there
        time.sleep(0.01)


def made(count: int, make: Callable[[], Iterable[Any]]) -> list[weakref.ref[Any]]:
    """Weak references to what was made, of which nobody has kept anything."""
    return [weakref.ref(one) for _ in range(count) for one in make()]


def frozen() -> Iterable[Any]:
    app = closing_over(wrapped=True)
    app.freeze()
    return (app,)


def used(*asks: Any, wrapped: bool = False) -> Iterable[Any]:
    app = closing_over(wrapped=wrapped)
    use(app, *asks)
    return (app,)


@pytest.mark.parametrize(
    ("count", "make"),
    [
        (APPS, frozen),
        (20, lambda: used(ask_wsgi, wrapped=True)),
        (20, lambda: used(ask_asgi)),
        (20, lambda: used(ask_wsgi, ask_asgi)),
    ],
)
def test_apps_whose_handlers_know_them_are_collected(count: int, make: Callable[[], Iterable[Any]]) -> None:
    assert alive(made(count, make)) == 0


class Shop(App):
    """Its handlers are its methods: a bound method cannot be emptied by the collector, the app must be."""

    def __init__(self) -> None:
        super().__init__()
        self.get("/")(self.index)

    def index(self) -> str:
        return "shop"


class Slotted:
    """Nothing in it can be emptied."""

    __slots__ = ("__weakref__", "app")

    def __init__(self, app: App) -> None:
        self.app = app

    def index(self) -> str:
        return "slotted"


def bound() -> Iterable[Any]:
    shop = Shop()
    shown = ask_wsgi(shop).text
    app = App()
    slotted = Slotted(app)
    app.get("/")(slotted.index)
    assert (shown, ask_wsgi(app).text) == ("shop", "slotted")
    return shop, app, slotted


def test_bound_methods_are_no_hold() -> None:
    assert alive(made(APPS, bound)) == 0


@pytest.mark.parametrize("engine", ["minijinja", "jinja2"])
def test_an_app_with_templates_is_collected(tmp_path: Path, engine: str) -> None:
    if engine == "jinja2":
        pytest.importorskip("jinja2")
    (tmp_path / "a.html").write_text("{{ url_for('a') }}")

    def rendered() -> Iterable[Any]:
        app = App(templates=Templates(tmp_path, engine=engine))

        @app.get("/", name="a")
        def a(req: Request) -> str:
            return app.render("a.html", req=req)

        assert ask_wsgi(app).text == "/"
        return (app,)

    assert alive(made(20, rendered)) == 0


def test_an_app_of_a_thousand_collections_serves_on() -> None:
    app = closing_over()
    limits = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(10):
            use(app)
    finally:
        gc.set_threshold(*limits)
    gc.collect()
    use(app)


def test_an_app_is_not_collected_while_it_answers() -> None:
    gate = threading.Event()
    begun = threading.Event()
    answers: list[str] = []

    known: list[weakref.ref[Any]] = []

    def serve() -> None:
        app = App()

        @app.get("/")
        def index() -> str:
            begun.set()
            assert gate.wait(10)
            gc.collect()
            return "served" if app else ""

        known.append(weakref.ref(app))
        answers.append(ask_wsgi(app).text)

    thread = threading.Thread(target=serve)
    thread.start()
    assert begun.wait(10)
    assert alive(known, 1) == 1
    gate.set()
    thread.join(10)
    assert answers == ["served"]
    assert alive(known) == 0


def streaming() -> tuple[weakref.ref[App], Any]:
    app = App()

    @app.get("/")
    def index() -> Iterator[str]:
        for n in range(3):
            gc.collect()
            yield str(n) if app else ""

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}
    return weakref.ref(app), app(environ, lambda status, fields: None)


def test_a_stream_keeps_its_app_and_lets_it_go() -> None:
    known, pieces = streaming()
    assert alive([known], 1) == 1
    assert b"".join(pieces) == b"012"
    pieces.close()
    del pieces
    assert alive([known]) == 0


class Resurrected:
    """Calls the app while the cycle that it stands in is taken apart."""

    said: ClassVar[list[str]] = []

    def __init__(self, app: App) -> None:
        self.app = app

    def __del__(self) -> None:
        try:
            answer = self.app({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda status, fields: None)
            self.said.append(b"".join(answer).decode())
        except Exception as error:  # noqa: BLE001 - only that it is one counts
            self.said.append(type(error).__name__)


def calling_late() -> Iterable[Any]:
    app = App()
    app.get("/")(lambda: "late" if app else "")
    assert ask_wsgi(app).text == "late"
    app.last = Resurrected(app)  # type: ignore[attr-defined]
    return (app,)


def test_a_call_from_an_end_of_the_cycle_is_answered() -> None:
    Resurrected.said.clear()
    assert alive(made(20, calling_late)) == 0
    assert Resurrected.said == ["late"] * 20


def test_an_app_that_was_emptied_raises() -> None:
    """As the collector empties it, by the very slot; nobody else can."""
    clear = ctypes.pythonapi.PyType_GetSlot
    clear.restype, clear.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_int]
    tp_clear = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object)(clear(App.__bases__[0], TP_CLEAR))
    app = App()
    app.get("/")(lambda: "x")
    assert ask_wsgi(app).text == "x"
    assert tp_clear(app) == 0
    with pytest.raises(RuntimeError, match="decided nothing"):
        ask_wsgi(app)
    assert tp_clear(app) == 0
    router = Router()
    router.add("/", "x")
    tp_clear = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object)(clear(Router, TP_CLEAR))
    assert tp_clear(router) == 0
    with pytest.raises(RuntimeError, match="gone"):
        router.find({"REQUEST_METHOD": "GET", "PATH_INFO": "/"})


def circular() -> Iterable[Any]:
    request = Request({"REQUEST_METHOD": "POST", "PATH_INFO": "/", "wsgi.input": None})
    mark = Mark()
    request.ctx.mark, request.ctx.me = mark, request
    request.environ["me"] = request
    request.environ["wsgi.input"] = io.BytesIO(b"")
    request.environ["stream"] = request.stream
    request.after(lambda: request)
    return (mark,)


class Mark:
    def page(self) -> str:
        return "x"


def test_requests_are_collected() -> None:
    assert alive(made(APPS, circular)) == 0


class Framework:
    def __init__(self) -> None:
        self.router = Router()
        self.router.add("/", self.index)

    def index(self) -> str:
        return "x"


def routers() -> Iterable[Any]:
    framework, mark, lone = Framework(), Mark(), Router()
    found, _ = framework.router.find({"REQUEST_METHOD": "GET", "PATH_INFO": "/"})
    assert found() == "x"
    # Of these two nothing but the router itself can be emptied.
    lone.add("/", mark.page)
    lone.add("/self", lone.find)
    return framework, mark


def test_the_toolkits_router_is_collected() -> None:
    assert alive(made(APPS, routers)) == 0

"""What is registered: routes, interceptors, groups, and the decorators that App and Group have in common."""

from __future__ import annotations

import functools
import inspect
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from .cors import CORS
from .plan import Parameter, describe

if TYPE_CHECKING:
    from .app import App

F = TypeVar("F", bound=Callable[..., Any])
WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
#: What a WebSocket handshake's method is called in tables and patterns.
WEBSOCKET = "WEBSOCKET"


class StartError(ValueError):
    """The app cannot start as it is registered."""


@dataclass(eq=False)
class Interceptor:
    """A registered interceptor. `guard`: it decides who gets in."""

    pattern: str
    handler: Callable[..., Any]
    except_: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    methods: tuple[str, ...] | None = None
    guard: bool = False
    _names: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.handler, "__name__", repr(self.handler))


@dataclass(eq=False)
class Route:
    """A registered route, `req.route`. `chain`: its interceptors in the order they run, known once the app
    is frozen.
    """

    methods: tuple[str, ...]
    template: str
    handler: Callable[..., Any]
    name: str
    needs: Any = None
    public: bool = False
    csrf: bool = True
    cors: CORS | None = None
    kind: Literal["handler", "static", "websocket", "mount"] = "handler"
    chain: tuple[Interceptor, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    is_guarded: bool = False
    _names: Mapping[str, Any] | None = field(default=None, repr=False)
    _owners: tuple[App, ...] = field(default=(), repr=False)
    _place: Place | None = field(default=None, init=False, repr=False)
    _group: Group | None = field(default=None, repr=False)

    @property
    def is_async(self) -> bool:
        """Whether the handler is an `async def`, which an ASGI server's loop calls. What any handler gives is
        awaited if it can be.
        """
        return is_async(self.handler)

    def _is_within(self, place: Place) -> bool:
        """Whether it is a route of the app at this place, or of one mounted there."""
        mine = self._place
        while mine is not None and mine is not place:
            mine = mine.above
        return mine is not None


class Place:
    """An app among those that are served as one: where it is, and in which other."""

    def __init__(self, app: App, prefix: str, above: Place | None) -> None:
        self.app = app
        self.prefix = prefix
        self.above = above
        #: The innermost first.
        self.owners: tuple[App, ...] = (app, *(above.owners if above is not None else ()))
        #: Decoded; None where there is a parameter.
        self._segments = [
            None if "{" in segment.replace("{{", "") else segment.replace("{{", "{").replace("}}", "}")
            for segment in prefix.split("/")
        ]

    def leads(self, path: list[str]) -> bool:
        """Whether a path, in decoded segments, is at its prefix or below."""
        wanted = self._segments
        return len(path) >= len(wanted) and all(
            want is None or want == given for want, given in zip(wanted, path, strict=False)
        )


@dataclass(eq=False)
class Provider:
    type: Any
    function: Callable[..., Any]
    names: Mapping[str, Any] | None
    owners: tuple[App, ...] = ()


def behind(function: Any) -> Any:
    """What runs when a callable is called: of a `functools.partial` its function, of an object `__call__`."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return getattr(type(function), "__call__", function)  # noqa: B004 - the function itself is wanted


def is_async(function: Any) -> bool:
    """Whether a call gives a coroutine for sure."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(behind(function))


def is_generator(function: Any) -> bool:
    """Whether a call, or one of what it wraps, gives a generator."""
    return inspect.isgeneratorfunction(behind(inspect.unwrap(function)))


def seen(depth: int) -> Mapping[str, Any] | None:
    """What the frame that registers can see and the module cannot: types that are defined in a function."""
    frame = sys._getframe(depth)
    return None if frame.f_locals is frame.f_globals else dict(frame.f_locals)


def words(value: str | Iterable[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


class Registrar:
    """What App and Group have in common: the decorators."""

    _prefix: str
    _app: App
    _group: Group | None

    def route(
        self,
        path: str,
        *,
        methods: str | Iterable[str] = ("GET",),
        name: str | None = None,
        needs: Any = None,
        public: bool | None = None,
        csrf: bool | None = None,
        cors: CORS | None = None,
    ) -> Callable[[F], F]:
        """Registers a handler for a path and methods. GET serves HEAD, OPTIONS is answered by itself.

        `needs` is `req.route.needs`, for interceptors and providers. `public=True` exempts from
        `guard="required"`.
        `csrf=False` lets other sites' pages send. `cors` lets them read.
        """
        return self._register(
            path, tuple(m.upper() for m in words(methods)), name, needs, public, csrf, cors, seen(2)
        )

    def _register(
        self,
        path: str,
        methods: tuple[str, ...],
        name: str | None,
        needs: Any,
        public: bool | None,
        csrf: bool | None,
        cors: CORS | None,
        names: Mapping[str, Any] | None,
        kind: Literal["handler", "static", "websocket", "mount"] = "handler",
    ) -> Callable[[F], F]:
        self._app._check_open()
        if self._prefix == "" and not path.startswith("/"):
            raise StartError(f"the path `{path}` does not begin with a slash\nhint: write `/{path}`")
        if path and not path.startswith("/"):
            raise StartError(f"the path `{path}` of a group is empty or begins with a slash")

        def register(function: F) -> F:
            if not callable(function):
                raise TypeError(f"`{function!r}` cannot be called: it is no handler")
            group = self._group
            route = Route(
                methods,
                self._prefix + path,
                function,
                name or str(getattr(function, "__name__", type(function).__name__)),
                needs if needs is not None or group is None else group.needs,
                bool(group is not None and group.public) if public is None else public,
                bool(group is None or group.csrf) if csrf is None else csrf,
                cors or (group.cors if group is not None else self._app._cors),
                kind,
                _names=names,
                _group=group,
            )
            self._app._routes.append(route)
            return function

        return register

    def get(self, path: str, **more: Any) -> Callable[[F], F]:
        """`route` for GET (and HEAD)."""
        return self._one("GET", path, more)

    def post(self, path: str, **more: Any) -> Callable[[F], F]:
        """`route` for POST."""
        return self._one("POST", path, more)

    def put(self, path: str, **more: Any) -> Callable[[F], F]:
        """`route` for PUT."""
        return self._one("PUT", path, more)

    def patch(self, path: str, **more: Any) -> Callable[[F], F]:
        """`route` for PATCH."""
        return self._one("PATCH", path, more)

    def delete(self, path: str, **more: Any) -> Callable[[F], F]:
        """`route` for DELETE."""
        return self._one("DELETE", path, more)

    def head(self, path: str, **more: Any) -> Callable[[F], F]:
        """`route` for HEAD alone."""
        return self._one("HEAD", path, more)

    def options(self, path: str, **more: Any) -> Callable[[F], F]:
        """`route` for OPTIONS, in the place of the automatic answer."""
        return self._one("OPTIONS", path, more)

    def websocket(self, path: str, **more: Any) -> Callable[[F], F]:
        """An `async def` handler of a WebSocket, which gets it as its argument `ws`. Served under ASGI."""
        return self._one(WEBSOCKET, path, more, "websocket")

    def _one(
        self,
        method: str,
        path: str,
        more: dict[str, Any],
        kind: Literal["handler", "static", "websocket", "mount"] = "handler",
    ) -> Callable[[F], F]:
        unknown = more.keys() - {"name", "needs", "public", "csrf", "cors"}
        if unknown:
            raise TypeError(f"a route has no option `{min(unknown)}`")
        get = more.get
        return self._register(
            path,
            (method,),
            get("name"),
            get("needs"),
            get("public"),
            get("csrf"),
            get("cors"),
            seen(3),
            kind,
        )

    def intercept(
        self,
        pattern: str = "/*",
        *,
        except_: str | Iterable[str] = (),
        host: str | Iterable[str] | None = None,
        methods: str | Iterable[str] | None = None,
        guard: bool = False,
    ) -> Callable[[F], F]:
        """Runs a function before everything that answers below a pattern, around it where it is a generator.

        `*` is one segment, a last `/*` all below, `{name}` one segment that the function gets. `except_`
        names
        templates of routes. In a group, patterns and exceptions are below its prefix. `host`: names,
        `.example.com`
        for all below; `methods`: GET stands for HEAD too. `guard=True` marks what decides who gets in.
        """
        self._app._check_open()
        names = seen(2)

        def register(function: F) -> F:
            if is_async(function) or inspect.isasyncgenfunction(behind(function)):
                raise StartError(
                    f"the interceptor {describe(function)} is `async`\n"
                    "hint: interceptors are plain functions; await in the handler"
                )
            self._app._interceptors.append(
                Interceptor(
                    self._prefix + pattern,
                    function,
                    tuple(self._prefix + template for template in words(except_)),
                    tuple(name.lower().removeprefix("*") for name in words(host)),
                    None if methods is None else tuple(m.upper() for m in words(methods)),
                    guard,
                    names,
                )
            )
            return function

        return register

    def group(
        self,
        prefix: str,
        *,
        needs: Any = None,
        public: bool | None = None,
        csrf: bool | None = None,
        cors: CORS | None = None,
    ) -> Group:
        """Routes under a common prefix, with options that each may override. Groups nest."""
        return Group(self, prefix, needs, public, csrf, cors)

    def static(
        self,
        path: str,
        folder: Any,
        *,
        max_age: int | None = None,
        index: str | None = None,
        public: bool | None = None,
        name: str = "static",
    ) -> None:
        """Serves the files of a folder below a path, with conditions and ranges, through the interceptors.

        `max_age`: seconds for which caches may keep them; without it, they keep nothing that lies below an
        interceptor, and with or without it nothing below a guard (`guard=True`). `index`: the file for a
        folder's own path. Hidden files and links that lead out of the folder are 404.
        """
        from .static import folder as handler

        template = path.rstrip("/") + "/{path:path}"
        self._register(template, ("GET",), name, None, public, None, None, None, "static")(
            handler(folder, max_age, index)
        )

    def mount(
        self, path: str, app: App | WSGI, *, public: bool | None = None, csrf: bool | None = None
    ) -> None:
        """Merges another `App` below a path, or hands what lies below to any WSGI app."""
        from .app import App

        self._app._check_open()
        path = path.rstrip("/")
        if isinstance(app, App):
            if app is self._app:
                raise StartError("an app cannot be mounted in itself")
            if public is not None or csrf is not None:
                raise StartError(
                    f"`public` and `csrf` are for WSGI apps of others, not for the App at `{path}`\n"
                    "hint: its own routes say so, each for itself"
                )
            self._app._mounts.append((self._prefix + path, app))
            app._mounted_in.append((weakref.ref(self._app), self._prefix + path))
            return
        if not callable(app):
            raise TypeError(f"`{app!r}` is no WSGI app")
        if is_async(app):
            raise StartError(
                f"what is mounted at `{path}` is an ASGI app\nhint: only WSGI apps can be mounted"
            )
        name = getattr(app, "__name__", type(app).__name__)
        self._register(path or "/", (), name, None, public, csrf, None, None, "mount")(app)


class Group(Registrar):
    """Routes under a common prefix: `admin = app.group("/admin")`."""

    def __init__(
        self,
        parent: Registrar,
        prefix: str,
        needs: Any,
        public: bool | None,
        csrf: bool | None,
        cors: CORS | None,
    ) -> None:
        if (prefix and not prefix.startswith("/")) or prefix.endswith("/"):
            raise StartError(f"the prefix `{prefix}` of a group begins with a slash and ends with none")
        above = parent._group
        self._app = parent._app
        self._prefix = parent._prefix + prefix
        self._group = self
        self.needs: Any = needs if needs is not None or above is None else above.needs
        self.public: bool = bool(above is not None and above.public) if public is None else public
        self.csrf: bool = bool(above is None or above.csrf) if csrf is None else csrf
        self.cors: CORS | None = cors or (above.cors if above is not None else self._app._cors)

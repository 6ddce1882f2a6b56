"""`App`: decides what was registered, and is served by `_web`."""

from __future__ import annotations

import inspect
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from . import errors, failing, foreign, plan
from ._load import native
from .cors import CORS
from .errors import HTTPError
from .plan import describe
from .registry import (
    WSGI,
    Group,
    Interceptor,
    Place,
    Provider,
    Registrar,
    Route,
    StartError,
    behind,
    is_async,
    is_generator,
    seen,
    words,
)
from .response import HTML, SEVERAL, Response, convert, make, moved, options, sent
from .session import SECRET_HINT, Session, Sessions
from .values import Fields, Upload, Values

if TYPE_CHECKING:
    from . import _web
    from .asgi import Asgi
    from .templates import Templates
else:
    _web = native("_web")

__all__ = ["App", "Group", "Interceptor", "Route", "StartError"]

F = TypeVar("F", bound=Callable[..., Any])


# Of the body and of a form without its files, in bytes; parts of a form, parameters.
DEFAULT_LIMITS = (16 * 1024 * 1024, 512 * 1024, 1000, 1000)


class App(_web.App, Registrar):
    """A web app: a WSGI callable; `app.asgi` is the same for ASGI.

    - `secret`: signs sessions; a list holds the new key first and old ones behind it.
    - `guard="required"`: every route needs an interceptor with `guard=True` that always runs, or
      `public=True`.
    - `sessions`: how sessions are kept. `json`: makes something simpler of what JSON does not know.
    - `trusted_origins`: other origins whose pages may send what changes something (CSRF).
    - `cors`: a rule for all routes.
    - `templates`: a folder of templates beside the module, or several; or `Templates` that are made already.
      `engine` is "minijinja" or "jinja2". In them `url_for` is `req.url_for` where they are rendered with
      `req=req`, else `app.url`.
    - `body_bytes_max`, `form_bytes_max` (without files), `parts_max`, `parameters_max`: limits; 413 beyond.
    """

    def __init__(
        self,
        *,
        secret: str | bytes | Sequence[str | bytes] | None = None,
        guard: Literal["required"] | None = None,
        sessions: Sessions | None = None,
        json: Callable[[Any], Any] | None = None,
        trusted_origins: Iterable[str] = (),
        cors: CORS | None = None,
        templates: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Templates | None = None,
        engine: Literal["minijinja", "jinja2"] = "minijinja",
        body_bytes_max: int = DEFAULT_LIMITS[0],
        form_bytes_max: int = DEFAULT_LIMITS[1],
        parts_max: int = DEFAULT_LIMITS[2],
        parameters_max: int = DEFAULT_LIMITS[3],
    ) -> None:
        if guard not in (None, "required"):
            raise ValueError('`guard` is "required" or None')
        self._prefix = ""
        self._app = self
        self._group = None
        self._guard = guard
        self._cors = cors
        self._routes: list[Route] = []
        self._interceptors: list[Interceptor] = []
        self._providers: dict[Any, Provider] = {}
        self._errors: dict[Any, Callable[..., Any]] = {}
        self._mounts: list[tuple[str, App]] = []
        self._converters: dict[str, tuple[str, Callable[[str], Any]]] = {}
        self._wraps: list[Callable[[WSGI], WSGI]] = []
        self._decided: list[Route] | None = None
        self._places: list[Place] = []
        #: Where it is mounted itself.
        self._mounted_in: list[tuple[weakref.ref[App], str]] = []
        self._lock = threading.RLock()
        self._limits = (body_bytes_max, form_bytes_max, parts_max, parameters_max)
        self._trusted = [origin.lower().rstrip("/") for origin in words(trusted_origins)]
        self.json_encoder = json
        #: Raise what no error handler took, for tests and development.
        self.propagate_errors = False
        self._has_own_sessions = sessions is not None
        self.sessions = sessions or Sessions()
        self._templates: Templates | None = None
        if templates is not None:
            self._templates = self._find_templates(
                templates, engine, sys._getframe(1).f_globals.get("__file__")
            )
        if secret is not None:
            keys = [secret] if isinstance(secret, (str, bytes)) else list(secret)
            encoded = [key.encode() if isinstance(key, str) else bytes(key) for key in keys]
            if not encoded or any(len(key) < 16 for key in encoded):
                raise ValueError(
                    "a secret has 16 bytes at least\n"
                    "hint: `python -c 'import secrets; print(secrets.token_hex(32))'` makes one"
                )
            self.sessions._sign_with(encoded)
            self.secrets = tuple(encoded)
        else:
            self.secrets = ()

    # Registration

    def _check_open(self) -> None:
        if self._decided is not None or self._is_taken:
            raise RuntimeError(
                "the app has begun to serve: nothing can be registered any more\n"
                "hint: register at import, before the first request"
            )

    @overload
    def provide(self, type: Any) -> Callable[[F], F]: ...

    @overload
    def provide(self, type: Any, function: F) -> F: ...

    def provide(self, type: Any, function: Any = None) -> Any:
        """Says where arguments of a type come from: called once a request, its value shared by all who ask.

        A generator yields the value and is resumed when the answer is made, or sent if it streams;
        exceptions of
        the handler are thrown into it.
        """
        self._check_open()
        names = seen(2)
        if type in plan.KINDS or type in (_web.Request, Session, Upload):
            raise StartError(f"`{plan.shown(type)}` has a meaning already: provide a type of your own")

        def register(function: F) -> F:
            if is_async(function) or inspect.isasyncgenfunction(behind(function)):
                raise StartError(
                    f"the provider {describe(function)} is `async`\nhint: providers are plain functions"
                )
            if type in self._providers:
                raise StartError(f"`{plan.shown(type)}` is provided twice")
            self._providers[type] = Provider(type, function, names)
            return function

        return register if function is None else register(function)

    def error(self, what: type[BaseException] | int) -> Callable[[F], F]:
        """Answers for exceptions of a class, or for a status. The function gets the exception, and `req`
        if it asks.

        The most specific class wins; of a mounted app and the one around it, the mounted one. A text or
        dict is sent
        with the exception's status, 500 where it has none.
        """
        self._check_open()
        if isinstance(what, int):
            if not 400 <= what <= 599:
                raise StartError(f"`{what}` is no status of an error")
        elif not (isinstance(what, type) and issubclass(what, Exception)):
            raise StartError(f"`{what!r}` is neither a class of exceptions nor a status")

        def register(function: F) -> F:
            failing.check_handler(function)
            if what in self._errors:
                raise StartError(f"`{getattr(what, '__name__', what)}` has two error handlers")
            self._errors[what] = function
            return function

        return register

    def converter(self, name: str, expression: str) -> Callable[[F], F]:
        """Registers `{x:name}`: texts that match the expression, made into what the function gives.

        The function may raise `ValueError`, which is 404.
        """
        self._check_open()
        if not name.isidentifier() or name in plan.GIVES:
            raise StartError(f"`{name}` cannot be the name of a converter")
        _web.check_expression(name, expression)

        def register(function: F) -> F:
            self._converters[name] = (expression, function)
            return function

        return register

    def wrap(self, middleware: Callable[[WSGI], WSGI]) -> Callable[[WSGI], WSGI]:
        """Puts a WSGI middleware around the whole app; the last one is the outermost."""
        self._check_open()
        self._wraps.append(middleware)
        return middleware

    # Deciding

    def freeze(self) -> None:
        """Decides everything that can be decided before a request; the first request does it by itself.

        Raises `StartError` or `PlanError` where the app cannot start.
        """
        with self._lock:
            if self._decided is not None:
                return
            try:
                self._decide()
            except StartError:
                raise
            except ValueError as error:
                raise StartError(str(error)) from None

    def _decide(self) -> None:
        routes: list[Route] = []
        interceptors: list[Interceptor] = []
        providers: list[Provider] = []
        converters: dict[str, tuple[str, Callable[[str], Any]]] = {}
        self._places = []
        self._collect("", None, routes, interceptors, providers, converters, self._places, ())
        self._places.sort(key=lambda place: -len(place.prefix))
        told: dict[str, Any] = {
            "routes": [self._plan_route(route, providers, converters) for route in routes],
            "interceptors": [self._plan_interceptor(one, providers) for one in interceptors],
            "providers": self._plan_providers(providers),
            "converters": converters,
            "limits": self._limits,
            "encoder": self.json_encoder,
            "trusted_origins": self._trusted,
        }

        if not self.sessions._can_load:
            functions = [
                *((route.handler, planned[3]) for route, planned in zip(routes, told["routes"], strict=True)),
                *((planned[2], planned[3]) for planned in told["interceptors"]),
                *((planned[0], planned[1]) for planned in told["providers"]),
            ]
            for function, arguments in functions:
                if any(source == "session" for source, *_ in arguments):
                    raise StartError(
                        f"{describe(function)} takes the session, but the app has no secret to sign one\n"
                        f"{SECRET_HINT}"
                    )

        def check(chains: list[list[tuple[int, bool]]]) -> None:
            for route, chain in zip(routes, chains, strict=True):
                route.chain = tuple(interceptors[number] for number, _ in chain)
                route.is_guarded = any(
                    always and _covers(interceptors[number], route) for number, always in chain
                )
            self._last = routes
            open_ones = [
                route
                for route in routes
                if not route.is_guarded
                and not route.public
                and any(owner._guard == "required" for owner in route._owners)
            ]
            if open_ones:
                first = open_ones[0]
                raise StartError(
                    f"{len(open_ones)} routes have no guard, the first is {' '.join(first.methods)} "
                    f"`{first.template}` ({first.name})\n"
                    "hint: `@app.intercept(…, guard=True)` above it, or `public=True` on the route"
                )

        outer: Any = None
        if self._wraps:
            outer = self._serve
            for middleware in self._wraps:
                outer = middleware(outer)
        self._load(told, check, outer)
        for place in self._places:
            place.app._is_taken = True
        self._runs_more_than_handlers = bool(
            interceptors or providers or any(route.kind == "mount" for route in routes)
        )
        self._decided = routes

    _last: list[Route] | None = None
    #: An app around this one has begun to serve.
    _is_taken = False
    _runs_more_than_handlers = True

    def _collect(
        self,
        prefix: str,
        above: Place | None,
        routes: list[Route],
        interceptors: list[Interceptor],
        providers: list[Provider],
        converters: dict[str, tuple[str, Callable[[str], Any]]],
        places: list[Place],
        open_apps: tuple[App, ...],
    ) -> None:
        if self in open_apps:
            raise StartError("an app is mounted in itself")
        place = Place(self, prefix, above)
        owners = place.owners
        places.append(place)
        for name, converter in self._converters.items():
            if converters.setdefault(name, converter) != converter:
                raise StartError(f"two apps have different converters `{name}`")
        for provider in self._providers.values():
            providers.append(Provider(provider.type, provider.function, provider.names, owners))
        copied = (
            "methods", "handler", "name", "needs", "public", "csrf", "cors", "kind", "_names", "_group",
        )  # fmt: skip
        for route in self._routes:
            new = Route(template=prefix + route.template, **{n: getattr(route, n) for n in copied})
            new._owners = owners
            new._place = place
            routes.append(new)
        for one in self._interceptors:
            interceptors.append(
                Interceptor(
                    prefix + one.pattern,
                    one.handler,
                    tuple(prefix + template for template in one.except_),
                    one.host,
                    one.methods,
                    one.guard,
                    one._names,
                )
            )
            self._owners_of[id(interceptors[-1])] = owners
        if above and self._wraps:
            raise StartError(
                f"the app mounted at `{prefix}` has a middleware (`wrap`)\nhint: put it around the outer app"
            )
        for path, app in self._mounts:
            app._check_mounted(prefix + path)
            app._owners_of = self._owners_of
            app._collect(
                prefix + path, place, routes, interceptors, providers, converters, places, (*open_apps, self)
            )

    def _check_mounted(self, prefix: str) -> None:
        """What holds for a whole request can only be said by the outermost app."""
        for option, is_own in (
            ("secret", bool(self.secrets)),
            ("sessions", self._has_own_sessions),
            ("json", self.json_encoder is not None),
            ("trusted_origins", bool(self._trusted)),
            ("body_bytes_max and the other limits", self._limits != DEFAULT_LIMITS),
        ):
            if is_own:
                raise StartError(
                    f"the app mounted at `{prefix}` has its own `{option}`, which would not hold there\n"
                    "hint: give it to the outer app"
                )

    @property
    def _owners_of(self) -> dict[int, tuple[App, ...]]:
        known: dict[int, tuple[App, ...]] = self.__dict__.setdefault("_owned", {})
        return known

    @_owners_of.setter
    def _owners_of(self, owned: dict[int, tuple[App, ...]]) -> None:
        self.__dict__["_owned"] = owned

    def _finder(self, owners: tuple[App, ...], providers: list[Provider]) -> Callable[[Any], int | None]:
        def find(wanted: Any) -> int | None:
            for owner in owners:
                for place, provider in enumerate(providers):
                    if provider.owners[0] is owner and (provider.type is wanted or provider.type == wanted):
                        return place
            return None

        return find

    def _plan_route(
        self,
        route: Route,
        providers: list[Provider],
        converters: dict[str, tuple[str, Callable[[str], Any]]],
    ) -> tuple[Any, ...]:
        is_mount = route.kind == "mount"
        path = _web.template_parameters(route.template, converters, is_mount)
        told: list[plan.Told] = []
        if not is_mount:
            find = self._finder(route._owners, providers)
            socket = route.kind == "websocket"
            if socket and not is_async(route.handler) and not is_async(inspect.unwrap(route.handler)):
                raise StartError(f"the WebSocket handler {describe(route.handler)} is not `async def`")
            told, parameters = plan.arguments(route.handler, route._names, path, find, socket=socket)
            route.parameters = tuple(parameters)
        return (
            route.template,
            list(route.methods),
            route.handler,
            told,
            route.is_async,
            route,
            route.csrf,
            route.cors,
            is_mount,
            is_mount,
        )

    def _plan_interceptor(self, one: Interceptor, providers: list[Provider]) -> tuple[Any, ...]:
        path = [(name, "str") for name in _web.pattern_captures(one.pattern)]
        find = self._finder(self._owners_of[id(one)], providers)
        told, _ = plan.arguments(one.handler, one._names, path, find, injected_only=True, pattern=True)
        generator = is_generator(one.handler)
        methods = None if one.methods is None else list(one.methods)
        return (
            one.pattern,
            list(one.except_),
            one.handler,
            told,
            generator,
            list(one.host),
            methods,
            one.guard,
        )

    def _plan_providers(self, providers: list[Provider]) -> list[tuple[Any, ...]]:
        planned: list[tuple[Any, ...]] = []
        needs: list[list[int]] = []
        for provider in providers:
            find = self._finder(provider.owners, providers)
            told, _ = plan.arguments(provider.function, provider.names, (), find, injected_only=True)
            generator = is_generator(provider.function)
            planned.append((provider.function, told, generator))
            needs.append([place for source, place, *_ in told if source == "provided"])
        for start in range(len(providers)):
            path, todo = {start}, list(needs[start])
            while todo:
                place = todo.pop()
                if place == start:
                    raise StartError(f"the provider of `{plan.shown(providers[start].type)}` needs itself")
                if place not in path:
                    path.add(place)
                    todo += needs[place]
        return planned

    # Asking

    def routes(self) -> list[Route]:
        """All routes with their chains, in the order of registration. Freezes the app."""
        self.freeze()
        return list(self._decided or ())

    def unguarded(self) -> list[Route]:
        """Routes that neither have a guard that always runs nor are `public`."""
        try:
            self.freeze()
        except StartError:
            if self._last is None:
                raise
        return [route for route in self._last or () if not route.is_guarded and not route.public]

    def url(self, name: str, /, **values: object) -> str:
        """The path of the route of that name, percent-encoded; what is no parameter of it becomes the query.

        It begins with where this app is mounted in others. Below which path the whole is served
        (`SCRIPT_NAME`), only a request knows: `req.url_for(…)`. Names are looked for in this app, then in
        those around it. Raises `LookupError` where no route has the name, `ValueError` where a value does
        not fit.
        """
        top, prefix = self._outermost(())
        top.freeze()
        place = next((p for p in top._places if p.app is self and p.prefix == prefix), None)
        return top._path(name, values, place)

    def _outermost(self, below: tuple[App, ...]) -> tuple[App, str]:
        """The app in which this one is mounted, over however many others, and where."""
        found = [(outer, prefix) for known, prefix in self._mounted_in if (outer := known()) is not None]
        if not found or self in below:
            return self, ""
        outers = [outer for outer, _ in found]
        serves = [outer for outer in outers if outer._decided is not None or outer._is_taken]
        outer = (serves or outers)[-1]
        prefixes = [prefix for one, prefix in found if one is outer]
        if len(prefixes) > 1:
            raise _several_places(prefixes)
        top, above = outer._outermost((*below, self))
        return top, above + prefixes[0]

    def _url_for(
        self, request: _web.Request, name: str, values: dict[str, object] | None, viewer: App | None = None
    ) -> str:
        """The path for a client of this request. `viewer`: whose names come first, in its own templates."""
        script = request.script_name.strip("/")
        route = request.route
        place: Place | None = route._place if route is not None else self._place_at(request)
        if viewer is not None and place is not None:
            around: Place | None = place
            while around is not None and around.app is not viewer:
                around = around.above
            if around is None:
                others = [one for one in self._places if one.app is viewer]
                if len(others) > 1:
                    raise _several_places([one.prefix for one in others])
                around = others[0] if others else place
            place = around
        known: dict[str, object] = {}
        if route is not None and route._place is not None and "{" in route._place.prefix:
            # Below `/shops/{shop}` the shop is this request's, unless somebody names another.
            shared = _web.template_parameters(route._place.prefix, self._known_converters(), True)
            known = {n: request.params[n] for n, _ in shared}
        path = self._path(name, values or {}, place, known)
        return "/" + _web.quote_path(script) + path if script else path

    def _path(
        self,
        name: str,
        values: dict[str, object],
        place: Place | None,
        known: Mapping[str, object] = MappingProxyType({}),
    ) -> str:
        """The path below `SCRIPT_NAME` of the route that has this name as seen from a place."""
        named = [r for r in self._decided or () if r.name == name and r.kind != "mount"]
        problem: Exception = LookupError(f"no route is called `{name}`")
        while named:
            near = [route for route in named if place is None or route._is_within(place)]
            for route in near:
                wanted = {n for n, _ in _web.template_parameters(route.template, self._known_converters())}
                given = {**known, **values}
                if not wanted <= given.keys():
                    problem = ValueError(f"`{route.template}` needs `{min(wanted - given.keys())}`")
                    continue
                inside = [(n, str(given[n])) for n in sorted(wanted)]
                path: str = _web.build_path(route.template, self._known_converters(), inside)
                query = [
                    (n, str(one))
                    for n, value in values.items()
                    if n not in wanted and value is not None
                    for one in (value if isinstance(value, (list, tuple)) else (value,))
                ]
                return path + "?" + _web.encode_query(query) if query else path
            if near or place is None:
                break
            place = place.above
        raise problem

    def _known_converters(self) -> dict[str, tuple[str, Callable[[str], Any]]]:
        known: dict[str, tuple[str, Callable[[str], Any]]] = {}
        for place in self._places:
            known.update(place.app._converters)
        return known

    def _find_templates(self, given: Any, engine: str, module: str | None) -> Templates:
        from .templates import Templates

        root = os.path.dirname(os.path.abspath(module)) if module else None
        made = given if isinstance(given, Templates) else Templates(given, root=root, engine=engine)
        made.add_global("url_for", _url_in_templates(self))
        return made

    @property
    def templates(self) -> Templates:
        """The app's templates: filters, tests and names for all of them are registered here."""
        if self._templates is None:
            raise RuntimeError('the app has no templates\nhint: `App(templates="templates")`')
        return self._templates

    def render(self, name: str, /, **context: Any) -> str:
        """The text of a template with these variables."""
        return self.templates.render(name, **context)

    def openapi(
        self,
        *,
        title: str | None = None,
        version: str = "0.1.0",
        description: str | None = None,
        servers: Sequence[str] = (),
    ) -> dict[str, Any]:
        """The OpenAPI 3.1 document of the app, from its handlers' signatures; what `json.dumps` takes."""
        from .openapi import of

        return of(self, title=title, version=version, description=description, servers=servers)

    @property
    def asgi(self) -> Asgi:
        """The app for ASGI servers: `uvicorn module:app.asgi`."""
        made = self.__dict__.get("_asgi")
        if made is None:
            from .asgi import Asgi

            made = self.__dict__["_asgi"] = Asgi(self)
        return made

    def run(self, host: str = "127.0.0.1", port: int = 8000) -> None:
        """Serves until interrupted, for scripts and first steps. `trivet run` is for everything else."""
        from .simple_server import make_server

        with make_server(host, port, self) as server:
            server.serve_forever()

    # Errors

    def _owners_at(self, request: _web.Request) -> tuple[App, ...]:
        route = request.route
        if route is not None:
            owners: tuple[App, ...] = route._owners
            return owners
        place = self._place_at(request)
        return (self,) if place is None else place.owners

    def _place_at(self, request: _web.Request) -> Place | None:
        """The innermost app's that the path of a request without a route leads to."""
        path = request.environ.get("PATH_INFO", "").encode("latin-1", "replace").decode("utf-8", "replace")
        segments = path.split("/")
        return next((place for place in self._places if place.leads(segments)), None)

    def _error_handler(self, request: _web.Request, error: BaseException) -> Callable[..., Any] | None:
        owners = self._owners_at(request)
        status = error.status if isinstance(error, HTTPError) else 500
        keys: list[Any] = []
        for cls in type(error).__mro__:
            if cls is HTTPError:
                keys.append(status)
            keys.append(cls)
            if cls is Exception:
                break
        if not isinstance(error, HTTPError):
            keys.append(status)
        for key in keys:
            for owner in owners:
                found = owner._errors.get(key)
                if found is not None:
                    return found
        return None

    def _fail(self, request: _web.Request, error: BaseException) -> Response:
        try:
            handler = self._error_handler(request, error)
            if handler is not None:
                status = error.status if isinstance(error, HTTPError) else 500
                response = make(self, request, failing.call_handler(self, handler, error, request), status)
                if isinstance(error, HTTPError):
                    for name, value in error.headers:
                        response.headers.setdefault(name, value)
                return response
        except HTTPError as second:
            error = second
        except Exception as second:  # noqa: BLE001 - an error handler's own error
            second.__context__ = second.__context__ or error
            error = second
        if isinstance(error, HTTPError):
            return failing.default_answer(request, error)
        if self.propagate_errors:
            raise error
        failing.report(request.environ, error)
        if os.environ.get("TRIVET_DEV"):
            from .dev import error_page

            page = error_page(error, request.environ)
            if page is not None:
                return Response(page, 500, [("Content-Type", HTML), ("Cache-Control", "no-store")])
        return failing.default_answer(request, HTTPError(500))


def _several_places(prefixes: list[str]) -> ValueError:
    return ValueError(
        f"the app is mounted at `{prefixes[0]}` and `{prefixes[1]}`: only a request tells which is meant\n"
        "hint: `req.url_for(…)` in a handler of it"
    )


def _url_in_templates(app: App) -> Callable[..., str]:
    """`url_for` of an app's templates: for the client of the request that a template was given, if it was."""
    from .templates import rendered_for

    # The engine is unseen by the collector of cycles: what it has must not keep the app.
    known = weakref.ref(app)

    def url_for(name: str, /, **values: object) -> str:
        app = known()
        if app is None:
            raise RuntimeError("the app of these templates is gone")
        request = rendered_for()
        if isinstance(request, _web.Request):
            return request.app._url_for(request, name, values, app)
        return app.url(name, **values)

    return url_for


def _covers(interceptor: Interceptor, route: Route) -> bool:
    if not interceptor.guard or interceptor.host:
        return False
    if interceptor.methods is None:
        return True
    return route.kind != "mount" and all(
        method in interceptor.methods or (method == "HEAD" and "GET" in interceptor.methods)
        for method in route.methods
    )


# What `_web` hands back


def _save_session(app: App, request: _web.Request, response: Response) -> None:
    if request._session is not None:
        app.sessions.save(app, request, request._session, response)


def _decorate(
    app: App, request: _web.Request, response: Response, cors: CORS | None, is_saved: bool
) -> Response:
    # First of all: they run whatever becomes of the rest.
    after = request._after
    if after:
        response._closers.extend(after)
    fields = request._reply_headers
    if fields is not None:
        given = fields.items()
        for name in {name for name, _ in given if name.lower() not in SEVERAL}:
            response.headers.pop(name)
        for name, value in given:
            response.headers.add(name, value)
    if not is_saved and request._session is not None:
        _save_session(app, request, response)
    if cors is not None:
        cors.decorate(request.environ, response)
    return response


def _session(request: _web.Request) -> Session:
    return request.app.sessions.load(request)


def _spool() -> Any:
    import tempfile

    return tempfile.TemporaryFile()


def _wait(app: App, awaitable: Any) -> Any:
    from .coroutines import wait

    return wait(app, awaitable)


_web.install(
    {
        "response": Response,
        "error": errors.error_for,
        "http_error": HTTPError,
        "fail": lambda app, request, error: app._fail(request, error),
        "convert": convert,
        "decorate": _decorate,
        "save_session": _save_session,
        "shape": plan.shape,
        "jsonable": plan.jsonable,
        "values": Values,
        "upload": Upload,
        "spool": _spool,
        "fields": Fields,
        "session": _session,
        "wait": _wait,
        "moved": moved,
        "options": options,
        "preflight": lambda cors, environ: cors.preflight(environ),
        "trusts": lambda cors, origin: cors.trusts(origin),
        "foreign": foreign.answer,
        "stream": sent,
        "url_for": lambda request, name, values: request.app._url_for(request, name, values),
        "loads": plan.loads,
        "phrases": errors.PHRASES,
    }
)

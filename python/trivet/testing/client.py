"""The client: a browser's part, whatever the application's interface."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import urljoin, urlsplit
from wsgiref.validate import validator

from . import asgi, wsgi
from .answers import Response
from .asgi import WebSocket
from .cookies import Cookies
from .requests import File, Pairs, Target, body_of, url_of

REDIRECTS_MAX = 20
SITE_FIELDS = ("authorization", "cookie", "host")  # not for another site


class Client:
    """A client of one application.

    ``app``: WSGI or ASGI. ``base``: scheme and host of paths; on this machine's own names `Secure` cookies
    are kept without TLS, as browsers do. ``headers``: sent with every request. ``validate``: a WSGI
    application runs under :mod:`wsgiref.validate`. ``interface``: ``"asgi"`` takes ``app.asgi`` of a
    :class:`trivet.App`. ``raises``: an exception of the application is the caller's too; otherwise it is a
    500. ``timeout``: seconds for an ASGI application to say something.
    """

    def __init__(
        self,
        app: Any,
        *,
        base: str = "http://localhost",
        headers: Mapping[str, str] | None = None,
        validate: bool = False,
        interface: str | None = None,
        raises: bool = True,
        follow: bool = False,
        client: tuple[str, int] = ("127.0.0.1", 50000),
        timeout: float = asgi.TIMEOUT_S,
    ) -> None:
        if interface not in (None, "wsgi", "asgi"):
            raise ValueError(f"`{interface}` is no interface\nhint: `wsgi` or `asgi`")
        self.app = app
        self.is_asgi = asgi.is_asgi(app) if interface is None else interface == "asgi"
        if self.is_asgi and not asgi.is_asgi(app):
            self.app = app.asgi
        self.base = base
        self.headers = dict(headers or {})
        self.cookies = Cookies()
        self.raises = raises
        self.follow = follow
        self.client = client
        self.timeout = timeout
        self.state: dict[str, Any] = {}
        self._called = validator(app) if validate and not self.is_asgi else self.app
        self._loop: asgi.Loop | None = None
        self._lifespan: asgi.Lifespan | None = None

    def __enter__(self) -> Client:
        if self.is_asgi:
            self._lifespan = asgi.Lifespan(self.app, self.loop, self.state, self.timeout)
            self._lifespan.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the lifespan and the loop. Without ``with``, the end of the process does."""
        try:
            if self._lifespan is not None:
                lifespan, self._lifespan = self._lifespan, None
                lifespan.stop()
        finally:
            if self._loop is not None:
                loop, self._loop = self._loop, None
                loop.stop()

    @property
    def loop(self) -> asgi.Loop:
        """Where ASGI applications run: one loop in a thread, made when it is first needed."""
        if self._loop is None:
            self._loop = asgi.Loop()
        return self._loop

    def get(self, path: str, **options: Any) -> Response:
        """`request("GET", …)`."""
        return self.request("GET", path, **options)

    def head(self, path: str, **options: Any) -> Response:
        """`request("HEAD", …)`."""
        return self.request("HEAD", path, **options)

    def options(self, path: str, **options: Any) -> Response:
        """`request("OPTIONS", …)`."""
        return self.request("OPTIONS", path, **options)

    def post(self, path: str, **options: Any) -> Response:
        """`request("POST", …)`."""
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> Response:
        """`request("PUT", …)`."""
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Response:
        """`request("PATCH", …)`."""
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Response:
        """`request("DELETE", …)`."""
        return self.request("DELETE", path, **options)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: str | Pairs | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        json: Any = ...,
        form: Pairs | None = None,
        files: Mapping[str, File] | Iterable[tuple[str, File]] | None = None,
        data: bytes | str | Iterable[bytes] | None = None,
        cookies: Mapping[str, str] | None = None,
        follow: bool | None = None,
        stream: bool = False,
        environ: Mapping[str, Any] | None = None,
    ) -> Response:
        """One request, and those that its redirects ask for where ``follow`` is true.

        ``path``: a path, with a query or without, or a whole URL. ``query``, ``form``: pairs, or a mapping
        whose values may be lists. ``files``: by name, content or (filename, content[, type]); content is
        bytes, text, a path or a file. ``data``: the body as it is; pieces are sent without a length.
        ``cookies``: for this request only. ``environ``: more of the WSGI environ.
        """
        fields = list(headers.items() if isinstance(headers, Mapping) else headers or ())
        body, kind = body_of(json, form, files, data)
        url = url_of(self.base, path, query)
        follow = self.follow if follow is None else follow
        history: list[Response] = []
        while True:
            sent = [*self._defaults(fields), *fields]
            if kind and not any(name.lower() == "content-type" for name, _ in sent):
                sent.append(("Content-Type", kind))
            response = self._once(method, url, sent, body, cookies, stream or follow, environ)
            target = response.headers.get("location")
            if not follow or target is None or response.status not in (301, 302, 303, 307, 308):
                break
            if len(history) == REDIRECTS_MAX:
                raise RuntimeError(f"more than {REDIRECTS_MAX} redirects: {url}")
            _ = response.data
            history.append(response)
            if (response.status == 303 and method != "HEAD") or (response.status < 303 and method == "POST"):
                method, body, kind = "GET", b"", None
                fields = [pair for pair in fields if not pair[0].lower().startswith("content-")]
            next_url = url_of(url, urljoin(url, target), None)
            if urlsplit(next_url)[:2] != urlsplit(url)[:2]:
                fields = [pair for pair in fields if pair[0].lower() not in SITE_FIELDS]
            url = next_url
        response.history = history
        if not stream:
            _ = response.data
        return response

    def _defaults(self, fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
        given = {name.lower() for name, _ in fields}
        return [(name, value) for name, value in self.headers.items() if name.lower() not in given]

    def _once(
        self,
        method: str,
        url: str,
        fields: list[tuple[str, str]],
        body: bytes | Iterable[bytes],
        cookies: Mapping[str, str] | None,
        stream: bool,
        environ: Mapping[str, Any] | None,
    ) -> Response:
        target = Target(url)
        fields = self._with_cookies(target, fields, cookies)
        if isinstance(body, bytes) and (body or method in ("POST", "PUT", "PATCH")):
            if not any(name.lower() == "content-length" for name, _ in fields):
                fields.append(("Content-Length", str(len(body))))
        elif not isinstance(body, bytes):
            fields.append(("Transfer-Encoding", "chunked"))
        if self.is_asgi:
            scope = {**self._scope("http", target, fields), "method": method}
            response = asgi.ask(self.app, scope, body, url, self.loop, self.timeout, self.raises)
        else:
            made = {**wsgi.environ_of(method, target, fields, body, self.client), **(environ or {})}
            response = wsgi.Call(self._called, made, self.raises).answer(url)
        for line in response.headers.get_all("set-cookie"):
            cookie = self.cookies.take(line, target.host, target.path, target.secure)
            if cookie is not None:
                response.cookies[cookie.name] = cookie.value
        if not stream:
            _ = response.data
        return response

    def _with_cookies(
        self, target: Target, fields: list[tuple[str, str]], cookies: Mapping[str, str] | None
    ) -> list[tuple[str, str]]:
        pairs = [f"{name}={value}" for name, value in (cookies or {}).items()]
        named = {pair.partition("=")[0] for pair in pairs}
        kept = self.cookies.header(target.host, target.path, target.secure)
        pairs += [pair for pair in kept if pair.partition("=")[0] not in named]
        if pairs and not any(name.lower() == "cookie" for name, _ in fields):
            return [*fields, ("Cookie", "; ".join(pairs))]
        return list(fields)

    # WSGI, PEP 3333.

    def _scope(self, kind: str, target: Target, fields: Iterable[tuple[str, str]]) -> dict[str, Any]:
        return asgi.scope_of(kind, target, fields, self.client, self.state)

    def websocket(
        self,
        path: str,
        *,
        query: str | Pairs | None = None,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] = (),
        cookies: Mapping[str, str] | None = None,
    ) -> WebSocket:
        """Opens a WebSocket; a context manager. Raises WebSocketRefused."""
        app = self.app if self.is_asgi else self.app.asgi
        target = Target(url_of(self.base.replace("http", "ws", 1), path, query))
        fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")]
        fields += [("Sec-WebSocket-Key", secrets.token_urlsafe(16)), *self._defaults([])]
        fields = self._with_cookies(target, [*fields, *(headers or {}).items()], cookies)
        scope = {**self._scope("websocket", target, fields), "subprotocols": list(subprotocols)}
        scope["extensions"] = {"websocket.http.response": {}}
        return WebSocket(asgi.Exchange(app, scope, self.loop, self.timeout))

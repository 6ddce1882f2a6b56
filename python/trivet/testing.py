"""Asks any WSGI or ASGI application without a socket, keeping cookies as a browser does.

::

    with Client(app) as client:
        response = client.post("/login", form={"name": "ada"}, follow=True)
        assert response.status == 200 and "Welcome" in response.text

What is an ASGI application is told by its being a coroutine function, or an object whose ``__call__`` is
one. Such a one runs on a loop in a thread of the client's own; ``with`` sends it the lifespan's events.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import io
import json
import mimetypes
import os
import secrets
import sys
import threading
import time
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast
from urllib.parse import quote, unquote_to_bytes, urlencode, urljoin, urlsplit
from wsgiref.validate import validator

__all__ = [
    "Client",
    "Cookie",
    "Cookies",
    "Headers",
    "Response",
    "WebSocket",
    "WebSocketClosed",
    "WebSocketRefused",
]

REDIRECTS_MAX = 20
TIMEOUT_S = 10.0
LOCAL = ("localhost", "127.0.0.1", "[::1]")
SITE_FIELDS = ("authorization", "cookie", "host")  # not for another site
SAFE_IN_TARGET = "/%:@!$&'()*+,;=~-._?[]"

T = TypeVar("T")
Pairs = Mapping[str, Any] | Iterable[tuple[str, Any]]
File = bytes | str | os.PathLike[str] | Any
Message = MutableMapping[str, Any]


class Headers(Mapping[str, str]):
    """Header fields in their order. Names in any case; a name that comes several times is joined by ``",
    "``.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs = list(pairs)

    def __getitem__(self, name: str) -> str:
        found = self.get_all(name)
        if not found:
            raise KeyError(name)
        return ", ".join(found)

    def get_all(self, name: str) -> list[str]:
        """Every value of a name: `Set-Cookie` cannot be joined."""
        name = name.lower()
        return [value for key, value in self.pairs if key.lower() == name]

    def __iter__(self) -> Iterator[str]:
        return iter({name.lower(): name for name, _ in self.pairs}.values())

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self.pairs})

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_all(name))

    def __repr__(self) -> str:
        return f"Headers({self.pairs})"


class Cookie:
    """A cookie as it is stored (RFC 6265, section 5.3). ``expires``: seconds since 1970, None at the end of
    the session.
    """

    def __init__(
        self,
        name: str,
        value: str,
        *,
        domain: str,
        host_only: bool = True,
        path: str = "/",
        secure: bool = False,
        http_only: bool = False,
        same_site: str | None = None,
        expires: float | None = None,
    ) -> None:
        self.name = name
        self.value = value
        self.domain = domain
        self.host_only = host_only
        self.path = path
        self.secure = secure
        self.http_only = http_only
        self.same_site = same_site
        self.expires = expires
        self.created = 0

    def __repr__(self) -> str:
        return f"Cookie({self.name}={self.value}; domain={self.domain}; path={self.path})"

    def is_for(self, host: str, path: str, secure: bool) -> bool:
        """Whether it is sent with a request there (RFC 6265 §5.4)."""
        domain = self.domain
        if host != domain and (self.host_only or not host.endswith("." + domain) or _is_address(host)):
            return False
        if self.secure and not secure:
            return False
        return path == self.path or (
            path.startswith(self.path) and (self.path.endswith("/") or path[len(self.path)] == "/")
        )


class Cookies(Mapping[str, str]):
    """The cookies of a client: names and values, whatever they are for; more by :meth:`all`."""

    def __init__(self) -> None:
        self._stored: dict[tuple[str, str, str], Cookie] = {}
        self._count = 0
        self.now: Callable[[], float] = time.time

    def all(self) -> list[Cookie]:
        """Those that have not expired, the oldest first."""
        now = self.now()
        self._stored = {k: c for k, c in self._stored.items() if c.expires is None or c.expires > now}
        return sorted(self._stored.values(), key=lambda cookie: cookie.created)

    def set(self, name: str, value: str, *, domain: str = "localhost", path: str = "/") -> None:
        """Keeps a cookie as if a server had set it."""
        self._store(Cookie(name, value, domain=domain, path=path))

    def delete(self, name: str) -> None:
        """Forgets every cookie of this name."""
        self._stored = {key: cookie for key, cookie in self._stored.items() if cookie.name != name}

    def clear(self) -> None:
        """Forgets every cookie."""
        self._stored = {}

    def __getitem__(self, name: str) -> str:
        for cookie in reversed(self.all()):
            if cookie.name == name:
                return cookie.value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter({cookie.name: None for cookie in self.all()})

    def __len__(self) -> int:
        return len({cookie.name for cookie in self.all()})

    def header(self, host: str, path: str, secure: bool) -> list[str]:
        """What is sent with a request: longer paths first, then the older (section 5.4)."""
        fitting = [cookie for cookie in self.all() if cookie.is_for(host, path, secure)]
        fitting.sort(key=lambda cookie: (-len(cookie.path), cookie.created))
        return [f"{c.name}={c.value}" if c.name else c.value for c in fitting]

    def take(self, line: str, host: str, path: str, secure: bool) -> Cookie | None:
        """Stores what a `Set-Cookie` says; None where a browser would not."""
        cookie = self.parse(line, host, path, self.now())
        if cookie is None or (cookie.secure and not secure):
            return None
        if cookie.name.lower().startswith(("__secure-", "__host-")) and not cookie.secure:
            return None
        if cookie.name.lower().startswith("__host-") and not (cookie.host_only and cookie.path == "/"):
            return None
        self._store(cookie)
        return cookie

    def _store(self, cookie: Cookie) -> None:
        key = (cookie.name, cookie.domain, cookie.path)
        known = self._stored.get(key)
        self._count += 1
        cookie.created = known.created if known else self._count
        self._stored[key] = cookie

    @staticmethod
    def parse(line: str, host: str, path: str, now: float) -> Cookie | None:
        """The cookie of a `Set-Cookie` field; None where it has to be ignored (RFC 6265 §5.3)."""
        pair, _, rest = line.partition(";")
        name, equals, value = pair.partition("=")
        if not equals:
            name, value = "", pair
        name, value = name.strip(), value.strip()
        if not name and not value:
            return None
        cookie = Cookie(name, value, domain=host, path=path[: path.rfind("/")] or "/")
        aged = False
        for attribute in rest.split(";"):
            key, _, text = attribute.partition("=")
            key, text = key.strip().lower(), text.strip()
            if key == "secure":
                cookie.secure = True
            elif key == "httponly":
                cookie.http_only = True
            elif key == "samesite":
                cookie.same_site = text
            elif key == "path":
                cookie.path = text if text.startswith("/") else path[: path.rfind("/")] or "/"
            elif key == "domain" and text:
                cookie.domain = text.lower().removeprefix(".")
                cookie.host_only = False
            elif key == "max-age" and text.removeprefix("-").isdigit():
                cookie.expires = now + int(text) if int(text) > 0 else 0.0
                aged = True
            elif key == "expires" and not aged:
                try:
                    cookie.expires = parsedate_to_datetime(text.replace("-", " ")).timestamp()
                except ValueError:
                    continue
        if not cookie.host_only and cookie.domain != host:
            if not host.endswith("." + cookie.domain) or "." not in cookie.domain or _is_address(host):
                return None
        elif not cookie.host_only and "." not in cookie.domain:
            cookie.host_only = True
        return cookie


def _is_address(host: str) -> bool:
    return host.startswith("[") or host.replace(".", "").isdigit()


class Response:
    """What the application answered. ``history``: the redirects that led here, the first first."""

    def __init__(self, status: int, reason: str, headers: Headers, body: Iterator[bytes], url: str) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.url = url
        self.history: list[Response] = []
        self.cookies: dict[str, str] = {}
        self._body = body
        self._data: bytes | None = None

    @property
    def data(self) -> bytes:
        """The whole body; reads what is left of a stream."""
        if self._data is None:
            self._data = b"".join(self._body)
            self.close()
        return self._data

    @property
    def text(self) -> str:
        """The body by the charset of its Content-Type, UTF-8 where there is none."""
        charset = "utf-8"
        for parameter in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                charset = value.strip().strip('"')
        return self.data.decode(charset, "replace")

    def json(self) -> Any:
        """What the body says as JSON. Raises `ValueError` where it is none."""
        return json.loads(self.data)

    def chunks(self) -> Iterator[bytes]:
        """The pieces of a body, as the application gives them (with ``stream=True``)."""
        return self._body

    def lines(self) -> Iterator[str]:
        """The lines of a stream as they come, without their ends."""
        rest = b""
        for chunk in self._body:
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line.removesuffix(b"\r").decode("utf-8", "replace")
        if rest:
            yield rest.decode("utf-8", "replace")

    def close(self) -> None:
        """Lets the application go: its iterable is closed, its ASGI call told that the client has gone."""
        close = getattr(self._body, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.url}>"


class WebSocketRefused(Exception):
    """The application did not accept. ``status``: of the answer that a client gets instead; ``body``: its
    text.
    """

    def __init__(self, status: int, body: bytes = b"") -> None:
        super().__init__(f"the application refused the WebSocket with {status}")
        self.status = status
        self.body = body


class WebSocketClosed(Exception):
    """The application has closed."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"the application closed the WebSocket with {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


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
        timeout: float = TIMEOUT_S,
    ) -> None:
        if interface not in (None, "wsgi", "asgi"):
            raise ValueError(f"`{interface}` is no interface\nhint: `wsgi` or `asgi`")
        self.app = app
        self.is_asgi = _is_asgi(app) if interface is None else interface == "asgi"
        if self.is_asgi and not _is_asgi(app):
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
        self._loop: _Loop | None = None
        self._lifespan: _Lifespan | None = None

    def __enter__(self) -> Client:
        if self.is_asgi:
            self._lifespan = _Lifespan(self.app, self.loop, self.state, self.timeout)
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
    def loop(self) -> _Loop:
        """Where ASGI applications run: one loop in a thread, made when it is first needed."""
        if self._loop is None:
            self._loop = _Loop()
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
        body, kind = _body(json, form, files, data)
        url = _url(self.base, path, query)
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
            next_url = _url(url, urljoin(url, target), None)
            if urlsplit(next_url)[:2] != urlsplit(url)[:2]:
                fields = [
                    pair for pair in fields if pair[0].lower() not in ("authorization", "cookie", "host")
                ]
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
        target = _Target(url)
        fields = self._with_cookies(target, fields, cookies)
        if isinstance(body, bytes) and (body or method in ("POST", "PUT", "PATCH")):
            if not any(name.lower() == "content-length" for name, _ in fields):
                fields.append(("Content-Length", str(len(body))))
        elif not isinstance(body, bytes):
            fields.append(("Transfer-Encoding", "chunked"))
        if self.is_asgi:
            response = self._ask_asgi(method, target, fields, body)
        else:
            response = self._ask_wsgi(method, target, fields, body, environ or {})
        for line in response.headers.get_all("set-cookie"):
            cookie = self.cookies.take(line, target.host, target.path, target.secure)
            if cookie is not None:
                response.cookies[cookie.name] = cookie.value
        if not stream:
            _ = response.data
        return response

    def _with_cookies(
        self, target: _Target, fields: list[tuple[str, str]], cookies: Mapping[str, str] | None
    ) -> list[tuple[str, str]]:
        pairs = [f"{name}={value}" for name, value in (cookies or {}).items()]
        named = {pair.partition("=")[0] for pair in pairs}
        kept = self.cookies.header(target.host, target.path, target.secure)
        pairs += [pair for pair in kept if pair.partition("=")[0] not in named]
        if pairs and not any(name.lower() == "cookie" for name, _ in fields):
            return [*fields, ("Cookie", "; ".join(pairs))]
        return list(fields)

    # WSGI, PEP 3333.

    def _ask_wsgi(
        self,
        method: str,
        target: _Target,
        fields: list[tuple[str, str]],
        body: bytes | Iterable[bytes],
        more: Mapping[str, Any],
    ) -> Response:
        content = body if isinstance(body, bytes) else b"".join(body)
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(target.path).decode("latin-1"),
            "QUERY_STRING": target.query,
            "RAW_URI": target.raw,
            "REQUEST_URI": target.raw,
            "SERVER_NAME": target.host.strip("[]"),
            "SERVER_PORT": str(target.port),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": self.client[0],
            "REMOTE_PORT": str(self.client[1]),
            "HTTP_HOST": target.authority,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": target.scheme,
            "wsgi.input": io.BytesIO(content),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in fields:
            key = name.upper().replace("-", "_")
            if key == "TRANSFER_ENCODING":
                environ["wsgi.input_terminated"] = True
            if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                key = "HTTP_" + key
            # Fields that come several times are one to WSGI (RFC 9110, section 5.3); cookies have a sign of
            # their own.
            sign = "; " if key == "HTTP_COOKIE" else ","
            known = environ.get(key) if key != "HTTP_HOST" else None
            value = value.encode("utf-8").decode("latin-1")
            environ[key] = f"{known}{sign}{value}" if known is not None else value
        environ.update(more)
        return _Call(self, environ).answer(target.url)

    # ASGI, version 3.

    def _scope(self, kind: str, target: _Target, fields: Iterable[tuple[str, str]]) -> dict[str, Any]:
        headers = [(name.lower().encode("latin-1"), value.encode("utf-8")) for name, value in fields]
        if not any(name == b"host" for name, _ in headers):
            headers.insert(0, (b"host", target.authority.encode("ascii")))
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": target.scheme,
            "path": unquote_to_bytes(target.path).decode("utf-8", "replace"),
            "raw_path": target.path.encode("ascii"),
            "query_string": target.query.encode("ascii"),
            "root_path": "",
            "headers": headers,
            "client": list(self.client),
            "server": [target.host.strip("[]"), target.port],
            "state": self.state.copy(),
            "extensions": {},
        }

    def _ask_asgi(
        self, method: str, target: _Target, fields: list[tuple[str, str]], body: bytes | Iterable[bytes]
    ) -> Response:
        scope = {**self._scope("http", target, fields), "method": method}
        pieces = [body] if isinstance(body, bytes) else list(body)
        exchange = _Exchange(self.app, scope, self.loop, self.timeout)
        for number, piece in enumerate(pieces or [b""]):
            more = number + 1 < len(pieces)
            exchange.put({"type": "http.request", "body": piece, "more_body": more})
        try:
            start = exchange.message()
        except Exception:
            if self.raises:
                raise
            start = None
        if start is None:
            exchange.close()
            return Response(500, "Internal Server Error", Headers(), iter(()), target.url)
        if start["type"] != "http.response.start":
            exchange.close()
            raise AssertionError(f"the application sent {start['type']!r} before its response's head")
        pairs = [
            (bytes(n).decode("latin-1"), bytes(v).decode("latin-1")) for n, v in start.get("headers", ())
        ]
        return Response(
            int(start["status"]), "", Headers(pairs), _AsgiBody(exchange, self.raises), target.url
        )

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
        target = _Target(_url(self.base.replace("http", "ws", 1), path, query))
        fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")]
        fields += [("Sec-WebSocket-Key", secrets.token_urlsafe(16)), *self._defaults([])]
        fields = self._with_cookies(target, [*fields, *(headers or {}).items()], cookies)
        scope = {**self._scope("websocket", target, fields), "subprotocols": list(subprotocols)}
        scope["extensions"] = {"websocket.http.response": {}}
        return WebSocket(_Exchange(app, scope, self.loop, self.timeout))


class WebSocket:
    """An open WebSocket, from the client's side."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        self._closed = False
        exchange.put({"type": "websocket.connect"})
        try:
            first = exchange.message()
            if first["type"] != "websocket.accept":
                raise self._refusal(first)
        except BaseException:
            exchange.close()
            raise
        self.subprotocol: str | None = first.get("subprotocol")
        pairs = [
            (bytes(n).decode("latin-1"), bytes(v).decode("latin-1")) for n, v in first.get("headers", ())
        ]
        self.headers = Headers(pairs)

    def _refusal(self, first: Message) -> Exception:
        if first["type"] == "websocket.close":
            return WebSocketRefused(403)
        if first["type"] != "websocket.http.response.start":
            return AssertionError(f"the application sent {first['type']!r} before it accepted")
        body, more = b"", True
        while more:
            message = self._exchange.message()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return WebSocketRefused(first["status"], body)

    def send(self, message: str | bytes) -> None:
        """Sends a text or bytes."""
        kind = "text" if isinstance(message, str) else "bytes"
        self._exchange.put({"type": "websocket.receive", kind: message})

    def send_json(self, value: Any) -> None:
        """Sends a value as JSON, in a text."""
        self.send(json.dumps(value))

    def receive(self) -> str | bytes:
        """The next message. Raises WebSocketClosed, or TimeoutError."""
        message = self._exchange.message()
        if message["type"] == "websocket.close":
            self._closed = True
            raise WebSocketClosed(message.get("code", 1000), message.get("reason") or "")
        if message["type"] != "websocket.send":
            raise AssertionError(f"the application sent {message['type']!r} on an open WebSocket")
        text = message.get("text")
        return cast(str, text) if text is not None else cast(bytes, message["bytes"])

    def receive_json(self) -> Any:
        """The next message, read as JSON."""
        return json.loads(self.receive())

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Says goodbye with a code of RFC 6455 §7.4."""
        if not self._closed:
            self._closed = True
            self._exchange.put({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._exchange.close()

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _headers(message: Message) -> Headers:
    """The fields of a message; names and values may be any bytes-like objects."""
    pairs = message.get("headers", ())
    return Headers((bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in pairs)


class _Target:
    """The parts of a URL that a request needs."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self.scheme = parts.scheme
        self.authority = parts.netloc.rpartition("@")[2]
        self.host = (f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or "").lower()
        self.port = parts.port or (443 if parts.scheme in ("https", "wss") else 80)
        self.path = parts.path or "/"
        self.query = parts.query
        self.raw = self.path + ("?" + parts.query if parts.query else "")
        self.secure = parts.scheme in ("https", "wss") or self.host in LOCAL


def _is_asgi(app: Any) -> bool:
    while hasattr(app, "func"):  # functools.partial
        app = app.func
    if inspect.iscoroutinefunction(app):
        return True
    call = getattr(type(app), "__call__", None)  # noqa: B004 - the function itself is looked at
    return not inspect.isfunction(app) and inspect.iscoroutinefunction(call)


def _url(base: str, path: str, query: str | Pairs | None) -> str:
    if (path.startswith("/") and not path.startswith("//")) or "://" not in path:
        # By hand: `urljoin` takes `..` and `//` out, which are for the application to judge.
        parts = urlsplit(base)
        url = f"{parts.scheme}://{parts.netloc}{path}" if path.startswith("/") else urljoin(base + "/", path)
    else:
        url = path
    url = quote(url.partition("#")[0], safe=SAFE_IN_TARGET)
    if query is not None and query != "":
        text = query if isinstance(query, str) else urlencode(list(_pairs(query)))
        url += ("&" if "?" in url else "?") + quote(text, safe=SAFE_IN_TARGET)
    return url


def _pairs(given: Pairs) -> Iterator[tuple[str, Any]]:
    for name, value in given.items() if isinstance(given, Mapping) else given:
        for one in value if isinstance(value, (list, tuple)) else [value]:
            yield name, one


def _body(
    json_value: Any, form: Pairs | None, files: Any, data: bytes | str | Iterable[bytes] | None
) -> tuple[bytes | Iterable[bytes], str | None]:
    """The body and its Content-Type."""
    given = [json_value is not ..., form is not None or files is not None, data is not None]
    if sum(given) > 1:
        raise TypeError("a request has one body\nhint: give one of `json`, `form` with `files`, and `data`")
    if json_value is not ...:
        return json.dumps(json_value).encode(), "application/json"
    if files is not None:
        return _multipart(form or {}, files)
    if form is not None:
        return urlencode(list(_pairs(form))).encode(), "application/x-www-form-urlencoded"
    if data is None:
        return b"", None
    if isinstance(data, str):
        return data.encode(), "text/plain; charset=utf-8"
    return data if isinstance(data, bytes) else list(data), None


def _multipart(form: Pairs, files: Any) -> tuple[bytes, str]:
    """RFC 7578, with names as browsers write them."""

    def quoted(name: str) -> str:
        return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")

    boundary = "trivet-" + secrets.token_hex(16)
    out = io.BytesIO()
    for name, value in _pairs(form):
        out.write(f'--{boundary}\r\nContent-Disposition: form-data; name="{quoted(name)}"\r\n\r\n'.encode())
        out.write(value if isinstance(value, bytes) else str(value).encode())
        out.write(b"\r\n")
    for name, given in files.items() if isinstance(files, Mapping) else files:
        for filename, content, kind in map(_file, given if isinstance(given, list) else [given]):
            disposition = f'form-data; name="{quoted(name)}"; filename="{quoted(filename)}"'
            out.write(f"--{boundary}\r\nContent-Disposition: {disposition}\r\n".encode())
            out.write(f"Content-Type: {kind}\r\n\r\n".encode() + content + b"\r\n")
    out.write(f"--{boundary}--\r\n".encode())
    return out.getvalue(), f"multipart/form-data; boundary={boundary}"


def _file(given: Any) -> tuple[str, bytes, str]:
    filename, content, kind = None, given, None
    if isinstance(given, tuple):
        filename, content, *rest = given
        kind = rest[0] if rest else None
    if isinstance(content, os.PathLike):
        path = Path(content)
        filename, content = filename or path.name, path.read_bytes()
    elif isinstance(content, str):
        content = content.encode()
    elif not isinstance(content, (bytes, bytearray)):
        filename = filename or os.path.basename(str(getattr(content, "name", "file")))
        content = content.read()
    filename = filename or "file"
    return filename, bytes(content), kind or mimetypes.guess_type(filename)[0] or "application/octet-stream"


class _Call:
    """One call of a WSGI application."""

    def __init__(self, client: Client, environ: dict[str, Any]) -> None:
        self.client = client
        self.environ = environ
        self.head: tuple[str, list[tuple[str, str]]] | None = None
        self.written: list[bytes] = []
        self.sent = False

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        if exc_info is not None:
            try:
                if self.sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.head is not None:
            raise AssertionError("start_response was called a second time without exc_info")
        self.head = (status, list(headers))
        return self.written.append

    def answer(self, url: str) -> Response:
        try:
            iterable = self.client._called(self.environ, self.start_response)
            body = _WsgiBody(self, iterable)
            # The head may come as late as the first piece.
            body.fill()
        except Exception:
            if self.client.raises:
                raise
            return Response(500, "Internal Server Error", Headers(), iter(()), url)
        if self.head is None:
            body.close()
            raise AssertionError("the application did not call start_response")
        status, headers = self.head
        self.sent = True
        code, _, reason = status.partition(" ")
        return Response(int(code), reason, Headers(headers), body, url)


class _WsgiBody:
    def __init__(self, call: _Call, iterable: Iterable[bytes]) -> None:
        self.call = call
        self.iterable = iterable
        self.iterator = iter(iterable)
        self.first: list[bytes] = []
        self.closed = False

    def fill(self) -> None:
        try:
            while self.call.head is None or not self.first:
                self.first.append(next(self.iterator))
        except StopIteration:
            return
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self.call.written:
            return self.call.written.pop(0)
        if self.first:
            return self.first.pop(0)
        if self.closed:
            raise StopIteration
        try:
            return next(self.iterator)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        close = getattr(self.iterable, "close", None)
        if close is not None:
            close()


class _Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name="trivet-testing", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        pending = asyncio.all_tasks(self.loop)
        for task in pending:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError:
            if future.done():
                raise
            future.cancel()
            raise TimeoutError(f"the application said nothing for {timeout:g} s") from None

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(TIMEOUT_S)


class _Exchange:
    """One call of an ASGI application, whose messages wait until they are asked for."""

    AHEAD_MAX = 16

    def __init__(self, app: Any, scope: dict[str, Any], loop: _Loop, timeout: float) -> None:
        self.loop = loop
        self.timeout = timeout
        self.ended = False
        self.task: asyncio.Task[None] = loop.run(self._begin(app, scope), timeout)

    async def _begin(self, app: Any, scope: dict[str, Any]) -> asyncio.Task[None]:
        self.to_app: asyncio.Queue[Message] = asyncio.Queue()
        self.from_app: asyncio.Queue[Message | BaseException | None] = asyncio.Queue(self.AHEAD_MAX)
        self.kind = scope["type"]
        return asyncio.get_running_loop().create_task(self._call(app, scope))

    async def _call(self, app: Any, scope: dict[str, Any]) -> None:
        try:
            await cast(Awaitable[None], app(scope, self.to_app.get, self.from_app.put))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            await self.from_app.put(error)
        else:
            await self.from_app.put(None)

    def put(self, message: Message) -> None:
        self.loop.loop.call_soon_threadsafe(self.to_app.put_nowait, message)

    def next(self) -> Message | None:
        """The next message; None when the application has returned."""
        if self.ended:
            return None
        item = self.loop.run(self.from_app.get(), self.timeout)
        if isinstance(item, BaseException):
            self.ended = True
            raise item
        if item is None:
            self.ended = True
        return item

    def message(self) -> Message:
        message = self.next()
        if message is None:
            raise AssertionError("the application returned before it had answered")
        return message

    def close(self) -> None:
        """Tells the application that the client has gone, and cancels it where it does not end by itself."""
        if self.kind == "http":
            self.put({"type": "http.disconnect"})
        self.loop.run(self._end(), self.timeout + 1)

    async def _end(self) -> None:
        async def drain() -> None:
            while not self.task.done():
                await self.from_app.get()

        draining = asyncio.ensure_future(drain())
        await asyncio.wait([self.task], timeout=min(1.0, self.timeout))
        draining.cancel()
        self.task.cancel()
        await asyncio.gather(self.task, draining, return_exceptions=True)


class _AsgiBody:
    def __init__(self, exchange: _Exchange, raises: bool) -> None:
        self.exchange = exchange
        self.raises = raises
        self.done = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while not self.done:
            message = self.exchange.message()
            if message["type"] != "http.response.body":
                raise AssertionError(f"the application sent {message['type']!r} in its response's body")
            self.done = not message.get("more_body", False)
            body = bytes(message.get("body", b""))
            if self.done:
                self._wait()
            if body:
                return body
        raise StopIteration

    def _wait(self) -> None:
        """What the application still does after its answer belongs to the request."""
        try:
            while self.exchange.next() is not None:
                raise AssertionError("the application sent something after the end of its response")
        except Exception:
            if self.raises:
                raise

    def close(self) -> None:
        if not self.exchange.ended:
            self.done = True
            self.exchange.close()
            self.exchange.ended = True


class _Lifespan:
    """Start-up and shutdown of an ASGI application. One that knows no lifespan raises at once, which is
    allowed.
    """

    def __init__(self, app: Any, loop: _Loop, state: dict[str, Any], timeout: float) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
        self.exchange = _Exchange(app, scope, loop, timeout)
        self.supported = False

    def start(self) -> None:
        self.exchange.put({"type": "lifespan.startup"})
        try:
            message = self.exchange.next()
        except TimeoutError:
            raise
        except Exception:  # noqa: BLE001 - whatever it raises, it knows no lifespan
            return
        if message is None:
            return
        if message["type"] == "lifespan.startup.failed":
            self.exchange.close()
            raise RuntimeError(f"the application failed to start: {message.get('message', '')}")
        self.supported = True

    def stop(self) -> None:
        if not self.supported:
            return
        self.exchange.put({"type": "lifespan.shutdown"})
        message = self.exchange.next()
        if message is not None and message["type"] == "lifespan.shutdown.failed":
            raise RuntimeError(f"the application failed to shut down: {message.get('message', '')}")

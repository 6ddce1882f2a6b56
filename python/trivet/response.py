"""Answers: `Response`, `Headers`, and the helpers `redirect`, `file`, `stream` and `events`."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import stat
import sys
import time
from collections.abc import AsyncIterable, Callable, Generator, Iterable, Iterator, Mapping
from copy import copy
from pathlib import Path
from types import GeneratorType
from typing import IO, TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote as _quote

from ._load import native

if TYPE_CHECKING:
    from . import _web
    from ._web import Headers as Headers
    from .app import App
else:
    _web = native("_web")
    Headers = _web.Headers

Body = bytes | Iterable[bytes] | Iterable[str] | AsyncIterable[bytes] | AsyncIterable[str]
Fields: TypeAlias = "Headers | Mapping[str, Any] | Iterable[tuple[str, Any]]"

HTML = "text/html; charset=utf-8"
#: Fields of which an answer may have several.
SEVERAL = frozenset({"set-cookie", "vary", "link", "www-authenticate", "proxy-authenticate", "cache-control"})
READ_BYTES = 64 * 1024


class Response:
    """An answer. `body` is bytes, a text (UTF-8, HTML unless `content_type` says otherwise) or something
    to iterate.

    It is a WSGI app itself: `Response("hello")(environ, start_response)`.
    """

    __slots__ = ("_closed", "_closers", "_lenders", "body", "headers", "status")

    status: int
    headers: Headers
    body: Any

    def __init__(
        self,
        body: Body | str = b"",
        status: int = 200,
        headers: Fields | None = None,
        content_type: str | None = None,
    ) -> None:
        is_text = isinstance(body, str)
        if is_text:
            body = body.encode()  # type: ignore[union-attr]
        elif isinstance(body, (bytearray, memoryview)):
            body = bytes(body)
        self.body = body
        self.status = status
        self.headers = _web.response_headers(headers, content_type, is_text)
        self._closers: list[Callable[[], object]] = []
        self._lenders: list[Generator[Any, Any, Any]] = []
        self._closed = False

    @property
    def text(self) -> str:
        """The body as UTF-8 text, where it is whole."""
        if not isinstance(self.body, bytes):
            raise TypeError("the body is made while it is sent")
        return self.body.decode()

    def set_cookie(
        self,
        name: str,
        value: str = "",
        *,
        max_age: int | None = None,
        expires: float | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        http_only: bool = True,
        same_site: str | None = "Lax",
        partitioned: bool = False,
    ) -> None:
        """Adds a `Set-Cookie` (RFC 6265bis). `max_age` in seconds, `expires` in seconds since 1970."""
        self.headers.add(
            "Set-Cookie",
            _web.set_cookie(
                name,
                value,
                path=path,
                domain=domain,
                max_age=max_age,
                expires=None if expires is None else int(expires),
                secure=secure,
                http_only=http_only,
                same_site=same_site,
                partitioned=partitioned,
            ),
        )

    def delete_cookie(self, name: str, *, path: str | None = "/", domain: str | None = None) -> None:
        """Has the browser forget a cookie; path and domain are those it was set with."""
        secure = name.startswith(("__Secure-", "__Host-"))
        self.set_cookie(name, "", max_age=0, expires=0, path=path, domain=domain, secure=secure)

    def on_close(self, function: Callable[[], object]) -> Callable[[], object]:
        """Has `function()` called when the answer has gone, or is given up."""
        self._closers.append(function)
        return function

    def _lend(self, generators: list[Generator[Any, Any, Any]]) -> None:
        """Providers whose values the body still uses: resumed after its last byte."""
        self._lenders.extend(generators)
        self._closers.insert(0, self._give_back)

    def _give_back(self, error: BaseException | None = None) -> None:
        lenders, self._lenders = self._lenders, []
        for generator in reversed(lenders):
            try:
                if error is None:
                    next(generator)
                else:
                    generator.throw(error)
            except StopIteration:
                continue
            except BaseException as second:  # noqa: BLE001 - the others must have their turn
                error = error if second is error else second
            else:
                generator.close()
                error = error or RuntimeError("a generator around a request yields exactly once")
        if error is not None:
            raise error

    def _copy(self) -> Response:
        """One of its own for a request: an app may answer with the same object again and again."""
        made = copy(self)
        made.headers = Headers(self.headers)
        # What is made while it is sent may still add to the closers of the one that it knows.
        made._closers = self._closers if hasattr(self.body, "__next__") else list(self._closers)
        made._lenders = []
        made._closed = False
        return made

    def _prepare(self, request: _web.Request) -> Response:
        """The answer for this very request."""
        return self

    def close(self) -> None:
        """Ends the answer: everything that waits for its end is done, once."""
        if self._closed:
            return
        self._closed = True
        first: BaseException | None = None
        close = getattr(self.body, "close", None)
        closers = [close, *self._closers] if callable(close) else list(self._closers)
        for function in closers:
            try:
                function()
            except BaseException as error:  # noqa: BLE001 - all of them are called
                first = first or error
        if first is not None:
            raise first

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        prepared = self._copy()._prepare(_web.Request(environ))
        is_head = environ.get("REQUEST_METHOD") == "HEAD"
        result: Iterable[bytes] = _web.send_response(prepared, None, is_head, start_response)
        return result

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


class Stream:
    """What a server iterates: pieces as bytes, and whatever waits for the end of the answer in `close()`."""

    __slots__ = ("_app", "_iterator", "_response")

    def __init__(self, response: Response, app: App | None) -> None:
        self._response = response
        self._app = app
        body = response.body
        if isinstance(body, bytes):
            body = (body,)
        elif hasattr(body, "__aiter__"):
            from .coroutines import blocking

            body = blocking(body, app)
        self._iterator = iter(body)

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> bytes:
        try:
            piece = next(self._iterator)
        except StopIteration:
            raise
        except BaseException as error:
            # Providers see what went wrong; the server cuts the answer.
            if self._response._lenders:
                self._response._give_back(error)
            raise
        return encoded(piece)

    def close(self) -> None:
        close = getattr(self._iterator, "close", None)
        try:
            if callable(close) and self._iterator is not self._response.body:
                close()
        finally:
            self._response.close()


def sent(response: Response, app: App | None) -> Iterable[bytes]:
    """The iterable for a WSGI server."""
    wrapper = getattr(response, "_wrapper", None)
    if wrapper is not None and not response._closers:
        whole: Iterable[bytes] = wrapper(response.body.file, READ_BYTES)
        return whole
    return Stream(response, app)


def encoded(piece: object) -> bytes:
    """A piece of a body as bytes."""
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, (bytearray, memoryview)):
        return bytes(piece)
    raise TypeError(f"a body is made of bytes or texts, not of `{type(piece).__name__}`")


def redirect(location: str, status: int = 302, **query: object) -> Response:
    """Sends the client elsewhere. `query` is added to the URL: `redirect("/login", next=req.path)`.

    A location with `//` in front, which browsers take for another host, loses a slash; to leave the site,
    name
    the scheme.
    """
    if location.startswith(("//", "/\\", "\\")):
        location = "/" + location.lstrip("/\\")
    target = _web.quote_reference(location)
    if query:
        target, mark, fragment = target.partition("#")
        pairs = [(name, str(value)) for name, value in query.items() if value is not None]
        target += ("&" if "?" in target else "?") + _web.encode_query(pairs) + mark + fragment
    return Response(b"", status, [("Content-Type", HTML), ("Location", target)])


def moved(location: str) -> Response:
    """308 to the other form of a trailing slash."""
    return redirect(location, 308)


def options(allow: str) -> Response:
    """The answer to OPTIONS."""
    return Response(b"", 204, [("Allow", allow)])


def stream(
    body: Iterable[bytes] | Iterable[str] | AsyncIterable[bytes] | AsyncIterable[str],
    content_type: str = "application/octet-stream",
    status: int = 200,
    headers: Fields | None = None,
) -> Response:
    """A body that is made while it is sent; pieces are bytes or texts."""
    if isinstance(body, (str, bytes)):
        raise TypeError("a stream is made of pieces: return the text or the bytes itself")
    return Response(body, status, headers, content_type)


class Begun:
    """A generator whose first piece is there: what it raises before that is still answered like any
    handler's exception.
    """

    def __init__(self, rest: Generator[Any, Any, Any]) -> None:
        self._first = list(itertools.islice(rest, 1))
        self._rest = rest

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain(self._first, self._rest)

    def close(self) -> None:
        self._rest.close()


def _in_loop() -> bool:
    """Whether an event loop runs in this thread, which nothing may hold up."""
    asyncio: Any = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


class Event:
    """One server-sent event. `data` is a text or anything JSON knows; `retry` in milliseconds."""

    __slots__ = ("data", "event", "id", "retry")

    def __init__(
        self, data: object = "", event: str | None = None, id: str | None = None, retry: int | None = None
    ) -> None:
        for text in (event, id):
            if text is not None and any(c in text for c in "\r\n\0"):
                raise ValueError("the name or id of an event has a line break")
        self.data = data
        self.event = event
        self.id = id
        self.retry = retry

    def __bytes__(self) -> bytes:
        data = self.data if isinstance(self.data, str) else _web.json_bytes(self.data).decode()
        lines = []
        if self.event is not None:
            lines.append(f"event: {self.event}")
        if self.id is not None:
            lines.append(f"id: {self.id}")
        if self.retry is not None:
            lines.append(f"retry: {int(self.retry)}")
        # WHATWG HTML §9.2.6: CR LF, LF and CR all end a line.
        lines += [f"data: {line}" for line in data.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
        return ("\n".join(lines) + "\n\n").encode()


def events(source: Iterable[object] | AsyncIterable[object]) -> Response:
    """Server-sent events (WHATWG HTML §9.2): texts, `Event`s, or values that are sent as JSON."""
    body: Any = _async_events(source) if isinstance(source, AsyncIterable) else _Events(source)
    return Response(
        body,
        200,
        [
            ("Content-Type", "text/event-stream; charset=utf-8"),
            ("Cache-Control", "no-cache"),
            ("X-Accel-Buffering", "no"),
        ],
    )


class _Events:
    """So that closing the answer closes the app's own generator."""

    def __init__(self, source: Iterable[object]) -> None:
        self._source = iter(source)

    def __iter__(self) -> _Events:
        return self

    def __next__(self) -> bytes:
        item = next(self._source)
        return bytes(item if isinstance(item, Event) else Event(item))

    def close(self) -> None:
        close = getattr(self._source, "close", None)
        if callable(close):
            close()


async def _async_events(source: AsyncIterable[object]) -> Any:
    async for item in source:
        yield bytes(item if isinstance(item, Event) else Event(item))


class _Source:
    """The file of an answer and of its copies; each takes it open, and nobody else has that handle."""

    __slots__ = ("_opened", "_process", "path")

    def __init__(self, opened: IO[bytes], path: Path | None) -> None:
        self._opened = [opened]
        self._process = os.getpid()
        #: None: somebody gave the open file, and closes it.
        self.path = path

    def take(self) -> IO[bytes]:
        """The file, open. Raises `NotFound` where its path has none any more."""
        try:
            opened = self._opened.pop()
        except IndexError:
            if self.path is None:
                raise RuntimeError(
                    "an answer made of an open file is sent once, and it was sent already\n"
                    "hint: `file(path)` opens the file for each request; or call `file` in the handler"
                ) from None
        else:
            if self.path is None or self._is_current(opened, self.path):
                return opened
            opened.close()
        return _open(self.path)

    def _is_current(self, opened: IO[bytes], path: Path) -> bool:
        # Another process goes on where this one has read to.
        if self._process != os.getpid():
            return False
        try:
            there = os.stat(path)
        except FileNotFoundError:  # a temporary file: what was opened is all there is
            return True
        return _stamp(there) == _stamp(os.fstat(opened.fileno()))

    def drop(self) -> None:
        """Nobody wants it."""
        if self.path is not None and self._opened:
            self._opened.pop().close()


def _open(path: Path) -> IO[bytes]:
    from .errors import NotFound

    try:
        return open(path, "rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise NotFound() from None


def _stamp(told: os.stat_result) -> tuple[int, int, int, int]:
    return told.st_dev, told.st_ino, told.st_mtime_ns, told.st_size


class FileBody:
    """Parts of a file, one after the other, perhaps with texts between them."""

    def __init__(
        self, source: _Source, pieces: list[bytes | tuple[int, int]], file: IO[bytes] | None = None
    ) -> None:
        self.file = file
        self.pieces = pieces
        self._source = source

    def __iter__(self) -> Iterator[bytes]:
        if self.file is None:
            self.file = self._source.take()
        for piece in self.pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            start, left = piece
            self.file.seek(start)
            while left > 0:
                data = self.file.read(min(left, READ_BYTES))
                if not data:
                    raise OSError("the file became shorter while it was sent")
                left -= len(data)
                yield data

    def close(self) -> None:
        if self.file is None:
            self._source.drop()
        elif self._source.path is not None:
            self.file.close()


class FileResponse(Response):
    """A file, made for the request when it is sent: conditions, ranges, the server's own way to send
    files.

    One of a path can be sent again and again, from a module's constant too.
    """

    __slots__ = ("_etag", "_is_ready", "_modified", "_size", "_source", "_wrapper")

    def __init__(self, source: _Source, size: int, modified: float, etag: str, headers: Fields) -> None:
        super().__init__(b"", 200, headers)
        self._source = source
        self._is_ready = False
        self._wrapper: Any = None
        self._tell(size, modified, etag)
        self.headers["Accept-Ranges"] = "bytes"

    def _tell(self, size: int, modified: float, etag: str) -> None:
        self._size = size
        self._modified = int(modified)
        self._etag = etag
        self.body = FileBody(self._source, [(0, size)])
        self.headers["ETag"] = etag
        self.headers["Last-Modified"] = _web.http_date(max(self._modified, 0))
        self.headers["Content-Length"] = str(size)

    def _copy(self) -> FileResponse:
        made = super()._copy()
        assert isinstance(made, FileResponse)
        made._is_ready = False
        return made

    def _prepare(self, request: _web.Request) -> Response:
        if self._is_ready or not isinstance(self.body, FileBody):
            return self
        opened = self._source.take()
        owned = self._source.path is not None
        if owned:
            told = os.fstat(opened.fileno())
            if not stat.S_ISREG(told.st_mode):
                opened.close()
                raise OSError(f"`{self._source.path}` is no regular file any more")
            if self._etag != _etag_of(told) and self.body.pieces == [(0, self._size)]:
                # It was changed since this answer was made.
                self._tell(told.st_size, told.st_mtime, _etag_of(told))
        self.body = FileBody(self._source, self.body.pieces, opened)
        self._is_ready = True
        self._wrapper = None
        environ = request.environ
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD") or self.status != 200:
            return self
        names = (
            "IF_MATCH", "IF_NONE_MATCH", "IF_MODIFIED_SINCE", "IF_UNMODIFIED_SINCE", "IF_RANGE", "RANGE",
        )  # fmt: skip
        fields = tuple(environ.get(f"HTTP_{name}") for name in names)
        status, parts = 200, [(0, self._size)]
        if any(fields):
            status, parts = _web.judge_file(fields, self._etag, self._modified, self._size, int(time.time()))
        self.status = status
        if status == 206 and len(parts) == 1:
            (start, length), size = parts[0], self._size
            self.headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
            self.headers["Content-Length"] = str(length)
            self.body = FileBody(self._source, list(parts), opened)
        elif status == 206:
            self._several(parts, opened)
        elif status != 200:
            if status == 416:
                self.headers["Content-Range"] = f"bytes */{self._size}"
            self.body.close()
            self.body = b""
            self.headers.pop("Content-Length")
            return self
        # A server's own wrapper sends from where the file stands to its end.
        last_start, last_length = parts[-1]
        wrapper = environ.get("wsgi.file_wrapper")
        if wrapper is not None and len(parts) == 1 and last_start + last_length == self._size and owned:
            opened.seek(last_start)
            self._wrapper = wrapper
        return self

    def _several(self, parts: list[tuple[int, int]], opened: IO[bytes]) -> None:
        boundary = secrets.token_hex(12)
        kind = self.headers.get("Content-Type", "application/octet-stream")
        pieces: list[bytes | tuple[int, int]] = []
        for start, length in parts:
            head = (
                f"--{boundary}\r\nContent-Type: {kind}\r\n"
                f"Content-Range: bytes {start}-{start + length - 1}/{self._size}\r\n\r\n"
            )
            pieces += [head.encode(), (start, length), b"\r\n"]
        pieces.append(f"--{boundary}--\r\n".encode())
        self.headers["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
        size = sum(len(piece) if isinstance(piece, bytes) else piece[1] for piece in pieces)
        self.headers["Content-Length"] = str(size)
        self.body = FileBody(self._source, pieces, opened)


def _etag_of(told: os.stat_result) -> str:
    return f'"{told.st_mtime_ns:x}-{told.st_size:x}"'


def file(
    source: str | os.PathLike[str] | IO[bytes],
    *,
    download: bool | str = False,
    content_type: str | None = None,
    max_age: int | None = None,
) -> Response:
    """A file by its path, or an open binary file that can be sought. Conditions and ranges are answered
    (RFC 9110).

    `download=True` or a name has the browser save it. `max_age` in seconds is how long caches may keep it.
    A path that is no regular file raises `NotFound`. Paths must not come from a client as they are:
    `app.static` is for that. The answer of a path can be a module's constant: the file is opened for each
    request. That of an open file is sent once.
    """
    from .errors import NotFound

    path: Path | None = None
    if isinstance(source, (str, os.PathLike)):
        # A module's constant may be sent after the process has gone to another folder.
        path = Path(source).absolute()
        opened = _open(path)
        name = path.name
    else:
        opened = source
        name = Path(str(getattr(source, "name", ""))).name
    try:
        number = opened.fileno()
    except (AttributeError, OSError):
        size = opened.seek(0, os.SEEK_END)
        opened.seek(0)
        modified, etag = time.time(), f'"{secrets.token_hex(8)}"'
    else:
        told = os.fstat(number)
        if path is not None and not stat.S_ISREG(told.st_mode):
            opened.close()
            raise NotFound()
        size, modified, etag = told.st_size, told.st_mtime, _etag_of(told)
    fields = [("Content-Type", content_type or _kind(name))]
    if download:
        fields.append(("Content-Disposition", disposition(download if isinstance(download, str) else name)))
    if max_age is not None:
        fields.append(("Cache-Control", f"max-age={int(max_age)}"))
    return FileResponse(_Source(opened, path), size, modified, etag, fields)


def _kind(name: str) -> str:
    kind: str = _web.media_type(name)
    return f"{kind}; charset=utf-8" if kind.startswith("text/") and "charset" not in kind else kind


def disposition(name: str) -> str:
    """`attachment` with a file name (RFC 6266): plain where it is ASCII, else in both forms."""
    name = _web.safe_filename(name)
    plain = name.encode("ascii", "replace").decode().replace("?", "_").replace("\\", "_").replace('"', "_")
    if plain == name:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{_quote(name, safe='')}"


def make(app: App | None, request: _web.Request, value: object, status: int = 200) -> Response:
    """What an error handler returned, as a `Response`; `status` where it names none."""
    if isinstance(value, tuple) and type(value) is tuple:
        if len(value) == 2 and not isinstance(value[1], int):
            body, fields = value
            response = make(app, request, body, status)
            response.headers.update(fields)
            return response
        if len(value) in (2, 3):
            body = value[0]
            if isinstance(body, Response):
                body = body._copy()
                body.status = int(value[1])
                if len(value) == 3:
                    body.headers.update(value[2])
                return body._prepare(request)
            response = make(app, request, body, int(value[1]))
            response.status = int(value[1])
            if len(value) == 3:
                response.headers.update(value[2])
            return response
        raise TypeError("a tuple is an answer as `(body, status)` or `(body, status, headers)`")
    if isinstance(value, Response):
        return value._copy()._prepare(request)
    if value is None:
        return Response(b"", status, [("Content-Type", HTML)])
    if isinstance(value, str):
        return Response(str(value), status)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return Response(bytes(value), status)
    made = convert(app, request, value) if not isinstance(value, (dict, list)) else value
    if isinstance(made, Response):
        made.status = status
        return made
    encoder = getattr(app, "json_encoder", None)
    return Response(_web.json_bytes(made, encoder), status, [("Content-Type", "application/json")])


def convert(app: App | None, request: _web.Request, value: Any) -> object:
    """What is neither a common type nor a record: a `Response`, or something that JSON knows."""
    if isinstance(value, Response):
        return value._prepare(request)
    if isinstance(value, str):
        return Response(str(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return Response(bytes(value), 200, [("Content-Type", "application/octet-stream")])
    if isinstance(value, (dict, list, tuple)):
        return value
    if type(value) is GeneratorType and not _in_loop():
        return Response(Begun(value), 200, [("Content-Type", HTML)])
    if hasattr(value, "__next__") or hasattr(value, "__anext__") or hasattr(value, "__aiter__"):
        return Response(value, 200, [("Content-Type", HTML)])
    if hasattr(value, "model_dump") or hasattr(value, "keys"):
        return value
    if hasattr(value, "__await__"):
        value.close() if hasattr(value, "close") else None
        raise TypeError("the handler returned a coroutine\nhint: make it `async def`, or await it")
    encoder = getattr(app, "json_encoder", None)
    if encoder is not None and not isinstance(value, (int, float)):
        simple = encoder(value)
        if simple is not value:
            return json.loads(_web.json_bytes(simple, encoder))
    raise TypeError(
        f"a handler returned `{type(value).__name__}`, which is no answer\n"
        "hint: return a text, bytes, a dict, a list, a dataclass, None, a Response or (body, status)"
    )

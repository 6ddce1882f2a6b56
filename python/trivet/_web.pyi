"""The Rust half of the framework (`crates/trivet-python/src/web.rs`)."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Protocol, final

from typing_extensions import Self, disjoint_base

from .app import App as TrivetApp
from .response import Fields as _Fields
from .response import Response
from .session import Session
from .values import Upload, Values

class _Body(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...
    def __iter__(self) -> _Body: ...
    def __next__(self) -> bytes: ...

@final
class Headers:
    """Header fields in order, by names in any case. A line break in a name or value is refused
    (`ValueError`).
    """

    def __new__(cls, fields: _Fields | None = None) -> Self: ...
    def add(self, name: str, value: object) -> None:
        """One more field, whether there is one of that name or not."""

    def __getitem__(self, name: str, /) -> str:
        """The first value of that name."""

    def __setitem__(self, name: str, value: object, /) -> None:
        """The only field of that name from now on."""

    def __delitem__(self, name: str, /) -> None: ...
    def __contains__(self, name: object, /) -> bool: ...
    def __iter__(self) -> Iterator[str]:
        """The names, each once, as they were first written."""

    def __len__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]
    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of that name."""

    def all(self, name: str) -> list[str]:
        """Every value of that name."""

    def setdefault(self, name: str, value: object) -> str:
        """Adds the field unless there is one of that name; gives the value that is there."""

    def pop(self, name: str, default: str | None = None) -> str | None:
        """Takes every field of that name out and gives the first value."""

    def items(self) -> list[tuple[str, str]]:
        """All fields in order."""

    def keys(self) -> list[str]:
        """The names, each once, as they were first written: makes `dict(headers)` work."""

    def update(self, fields: _Fields) -> None:
        """Each given field replaces those of its name; several given ones of one name all stay."""

    def vary(self, *names: str) -> None:
        """Adds names to `Vary` that are not in it."""

    def copy(self) -> Headers:
        """Another one with the same fields."""

@final
class Request:
    """A request. Texts are UTF-8, decoded once; what is not raises `BadRequest`. It can be made of any
    WSGI environ.
    """

    def __new__(cls, environ: dict[str, Any]) -> Self: ...
    @property
    def environ(self) -> dict[str, Any]:
        """The WSGI environ (PEP 3333)."""
    @property
    def app(self) -> TrivetApp:
        """The app that serves this request."""
    @property
    def route(self) -> Any:
        """The `Route` that was found, or None where nothing or no method fits."""
    @property
    def params(self) -> dict[str, Any]:
        """The path's parameters by name, converted."""
    @property
    def method(self) -> str:
        """`GET`, say: as the client sent it."""
    @property
    def path(self) -> str:
        """Decoded, below the mount; begins with `/`."""
    @property
    def script_name(self) -> str:
        """Where the app is mounted: empty, or a path without a slash at its end."""
    @property
    def query_string(self) -> str:
        """As it came, without its `?`."""
    @property
    def scheme(self) -> str:
        """`http` or `https`."""
    @property
    def host(self) -> str:
        """Host and port as the client named them, else the server's own."""
    @property
    def client(self) -> str:
        """The client's address as the server gives it, without a port; empty where there is none."""
    @property
    def base_url(self) -> str:
        """`https://example.com/app`, without a slash at its end."""
    @property
    def url(self) -> str:
        """The whole URL, with its query."""
    @property
    def content_type(self) -> str:
        """`text/html; charset=utf-8`, or empty."""
    @property
    def content_length(self) -> int | None:
        """Bytes of the body, or None where it is not known."""
    @property
    def query(self) -> Values[str]:
        """The query's parameters."""
    @property
    def form(self) -> Values[str]:
        """The form's fields; files are in `files`. Empty for any other body."""
    @property
    def files(self) -> Values[Upload]:
        """The form's files."""
    @property
    def cookies(self) -> dict[str, str]:
        """Cookies by name; of equal names the first, which is the most specific one."""
    @property
    def headers(self) -> Mapping[str, str]:
        """The fields of the request's head, by names in any case."""
    @property
    def body(self) -> bytes:
        """The whole body. Raises 413 beyond `body_bytes_max`."""
    @property
    def _kept_body(self) -> bytes | None: ...
    @property
    def stream(self) -> _Body:
        """The body as it comes. What was read so is not in `body` or `form`."""
    def json(self) -> Any:
        """What the body says as JSON; 400 where it is none, 415 for another content type."""
    @property
    def session(self) -> Session: ...
    @property
    def ctx(self) -> Any:
        """A place for whatever the app wants to keep with the request."""
    @property
    def reply_headers(self) -> Headers:
        """Fields that whatever answers will carry."""
    def url_for(self, name: str, /, **values: object) -> str:
        """The path of the route of that name for this client: with what the app is served below
        (`SCRIPT_NAME`) and where it is mounted. What is no parameter becomes the query.

        Names are looked for in the app of this request's route, then in those around it. Raises
        `LookupError` where no route has the name, `ValueError` where a value does not fit.
        """
    def after(self, function: Callable[[], object]) -> Callable[[], object]:
        """Has `function()` called once the answer has gone."""
    @property
    def _after(self) -> list[Callable[[], object]] | None: ...
    @property
    def _session(self) -> Session | None: ...
    @property
    def _reply_headers(self) -> Headers | None: ...

@disjoint_base
class App:
    def __new__(cls, *_args: Any, **_named: Any) -> Self: ...
    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
    def _serve(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]: ...
    def _load(
        self,
        told: dict[str, Any],
        check: Callable[[list[list[tuple[int, bool]]]], None],
        outer: Callable[..., Any] | None,
    ) -> None: ...
    def _open(self, environ: dict[str, Any]) -> Flight: ...

@final
class Flight:
    """A request between its two halves."""

    @property
    def is_async(self) -> bool: ...
    @property
    def is_around(self) -> bool: ...
    @property
    def request(self) -> Request: ...
    def call(self) -> Any: ...
    def run(self) -> Response | Awaitable[Any]: ...
    def finish(self, value: object) -> Response: ...
    def fail(self, error: BaseException) -> Response: ...

@final
class BodyStream:
    def read(self, size: int = ...) -> bytes: ...
    def __iter__(self) -> BodyStream: ...
    def __next__(self) -> bytes: ...

@final
class Router:
    """Routes and what stands behind them, whatever that is: for frameworks of one's own."""

    def __new__(cls) -> Self: ...
    def add(self, template: str, value: object, methods: list[str] | None = None) -> None:
        """Adds what `find` will give for paths of the template and these methods (GET if none are named)."""
    def find(self, environ: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """What stands behind the route of a request, and the path's parameters, converted.

        Raises `NotFound` or, with the methods that there are, `MethodNotAllowed`.
        """

@final
class Signer:
    """Signs texts and payloads in itsdangerous' wire format. The first key signs, all are believed."""

    def __new__(
        cls, keys: list[bytes], salt: str, digest: str = "sha256", derivation: str = "hmac"
    ) -> Self: ...
    def sign(self, value: str) -> str:
        """`value.signature`."""
    def unsign(self, signed: str) -> str:
        """The value of `value.signature`. Raises `ValueError` if no key of ours signed it."""
    def dump(self, payload: bytes, now: int) -> str:
        """A payload as a token with the time of signing, `now` in seconds since 1970."""
    def load(self, token: str, now: int, age_max: int | None = None) -> tuple[bytes, int]:
        """Payload and time of signing. Raises `ValueError` if it is not ours or older than `age_max`
        seconds.
        """

BUILD: str

def install(given: dict[str, Any]) -> None: ...
def json_bytes(value: object, encoder: Callable[[Any], Any] | None = None) -> bytes:
    """The JSON text of a value, as UTF-8. `encoder(value)` gives something simpler for what is unknown."""

def response_headers(fields: _Fields | None, content_type: str | None, is_text: bool, /) -> Headers:
    """The `Headers` of a new `Response`; a text is HTML unless somebody says otherwise."""

def is_hop_by_hop(name: str) -> bool:
    """Whether a field of an answer is about the connection, which is the server's (PEP 3333)."""

def send_response(
    response: Response, app: TrivetApp | None, is_head: bool, start: Callable[..., Any]
) -> Iterable[bytes]: ...
def response_head(response: Response, is_head: bool) -> tuple[int, list[tuple[str, str]], bool]: ...
def template_parameters(
    template: str, converters: Mapping[str, tuple[str, Callable[[str], Any]]], mount: bool = False
) -> list[tuple[str, str]]: ...
def pattern_captures(pattern: str) -> list[str]: ...
def check_expression(name: str, expression: str) -> None: ...
def build_path(
    template: str, converters: Mapping[str, tuple[str, Callable[[str], Any]]], values: list[tuple[str, str]]
) -> str: ...
def set_cookie(
    name: str,
    value: str,
    *,
    path: str | None = None,
    domain: str | None = None,
    max_age: int | None = None,
    expires: int | None = None,
    secure: bool = False,
    http_only: bool = False,
    same_site: str | None = None,
    partitioned: bool = False,
) -> str:
    """The value of a `Set-Cookie` field (RFC 6265bis). `expires`: seconds since 1970."""

def quote_segment(text: str) -> str:
    """Text as one segment of a path, percent-encoded."""

def quote_path(text: str) -> str:
    """A decoded path, percent-encoded, its slashes kept."""

def quote_reference(text: str) -> str:
    """A reference for a field like `Location`: what may not stand there is encoded."""

def is_safe_next(target: str) -> bool:
    """Whether a target stays on this site: one slash at its front, no control characters."""

def encode_query(pairs: list[tuple[str, str]]) -> str:
    """Pairs as `application/x-www-form-urlencoded`."""

def parse_query(data: bytes, parameters_max: int = 1000) -> list[tuple[str, str]]:
    """The pairs of a query or a form. Raises `ValueError` where they are not UTF-8 or too many."""

def safe_filename(name: str) -> str:
    """A client's name for a file, made safe as a file name of ours."""

def http_date(seconds: int) -> str:
    """Seconds since 1970 as an HTTP date."""

def media_type(name: str) -> str:
    """The media type of a file's name."""

def judge_file(
    fields: tuple[str | None, ...], etag: str, modified: int, size: int, now: int
) -> tuple[int, list[tuple[int, int]]]: ...

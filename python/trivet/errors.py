"""Errors that are answers: `raise NotFound()`, `raise HTTPError(429, "slow down")`."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar

PHRASES: dict[int, str] = {status.value: status.phrase for status in HTTPStatus}
PHRASES.update({413: "Content Too Large", 422: "Unprocessable Content"})


class HTTPError(Exception):
    """An answer with a status from 400 to 599.

    `detail` is shown to the client. `headers` go with the answer: a mapping or pairs.
    """

    status: int = 500
    _of_status: ClassVar[dict[int, type[HTTPError]]] = {}

    def __init__(
        self,
        status: int | None = None,
        detail: str = "",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> None:
        if status is not None:
            self.status = status
        if not 400 <= self.status <= 599:
            raise ValueError(f"an error's status is a number from 400 to 599, not {self.status}")
        self.detail = detail
        self.headers: list[tuple[str, str]] = list(
            headers.items() if isinstance(headers, Mapping) else headers or ()
        )
        super().__init__(self.status, detail)

    @property
    def phrase(self) -> str:
        """`Not Found`."""
        return PHRASES.get(self.status, "Error")

    def __str__(self) -> str:
        return f"{self.status} {self.phrase}" + (f": {self.detail}" if self.detail else "")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.status, self.detail, self.headers)


def _rebuild(cls: type[HTTPError], status: int, detail: str, headers: list[tuple[str, str]]) -> HTTPError:
    error = cls.__new__(cls)
    HTTPError.__init__(error, status, detail, headers)
    return error


class _Fixed(HTTPError):
    """A status with a class of its own, so that it can be caught and handled by name."""

    def __init__(
        self, detail: str = "", headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None
    ) -> None:
        super().__init__(None, detail, headers)

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        HTTPError._of_status.setdefault(cls.status, cls)


class BadRequest(_Fixed):
    """400: the request makes no sense."""

    status = 400


class Unauthorized(_Fixed):
    """401: who are you? RFC 9110 wants a `WWW-Authenticate` with it."""

    status = 401


class Forbidden(_Fixed):
    """403: not you."""

    status = 403


class NotFound(_Fixed):
    """404."""

    status = 404


class MethodNotAllowed(_Fixed):
    """405: the path is there, but not for this method."""

    status = 405


class NotAcceptable(_Fixed):
    """406: nothing of what the client accepts."""

    status = 406


class Conflict(_Fixed):
    """409: somebody else was faster."""

    status = 409


class Gone(_Fixed):
    """410: it was here."""

    status = 410


class PreconditionFailed(_Fixed):
    """412: it is not what the client thinks it is."""

    status = 412


class ContentTooLarge(_Fixed):
    """413: a limit; the detail names it."""

    status = 413


class UnsupportedMediaType(_Fixed):
    """415: a body of another type is wanted."""

    status = 415


class RangeNotSatisfiable(_Fixed):
    """416: no such part of the file."""

    status = 416


class UnprocessableContent(_Fixed):
    """422: well-formed, but not what is wanted."""

    status = 422


class TooManyRequests(_Fixed):
    """429: slow down."""

    status = 429


class InternalServerError(_Fixed):
    """500: our fault."""

    status = 500


class ServiceUnavailable(_Fixed):
    """503: not now."""

    status = 503


def error_for(status: int, detail: str = "", headers: Iterable[tuple[str, str]] | None = None) -> HTTPError:
    """The error of that status, of its own class if it has one."""
    error = HTTPError._of_status.get(status, HTTPError).__new__(HTTPError._of_status.get(status, HTTPError))
    HTTPError.__init__(error, status, detail, headers)
    return error


def wants_json(accept: str) -> bool:
    """Whether a client with this `Accept` is a program that reads JSON rather than a browser."""
    accept = accept.lower()
    return ("application/json" in accept or "+json" in accept) and "text/html" not in accept


def page(error: HTTPError, accept: str) -> tuple[bytes, str]:
    """Body and content type that say what went wrong: JSON where the client asks for it, else a small
    page.
    """
    detail = error.detail or ""
    if wants_json(accept):
        told: dict[str, Any] = {"status": error.status, "error": error.phrase}
        if detail:
            told["detail"] = detail
        return json.dumps(told, ensure_ascii=False).encode("utf-8", "replace"), "application/json"
    title = f"{error.status} {error.phrase}"
    more = f"\n<p>{html.escape(detail)}</p>" if detail else ""
    text = (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>{html.escape(title)}</title>\n<h1>{html.escape(title)}</h1>{more}\n</html>\n"
    )
    return text.encode("utf-8", "replace"), "text/html; charset=utf-8"

"""WSGI apps of others, mounted below a path."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._load import native
from .registry import WSGI
from .response import Response

if TYPE_CHECKING:
    from . import _web
else:
    _web = native("_web")


def answer(request: _web.Request, app: WSGI, below: str) -> Response:
    """What a WSGI app that is mounted answers, as a Response that interceptors can look at."""
    environ = dict(request.environ)
    path = environ.get("PATH_INFO", "")
    environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + path[: len(path) - len(below)]
    environ["PATH_INFO"] = below
    kept = request._kept_body
    if kept is not None:
        # Somebody before has read it.
        environ["wsgi.input"] = io.BytesIO(kept)
    told: list[Any] = []
    written: list[bytes] = []

    def start_response(
        status: str, fields: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if told and exc_info is None:
            raise AssertionError("`start_response` was called twice without an exception (PEP 3333)")
        told[:] = [int(status[:3]), list(fields)]
        return written.append

    result = app(environ, start_response)
    if isinstance(result, (list, tuple)) and told:
        body = b"".join([*written, *result])
        # To HEAD an app need not say how long the body would be; then nobody does.
        if body or environ.get("REQUEST_METHOD") != "HEAD":
            return Response(body, told[0], _end_to_end(told[1]))
    try:
        iterator = iter(result)
        # PEP 3333 lets an app call `start_response` as late as with its first piece.
        first = b"" if told else next(iterator, b"")
        if not told:
            raise AssertionError("the mounted app did not call `start_response` (PEP 3333)")
        response = Response(b"", told[0], _end_to_end(told[1]))
    except BaseException:
        close = getattr(result, "close", None)
        if callable(close):
            close()
        raise
    response.body = _Foreign([*written, first], iterator, result)
    return response


def _end_to_end(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without those about the connection, which is not the mounted app's."""
    return [field for field in fields if not _web.is_hop_by_hop(field[0])]


class _Foreign:
    def __init__(self, first: list[bytes], rest: Any, result: Any) -> None:
        self._first = [piece for piece in first if piece]
        self._rest = rest
        self._result = result

    def __iter__(self) -> _Foreign:
        return self

    def __next__(self) -> bytes:
        if self._first:
            return self._first.pop(0)
        piece: bytes = next(self._rest)
        return piece

    def close(self) -> None:
        close = getattr(self._result, "close", None)
        if callable(close):
            close()

"""What a client gets where something went wrong, and what the log says of it."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import errors, plan
from ._load import native
from .errors import HTTPError
from .registry import StartError
from .response import Response

if TYPE_CHECKING:
    from . import _web
    from .app import App
else:
    _web = native("_web")


def check_handler(handler: Callable[..., Any]) -> None:
    """Raises `StartError` for an error handler that asks for what it will not get."""
    try:
        annotations = inspect.get_annotations(handler, eval_str=True)
    except Exception:  # noqa: BLE001  names for type checkers alone: then nobody can be misled by them
        return
    for name, annotation in annotations.items():
        if name == "return" or not isinstance(annotation, type):
            continue
        if not (issubclass(annotation, BaseException) or annotation in (_web.Request, object)):
            raise StartError(
                f"the error handler {plan.describe(handler)} takes `{name}: {annotation.__name__}`\n"
                "hint: an error handler takes the exception and the request, nothing else"
            )


def call_handler(app: App, handler: Callable[..., Any], error: BaseException, request: _web.Request) -> Any:
    """An error handler takes the exception, the request, both, or nothing."""
    parameters = [
        p
        for p in inspect.signature(handler).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    given: list[Any] = []
    for parameter in parameters:
        if parameter.name in plan.REQUEST_NAMES:
            given.append(request)
        elif not given or (request in given and len(given) == 1):
            given.append(error)
        elif parameter.default is parameter.empty:
            given.append(request)
    value = handler(*given)
    if inspect.isawaitable(value):
        from .coroutines import wait

        value = wait(app, value)
    return value


def default_answer(request: _web.Request, error: HTTPError) -> Response:
    """A small page, or JSON where the client asks for it."""
    body, kind = errors.page(error, request.environ.get("HTTP_ACCEPT", ""))
    response = Response(body, error.status, [("Content-Type", kind)])
    response.headers.vary("Accept")
    for name, value in error.headers:
        response.headers.add(name, value)
    return response


def report(environ: dict[str, Any], error: BaseException) -> None:
    """Writes the traceback to the server's log."""
    out = environ.get("wsgi.errors") or sys.stderr
    line = f"{environ.get('REQUEST_METHOD', '?')} {environ.get('PATH_INFO', '?')!r}"
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    out.write(f"exception on {line}\n{text}")
    flush = getattr(out, "flush", None)
    if callable(flush):
        flush()

"""Trivet: web server, application server and small web framework for Python.

`from trivet import App` is the framework; the program is `trivet run module:app`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._load import native

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ._web import Request as Request
    from ._web import Router as Router
    from ._web import Signer as Signer
    from ._web import is_safe_next as is_safe_next
    from .app import App as App
    from .app import Group as Group
    from .app import Interceptor as Interceptor
    from .app import Route as Route
    from .app import StartError as StartError
    from .asgi import WebSocket as WebSocket
    from .cors import CORS as CORS
    from .errors import BadRequest as BadRequest
    from .errors import Conflict as Conflict
    from .errors import ContentTooLarge as ContentTooLarge
    from .errors import Forbidden as Forbidden
    from .errors import Gone as Gone
    from .errors import HTTPError as HTTPError
    from .errors import MethodNotAllowed as MethodNotAllowed
    from .errors import NotFound as NotFound
    from .errors import TooManyRequests as TooManyRequests
    from .errors import Unauthorized as Unauthorized
    from .errors import UnprocessableContent as UnprocessableContent
    from .errors import UnsupportedMediaType as UnsupportedMediaType
    from .markers import Body as Body
    from .markers import Form as Form
    from .markers import Query as Query
    from .plan import PlanError as PlanError
    from .response import Event as Event
    from .response import Headers as Headers
    from .response import Response as Response
    from .response import events as events
    from .response import file as file
    from .response import redirect as redirect
    from .response import stream as stream
    from .session import MemoryStore as MemoryStore
    from .session import Session as Session
    from .session import Sessions as Sessions
    from .values import Upload as Upload

#: Where each public name is. They are loaded when first asked for: `python -m trivet` and the worker need
# none of them.
_PLACES = {
    "App": "app", "Group": "app", "Interceptor": "app", "Route": "app", "StartError": "app",
    "WebSocket": "asgi",
    "CORS": "cors",
    "BadRequest": "errors", "Conflict": "errors", "ContentTooLarge": "errors", "Forbidden": "errors",
    "Gone": "errors", "HTTPError": "errors", "MethodNotAllowed": "errors", "NotFound": "errors",
    "TooManyRequests": "errors", "Unauthorized": "errors", "UnprocessableContent": "errors",
    "UnsupportedMediaType": "errors",
    "Body": "markers", "Form": "markers", "Query": "markers",
    "PlanError": "plan",
    "Event": "response", "Headers": "response", "Response": "response", "events": "response",
    "file": "response", "redirect": "response", "stream": "response",
    "MemoryStore": "session", "Session": "session", "Sessions": "session",
    "Upload": "values",
    "Request": "_web", "Router": "_web", "Signer": "_web", "is_safe_next": "_web",
}  # fmt: skip

__all__ = [*sorted(_PLACES), "__version__"]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module `trivet` has no attribute `{name}`")
    # The app's module gives the Rust half what it needs: whoever takes one of its classes needs that too.
    importlib.import_module("trivet.app")
    value = getattr(native("_web") if place == "_web" else importlib.import_module(f"trivet.{place}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)

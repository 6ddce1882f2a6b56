"""Asks any WSGI or ASGI application without a socket, keeping cookies as a browser does.

::

    with Client(app) as client:
        response = client.post("/login", form={"name": "ada"}, follow=True)
        assert response.status == 200 and "Welcome" in response.text

What is an ASGI application is told by its being a coroutine function, or an object whose ``__call__`` is
one. Such a one runs on a loop in a thread of the client's own; ``with`` sends it the lifespan's events.
"""

from __future__ import annotations

from .answers import Headers, Response, WebSocketClosed, WebSocketRefused
from .asgi import WebSocket
from .client import Client
from .cookies import Cookie, Cookies

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

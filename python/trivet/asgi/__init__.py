"""`app.asgi`: the same app for ASGI servers.

A request is opened and finished as under WSGI. In between, an `async def` handler runs on the loop. All that
is not async runs in threads (`lanes`): of one request always in the same one, interceptors, providers,
handler and the pieces of its answer.
"""

from __future__ import annotations

import asyncio
import os
from functools import cached_property
from typing import TYPE_CHECKING

from .environ import Input, Receive, Scope, Send, environ_of
from .http import Http
from .lanes import Ended, Lanes
from .websocket import Conversation, Disconnected, WebSocket

if TYPE_CHECKING:
    from ..app import App

__all__ = ["Asgi", "Disconnected", "WebSocket"]


class Asgi:
    """An ASGI app (version 3) for http, websocket and lifespan."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._lanes_here = Lanes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._serve(scope, receive, send)
        except (SystemExit, KeyboardInterrupt) as error:
            raise Ended(error) from error

    @property
    def _lanes(self) -> Lanes:
        # A forked child has the object but not the threads.
        if self._lanes_here.pid != os.getpid():
            self._lanes_here = Lanes()
        return self._lanes_here

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(receive, send)
        elif kind == "http":
            body = Input(receive, asyncio.get_running_loop())
            await Http(self, environ_of(scope, body), body).serve(send)
        elif kind == "websocket":
            message = await receive()
            if message["type"] == "websocket.connect":
                body = Input(receive, asyncio.get_running_loop(), ended=True)
                socket = WebSocket(scope, receive, send)
                await Conversation(self, environ_of(scope, body), body, socket).serve()
        else:
            raise RuntimeError(f"an ASGI scope of type `{kind}` is not known")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    self._app.freeze()
                except Exception as error:  # noqa: BLE001 - the server prints it and ends
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _may_block(self, method: str) -> bool:
        """Whether the way to the handler may run code of the app, or wait for the body."""
        app = self._app
        if app._wraps:
            raise RuntimeError("`wrap` is for WSGI middlewares: put ASGI middlewares around `app.asgi`")
        return (
            method not in ("GET", "HEAD", "OPTIONS")
            or app.sessions.store is not None
            or app._runs_more_than_handlers
            or self._reads_without_post
        )

    @cached_property
    def _reads_without_post(self) -> bool:
        """Whether an argument for GET, HEAD or OPTIONS comes from the body. The app is frozen."""
        return any(
            parameter.source in ("body", "form", "upload")
            for route in self._app.routes()
            if not {"GET", "HEAD", "OPTIONS"}.isdisjoint(route.methods)
            for parameter in route.parameters
        )

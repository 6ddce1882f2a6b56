"""WebSockets (RFC 6455): what a handler gets, and the handler's life."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .._load import native
from ..response import Response
from .environ import Input, Receive, Scope, Send
from .exchange import Exchange
from .http import encoded_fields

if TYPE_CHECKING:
    from .. import _web
    from . import Asgi
else:
    _web = native("_web")


class Disconnected(Exception):
    """The other end of a WebSocket has gone. `code` is RFC 6455's."""

    def __init__(self, code: int = 1005, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class WebSocket:
    """A WebSocket (RFC 6455): `async for message in ws: await ws.send(message)`.

    It is accepted by the first `receive` or `send`, or by `accept`. Messages are texts or bytes.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._state = "new"

    @property
    def subprotocols(self) -> list[str]:
        """What the client offers."""
        return list(self._scope.get("subprotocols") or ())

    async def accept(self, subprotocol: str | None = None) -> None:
        """Completes the handshake."""
        if self._state != "new":
            raise RuntimeError("the WebSocket has been accepted or closed already")
        self._state = "open"
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})

    async def receive(self) -> str | bytes:
        """The next message. Raises `Disconnected` when there is none any more."""
        if self._state == "new":
            await self.accept()
        if self._state != "open":
            raise Disconnected()
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._state = "closed"
            raise Disconnected(message.get("code", 1005), message.get("reason") or "")
        text = message.get("text")
        data: str | bytes = text if text is not None else message.get("bytes") or b""
        return data

    async def send(self, message: object) -> None:
        """Sends a text, bytes, or anything else as JSON."""
        if self._state == "new":
            await self.accept()
        if self._state != "open":
            raise Disconnected()
        if isinstance(message, (bytes, bytearray, memoryview)):
            await self._send({"type": "websocket.send", "bytes": bytes(message)})
        else:
            text = message if isinstance(message, str) else _web.json_bytes(message).decode()
            await self._send({"type": "websocket.send", "text": text})

    async def json(self) -> Any:
        """The next message, read as JSON."""
        return json.loads(await self.receive())

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Says goodbye; before the handshake, refuses it."""
        if self._state != "closed":
            self._state = "closed"
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    def __aiter__(self) -> WebSocket:
        return self

    async def __anext__(self) -> str | bytes:
        try:
            return await self.receive()
        except Disconnected:
            raise StopAsyncIteration from None


class Conversation(Exchange):
    """One WebSocket, from its handshake to its end."""

    def __init__(self, asgi: Asgi, environ: dict[str, Any], body: Input, socket: WebSocket) -> None:
        super().__init__(asgi, environ, body)
        self.socket = socket
        environ["trivet.websocket"] = socket

    async def serve(self) -> None:
        """Runs the handler; nothing is open after it."""
        try:
            await self._serve()
        finally:
            self.end()

    async def _serve(self) -> None:
        socket = self.socket
        await self.open()
        if self.response is not None:
            await self._refuse(self.response)
            return
        try:
            await self.handle()
        except Disconnected:
            response = await self.finish(None)
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - it is logged or raised there
            response = await self.fail(error)
            if socket._state == "new":
                await self._refuse(response)
            else:
                await self._end_of(response, 1011)
            return
        except BaseException as error:
            await self.cancel(error)
            raise
        else:
            response = await self.finish(None)
        await self._end_of(response, 1000)

    async def _end_of(self, response: Response, code: int) -> None:
        try:
            await self.socket.close(code)
        finally:
            await self.close(response)

    async def _refuse(self, response: Response) -> None:
        """An HTTP answer where the server can send one, else its own 403."""
        socket = self.socket
        try:
            if "websocket.http.response" in (socket._scope.get("extensions") or {}):
                status, fields, _ = _web.response_head(response, False)
                await socket._send(
                    {
                        "type": "websocket.http.response.start",
                        "status": status,
                        "headers": encoded_fields(fields),
                    }
                )
                body = response.body
                data = body if isinstance(body, bytes) else b""
                await socket._send({"type": "websocket.http.response.body", "body": data})
            else:
                await socket._send({"type": "websocket.close", "code": 1008, "reason": ""})
        finally:
            await self.close(response)

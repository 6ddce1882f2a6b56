"""An HTTP request under ASGI: its answer, sent as it is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from .._load import native
from ..response import Response, encoded
from .environ import Send
from .exchange import Exchange
from .lanes import Ended

if TYPE_CHECKING:
    from .. import _web
else:
    _web = native("_web")


class Http(Exchange):
    """One request, from its begin to its end."""

    async def serve(self, send: Send) -> None:
        """Asks the app and sends what it answers."""
        try:
            response = await self._ask()
            await self._answer(response, send)
        finally:
            self.end()

    async def _ask(self) -> Response:
        await self.open()
        if self.response is not None:
            return self.response
        try:
            await self.body.prefetch(self.asgi._app._limits[0])
            value = await self.handle()
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - the app's error handlers look at it
            return await self.fail(error)
        except BaseException as error:
            await self.cancel(error)
            raise
        return await self.finish(value)

    async def _answer(self, response: Response, send: Send) -> None:
        is_head = self.environ["REQUEST_METHOD"] == "HEAD"
        try:
            status, fields, bodiless = _web.response_head(response, is_head)
            await send({"type": "http.response.start", "status": status, "headers": encoded_fields(fields)})
            content = response.body
            if bodiless or isinstance(content, bytes):
                data = b"" if bodiless else content
                await send({"type": "http.response.body", "body": data})
            else:
                await self._stream(response, send)
        finally:
            await self.close(response)

    async def _stream(self, response: Response, send: Send) -> None:
        content = response.body
        iterator = aiter(content if hasattr(content, "__aiter__") else self._pieces(content))
        gone = asyncio.ensure_future(self.body.disconnected())
        step: asyncio.Future[Any] | None = None
        try:
            while True:
                step = asyncio.ensure_future(_next(iterator))
                await asyncio.wait((step, gone), return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    break
                piece = step.result()
                if piece is None:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    return
                data = encoded(piece)
                if data:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        except Exception as error:
            if response._lenders:
                await self.lane.run(response._give_back, error)
            raise
        finally:
            gone.cancel()
            if step is not None and not step.done():
                step.cancel()
                await asyncio.wait((step,))
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    async def _pieces(self, content: Any) -> AsyncIterator[object]:
        """What a plain iterable gives, each piece a step of the lane."""
        iterator: Iterator[object] | None = None
        end = object()

        def step() -> object:
            nonlocal iterator
            if iterator is None:
                iterator = iter(content)
            return next(iterator, end)

        while (piece := await self.lane.run(step)) is not end:
            yield piece


def encoded_fields(fields: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """As ASGI has them: bytes, names in lower case."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields]


async def _next(iterator: AsyncIterator[Any]) -> Any:
    try:
        async for piece in iterator:
            return piece
    except (SystemExit, KeyboardInterrupt) as error:
        raise Ended(error) from error
    return None

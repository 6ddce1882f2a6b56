"""A request between its environ and its answer: what runs in its lane, and what is awaited."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from .. import failing
from .._load import native
from ..errors import HTTPError
from ..response import FileBody, Response
from .environ import Input
from .lanes import Busy, Ended, Lane, Need

if TYPE_CHECKING:
    from .. import _web
    from . import Asgi
else:
    _web = native("_web")

#: What a handler may raise that ends the process where nobody else catches it.
ENDING = (Ended, SystemExit, KeyboardInterrupt)


class Exchange:
    """Opened and finished as under WSGI (`_web.App._open`); in between, the loop awaits what is awaitable."""

    def __init__(self, asgi: Asgi, environ: dict[str, Any], body: Input) -> None:
        self.asgi = asgi
        self.environ = environ
        self.body = body
        self.lane = Lane(asgi._lanes, self._needs)
        body.waiting = self.lane.aside
        self.flight: _web.Flight | None = None
        self.response: Response | None = None
        #: What a handler gave that is no `async def`, but gives something to await.
        self.awaitable: Awaitable[Any] | None = None

    async def open(self) -> None:
        """To the answer, or to what has to be awaited for one."""
        app = self.asgi._app
        app.freeze()
        try:
            await self._open()
        except ENDING as error:
            self.response = self._ended(error)
        except Busy:
            self.response = self._busy()
        if self.response is None:
            self.lane.tell()

    async def _open(self) -> None:
        app = self.asgi._app
        if self.asgi._may_block(self.environ["REQUEST_METHOD"]):
            await self.lane.run(self._begin, undo=self._give_up, must=False)
        else:
            self.flight = app._open(self.environ)
            if self.flight.is_async:
                self.lane.begun = True
            else:
                # The handler may begin what goes on while its answer is sent.
                await self.lane.run(self._call, undo=self._give_up, must=False)

    async def handle(self) -> Any:
        """The value of what is awaited."""
        assert self.flight is not None, "there is no answer yet"
        value = self.flight.call() if self.awaitable is None else self.awaitable
        return await value if inspect.isawaitable(value) else value

    async def finish(self, value: object) -> Response:
        """The answer for the handler's value."""
        assert self.flight is not None, "there is no answer yet"
        if not self.lane.used:
            try:
                self.response = self.flight.finish(value)
            except ENDING as error:
                self.response = self._ended(error)
            return self.response
        return await self._end(self.flight.finish, value)

    async def fail(self, error: BaseException) -> Response:
        """The answer for the handler's exception."""
        assert self.flight is not None, "there is no answer yet"
        return await self._end(self.flight.fail, error)

    async def cancel(self, error: BaseException) -> None:
        """Providers and interceptors are told, and nothing is answered."""
        if self.lane.thread is None:
            self._give_up(error)
            return
        told = self.lane.submit(self._give_up, error)
        if isinstance(error, asyncio.CancelledError):
            await asyncio.shield(asyncio.wrap_future(told))

    async def close(self, response: Response) -> None:
        """Whatever waits for the end of the answer, whether somebody waits for it or not."""
        if response._closers or not isinstance(response.body, bytes):
            await self.lane.run(response.close, undo=bool)

    def end(self) -> None:
        """Nothing is asked any more; what was given to the lane is still done."""
        self.lane.leave()
        # It knows us: what the request held is free now, not when the collector comes.
        del self.lane
        self.body.waiting = nullcontext

    # In the lane

    def _begin(self) -> None:
        self.flight = self.asgi._app._open(self.environ)
        if not self.flight.is_async:
            self._call()
        elif self._is_one_too_many():
            self.response = self.flight.fail(HTTPError(503))

    def _call(self) -> None:
        """Runs the handler in the thread of its providers: some of what they give belongs to a thread."""
        assert self.flight is not None, "it has been opened"
        given = self.flight.run()
        if isinstance(given, Response):
            self.response = given
            if self._is_one_too_many():
                self.response = self._busy()
                with suppress(HTTPError):
                    given._give_back(HTTPError(503))
                given.close()
        else:
            self.awaitable = given
            if self._is_one_too_many():
                close = getattr(given, "close", None)
                if close is not None:
                    close()
                self.response = self.flight.fail(HTTPError(503))

    async def _end(self, how: Any, what: object) -> Response:
        def end() -> Response:
            response: Response = how(what)
            self.response = response
            return response

        self.lane.hear()
        try:
            response = await self.lane.run(end, undo=self._give_up)
        except ENDING as error:
            self.response = response = self._ended(error)
        self.lane.tell()
        return response

    def _busy(self) -> Response:
        return failing.default_answer(_web.Request(self.environ), HTTPError(503))

    def _ended(self, error: BaseException) -> Response:
        """500, as under WSGI: no error handler is asked."""
        ended = error if isinstance(error, Ended) else Ended(error)
        if ended is not error:
            ended.__cause__ = error
        if self.asgi._app.propagate_errors:
            raise ended
        failing.report(self.environ, ended)
        return failing.default_answer(_web.Request(self.environ), HTTPError(500))

    def _is_one_too_many(self) -> bool:
        """Whether it would have to keep its thread, and so many do that no other may."""
        return self._needs() is Need.ALONE and not self.lane.keep()

    def _give_up(self, error: BaseException | None = None) -> None:
        """Ends what nobody waits for any more, so that everything around it is told."""
        response = self.response
        if response is None:
            if self.flight is None:
                return
            error = error or asyncio.CancelledError()
            try:
                response = self.flight.fail(error)
            except BaseException as raised:
                if raised is error:
                    return
                raise
        response.close()

    def _needs(self) -> Need:
        """Nobody may meet what a generator around the request has open, or what is open in a transaction."""
        response = self.response
        if response is None:
            around, goes_on = self.flight is not None and self.flight.is_around, False
        else:
            around, goes_on = bool(response._lenders), _goes_on(response.body)
        if around or _in_transaction():
            return Need.ALONE
        return Need.SAME if goes_on else Need.ANY


def _goes_on(body: object) -> bool:
    """Whether code of the app goes on while the body is sent. A file is read in any thread."""
    return not isinstance(body, (bytes, FileBody)) and not hasattr(body, "__aiter__")


def _in_transaction() -> bool:
    # Who has not imported it has none open.
    transactions: Any = sys.modules.get("trivet.db.transactions")
    return transactions is not None and transactions.is_in_one()

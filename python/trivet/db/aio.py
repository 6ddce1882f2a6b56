"""The database for asynchronous code: the same statements, waited for in threads."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from .engine import Engine
from .errors import OperationalError, ProgrammingError
from .rows import Result, Row, only_row, only_value
from .statements import Plan, bind, bound_rows
from .transactions import Block, Transactions, owner

T = TypeVar("T")


class AsyncDatabase:
    """`db.a`: `await db.a.query(…)` and the others, as of `Database`.

    Statements run in at most as many threads as there are connections (8 for SQLite). The transaction is
    looked up when the method is called, so `asyncio.wait_for(db.a.query(…), 5)` is in the caller's.
    """

    def __init__(self, engine: Engine, transactions: Transactions, plan: Callable[[str], Plan]) -> None:
        self._engine = engine
        self._transactions = transactions
        self._plan = plan
        self._pid = 0
        self._starting = threading.Lock()
        self._free: ThreadPoolExecutor | None = None
        self._bound: ThreadPoolExecutor | None = None

    def query(self, sql: str, /, *values: Any, **named: Any) -> Coroutine[Any, Any, list[Row]]:
        """All rows of the answer, as `Database.query`."""
        plan = self._plan(sql)
        bound = bind(plan, values, named)
        return self._run(plan, lambda held: self._engine.query(held, plan, bound))

    def one(self, sql: str, /, *values: Any, **named: Any) -> Coroutine[Any, Any, Row | None]:
        """The only row or None, as `Database.one`."""
        return self._then(self.query(sql, *values, **named), sql, only_row)

    def value(self, sql: str, /, *values: Any, **named: Any) -> Coroutine[Any, Any, Any]:
        """The only column of the only row, as `Database.value`."""
        return self._then(self.query(sql, *values, **named), sql, only_value)

    def execute(self, sql: str, /, *values: Any, **named: Any) -> Coroutine[Any, Any, Result]:
        """Runs a statement whose rows nobody wants, as `Database.execute`."""
        plan = self._plan(sql)
        bound = bind(plan, values, named)
        return self._run(plan, lambda held: self._engine.execute(held, plan, bound))

    def executemany(
        self, sql: str, rows: Iterable[Iterable[Any] | Mapping[str, Any]], /
    ) -> Coroutine[Any, Any, Result]:
        """Runs a statement for each of the rows, as `Database.executemany`."""
        plan = self._plan(sql)
        bound = list(bound_rows(plan, rows))
        return self._run(plan, lambda held: self._engine.executemany(held, plan, bound))

    def tx(self) -> AsyncTransaction:
        """`async with db.a.tx():`, as `Database.tx`; it belongs to its task."""
        return AsyncTransaction(self)

    def close(self) -> None:
        """Lets the threads end that wait for work."""
        with self._starting:
            executors, self._free, self._bound = (self._free, self._bound), None, None
            for executor in executors:
                if executor is not None and self._pid == os.getpid():
                    executor.shutdown(wait=False)

    def _run(self, plan: Plan, statement: Callable[[Any], T]) -> Coroutine[Any, Any, T]:
        held = self._transactions.held(plan)
        block = self._transactions.block()
        if held is None or block is None:
            return self._in_thread(lambda: statement(None), bound=False)
        if not isinstance(block, AsyncBlock):
            raise ProgrammingError(
                "inside of `with db.tx():` statements are not awaited\nhint: `async with db.a.tx():`"
            )
        return self._in_thread(lambda: block.run(statement), bound=True)

    async def _then(
        self, rows: Coroutine[Any, Any, list[Row]], sql: str, pick: Callable[[list[Row], str], T]
    ) -> T:
        return pick(await rows, sql)

    async def _in_thread(self, work: Callable[[], T], bound: bool) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor(bound), work)

    async def _to_the_end(self, work: Callable[[], T], bound: bool) -> T:
        """As `_in_thread`; a task that is cancelled meanwhile waits all the same, so that nothing is left
        half done.
        """
        future = asyncio.get_running_loop().run_in_executor(self._executor(bound), work)
        cancelled: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await asyncio.shield(future)
            except asyncio.CancelledError as error:
                if future.cancelled():
                    raise
                cancelled = error
            except BaseException:  # noqa: BLE001 - the future is asked below
                break
        if cancelled is not None:
            future.exception()
            raise cancelled
        return future.result()

    def _executor(self, bound: bool) -> ThreadPoolExecutor:
        """Transactions have threads of their own.

        A statement in one never queues behind those that wait for it.
        """
        with self._starting:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                self._free = self._bound = None
            if self._free is None or self._bound is None:
                workers = self._engine.workers
                self._free = ThreadPoolExecutor(workers, "trivet-db")
                self._bound = ThreadPoolExecutor(workers, "trivet-db-tx")
            return self._bound if bound else self._free


class AsyncBlock(Block):
    """A block whose steps run in threads, one at a time."""

    __slots__ = ("turn",)
    asynchronous = True

    def __init__(self, transactions: Transactions) -> None:
        super().__init__(transactions)
        parent = self.parent
        self.turn: threading.Lock = parent.turn if isinstance(parent, AsyncBlock) else threading.Lock()

    def run(self, statement: Callable[[Any], T]) -> T:
        with self.turn:
            if self.ended:
                raise ProgrammingError("the transaction has ended")
            return statement(self.held)

    def begin_in_turn(self) -> None:
        with self.turn:
            self.begin()

    def finish_in_turn(self, keep: bool) -> None:
        # A statement that nobody waits for any more, since its task was cancelled, comes to its end first.
        with self.turn:
            self.finish(keep)


class AsyncTransaction:
    """What `db.a.tx` gives: an asynchronous context manager, for one use at a time."""

    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database
        self._block: AsyncBlock | None = None

    async def __aenter__(self) -> AsyncTransaction:
        if self._block is not None:
            raise ProgrammingError("this transaction is already open\nhint: call `db.a.tx()` again")
        database = self._database
        block = AsyncBlock(database._transactions)
        try:
            await database._to_the_end(block.begin_in_turn, bound=block.parent is not None)
        except asyncio.CancelledError:
            if block.held is not None:
                await database._to_the_end(lambda: block.finish_in_turn(False), bound=True)
            raise
        block.enter()
        self._block = block
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        block, self._block = self._block, None
        assert block is not None, "a context manager is left after it was entered"
        block.leave()
        elsewhere = block.owner != owner() and block.owner[0] == os.getpid()
        keep = kind is None and not elsewhere
        try:
            await self._database._to_the_end(lambda: block.finish_in_turn(keep), bound=True)
        except OperationalError:
            if kind is None:
                raise
        if elsewhere and kind is None:
            raise ProgrammingError("the transaction was left in another task, and rolled back")

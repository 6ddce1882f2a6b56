"""Transactions: who is in one, and how it ends."""

from __future__ import annotations

import os
import sys
import threading
from contextvars import ContextVar, copy_context
from types import TracebackType
from typing import Any, ClassVar

from .engine import Engine
from .errors import OperationalError, ProgrammingError
from .statements import Plan

Owner = tuple[int, int, Any]


def owner() -> Owner:
    """Process, thread and, in an event loop, task."""
    return os.getpid(), threading.get_ident(), current_task()


def current_task() -> Any:
    # Who has not imported asyncio runs no loop.
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    loop = asyncio._get_running_loop()
    return None if loop is None else asyncio.current_task(loop)


class Transactions:
    """The open transaction of each context, for one database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.current: ContextVar[Block | None] = ContextVar("trivet.db.tx", default=None)

    def block(self) -> Block | None:
        """The innermost open block of this thread or task. Raises `ProgrammingError` if it is another's."""
        block = self.current.get()
        while block is not None and block.ended:
            block = block.parent
        if block is None:
            return None
        if block.owner != owner():
            whose = "process" if block.owner[0] != os.getpid() else "thread or task"
            raise ProgrammingError(
                f"the transaction belongs to another {whose}\n"
                "hint: start threads and tasks outside of it, or run the statement where it was begun"
            )
        return block

    def held(self, plan: Plan) -> Any:
        """The open transaction's connection, None outside of one.

        Raises if the statement cannot be part of it.
        """
        block = self.block()
        if block is None:
            return None
        if block.held.broken:
            raise OperationalError(f"the transaction was given up: {block.held.broken}", sql=plan.original)
        if plan.commits and self.engine.dialect == "mysql":
            raise ProgrammingError(
                f"`{plan.verb}` would commit the transaction: MySQL has no undo for it\n"
                "hint: run it before `with db.tx():`",
                sql=plan.original,
            )
        return block.held


def is_in_one() -> bool:
    """Whether a `with db.tx():` of any database is open here: it belongs to this thread or task."""
    here = owner()
    for block in copy_context().values():
        while isinstance(block, Block):
            if not block.ended and not block.asynchronous and block.owner == here:
                return True
            block = block.parent
    return False


class Block:
    """One `with db.tx():`, whether it waits in a thread or in a task: a transaction, or a savepoint in one.

    Its three steps touch the database; `enter` and `leave` do not.
    """

    __slots__ = ("ended", "held", "owner", "parent", "savepoint", "transactions")
    asynchronous: ClassVar[bool] = False

    def __init__(self, transactions: Transactions) -> None:
        self.transactions = transactions
        self.parent = transactions.block()
        if self.parent is not None and self.parent.asynchronous != self.asynchronous:
            raise ProgrammingError("`with db.tx():` and `async with db.a.tx():` cannot be in each other")
        depth = 0
        block = self.parent
        while block is not None:
            depth += 1
            block = block.parent
        self.savepoint = f"trivet_{depth}" if depth else None
        self.owner = owner()
        self.held: Any = None
        self.ended = False

    def begin(self) -> None:
        engine = self.transactions.engine
        if self.parent is None:
            self.held = engine.begin()
            return
        self.held = self.parent.held
        if self.held.broken:
            raise OperationalError(f"the transaction was given up: {self.held.broken}")
        engine.savepoint(self.held, f"SAVEPOINT {self.savepoint}")

    def enter(self) -> None:
        self.transactions.current.set(self)

    def leave(self) -> None:
        self.ended = True
        self.transactions.current.set(self.parent)

    def finish(self, keep: bool) -> None:
        """Commits or rolls back.

        A transaction that cannot be kept is rolled back, and says so if it was wanted.
        """
        if self.owner[0] != os.getpid():
            return  # the parent process has it, and its connection
        engine = self.transactions.engine
        broken = self.held.broken
        if self.savepoint:
            if broken:
                if keep:
                    raise OperationalError(f"the transaction was given up: {broken}")
                return
            if not keep:
                engine.savepoint(self.held, f"ROLLBACK TO SAVEPOINT {self.savepoint}")
            engine.savepoint(self.held, f"RELEASE SAVEPOINT {self.savepoint}")
        elif broken or not keep:
            engine.rollback(self.held)
            if keep:
                raise OperationalError(f"the transaction was given up: {broken}")
        else:
            engine.commit(self.held)


class Transaction:
    """What `Database.tx` gives: a context manager, for one use at a time."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._block: Block | None = None

    def __enter__(self) -> Transaction:
        if self._block is not None:
            raise ProgrammingError("this transaction is already open\nhint: call `db.tx()` again")
        block = Block(self._transactions)
        block.begin()
        block.enter()
        self._block = block
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        block, self._block = self._block, None
        assert block is not None, "a context manager is left after it was entered"
        block.leave()
        elsewhere = block.owner != owner() and block.owner[0] == os.getpid()
        try:
            block.finish(keep=kind is None and not elsewhere)
        except OperationalError:
            # The reason why it is left says more than what the rollback met.
            if kind is None:
                raise
        if elsewhere and kind is None:
            raise ProgrammingError("the transaction was left in another thread or task, and rolled back")

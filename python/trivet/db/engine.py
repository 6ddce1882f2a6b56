"""What `Database` asks of a driver, so that both databases look the same above it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from .rows import Result, Row
from .statements import Plan


class Engine(Protocol):
    """A driver.

    `held` is the transaction's connection, whose `broken` says why the database has already given it up (else
    None). Without one the driver chooses a connection, and each statement commits by itself.
    """

    dialect: str
    name: str
    workers: int

    def query(self, held: Any, plan: Plan, values: Sequence[Any]) -> list[Row]: ...
    def execute(self, held: Any, plan: Plan, values: Sequence[Any]) -> Result: ...
    def executemany(self, held: Any, plan: Plan, rows: Iterable[Sequence[Any]]) -> Result: ...
    def begin(self) -> Any: ...
    def savepoint(self, held: Any, statement: str) -> None: ...
    def commit(self, held: Any) -> None:
        """Commits and gives the connection back, also when it raises."""

    def rollback(self, held: Any) -> None:
        """Rolls back and gives the connection back; does not raise for a lost one, whose work is gone
        anyway.
        """

    def close(self) -> None: ...

"""A small way to a database: SQL, bound parameters, transactions.

SQLite by itself, MySQL and MariaDB by a driver in Rust.

    from trivet.db import Database

    db = Database()                                # TRIVET_DB, else the file app.sqlite3
    user = db.one("SELECT id, name FROM users WHERE id = ?", 7)
    with db.tx():
        db.execute("UPDATE users SET name = :name WHERE id = :id", name="Ada", id=7)

`Database` connects when it is first used, so it may be made when a module is imported and shared by all
threads; a process that is forked later opens connections of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .errors import (
    CommitUnknown,
    DatabaseError,
    IntegrityError,
    OperationalError,
    PoolTimeout,
    ProgrammingError,
)
from .rows import Result, Row, only_row, only_value
from .statements import Plan, bind, bound_rows, plan
from .transactions import Transaction, Transactions
from .urls import engine_of

if TYPE_CHECKING:
    from .aio import AsyncDatabase

__all__ = [
    "CommitUnknown",
    "Database",
    "DatabaseError",
    "IntegrityError",
    "OperationalError",
    "PoolTimeout",
    "ProgrammingError",
    "Result",
    "Row",
]

DEFAULT_URL = "sqlite:///app.sqlite3"


class Database:
    """A database by its URL.

    `sqlite:///file.sqlite3` (`sqlite:////absolute/path`, `sqlite://` in memory;
    `?timeout=5&synchronous=full`) or `mysql://user:password@host:3306/name`
    (`?pool=10&pool_timeout=10&tls=on&tls_ca=ca.pem&…`, see the guide). Without one the environment variable
    `TRIVET_DB` names it, else it is the file `app.sqlite3`. A text without `://` is the path of an SQLite
    file. Raises `ValueError` for a URL that cannot be used; connects at the first statement.

    A statement has `?` and values in their order, or `:name` and one dict or keyword arguments. Values are
    always bound, never written into the SQL. Outside of `tx()` every statement is a transaction of its own.
    """

    def __init__(self, url: str | None = None) -> None:
        self._engine = engine_of(url or os.environ.get("TRIVET_DB") or DEFAULT_URL)
        self._transactions = Transactions(self._engine)
        self._async: AsyncDatabase | None = None

    def __repr__(self) -> str:
        return f"<Database {self._engine.name}>"

    @property
    def dialect(self) -> str:
        """`sqlite` or `mysql`."""
        return self._engine.dialect

    def query(self, sql: str, /, *values: Any, **named: Any) -> list[Row]:
        """All rows of the answer; an empty list for a statement without rows. Raises `DatabaseError`."""
        planned = self._plan(sql)
        return self._engine.query(self._held(planned), planned, bind(planned, values, named))

    def one(self, sql: str, /, *values: Any, **named: Any) -> Row | None:
        """The only row, None if there is none.

        More than one is `ProgrammingError`: a forgotten `WHERE` shows.
        """
        return only_row(self.query(sql, *values, **named), sql)

    def value(self, sql: str, /, *values: Any, **named: Any) -> Any:
        """The only column of the only row, None if there is no row. More of either is `ProgrammingError`."""
        return only_value(self.query(sql, *values, **named), sql)

    def execute(self, sql: str, /, *values: Any, **named: Any) -> Result:
        """Runs a statement whose rows nobody wants: `Result(rowcount, lastrowid)`. Raises `DatabaseError`."""
        planned = self._plan(sql)
        return self._engine.execute(self._held(planned), planned, bind(planned, values, named))

    def executemany(self, sql: str, rows: Iterable[Iterable[Any] | Mapping[str, Any]], /) -> Result:
        """Runs a statement for each of the rows: sequences for `?`, mappings for `:name`.

        All of them or none.

        `rowcount` is the sum, `lastrowid` None. Raises `DatabaseError`.
        """
        planned = self._plan(sql)
        return self._engine.executemany(self._held(planned), planned, bound_rows(planned, rows))

    def tx(self) -> Transaction:
        """`with db.tx():` keeps all of its statements or, if an exception leaves it, none.

        Inside another one it is a savepoint. It belongs to its thread, or task: statements of others are
        not in it, and using it from there (by a copied context) is `ProgrammingError`. On SQLite it has the
        write lock from its begin. Raises `OperationalError`; `CommitUnknown` if the connection was lost
        while the commit was under way.
        """
        return Transaction(self._transactions)

    @property
    def a(self) -> AsyncDatabase:
        """The same for asynchronous code: `await db.a.query(…)`, `async with db.a.tx():`."""
        if self._async is None:
            from .aio import AsyncDatabase

            self._async = AsyncDatabase(self._engine, self._transactions, self._plan)
        return self._async

    def close(self) -> None:
        """Closes what is not in use: this thread's connection of SQLite, all idle ones of MySQL.

        The database opens new ones when it is used again.
        """
        self._engine.close()
        if self._async is not None:
            self._async.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _plan(self, sql: str) -> Plan:
        planned = plan(sql, self._engine.dialect)
        if planned.transaction:
            raise ProgrammingError(f"`{planned.verb}` is not for statements\nhint: `with db.tx():`", sql=sql)
        return planned

    def _held(self, planned: Plan) -> Any:
        block = self._transactions.block()
        if block is not None and block.asynchronous:
            raise ProgrammingError(
                "inside of `async with db.a.tx():` statements are awaited\nhint: `await db.a.…`"
            )
        return self._transactions.held(planned)

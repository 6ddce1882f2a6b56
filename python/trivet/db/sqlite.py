"""SQLite by Python's own module: a connection for each process and thread, set up as a server wants it."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from .errors import DatabaseError, IntegrityError, OperationalError, ProgrammingError
from .rows import Result, Row, row_class
from .statements import Plan
from .values import for_sqlite

BUSY_TIMEOUT_SECONDS = 5.0
STATEMENTS_CACHED = 256
WORKERS = 8
SYNCHRONOUS = ("off", "normal", "full", "extra")
PLAIN = frozenset({int, str, bytes, bool, type(None)})
# What Python's module raises for a statement and its values.
ERRORS = (sqlite3.Error, sqlite3.Warning, OverflowError, UnicodeEncodeError)

# Primary result codes (sqlite.org/rescode.html) that are the statement's fault: ERROR, MISMATCH, MISUSE,
# RANGE, TOOBIG.
STATEMENT_CODES = frozenset({1, 20, 21, 25, 18})
CONSTRAINT = 19


class Connection(sqlite3.Connection):
    """One of SQLite's connections, and the process that may use it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.pid = os.getpid()
        self.broken: str | None = None

    def close(self) -> None:
        # Closing what a fork copied would take part in the parent's locks: sqlite.org/howtocorrupt.html 2.6.
        if self.pid == os.getpid():
            super().close()

    def __del__(self, getpid: Callable[[], int] = os.getpid) -> None:
        # A thread that ends leaves its connection behind.
        if getattr(self, "pid", None) == getpid():
            super().close()


# Connections of the parent process, which a child must neither use nor close.
FORKED: list[Connection] = []


class SQLite:
    """The engine of `sqlite:///path` URLs.

    `path` is a file's, or None for a database in memory: one connection that threads use in turn, gone with
    the process. `timeout` seconds are waited for another writer.
    """

    dialect = "sqlite"
    workers = WORKERS

    def __init__(
        self, path: str | None, *, timeout: float = BUSY_TIMEOUT_SECONDS, synchronous: str = "full"
    ) -> None:
        if synchronous not in SYNCHRONOUS:
            raise ValueError(f"`synchronous` is one of {', '.join(SYNCHRONOUS)}, not `{synchronous}`")
        self.path = path
        self.timeout = timeout
        self.synchronous = synchronous
        self.name = f"sqlite:///{path}" if path else "sqlite://"
        self._local = threading.local()
        self._memory: Connection | None = None
        self._turn = threading.Lock()

    # Connections: a thread keeps one; whoever takes it has it alone until it is given back.

    def _open(self) -> Connection:
        try:
            connection = Connection(
                self.path or ":memory:",
                timeout=self.timeout,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=STATEMENTS_CACHED,
                detect_types=sqlite3.PARSE_DECLTYPES,
            )
        except sqlite3.Error as error:
            raise OperationalError(f"`{self.path}`: {error}") from None
        try:
            if self.path:
                self._use_wal(connection)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA synchronous = {self.synchronous}")
        except sqlite3.Error as error:
            connection.close()
            raise OperationalError(f"`{self.path}`: {error}") from None
        return connection

    def _use_wal(self, connection: Connection) -> None:
        """Several processes at once may try: the change of mode does not wait for its lock by itself."""
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                    connection.execute("PRAGMA journal_mode = WAL").fetchone()
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)

    def _take(self) -> Connection:
        if self.path is None:
            return self._take_memory()
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            return self._open()
        self._local.connection = None
        if connection.pid != os.getpid():
            FORKED.append(connection)
            return self._open()
        return connection

    def _take_memory(self) -> Connection:
        if self._memory is not None and self._memory.pid != os.getpid():
            self._memory = None
            self._turn = threading.Lock()
        if not self._turn.acquire(timeout=self.timeout):
            raise OperationalError("the database in memory is locked by another transaction")
        if self._memory is None:
            try:
                self._memory = self._open()
            except BaseException:
                self._turn.release()
                raise
        return self._memory

    def _give(self, connection: Connection) -> None:
        connection.broken = None
        if self.path is None:
            self._turn.release()
        elif getattr(self._local, "connection", None) is None:
            self._local.connection = connection
        else:
            connection.close()

    # Statements. One is a few microseconds of SQLite's: what stands around it is written out.

    def query(self, held: Connection | None, plan: Plan, values: Sequence[Any]) -> list[Row]:
        values = adapted(values)
        connection = held or self._take()
        try:
            cursor = connection.execute(plan.sql, values)
            rows = cursor.fetchall()
            columns = cursor.description
        except ERRORS as error:
            self._failed(held, error, plan.original)
        finally:
            if held is None:
                self._give(connection)
        if not rows:
            return []
        return list(map(row_class(tuple([column[0] for column in columns])), rows))

    def execute(self, held: Connection | None, plan: Plan, values: Sequence[Any]) -> Result:
        values = adapted(values)
        connection = held or self._take()
        try:
            cursor = connection.execute(plan.sql, values)
            # A `RETURNING` has done its work only when its rows are fetched.
            returned = len(cursor.fetchall())
        except ERRORS as error:
            self._failed(held, error, plan.original)
        finally:
            if held is None:
                self._give(connection)
        count = 0 if plan.reads else max(cursor.rowcount, returned)
        return Result(count, cursor.lastrowid if plan.verb in ("insert", "replace") else None)

    def _failed(self, held: Connection | None, error: Exception, sql: str | None) -> NoReturn:
        if held is not None and not held.in_transaction:
            held.broken = str(error)
        fail(error, sql)

    def executemany(self, held: Connection | None, plan: Plan, rows: Iterable[Sequence[Any]]) -> Result:
        connection = held or self.begin()
        try:
            cursor = connection.executemany(plan.sql, map(adapted, rows))
        except BaseException as error:
            if not held:
                self.rollback(connection)
            if isinstance(error, ERRORS):
                self._failed(held, error, plan.original)
            raise
        if not held:
            self.commit(connection)
        return Result(max(cursor.rowcount, 0), None)

    # Transactions.

    def begin(self) -> Connection:
        connection = self._take()
        try:
            # The write lock at once: a transaction that reads first and writes later would find itself
            # refused.
            connection.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            self._give(connection)
            if isinstance(error, sqlite3.Error):
                fail(error, None)
            raise
        return connection

    def savepoint(self, held: Connection, statement: str) -> None:
        try:
            held.execute(statement)
        except ERRORS as error:
            self._failed(held, error, None)

    def commit(self, held: Connection) -> None:
        try:
            held.execute("COMMIT")
        except sqlite3.Error as error:
            self.rollback(held)
            fail(error, None)
        self._give(held)

    def rollback(self, held: Connection) -> None:
        try:
            if held.in_transaction:
                held.execute("ROLLBACK")
        except sqlite3.Error:
            # Closing it rolls back for certain.
            held.close()
            if self.path is None:
                self._memory = None
                self._turn.release()
            return
        self._give(held)

    @contextmanager
    def alone(self, timeout: float) -> Iterator[sqlite3.Connection]:
        """A connection to do with as one likes; waits `timeout` seconds for locks."""
        connection = self._take()
        try:
            connection.execute(f"PRAGMA busy_timeout = {int(timeout * 1000)}")
            try:
                yield connection
            finally:
                connection.execute(f"PRAGMA busy_timeout = {int(self.timeout * 1000)}")
        except sqlite3.Error as error:
            fail(error, None)
        finally:
            self._give(connection)

    def close(self) -> None:
        """Closes this thread's connection; a database in memory is gone."""
        if self.path is None:
            with self._turn:
                if self._memory is not None:
                    self._memory.close()
                    self._memory = None
            return
        connection: Connection | None = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            connection.close()


def adapted(values: Sequence[Any]) -> Sequence[Any]:
    """Values as SQLite takes them; most need nothing."""
    for value in values:
        if type(value) not in PLAIN:
            return [for_sqlite(value) for value in values]
    return values


def fail(error: Exception, sql: str | None) -> NoReturn:
    """Raises our error for SQLite's."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    text = str(error)
    if isinstance(error, OverflowError):
        text = "an integer of more than 64 bits cannot be a parameter"
    raise kind_of(error, code, text)(text, code=code, sql=sql) from error


def kind_of(error: Exception, code: int | None, text: str) -> type[DatabaseError]:
    if isinstance(error, sqlite3.IntegrityError):
        return IntegrityError if code is None or code & 0xFF == CONSTRAINT else ProgrammingError
    if isinstance(error, sqlite3.OperationalError):
        if code is not None:
            return ProgrammingError if code & 0xFF in STATEMENT_CODES else OperationalError
        # Python 3.10 does not tell the code.
        return ProgrammingError if re.search(WRONG_STATEMENT, text) else OperationalError
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error, (sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.NotSupportedError)
    ):
        return OperationalError  # a file that is no database, a damaged one
    return ProgrammingError


WRONG_STATEMENT = (
    r"syntax error|no such|already exists|has no column|ambiguous|unrecognized token|incomplete input|misuse"
    r"|wrong number of arguments|values for|may not be|cannot start a transaction|duplicate column"
)


# Values of columns whose declared type says more than SQLite's five storage classes. The registry is the
# process's: these give what Python's own (deprecated since 3.12) and those of Django give.


def lenient(parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """Whatever stands in such a column is given: SQLite does not check types."""

    def convert(stored: bytes) -> Any:
        text = stored.decode("utf-8", "replace")
        try:
            return parse(text)
        except (ValueError, InvalidOperation):
            for number in (int, float):
                with contextlib.suppress(ValueError):
                    return number(text)
            return text

    return convert


def moment(text: str) -> datetime:
    # Python 3.10 knows no `Z` and only 3 or 6 digits of a second.
    match = re.fullmatch(
        r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,6})\d*)?(Z|[+-]\d\d:?\d\d)?", text
    )
    if match is None:
        return datetime.fromisoformat(text)
    fraction = f".{match[3]:0<6}" if match[3] else ""
    zone = {"Z": "+00:00", None: ""}.get(match[4], match[4])
    if zone and ":" not in zone:
        zone = f"{zone[:3]}:{zone[3:]}"
    return datetime.fromisoformat(f"{match[1]} {match[2]}{fraction}{zone}")


def day(text: str) -> date:
    return date.fromisoformat(text[:10])


sqlite3.register_converter("DATE", lenient(day))
sqlite3.register_converter("DATETIME", lenient(moment))
sqlite3.register_converter("TIMESTAMP", lenient(moment))
sqlite3.register_converter("DECIMAL", lenient(Decimal))

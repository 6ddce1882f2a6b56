"""MySQL and MariaDB by the driver of the extension, which waits without holding the interpreter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trivet import _load

from .rows import Result, Row
from .statements import Plan
from .urls import count, seconds

if TYPE_CHECKING:
    from trivet import _mysql

POOL_SIZE = 10
POOL_TIMEOUT_SECONDS = 10.0
CONNECT_TIMEOUT_SECONDS = 10.0
# Nothing is waited for for ever: not even a server that announces more bytes than it sends.
READ_TIMEOUT_SECONDS = 3600.0
WRITE_TIMEOUT_SECONDS = 60.0
TLS = {
    "off": "off",
    "0": "off",
    "false": "off",
    "on": "on",
    "1": "on",
    "true": "on",
    "unverified": "unverified",
}


def tls(text: str) -> str:
    """`on`, `off` or `unverified`."""
    try:
        return TLS[text.lower()]
    except KeyError:
        raise ValueError("wanted on, off or unverified") from None


# What may stand behind `?` in the URL.
OPTIONS: dict[str, Callable[[str], Any]] = {
    "pool": count,
    "pool_timeout": seconds,
    "connect_timeout": seconds,
    "read_timeout": seconds,
    "write_timeout": seconds,
    "socket": str,
    "tls": tls,
    "tls_ca": str,
    "tls_cert": str,
    "tls_key": str,
}


class MySQL:
    """The engine of `mysql://` URLs: at most `pool` connections for each process.

    Times are in seconds, 0 for no limit: `pool_timeout` to wait for a free connection, `connect_timeout` to
    open one (and for each answer of a handshake, a ping, a reset), `read_timeout` and `write_timeout` for
    each other answer of the server and each sending. `socket` is the path of a Unix socket, used instead of
    host and port. `tls` `on` verifies the server against `tls_ca` and the public authorities, `unverified`
    only encrypts; `tls_cert` and `tls_key` identify us. The files are PEM.
    """

    dialect = "mysql"

    def __init__(
        self,
        *,
        host: str,
        port: int,
        user: str,
        password: str,
        database: str,
        pool: int = POOL_SIZE,
        pool_timeout: float = POOL_TIMEOUT_SECONDS,
        connect_timeout: float = CONNECT_TIMEOUT_SECONDS,
        read_timeout: float = READ_TIMEOUT_SECONDS,
        write_timeout: float = WRITE_TIMEOUT_SECONDS,
        socket: str | None = None,
        tls: str = "off",
        tls_ca: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
    ) -> None:
        if tls == "off" and (tls_ca or tls_cert or tls_key):
            raise ValueError("the database URL names TLS files, but not `tls=on`")
        if bool(tls_cert) != bool(tls_key):
            raise ValueError("`tls_cert` and `tls_key` go together in the database URL")
        self.workers = pool
        self.database = database
        self.name = f"mysql://{user}@{socket or f'{host}:{port}'}/{database}"
        self.native: _mysql.Database = _load.native("_mysql").Database(
            host=host,
            port=port,
            socket=socket,
            user=user,
            password=password,
            database=database,
            pool=pool,
            pool_timeout=pool_timeout,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            write_timeout=write_timeout,
            tls=tls,
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
        )
        self._query: Callable[..., list[Row]] = self.native.query
        self._execute: Callable[..., tuple[int, int]] = self.native.execute

    @property
    def open(self) -> int:
        """How many connections this process has."""
        return self.native.open

    def query(self, held: Any, plan: Plan, values: Sequence[Any]) -> list[Row]:
        return self._query(held, plan.sql, values, plan.reads, plan.stays)

    def execute(self, held: Any, plan: Plan, values: Sequence[Any]) -> Result:
        affected, number = self._execute(held, plan.sql, values, plan.reads, plan.stays)
        return Result(affected, number or None)

    def executemany(self, held: Any, plan: Plan, rows: Iterable[Sequence[Any]]) -> Result:
        connection = held or self.begin()
        try:
            affected = sum(
                self._execute(connection, plan.sql, values, plan.reads, plan.stays)[0] for values in rows
            )
        except BaseException:
            if not held:
                self.rollback(connection)
            raise
        if not held:
            self.commit(connection)
        return Result(affected, None)

    def begin(self) -> Any:
        return self.native.begin()

    def savepoint(self, held: Any, statement: str) -> None:
        self.native.run_text(held, statement)

    def commit(self, held: Any) -> None:
        self.native.commit(held)

    def rollback(self, held: Any) -> None:
        self.native.rollback(held)

    @contextmanager
    def alone(self) -> Iterator[Alone]:
        """A connection to do with as one likes; it is reset afterwards."""
        held = self.native.alone()
        try:
            yield Alone(self, held)
        finally:
            self.native.give(held)

    def close(self) -> None:
        """Closes the connections that are idle."""
        self.native.close()


class Alone:
    """A connection without a transaction."""

    def __init__(self, engine: MySQL, held: Any) -> None:
        self._engine = engine
        self._held = held

    def run(self, sql: str) -> None:
        """A statement as it stands; nothing in it is a placeholder."""
        self._engine.native.run_text(self._held, sql)

    def query(self, sql: str, *values: Any) -> list[Row]:
        """A statement with values for its `?`."""
        return self._engine._query(self._held, sql, values, False, True)

    def value(self, sql: str, *values: Any) -> Any:
        """The first column of the first row."""
        return self.query(sql, *values)[0][0]

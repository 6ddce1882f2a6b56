"""MySQL and MariaDB for `trivet.db` (`crates/trivet-python/src/mysql.rs`)."""

from collections.abc import Sequence
from typing import Any, final

from typing_extensions import Self

from .db.rows import Row

@final
class Connection:
    """A connection that somebody has for themselves. It goes back to its pool when it is forgotten."""

    @property
    def pid(self) -> int:
        """The process that it belongs to."""
    @property
    def broken(self) -> str | None:
        """Why its transaction is no more; None while it is."""

@final
class Database:
    """The connections of a database; of each process its own. Raises what `trivet.db.errors` has."""

    def __new__(
        cls,
        *,
        host: str,
        port: int,
        socket: str | None,
        user: str,
        password: str,
        database: str,
        pool: int,
        pool_timeout: float,
        connect_timeout: float,
        read_timeout: float,
        write_timeout: float,
        tls: str,
        tls_ca: str | None,
        tls_cert: str | None,
        tls_key: str | None,
    ) -> Self:
        """Times are in seconds, 0 for no limit. Connects to nothing yet."""
    def query(
        self, held: Connection | None, sql: str, values: Sequence[Any], reads: bool, stays: bool
    ) -> list[Row]:
        """The rows of a statement. `reads`: it changes nothing; `stays`: it may leave something behind."""
    def execute(
        self, held: Connection | None, sql: str, values: Sequence[Any], reads: bool, stays: bool
    ) -> tuple[int, int]:
        """How many rows it found or changed, and the number it gave to the last inserted one, or 0."""
    def run_text(self, held: Connection, sql: str) -> list[Row]:
        """A statement in the text protocol."""
    def begin(self) -> Connection:
        """A connection with a transaction."""
    def alone(self) -> Connection:
        """A connection for other purposes; it is reset when it comes back."""
    def commit(self, held: Connection) -> None: ...
    def rollback(self, held: Connection) -> None: ...
    def give(self, held: Connection) -> None:
        """Takes a connection back."""
    def close(self) -> None:
        """Closes the connections that are idle."""
    @property
    def open(self) -> int:
        """How many connections this process has open."""

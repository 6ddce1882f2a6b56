"""What can go wrong with a database. Whether to try again is the question each class answers."""

from __future__ import annotations

STATEMENT_CHARACTERS_SHOWN = 500


class DatabaseError(Exception):
    """Any error of a database.

    `code` is MySQL's error number or SQLite's extended result code, `sqlstate` MySQL's five characters,
    `sql` the statement as it was written. Values of parameters are in none of them.
    """

    def __init__(
        self, message: str, *, code: int | None = None, sqlstate: str | None = None, sql: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.sqlstate = sqlstate
        self.sql = sql

    def __str__(self) -> str:
        text = self.message
        if self.code is not None:
            state = f", {self.sqlstate}" if self.sqlstate else ""
            text = f"{text} (code {self.code}{state})"
        if self.sql:
            shown = " ".join(self.sql.split())
            if len(shown) > STATEMENT_CHARACTERS_SHOWN:
                shown = shown[:STATEMENT_CHARACTERS_SHOWN] + " …"
            text = f"{text}\nstatement: {shown}"
        return text


class ProgrammingError(DatabaseError):
    """The statement or its use is wrong: trying again does not help."""


class IntegrityError(DatabaseError):
    """A constraint refused the change: unique, foreign key, not null, check."""


class OperationalError(DatabaseError):
    """The database could not do it now: connection lost, locked, deadlock, disk full.

    Nothing of the statement was kept; inside a transaction nothing of the transaction.
    """


class PoolTimeout(OperationalError):
    """Every connection of the pool was in use for the whole `pool_timeout`; nothing was sent."""


class CommitUnknown(DatabaseError):
    """The connection was lost after a commit was sent and before it was acknowledged.

    The change is there, or not: only looking tells. Never tried again by itself.
    """

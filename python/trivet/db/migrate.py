"""Changes of the schema, each once and in order: `python -m trivet.db.migrate`, or `run(url, folder)`.

A folder holds `0001_users.sql`, `0002_orders.sql` … with plain SQL of the database that is used. What was
applied is written down in the table `trivet_migrations`, with a checksum: a file that was applied is never
changed again.

SQLite: all files that are new go into one transaction, so they are applied together or not at all, while
other processes wait. MySQL and MariaDB commit at every change of a schema: one process holds a lock
(`GET_LOCK`), each file is written down when it starts and again when it is finished, and one that never
finished stops everything until a person has looked.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import DEFAULT_URL, Database
from .errors import DatabaseError
from .sqlite import SQLite
from .statements import split

if TYPE_CHECKING:
    from .mysql import MySQL

TABLE = "trivet_migrations"
LOCK_WAIT_SECONDS = 60
# MySQL's numbers for: the table exists, wrong syntax, no such table. Whatever they are said to has done
# nothing.
REFUSED = frozenset({1050, 1064, 1146})
EXIT_PENDING, EXIT_USAGE, EXIT_DATABASE, EXIT_MIGRATIONS = 1, 64, 70, 78

CREATE = {
    "sqlite": f"CREATE TABLE IF NOT EXISTS {TABLE} (number INTEGER PRIMARY KEY, name TEXT NOT NULL, "
    "checksum TEXT NOT NULL, started_at TEXT NOT NULL, finished_at TEXT)",
    "mysql": f"CREATE TABLE IF NOT EXISTS {TABLE} (number INT PRIMARY KEY, name VARCHAR(255) NOT NULL, "
    "checksum CHAR(64) NOT NULL, started_at VARCHAR(32) NOT NULL, finished_at VARCHAR(32)) "
    "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
}


class MigrationError(Exception):
    """The migrations cannot go on; the message says what to do.

    The database is as before, unless it says otherwise.
    """


@dataclass(frozen=True)
class Migration:
    """One file. `checksum` is SHA-256 of its text with `\\n` as the end of a line, in hexadecimal."""

    number: int
    name: str
    text: str
    checksum: str


@dataclass(frozen=True)
class State:
    """A migration and when it was applied, in UTC as ISO 8601; both None while it is pending."""

    migration: Migration
    started_at: str | None
    finished_at: str | None

    @property
    def applied(self) -> bool:
        return self.finished_at is not None


def load(folder: str | os.PathLike[str]) -> list[Migration]:
    """The folder's migrations in order. Files that do not end in `.sql` are none of them.

    Raises `MigrationError` for a name that is no number with a name, a number given twice, and a gap.
    """
    path = Path(folder)
    if not path.is_dir():
        raise MigrationError(f"there is no folder `{path}`\nhint: `--dir`")
    found: dict[int, Migration] = {}
    for file in sorted(path.iterdir()):
        if file.suffix != ".sql" or not file.is_file():
            continue
        named = re.fullmatch(r"([0-9]{1,9})_(.+)\.sql", file.name)
        if named is None or int(named[1]) == 0:
            raise MigrationError(f"`{file}` has no number\nhint: `0001_name.sql`, from 1 on")
        number = int(named[1])
        if number in found:
            raise MigrationError(
                f"two migrations have number {number}: `{found[number].name}` and `{file.name}`"
            )
        try:
            text = file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError:
            raise MigrationError(f"`{file}` is not UTF-8") from None
        found[number] = Migration(number, file.name, text, hashlib.sha256(text.encode()).hexdigest())
    for wanted, number in enumerate(sorted(found), 1):
        if number != wanted:
            raise MigrationError(f"migration {wanted} is missing: after it there is `{found[number].name}`")
    return [found[number] for number in sorted(found)]


def run(database: str | Database | None, folder: str | os.PathLike[str] = "migrations") -> list[str]:
    """Applies what is pending and gives the files' names; an empty list if nothing was.

    `database` is a `Database` or its URL; None is what `Database()` is. Raises `MigrationError` and
    `DatabaseError`.
    """
    migrations = load(folder)
    db, made = as_database(database)
    try:
        engine = db._engine
        if isinstance(engine, SQLite):
            return run_sqlite(engine, migrations)
        from .mysql import MySQL

        assert isinstance(engine, MySQL), "there are two engines"
        return run_mysql(engine, migrations)
    finally:
        if made:
            db.close()


def status(database: str | Database | None, folder: str | os.PathLike[str] = "migrations") -> list[State]:
    """Every migration of the folder and whether it was applied. Changes nothing.

    Raises `MigrationError` if folder and database do not go together, and `DatabaseError`.
    """
    migrations = load(folder)
    db, made = as_database(database)
    try:
        there = {
            "sqlite": "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?",
            "mysql": "SELECT count(*) FROM information_schema.tables WHERE table_schema = database() "
            "AND table_name = ?",
        }[db.dialect]
        rows = db.query(SELECT) if db.value(there, TABLE) else []
    finally:
        if made:
            db.close()
    done = compare(migrations, rows)
    return [State(m, *done.get(m.number, (None, None))) for m in migrations]


SELECT = f"SELECT number, name, checksum, started_at, finished_at FROM {TABLE} ORDER BY number"
INSERT = f"INSERT INTO {TABLE} (number, name, checksum, started_at, finished_at) VALUES (?, ?, ?, ?, ?)"
FORGET = f"DELETE FROM {TABLE} WHERE number = ?"
FINISH = f"UPDATE {TABLE} SET finished_at = ? WHERE number = ?"


def compare(migrations: list[Migration], rows: Sequence[Any]) -> dict[int, tuple[str, str | None]]:
    """When each applied migration was started and finished, by its number.

    Raises if a file is not what was applied.
    """
    files = {m.number: m for m in migrations}
    done: dict[int, tuple[str, str | None]] = {}
    for number, name, checksum, started, finished in rows:
        migration = files.get(number)
        if migration is None:
            raise MigrationError(
                f"`{name}` was applied to this database, but the folder does not have it\n"
                "hint: is this the folder of an older version?"
            )
        if finished is not None and migration.checksum != checksum:
            was = f" (as `{name}`)" if name != migration.name else ""
            raise MigrationError(
                f"`{migration.name}` was changed after it was applied{was}\n"
                f"hint: put it back as it was, and write the change into `{len(migrations) + 1:04}_….sql`"
            )
        done[number] = (started, finished)
    return done


def as_database(database: str | Database | None) -> tuple[Database, bool]:
    if isinstance(database, Database):
        return database, False
    return Database(patient(database)), True


def patient(url: str | None) -> str:
    """A statement of a migration may take as long as it takes."""
    url = url or os.environ.get("TRIVET_DB") or DEFAULT_URL
    if url.startswith("mysql://") and "read_timeout=" not in url:
        url += ("&" if "?" in url else "?") + "read_timeout=0"
    return url


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def parts(migration: Migration, dialect: str) -> list[tuple[int, str]]:
    try:
        return split(migration.text, dialect)
    except ValueError as error:
        raise MigrationError(f"`{migration.name}`: {error}") from None


def run_sqlite(engine: SQLite, migrations: list[Migration]) -> list[str]:
    with engine.alone(LOCK_WAIT_SECONDS) as raw:
        # Rebuilding a table is not possible while its keys are watched (sqlite.org/lang_altertable.html
        # §7); they are checked as a whole before the commit. The pragma does nothing inside a transaction.
        raw.execute("PRAGMA foreign_keys = OFF")
        try:
            raw.execute("BEGIN IMMEDIATE")
            raw.execute(CREATE["sqlite"])
            done = compare(migrations, raw.execute(SELECT).fetchall())
            pending = [m for m in migrations if m.number not in done]
            for migration in pending:
                started = now()
                for line, text in parts(migration, "sqlite"):
                    apply_sqlite(raw, migration, line, text)
                raw.execute(INSERT, (migration.number, migration.name, migration.checksum, started, now()))
            if pending and (broken := raw.execute("PRAGMA foreign_key_check").fetchall()):
                table, _, parent, _ = broken[0]
                raise MigrationError(
                    f"{len(broken)} rows would point to nothing, the first in `{table}` to `{parent}`; "
                    "nothing was applied"
                )
            raw.execute("COMMIT")
        finally:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            raw.execute("PRAGMA foreign_keys = ON")
    return [m.name for m in pending]


def apply_sqlite(raw: sqlite3.Connection, migration: Migration, line: int, text: str) -> None:
    where = f"`{migration.name}`, line {line}"
    try:
        raw.execute(text).fetchall()
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise MigrationError(f"{where}: {error}; nothing was applied") from error
    if not raw.in_transaction:
        raise MigrationError(
            f"{where}: the statement ended the transaction; what stands before it was applied and is not "
            "written down\n"
            "hint: leave out BEGIN, COMMIT and ROLLBACK"
        )


def run_mysql(engine: MySQL, migrations: list[Migration]) -> list[str]:
    lock = "trivet_migrate." + hashlib.sha256(engine.database.encode()).hexdigest()[:32]
    with engine.alone() as connection:
        if connection.value("SELECT GET_LOCK(?, ?)", lock, LOCK_WAIT_SECONDS) != 1:
            raise MigrationError(
                f"another process has been migrating for {LOCK_WAIT_SECONDS} s\nhint: run it again later"
            )
        # The lock goes with the connection, at the latest.
        connection.run(CREATE["mysql"])
        done = compare(migrations, connection.query(SELECT))
        for migration in migrations:
            if migration.number in done and done[migration.number][1] is None:
                raise MigrationError(unfinished(migration, done[migration.number][0]))
        pending = [m for m in migrations if m.number not in done]
        scripts = [(m, parts(m, "mysql")) for m in pending]
        for migration, script in scripts:
            connection.query(INSERT, migration.number, migration.name, migration.checksum, now(), None)
            for count, (line, text) in enumerate(script):
                try:
                    connection.run(text)
                except DatabaseError as error:
                    if count == 0 and error.code in REFUSED:
                        # Nothing of the file was done.
                        connection.query(FORGET, migration.number)
                        raise MigrationError(
                            f"`{migration.name}`, line {line}: {error.message}; it was not applied"
                        ) from error
                    raise MigrationError(
                        f"`{migration.name}`, line {line}: {error.message}\n{unfinished(migration, now())}"
                    ) from error
            connection.query(FINISH, now(), migration.number)
        connection.query("SELECT RELEASE_LOCK(?)", lock)
    return [m.name for m in pending]


def unfinished(migration: Migration, started: str) -> str:
    return (
        f"`{migration.name}` was started at {started} (UTC) and not finished: a part of it may be applied\n"
        f"hint: undo that part, then `DELETE FROM {TABLE} WHERE number = {migration.number}` to run the file "
        f"again; or complete it by hand, then `UPDATE {TABLE} SET finished_at = '{started}' WHERE number = "
        f"{migration.number}`"
    )


class Arguments(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{message}\nhint: --help", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command.

    Exit codes: 0, 1 (`--status` and something is pending), 64 usage, 70 database, 78 migrations.
    """
    parser = Arguments(prog="trivet db migrate", description="Applies the migrations that are pending.")
    parser.add_argument("--url", help=f"the database (default: $TRIVET_DB, else {DEFAULT_URL})")
    parser.add_argument(
        "--dir", default="migrations", help="the folder of `0001_name.sql` files (default: %(default)s)"
    )
    parser.add_argument("--status", action="store_true", help="only list them; exit code 1 if one is pending")
    given = parser.parse_args(arguments)
    try:
        database = Database(patient(given.url))
    except ValueError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    try:
        if given.status:
            states = status(database, given.dir)
            for state in states:
                when = f"applied {state.finished_at}" if state.applied else "pending"
                if state.started_at and not state.applied:
                    when = f"not finished, started {state.started_at}"
                print(f"{state.migration.name}  {when}")
            return 0 if all(state.applied for state in states) else EXIT_PENDING
        names = run(database, given.dir)
    except MigrationError as error:
        print(error, file=sys.stderr)
        return EXIT_MIGRATIONS
    except DatabaseError as error:
        print(error, file=sys.stderr)
        return EXIT_DATABASE
    finally:
        database.close()
    for name in names:
        print(f"applied `{name}`")
    if not names:
        print("nothing to apply")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`trivet.db` on SQLite: statements, values, transactions, threads, tasks, forks and processes."""
# ruff: noqa: PT012, PT017, RUF061 - what is tested is a block with a statement that fails in it

import asyncio
import contextvars
import json
import os
import pickle
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from support import package
from trivet.db import (
    Database,
    DatabaseError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    Row,
)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with Database(f"sqlite:///{tmp_path}/test.sqlite3") as database:
        database.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT UNIQUE, age INTEGER)")
        yield database


def names(db: Database) -> list[str]:
    return [row.name for row in db.query("SELECT name FROM users ORDER BY id")]


# Statements and rows.


def test_rows_have_positions_names_and_attributes(db: Database) -> None:
    result = db.execute("INSERT INTO users (name, age) VALUES (?, ?)", "Ada", 36)
    assert (result.rowcount, result.lastrowid) == (1, 1)
    row = db.one("SELECT id, name, age, 1 AS count, 2 AS `order by`, 3 AS keys FROM users")
    assert row is not None
    assert row == (1, "Ada", 36, 1, 2, 3)
    assert (row.name, row["name"], row[1], row[-1], row[:2]) == ("Ada", "Ada", "Ada", 3, (1, "Ada"))
    assert (row.count, row["order by"], row["keys"], row.get("age"), row.get("x", 7)) == (1, 2, 3, 36, 7)
    assert (
        dict(row)
        == row._asdict()
        == {"id": 1, "name": "Ada", "age": 36, "count": 1, "order by": 2, "keys": 3}
    )
    assert repr(db.one("SELECT 1 AS a, 'b' AS b")) == "Row(a=1, b='b')"
    again = pickle.loads(pickle.dumps(row))
    assert again == row
    assert again.name == "Ada"
    assert isinstance(again, Row)
    assert json.loads(json.dumps(row._asdict()))["name"] == "Ada"
    with pytest.raises(KeyError, match="no column `nam`; there are id, name"):
        row["nam"]
    with pytest.raises(AttributeError):
        row.nam  # noqa: B018


def test_of_two_columns_of_one_name_the_first_is_meant(db: Database) -> None:
    row = db.one("SELECT 1 AS id, 2 AS id")
    assert row is not None
    assert (tuple(row), row.id, row["id"], row._asdict()) == ((1, 2), 1, 1, {"id": 1})


def test_one_and_value_want_at_most_one(db: Database) -> None:
    assert db.one("SELECT * FROM users") is None
    assert db.value("SELECT id FROM users") is None
    db.executemany("INSERT INTO users (name) VALUES (?)", [("a",), ["b"]])
    assert db.value("SELECT count(*) FROM users") == 2
    with pytest.raises(ProgrammingError, match="one row was wanted, there are 2"):
        db.one("SELECT * FROM users")
    with pytest.raises(ProgrammingError, match="one row was wanted, there are 2"):
        db.value("SELECT id FROM users")
    with pytest.raises(ProgrammingError, match="one column was wanted, there are 2"):
        db.value("SELECT id, name FROM users WHERE id = 1")


def test_names_are_bound_from_a_dict_or_keywords(db: Database) -> None:
    db.execute("INSERT INTO users (name, age) VALUES (:name, :age)", name="Ada", age=1)
    db.execute("INSERT INTO users (name, age) VALUES (:name, :age)", {"name": "Bob", "age": 2, "more": 3})
    db.executemany("INSERT INTO users (name, age) VALUES (:n, :n)", [{"n": 5}, {"n": 6}])
    assert names(db) == ["Ada", "Bob", "5", "6"]
    assert db.value("SELECT ':x' || :x || '?' -- :y\n", x="1") == ":x1?"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda db: db.query("SELECT ?"), "the statement has 1 placeholders, 0 values were given"),
        (lambda db: db.query("SELECT ?, ?", [1, 2]), r"hint: write `\*values`"),
        (lambda db: db.query("SELECT ?", {"a": 1}), None),
        (lambda db: db.query("SELECT ?, ?", {"a": 1}), "by name, but the statement has `\\?`"),
        (lambda db: db.query("SELECT ?", a=1), "by name, but the statement has no `:name`"),
        (lambda db: db.query("SELECT :a", 1), "the statement wants names: :a"),
        (lambda db: db.query("SELECT :a", {"b": 1}), "no value for `:a`"),
        (lambda db: db.query("SELECT :a", a=1, b=1), "the statement has no `:b`"),
        (lambda db: db.query("SELECT :a, ?", 1), "both in one statement"),
        (lambda db: db.query("SELECT @a", 1), "`@a` is no placeholder"),
        (lambda db: db.query("SELECT ?1", 1), "`\\?1` is no placeholder"),
        (lambda db: db.query("SELECT ?", object()), "type `object` cannot be a parameter"),
        (lambda db: db.query("SELECT ?", 2**63), "64 bits"),
        (lambda db: db.query("SELECT ?", "\udc80"), "surrogate"),
        (lambda db: db.query("SELECT ?", float("nan")), "NaN"),
        (lambda db: db.query(" -- nothing\n"), "the statement is empty"),
        (lambda db: db.query("SELEC 1"), "syntax error"),
        (lambda db: db.query("SELECT * FROM nobody"), "no such table: nobody.*\nstatement: SELECT"),
        (lambda db: db.execute("SELECT 1; SELECT 2"), "one statement at a time"),
        (lambda db: db.execute("BEGIN"), "hint: `with db.tx"),
        (lambda db: db.execute("/* x */ commit"), "hint: `with db.tx"),
        (lambda db: db.executemany("INSERT INTO users (name) VALUES (?)", ["abc"]), "not text"),
    ],
)
def test_wrong_use_says_what_is_wrong(
    db: Database, call: Callable[[Database], object], message: str | None
) -> None:
    with pytest.raises(ProgrammingError, match=message):
        call(db)
    with db.tx(), pytest.raises(ProgrammingError, match=message):
        call(db)
    assert db.value("SELECT 1") == 1


def test_errors_have_a_code_and_the_statement_but_no_values(db: Database) -> None:
    db.execute("INSERT INTO users (name) VALUES (?)", "secret")
    with pytest.raises(IntegrityError, match=r"UNIQUE constraint failed: users\.name") as caught:
        db.execute("INSERT INTO users (name) VALUES (?)", "secret")
    assert "INSERT INTO users (name) VALUES (?)" in str(caught.value)
    assert "secret" not in str(caught.value)
    if sys.version_info >= (3, 11):
        assert caught.value.code == sqlite3.SQLITE_CONSTRAINT_UNIQUE
    assert issubclass(IntegrityError, DatabaseError)


def test_foreign_keys_are_on_and_the_journal_is_a_wal(db: Database) -> None:
    db.execute("CREATE TABLE pets (owner INTEGER REFERENCES users (id))")
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        db.execute("INSERT INTO pets VALUES (99)")
    assert db.value("PRAGMA journal_mode") == "wal"


def test_values_come_back_as_they_went(db: Database) -> None:
    db.execute(
        "CREATE TABLE v (i INTEGER, f REAL, t TEXT, b BLOB, d DATE, dt DATETIME, ts TIMESTAMP, "
        "de DECIMAL(10,2), tm TEXT, td TEXT, u TEXT, bo INTEGER, n TEXT)"
    )
    moment = datetime(2026, 2, 3, 4, 5, 6, 789)
    db.execute(
        f"INSERT INTO v VALUES ({','.join('?' * 13)})",
        -(2**63), 1.5, "ü'\0x", b"\0\xff", date(2026, 1, 2), moment, moment.replace(microsecond=0),
        Decimal("12.30"),         time(1, 2, 3), -timedelta(hours=30, seconds=1), UUID(int=5), True, None,
    )  # fmt: skip
    row = db.one("SELECT * FROM v")
    assert row == (
        -(2**63), 1.5, "ü'\0x", b"\0\xff", date(2026, 1, 2), moment, moment.replace(microsecond=0),
        Decimal("12.3"),         "01:02:03", "-30:00:01", str(UUID(int=5)), 1, None,
    )  # fmt: skip
    assert type(row[4]) is date
    assert type(row[7]) is Decimal
    aware = datetime(2026, 1, 1, 2, 0, tzinfo=timezone(timedelta(hours=2)))
    db.execute("UPDATE v SET dt = ?", aware)
    assert db.value("SELECT dt FROM v") == datetime(2026, 1, 1)


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("'2026-01-02T03:04:05Z'", datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
        ("'2026-01-02 03:04:05.5'", datetime(2026, 1, 2, 3, 4, 5, 500000)),
        ("'2026-01-02'", datetime(2026, 1, 2)),
        ("1767225600", 1767225600),
        ("'soon'", "soon"),
        ("current_timestamp", None),
    ],
)
def test_what_other_programs_wrote_into_a_date_column_is_read(
    db: Database, stored: str, read: object
) -> None:
    db.execute("CREATE TABLE v (dt DATETIME)")
    db.execute(f"INSERT INTO v VALUES ({stored})")
    value = db.value("SELECT dt FROM v")
    assert value == read if read is not None else isinstance(value, datetime)


def test_returning_is_done_and_counted(db: Database) -> None:
    if sqlite3.sqlite_version_info < (3, 35):
        pytest.skip("SQLite of before RETURNING")
    rows = db.query("INSERT INTO users (name) VALUES ('a'), ('b') RETURNING id, name")
    assert rows == [(1, "a"), (2, "b")]
    assert db.execute("DELETE FROM users WHERE id = 1 RETURNING id").rowcount == 1
    assert names(db) == ["b"]
    assert db.execute("UPDATE users SET age = 1").rowcount == 1
    assert db.execute("UPDATE users SET age = 1 WHERE id = 99") == (0, None)


def test_executemany_is_all_or_none(db: Database) -> None:
    with pytest.raises(IntegrityError):
        db.executemany("INSERT INTO users (name) VALUES (?)", (["a"], ["b"], ["a"]))
    assert names(db) == []

    def rows() -> Iterator[list[str]]:
        yield ["a"]
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        db.executemany("INSERT INTO users (name) VALUES (?)", rows())
    assert names(db) == []
    assert db.executemany("INSERT INTO users (name) VALUES (?)", []).rowcount == 0


# URLs.


def test_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIVET_DB", raising=False)
    assert repr(Database()) == "<Database sqlite:///app.sqlite3>"
    assert not list(tmp_path.iterdir()), "nothing is opened before it is used"
    monkeypatch.setenv("TRIVET_DB", "other.db")
    with Database() as db:
        assert db.value("SELECT 1") == 1
    assert (tmp_path / "other.db").is_file()
    with Database("sqlite:///a%20b.db?timeout=1&synchronous=normal") as db:
        assert db.value("PRAGMA synchronous") == 1
    assert (tmp_path / "a b.db").is_file()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgres://x/y", "no driver for `postgres://`"),
        ("sqlite://x.db", "three slashes"),
        ("sqlite:///x.db?tiemout=1", "no option `tiemout`\nhint: there are synchronous, timeout"),
        ("sqlite:///x.db?timeout=x", "wanted seconds"),
        ("sqlite:///x.db?timeout=1&timeout=2", "given twice"),
        ("sqlite:///x.db?synchronous=x", "is one of off, normal"),
    ],
)
def test_a_wrong_url_is_refused_when_it_is_given(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Database(url)


def test_a_file_that_cannot_be_opened_is_an_operational_error(tmp_path: Path) -> None:
    with pytest.raises(OperationalError, match=r"/no/such.db`: unable to open"):
        Database(f"sqlite:///{tmp_path}/no/such.db").query("SELECT 1")
    (tmp_path / "text.db").write_text("This is not a database, but long enough to look at." * 20)
    with pytest.raises(OperationalError, match="not a database"):
        Database(f"sqlite:///{tmp_path}/text.db").query("SELECT 1")


def test_memory_is_one_database_for_all_threads() -> None:
    db = Database("sqlite://")
    db.execute("CREATE TABLE t (a)")
    in_thread(lambda: db.execute("INSERT INTO t VALUES (1)"))
    with db.tx():
        db.execute("INSERT INTO t VALUES (2)")
    with pytest.raises(ZeroDivisionError), db.tx():
        db.execute("INSERT INTO t VALUES (3)")
        1 / 0  # noqa: B018
    assert db.query("SELECT a FROM t") == [(1,), (2,)]
    db.close()
    with pytest.raises(ProgrammingError, match="no such table"):
        db.query("SELECT a FROM t")


# Transactions.


def test_an_exception_rolls_back(db: Database) -> None:
    with db.tx():
        db.execute("INSERT INTO users (name) VALUES ('kept')")
    with pytest.raises(RuntimeError, match="mine"), db.tx():
        db.execute("INSERT INTO users (name) VALUES ('gone')")
        raise RuntimeError("mine")
    assert names(db) == ["kept"]


def test_nested_transactions_are_savepoints(db: Database) -> None:
    with db.tx():
        db.execute("INSERT INTO users (name) VALUES ('outer')")
        with pytest.raises(RuntimeError), db.tx():
            db.execute("INSERT INTO users (name) VALUES ('inner')")
            with db.tx():
                db.execute("INSERT INTO users (name) VALUES ('innermost')")
            raise RuntimeError
        with db.tx():
            db.execute("INSERT INTO users (name) VALUES ('second')")
            with pytest.raises(IntegrityError):
                db.execute("INSERT INTO users (name) VALUES ('second')")
    assert names(db) == ["outer", "second"]


def test_an_outer_rollback_takes_the_inner_one_along(db: Database) -> None:
    with pytest.raises(RuntimeError), db.tx():
        with db.tx():
            db.execute("INSERT INTO users (name) VALUES ('inner')")
        raise RuntimeError
    assert names(db) == []


def test_a_transaction_object_is_for_one_use_at_a_time(db: Database) -> None:
    tx = db.tx()
    with tx:
        with pytest.raises(ProgrammingError, match="already open"):
            tx.__enter__()
        db.execute("INSERT INTO users (name) VALUES ('a')")
    with tx:
        db.execute("INSERT INTO users (name) VALUES ('b')")
    assert names(db) == ["a", "b"]


def test_a_transaction_that_sqlite_gave_up_takes_no_more_statements(db: Database) -> None:
    db.execute("CREATE TABLE strict (a UNIQUE ON CONFLICT ROLLBACK)")
    with pytest.raises(OperationalError, match="the transaction was given up: UNIQUE"), db.tx():
        db.execute("INSERT INTO users (name) VALUES ('a')")
        db.execute("INSERT INTO strict VALUES (1)")
        with pytest.raises(IntegrityError):
            db.execute("INSERT INTO strict VALUES (1)")
        with pytest.raises(OperationalError, match="given up"):
            db.execute("INSERT INTO users (name) VALUES ('b')")
    assert names(db) == []
    db.execute("INSERT INTO users (name) VALUES ('c')")
    assert names(db) == ["c"]


def test_another_writer_is_waited_for_and_then_an_error(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/x.db?timeout=0.05")
    db.execute("CREATE TABLE t (a)")
    with db.tx():
        db.execute("INSERT INTO t VALUES (1)")
        raised = in_thread(lambda: pytest.raises(OperationalError, db.execute, "INSERT INTO t VALUES (2)"))
        assert "database is locked" in str(raised.value)
        assert in_thread(lambda: db.value("SELECT count(*) FROM t")) == 0, "readers go on"
    assert db.value("SELECT count(*) FROM t") == 1


def in_thread(work: Callable[[], object]) -> object:
    result: list[object] = []
    thread = threading.Thread(target=lambda: result.append(work()))
    thread.start()
    thread.join()
    return result[0]


def test_threads_have_transactions_of_their_own(db: Database) -> None:
    def add(number: int) -> None:
        for turn in range(20):
            with db.tx():
                count = db.value("SELECT count(*) FROM users")
                db.execute("INSERT INTO users (name, age) VALUES (?, ?)", f"{number}/{turn}", count)

    threads = [threading.Thread(target=add, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row.age for row in db.query("SELECT age FROM users ORDER BY age")] == list(range(80))


def test_a_transaction_of_another_thread_is_refused(db: Database) -> None:
    with db.tx():
        context = contextvars.copy_context()
        raised = in_thread(lambda: context.run(lambda: pytest.raises(ProgrammingError, db.query, "SELECT 1")))
        assert "belongs to another thread or task" in str(raised.value)
    assert in_thread(lambda: context.run(db.value, "SELECT 1")) == 1, "an ended one is no matter"


def test_a_fork_opens_connections_of_its_own(db: Database) -> None:
    db.execute("INSERT INTO users (name) VALUES ('parent')")
    with db.tx():
        db.execute("INSERT INTO users (name) VALUES ('open')")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                try:
                    db.query("SELECT 1")
                except ProgrammingError as error:
                    assert "another process" in str(error)
                    code = in_thread(lambda: 0 if names(db) == ["parent"] else 2)
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    child = os.fork()
    if child == 0:
        code = 1
        try:
            db.execute("INSERT INTO users (name) VALUES ('child')")
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert names(db) == ["parent", "open", "child"]


WRITER = """
import sys
from trivet.db import Database
db = Database(sys.argv[1])
for turn in range(50):
    with db.tx():
        last = db.value("SELECT max(n) FROM log") or 0
        db.execute("INSERT INTO log VALUES (?, ?)", last + 1, sys.argv[2])
"""


def test_four_processes_write_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db?timeout=60"
    Database(url).execute("CREATE TABLE log (n INTEGER PRIMARY KEY, who TEXT)")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, str(n)], env=package.environment())
        for n in range(4)
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    rows = Database(url).query("SELECT who, count(*) AS count FROM log GROUP BY who ORDER BY who")
    assert [(row.who, row.count) for row in rows] == [(str(n), 50) for n in range(4)]


def test_four_processes_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    for turn in range(5):
        url = f"sqlite:///{tmp_path}/{turn}.db"
        code = f"from trivet.db import Database; Database({url!r}).value('SELECT 1')"
        openers = [
            subprocess.Popen([sys.executable, "-c", code], env=package.environment()) for _ in range(4)
        ]
        assert [opener.wait() for opener in openers] == [0] * 4


# Asynchronous code.


def test_statements_and_transactions_are_awaited(db: Database) -> None:
    async def main() -> None:
        assert (await db.a.execute("INSERT INTO users (name) VALUES (:n)", n="a")).lastrowid == 1
        await db.a.executemany("INSERT INTO users (name) VALUES (?)", [["b"], ["c"]])
        assert await db.a.value("SELECT count(*) FROM users") == 3
        assert (await db.a.one("SELECT name FROM users WHERE id = 1")) == ("a",)
        with pytest.raises(RuntimeError):
            async with db.a.tx():
                await db.a.execute("INSERT INTO users (name) VALUES ('gone')")
                raise RuntimeError
        async with db.a.tx():
            await db.a.execute("INSERT INTO users (name) VALUES ('d')")
            with pytest.raises(RuntimeError):
                async with db.a.tx():
                    await db.a.execute("INSERT INTO users (name) VALUES ('gone')")
                    raise RuntimeError
            found = await asyncio.gather(db.a.value("SELECT 1"), db.a.value("SELECT count(*) FROM users"))
            assert found == [1, 4]
            assert await asyncio.wait_for(db.a.value("SELECT count(*) FROM users"), 5) == 4
        with pytest.raises(ProgrammingError, match="one row was wanted"):
            await db.a.one("SELECT name FROM users")

    asyncio.run(main())
    assert names(db) == ["a", "b", "c", "d"]


def test_a_transaction_belongs_to_its_task(db: Database) -> None:
    async def other(inside: asyncio.Event, go_on: asyncio.Event) -> None:
        await inside.wait()
        assert await db.a.value("SELECT count(*) FROM users") == 0, (
            "started outside: it is not in the transaction"
        )
        go_on.set()

    async def main() -> None:
        inside, go_on = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(other(inside, go_on))
        async with db.a.tx():
            await db.a.execute("INSERT INTO users (name) VALUES ('a')")
            inside.set()
            await go_on.wait()

            async def stranger() -> None:
                await db.a.query("SELECT 1")

            with pytest.raises(ProgrammingError, match="another thread or task"):
                await asyncio.create_task(stranger())
            with pytest.raises(ProgrammingError, match="are awaited"):
                db.query("SELECT 1")
            with pytest.raises(ProgrammingError, match="cannot be in each other"), db.tx():
                pass
        await task
        with db.tx():
            with pytest.raises(ProgrammingError, match="not awaited"):
                await db.a.query("SELECT 1")
            db.execute("INSERT INTO users (name) VALUES ('b')")

    asyncio.run(main())
    assert names(db) == ["a", "b"]


def test_many_tasks_write_in_turn(db: Database) -> None:
    async def add(number: int) -> None:
        async with db.a.tx():
            count = await db.a.value("SELECT count(*) FROM users")
            await asyncio.sleep(0)
            await db.a.execute("INSERT INTO users (name, age) VALUES (?, ?)", str(number), count)

    async def main() -> None:
        await asyncio.gather(*(add(n) for n in range(40)))

    asyncio.run(main())
    assert [row.age for row in db.query("SELECT age FROM users ORDER BY age")] == list(range(40))


def test_a_cancelled_task_leaves_nothing(db: Database) -> None:
    async def main() -> None:
        entered = asyncio.Event()

        async def slow() -> None:
            async with db.a.tx():
                await db.a.execute("INSERT INTO users (name) VALUES ('gone')")
                entered.set()
                await db.a.query(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) "
                    "SELECT max(i) FROM n"
                )
                await asyncio.sleep(60)

        task = asyncio.create_task(slow())
        await entered.wait()
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await db.a.execute("INSERT INTO users (name) VALUES ('next')")

        # While the begin waits for the lock that a transaction of this thread has.
        waiting = asyncio.create_task(slow())
        with db.tx():
            await asyncio.sleep(0.05)
            waiting.cancel()
            await asyncio.sleep(0.05)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await db.a.execute("INSERT INTO users (name) VALUES ('last')")

    asyncio.run(main())
    assert names(db) == ["next", "last"]


GUIDE = Path(__file__).parents[2] / "docs/guide/database.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("snippet", range(len(SNIPPETS)))
def test_the_guide_runs(snippet: int, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-W", "error", "-c", SNIPPETS[snippet]],
        env=package.environment(),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert not list(tmp_path.iterdir())

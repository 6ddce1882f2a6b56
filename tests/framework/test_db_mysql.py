"""`trivet.db` on MariaDB: a server that the tests start, kill and put a proxy before."""
# ruff: noqa: PT012 - what is tested is a block with a statement that fails in it

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time as clock
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from support import mariadb, package
from trivet.db import (
    CommitUnknown,
    Database,
    IntegrityError,
    OperationalError,
    PoolTimeout,
    ProgrammingError,
    migrate,
)
from trivet.db.migrate import MigrationError, patient

pytestmark = pytest.mark.skipif(shutil.which("mariadbd") is None, reason="MariaDB is not installed")


@pytest.fixture(scope="module")
def server() -> Iterator[mariadb.MariaDB]:
    with mariadb.running() as server:
        yield server


@pytest.fixture
def db(server: mariadb.MariaDB) -> Iterator[Database]:
    with Database(server.url("pool=4&pool_timeout=5")) as database:
        drop_all(database)
        database.execute(
            "CREATE TABLE users (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50) UNIQUE, age INT) "
            "ENGINE=InnoDB"
        )
        yield database


@pytest.fixture
def proxy(server: mariadb.MariaDB) -> Iterator[mariadb.Proxy]:
    proxy = mariadb.Proxy(server.port)
    yield proxy
    proxy.close()


def drop_all(db: Database) -> None:
    for row in db.query(
        "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = database()"
    ):
        db.execute(f"DROP TABLE `{row.name}`")


def names(db: Database) -> list[str]:
    return [row.name for row in db.query("SELECT name FROM users ORDER BY id")]


def open_connections(db: Database) -> int:
    return db._engine.open  # type: ignore[attr-defined,no-any-return]


# Statements and values.


def test_statements_rows_and_results(db: Database) -> None:
    assert db.execute("INSERT INTO users (name, age) VALUES (?, ?)", "Ada", 36) == (1, 1)
    assert db.execute("INSERT INTO users (name, age) VALUES (:name, :age)", name="Bob", age=None) == (1, 2)
    assert db.executemany("INSERT INTO users (name) VALUES (?)", [["x"], ("y",)]) == (2, None)
    row = db.one("SELECT id, name, age, 7 AS count FROM users WHERE id = ?", 1)
    assert row is not None
    assert (row, row.name, row["age"], row.count, row[0]) == ((1, "Ada", 36, 7), "Ada", 36, 7, 1)
    assert dict(row) == {"id": 1, "name": "Ada", "age": 36, "count": 7}
    assert db.one("SELECT * FROM users WHERE id = 99") is None
    assert db.value("SELECT count(*) FROM users") == 4
    assert db.execute("UPDATE users SET age = 36 WHERE id = 1").rowcount == 1, "found, though not changed"
    assert db.execute("DELETE FROM users WHERE id > ?", 2) == (2, None)
    assert db.query("INSERT INTO users (name) VALUES ('z') RETURNING id, name")[0].name == "z"
    assert db.query("DELETE FROM users") == []
    with pytest.raises(ProgrammingError, match="one row was wanted, there are 2"):
        db.one("SELECT 1 UNION SELECT 2")


def test_values_come_back_as_they_went(db: Database) -> None:
    db.execute(
        "CREATE TABLE v (i BIGINT, u BIGINT UNSIGNED, f FLOAT, d DOUBLE, t TEXT, b BLOB, da DATE, "
        "dt DATETIME(6), ts TIMESTAMP NULL, de DECIMAL(30,2), tm TIME(6), bo BOOL, j JSON, e ENUM('a','ü'), "
        "y YEAR, vb VARBINARY(9), n INT, c CHAR(3))"
    )
    moment = datetime(2026, 2, 3, 4, 5, 6, 789)
    values = (
        -(2**63), 2**64 - 1, 1.1, 1e300, "ü'\0x🎈", b"\0\xff", date(2026, 1, 2), moment,
        moment.replace(microsecond=0), Decimal("12345678901234567890.30"),
        -timedelta(hours=30, seconds=1, microseconds=5),
        True, '{"a":1}', "ü", 2026, b"", None, "",
    )  # fmt: skip
    db.execute(f"INSERT INTO v VALUES ({','.join('?' * len(values))})", *values)
    binary = db.one("SELECT * FROM v")
    assert binary == values
    assert [type(v) for v in binary or ()][2:11] == [type(v) for v in values][2:11]
    with db._engine.alone() as connection:  # type: ignore[attr-defined]
        text = connection._engine.native.run_text(connection._held, "SELECT * FROM v")
    assert text == [values], "the text protocol gives the same"
    aware = datetime(2026, 1, 1, 2, 0, tzinfo=timezone(timedelta(hours=2)))
    db.execute(
        "UPDATE v SET dt = ?, tm = ?, t = ?, b = ?", aware, time(1, 2, 3, 4), UUID(int=5), bytearray(b"x")
    )
    assert db.one("SELECT dt, tm, t, b FROM v") == (
        datetime(2026, 1, 1), timedelta(hours=1, minutes=2, seconds=3, microseconds=4),
        str(UUID(int=5)), b"x",
    )  # fmt: skip
    assert db.value("SELECT ?", 10**30) in (10**30, str(10**30))
    assert json.loads(db.value("SELECT j FROM v")) == {"a": 1}
    db.execute("SET SESSION sql_mode = ''")
    assert db.value("SELECT CAST('0000-00-00' AS DATE)") is None


def test_large_values(db: Database) -> None:
    db.execute("CREATE TABLE big (b LONGBLOB)")
    data = os.urandom(1 << 20) * 9
    db.execute("INSERT INTO big VALUES (?)", data)
    assert db.value("SELECT b FROM big") == data
    rows = db.query(
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i FROM n"
    )
    assert [row.i for row in rows] == list(range(1, 901))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda db: db.query("SELEC 1"),
            ProgrammingError,
            r"SQL syntax.*\(code 1064, 42000\)\nstatement: SELEC 1",
        ),
        (lambda db: db.query("SELECT * FROM nobody"), ProgrammingError, "nobody' doesn't exist"),
        (lambda db: db.query("SELECT ?"), ProgrammingError, "has 1 placeholders, 0 values"),
        (lambda db: db.query("SELECT :a", {"b": 1}), ProgrammingError, "no value for `:a`"),
        (lambda db: db.query("SELECT ?", [1]), ProgrammingError, "list cannot be a parameter"),
        (lambda db: db.query("SELECT ?", object()), ProgrammingError, "type `object` cannot"),
        (lambda db: db.query("SELECT ?", "\udc80"), ProgrammingError, "surrogate"),
        (lambda db: db.query("SELECT ?", float("inf")), ProgrammingError, "`inf` cannot be stored"),
        (lambda db: db.query("SELECT ?", Decimal("NaN")), ProgrammingError, "`NaN` cannot be stored"),
        (lambda db: db.query("SELECT 1; SELECT 2"), ProgrammingError, "SQL syntax"),
        (lambda db: db.execute("START TRANSACTION"), ProgrammingError, "hint: `with db.tx"),
        (
            lambda db: db.execute("INSERT INTO users (name) VALUES ('a'), ('a')"),
            IntegrityError,
            "Duplicate entry",
        ),
        (lambda db: db.execute("INSERT INTO users (id) VALUES ('x')"), ProgrammingError, "Incorrect integer"),
        (
            lambda db: db.execute("INSERT INTO users (name) VALUES (?)", "x" * 51),
            ProgrammingError,
            "too long",
        ),
    ],
)
def test_errors_say_what_is_wrong(
    db: Database, call: Callable[[Database], object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        call(db)
    with db.tx(), pytest.raises(kind, match=message):
        call(db)
    assert db.value("SELECT 1") == 1
    assert names(db) == []


def test_a_table_that_changes_changes_its_rows(db: Database) -> None:
    db.execute("INSERT INTO users (name) VALUES ('a')")
    select = "SELECT * FROM users"
    assert dict(db.query(select)[0]) == {"id": 1, "name": "a", "age": None}
    db.execute("ALTER TABLE users DROP COLUMN age, ADD COLUMN born INT DEFAULT 5")
    assert dict(db.query(select)[0]) == {"id": 1, "name": "a", "born": 5}


# Connections.


def test_urls_are_checked_and_passwords_not_shown(server: mariadb.MariaDB) -> None:
    db = Database("mysql://someone:geheim@db.example/shop")
    assert repr(db) == "<Database mysql://someone@db.example:3306/shop>"
    for url, message in (
        ("mysql://u:p@h", "names no database"),
        ("mysql://u:geheim@h:x/n", "malformed"),
        ("mysql://u:p@h/n?pol=3", "no option `pol`"),
        ("mysql://u:p@h/n?pool=0", "wanted a number"),
        ("mysql://u:p@h/n?tls=maybe", "wanted on, off or unverified"),
        ("mysql://u:p@h/n?tls_ca=x", "not `tls=on`"),
        ("mysql://u:p@h/n?tls=on&tls_key=x", "go together"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            Database(url)
        assert "geheim" not in str(caught.value)
    with pytest.raises(OperationalError, match=r"cannot connect to `127.0.0.1:\d+`.*[Rr]efused"):
        Database(server.url(port=mariadb.free_port())).query("SELECT 1")
    with pytest.raises(OperationalError, match="Access denied") as denied:
        Database(server.url().replace("p%40ss", "geheim")).query("SELECT 1")
    assert denied.value.code == 1045
    assert "geheim" not in str(denied.value)
    with pytest.raises(OperationalError, match=r"(Unknown database|Access denied)"):
        Database(server.url().replace("/test", "/nothing")).query("SELECT 1")


def test_a_unix_socket_serves_too(server: mariadb.MariaDB) -> None:
    server.sql(
        "CREATE USER IF NOT EXISTS trivet@localhost IDENTIFIED BY 'p@ss'; "
        "GRANT ALL ON test.* TO trivet@localhost"
    )
    with Database(f"mysql://trivet:p%40ss@localhost/test?socket={server.socket}") as db:
        assert db.value("SELECT 1") == 1


def test_a_name_with_several_addresses_is_tried_to_the_end(server: mariadb.MariaDB) -> None:
    hosts = Path("/etc/hosts").read_text().split()
    if "localhost" not in hosts:
        pytest.skip("this machine has no localhost")
    with Database(server.url().replace("127.0.0.1", "localhost")) as db:
        assert db.value("SELECT 1") == 1
    with pytest.raises(OperationalError, match=r"cannot connect to `no\.such\.host\.invalid:"):
        Database(server.url().replace("127.0.0.1", "no.such.host.invalid")).query("SELECT 1")


def test_an_answer_is_waited_for_as_long_as_was_said(server: mariadb.MariaDB) -> None:
    db = Database(server.url("read_timeout=0.3&pool=1"))
    with pytest.raises(OperationalError, match="the connection was lost: no answer in time"):
        db.query("SELECT sleep(5)")
    assert db.value("SELECT 1") == 1


def test_a_connection_that_nobody_gave_back_comes_back(server: mariadb.MariaDB) -> None:
    db = Database(server.url("pool=1&pool_timeout=1"))
    held = db._engine.begin()
    with pytest.raises(PoolTimeout):
        db.query("SELECT 1")
    del held
    assert db.value("SELECT 1") == 1
    assert open_connections(db) == 1


def test_the_pool_is_lazy_bounded_and_waited_for(server: mariadb.MariaDB) -> None:
    db = Database(server.url("pool=2&pool_timeout=0.2"))
    assert open_connections(db) == 0
    db.query("SELECT 1")
    db.query("SELECT 1")
    assert open_connections(db) == 1, "an idle one is used again"
    inside, go_on = threading.Barrier(3), threading.Event()

    def hold() -> None:
        with db.tx():
            inside.wait()
            go_on.wait()

    threads = [threading.Thread(target=hold) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait()
    start = clock.monotonic()
    with pytest.raises(PoolTimeout, match=r"all 2 connections were in use for 0.2 s\nhint: `pool=`"):
        db.query("SELECT 1")
    assert 0.15 < clock.monotonic() - start < 3
    go_on.set()
    for thread in threads:
        thread.join()
    assert db.value("SELECT 1") == 1
    assert open_connections(db) == 2
    db.close()
    assert open_connections(db) == 0
    assert db.value("SELECT 1") == 1


def test_whoever_waits_has_let_go_of_the_interpreter(db: Database) -> None:
    thread = threading.Thread(target=lambda: db.query("SELECT sleep(1)"))
    thread.start()
    count, deadline = 0, clock.monotonic() + 0.5
    while clock.monotonic() < deadline:
        count += 1
    assert thread.is_alive()
    assert count > 1000
    thread.join()


def test_a_connection_comes_back_as_new(server: mariadb.MariaDB) -> None:
    db = Database(server.url("pool=1"))
    first = db.value("SELECT connection_id()")
    db.execute("SET @x = 5")
    assert db.value("SELECT @x") is None
    db.execute("SET SESSION sql_mode = 'ANSI_QUOTES'")
    assert "ANSI_QUOTES" not in db.value("SELECT @@sql_mode")
    db.execute("CREATE TEMPORARY TABLE tmp (a INT)")
    with pytest.raises(ProgrammingError, match="doesn't exist"):
        db.query("SELECT * FROM tmp")
    assert db.value("SELECT get_lock('a', 0)") == 1
    assert db.value("SELECT is_free_lock('a')") == 1
    with db.tx():
        db.execute("SET @x = 5")
        assert db.value("SELECT @x") == 5
    assert db.value("SELECT @x") is None
    assert db.value("SELECT connection_id()") == first, "it was reset, not replaced"


def test_statements_stay_prepared(server: mariadb.MariaDB) -> None:
    db = Database(server.url("pool=1"))
    count = (
        "SELECT variable_value FROM information_schema.session_status "
        "WHERE variable_name = 'Com_stmt_prepare'"
    )
    before = int(db.value(count))
    for number in range(5):
        assert db.value("SELECT ? + 1", number) == number + 1
    assert int(db.value(count)) == before + 1
    for number in range(600):
        assert db.value(f"SELECT {number}") == number, "more than are kept"


def test_a_fork_opens_connections_of_its_own(db: Database) -> None:
    parent = db.value("SELECT connection_id()")
    with db.tx():
        db.execute("INSERT INTO users (name) VALUES ('open')")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                result: list[object] = []
                thread = threading.Thread(
                    target=lambda: result.extend(
                        db.query("SELECT connection_id(), (SELECT count(*) FROM users)")
                    )
                )
                thread.start()
                thread.join()
                number, count = result[0]  # type: ignore[misc]
                code = 0 if number != parent and count == 0 and open_connections(db) == 1 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        db.execute("INSERT INTO users (name) VALUES ('still')")
    assert names(db) == ["open", "still"]
    code = f"""
import os, sys
from trivet.db import Database
db = Database({db_url(db)!r})
mine = db.value("SELECT connection_id()")
child = os.fork()
if child == 0:
    other = db.value("SELECT connection_id()")
    sys.exit(0 if other != mine else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert db.value("SELECT connection_id()") == mine
"""
    done = subprocess.run([sys.executable, "-c", code], env=package.environment(), check=False)
    assert done.returncode == 0, "a child that ends in the ordinary way says no goodbye in the parent's name"


def db_url(db: Database) -> str:
    port = repr(db).rpartition(":")[2].partition("/")[0]
    return f"mysql://trivet:p%40ss@127.0.0.1:{port}/test"


def test_tls(server: mariadb.MariaDB) -> None:
    if not server.tls:
        pytest.skip("no `openssl` to make certificates")
    ca = server.folder / "ca.pem"
    cipher = "SHOW SESSION STATUS LIKE 'Ssl_version'"
    with Database(server.url(f"tls=on&tls_ca={ca}")) as db:
        assert db.query(cipher)[0][1] == "TLSv1.3"
        with db.tx():
            assert db.value("SELECT ?", "x" * 100_000) == "x" * 100_000
        assert open_connections(db) == 1
    with Database(server.url("tls=unverified")) as db:
        assert db.query(cipher)[0][1] == "TLSv1.3"
    with Database(server.url()) as db:
        assert db.query(cipher)[0][1] == ""
    with pytest.raises(OperationalError, match=r"cannot connect.*(UnknownIssuer|certificate)"):
        Database(server.url("tls=on")).query("SELECT 1")


# Transactions.


def test_transactions_and_savepoints(db: Database) -> None:
    with db.tx():
        db.execute("INSERT INTO users (name) VALUES ('outer')")
        with pytest.raises(RuntimeError), db.tx():
            db.execute("INSERT INTO users (name) VALUES ('inner')")
            raise RuntimeError
        with db.tx():
            db.execute("INSERT INTO users (name) VALUES ('second')")
    with pytest.raises(RuntimeError), db.tx():
        db.execute("INSERT INTO users (name) VALUES ('gone')")
        raise RuntimeError
    with pytest.raises(IntegrityError):
        db.executemany("INSERT INTO users (name) VALUES (?)", [["a"], ["b"], ["a"]])
    assert names(db) == ["outer", "second"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE x (a INT)",
        "drop table users",
        "TRUNCATE users",
        "SET autocommit = 1",
        "LOCK TABLES users READ",
    ],
)
def test_what_would_commit_is_refused_inside(db: Database, statement: str) -> None:
    with pytest.raises(RuntimeError), db.tx():
        db.execute("INSERT INTO users (name) VALUES ('a')")
        with pytest.raises(ProgrammingError, match="would commit the transaction"):
            db.execute(statement)
        db.execute("CREATE TEMPORARY TABLE tmp (a INT)")
        raise RuntimeError
    assert names(db) == []


def test_a_deadlock_ends_the_transaction(db: Database) -> None:
    db.executemany("INSERT INTO users (name, age) VALUES (?, 0)", [["a"], ["b"]])
    both = threading.Barrier(2)
    ends: list[BaseException | None] = []

    def swap(first: int, second: int) -> None:
        try:
            with db.tx():
                db.execute("UPDATE users SET age = age + 1 WHERE id = ?", first)
                both.wait()
                try:
                    db.execute("UPDATE users SET age = age + 1 WHERE id = ?", second)
                except OperationalError as error:
                    # Whoever goes on regardless would write without a transaction.
                    with pytest.raises(OperationalError, match="given up"):
                        db.execute("UPDATE users SET age = 100")
                    ends.append(error)
        except OperationalError as error:
            ends.append(error)
        else:
            ends.append(None)

    threads = [threading.Thread(target=swap, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ends) == 3
    assert ends.count(None) == 1
    deadlock = next(end for end in ends if isinstance(end, OperationalError) and end.code == 1213)
    assert "Deadlock" in str(deadlock)
    assert [row.age for row in db.query("SELECT age FROM users")] == [1, 1]


def test_asynchronous_statements_and_transactions(db: Database) -> None:
    async def add(number: int) -> None:
        async with db.a.tx():
            count = await db.a.value("SELECT count(*) FROM users FOR UPDATE")
            await db.a.execute("INSERT INTO users (name, age) VALUES (?, ?)", str(number), count)

    async def main() -> None:
        await db.a.execute("INSERT INTO users (name, age) VALUES ('first', 0)")
        await asyncio.gather(*(db.a.query("SELECT sleep(0.02)") for _ in range(20)))
        results = await asyncio.gather(*(add(n) for n in range(12)), return_exceptions=True)
        assert all(r is None or (isinstance(r, OperationalError) and r.code == 1213) for r in results)
        done = results.count(None)
        assert done >= 1
        assert await db.a.value("SELECT count(*) FROM users") == 1 + done

    asyncio.run(main())
    assert open_connections(db) <= 4


# Loss.


def test_idle_connections_that_broke_are_replaced(server: mariadb.MariaDB, proxy: mariadb.Proxy) -> None:
    db = Database(server.url("pool=3", port=proxy.port))
    assert db.value("SELECT 1") == 1
    for _ in range(3):
        proxy.drop_all()
        clock.sleep(0.05)
        assert db.value("SELECT 1") == 1
        assert open_connections(db) == 1


def test_a_connection_that_the_server_killed(server: mariadb.MariaDB, db: Database) -> None:
    number = db.value("SELECT connection_id()")
    server.sql(f"KILL {number}")
    clock.sleep(0.1)
    db.execute("INSERT INTO users (name) VALUES ('a')")
    with pytest.raises(OperationalError, match="the transaction with it"), db.tx():
        db.execute("INSERT INTO users (name) VALUES ('gone')")
        server.sql(f"KILL {db.value('SELECT connection_id()')}")
        clock.sleep(0.1)
    assert names(db) == ["a"]


def test_a_lost_answer_to_a_commit_is_unknown(
    server: mariadb.MariaDB, db: Database, proxy: mariadb.Proxy
) -> None:
    through = Database(server.url("pool=1", port=proxy.port))
    proxy.cut_after = b"COMMIT"
    with pytest.raises(CommitUnknown, match="before the commit was acknowledged"), through.tx():
        through.execute("INSERT INTO users (name) VALUES ('there')")
    assert proxy.forwarded.wait(5)
    assert names(db) == ["there"], "it happened, and nobody tried again"
    assert not issubclass(CommitUnknown, OperationalError), "who tries again after those does not after this"
    proxy.cut_after = None
    assert through.value("SELECT count(*) FROM users") == 1


def test_a_lost_answer_to_a_change_outside_of_a_transaction_is_unknown(
    server: mariadb.MariaDB, db: Database, proxy: mariadb.Proxy
) -> None:
    through = Database(server.url("pool=1", port=proxy.port))
    insert = "INSERT INTO users (name) VALUES (?)"
    through.execute(insert, "first")
    proxy.cut_after = b"second"
    with pytest.raises(CommitUnknown, match="before the statement was acknowledged"):
        through.execute(insert, "second")
    assert proxy.forwarded.wait(5)
    assert names(db) == ["first", "second"]
    proxy.cut_after = b"third"
    with pytest.raises(OperationalError, match="the connection was lost"):
        through.query("SELECT * FROM users WHERE name = ?", "third")
    connections = proxy.connections
    proxy.cut_after = b"fourth"
    with pytest.raises(OperationalError, match="the transaction with it"), through.tx():
        through.execute(insert, "fourth")
    assert names(db) == ["first", "second"]
    assert proxy.connections == connections + 1, "nothing is tried again inside"


def test_a_statement_that_surely_was_not_sent_goes_over_another_connection(
    server: mariadb.MariaDB, db: Database, proxy: mariadb.Proxy
) -> None:
    through = Database(server.url("pool=1", port=proxy.port))
    through.query("SELECT 1")
    insert = "INSERT INTO users (name) VALUES ('only once')"
    proxy.cut_after = b"\x16" + insert.encode()  # COM_STMT_PREPARE
    with pytest.raises(OperationalError, match="connection was lost"):
        through.execute(insert)
    assert proxy.connections == 2, "one more try, not more"
    proxy.cut_after = None
    through.execute(insert)
    assert names(db) == ["only once"]


def test_while_connections_break_nothing_is_half_done_or_wrongly_reported(
    server: mariadb.MariaDB, db: Database, proxy: mariadb.Proxy
) -> None:
    through = Database(server.url("pool=3&pool_timeout=30", port=proxy.port))
    kept: set[str] = set()
    unknown: set[str] = set()
    refused: set[str] = set()
    over = threading.Event()

    def write(number: int) -> None:
        for turn in range(60):
            pair = {f"{number}/{turn}/a", f"{number}/{turn}/b"}
            try:
                with through.tx():
                    for name in sorted(pair):
                        through.execute("INSERT INTO users (name) VALUES (?)", name)
            except CommitUnknown:
                unknown.update(pair)
            except OperationalError:
                refused.update(pair)
            else:
                kept.update(pair)

    def breaking() -> None:
        while not over.wait(0.02):
            proxy.drop_all()

    breaker = threading.Thread(target=breaking)
    breaker.start()
    writers = [threading.Thread(target=write, args=[n]) for n in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    over.set()
    breaker.join()
    there = set(names(db))
    assert len(kept) + len(unknown) + len(refused) == 6 * 60 * 2
    assert kept
    assert unknown | refused, "something was broken"
    assert kept <= there
    assert not refused & there
    assert len({name[:-1] for name in there}) * 2 == len(there), "both of each pair"


def test_a_killed_server(tmp_path: Path) -> None:
    with mariadb.running() as server:
        db = Database(server.url("pool=2&connect_timeout=2"))
        db.execute("CREATE TABLE users (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50)) ENGINE=InnoDB")
        with db.tx():
            db.execute("INSERT INTO users (name) VALUES ('kept')")
        with (
            pytest.raises(OperationalError, match="the connection was lost, and the transaction with it"),
            db.tx(),
        ):
            db.execute("INSERT INTO users (name) VALUES ('gone')")
            server.kill()
            db.execute("INSERT INTO users (name) VALUES ('gone too')")
        with pytest.raises(OperationalError, match="cannot connect to"):
            db.query("SELECT 1")
        with pytest.raises(OperationalError, match="cannot connect to"), db.tx():
            pass
        server.start()
        assert names(db) == ["kept"], "nothing half written"
        with db.tx():
            db.execute("INSERT INTO users (name) VALUES ('again')")

        # The commit is not sent over a connection that is known to be gone, so it surely did not happen.
        with pytest.raises(OperationalError, match="the transaction with it"), db.tx():
            db.execute("INSERT INTO users (name) VALUES ('never')")
            server.kill()
        server.start()
        assert names(db) == ["kept", "again"]


# Migrations.


def migrations(tmp_path: Path, **files: str) -> Path:
    folder = tmp_path / "migrations"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name.removeprefix('m')}.sql").write_text(text)
    return folder


TRIGGER = """
CREATE TABLE people (id INT PRIMARY KEY, name TEXT, shout TEXT); -- a; comment
DELIMITER //
CREATE TRIGGER loud BEFORE INSERT ON people FOR EACH ROW
BEGIN
    SET @x = 1;
    SET NEW.shout = UPPER(NEW.name);
END//
DELIMITER ;
INSERT INTO people (id, name) VALUES (1, 'a;b');
"""


def test_migrations_are_applied_once(db: Database, tmp_path: Path) -> None:
    folder = migrations(
        tmp_path, m0001_people=TRIGGER, m0002_more="INSERT INTO people (id, name) VALUES (2, 'ü')"
    )
    assert [state.applied for state in migrate.status(db, folder)] == [False, False]
    assert migrate.run(db, folder) == ["0001_people.sql", "0002_more.sql"]
    assert migrate.run(db_url(db), folder) == []
    assert db.query("SELECT shout FROM people ORDER BY id") == [("A;B",), ("Ü",)]
    assert all(state.applied for state in migrate.status(db, folder))
    migrations(tmp_path, m0002_more="SELECT 1")
    with pytest.raises(MigrationError, match="was changed after it was applied"):
        migrate.run(db, folder)


def test_an_unfinished_migration_stops_with_instructions(db: Database, tmp_path: Path) -> None:
    folder = migrations(tmp_path, m0001_a="CREATE TABLE a (x INT);\nCREATE TABLE a (y INT);")
    with pytest.raises(
        MigrationError, match=r"`0001_a.sql`, line 2: Table 'a' already exists\n.*may be applied\nhint: undo"
    ):
        migrate.run(db, folder)
    migrations(tmp_path, m0001_a="CREATE TABLE a (x INT)")
    with pytest.raises(
        MigrationError, match=r"was started at .* and not finished.*\nhint: .*DELETE FROM trivet_migr"
    ) as caught:
        migrate.run(db, folder)
    for statement in ("DROP TABLE a", str(caught.value).partition("`DELETE")[2].partition("`")[0]):
        db.execute(statement if statement.startswith("DROP") else "DELETE" + statement)
    assert migrate.run(db, folder) == ["0001_a.sql"]


def test_a_migration_that_is_refused_at_once_leaves_nothing(db: Database, tmp_path: Path) -> None:
    folder = migrations(tmp_path, m0001_a="CREAT TABLE a (x INT)")
    with pytest.raises(MigrationError, match="it was not applied"):
        migrate.run(db, folder)
    migrations(tmp_path, m0001_a="CREATE TABLE a (x INT)")
    assert migrate.run(db, folder) == ["0001_a.sql"]


def test_processes_that_migrate_at_once_apply_each_once(db: Database, tmp_path: Path) -> None:
    files = {f"m{n:04}_m": f"INSERT INTO people (id) VALUES ({n})" for n in range(2, 12)}
    folder = migrations(tmp_path, m0001_people=TRIGGER, **files)
    command = [sys.executable, "-m", "trivet.db.migrate", "--url", db_url(db), "--dir", str(folder)]
    runs = [
        subprocess.Popen(command, env=package.environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * 4
    assert sorted(text.count("applied `") for text in said) == [0, 0, 0, 11]
    assert db.value("SELECT count(*) FROM people") == 11


def test_a_lost_transaction_is_not_waited_for_twice(server: mariadb.MariaDB) -> None:
    with Database(server.url("read_timeout=1&pool=1")) as db:
        begun = clock.monotonic()
        with pytest.raises(OperationalError, match="no answer in time"), db.tx():
            db.query("SELECT SLEEP(6)")
        assert clock.monotonic() - begun < 1.8
        assert db.value("SELECT 42") == 42


def test_a_statement_of_a_migration_takes_its_time() -> None:
    assert patient("mysql://u@h/d") == "mysql://u@h/d?read_timeout=0"
    assert patient("mysql://u@h/d?pool=1") == "mysql://u@h/d?pool=1&read_timeout=0"
    assert patient("mysql://u@h/d?read_timeout=9") == "mysql://u@h/d?read_timeout=9"
    assert patient("sqlite:///a") == "sqlite:///a"

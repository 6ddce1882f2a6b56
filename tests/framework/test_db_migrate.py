"""Migrations on SQLite, and the splitting of scripts for both databases."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import package
from trivet.db import Database, migrate
from trivet.db.migrate import MigrationError
from trivet.db.statements import plan, split


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with Database(f"sqlite:///{tmp_path}/test.sqlite3") as database:
        yield database


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    folder = tmp_path / "migrations"
    folder.mkdir()

    def write(**files: str) -> Path:
        for name, text in files.items():
            (folder / f"{name.removeprefix('m')}.sql").write_text(text)
        return folder

    return write


USERS = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);\nINSERT INTO users (name) VALUES ('a;b');\n"


def test_each_is_applied_once_and_in_order(db: Database, write: Callable[..., Path]) -> None:
    folder = write(
        m0001_users=USERS, m0002_more="ALTER TABLE users ADD COLUMN age INTEGER; UPDATE users SET age = 3"
    )
    assert [state.applied for state in migrate.status(db, folder)] == [False, False]
    assert migrate.run(db, folder) == ["0001_users.sql", "0002_more.sql"]
    assert migrate.run(db, folder) == []
    assert db.query("SELECT name, age FROM users") == [("a;b", 3)]
    write(m0003_last="-- only a comment;\n")
    assert migrate.run(db, folder) == ["0003_last.sql"]
    assert all(state.applied for state in migrate.status(db, folder))
    (folder / "0001_users.sql").write_bytes(USERS.replace("\n", "\r\n").encode())
    assert migrate.run(db, folder) == [], "the end of a line is no change"


def test_one_that_fails_leaves_all_as_it_was(db: Database, write: Callable[..., Path]) -> None:
    folder = write(
        m0001_users=USERS, m0002_wrong="CREATE TABLE t (a);\n\n/* here: */ INSERT INTO nobody VALUES (1);"
    )
    with pytest.raises(
        MigrationError, match=r"`0002_wrong.sql`, line 3: no such table: nobody; nothing was applied"
    ):
        migrate.run(db, folder)
    assert db.query("SELECT name FROM sqlite_master") == []
    write(m0002_wrong="CREATE TABLE t (a)")
    assert len(migrate.run(db, folder)) == 2


def test_a_file_that_was_applied_is_not_changed(db: Database, write: Callable[..., Path]) -> None:
    folder = write(m0001_users=USERS)
    migrate.run(db, folder)
    write(m0001_users=USERS + "-- more")
    for look in (migrate.run, migrate.status):
        with pytest.raises(MigrationError, match=r"`0001_users.sql` was changed after.*\n.*into `0002_"):
            look(db, folder)
    (folder / "0001_users.sql").unlink()
    with pytest.raises(MigrationError, match="the folder does not have it"):
        migrate.run(db, folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"m0001_a": "", "m0003_c": ""}, "migration 2 is missing: after it there is `0003_c.sql`"),
        ({"m0002_a": ""}, "migration 1 is missing"),
        ({"m0001_a": "", "m1_b": ""}, "two migrations have number 1: `0001_a.sql` and `1_b.sql`"),
        ({"m0000_a": ""}, "has no number"),
        ({"mfirst": ""}, "has no number"),
        ({"m0001_a": "SELECT 'x"}, "the string that begins in line 1 does not end"),
        (
            {"m0001_a": "\nCREATE TRIGGER t AFTER INSERT ON x BEGIN SELECT 1;"},
            "begins in line 2 does not end",
        ),
        ({"m0001_a": "CREATE TABLE t (a); COMMIT; SELECT 1"}, "ended the transaction"),
    ],
)
def test_a_folder_that_cannot_be_applied(
    db: Database, write: Callable[..., Path], files: dict[str, str], message: str
) -> None:
    with pytest.raises(MigrationError, match=message):
        migrate.run(db, write(**files))


def test_a_table_with_keys_to_it_is_rebuilt(db: Database, write: Callable[..., Path]) -> None:
    folder = write(
        m0001_a="CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (a REFERENCES a ON DELETE CASCADE);"
        "INSERT INTO a VALUES (1); INSERT INTO b VALUES (1);",
        m0002_b="CREATE TABLE n (id INTEGER PRIMARY KEY, x TEXT); INSERT INTO n (id) SELECT id FROM a;"
        "DROP TABLE a; ALTER TABLE n RENAME TO a;",
    )
    migrate.run(db, folder)
    assert db.value("SELECT count(*) FROM b") == 1
    assert db.value("PRAGMA foreign_keys") == 1
    write(m0003_c="DELETE FROM a;")
    with pytest.raises(MigrationError, match="1 rows would point to nothing, the first in `b` to `a`"):
        migrate.run(db, folder)
    assert db.value("SELECT count(*) FROM a") == 1


def test_triggers_have_semicolons(db: Database, write: Callable[..., Path]) -> None:
    folder = write(
        m0001_t=USERS + "CREATE TRIGGER up AFTER INSERT ON users BEGIN\n"
        "  UPDATE users SET name = upper(name) WHERE id = new.id; -- ;\n  SELECT 1;\nEND;\n"
        "INSERT INTO users (name) VALUES ('x');"
    )
    migrate.run(db, folder)
    assert db.value("SELECT name FROM users WHERE id = 2") == "X"


def test_processes_that_migrate_at_once_apply_each_once(tmp_path: Path, write: Callable[..., Path]) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    folder = write(
        m0001_a=USERS, **{f"m{n:04}_m": f"INSERT INTO users (name) VALUES ('{n}')" for n in range(2, 30)}
    )
    command = [sys.executable, "-m", "trivet.db.migrate", "--url", url, "--dir", str(folder)]
    runs = [
        subprocess.Popen(command, env=package.environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * 4
    assert sorted(text.count("applied `") for text in said) == [0, 0, 0, 29]
    assert Database(url).value("SELECT count(*) FROM users") == 29


def test_the_command(tmp_path: Path, write: Callable[..., Path]) -> None:
    def command(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "trivet.db.migrate", *arguments],
            env=package.environment(TRIVET_DB="x.db"),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    write(m0001_users=USERS)
    assert command("--status") == (1, "0001_users.sql  pending\n", "")
    assert command() == (0, "applied `0001_users.sql`\n", "")
    assert command() == (0, "nothing to apply\n", "")
    code, out, _ = command("--status")
    assert (code, out[:24]) == (0, "0001_users.sql  applied ")
    write(m0003_gap="")
    assert command() == (78, "", "migration 2 is missing: after it there is `0003_gap.sql`\n")
    assert command("--dir", "no")[0] == 78
    assert command("--url", "sqlite:///no/such/file")[0] == 78
    (tmp_path / "migrations/0003_gap.sql").unlink()
    assert command("--url", "sqlite:///no/such/file")[0] == 70
    assert command("--url", "x://")[0] == 64
    assert command("--wrong")[0] == 64


@pytest.mark.parametrize(
    ("script", "statements"),
    [
        ("", []),
        (";;\n;", []),
        ("a;b", [(1, "a"), (1, "b")]),
        ("-- x;\n\nSELECT ';' -- y;\n; b ;", [(3, "-- x;\n\nSELECT ';' -- y;"), (4, "b")]),
        ("SELECT 'it''s;' ; SELECT \";\" ; SELECT `;` ; SELECT [;]",
         [(1, "SELECT 'it''s;'"), (1, 'SELECT ";"'), (1, "SELECT `;`"), (1, "SELECT [;]")]),
        ("/* ; */ a; /* b; */", [(1, "/* ; */ a")]),
        ("SELECT '\\'; b", [(1, "SELECT '\\'"), (1, "b")]),
        ("CREATE TEMP TRIGGER t AFTER INSERT ON x BEGIN SELECT CASE 1 WHEN 1 THEN 2 END; SELECT 2; END; b",
         [(1, "CREATE TEMP TRIGGER t AFTER INSERT ON x BEGIN SELECT CASE 1 WHEN 1 THEN 2 END; SELECT 2; END"),
          (1, "b")]),
    ],
)  # fmt: skip
def test_sqlite_scripts_are_split(script: str, statements: list[tuple[int, str]]) -> None:
    assert split(script, "sqlite") == statements


@pytest.mark.parametrize(
    ("script", "statements"),
    [
        ("a;b", [(1, "a"), (1, "b")]),
        ("# x;\n--\n-- ;\nSELECT 'a\\';' ; SELECT \"\\\";\" ; SELECT `a``;`; /* ; */",
         [(4, "# x;\n--\n-- ;\nSELECT 'a\\';'"), (4, 'SELECT "\\";"'), (4, "SELECT `a``;`")]),
        ("SELECT 1--1; b", [(1, "SELECT 1--1"), (1, "b")]),
        ("/*!40101 SET NAMES utf8 */; b", [(1, "/*!40101 SET NAMES utf8 */"), (1, "b")]),
        ("a;\nDELIMITER //\nCREATE TRIGGER t BEGIN x; y; END//\n  b //\ndelimiter ;\nc",
         [(1, "a"), (3, "CREATE TRIGGER t BEGIN x; y; END"), (4, "b"), (6, "c")]),
        ("DELIMITER $$\nBEGIN a; END$$\nDELIMITER ;\n", [(2, "BEGIN a; END")]),
        ("DELIMITER GO\nselect 'GO'; xGO\r\ndelimiter ;\r\nb", [(2, "select 'GO'; x"), (4, "b")]),
    ],
)  # fmt: skip
def test_mysql_scripts_are_split(script: str, statements: list[tuple[int, str]]) -> None:
    assert split(script, "mysql") == statements


@pytest.mark.parametrize(
    ("script", "dialect"),
    [("SELECT 'a\\'", "mysql"), ('"', "mysql"), ("`", "mysql"), ("/* x", "mysql"),
     ("DELIMITER //\na;", "mysql"),
     ("'a", "sqlite"), ('"', "sqlite"), ("[a", "sqlite"), ("/*/", "sqlite")],
)  # fmt: skip
def test_a_script_that_ends_too_early_is_an_error(script: str, dialect: str) -> None:
    with pytest.raises(ValueError, match="does not end"):
        split(script, dialect)


@pytest.mark.parametrize(
    ("sql", "sent", "names"),
    [
        ("SELECT ':a', \":b\", `:c`, :d -- :e\n, :f # :g\n /* :h */",
         "SELECT ':a', \":b\", `:c`, ? -- :e\n, ? # :g\n /* :h */",
         ("d", "f")),
        ("SELECT 'it\\'s :a', 'b''s :b', :c, @x := 1, :c",
         "SELECT 'it\\'s :a', 'b''s :b', ?, @x := 1, ?", ("c", "c")),
        ("SELECT 1--:a", "SELECT 1--?", ("a",)),
        ("SELECT JSON_VALUE(x, '$.a:b') WHERE y=:y", "SELECT JSON_VALUE(x, '$.a:b') WHERE y=?", ("y",)),
    ],
)  # fmt: skip
def test_names_are_found_for_mysql(sql: str, sent: str, names: tuple[str, ...]) -> None:
    planned = plan(sql, "mysql")
    assert (planned.sql, planned.names) == (sent, names)


@pytest.mark.parametrize(
    ("sql", "verb", "stays"),
    [
        ("/* x */ (SELECT 1)", "select", False),
        ("WITH a AS (SELECT 1), b AS (DELETE) UPDATE t SET x = 1", "update", False),
        ("WITH a AS (SELECT 'update') SELECT * FROM a", "select", False),
        ("SELECT @x := 1", "select", True),
        ("SELECT get_lock('a', 1)", "select", True),
        ("SET NAMES utf8", "set", True),
        ("insert into t values ('@x')", "insert", False),
    ],
)
def test_what_a_statement_does_is_read(sql: str, verb: str, stays: bool) -> None:
    planned = plan(sql, "mysql")
    assert (planned.verb, planned.stays) == (verb, stays)

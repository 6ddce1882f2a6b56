"""The database of the scenarios that need one: a MariaDB server with TechEmpower's two tables.

It is started for the first case that asks for it and stopped at the end of the run. It is no part of what is measured:
the CPU of a case is that of the server under test alone."""
import atexit
import contextlib
import importlib.util
import random
import shutil
from pathlib import Path

WORLDS = 10_000
FORTUNES = (
    "fortune: No such file or directory",
    "A computer scientist is someone who fixes things that aren't broken.",
    "After enough decimal places, nobody gives a damn.",
    "A bad random number generator: 1, 1, 1, 1, 1, 4.33e+67, 1, 1, 1",
    "A computer program does what you tell it to do, not what you want it to do.",
    "Emacs is a nice operating system, but I prefer UNIX. — Tom Christaensen",
    "Any program that runs right is obsolete.",
    "A list is only as strong as its weakest link. — Donald Knuth",
    "Feature: A bug with seniority.",
    "Computers make very fast, very accurate mistakes.",
    '<script>alert("This should not be displayed in a browser alert box.");</script>',
    "フレームワークのベンチマーク",
)
_url = ""


def missing():
    """Why there is no database, or None."""
    return None if shutil.which("mariadbd") else "not found: mariadbd (apt install mariadb-server)"


def support():
    """How the tests start a MariaDB server."""
    path = Path(__file__).resolve().parents[1] / "tests/support/mariadb.py"
    spec = importlib.util.spec_from_file_location("mariadb_server", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def url():
    """The server's URL, as Trivet writes it; it starts the server if need be."""
    global _url
    if not _url:
        stack = contextlib.ExitStack()
        atexit.register(stack.close)
        server = stack.enter_context(support().running())
        numbers = random.Random(7)
        worlds = ",".join(f"({id},{numbers.randint(1, WORLDS)})" for id in range(1, WORLDS + 1))
        quoted = (text.replace("'", "''") for text in FORTUNES)
        fortunes = ",".join(f"({id},'{text}')" for id, text in enumerate(quoted, 1))
        server.sql("USE test; CREATE TABLE world (id INT PRIMARY KEY, randomNumber INT NOT NULL) ENGINE=InnoDB;"
                   f"INSERT INTO world VALUES {worlds};"
                   "CREATE TABLE fortune (id INT PRIMARY KEY, message VARCHAR(2048) NOT NULL) ENGINE=InnoDB;"
                   f"INSERT INTO fortune VALUES {fortunes};")
        _url = server.url()
    return _url

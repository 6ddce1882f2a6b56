"""The example application on the real server with four workers, as a person meets it in a browser.

On SQLite, and on a MariaDB server that the tests install and start.
"""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Start
from support import mariadb
from support.browser import Browser, program
from support.http import once
from support.poll import until
from support.server import Server, environment

GUESTBOOK = Path(__file__).resolve().parent.parent / "examples/guestbook"
PASSWORD = "a long enough one"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def png(width: int, height: int) -> bytes:
    """A picture: a sunset."""
    rows = b"".join(
        b"\0" + bytes([250 - 120 * y // height, 170 - 70 * y // height, 110 + 60 * y // height]) * width
        for y in range(height)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


class Book:
    """A guest book that is served: where, and in which database."""

    def __init__(self, start: Start, folder: Path, database: mariadb.MariaDB | None) -> None:
        self.database = database
        self.data = folder / "data"
        self.env = {"GUESTBOOK_DATA": str(self.data)}
        if database is not None:
            self.env["TRIVET_DB"] = database.url("pool=2")
        self.server = start("app:app", "-w", "4", chdir=GUESTBOOK, env=self.env)

    def texts(self) -> list[str]:
        """What was written, asked of the database without any code of ours."""
        if self.database is not None:
            return self.database.sql("SELECT text FROM test.entries").splitlines()
        database = sqlite3.connect(self.data / "guestbook.sqlite3")
        try:
            return [text for (text,) in database.execute("SELECT text FROM entries")]
        finally:
            database.close()

    def make_admin(self, name: str) -> str:
        python = str(GUESTBOOK.parents[1] / "python")
        return subprocess.run(
            [sys.executable, "app.py", "admin", name],
            cwd=GUESTBOOK,
            env=environment({**self.env, "PYTHONPATH": python}),
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout


@pytest.fixture(params=["sqlite", "mariadb"])
def kind(request: pytest.FixtureRequest) -> str:
    """The name of a database, which names screenshots too."""
    return str(request.param)


@pytest.fixture
def book(kind: str, start: Start, tmp_path: Path) -> Iterator[Book]:
    if kind == "sqlite":
        yield Book(start, tmp_path, None)
        return
    if shutil.which("mariadbd") is None:
        pytest.skip("no MariaDB server on this machine")
    with mariadb.running() as database:
        book = Book(start, tmp_path, database)
        yield book
        # Before its database goes.
        book.server.stop()


def cookie_of(server: Server, name: str) -> str:
    body = f"name={name}&password={PASSWORD.replace(' ', '+')}".encode()
    answer = once(server.address, "POST", "/sign-up", FORM, body)
    assert answer.status == 303, answer
    return answer.all("set-cookie")[0].partition(";")[0]


@pytest.mark.skipif(program() is None, reason="no Chromium in PATH")
def test_a_person_signs_up_writes_and_the_admin_hides(book: Book, kind: str, tmp_path: Path) -> None:
    folder = Path(os.environ.get("TRIVET_SHOTS", tmp_path))
    site = f"http://localhost:{book.server.address[1]}"
    picture = tmp_path / "sunset.png"
    picture.write_bytes(png(800, 500))
    with Browser(tmp_path) as browser:

        def look(name: str, **how: Any) -> None:
            browser.look(folder / f"guestbook-{kind}-{name}.png", **how)

        browser.open(site + "/")
        assert "The first page is still white." in browser.text()
        look("empty")
        browser.click('a[href="/sign-up"]')
        look("sign-up")
        browser.fill("#name", "Ada")
        browser.fill("#password", PASSWORD)
        browser.click("main form button")
        assert "Welcome, Ada!" in browser.text()
        written = "The lake was lovely, <i>and</i> so was the cake 🎂, déjà vu."
        browser.fill("#text", written)
        browser.choose('input[type="file"]', picture)
        browser.click(".write button")
        assert written in browser.text()
        assert book.texts() == [written]
        width = "document.querySelector('.picture img').naturalWidth"
        until(lambda: browser.evaluate(width) == 800, why="the picture is there")
        look("light")
        look("dark", dark=True, width=420)
        browser.open(site + "/admin")
        assert "This page is not for you" in browser.text()
        look("refused", dark=True)
        # The console tells of every answer that is an error; this one was asked for.
        refused = [text for text in browser.complaints if "403" in text]
        assert len(refused) == 1
        assert browser.complaints == refused, browser.complaints
        browser.complaints.clear()
        assert book.make_admin("Ada") == "Ada is an admin\n"
        browser.open(site + "/admin")
        assert browser.evaluate("document.querySelector('h1').innerText") == "Admin"
        look("admin")
        look("admin-narrow", width=420)
        browser.click(".act button")
        assert browser.evaluate("document.querySelector('tr.hidden') !== null")
        look("admin-hidden", dark=True)
        browser.open(site + "/")
        assert "The first page is still white." in browser.text()
        browser.click('form[action="/log-out"] button')
        assert "Log in" in browser.text()
        assert browser.complaints == []


def test_four_workers_write_at_once_and_nothing_is_lost(book: Book) -> None:
    written = write_at_once(book.server)
    assert sorted(book.texts()) == sorted(written)


def write_at_once(guestbook: Server) -> set[str]:
    """What eight people have written."""
    writers, each = 8, 25
    cookies = [cookie_of(guestbook, f"writer+{number}") for number in range(writers)]
    wrong: list[int] = []

    def write(number: int) -> None:
        for count in range(each):
            fields = {**FORM, "Cookie": cookies[number]}
            answer = once(
                guestbook.address, "POST", "/entries", fields, f"text=entry+{number}-{count}".encode()
            )
            if answer.status != 303:
                wrong.append(answer.status)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert wrong == []
    assert re.search(rf"{writers * each} entries so far", guestbook.get("/").text)
    return {f"entry {number}-{count}" for number in range(writers) for count in range(each)}

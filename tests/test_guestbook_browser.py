"""The example application on the real server with four workers, as a person meets it in a browser."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import zlib
from pathlib import Path

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


@pytest.fixture
def guestbook(start: Start, tmp_path: Path) -> Server:
    data = tmp_path / "data"
    return start("app:app", "-w", "4", chdir=GUESTBOOK, env={"GUESTBOOK_DATA": str(data)})


def cookie_of(server: Server, name: str) -> str:
    body = f"name={name}&password={PASSWORD.replace(' ', '+')}".encode()
    answer = once(server.address, "POST", "/sign-up", FORM, body)
    assert answer.status == 303, answer
    return answer.all("set-cookie")[0].partition(";")[0]


@pytest.mark.skipif(program() is None, reason="no Chromium in PATH")
def test_a_person_signs_up_writes_and_the_admin_hides(guestbook: Server, tmp_path: Path) -> None:
    shots = Path(os.environ.get("TRIVET_SHOTS", tmp_path))
    site = f"http://localhost:{guestbook.address[1]}"
    picture = tmp_path / "sunset.png"
    picture.write_bytes(png(800, 500))
    with Browser(tmp_path) as browser:
        browser.open(site + "/")
        assert "The first page is still white." in browser.text()
        browser.click('a[href="/sign-up"]')
        browser.look(shots / "guestbook-sign-up.png")
        browser.fill("#name", "Ada")
        browser.fill("#password", PASSWORD)
        browser.click("main form button")
        assert "Welcome, Ada!" in browser.text()
        browser.fill("#text", "The lake was lovely, <i>and</i> so was the cake.")
        browser.choose('input[type="file"]', picture)
        browser.click(".write button")
        assert "<i>and</i>" in browser.text()
        width = "document.querySelector('.picture img').naturalWidth"
        until(lambda: browser.evaluate(width) == 800, why="the picture is there")
        browser.look(shots / "guestbook-light.png")
        browser.look(shots / "guestbook-dark.png", dark=True, width=420)
        browser.open(site + "/admin")
        assert "This page is not for you" in browser.text()
        browser.look(shots / "guestbook-refused.png", dark=True)
        # The console tells of every answer that is an error; this one was asked for.
        refused = [text for text in browser.complaints if "403" in text]
        assert browser.complaints == refused, browser.complaints
        browser.complaints.clear()
        made = subprocess.run(
            [sys.executable, "app.py", "admin", "Ada"],
            cwd=GUESTBOOK,
            env=environment(
                {"GUESTBOOK_DATA": str(tmp_path / "data"), "PYTHONPATH": str(GUESTBOOK.parents[1] / "python")}
            ),
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert made.stdout == "Ada is an admin\n"
        browser.open(site + "/admin")
        assert browser.evaluate("document.querySelector('h1').innerText") == "Admin"
        browser.look(shots / "guestbook-admin.png")
        browser.click(".act button")
        assert browser.evaluate("document.querySelector('tr.hidden') !== null")
        browser.open(site + "/")
        assert "The first page is still white." in browser.text()
        browser.click('form[action="/log-out"] button')
        assert "Log in" in browser.text()
        assert browser.complaints == []


def test_four_workers_write_at_once_and_nothing_is_lost(guestbook: Server, tmp_path: Path) -> None:
    written = write_at_once(guestbook)
    with sqlite3.connect(tmp_path / "data/guestbook.sqlite3") as database:
        texts = {text for (text,) in database.execute("SELECT text FROM entries")}
    database.close()
    assert texts == written


@pytest.mark.skipif(shutil.which("mariadbd") is None, reason="no MariaDB server on this machine")
def test_they_do_so_on_mariadb(start: Start, tmp_path: Path) -> None:
    with mariadb.running() as database:
        env = {"GUESTBOOK_DATA": str(tmp_path / "data"), "TRIVET_DB": database.url("pool=2")}
        server = start("app:app", "-w", "4", chdir=GUESTBOOK, env=env)
        write_at_once(server)
        server.stop()


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

"""Rotation of access logs by size and age: no line is lost or torn, in a folder that the edge cannot
write to (the tests run as root, the edge under its own account)."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from conftest import Serve
from support.poll import until
from support.server import SiteServer

SITE = """
[site.one]
listen = ["http://127.0.0.1:${P0}"]
hosts = ["one.example"]
access-log = { file = "a.log", format = "%(U)s", rotate = { ROTATE } }
route = [{ path = "/*", respond = 204 }]
[site.two]
listen = ["http://127.0.0.1:${P0}"]
hosts = ["two.example"]
access-log = { file = "a.log", format = "%(U)s", rotate = { ROTATE } }
route = [{ path = "/*", respond = 204 }]
[site.rest]
listen = ["http://127.0.0.1:${P0}"]
route = [{ path = "/*", respond = 204 }]
"""


def rotating(serve: Serve, how: str) -> SiteServer:
    return serve(SITE.replace("ROTATE", how))


def files(place: Path) -> list[Path]:
    """The oldest first."""
    kept = sorted(place.glob("a.log.*"), key=lambda p: -int(p.suffix[1:]))
    return [*kept, place / "a.log"]


def lines(place: Path) -> list[str]:
    return [line for file in files(place) for line in file.read_text().splitlines(keepends=True)]


def test_a_log_that_is_large_is_put_aside_and_no_line_is_lost_or_torn(serve: Serve, place: Path) -> None:
    server = rotating(serve, 'size = "20KiB", keep = 1000')
    assert os.stat(f"/proc/{server.edge()}").st_uid != place.stat().st_uid or os.geteuid() != 0
    asked = 0
    stop = threading.Event()

    def client(host: str, count: list[int]) -> None:
        with server.connect() as connection:
            while not stop.is_set():
                target = f"/{host}/{count[0]}/" + "x" * 50
                assert connection.request("GET", target, {"Host": f"{host}.example"}).status == 204
                count[0] += 1

    counts = {"one": [0], "two": [0]}
    threads = [threading.Thread(target=client, args=(h, c)) for h, c in counts.items()]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(files(place)) > 3, 30, "it was rotated three times")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    asked = sum(c[0] for c in counts.values())
    until(lambda: len(lines(place)) >= asked, 10, "all lines are there")
    for host, [count] in counts.items():
        wanted = [f"/{host}/{n}/" + "x" * 50 + "\n" for n in range(count)]
        assert [line for line in lines(place) if line.startswith(f"/{host}/")] == wanted
    assert len(lines(place)) == asked
    # Two sites, one file: it is rotated once, and not before it is as large as that.
    for file in files(place)[:-1]:
        assert file.stat().st_size >= 20 << 10
    assert "no such file" not in server.log()


def test_so_many_are_kept_as_is_said(serve: Serve, place: Path) -> None:
    server = rotating(serve, "size = 1, keep = 2")
    newest = place / "a.log.1"
    for number in range(4):
        server.ask(f"/{number}", "one.example")
        until(lambda n=number: newest.exists() and newest.read_text() == f"/{n}\n")  # type: ignore[misc]
    assert [f.name for f in files(place)] == ["a.log.2", "a.log.1", "a.log"]
    assert lines(place) == ["/2\n", "/3\n"]


def test_a_log_that_is_old_is_put_aside(serve: Serve, place: Path) -> None:
    server = rotating(serve, 'age = "2s"')
    server.ask("/1", "one.example")
    until(lambda: "/1\n" in lines(place), 5, "the line is there")
    began = time.monotonic()
    until((place / "a.log.1").exists, 10, "it is put aside")
    assert time.monotonic() - began > 0.5
    assert (place / "a.log.1").read_text() == "/1\n"
    server.ask("/2", "one.example")
    until(lambda: lines(place) == ["/1\n", "/2\n"], 5, "further lines are in the new file")
    until((place / "a.log.2").exists, 10, "it is put aside again")
    assert not (place / "a.log.3").exists()


def test_an_empty_log_is_left_alone(serve: Serve, place: Path) -> None:
    rotating(serve, 'age = "1s"')
    deadline = time.monotonic() + 3.5
    until(lambda: time.monotonic() > deadline, 10)
    assert [f.name for f in files(place)] == ["a.log"]


def test_who_may_read_it_stays_the_same(serve: Serve, place: Path) -> None:
    log = place / "a.log"
    log.touch()
    log.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(log, 12345, 54321)
    before = log.stat()
    server = rotating(serve, "size = 1")
    server.ask("/1", "one.example")
    until((place / "a.log.1").exists, 10, "it is put aside")
    until(log.exists, 5)
    after = log.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino


def test_sigusr1_and_a_reload_go_on_working(serve: Serve, place: Path) -> None:
    server = rotating(serve, 'size = "1MiB"')
    log = place / "a.log"
    server.ask("/1", "one.example")
    until(lambda: log.read_text() == "/1\n", 5)
    log.rename(place / "taken")
    server.signal(signal.SIGUSR1)
    until(log.exists, 5, "the file is there again")
    server.ask("/2", "one.example")
    until(lambda: "/2\n" in log.read_text() + (place / "taken").read_text(), 5)
    server.take(SITE.replace("ROTATE", "size = 1"))
    server.ask("/3", "one.example")
    until((place / "a.log.1").exists, 10, "the new rule counts")


def test_the_edge_that_dies_changes_nothing(serve: Serve, place: Path) -> None:
    server = rotating(serve, "size = 1")
    server.ask("/1", "one.example")
    until((place / "a.log.1").exists, 10)
    edge = server.edge()
    os.kill(edge, signal.SIGKILL)
    until(lambda: server.edge() != edge, 10, "another edge")
    server.wait_until_it_answers()
    server.ask("/2", "one.example")
    until(lambda: "/2\n" in lines(place), 5)
    until((place / "a.log.2").exists, 10, "rotated again")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have a log where the edge may not")
def test_a_folder_that_takes_no_new_file_is_told_of_once(serve: Serve, place: Path) -> None:
    (place / "a.log.1").mkdir()
    (place / "a.log.1" / "in the way").touch()
    server = rotating(serve, "size = 1, keep = 1")
    for number in range(3):
        server.ask(f"/{number}", "one.example")
    server.wait_for_log("an access log cannot be rotated")
    until(lambda: (place / "a.log").read_text() == "/0\n/1\n/2\n", 5, "it goes on")
    assert server.log().count("an access log cannot be rotated") == 1

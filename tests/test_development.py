"""Writing an application: a change is served at once, an error is a page for this machine alone."""

import threading
import time
from pathlib import Path

import pytest
from conftest import Start
from support.http import Cut, once
from support.poll import until

RELOAD_SECONDS_MAX = 0.3
ROUNDS = 20
APP = """
import time
started = time.perf_counter()
VERSION = "{version:06d}"

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/raise":
        secret_token = "tell-nobody"
        raise ValueError("<went wrong>")
    if path == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return ticks()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [VERSION.encode()]

def ticks():
    while True:
        yield b"data: " + VERSION.encode() + b"\\n\\n"
        time.sleep(0.1)
"""


def write(folder: Path, version: int) -> None:
    (folder / "app.py").write_text(APP.format(version=version))


@pytest.mark.alone
def test_a_change_is_served_within_300_ms_and_streams_are_cut_not_ended(
    start: Start, tmp_path: Path, slow_set: bool
) -> None:
    write(tmp_path, 0)
    server = start(
        "app",
        "--reload",
        "--threads",
        "4",
        "--graceful-timeout",
        "2s",
        "--env",
        "TRIVET_DEV=1",
        chdir=tmp_path,
    )
    ends: list[tuple[str, float]] = []

    def listen() -> None:
        with server.connect() as connection:
            try:
                answer = connection.request("GET", "/events")
                ends.append((f"ended {answer.status}", time.monotonic()))
            except Cut:
                ends.append(("cut", time.monotonic()))

    times = []
    for version in range(1, ROUNDS + 1):
        listener = threading.Thread(target=listen)
        listener.start()
        time.sleep(0.1)  # the stream has begun
        begun = time.monotonic()
        write(tmp_path, version)
        until(lambda version=version: server.get("/").text == f"{version:06d}", 15)  # type: ignore[misc]
        times.append(time.monotonic() - begun)
        listener.join(15)
        assert ends[-1][0] == "cut"
        assert ends[-1][1] - begun < 6, "the stream of the old code is not kept for ever"
    times.sort()
    # By hand, on a machine that does nothing else, it is the 95th percentile.
    at = int(ROUNDS * 0.95) - 1 if slow_set else ROUNDS // 2
    print("reload, seconds:", *(f"{took:.3f}" for took in times))
    assert times[at] <= RELOAD_SECONDS_MAX, times


def test_an_error_is_a_page_for_this_machine_alone(start: Start, tmp_path: Path) -> None:
    write(tmp_path, 0)
    server = start("app", "--env", "TRIVET_DEV=1", chdir=tmp_path)
    answer = server.get("/raise", {"Host": "localhost:1234"})
    assert answer.status == 500
    assert "<h1>ValueError</h1>" in answer.text
    assert "&lt;went wrong&gt;" in answer.text
    assert "secret_token" in answer.text
    assert server.log().count("ValueError: <went wrong>") == 1
    for host in ("evil.example", "localhost.evil.example"):
        answer = server.get("/raise", {"Host": host})
        assert answer.status == 500
        assert "ValueError" not in answer.text
    # Through a proxy on this machine, the client is somebody else.
    answer = once(server.address, "GET", "/raise", {"Host": "localhost", "X-Forwarded-For": "192.0.2.1"})
    assert "ValueError" not in answer.text
    assert server.get("/").text == "000000"


def test_in_production_an_error_is_no_page(start: Start, tmp_path: Path) -> None:
    write(tmp_path, 0)
    server = start("app", chdir=tmp_path)
    answer = server.get("/raise", {"Host": "localhost"})
    assert answer.status == 500
    assert "ValueError" not in answer.text

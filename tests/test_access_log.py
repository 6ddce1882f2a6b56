"""The access log: its formats, its file, and the request id that ties log, answer and app together."""

import json
import re
import signal
from pathlib import Path

import pytest
from conftest import Start
from support.poll import until
from support.server import Server

COMMON = re.compile(
    r"127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
    r'"(?P<line>[^"]*)" (?P<status>\d{3}) (?P<size>\d+|-)'
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def lines(log: Path, count: int) -> list[str]:
    """The lines without those of the start, as soon as there are so many."""

    def there() -> list[str] | None:
        found = [line for line in log.read_text().splitlines() if "/-ready" not in line]
        return found if len(found) >= count else None

    found = until(there, why=f"{count} lines in the access log")
    assert len(found) == count
    return found


def served(start: Start, log: Path, *flags: str) -> Server:
    return start("echo", "--access-logfile", str(log), *flags)


def test_the_default_format_is_gunicorns(start: Start, log: Path) -> None:
    server = served(start, log)
    server.get("/a?b=c", {"User-Agent": "tester/1", "Referer": "http://from.example/"})
    [line] = lines(log, 1)
    match = COMMON.match(line)
    assert match, line
    assert (match["line"], match["status"]) == ("GET /a?b=c HTTP/1.1", "200")
    assert '"http://from.example/" "tester/1"' in line


def test_common(start: Start, log: Path) -> None:
    server = served(start, log, "--access-logformat", "common")
    server.get("/sized/1234")
    [line] = lines(log, 1)
    match = COMMON.fullmatch(line)
    assert match, line
    assert (match["line"], match["size"]) == ("GET /sized/1234 HTTP/1.1", "1234")


def test_combined(start: Start, log: Path) -> None:
    server = served(start, log, "--access-logformat", "combined")
    server.get("/", {"User-Agent": 'quo"ted\\', "Referer": "x"})
    [line] = lines(log, 1)
    assert COMMON.match(line), line
    assert line.endswith(r'"x" "quo\"ted\\"') or "\\x22" in line, (
        "what a client sent cannot break out of its quotes"
    )


def test_json(start: Start, log: Path) -> None:
    server = served(start, log, "--access-logformat", "json")
    response = server.post('/sized/5?q="x"'.replace('"', "%22"), b"body", {"User-Agent": 'a "b" \\ c'})
    [line] = lines(log, 1)
    entry = json.loads(line)
    text = json.dumps(entry)
    for value in "POST", "/sized/5?q=%22x%22", response.get("x-request-id"), "127.0.0.1", 'a "b" \\ c':
        assert value in entry.values() or json.dumps(value).strip('"') in text, (value, entry)
    assert 200 in entry.values()
    assert 5 in entry.values()


def test_gunicorns_atoms(start: Start, log: Path) -> None:
    atoms = "%(h)s|%(m)s|%(U)s|%(q)s|%(H)s|%(s)s|%(B)s|%(b)s|%(f)s|%(a)s"
    atoms += "|%({x-own}i)s|%({content-type}o)s|%({x-none}o)s|%%"
    server = served(start, log, "--access-logformat", atoms)
    server.get("/sized/7?q=1", {"Referer": "ref", "User-Agent": "agent", "X-Own": "own"})
    [line] = lines(log, 1)
    assert line == "127.0.0.1|GET|/sized/7|q=1|HTTP/1.1|200|7|7|ref|agent|own|text/plain|-|%"


def test_gunicorns_atoms_of_time_and_process(start: Start, log: Path) -> None:
    server = served(start, log, "--access-logformat", "%(t)s %(T)s %(M)s %(D)s %(L)s %(p)s %(l)s %(u)s %(r)s")
    server.get("/nap/0.25")
    [line] = lines(log, 1)
    match = re.fullmatch(r"\[[^]]+\] (\d+) (\d+) (\d+) (\d+\.\d+) <(\d+)> - - GET /nap/0\.25 HTTP/1\.1", line)
    assert match, line
    seconds, milli, micro, decimal = int(match[1]), int(match[2]), int(match[3]), float(match[4])
    assert seconds == 0
    assert 250 <= milli < 2000
    assert 250_000 <= micro < 2_000_000
    assert 0.25 <= decimal < 2
    assert int(match[5]) in [p.pid for p in server.family()]


def test_an_atom_that_does_not_exist_is_refused_or_a_dash(start: Start, log: Path) -> None:
    server = start("echo", "--access-logfile", str(log), "--access-logformat", "%(nope)s x", answers=False)
    until(lambda: server.popen.poll() is not None or log.exists())
    if server.popen.poll() is not None:
        server.expected_code = 64
        assert "nope" in server.log()
    else:
        server.wait_until_it_answers()
        server.get("/")
        assert lines(log, 2)[-1] == "- x"


def test_the_dash_is_the_standard_output(start: Start) -> None:
    server = start("echo", "--access-logfile", "-")
    server.get("/to-stdout")
    server.wait_for_log(r'"GET /to-stdout HTTP/1\.1" 200')


def test_the_log_is_off_unless_asked_for(start: Start) -> None:
    server = start("echo")
    server.get("/quiet")
    assert "/quiet" not in server.log()


def test_refusals_and_answers_of_the_edge_are_logged(start: Start, log: Path) -> None:
    server = served(start, log)
    with server.connect() as connection:
        connection.send(b"GET /bad HTTP/1.1\r\n\r\n").read()
    with server.connect() as connection:
        connection.send(b"GET /" + b"a" * 9000).read()
    with server.connect() as connection:
        connection.send(b"POST /over HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n").read()
    statuses = [line.split('" ')[1].split()[0] for line in lines(log, 3)]
    assert statuses == ["400", "414", "413"]


def test_what_a_client_sends_cannot_forge_a_line(start: Start, log: Path) -> None:
    server = served(start, log)
    with server.connect() as connection:
        connection.send(b'GET /a"%0a%22<> HTTP/1.1\r\nHost: a\r\nUser-Agent: x\xff\t"y\r\n\r\n')
        assert connection.read().status in (200, 400)
    [line] = lines(log, 1)
    assert line.isascii()
    assert line.isprintable() or "\\x09" in line


def test_a_head_request_and_its_size(start: Start, log: Path) -> None:
    server = served(start, log, "--access-logformat", "%(m)s %(s)s %(B)s")
    with server.connect() as connection:
        connection.request("HEAD", "/sized/500")
        connection.request("GET", "/chunks/10")
    assert lines(log, 3)[1:] == ["HEAD 200 0", "GET 200 80"]


def test_sigusr1_opens_the_log_anew(start: Start, log: Path) -> None:
    server = served(start, log)
    server.get("/before")
    lines(log, 1)
    moved = log.with_suffix(".1")
    log.rename(moved)
    server.get("/still-to-the-old-file")
    lines(moved, 2)
    server.signal(signal.SIGUSR1)
    until(log.exists, why="the file is there again")

    def arrived() -> bool:
        server.get("/after")
        return "/after" in log.read_text()

    until(arrived, why="lines go to the new file")
    assert server.popen.poll() is None


def test_the_request_id_is_the_same_everywhere(start: Start, log: Path) -> None:
    server = served(start, log, "--access-logformat", "%({x-request-id}o)s %({trivet.request_id}e)s")
    response = server.get("/")
    in_environ = response.json()["environ"]["trivet.request_id"]
    line = lines(log, 2)[-1]
    assert response.get("x-request-id") == in_environ
    assert line.split()[0] == in_environ


def test_no_line_is_lost_under_load(start: Start, log: Path) -> None:
    server = served(start, log, "--threads", "2")
    connections = [server.connect() for _ in range(20)]
    for n in range(100):
        for i, connection in enumerate(connections):
            connection.send(f"GET /{n}/{i} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        for connection in connections:
            assert connection.read().status == 200
    for connection in connections:
        connection.socket.close()
    paths = [line.split('"')[1].split()[1] for line in lines(log, 2000)]
    assert sorted(paths) == sorted(f"/{n}/{i}" for n in range(100) for i in range(20))
    assert server.stop() == 0


def test_the_last_lines_are_written_before_the_end(start: Start, log: Path) -> None:
    server = served(start, log)
    for i in range(50):
        server.get(f"/{i}")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert len(lines(log, 50)) == 50


def test_an_error_logfile_takes_what_stderr_would(start: Start, tmp_path: Path) -> None:
    errors = tmp_path / "error.log"
    server = start("rules", "--error-logfile", str(errors), "--capture-output")
    server.get("/plain/fails_before")
    until(lambda: "the app fails before it starts" in errors.read_text())

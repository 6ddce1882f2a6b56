"""Access logs of sites: which requests are in which file, and who may take the file away."""

import json
import signal
from pathlib import Path

import pytest
from conftest import Serve
from support.poll import until
from support.server import SiteServer

SITE = """
[app.a]
wsgi = "site_app"
folder = "${APPS}"
venv = "${VENV}"
[site.one]
listen = ["http://127.0.0.1:${P0}"]
hosts = ["one.example"]
access-log = "one.log"
health = "/health"
route = [
  { path = "/*", app = "a" },
  { path = "/quiet/*", app = "a", mount = true, log = false },
  { path = "/text", respond = { text = "hi" } },
]
[site.two]
listen = ["http://127.0.0.1:${P0}"]
hosts = ["two.example"]
access-log = { file = "two.log", format = "json", statuses = ["404", "5xx"] }
route = [
  { path = "/*", app = "a" },
  { path = "/text", respond = { text = "hi" } },
]
[site.silent]
listen = ["http://127.0.0.1:${P0}"]
hosts = ["silent.example"]
route = [{ path = "/*", app = "a" }]
[site.shared]
listen = ["http://127.0.0.1:${P0}"]
hosts = ["shared.example"]
access-log = "one.log"
route = [{ path = "/only", respond = { text = "shared" } }]
"""


@pytest.fixture
def server(serve: Serve) -> SiteServer:
    return serve(SITE)


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def paths(log: Path) -> list[str]:
    """The targets, without those that no site is for: these stand in the log of any."""
    return [line.split('"')[1].split()[1] for line in lines(log) if " 421 " not in line]


def logged(log: Path, count: int) -> None:
    until(lambda: len(lines(log)) >= count, 5, f"{count} lines in {log.name}")


def written(log: Path, target: str) -> None:
    until(lambda: target in paths(log), 5, f"{target} in {log.name}")


def test_each_site_writes_to_its_own_log(server: SiteServer, place: Path) -> None:
    one, two = place / "one.log", place / "two.log"
    for target in "/a", "/text", "/answer?status=404", "/quiet/x", "/quiet/answer?status=500", "/b%20b":
        for host in "one.example", "two.example", "silent.example":
            server.ask(target, host)
    server.ask("/only", "shared.example")
    server.ask("/no-route", "shared.example")
    server.ask("/only", "shared.example", method="HEAD")
    server.ask("/x", "nobody.example")
    server.ask("/last", "one.example")
    written(one, "/last")
    assert paths(one) == [
        "/a",
        "/text",
        "/answer?status=404",
        "/b%20b",
        "/only",
        "/no-route",
        "/only",
        "/last",
    ]
    logged(two, 1)
    assert [json.loads(line).get("status") for line in lines(two)] == [404]


def test_statuses_and_classes_are_chosen(server: SiteServer, place: Path) -> None:
    two = place / "two.log"
    for status in 200, 301, 400, 404, 405, 500, 503, 404:
        server.ask(f"/answer?status={status}", "two.example")
    server.ask("/die", "two.example")
    logged(two, 5)
    assert [json.loads(line)["status"] for line in lines(two)] == [404, 500, 503, 404, 502]


def test_a_hostile_request_is_one_line(server: SiteServer, place: Path) -> None:
    one, two = place / "one.log", place / "two.log"
    fields = {"User-Agent": 'a" "b\\\t\x80x', "Referer": 'http://x/"\\n'}
    server.ask("/x\"y'z?<script>", "one.example", fields=fields)
    server.ask('/answer?status=404&x="', "two.example", fields=fields)
    server.ask("/last", "one.example")
    server.ask("/answer?status=500", "two.example")
    written(one, "/last")
    logged(two, 2)
    assert len([line for line in lines(one) if " 421 " not in line]) == 2
    assert [json.loads(line)["status"] for line in lines(two)] == [404, 500]
    assert not any(ord(c) < 0x20 or c == "\x7f" for line in lines(one) for c in line)


def test_a_log_that_was_moved_away_is_opened_anew_at_sigusr1(server: SiteServer, place: Path) -> None:
    one, moved = place / "one.log", place / "one.log.1"
    server.ask("/1", "one.example")
    written(one, "/1")
    one.rename(moved)
    server.ask("/2", "one.example")
    written(moved, "/2")
    server.signal(signal.SIGUSR1)
    until(one.exists, 5, "the file is there again")

    def arrived() -> bool:
        server.ask("/3", "one.example")
        return "/3" in paths(one)

    until(arrived, 5, "further lines are in the new file")
    assert paths(moved)[:2] == ["/1", "/2"]
    server.ask("/only", "shared.example")
    until(lambda: "/only" in paths(one), 5, "a shared log is one file")
    server.ask("/answer?status=404", "two.example")
    logged(place / "two.log", 1)


def test_a_log_that_was_moved_away_is_opened_anew_by_a_reload(server: SiteServer, place: Path) -> None:
    one, moved = place / "one.log", place / "moved"
    server.ask("/1", "one.example")
    written(one, "/1")
    one.rename(moved)
    assert server.reload().code == 0
    asked = 0

    def arrived() -> bool:
        nonlocal asked
        server.ask("/2", "one.example")
        asked += 1
        return "/2" in paths(one)

    until(arrived, 5, "further lines are in the new file")
    until(lambda: (paths(moved) + paths(one)).count("/2") == asked, 5, "no line is lost, none there twice")


def test_after_a_reload_no_line_goes_to_the_old_file(server: SiteServer, place: Path) -> None:
    one, moved = place / "one.log", place / "moved"
    server.ask("/1", "one.example")
    written(one, "/1")
    for n in range(10):
        one.rename(moved)
        assert server.reload().code == 0
        server.ask(f"/2/{n}", "one.example")
        until(lambda n=n: f"/2/{n}" in paths(one) + paths(moved), 5, "the line is somewhere")  # type: ignore[misc]
        assert f"/2/{n}" in paths(one)


def test_what_no_site_is_for_is_in_no_site_s_log(server: SiteServer, place: Path) -> None:
    for _ in range(5):
        server.ask("/nobody", "nobody.example")
    server.ask("/last", "one.example")
    written(place / "one.log", "/last")
    # Which site it is, is another one at each start: over all of them.
    text = "\n".join(
        f'[site.more{n}]\nlisten = ["http://127.0.0.1:${{P0}}"]\nhosts = ["more{n}.example"]\n'
        f'access-log = "one.log"\nroute = [{{ path = "/*", respond = 204 }}]'
        for n in range(20)
    )
    server.take(SITE + text)
    server.ask("/nobody", "nobody.example")
    server.ask("/end", "one.example")
    written(place / "one.log", "/end")
    assert not [line for line in lines(place / "one.log") + lines(place / "two.log") if "/nobody" in line]


def test_two_formats_for_one_file_are_refused(server: SiteServer) -> None:
    server.write(
        SITE.replace(
            'hosts = ["shared.example"]\naccess-log = "one.log"',
            'hosts = ["shared.example"]\naccess-log = { file = "one.log", format = "json" }',
        )
    )
    done = server.check()
    assert done.code == 78
    assert "two formats" in done.err


def test_health_and_standard_output(serve: Serve) -> None:
    server = serve(SITE.replace('access-log = "one.log"\nhealth', 'access-log = "-"\nhealth'))
    server.ask("/seen", "one.example")
    server.wait_for_log('"GET /seen HTTP/1.1" 200')

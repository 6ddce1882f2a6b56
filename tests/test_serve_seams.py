"""Where the parts meet: one app's bodies and another's, rules and what the app sees, moving addresses."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from conftest import Serve
from support.http import Response
from support.poll import until
from support.server import SiteServer

PEEPING = """
import os

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    body = environ["wsgi.input"].read()
    if environ["PATH_INFO"].endswith("/peep"):
        for name in os.listdir("/proc/self/fd"):
            try:
                seen = os.pread(int(name), 4096, 0)
            except OSError:
                continue
            if b"secret" in seen:
                return [b"seen"]
        return [b"nothing"]
    return [environ["PATH_INFO"].encode("latin-1"), b" %d" % len(body)]
"""
SLOW = """
import time
time.sleep(2)
raise RuntimeError("not this one")
"""


def app(name: str, module: str = "peeping", **more: str) -> str:
    lines = "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in more.items())
    return f'[app.{name}]\nwsgi = "{module}:app"\nvenv = "${{VENV}}"\n{lines}'


@pytest.fixture
def folder(place: Path) -> Path:
    (place / "peeping.py").write_text(PEEPING)
    (place / "slow.py").write_text(SLOW)
    return place


def ready(server: SiteServer, *targets: str) -> SiteServer:
    for target in targets:
        until(lambda t=target: server.ask(t).status == 200, 20, f"{target} is served")  # type: ignore[misc]
    return server


def test_no_app_reads_what_another_was_sent(serve: Serve, folder: Path) -> None:
    text = app("one") + app("two")
    text += """[site.main]
listen = ["http://127.0.0.1:${P0}"]
route = [{ path = "/one/*", app = "one" }, { path = "/two/*", app = "two" }]
"""
    server = ready(serve(text), "/one/x", "/two/x")
    for _ in range(5):
        assert server.ask("/one/x", method="POST", body=b"own " * 50_000).status == 200
        assert server.ask("/two/x", method="POST", body=b"secret" * 50_000).status == 200
        assert server.ask("/one/peep").text == "nothing"
    assert server.ask("/two/peep").text == "seen", "the test can see what it looks for"


@pytest.mark.parametrize(
    "target",
    [
        "/admin%2Fx%5C..%5C..%5Cy",
        "/admin/../admin%2fx",
        "/x%2f..%2fadmin",
        "/admin%5c..%5cx",
        "/y/%2e%2e%2fadmin/x",
    ],
)
def test_no_spelling_leads_past_a_rule(serve: Serve, folder: Path, target: str) -> None:
    text = (
        app("one")
        + """[site.main]
listen = ["http://127.0.0.1:${P0}"]
route = [{ path = "/admin/*", respond = 403 }, { path = "/*", app = "one" }]
"""
    )
    server = ready(serve(text), "/x")
    with server.connect() as connection:
        connection.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert connection.read().status in (400, 403)


def test_the_app_sees_the_path_by_which_it_was_chosen(serve: Serve, folder: Path) -> None:
    text = (
        app("one")
        + """[site.main]
listen = ["http://127.0.0.1:${P0}"]
route = [{ path = "/admin/*", respond = 403 }, { path = "/*", app = "one" }]
"""
    )
    server = ready(serve(text), "/x")
    with server.connect() as connection:
        connection.send(b"GET /admin/../x/./y?q HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.read().text == "/x/y 0"
        connection.send(b"GET /a//b%20c HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.read().text == "/a//b c 0", "without dots it stays as the client wrote it"


def test_spool_files_lie_where_tmpdir_says(serve: Serve, folder: Path) -> None:
    spool = folder / "spool"
    spool.mkdir()
    spool.chmod(0o777)
    text = (
        app("one")
        + """[site.main]
listen = ["http://127.0.0.1:${P0}"]
"""
    )
    server = ready(serve(text, env={"TMPDIR": str(spool)}), "/x")
    assert server.ask("/x", method="POST", body=b"b" * 500_000).status == 200
    edge = server.edge()
    links = [os.readlink(f"/proc/{edge}/fd/{n}") for n in os.listdir(f"/proc/{edge}/fd")]
    assert [link for link in links if link.startswith(str(spool))], links


def test_a_moving_address_serves_all_the_time_also_when_the_reload_fails(serve: Serve, folder: Path) -> None:
    def text(host: str, module: str = "peeping") -> str:
        return (
            app("one")
            + app("two", module)
            + f"""[site.main]
listen = ["http://{host}:${{P0}}"]
route = [{{ path = "/two/*", app = "two" }}, {{ path = "/*", app = "one" }}]
"""
        )

    server = ready(serve(text("0.0.0.0")), "/x", "/two/x")
    server.write(text("127.0.0.1", "slow"))
    codes: list[int] = []
    reloading = threading.Thread(target=lambda: codes.append(server.reload().code))
    reloading.start()
    asked = 0
    while reloading.is_alive():
        assert server.ask("/x").status == 200
        asked += 1
    reloading.join()
    assert codes == [78]
    assert asked > 50, "while the app was tried"
    assert server.ask("/x").status == 200
    server.take(text("127.0.0.1"))
    assert server.ask("/x").status == 200
    server.take(text("0.0.0.0"))
    assert server.ask("/x").status == 200


def test_an_app_that_goes_with_its_address_ends_at_once(serve: Serve, folder: Path) -> None:
    one = (
        app("one")
        + """[site.main]
listen = ["http://127.0.0.1:${P0}"]
route = [{ path = "/*", app = "one" }]
"""
    )
    two = (
        app("two")
        + """[site.two]
listen = ["http://127.0.0.1:${P1}"]
route = [{ path = "/*", app = "two" }]
"""
    )
    server = serve(one + two)
    until(lambda: server.ask("/x", port=1).status == 200, 20, "the second one is served")
    assert len(server.workers()) == 2
    server.take(one)
    until(lambda: len(server.workers()) == 1, 5, "its worker has ended")
    assert "killing" not in server.log()


def test_health_is_good_while_a_new_app_comes_up(serve: Serve, folder: Path) -> None:
    (folder / "late.py").write_text("import time\ntime.sleep(1)\nfrom peeping import app\n")

    def text(*apps: str) -> str:
        made = app("one") + "".join(app(name, "late") for name in apps)
        routes = ", ".join(f'{{ path = "/{name}/*", app = "{name}" }}' for name in apps)
        return (
            made
            + f"""[site.main]
listen = ["http://127.0.0.1:${{P0}}"]
health = "/health"
route = [{{ path = "/*", app = "one" }}, {routes}]
"""
        )

    server = ready(serve(text()), "/x", "/health")
    server.write(text("two"))
    codes: list[int] = []
    reloading = threading.Thread(target=lambda: codes.append(server.reload().code))
    reloading.start()
    while reloading.is_alive():
        assert server.ask("/health").status == 200
    assert codes == [0]
    assert server.ask("/two/x").status == 200


def test_nothing_is_reloaded_while_it_stops(serve: Serve, folder: Path) -> None:
    (folder / "sleepy.py").write_text(
        "import time\ndef app(e, s):\n    time.sleep(1.5)\n    s('200 OK', [])\n    return [b'done']\n"
    )
    text = (
        app("one", "sleepy")
        + """[site.main]
listen = ["http://127.0.0.1:${P0}"]
"""
    )
    server = serve(text)
    until(lambda: server.ask("/x").status == 200, 20, "it serves")
    answers: list[Response] = []
    waiting = threading.Thread(target=lambda: answers.append(server.ask("/x")))
    waiting.start()
    until(lambda: '"in_flight": 1' in server_status(server), 5, "the request is under way")
    server.signal(signal.SIGTERM)
    server.wait_for_log("stopping")
    server.signal(signal.SIGHUP)
    waiting.join()
    assert answers[0].status == 200
    assert server.wait() == 0
    assert "the configuration is in use" not in server.log()


def server_status(server: SiteServer) -> str:
    from support.server import run

    return run("status", "--json", "--pid", str(server.pid_file), cwd=server.folder).out


def test_logs_that_were_moved_while_apps_were_tried_are_the_new_ones(serve: Serve, folder: Path) -> None:
    (folder / "late.py").write_text("import time\ntime.sleep(1.5)\nfrom peeping import app\n")

    def text(module: str) -> str:
        return (
            app("one")
            + app("two", module)
            + """[site.main]
listen = ["http://127.0.0.1:${P0}"]
access-log = "access.log"
route = [{ path = "/two/*", app = "two" }, { path = "/*", app = "one" }]
"""
        )

    server = ready(serve(text("peeping")), "/x", "/two/x")
    server.write(text("late"))
    server.signal(signal.SIGHUP)
    begun = time.monotonic()
    until(lambda: time.monotonic() > begun + 0.5, 5, "the app is being tried")
    (folder / "access.log").rename(folder / "access.log.1")
    server.signal(signal.SIGUSR1)
    server.wait_for_log("the configuration is in use")
    assert server.ask("/after").status == 200
    until(lambda: "/after" in (folder / "access.log").read_text(), 5, "the line is in the new file")


def test_more_addresses_than_one_message_holds_are_no_end(serve: Serve, folder: Path) -> None:
    def text(count: int) -> str:
        sites = "".join(
            f'[site.s{n}]\nlisten = ["http://127.0.0.1:${{P0}}"]\nhosts = ["h{n}.example"]\n'
            f'access-log = "log{n}"\nroute = [{{ path = "/*", respond = 204 }}]\n'
            for n in range(count)
        )
        return (
            sites
            + '[site.main]\nlisten = ["http://127.0.0.1:${P0}"]\nroute = [{ path = "/*", respond = 200 }]\n'
        )

    server = serve(text(100))
    edge = server.edge()
    assert server.ask("/", "h99.example").status == 204
    server.write(text(300))
    assert server.reload().code == 78
    assert server.ask("/", "h99.example").status == 204
    assert server.edge() == edge, "and the edge lives"

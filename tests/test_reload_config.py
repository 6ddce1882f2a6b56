"""`trivet reload` and SIGHUP under `trivet serve`: all of a new configuration or nothing of it."""

import asyncio
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from conftest import Serve
from support import procs
from support.certificates import certificate, common_name, trusting
from support.http import Connection, Cut, request
from support.load import Load, recorded
from support.load import until as until_beside
from support.poll import throughout, until
from support.server import SiteServer, run

MIB = 1 << 20


def app(name: str, wsgi: str = "site_app", folder: str = "${APPS}", env: str = "", more: str = "") -> str:
    return f"""
[app.{name}]
wsgi = "{wsgi}"
folder = "{folder}"
venv = "${{VENV}}"
env = {{ APP_NAME = "{name}"{", " + env if env else ""} }}
{more}
"""


def site(*routes: str, name: str = "main", port: int = 0, more: str = "") -> str:
    listed = "\n".join(f"  {{ {r} }}," for r in routes)
    return f"""
[site.{name}]
listen = ["http://127.0.0.1:${{P{port}}}"]
{more}
route = [
{listed}
]
"""


def text_at(server: SiteServer, target: str = "/", **options: object) -> str:
    return server.ask(target, **options).text  # type: ignore[arg-type]


def pid_of(server: SiteServer, target: str) -> int:
    return int(server.ask(target).json()["pid"])


def test_a_changed_file_is_taken_up_by_the_command_and_by_the_signal(serve: Serve) -> None:
    server = serve(site('path = "/*", respond = { text = "1" }'))
    edge = server.edge()
    assert text_at(server) == "1"
    server.write(site('path = "/*", respond = { text = "2" }'))
    assert text_at(server) == "1", "nobody has asked for it yet"
    done = server.reload()
    assert (done.code, text_at(server)) == (0, "2"), "when the command is over it is in use"
    server.write(site('path = "/*", respond = { text = "3" }'))
    server.signal(signal.SIGHUP)
    until(lambda: text_at(server) == "3", 10, "SIGHUP does the same")
    assert server.edge() == edge


BAD = [
    ("[site.main", 1),
    ("x = 1", 1),
    (site('path = "/*", respnd = 200'), 5),
    (site('path = "/*", app = "nobody"'), 5),
    (site('path = "/*", respond = 200', 'path = "/*", respond = 201'), 6),
    (site('path = "/*", redirect = "//{rest}"'), 5),
    (site('path = "/*", static = "no-such-folder"'), 5),
    (site('path = "/*", respond = { file = "no-such-file" }'), 5),
    (site('path = "/*", respond = 200', more='listen = "x"'), 3),
    (site('path = "/*", respond = 200', more='access-log = "no/such/folder/log"'), 3),
    ('a = "\\u0000"\n[server]\nthreads = 2', 1),
]


@pytest.mark.parametrize(("text", "line"), BAD)
def test_a_bad_line_changes_nothing_and_is_named(serve: Serve, text: str, line: int) -> None:
    server = serve(site('path = "/*", respond = { text = "good" }'))
    server.write(text if "[server]" in text else text.strip() + "\n")
    done = server.reload()
    assert done.code == 78, done
    assert f"{server.file.name}:{line}:" in done.err, done.err
    assert text_at(server) == "good"
    before = len(server.log())
    server.signal(signal.SIGHUP)
    server.wait_for_log("not taken", after=before)
    assert f"{server.file.name}:{line}:" in server.log()[before:]
    assert text_at(server) == "good"
    server.take(site('path = "/*", respond = { text = "better" }'))
    assert text_at(server) == "better"


def test_a_file_that_is_gone_changes_nothing(serve: Serve) -> None:
    server = serve(site('path = "/*", respond = { text = "good" }'))
    server.file.unlink()
    assert server.reload().code == 78
    assert text_at(server) == "good"


def test_an_address_that_cannot_be_had_changes_nothing(serve: Serve) -> None:
    server = serve(site('path = "/*", respond = { text = "good" }'))
    with socket.create_server(("127.0.0.1", server.ports[1])):
        server.write(
            site('path = "/*", respond = { text = "main" }')
            + site('path = "/*", respond = 200', name="free", port=2)
            + site('path = "/*", respond = 200', name="taken", port=1)
        )
        done = server.reload()
        assert done.code == 78, done
        assert str(server.ports[1]) in done.err
        assert text_at(server) == "good"
        with pytest.raises(ConnectionRefusedError):
            server.ask(port=2)
    assert server.reload().code == 0
    assert text_at(server) == "main"
    assert server.ask(port=2).status == 200


def test_sites_and_listeners_come_and_go(serve: Serve) -> None:
    one = site('path = "/*", respond = { text = "one" }', more='hosts = ["one.example"]')
    two = site('path = "/*", respond = { text = "two" }', name="two", more='hosts = ["two.example"]')
    far = site('path = "/*", respond = { text = "far" }', name="far", port=1)
    server = serve(one)
    for _ in range(3):
        assert server.ask(host="two.example").status == 421
        server.take(one + two + far)
        assert [text_at(server, host=f"{h}.example") for h in ("one", "two")] == ["one", "two"]
        assert text_at(server, port=1) == "far"
        with Connection(("127.0.0.1", server.ports[1])) as kept:
            assert kept.request("GET", "/").text == "far"
            server.take(one)
            with pytest.raises(ConnectionRefusedError):
                server.ask(port=1)
            # An idle connection gets a moment for a last request, or ends.
            try:
                last = kept.request("GET", "/")
            except (Cut, OSError):
                pass
            else:
                assert last.says_close
                assert last.text == "far"


def test_an_unix_listener_comes_and_goes(serve: Serve, place: Path) -> None:
    main = site('path = "/*", respond = { text = "main" }')
    path = place / "s.sock"
    server = serve(main)
    beside = (
        main
        + f"""
[site.unix]
listen = ["unix:{path}"]
route = [{{ path = "/*", respond = {{ text = "unix" }} }}]
"""
    )
    for _ in range(2):
        server.take(beside)
        with Connection(str(path)) as connection:
            assert connection.request("GET", "/").text == "unix"
        server.take(main)
        until(lambda: not path.exists(), 5, "the socket is taken away with its site")


def test_an_address_changes_between_http_and_https(serve: Serve, place: Path) -> None:
    chain, key = certificate(place, "own", "localhost")
    plain = site('path = "/*", respond = { text = "plain" }') + site(
        'path = "/*", respond = { text = "x" }', name="x", port=1
    )
    secure = plain.replace("http://127.0.0.1:${P1}", "https://127.0.0.1:${P1}") + (
        f'tls = {{ cert = "{chain}", key = "{key}" }}\n'
    )
    server = serve(plain)
    for _ in range(2):
        assert text_at(server, port=1) == "x"
        server.take(secure)
        assert text_at(server, port=1, tls=trusting(chain)) == "x"
        server.take(plain)
    assert text_at(server, port=1) == "x"


def test_an_app_comes_and_goes(serve: Serve) -> None:
    one = app("one") + site('path = "/one/*", app = "one"')
    both = app("one") + app("two") + site('path = "/one/*", app = "one"', 'path = "/two/*", app = "two"')
    server = serve(one)
    kept = pid_of(server, "/one/")
    for _ in range(3):
        assert server.ask("/two/").status == 404
        server.take(both)
        answer = server.ask("/two/")
        assert (answer.status, answer.json()["app"]) == (200, "two")
        assert pid_of(server, "/one/") == kept
        assert len(server.wait_for_workers(2)) == 2
        server.take(one)
        server.wait_for_workers(1)
        assert pid_of(server, "/one/") == kept


def test_a_removed_app_finishes_what_it_has_and_what_waits_for_it(serve: Serve) -> None:
    one = app("one") + site('path = "/one/*", app = "one"')
    both = app("one") + app("two") + site('path = "/*", app = "two"', 'path = "/one/*", app = "one"')
    server = serve(both)
    assert server.ask("/").json()["app"] == "two"
    waiting = [server.connect() for _ in range(4)]
    for n, connection in enumerate(waiting):
        connection.send(request("GET", "/stream/20" if n == 0 else "/nap/0.2", {}))
    waiting[0].read_head()
    server.take(one)
    assert server.ask("/").status == 404
    body = b"".join(iter(waiting[0].read_chunk, b""))
    assert body.count(b"data:") == 20, "the running one is whole"
    for connection in waiting[1:]:
        answer = connection.read()
        assert (answer.status, answer.json()["app"]) == (200, "two"), (
            "and those that were queued are answered"
        )
    for connection in waiting:
        connection.socket.close()
    server.wait_for_workers(1)


def test_only_an_app_whose_section_changed_gets_new_workers(serve: Serve, place: Path) -> None:
    routes = site(
        'path = "/one/*", app = "one"', 'path = "/two/*", app = "two"', 'path = "/three/*", app = "three"'
    )
    (place / "secret").write_text("first")
    secret = 'SECRET = { file = "secret" }'

    def text(two: str = "", more: str = "", extra: str = "", also: str = routes) -> str:
        return app("one") + app("two", env=two, more=more) + app("three", env=secret) + also + extra

    server = serve(text())
    targets = "/one/", "/two/", "/three/"
    now = {t: pid_of(server, t) for t in targets}

    def changed(new: str) -> set[str]:
        nonlocal now
        server.take(new)
        then, now = now, {t: pid_of(server, t) for t in targets}
        return {t for t in targets if then[t] != now[t]}

    assert changed(text()) == set()
    assert (
        changed("# a comment\n" + text(also=routes + "response-headers = { set = { X-A = '1' } }")) == set()
    )
    assert changed(text(two='APP_X = "1"')) == {"/two/"}
    assert server.ask("/two/").json()["env"]["APP_X"] == "1"
    assert changed(text(two='APP_X = "1"', more="timeout = 5\nqueue-length = 3")) == set(), (
        "the edge's business"
    )
    assert changed(text(two='APP_X = "1"', more="threads = 2")) == {"/two/"}
    assert changed(text()) == {"/two/"}
    (place / "secret").write_text("second")
    assert changed(text()) == {"/three/"}, "another secret is another environment"
    assert server.ask("/three/").json()["env"]["SECRET"] == "second"
    assert (
        changed(
            text(
                more="[server]\npid-file = 'trivet.pid'\nkeep-alive = '5s'\n[app.four]\nwsgi='site_app'\nfolder='${APPS}'\nvenv='${VENV}'"  # noqa: E501
            )
        )
        == set()
    )


def test_more_and_fewer_workers(serve: Serve) -> None:
    routes = site('path = "/*", app = "one"')
    server = serve(app("one", more="workers = 2") + routes)
    first = server.wait_for_workers(2)
    server.take(app("one", more="workers = 4") + routes)
    assert set(first) <= set(server.wait_for_workers(4)), "those that are there stay"
    server.take(app("one", more="workers = 2") + routes)
    assert len(server.wait_for_workers(2)) == 2
    assert server.ask("/").status == 200


WORD = "import os\nword = {word!r}\n{more}\ndef app(environ, start):\n    start('200 OK', [])\n    return [f'{{word}} {{os.getpid()}}'.encode()]\n"  # noqa: E501


def test_one_app_s_code_is_loaded_anew(serve: Serve, place: Path) -> None:
    for module in "first", "second":
        (place / f"{module}.py").write_text(WORD.format(word=module, more=""))
    text = app("one", "first:app", ".") + app("two", "second:app", ".")
    text += site('path = "/one", app = "one"', 'path = "/two", app = "two"')
    server = serve(text)
    one, two = text_at(server, "/one"), text_at(server, "/two")
    (place / "first.py").write_text(WORD.format(word="newer", more=""))
    (place / "second.py").write_text(WORD.format(word="newer", more=""))
    server.take(text)
    assert (text_at(server, "/one"), text_at(server, "/two")) == (one, two), "the sections are the same"
    assert server.reload("one").code == 0
    assert text_at(server, "/one").startswith("newer ")
    assert text_at(server, "/two") == two
    done = server.reload("three")
    assert done.code != 0
    assert "three" in done.err


def test_code_that_cannot_be_imported_replaces_nothing(serve: Serve, place: Path) -> None:
    (place / "first.py").write_text(WORD.format(word="good", more=""))
    text = app("one", "first:app", ".") + site('path = "/*", app = "one"')
    server = serve(text)
    good = text_at(server)
    (place / "first.py").write_text(WORD.format(word="bad", more="raise ValueError('half written')"))
    for argument in ["one"], []:
        if not argument:
            server.write(app("one", "first:app", ".", env='APP_X = "1"') + site('path = "/*", app = "one"'))
        done = server.reload(*argument)
        assert done.code not in (0, 1), done
        assert "half written" in done.err
        throughout(lambda: text_at(server) == good, 0.5, "the old workers go on")
    # Who takes the place of a worker that dies now gets the environment that worked.
    os.kill(int(good.split()[1]), signal.SIGKILL)
    (place / "first.py").write_text(
        WORD.format(word="mended", more="import os; word += os.environ.get('APP_X', '-')")
    )
    until(lambda: server.ask("/").status == 200, 20, "there is a worker again")
    assert server.reload().code == 0
    until(lambda: text_at(server).startswith("mended1 "), 10, "the file is taken up once the code is mended")


def test_a_reload_that_fails_for_an_app_leaves_the_routes_too(serve: Serve, place: Path) -> None:
    (place / "first.py").write_text(WORD.format(word="good", more=""))

    def text(n: int) -> str:
        env = f'APP_X = "{n}"'
        return app("one", "first:app", ".", env=env) + site(
            f'path = "/n", respond = {{ text = "{n}" }}', 'path = "/*", app = "one"'
        )

    server = serve(text(0))
    assert server.ask("/").status == 200
    (place / "first.py").write_text("raise ValueError('half written')")
    server.write(text(1))
    done = server.reload()
    assert done.code == 78
    said = "nothing has changed" in done.err
    assert text_at(server, "/n") == "0", f"it says {'the same' if said else 'nothing of it'}"


def test_a_new_app_that_cannot_be_imported_fails_the_reload(serve: Serve, place: Path) -> None:
    (place / "first.py").write_text("raise ValueError('half written')")
    server = serve(app("one") + site('path = "/*", app = "one"'))
    server.write(app("two", "first:app", ".") + site('path = "/*", app = "two"'))
    done = server.reload()
    assert done.code != 0, "the only app is gone, and the one in its place cannot start"
    assert "half written" in done.err
    assert server.ask("/").json()["app"] == "one"


def test_an_app_that_is_taken_away_and_put_back_at_once(serve: Serve) -> None:
    none = site('path = "/*", respond = 404')
    with_it = app("one") + site('path = "/*", app = "one"')
    server = serve(with_it)
    assert server.ask("/").status == 200
    for _ in range(5):
        with server.connect() as running, server.connect() as queued:
            running.send(request("GET", "/nap/0.3", {}))
            queued.send(request("GET", "/nap/0.1", {}))
            server.take(none)
            server.take(with_it)
            assert server.ask("/").json()["app"] == "one"
            assert running.read().status == 200
            assert queued.read().status == 200
    server.wait_for_workers(1)


def test_an_app_that_is_renamed_is_another_one(serve: Serve) -> None:
    server = serve(app("one") + site('path = "/*", app = "one"'))
    with server.connect() as running:
        running.send(request("GET", "/nap/0.3", {}))
        server.take(app("uno") + site('path = "/*", app = "uno"'))
        assert running.read().json()["app"] == "one"
    assert server.ask("/").json()["app"] == "uno"
    server.wait_for_workers(1)


def test_two_reloads_at_once_end_with_the_last_file(serve: Serve) -> None:
    def text(n: int) -> str:
        return app("one", env=f'APP_X = "{n}"') + site(
            f'path = "/n", respond = {{ text = "{n}" }}', 'path = "/*", app = "one"'
        )

    server = serve(text(0))
    done = []

    def reload() -> None:
        done.append(server.reload())

    threads = [threading.Thread(target=reload) for _ in range(6)]
    for n, thread in enumerate(threads, 1):
        server.write(text(n))
        thread.start()
        time.sleep(0.01)
    for thread in threads:
        thread.join()
    # Those that met another one are told so; the last file counts once somebody asks again.
    assert all(d.code == 0 or "again" in d.err for d in done), done
    assert server.reload().code == 0
    assert text_at(server, "/n") == "6"
    until(lambda: server.ask("/").json()["env"]["APP_X"] == "6", 10, "the app too")


def test_a_signal_while_a_reload_is_under_way_is_not_lost(serve: Serve) -> None:
    server = serve(site('path = "/*", respond = { text = "1" }'))
    edge = server.edge()
    os.kill(edge, signal.SIGSTOP)
    try:
        for n in 2, 3:
            server.write(site(f'path = "/*", respond = {{ text = "{n}" }}'))
            server.signal(signal.SIGHUP)
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline:  # the supervisor has nothing to say of it
                time.sleep(0.05)
    finally:
        os.kill(edge, signal.SIGCONT)
    until(lambda: text_at(server) == "2" or text_at(server) == "3", 10, "the first is taken up")
    until(lambda: text_at(server) == "3", 3, "and then the second")


def test_certificates_come_go_and_change(serve: Serve, place: Path) -> None:
    chains = {n: certificate(place, n, f"{n}.example") for n in ("one", "two", "new")}
    trust = trusting(*(c for c, _ in chains.values()))

    def text(*names: str, one: str = "one") -> str:
        made = site('path = "/*", respond = 204')
        for name in names:
            chain, key = chains[one if name == "one" else name]
            made += f"""
[site.{name}]
listen = ["https://127.0.0.1:${{P1}}"]
hosts = ["{name}.example"]
tls = {{ cert = "{chain}", key = "{key}" }}
route = [{{ path = "/*", respond = {{ text = "{name}" }} }}]
"""
        return made

    server = serve(text("one"))

    def shown(name: str) -> str:
        client = trusting(*(c for c, _ in chains.values()))
        client.check_hostname = False
        with Connection(("127.0.0.1", server.ports[1]), tls=client, sni=f"{name}.example") as connection:
            return common_name(connection)

    assert text_at(server, host="one.example", port=1, tls=trust, sni="one.example") == "one"
    with Connection(("127.0.0.1", server.ports[1]), tls=trust, sni="one.example") as kept:
        server.take(text("one", "two"))
        assert text_at(server, host="two.example", port=1, tls=trust, sni="two.example") == "two"
        assert shown("two") == "two"
        assert kept.request("GET", "/", {"Host": "one.example"}).text == "one", "an open one goes on"
    server.take(text("one", one="new"))
    assert shown("one") == "new"
    chains["one"][0].write_text("rubbish")
    server.write(text("one"))
    done = server.reload()
    assert done.code == 78, done
    assert shown("one") == "new"


def test_access_logs_come_and_go(serve: Serve, place: Path) -> None:
    def text(more: str) -> str:
        return site('path = "/*", respond = 204', more=more)

    server = serve(text('access-log = "a.log"'))
    a, b = place / "a.log", place / "b.log"

    def seen(target: str, log: Path) -> None:
        server.ask(target)
        until(lambda: log.exists() and f" {target} " in log.read_text(), 5, f"{target} in {log.name}")

    seen("/1", a)
    server.take(text('access-log = "b.log"'))
    seen("/2", b)
    assert "GET /2 " not in a.read_text()
    server.take(text('access-log = { file = "b.log", format = "json" }'))
    server.ask("/3")
    until(lambda: '"/3"' in b.read_text().splitlines()[-1], 5, "/3 in b.log, in the new format")
    server.take(text(""))
    server.ask("/4")
    server.take(text('access-log = "a.log"'))
    seen("/5", a)
    assert "GET /4 " not in a.read_text() + b.read_text()
    assert [line.split('"')[1] for line in a.read_text().splitlines()[-2:]][-1] == "GET /5 HTTP/1.1"


def numbered(n: int) -> str:
    return app("one") + site(f'path = "/n", respond = {{ text = "{n}" }}', 'path = "/*", app = "one"')


def says(server: SiteServer, n: int) -> bool:
    try:
        return text_at(server, "/n") == str(n)
    except (OSError, Cut):
        return False


def test_an_edge_that_dies_comes_back_with_the_new_configuration(serve: Serve) -> None:
    server = serve(numbered(0))
    worker = pid_of(server, "/")
    for n in 1, 2, 3:  # each death in a row is waited for longer than the one before
        server.take(numbered(n))
        os.kill(server.edge(), signal.SIGKILL)
        until(lambda n=n: says(server, n), 20, "right after a reload")  # type: ignore[misc]
        assert pid_of(server, "/") == worker


@pytest.mark.parametrize("milliseconds", [0, 2, 4, 6, 8, 10, 12, 15, 20, 30])
def test_an_edge_that_dies_during_a_reload_has_what_the_command_says(serve: Serve, milliseconds: int) -> None:
    server = serve(numbered(0))
    worker = pid_of(server, "/")
    edge = server.edge()
    server.write(numbered(1))
    results = []
    asking = threading.Thread(target=lambda: results.append(server.reload()))
    asking.start()
    time.sleep(milliseconds / 1000)  # somewhere in the middle of it
    os.kill(edge, signal.SIGKILL)
    asking.join()
    wanted = 1 if results[0].code == 0 else 0
    until(lambda: says(server, wanted), 20, f"{wanted}: {results[0]}")
    assert pid_of(server, "/") == worker
    server.take(numbered(2))
    assert says(server, 2)


def test_an_edge_that_dies_while_it_is_being_asked_takes_the_file_at_its_return(serve: Serve) -> None:
    server = serve(site('path = "/*", respond = { text = "1" }'))
    edge = server.edge()
    os.kill(edge, signal.SIGSTOP)
    server.write(site('path = "/*", respond = { text = "2" }'))
    results = []
    asking = threading.Thread(target=lambda: results.append(server.reload()))
    asking.start()
    time.sleep(0.5)
    os.kill(edge, signal.SIGKILL)
    asking.join(30)
    assert results, "the command has ended"

    def text() -> str:
        try:
            return text_at(server)
        except (OSError, Cut):
            return ""

    wanted = "2" if results[0].code == 0 else "1"
    until(lambda: text() == wanted, 20, f"what the command said: {results[0]}")
    server.take(site('path = "/*", respond = { text = "3" }'))
    assert text() == "3"


def test_a_request_keeps_the_configuration_that_it_began_with(serve: Serve) -> None:
    def text(word: str, limit: str) -> str:
        return app("one") + site(
            f'path = "/*", app = "one", request-body-max = "{limit}", response-headers = {{ set = {{ X-Word = "{word}" }} }}'  # noqa: E501
        )

    server = serve(text("old", "1MiB"))
    assert server.ask("/").get("x-word") == "old"
    with server.connect() as connection, server.connect() as sleeping:
        connection.send(request("POST", "/", {"Content-Length": "100000"}))
        connection.send(b"x" * 50_000)
        sleeping.send(request("GET", "/nap/0.5", {}))
        server.take(text("new", "10"))
        connection.send(b"x" * 50_000)
        assert sleeping.read().get("x-word") == "old"
        answer = connection.read()
        assert (answer.status, answer.get("x-word")) == (200, "old")
        assert connection.request("GET", "/").get("x-word") == "new", "the next one on the same connection"
    assert server.ask("/", method="POST", body=b"x" * 11).status == 413


def test_an_address_may_become_wider(serve: Serve) -> None:
    text = site('path = "/*", respond = { text = "here" }')
    server = serve(text)
    server.write(text.replace("http://127.0.0.1:", "http://0.0.0.0:"))
    assert server.reload().code == 0
    assert text_at(server) == "here"


def test_limits_of_the_whole_server_are_taken_up(serve: Serve) -> None:
    text = site('path = "/*", respond = { text = "here" }')
    server = serve(text)
    long = {"X-Long": "x" * 2000}
    assert server.ask(fields=long).status == 200
    server.write(text + "[server]\npid-file = 'trivet.pid'\nheader-size-max = '1k'\nheaders-max = 5\n")
    assert server.reload().code == 0
    assert server.ask(fields=long).status == 431
    assert server.ask(fields={f"X-{n}": "x" for n in range(9)}).status == 431
    server.take(text)
    assert server.ask(fields=long).status == 200


def test_reload_without_a_server(tmp_path: Path) -> None:
    done = run("reload", "--pid", str(tmp_path / "none.pid"), cwd=tmp_path)
    assert done.code not in (0, 1)
    assert "none.pid" in done.err


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_many_reloads_under_load_cost_nobody_anything(serve: Serve, place: Path, slow_set: bool) -> None:
    count = 1000 if slow_set else 200
    (place / "public").mkdir()
    large = place / "public" / "large.bin"
    large.write_bytes(os.urandom(MIB) * 48)
    record = place / "record"

    def text(n: int) -> str:
        env = f'RECORD = "{record}", SERVICE_SECONDS = "0.001"'
        made = app("loss", "loss", env=env, more="threads = 8")
        made += app("other", env=f'APP_N = "{n // 25}"', more="threads = 4\ngraceful-timeout = '10m'")
        routes = [
            'path = "/*", app = "loss"',
            'path = "/files/*", static = "public"',
            f'path = "/n", respond = {{ text = "{n}" }}',
            'path = "/other/*", app = "other", mount = true',
        ]
        routes += [f'path = "/gone{i}", respond = 410' for i in range(n % 7)]
        made += site(
            *routes,
            more=f'access-log = "{"ab"[n % 2]}.log"\nsecurity-headers = {"true" if n % 3 else "false"}',
        )
        if n % 4 == 0:
            made += site('path = "/*", respond = 204', name="sometimes", port=1 + n // 4 % 2)
        return made

    server = serve(text(0))
    until(lambda: server.ask("/other/").status == 200, 20, "both apps are there")
    worker = server.ask("/get/before").text.split()[1]
    edge = server.edge()
    # Whatever is made once: room for reading files, spools, places for connections.
    for n in range(20):
        server.take(text(n))
    assert len(server.post("/post/warm-1", b"u" * (8 * MIB)).body) > 8 * MIB
    assert server.ask("/files/large.bin").status == 200
    warm = Load(server.address, ("get", "post", "stream"), clients=16)
    asyncio.run(warm.run(lambda load: load.answered(300)))
    for n in range(5):
        server.take(text(n))
    until(lambda: len(server.workers()) == 2, 20, "the old workers have gone")

    def sizes() -> tuple[int, int, int, int]:
        return (
            procs.own_bytes(server.pid),
            procs.own_bytes(edge),
            procs.descriptors(server.pid),
            procs.descriptors(edge),
        )

    failures: list[str] = []

    def download() -> None:
        got = 0

        def slowly(piece: bytes) -> None:
            nonlocal got
            got += len(piece)
            while not ending.is_set() and got > progress() * large.stat().st_size:
                time.sleep(0.01)

        with server.connect(receive_buffer=65536) as connection:
            connection.request("GET", "/files/large.bin", sink=slowly)
        if got != large.stat().st_size:
            failures.append(f"the download ended after {got} bytes")

    def upload() -> None:
        size = 8 * MIB
        with server.connect() as connection:
            connection.send(request("POST", "/post/upload-1", {"Content-Length": str(size)}))
            sent = 0
            while sent < size:
                connection.send(b"u" * 16384)
                sent += 16384
                while not ending.is_set() and sent > progress() * size:
                    time.sleep(0.01)
            answer = connection.read()
        if answer.status != 200 or len(answer.body) < size:
            failures.append(f"the upload was answered with {answer.status}")

    def listen() -> None:
        with server.connect() as connection:
            connection.send(request("GET", f"/other/stream/{events}", {}))
            connection.read_head()
            body = b"".join(iter(connection.read_chunk, b""))
        if body.count(b"data:") != events:
            failures.append(f"the stream ended after {body.count(b'data:')} events")

    ending = threading.Event()
    reloads = 0
    events = 600 if slow_set else 200  # a twentieth of a second each

    def progress() -> float:
        return (reloads + 1) / count

    def guarded(what: object) -> None:
        try:
            what()  # type: ignore[operator]
        except Exception as error:  # noqa: BLE001  the test says what went wrong, whatever it was
            failures.append(f"{what}: {error!r}")

    before = sizes()
    middle = late = before
    begun = time.monotonic()
    seconds = 0.0

    async def disturb(load: Load) -> None:
        nonlocal reloads, middle, late, seconds
        for n in range(count):
            server.write(text(20 + n))
            done = await asyncio.to_thread(server.reload)
            assert done.code == 0, done
            reloads = n + 1
            if reloads == count // 2:
                middle = sizes()
            if n % 20 == 0:
                assert (await asyncio.to_thread(server.ask, "/n")).text == str(20 + n)
        late = sizes()
        seconds = time.monotonic() - begun
        await load.answered(50)

    threads = [threading.Thread(target=guarded, args=(w,)) for w in (download, upload, listen)]
    for thread in threads:
        thread.start()
    load = Load(server.address, ("get", "post", "stream"), clients=16)
    try:
        asyncio.run(load.run(disturb))
    finally:
        ending.set()
        for thread in threads:
            thread.join(60)
    assert failures == []
    assert load.failures() == []
    assert load.refused == []
    assert len(load.ended()) > 500
    assert server.edge() == edge
    assert server.ask("/get/after").text.split()[1] == worker, "an app whose section stays keeps its worker"
    assert all(times == 1 for times in recorded(record).values()), "no request came twice"
    until(lambda: len(server.workers()) == 2, 60, "the old workers have gone")
    until(lambda: sizes()[2] <= before[2] + 2 and sizes()[3] <= before[3] + 2, 20, f"{before} {sizes()}")
    after = sizes()
    print(f"{seconds:.1f} s, {before=}, {middle=}, {late=}, {after=}, {len(load.ended())} requests")
    assert after[0] < before[0] + MIB, f"the supervisor grew: {before} {middle} {after}"
    assert after[1] < before[1] + 3 * MIB, f"the edge grew: {before} {middle} {after}"
    # Both under the same load: the end of the large answers leaves pages that the allocator keeps.
    assert late[1] < middle[1] + MIB // 2, f"the edge grows with each: {before} {middle} {late}"


def test_idle_reloads_cost_no_memory_and_no_descriptors(serve: Serve, slow_set: bool) -> None:
    def text(n: int) -> str:
        return app("one") + site(f'path = "/n", respond = {{ text = "{n}" }}', 'path = "/*", app = "one"')

    server = serve(text(0))
    assert server.ask("/").status == 200
    edge = server.edge()

    def several(count: int) -> tuple[int, int, int, int]:
        for n in range(count):
            server.take(text(n))
        return (
            procs.own_bytes(server.pid),
            procs.own_bytes(edge),
            procs.descriptors(server.pid),
            procs.descriptors(edge),
        )

    count = 300 if slow_set else 60
    several(20)
    first, second = several(count), several(count)
    assert second[2:] == first[2:]
    assert second[0] < first[0] + MIB // 2
    assert second[1] < first[1] + MIB // 2


@pytest.mark.slow
def test_a_file_that_is_cut_at_any_byte_never_ends_the_server(serve: Serve) -> None:
    text = app("one") + site('path = "/n", respond = { text = "n" }', 'path = "/*", app = "one"')
    server = serve(text)
    data = server.file.read_bytes()
    for size in range(0, len(data), 7):
        server.file.write_bytes(data[:size])
        assert server.reload().code in (0, 78)
    server.take(text)
    assert text_at(server, "/n") == "n"


def test_reloading_while_stopping_does_no_harm(serve: Serve) -> None:
    server = serve(app("one") + site('path = "/*", app = "one"'))
    with server.connect() as busy:
        busy.send(request("GET", "/nap/1", {}))
        server.wait_for_workers(1)

        async def both() -> None:
            server.signal(signal.SIGTERM)
            for _ in range(5):
                if server.popen.poll() is None:
                    server.signal(signal.SIGHUP)
                await asyncio.sleep(0.05)
            await until_beside(lambda: server.popen.poll() is not None, 20, "it ends")

        asyncio.run(both())
        assert busy.read().status == 200


def test_a_storm_of_signals_ends_with_the_last_file(serve: Serve) -> None:
    server = serve(numbered(0))
    for n in range(1, 101):
        server.write(numbered(n))
        server.signal(signal.SIGHUP)
    server.signal(signal.SIGHUP)
    assert until(lambda: server.ask("/").status == 200, 10, "the app answers")
    until(lambda: server.reload().code == 0, 10, "a reload is taken")
    assert says(server, 100)
    assert len(server.wait_for_workers(1)) == 1

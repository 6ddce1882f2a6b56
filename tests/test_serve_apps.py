"""Apps of a configuration: which one gets a request, under which path, with which environment."""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Serve
from support.http import Connection, Cut
from support.poll import throughout, until
from support.server import SiteServer

APPS = """
[app.root]
wsgi = "site_app"
folder = "${APPS}"
venv = "${VENV}"
env = { APP_NAME = "root" }
[app.api]
wsgi = "site_app"
folder = "${APPS}"
venv = "${VENV}"
env = { APP_NAME = "api" }
[app.admin]
wsgi = "site_app"
folder = "${APPS}"
venv = "${VENV}"
env = { APP_NAME = "admin" }
[app.flask]
wsgi = "flask_app:app"
folder = "${APPS}"
venv = "${VENV}"
[site.main]
listen = ["http://127.0.0.1:${P0}"]
request-headers = { set = { X-Site = "site", X-Both = "site" }, remove = ["X-Gone"] }
route = [
  { path = "/*", app = "root" },
  { path = "/api/*", app = "api", mount = true },
  { path = "/admin/*", app = "admin", mount = true },
  { path = "/flask/*", app = "flask", mount = true },
  { path = "/one", app = "api", mount = true },
  { path = "/v1/*", app = "api", rewrite = "/v2/{rest}" },
  { path = "/v1q/*", app = "api", rewrite = "/v2/{rest}?was={path}&{query}" },
  { path = "/fixed", app = "api", rewrite = "/else/where" },
  { path = "/uri/*", app = "api", rewrite = "/sub{uri}" },
  { path = "/edit", app = "api", request-headers = { set = { X-Both = "route", X-User = "trivet" }, add = { X-Many = "2" }, remove = ["Cookie"] } },
  { path = "/café au lait/*", app = "api", mount = true },
]
[site.other]
listen = ["http://127.0.0.1:${P0}"]
hosts = ["admin.example"]
route = [{ path = "/*", app = "admin" }]
"""  # noqa: E501


@pytest.fixture(scope="module")
def server(serve_shared: Serve) -> SiteServer:
    return serve_shared(APPS)


def seen(server: SiteServer, target: str, host: str = "test.example", **options: Any) -> dict[str, Any]:
    answer = server.ask(target, host, **options)
    assert answer.status == 200, (target, answer)
    said: dict[str, Any] = answer.json()
    return said


def test_the_host_and_the_path_choose_the_app(server: SiteServer) -> None:
    for target, host, app in [
        ("/", "test.example", "root"),
        ("/api", "test.example", "api"),
        ("/api/x", "test.example", "api"),
        ("/apis", "test.example", "root"),
        ("/admin/", "test.example", "admin"),
        ("/api/x", "admin.example", "admin"),
    ]:
        assert seen(server, target, host)["app"] == app, (target, host)
    pids = {seen(server, t)["pid"] for t in ("/", "/api", "/admin")}
    assert len(pids) == 3, "each has workers of its own"


@pytest.mark.parametrize(
    ("target", "app", "script", "path"),
    [
        ("/", "root", "", "/"),
        ("/api", "api", "/api", ""),
        ("/api/", "api", "/api", "/"),
        ("/api/x/y", "api", "/api", "/x/y"),
        ("/api?q=1", "api", "/api", ""),
        ("/one", "api", "/one", ""),
        ("/api/caf%C3%A9", "api", "/api", "/caf\u00c3\u00a9"),
        ("/api/a%20b", "api", "/api", "/a b"),
        ("/api/a%3Fb%23c%25d", "api", "/api", "/a?b#c%d"),
        ("//api/x", "api", "/api", "/x"),
        ("/%61pi/x", "api", "/api", "/x"),
        ("/x/../api/y", "api", "/api", "/y"),
        ("/./api/./y", "api", "/api", "/y"),
        ("/api/../admin/x", "admin", "/admin", "/x"),
        ("/api/%2e%2e/admin/x", "admin", "/admin", "/x"),
        ("/api//admin", "api", "/api", "/admin"),
        ("/admin/../api/..", "root", "", None),
        ("/api/../../admin", "admin", "/admin", ""),
        ("/api;x/y", "root", "", "/api;x/y"),
        ("/api/..;/admin", "api", "/api", "/..;/admin"),
        ("/caf%C3%A9%20au%20lait/x", "api", "/caf\u00c3\u00a9 au lait", "/x"),
        ("http://test.example/api/x", "api", "/api", "/x"),
        ("http://test.example", "root", "", "/"),
    ],
)
def test_a_mounted_app_lives_at_its_path(
    server: SiteServer, target: str, app: str, script: str, path: str | None
) -> None:
    said = seen(server, target)
    environ = said["environ"]
    assert said["app"] == app
    assert environ["SCRIPT_NAME"] == script
    if path is not None:
        assert environ["PATH_INFO"] == path
    for name in "RAW_URI", "REQUEST_URI":
        assert environ[name] == target, "that is the client's, whatever its spelling"
    assert environ["QUERY_STRING"] == target.partition("?")[2]


@pytest.mark.parametrize(
    "target",
    [
        "/api/..%2fadmin",
        "/api%2fx",
        "/api%2f..%2fadmin",
        "/x%2f..%2fapi/y",
        "/api/..%5cadmin",
        "/%2fapi/x",
        "/api/%2e%2e%2fadmin",
        "/api/x%00",
        "/api/%zz",
        "/api/%ff",
        "/%2e%2e%2fadmin/x",
        "/admin/..%2f",
    ],
)
def test_spellings_of_two_meanings_reach_no_mounted_app(server: SiteServer, target: str) -> None:
    assert server.ask(target).status == 400


@pytest.mark.parametrize("target", ["/x%2fy", "/%ff", "/%zz", "/x%5c"])
def test_an_app_at_the_root_gets_odd_spellings_as_they_are(server: SiteServer, target: str) -> None:
    answer = server.ask(target)
    if answer.status != 400:
        assert answer.json()["app"] == "root"
        assert answer.json()["environ"]["SCRIPT_NAME"] == ""


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/v1", "/v2/", ""),
        ("/v1/", "/v2/", ""),
        ("/v1/a/b?x=1", "/v2/a/b", "x=1"),
        ("/v1//a", "/v2/a", ""),
        ("/v1/../v1/a", "/v2/a", ""),
        ("/v1/a%20b", "/v2/a b", ""),
        ("/v1/a%3fb", "/v2/a?b", ""),
        ("/v1/a%0d%0ab", "/v2/a\r\nb", ""),
        ("/v1q/a?x=1", "/v2/a", "was=/v1q/a&x=1"),
        ("/fixed?x=1", "/else/where", "x=1"),
        ("/uri/a?x=1", "/sub/uri/a", "x=1"),
    ],
)
def test_a_rewritten_target_is_what_the_app_sees(
    server: SiteServer, target: str, path: str, query: str
) -> None:
    environ = seen(server, target)["environ"]
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == (path, query)
    assert environ["SCRIPT_NAME"] == ""
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == target


def test_a_rewritten_target_that_is_too_long_is_414_and_reaches_no_app(serve: Serve) -> None:
    server = serve(
        """
        [app.api]
        wsgi = "site_app"
        folder = "${APPS}"
        venv = "${VENV}"
        [site.main]
        listen = ["http://127.0.0.1:${P0}"]
        access-log = { file = "access.log" }
        route = [
          { path = "/*", app = "api" },
          { path = "/much/*", app = "api", rewrite = "/a{uri}{uri}{uri}{uri}{uri}{uri}{uri}{uri}{uri}{uri}" },
        ]
        """
    )
    assert seen(server, "/much/" + "x" * 6_000)["environ"]["PATH_INFO"].startswith("/a/much/xxx")
    target = "/much/" + "x" * 7_000
    assert server.ask(target).status == 414
    with server.connect() as connection:
        assert connection.request("GET", target).status == 414
    until(lambda: " 414 " in (server.folder / "access.log").read_text(), 5, "the log has it")


@pytest.mark.parametrize("target", ["/v1/..%2f..%2fadmin", "/v1%2fx", "/v1/a%00", "/v1/%ff"])
def test_what_has_no_canonical_form_is_not_rewritten(server: SiteServer, target: str) -> None:
    assert server.ask(target).status == 400


def test_the_request_s_fields_are_changed_before_the_app_sees_them(server: SiteServer) -> None:
    environ = seen(
        server,
        "/edit",
        fields={"X-Site": "client", "x-both": "client", "X-Gone": "1", "X-Many": "1", "Cookie": "a=1"},
    )["environ"]
    assert environ["HTTP_X_SITE"] == "site"
    assert environ["HTTP_X_BOTH"] == "route"
    assert environ["HTTP_X_USER"] == "trivet"
    assert environ["HTTP_X_MANY"].replace(" ", "") == "1,2"
    assert "HTTP_X_GONE" not in environ
    assert "HTTP_COOKIE" not in environ
    assert seen(server, "/x", fields={"X-Both": "client", "X_Both": "client"})["environ"]["HTTP_X_BOTH"] == (
        "site"
    ), "what the client says is replaced, under each of its names"
    assert seen(server, "/x", fields={"X_User": "root"})["environ"].get("HTTP_X_USER") is None


def test_a_mounted_flask_app_makes_urls_beneath_its_mount(server: SiteServer) -> None:
    answer = server.ask("/flask/login?user=ann")
    assert answer.status == 302
    assert answer.get("location") == "/flask/who"
    cookie = answer.get("set-cookie") or ""
    again = {"Cookie": cookie.partition(";")[0]}
    assert server.ask("/flask/who", fields=again).text == "ann"
    assert server.ask("/flask/").text == "hello from flask"
    assert server.ask("/flask/nowhere").status == 404


def small_venv(folder: Path, module: str, text: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / f"{module}.py").write_text(text)


def test_each_app_has_its_venv_its_environment_and_its_secrets(serve: Serve, place: Path) -> None:
    small_venv(place / "v1", "only_here", "WORD = 'first'")
    small_venv(place / "v2", "only_here", "WORD = 'second'")
    (place / "app").mkdir()
    (place / "app" / "words.py").write_text(
        "import json, os, sys, only_here\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    said = dict(os.environ, word=only_here.WORD, prefix=sys.prefix, cwd=os.getcwd(), path=sys.path)\n"  # noqa: E501
        "    return [json.dumps(said).encode()]\n"
    )
    (place / "secret").write_text("first line\nsecond, with ${P0}\n")
    (place / "secret").chmod(0o600)
    server = serve(
        """
        [app.one]
        wsgi = "words:app"
        folder = "app"
        venv = "v1"
        env = { WHO = "one ${FROM_OUTSIDE}", NONE = "${NOT_SET:-nothing}", PLAIN = "$${P0}", KEY = { file = "secret" } }
        [app.two]
        wsgi = "words:app"
        folder = "app"
        venv = "v2"
        pythonpath = ["extra"]
        [site.main]
        listen = ["http://127.0.0.1:${P0}"]
        route = [
          { path = "/one", app = "one" },
          { path = "/two", app = "two" },
        ]
        """,  # noqa: E501
        env={"FROM_OUTSIDE": "1"},
    )
    one, two = server.ask("/one").json(), server.ask("/two").json()
    assert (one["word"], two["word"]) == ("first", "second")
    assert (one["prefix"], two["prefix"]) == (str(place / "v1"), str(place / "v2"))
    assert one["WHO"] == "one 1"
    assert one["NONE"] == "nothing"
    assert one["PLAIN"] == "${P0}"
    assert one["KEY"] == "first line\nsecond, with ${P0}", "the content of a file is taken as it is"
    assert "WHO" not in two
    assert "KEY" not in two
    assert one["cwd"] == str(place / "app")
    assert str(place / "extra") in two["path"]
    assert str(place / "extra") not in one["path"]
    for pid in server.workers():
        environ = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"first line" not in environ
    assert "first line" not in server.log()
    done = server.check("--explain", f"http://127.0.0.1:{server.ports[0]}/one")
    assert "first line" not in done.said


def test_an_environment_variable_that_is_not_set_is_an_error(serve: Serve) -> None:
    server = serve(APPS)
    server.write(APPS.replace('"root" }', '"${NOT_SET_ANYWHERE}" }'))
    done = server.check()
    assert done.code == 78
    assert "NOT_SET_ANYWHERE" in done.err
    assert f"{server.file.name}:5:" in done.err


def test_an_app_whose_worker_dies_harms_no_other(server: SiteServer) -> None:
    other = seen(server, "/api")["pid"]
    mine = seen(server, "/")["pid"]
    assert server.ask("/die").status == 502
    assert seen(server, "/api")["pid"] == other
    assert seen(server, "/")["pid"] != mine


def test_a_busy_app_holds_up_no_other(serve: Serve) -> None:
    text = APPS.replace('APP_NAME = "root" }', 'APP_NAME = "root" }\nqueue-length = 0')
    server = serve(text)
    until(lambda: server.ask("/").status == 200, 10, "its worker is there")
    with server.connect() as busy:
        busy.send(b"GET /nap/2 HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: server.ask("/").status == 503, 2, "no queue: the next one is turned away")
        assert seen(server, "/api")["app"] == "api"
        assert busy.read().status == 200
    assert seen(server, "/")["app"] == "root"


def test_health_is_bad_while_an_app_has_no_worker(serve: Serve) -> None:
    text = APPS.replace("[site.main]", '[site.main]\nhealth = "/health"')
    server = serve(text)
    until(lambda: server.ask("/health").status == 200, 10, "all apps are up")
    os.kill(seen(server, "/api")["pid"], signal.SIGKILL)
    until(lambda: server.ask("/health").status == 503, 10, "one is missing")
    until(lambda: server.ask("/health").status == 200, 10, "all apps are up again")
    assert server.ask("/health", method="HEAD").status == 200


def test_an_app_that_cannot_be_loaded_is_503_at_once_and_tried_again(serve: Serve, place: Path) -> None:
    module = place / "shop.py"
    module.write_text("import no_such_module\n")
    good = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'%s']\n"
    server = serve(
        """
        [app.other]
        wsgi = "site_app"
        folder = "${APPS}"
        venv = "${VENV}"
        env = { APP_NAME = "other" }
        [app.shop]
        wsgi = "shop:app"
        queue-timeout = "60s"
        [site.main]
        listen = ["http://127.0.0.1:${P0}"]
        health = "/health"
        route = [{ path = "/*", app = "other" }, { path = "/shop/*", app = "shop" }]
        """
    )
    told = "no worker of the app starts; until one does, requests get 503"

    def refused(**options: Any) -> None:
        begun = time.monotonic()
        answer = server.ask("/shop/", **options)
        assert (answer.status, answer.get("retry-after")) == (503, "5")
        assert time.monotonic() - begun < 2

    server.wait_for_log(rf"{told}.*app=shop")
    refused()
    refused(method="POST", body=b"x" * 300_000)
    assert seen(server, "/")["app"] == "other"
    assert server.ask("/health").status == 503
    # It is tried again by itself, and the edge that comes after this one knows of it too.
    os.kill(server.edge(), signal.SIGKILL)
    until(lambda: answers(server), 10, "the next edge serves")
    refused()
    module.write_text(good % "one")
    until(lambda: server.ask("/shop/").status == 200, 20, "it is loaded")
    assert server.ask("/shop/").text == "one"
    assert server.ask("/health").status == 200
    assert server.log().count(told) == 1
    server.wait_for_log("the app is loaded; requests are served again")
    # Code that is broken under a running worker does no harm until the worker dies.
    module.write_text("import no_such_module\n")
    assert server.reload("shop").code != 0
    assert server.ask("/shop/").text == "one"
    other = seen(server, "/")["pid"]
    (worker,) = until(lambda: of_two(server.workers(), other), 10, "the one that failed is gone")
    os.kill(worker, signal.SIGKILL)
    until(lambda: server.log().count(told) == 2, 10, "its successor does not start")
    refused()
    # Who repairs it and says so waits for what comes of it.
    module.write_text("import time\ntime.sleep(1)\n" + good % "two")
    reloaded = threading.Thread(target=server.reload, args=("shop",))
    reloaded.start()
    until(lambda: server.ask("/shop/").status == 200, 10, "it is loaded")
    reloaded.join()
    assert server.ask("/shop/").text == "two"


def of_two(workers: list[int], other: int) -> list[int] | None:
    rest = [pid for pid in workers if pid != other]
    return rest if len(rest) == 1 else None


def answers(server: SiteServer, target: str = "/", status: int = 200) -> bool:
    try:
        return server.ask(target).status == status
    except (OSError, Cut):
        return False


def test_requests_wait_while_an_app_is_imported_for_the_first_time(serve: Serve, place: Path) -> None:
    (place / "late.py").write_text(
        "import pathlib, time\n"
        "while not pathlib.Path('go').exists():\n    time.sleep(0.01)\n"
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'late']\n"
    )
    server = serve(
        """
        [app.late]
        wsgi = "late:app"
        [site.main]
        listen = ["http://127.0.0.1:${P0}"]
        route = [{ path = "/*", app = "late" }, { path = "/now", respond = 204 }]
        """,
        answers=False,
    )
    until(lambda: answers(server, "/now", 204), 10, "the edge is there")
    with server.connect() as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        throughout(lambda: not readable(connection), 0.5, "it waits")
        (place / "go").touch()
        assert connection.read().status == 200


def readable(connection: Connection) -> bool:
    return bool(select.select([connection.socket], [], [], 0)[0])

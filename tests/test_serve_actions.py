"""What a route does without an app: files, redirects, answers of its own; and pages for errors."""

import html
import os
import re
from pathlib import Path

import pytest
from conftest import Serve
from support.http import Connection, Cut, Response, request
from support.server import SiteServer

LARGE = bytes(range(256)) * 4096
HOSTILE = [
    '<img src=x onerror="alert(1)">.txt',
    "a&b'c.txt",
    "javascript:alert(1)",
    'quo"te.txt',
    "new\nline.txt",
]

SITE = """
[app.a]
wsgi = "site_app"
folder = "${APPS}"
venv = "${VENV}"
[site.main]
listen = ["http://127.0.0.1:${P0}"]
health = "/health"
error-pages = { 404 = "pages/404.html", 5xx = "pages/5xx.html", 413 = "pages/413.txt" }
route = [
  { path = "/*", app = "a" },
  { path = "/static/*", static = "public" },
  { path = "/both/*", static = "public", app = "a" },
  { path = "/spa/*", static = { folder = "public/spa", fallback = ["index.html"] } },
  { path = "/list/*", static = { folder = "public", listing = true, index = [] } },
  { path = "/strict/*", static = { folder = "public", links = false } },
  { path = "/cached/*", static = { folder = "public", cache = "1h" } },
  { path = "/uncached/*", static = { folder = "public", cache = "no-store" } },
  { path = "/other-index/*", static = { folder = "public", index = ["start.txt", "index.html"] } },
  { path = "/file.css", static = "public" },

  { path = "/r301", redirect = "/new", status = 301 },
  { path = "/r302", redirect = "/new", status = 302 },
  { path = "/r303", redirect = "/new", status = 303 },
  { path = "/r307", redirect = "/new", status = 307 },
  { path = "/r308", redirect = "/new" },
  { path = "/rest/*", redirect = "/{rest}" },
  { path = "/host/*", redirect = "https://www.{host}{uri}" },
  { path = "/path/*", redirect = "{path}index?from={query}" },
  { path = "/away/*", redirect = "https://new.example/{rest}?{query}" },
  { path = "/scheme/*", redirect = "{scheme}://new.example{uri}" },
  { path = "/braces", redirect = "/{{x}}" },

  { path = "/gone", respond = 410 },
  { path = "/empty", respond = 204 },
  { path = "/missing", respond = 404 },
  { path = "/text", respond = { text = "hello ${P0}" } },
  { path = "/json", respond = { status = 201, json = { a = [1, "x", { b = true }] } } },
  { path = "/page", respond = { status = 503, file = "pages/maintenance.html", retry-after = "2m" } },
  { path = "/typed", respond = { text = "<svg/>", type = "image/svg+xml" } },
  { path = "/small/*", app = "a", request-body-max = "1k" },
  { path = "/unlimited/*", app = "a", request-body-max = 0 },
]
[site.plain]
listen = ["http://127.0.0.1:${P1}"]
route = [{ path = "/gone", respond = 410 }, { path = "/static/*", static = "public" }]
"""


@pytest.fixture(scope="module")
def folder(place_shared: Path) -> Path:
    public = place_shared / "public"
    (public / "docs").mkdir(parents=True)
    (public / "hostile").mkdir()
    (public / "spa").mkdir()
    (public / ".git").mkdir()
    (public / "site.css").write_bytes(b"body {}")
    (public / "large.bin").write_bytes(LARGE)
    (public / "docs" / "index.html").write_text("docs index")
    (public / "docs" / "start.txt").write_text("docs start")
    (public / "spa" / "index.html").write_text("the spa")
    (public / "spa" / "app.js").write_text("js")
    (public / ".env").write_text("TOP SECRET")
    (public / ".git" / "config").write_text("TOP SECRET")
    (place_shared / "outside").write_text("TOP SECRET")
    (public / "out").symlink_to(place_shared / "outside")
    (public / "out-folder").symlink_to(place_shared)
    (public / "up").symlink_to("../outside")
    (public / "inside").symlink_to("site.css")
    for name in HOSTILE:
        (public / "hostile" / name).write_text("x")
    pages = place_shared / "pages"
    pages.mkdir()
    (pages / "404.html").write_text("<h1>our 404</h1>")
    (pages / "5xx.html").write_text("<h1>our 5xx</h1>")
    (pages / "413.txt").write_text("too much")
    (pages / "maintenance.html").write_text("<h1>back soon</h1>")
    return place_shared


@pytest.fixture(scope="module")
def server(serve_shared: Serve, folder: Path) -> SiteServer:
    assert folder.exists()
    return serve_shared(SITE)


# Files.


def test_files_of_a_folder_are_served_where_the_route_says(server: SiteServer) -> None:
    answer = server.ask("/static/site.css")
    assert (answer.status, answer.body) == (200, b"body {}")
    assert answer.get("content-type") == "text/css; charset=utf-8"
    assert server.ask("/static/docs/").text == "docs index"
    assert server.ask("/static/docs?x=1").get("location") == "/static/docs/?x=1"
    assert server.ask("/static/nope").text == "<h1>our 404</h1>"
    assert server.ask("/static/site.css", method="DELETE").status == 405
    assert server.ask("/other-index/docs/").text == "docs start"
    assert server.ask("/cached/site.css").get("cache-control") in ("max-age=3600", "public, max-age=3600")
    assert server.ask("/uncached/site.css").get("cache-control") == "no-store"


def test_what_is_no_file_is_the_app_s_where_there_is_one(server: SiteServer) -> None:
    assert server.ask("/both/site.css").body == b"body {}"
    for target, method in ("/both/nope", "GET"), ("/both/site.css", "POST"), ("/both/.env", "GET"):
        answer = server.ask(target, method=method)
        assert answer.json()["environ"]["PATH_INFO"] == target
    assert server.ask("/static/site.css", method="POST", body=b"x").status == 405


def test_a_single_page_application_has_one_page_for_all_its_paths(server: SiteServer) -> None:
    for target in "/spa", "/spa/", "/spa/a/b", "/spa/a/b/", "/spa/.env":
        answer = server.ask(target)
        if target == "/spa" and answer.status == 308:
            continue
        assert (answer.status, answer.text) == (200, "the spa"), target
    assert server.ask("/spa/app.js").text == "js"
    assert server.ask("/spa/a", method="POST", body=b"").status == 405


def test_a_listing_escapes_hostile_names(server: SiteServer) -> None:
    answer = server.ask("/list/hostile/")
    assert answer.status == 200
    assert answer.get("content-type") == "text/html; charset=utf-8"
    assert "<img" not in answer.text
    assert 'onerror="' not in answer.text
    links = [html.unescape(link) for link in re.findall(r'href="([^"]*)"', answer.text)]
    assert "../" in links
    for link in links:
        assert link == "../" or link.startswith("./"), f"{link} could name a scheme"
        if link != "../":
            assert server.ask("/list/hostile/" + link[2:]).status == 200, link
    assert len(links) == len(HOSTILE) + 1
    top = server.ask("/list/").text
    for hidden in ".env", ".git", "SECRET":
        assert hidden not in top
    assert server.ask("/list/docs").status == 308
    assert server.ask("/static/hostile/").status == 404, "no listing where none is asked for"


@pytest.mark.parametrize("base", ["/static", "/list", "/strict", "/both", "/spa"])
@pytest.mark.parametrize(
    "target",
    [
        "/out",
        "/up",
        "/out-folder/outside",
        "/out-folder/pages/404.html",
        "/../outside",
        "/%2e%2e/outside",
        "/..%2foutside",
        "/%2e%2e%2foutside",
        "/..%5coutside",
        "/..\\outside",
        "/docs/..%2f..%2foutside",
        "/docs/..;/..;/outside",
        "/..;/outside",
        "/docs/../../outside",
        "/%252e%252e/outside",
        "/%c0%ae%c0%ae/outside",
        "/%uff0e%uff0e/outside",
        "//../outside",
        "/site.css%00.html",
        "/site.css/",
        "/site.css/x",
        "/.env",
        "/.git/config",
        "/%2eenv",
        "/docs/../.env",
        "/proc/self/environ",
        "/" + "a/" * 2000 + "x",
        "/" + "a" * 4000,
    ],
)
def test_nothing_outside_the_folder_or_hidden_is_ever_served(
    server: SiteServer, base: str, target: str
) -> None:
    answer = server.ask(base + target)
    assert b"SECRET" not in answer.body
    assert b"our 404" not in answer.body or answer.status == 404
    if answer.body.startswith(b'{"app"'):
        return  # the app's, in the end
    assert answer.status in ((200,) if base == "/spa" else ()) + (400, 404, 414), answer
    if base == "/spa" and answer.status == 200:
        assert answer.text == "the spa"


def test_links_are_followed_beneath_the_folder_only_and_not_at_all_where_told_so(server: SiteServer) -> None:
    assert server.ask("/static/inside").body == b"body {}"
    assert server.ask("/strict/inside").status == 404
    assert server.ask("/strict/site.css").status == 200


RANGES = [
    ("bytes=0-0,-1", (206,)),
    ("bytes=0-99", (206,)),
    ("bytes=-1", (206,)),
    ("bytes=99999999999999999999-", (416,)),
    ("bytes=0-99999999999999999999", (200, 206)),
    ("bytes=" + ",".join(["0-"] * 100), (200, 206, 416)),
    ("bytes=" + ",".join(["0-1048575"] * 5), (200, 206, 416)),
    ("bytes=" + ",".join(f"{i}-" for i in range(0, 3000, 2)), (200, 206, 416, 431)),
    ("bytes=" + ",".join(f"{i}-{i}" for i in range(0, 2000, 2)), (200, 206, 416, 431)),
    ("bytes=0-,0-,0-,0-", (200, 206, 416)),
    ("bytes=5-2", (200, 416)),
    ("bytes=-0", (416,)),
    ("bytes=a-b", (200, 416)),
    ("bytes=" + " " * 5000 + "0-1", (200, 206)),
]


@pytest.mark.parametrize(("value", "statuses"), RANGES)
def test_ranges_never_make_more_than_the_file(
    server: SiteServer, value: str, statuses: tuple[int, ...]
) -> None:
    answer = server.ask("/static/large.bin", fields={"Range": value})
    assert answer.status in statuses
    assert len(answer.body) <= len(LARGE) + 10_000, "no amplification"
    if value == "bytes=0-99":
        assert answer.body == LARGE[:100]


# Redirects.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_have_their_status(server: SiteServer, status: int) -> None:
    for method in "GET", "POST", "HEAD":
        answer = server.ask(f"/r{status}?x=1", method=method)
        assert (answer.status, answer.get("location")) == (status, "/new")


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/rest/a/b", "/a/b"),
        ("/rest", "/"),
        ("/rest/", "/"),
        ("/rest/a%20b", "/a%20b"),
        ("/rest/caf%C3%A9", "/caf%C3%A9"),
        ("/host/a%2fb?x=1&y=%0a", "https://www.test.example/host/a%2fb?x=1&y=%0a"),
        ("/host", "https://www.test.example/host"),
        ("/path/?x=1", "/path/index?from=x=1"),
        ("/away/a/b?x=1", "https://new.example/a/b?x=1"),
        ("/scheme/x?y", "http://new.example/scheme/x?y"),
        ("/braces", "/{x}"),
    ],
)
def test_templates_are_filled_in(server: SiteServer, target: str, location: str) -> None:
    assert server.ask(target).get("location") == location


EVIL = [
    "//evil.example",
    "///evil.example",
    "/%2fevil.example",
    "/%2f%2fevil.example",
    "/\\evil.example",
    "/%5cevil.example",
    "/%5c%5cevil.example",
    "/.//evil.example",
    "/..//evil.example",
    "/%09/evil.example",
    "/%0a/evil.example",
    "/;//evil.example",
    "/.evil.example",
    "/@evil.example",
    "/https:/evil.example",
    "/a%0d%0aSet-Cookie:%20x=1",
    "/%0d%0a%0d%0a<script>",
    "/a%E5%98%8A%E5%98%8DSet-Cookie:x",
    "?x=%0d%0aSet-Cookie:x",
    "/x?//evil.example",
    "/x?\\evil.example",
]


@pytest.mark.parametrize("target", EVIL)
@pytest.mark.parametrize(
    "base", ["/rest", "/path", "/host", "/away", "/scheme", "/static/docs", "/list/docs"]
)
def test_no_path_names_another_host_or_a_further_field(server: SiteServer, base: str, target: str) -> None:
    for start in base + target, "/" + base + target, "/" + target.lstrip("/") + "/.." + base:
        answer = server.ask(start)
        assert answer.all("set-cookie") == []
        location = answer.get("location")
        if location is None:
            continue
        assert not re.search(r"[\x00-\x20]", location)
        if base in ("/host", "/away", "/scheme") and "://" in location:
            host = re.match(r"https?://([^/?#\\\\]*)", location)
            assert host
            assert host[1] in ("www.test.example", "new.example"), location
        else:
            assert re.match(r"/(?![/\\])", location), location


# What `trivet check` lets through although a client may choose the host by it.
@pytest.mark.parametrize(
    ("template", "target"),
    [
        ("/{query}", "/go?/evil.example"),
        ("/{query}", "/go?\\evil.example"),
        ("/{path}", "/evil.example/../go"),
        ("/{uri}", "/go"),
        ("/\\\\{rest}", "/go/evil.example"),
    ],
)
def test_no_template_lets_a_client_name_the_host(serve: Serve, template: str, target: str) -> None:
    server = serve(
        f"""
        [site.main]
        listen = ["http://127.0.0.1:${{P0}}"]
        route = [{{ path = "/go/*", redirect = "{template}" }}, {{ path = "/*", respond = 404 }}]
        """,
        answers=False,
    )
    if server.check().code == 78:
        server.expected_code = 78
        return
    server.wait_until_it_answers()
    assert re.match(r"/(?![/\\])", server.ask(target).get("location") or "")


@pytest.mark.parametrize(
    "template",
    [
        "https://{rest}",
        "https://shop.example{rest}",
        "https://shop.example{query}",
        "https://{query}/",
        "{scheme}://{rest}",
        "{rest}",
        "{query}",
        "//{rest}",
        "javascript:{rest}",
        "/x\\ny",
        "/{nope}",
        "/{rest",
    ],
)
def test_templates_by_which_a_client_could_choose_the_host_are_refused(serve: Serve, template: str) -> None:
    server = serve('[site.x]\nlisten = ["http://127.0.0.1:${P0}"]\nroute = [{ path = "/*", respond = 204 }]')
    text = f'[site.x]\nlisten = ["http://127.0.0.1:${{P0}}"]\nroute = [{{ path = "/*", redirect = "{template}" }}]'  # noqa: E501
    server.write(text)
    done = server.check()
    assert done.code == 78, done
    assert f"{server.file.name}:3:" in done.err


def test_rest_is_what_the_star_at_the_end_of_a_pattern_stands_for(serve: Serve) -> None:
    server = serve(
        """
        [site.main]
        listen = ["http://127.0.0.1:${P0}"]
        route = [{ path = "/*/old/*", redirect = "/new/{rest}" }]
        """
    )
    assert server.ask("/shop/old/a/b").get("location") == "/new/a/b"


def test_a_redirect_to_the_host_needs_one(server: SiteServer) -> None:
    with server.connect() as connection:
        connection.send(b"GET /host/x HTTP/1.0\r\n\r\n")
        assert connection.read().status == 400


@pytest.mark.parametrize("host", ["evil.example/x", "evil.example@x", "a b", "evil\t", "a,b", "x\\y", '"'])
def test_a_host_that_is_none_is_in_no_redirect(server: SiteServer, host: str) -> None:
    answer = server.ask("/host/x", host)
    assert answer.status in (400, 421) or answer.get("location") == f"https://www.{host.strip()}/host/x"
    if answer.status == 308:
        assert re.fullmatch(r"https://www\.[a-z.]+/host/x", answer.get("location") or "")


# Answers of its own.


def test_a_status_alone_has_the_usual_text_or_the_site_s_page(server: SiteServer) -> None:
    answer = server.ask("/gone", port=1)
    assert (answer.status, answer.text.splitlines()[0]) == (410, "410 Gone")
    assert server.ask("/gone").text.startswith("410 Gone")
    answer = server.ask("/missing")
    assert (answer.status, answer.text) == (404, "<h1>our 404</h1>")
    assert answer.get("content-type") == "text/html; charset=utf-8"
    answer = server.ask("/empty")
    assert (answer.status, answer.body) == (204, b"")


def test_a_text_a_file_a_value(server: SiteServer) -> None:
    answer = server.ask("/text")
    assert (answer.status, answer.text) == (200, f"hello {server.ports[0]}")
    assert answer.get("content-type") == "text/plain; charset=utf-8"
    answer = server.ask("/json")
    assert (answer.status, answer.json()) == (201, {"a": [1, "x", {"b": True}]})
    assert answer.get("content-type") == "application/json"
    answer = server.ask("/page")
    assert (answer.status, answer.text, answer.get("retry-after")) == (503, "<h1>back soon</h1>", "120")
    assert server.ask("/typed").get("content-type") == "image/svg+xml"
    for target in "/text", "/json", "/page":
        head = server.ask(target, method="HEAD")
        whole = server.ask(target)
        assert head.get("content-length") == str(len(whole.body))
    assert server.ask("/text", method="BREW").status == 200


def test_205_has_no_content(serve: Serve) -> None:
    server = serve(
        '[site.main]\nlisten = ["http://127.0.0.1:${P0}"]\nroute = [{ path = "/*", respond = 205 }]'
    )
    assert server.ask("/").body == b""


def test_an_answer_of_its_own_reads_no_body(server: SiteServer) -> None:
    """What was meant as a body is never read as a request."""
    hidden = b"GET /missing HTTP/1.1\r\nHost: a\r\n\r\n"
    for target in "/text", "/r301", "/missing", "/health", "/static/site.css", "/static/nope":
        with server.connect() as connection:
            connection.send(request("POST", target, {}, hidden))
            answer = connection.read()
            assert answer.status in (200, 301, 404, 405)
            assert answer.says_close
            connection.assert_closed()


def test_health_is_the_server_s_own(server: SiteServer) -> None:
    answer = server.ask("/health")
    assert (answer.status, answer.text) == (200, "ok\n")
    assert server.ask("//health").status == 200
    assert server.ask("/health/x").json()["app"] is None


# Errors.


def test_pages_stand_for_errors_of_the_server_and_leave_the_app_s_alone(server: SiteServer) -> None:
    answer = server.ask("/die")
    assert (answer.status, answer.text) == (502, "<h1>our 5xx</h1>")
    answer = server.ask("/boom")
    assert (answer.status, answer.text) == (500, "<h1>our 5xx</h1>")
    answer = server.ask("/answer?status=404&body=the+app's")
    assert (answer.status, answer.text) == (404, "the app's")
    answer = server.ask("/answer?status=503&body=the+app's")
    assert (answer.status, answer.text) == (503, "the app's")
    assert server.ask("/static/nope", method="HEAD").get("content-length") == str(len("<h1>our 404</h1>"))
    assert server.ask("/x", port=1).text.startswith("404 Not Found"), "another site has none"


def test_a_body_may_be_so_large_as_its_route_says(server: SiteServer) -> None:
    for size, status in (1024, 200), (1025, 413):
        assert server.ask("/small/x", method="POST", body=b"x" * size).status == status
    answer = server.ask("/small/x", method="POST", body=b"x" * 1025)
    assert answer.text == "too much"
    assert answer.get("content-type") == "text/plain; charset=utf-8"
    assert server.ask("/x", method="POST", body=b"x" * 5000).json()["body_bytes"] == 5000
    with server.connect() as connection:
        connection.send(request("POST", "/x", {"Content-Length": str(65 << 20)}))
        assert connection.read().status == 413
        connection.assert_closed()
    with server.connect() as connection:
        connection.send(request("POST", "/unlimited/x", {"Content-Length": str(65 << 20)}))
        block = b"x" * (1 << 20)
        for _ in range(65):
            connection.send(block)
        assert connection.read().json()["body_bytes"] == 65 << 20
    with server.connect() as connection:
        connection.send(request("POST", "/small/x", {"Transfer-Encoding": "chunked"}))
        connection.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
        connection.send(b"1\r\nx\r\n0\r\n\r\n")
        assert connection.read().status == 413
    with server.connect() as connection:
        connection.send(request("POST", "/small/x", {"Content-Length": "1025", "Expect": "100-continue"}))
        answer = connection.read()
        assert (answer.status, answer.interim) == (413, []), "before the upload"


def test_pages_are_taken_up_by_a_reload(serve: Serve, place: Path) -> None:
    text = """
    [site.main]
    listen = ["http://127.0.0.1:${P0}"]
    error-pages = { 404 = "404.html" }
    route = [{ path = "/x", respond = 404 }]
    """
    (place / "404.html").write_text("first")
    server = serve(text)
    assert server.ask("/").text == "first"
    (place / "404.html").write_text("second")
    server.take(text)
    assert server.ask("/").text == "second"
    os.unlink(place / "404.html")
    assert server.reload().code != 0
    assert server.ask("/").text == "second"


def test_a_request_that_cannot_be_read_gets_an_answer_of_one_site_or_none(server: SiteServer) -> None:
    for head in (
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ):
        with Connection(server.address) as connection:
            connection.send(head)
            try:
                answer: Response | None = connection.read()
            except Cut:
                answer = None
            assert answer is None or answer.status == 400

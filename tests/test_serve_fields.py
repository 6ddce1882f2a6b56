"""What sites and routes say of header fields: changes, presets, CORS."""

import socket
from pathlib import Path

import pytest
from conftest import Serve
from support.http import Response
from support.poll import until
from support.server import SiteServer

SITE = """
[app.a]
wsgi = "site_app"
folder = "${APPS}"
venv = "${VENV}"
[site.main]
listen = ["http://127.0.0.1:${P0}"]
security-headers = true
response-headers = { set = { X-Served-By = "site", X-Both = "site" }, add = { X-Many = "site" }, default = { X-Default = "site" }, remove = ["X-Powered-By"] }
error-pages = { 404 = "404.html" }
health = "/health"
route = [
  { path = "/*", app = "a" },
  { path = "/static/*", static = "public" },
  { path = "/old", redirect = "/new" },
  { path = "/text", respond = { text = "hi" } },
  { path = "/gone", respond = 410 },
  { path = "/die", app = "a" },
  { path = "/small", app = "a", request-body-max = 10 },
  { path = "/own/*", app = "a", mount = true, response-headers = { set = { X-Both = "route" }, remove = ["X-App"] } },
  { path = "/embed/*", app = "a", mount = true, security-headers = { frame-options = "off", content-security-policy = "default-src 'self'" } },
  { path = "/bare/*", app = "a", mount = true, security-headers = false },
  { path = "/only", methods = ["POST"], app = "a" },
]
[site.strict]
listen = ["http://127.0.0.1:${P1}"]
security-headers = true
response-headers = { set = { X-Served-By = "site" } }
route = [{ path = "/only", methods = ["POST"], app = "a" }]
[site.special]
listen = ["http://127.0.0.1:${P2}"]
route = [
  { path = "/set/*", app = "a", mount = true, response-headers = { set = { Content-Type = "text/mine", Cache-Control = "no-store", ETag = '"mine"', Vary = "X-Mine", Retry-After = "7" } } },
  { path = "/server/*", app = "a", mount = true, response-headers = { set = { Server = "mine", X-Request-Id = "mine" } } },
  { path = "/no-server/*", app = "a", mount = true, response-headers = { remove = ["Server"] } },
  { path = "/default/*", app = "a", mount = true, response-headers = { default = { Cache-Control = "no-store", X-App = "default" } } },
  { path = "/file/*", static = "public", response-headers = { set = { Content-Type = "text/mine", Cache-Control = "no-store", ETag = '"mine"' }, remove = ["Last-Modified"] } },
  { path = "/file-default/*", static = { folder = "public", cache = "1h" }, response-headers = { default = { Cache-Control = "no-store", X-D = "1" } } },
  { path = "/respond", respond = { text = "x" }, response-headers = { set = { Content-Type = "text/mine" } } },
  { path = "/later", respond = { status = 503, retry-after = "2m" }, response-headers = { set = { Retry-After = "7" } } },
  { path = "/to", redirect = "/x", response-headers = { set = { Location = "/mine" } } },
]
"""  # noqa: E501
PRESET = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "strict-origin-when-cross-origin",
    "cross-origin-opener-policy": "same-origin",
}


@pytest.fixture(scope="module")
def server(serve_shared: Serve, place_shared: Path) -> SiteServer:
    (place_shared / "public").mkdir()
    (place_shared / "public" / "a.css").write_text("a {}")
    (place_shared / "404.html").write_text("our 404")
    return serve_shared(SITE)


def said(answer: Response) -> dict[str, str]:
    """Its fields, none of which stands twice."""
    for name, _ in answer.fields:
        if name.lower() not in ("set-cookie", "x-many", "vary"):
            assert len(answer.all(name)) == 1, f"{name} stands {len(answer.all(name))} times: {answer.fields}"
    return {name.lower(): value for name, value in answer.fields}


OF_A_ROUTE = ["/", "/static/a.css", "/static/nope", "/old", "/text", "/gone", "/answer?status=404", "/die"]


@pytest.mark.parametrize("target", OF_A_ROUTE)
def test_the_site_s_fields_are_on_every_answer_of_a_route(server: SiteServer, target: str) -> None:
    for method in "GET", "HEAD":
        answer = server.ask(target, method=method)
        fields = said(answer)
        assert {n: fields.get(n) for n in PRESET} == PRESET
        assert fields["x-served-by"] == "site"
        assert answer.all("x-many") == ["site"]


def test_and_on_errors_before_an_app_is_asked(server: SiteServer) -> None:
    answer = server.ask("/small", method="POST", body=b"x" * 11)
    assert answer.status == 413
    fields = said(answer)
    assert {n: fields.get(n) for n in PRESET} == PRESET
    for target in "/static/a.css", "/static/nope":
        answer = server.ask(target, fields={"If-None-Match": "*", "Range": "bytes=99-"})
        assert said(answer)["x-served-by"] == "site"


@pytest.mark.parametrize(
    ("target", "port", "status"), [("/x", 1, 404), ("/only", 1, 405), ("/health", 0, 200)]
)
def test_and_on_answers_of_the_site_itself(server: SiteServer, target: str, port: int, status: int) -> None:
    # The health of the site is good when its app is there.
    until(lambda: server.ask(target, port=port).status == status, 20, f"{target} is answered with {status}")
    answer = server.ask(target, port=port)
    fields = said(answer)
    assert {n: fields.get(n) for n in PRESET} == PRESET
    assert fields["x-served-by"] == "site"


def test_the_app_s_word_counts_before_the_presets(server: SiteServer) -> None:
    own = "/answer?field=X-Frame-Options:DENY&field=referrer-policy:no-referrer"
    fields = said(server.ask(own))
    assert fields["x-frame-options"] == "DENY"
    assert fields["referrer-policy"] == "no-referrer"
    assert fields["x-content-type-options"] == "nosniff"


def test_set_add_remove_default(server: SiteServer) -> None:
    own = "/answer?field=X-Both:app&field=X-Both:twice&field=X-Many:app&field=X-Default:app&field=x-powered-by:app&field=X-App:1"  # noqa: E501
    answer = server.ask(own)
    fields = said(answer)
    assert fields["x-both"] == "site"
    assert sorted(answer.all("x-many")) == ["app", "site"]
    assert fields["x-default"] == "app"
    assert "x-powered-by" not in fields
    assert fields["x-app"] == "1"
    assert said(server.ask("/answer"))["x-default"] == "site"
    route = said(server.ask("/own" + own))
    assert route["x-both"] == "route"
    assert route["x-served-by"] == "site"
    assert "x-app" not in route
    assert "x-powered-by" not in route


def test_a_route_may_change_a_preset(server: SiteServer) -> None:
    fields = said(server.ask("/embed/answer"))
    assert "x-frame-options" not in fields
    assert fields["content-security-policy"] == "default-src 'self'"
    assert fields["x-content-type-options"] == "nosniff"
    bare = said(server.ask("/bare/answer"))
    assert not set(PRESET) & set(bare)
    assert bare["x-served-by"] == "site"


def test_defaults_stand_back_behind_what_is_said_already(server: SiteServer) -> None:
    assert said(server.ask("/default/answer", port=2))["x-app"] == "default"
    assert said(server.ask("/default/answer?field=x-app:own", port=2))["x-app"] == "own"
    fields = said(server.ask("/file-default/a.css", port=2))
    assert "3600" in fields["cache-control"]
    assert fields["x-d"] == "1"


def test_fields_of_files_may_be_changed(server: SiteServer) -> None:
    fields = said(server.ask("/file/a.css", port=2))
    assert fields["content-type"] == "text/mine"
    assert fields["cache-control"] == "no-store"
    assert "last-modified" not in fields
    assert fields["etag"] == '"mine"'


@pytest.mark.parametrize("name", ["content-type", "cache-control", "etag"])
def test_what_is_set_stands_in_place_of_the_app_s(server: SiteServer, name: str) -> None:
    answer = server.ask(
        '/set/answer?field=Content-Type:text/app&field=Cache-Control:max-age=1&field=ETag:"a"', port=2
    )
    assert len(answer.all(name)) == 1
    assert "mine" in answer.all(name)[0] or answer.all(name) == ["no-store"]


@pytest.mark.parametrize(
    ("target", "name", "values"),
    [
        ("/server/", "server", ["mine"]),
        ("/server/", "x-request-id", ["mine"]),
        ("/no-server/", "server", []),
        ("/respond", "content-type", ["text/mine"]),
        ("/later", "retry-after", ["7"]),
    ],
)
def test_the_server_s_own_fields_can_be_replaced_and_removed(
    server: SiteServer, target: str, name: str, values: list[str]
) -> None:
    # Not by the strict client, which says the same in its own way.
    with socket.create_connection(("127.0.0.1", server.ports[2])) as plain:
        plain.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        text = b"".join(iter(lambda: plain.recv(65536), b"")).partition(b"\r\n\r\n")[0].decode()
    found = [line.partition(": ")[2] for line in text.split("\r\n") if line.lower().startswith(name + ":")]
    assert found == values


def test_a_redirect_s_location_can_be_replaced(server: SiteServer) -> None:
    assert server.ask("/to", port=2).get("location") == "/mine"


@pytest.mark.parametrize(
    "line",
    [
        'set = { "X A" = "1" }',
        'set = { X-A = "a\\r\\nX-B: 1" }',
        'set = { X-A = "a\\u0000" }',
        'set = { Content-Length = "1" }',
        'set = { Transfer-Encoding = "chunked" }',
        'set = { Connection = "close" }',
        'add = { Keep-Alive = "1" }',
        'set = { X-A = "1", x-a = "2" }',
        'remove = [""]',
        'set = { X-A = { file = "lines" } }',
    ],
)
def test_fields_that_would_break_the_protocol_are_refused(serve: Serve, place: Path, line: str) -> None:
    (place / "lines").write_text("first\nX-Injected: 1\n")
    good = '[site.x]\nlisten = ["http://127.0.0.1:${P0}"]\nroute = [{ path = "/*", respond = 204 }]\n'
    server = serve(good)
    for side in "response-headers", "request-headers":
        server.write(good + f"{side} = {{ {line} }}")
        done = server.check()
        assert done.code == 78, (line, done)
        assert f"{server.file.name}:4:" in done.err


def test_a_field_may_have_a_secret(serve: Serve, place: Path) -> None:
    (place / "token").write_text("s3cret\n")
    server = serve(
        """
        [app.a]
        wsgi = "site_app"
        folder = "${APPS}"
        venv = "${VENV}"
        [site.main]
        listen = ["http://127.0.0.1:${P0}"]
        request-headers = { set = { Authorization = { file = "token" } } }
        """
    )
    answer = server.ask("/", fields={"Authorization": "the client's"})
    assert answer.json()["environ"]["HTTP_AUTHORIZATION"] == "s3cret"
    assert "s3cret" not in server.log()


# CORS.

CORS = """
[app.a]
wsgi = "site_app"
folder = "${APPS}"
venv = "${VENV}"
[site.main]
listen = ["http://127.0.0.1:${P0}"]
cors = { origins = ["https://app.example", "http://localhost:3000"], methods = ["GET", "PUT"], headers = ["X-Token"], expose = ["X-Seen"], credentials = true, max-age = "5m" }
route = [
  { path = "/*", app = "a" },
  { path = "/all/*", app = "a", cors = { origins = ["*"], headers = ["*"] } },
  { path = "/none/*", app = "a", cors = "off" },
  { path = "/put", methods = ["PUT"], app = "a" },
  { path = "/static/*", static = "public" },
  { path = "/to", redirect = "/x" },
  { path = "/gone", respond = 410 },
]
"""  # noqa: E501


@pytest.fixture(scope="module")
def cors(serve_shared: Serve, server: SiteServer) -> SiteServer:
    assert server.pid
    return serve_shared(CORS)


def preflight(
    server: SiteServer, target: str, origin: str, method: str = "PUT", headers: str | None = None
) -> Response:
    fields = {"Origin": origin, "Access-Control-Request-Method": method}
    return server.ask(
        target,
        method="OPTIONS",
        fields=fields | ({"Access-Control-Request-Headers": headers} if headers else {}),
    )


def vary(answer: Response) -> set[str]:
    return {v.strip().lower() for line in answer.all("vary") for v in line.split(",")}


def test_a_preflight_is_answered_for_allowed_origins(cors: SiteServer) -> None:
    for target in "/", "/put", "/static/a.css", "/gone", "/to":
        answer = preflight(cors, target, "https://app.example", headers="x-token")
        fields = said(answer)
        assert answer.status in (200, 204), target
        assert fields["access-control-allow-origin"] == "https://app.example"
        assert fields["access-control-allow-credentials"] == "true"
        assert fields["access-control-max-age"] == "300"
        assert {m.strip() for m in fields["access-control-allow-methods"].split(",")} >= {"GET", "PUT"}
        assert "x-token" in fields["access-control-allow-headers"].lower()
        assert "origin" in vary(answer)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://app.example.evil.example",
        "http://app.example",
        "https://app.example:8443",
        "null",
        "https://xapp.example",
        "https://app.example/",
        "",
        "*",
    ],
)
def test_other_origins_get_nothing(cors: SiteServer, origin: str) -> None:
    for answer in preflight(cors, "/", origin), cors.ask("/", fields={"Origin": origin}):
        assert not [n for n, _ in answer.fields if n.lower().startswith("access-control-allow")]
        assert "origin" in vary(answer), "a cache must not give this answer to an allowed origin"


def test_answers_to_allowed_origins_may_be_read(cors: SiteServer) -> None:
    for target in "/", "/static/a.css", "/static/nope", "/to", "/gone", "/answer?status=500", "/die":
        answer = cors.ask(target, fields={"Origin": "http://localhost:3000"})
        fields = said(answer)
        assert fields["access-control-allow-origin"] == "http://localhost:3000", target
        assert fields["access-control-allow-credentials"] == "true"
        assert fields["access-control-expose-headers"] == "X-Seen"
        assert "origin" in vary(answer)
        assert "origin" in vary(cors.ask(target)), "those without an origin, too"


def test_for_all_origins(cors: SiteServer) -> None:
    answer = cors.ask("/all/", fields={"Origin": "https://any.example"})
    assert said(answer)["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in said(answer)
    answer = preflight(cors, "/all/", "https://any.example", "POST", "x-a, x-b")
    assert said(answer)["access-control-allow-headers"] == "x-a, x-b"
    answer = cors.ask("/none/", fields={"Origin": "https://app.example"})
    assert "access-control-allow-origin" not in said(answer)


def test_options_that_is_no_preflight_is_the_app_s(cors: SiteServer) -> None:
    assert cors.ask("/", method="OPTIONS").json()["environ"]["REQUEST_METHOD"] == "OPTIONS"
    answer = preflight(cors, "/none/", "https://app.example")
    assert answer.json()["environ"]["REQUEST_METHOD"] == "OPTIONS"
    assert cors.ask("/put", method="OPTIONS", fields={"Origin": "https://app.example"}).status in (200, 405)


def test_the_app_s_own_cors_fields_do_not_stand_twice(cors: SiteServer) -> None:
    own = "/answer?field=Access-Control-Allow-Origin:*&field=Vary:Cookie"
    answer = cors.ask(own, fields={"Origin": "https://app.example"})
    assert {"origin", "cookie"} <= vary(answer)
    assert answer.all("access-control-allow-origin") == ["https://app.example"]


def test_a_preflight_is_for_the_route_of_the_method_that_it_asks_for(serve: Serve) -> None:
    server = serve(
        """
        [site.main]
        listen = ["http://127.0.0.1:${P0}"]
        route = [
          { path = "/x", methods = ["GET"], respond = 200, cors = { origins = ["https://a.example"] } },
          { path = "/x", methods = ["PUT"], respond = 200, cors = { origins = ["https://b.example"], methods = ["PUT"] } },
        ]
        """  # noqa: E501
    )
    answer = preflight(server, "/x", "https://b.example", "PUT")
    assert answer.get("access-control-allow-origin") == "https://b.example"


def test_credentials_for_everybody_are_refused(serve: Serve) -> None:
    good = '[site.x]\nlisten = ["http://127.0.0.1:${P0}"]\nroute = [{ path = "/*", respond = 204 }]\n'
    server = serve(good)
    server.write(good + 'cors = { origins = ["*"], credentials = true }')
    assert server.check().code == 78
    server.write(good + 'cors = { origins = ["app.example"] }')
    assert "https://app.example" in server.check().err

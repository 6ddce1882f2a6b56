"""Applications of five frameworks and httpbin, from PyPI and unmodified: what their users do."""

import hashlib
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from conftest import Start
from support.server import APPS, Server, environment

FRAMEWORKS = {
    "flask": "flask_app:app",
    "django": "djangosite.wsgi:application",
    "bottle": "bottle_app:application",
    "falcon": "falcon_app:application",
    "webpy": "webpy_app:application",
}
DJANGO_SETUP = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
User.objects.create_superuser("admin", "admin@test.example", "pass word")
"""
UPLOAD = random.Random(5).randbytes(3 * 1024 * 1024 + 17)


class Client:
    """A `requests` session with a base URL."""

    def __init__(self, server: Server) -> None:
        assert isinstance(server.address, tuple)
        self.base = f"http://{server.address[0]}:{server.address[1]}"
        self.session = requests.Session()
        self.session.trust_env = False
        self.server = server

    def __call__(self, method: str, target: str, **options: object) -> requests.Response:
        return self.session.request(method, self.base + target, timeout=30, **options)  # type: ignore[arg-type]

    def get(self, target: str, **options: object) -> requests.Response:
        return self("GET", target, **options)

    def post(self, target: str, **options: object) -> requests.Response:
        return self("POST", target, **options)


@pytest.fixture(scope="module")
def django_database(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    env = {
        "DJANGO_DATABASE": str(tmp_path_factory.mktemp("django") / "db.sqlite3"),
        "DJANGO_SETTINGS_MODULE": "djangosite.settings",
    }
    subprocess.run([sys.executable, "-c", DJANGO_SETUP], cwd=APPS, env=environment(env), check=True)
    return env


@pytest.fixture(scope="module", params=["plain", "validated"])
def manner(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def serve(start: Start, app: str, manner: str, env: dict[str, str], *flags: str) -> Server:
    if manner == "validated":
        return start("validated:application", *flags, env={**env, "APP": app})
    return start(app, *flags, env=env)


@pytest.fixture(scope="module")
def site(start_shared: Start, framework: str, manner: str, django_database: dict[str, str]) -> Server:
    env = django_database if framework == "django" else {}
    return serve(start_shared, FRAMEWORKS[framework], manner, env, "--threads", "2")


@pytest.fixture
def client(site: Server, manner: str) -> Iterator[Client]:
    before = len(site.log())
    client = Client(site)
    yield client
    client.session.close()
    if manner == "validated":
        assert "AssertionError" not in site.log()[before:]


def test_a_page(client: Client, framework: str) -> None:
    response = client.get("/")
    assert (response.status_code, response.text) == (
        200,
        f"hello from {framework.replace('webpy', 'web.py')}",
    )


def test_path_and_query(client: Client) -> None:
    shown = client.get("/hello/Zo%C3%AB?q=a%20b&q2=").json()
    assert shown["name"] == "Zo\u00eb"
    assert shown["query"] in ("a b", {"q": ["a b"], "q2": [""]})


def test_a_form(client: Client) -> None:
    assert client.post("/form", data={"a": ["1", "2"], "b": "\u00e4 &"}).json() == {
        "a": ["1", "2"],
        "b": ["\u00e4 &"],
    }


def test_json(client: Client) -> None:
    data = {"list": [1, 2.5, None, True], "text": "\u2603"}
    assert client.post("/json", json=data).json() == data


@pytest.mark.parametrize("size", [0, 1000, 70_000, 2_000_000])
def test_a_raw_body(client: Client, size: int) -> None:
    data = UPLOAD[:size]
    assert client.post("/raw", data=data).text == hashlib.sha256(data).hexdigest()


def test_a_chunked_body(client: Client, framework: str, manner: str) -> None:
    pieces = [UPLOAD[:1000], UPLOAD[1000:100_000], UPLOAD[100_000:100_001]]
    assert client.post("/raw", data=iter(pieces)).text == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_an_upload_of_more_than_frameworks_keep_in_memory(client: Client, framework: str) -> None:
    shown = client.post("/upload", files={"file": ("name.bin", UPLOAD)}).json()
    assert (shown["name"], shown["bytes"]) == ("name.bin", len(UPLOAD))
    assert shown["sha256"] == hashlib.sha256(UPLOAD).hexdigest()
    if framework == "django":
        assert shown["on_disk"] is True


def test_a_session_by_cookie(client: Client) -> None:
    assert client.get("/who").text == "nobody"
    response = client.get("/login?user=ada")
    assert [r.status_code in (302, 303) for r in response.history] == [True]
    assert client.get("/who").text == "ada"


def test_a_stream(client: Client) -> None:
    response = client.get("/stream?word=line&n=1000")
    assert response.text == "".join(f"line {i}\n" for i in range(1000))
    assert "Content-Length" not in response.headers


def test_a_file(client: Client, framework: str) -> None:
    name = "djangosite/urls.py" if framework == "django" else f"{framework}_app.py"
    response = client.get("/file")
    assert response.content == (APPS / name).read_bytes()
    assert response.headers["Content-Type"].startswith("text/x-python")
    assert client("HEAD", "/file").content == b"" if framework not in ("webpy", "falcon") else True


def test_a_status_of_its_own(client: Client) -> None:
    assert client.get("/teapot").status_code == 418


def test_not_found(client: Client) -> None:
    assert client.get("/nothing/here").status_code == 404


def test_an_error_is_answered_with_500_and_its_traceback_is_logged(client: Client, framework: str) -> None:
    before = len(client.server.log())
    response = client.get("/boom")
    assert response.status_code == 500
    assert "boom of" not in response.text
    client.server.wait_for_log(f"boom of {framework.replace('webpy', 'web.py')}", after=before)
    assert client.get("/").status_code == 200


def test_many_users_at_once(site: Server) -> None:
    connections = [site.connect() for _ in range(50)]
    try:
        for i, connection in enumerate(connections):
            connection.send(f"GET /stream?word=user{i}&n=50 HTTP/1.1\r\nHost: test.example\r\n\r\n".encode())
        for i, connection in enumerate(connections):
            assert connection.read().text == "".join(f"user{i} {k}\n" for k in range(50))
    finally:
        for connection in connections:
            connection.socket.close()


# What only one of them has


@pytest.fixture(scope="module")
def flask(start_shared: Start) -> Server:
    return start_shared("flask_app:app")


def test_flask_methods_conditions_and_ranges(flask: Server) -> None:
    client = Client(flask)
    with client.session:
        for method in "GET", "PUT", "PATCH", "DELETE", "OPTIONS":
            assert client(method, "/any").text == method
        assert client("POST", "/any").status_code == 405
        whole = client.get("/file")
        assert whole.headers["X-Stamp"] == "flask"
        part = client.get("/file", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, whole.content[10:20])
        unchanged = client.get("/file", headers={"If-None-Match": whole.headers["ETag"]})
        assert (unchanged.status_code, unchanged.content) == (304, b"")


def test_flask_server_sent_events_arrive_one_by_one(flask: Server) -> None:
    with flask.connect() as connection:
        connection.send(b"GET /events HTTP/1.1\r\nHost: test.example\r\n\r\n")
        head = connection.read_head()
        assert head.get("content-type") == "text/event-stream; charset=utf-8"
        assert [connection.read_chunk() for _ in range(3)] == [b"data: %d\n\n" % i for i in range(3)]


@pytest.fixture(scope="module")
def django(start_shared: Start, django_database: dict[str, str]) -> Server:
    return start_shared(FRAMEWORKS["django"], "--workers", "2", "--threads", "2", env=django_database)


def csrf_token(page: str) -> str:
    match = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert match, page[:500]
    return match[1]


def test_django_admin_login_edit_and_logout(django: Server) -> None:
    client = Client(django)
    with client.session:
        page = client.get("/admin/")
        assert page.url.endswith("/admin/login/?next=/admin/")
        wrong = {
            "csrfmiddlewaretoken": csrf_token(page.text),
            "username": "admin",
            "password": "no",
            "next": "/admin/",
        }
        assert "Please enter the correct username" in client.post("/admin/login/", data=wrong).text
        assert (
            client.post("/admin/login/", data={**wrong, "csrfmiddlewaretoken": "forged"}).status_code == 403
        )
        right = {
            **wrong,
            "csrfmiddlewaretoken": csrf_token(client.get("/admin/login/").text),
            "password": "pass word",
        }
        page = client.post("/admin/login/?next=/admin/", data=right)
        assert "Site administration" in page.text
        page = client.get("/admin/auth/group/add/")
        new = {"csrfmiddlewaretoken": csrf_token(page.text), "name": "Caf\u00e9 editors"}
        page = client.post("/admin/auth/group/add/", data=new)
        assert "was added successfully" in page.text
        assert "Caf\u00e9 editors" in client.get("/admin/auth/group/").text
        page = client.post("/admin/logout/", data={"csrfmiddlewaretoken": csrf_token(page.text)})
        assert "Logged out" in page.text
        assert client.get("/admin/").url.endswith("/admin/login/?next=/admin/")


def test_django_upload_with_csrf_protection(django: Server) -> None:
    client = Client(django)
    with client.session:
        files = {"file": ("big.bin", UPLOAD)}
        assert client.post("/protected-upload", files=files).status_code == 403
        token = client.get("/token").text
        shown = client.post("/protected-upload", files=files, data={"csrfmiddlewaretoken": token}).json()
        assert shown["sha256"] == hashlib.sha256(UPLOAD).hexdigest()


# httpbin


@pytest.fixture(scope="module")
def httpbin_server(start_shared: Start, manner: str) -> Server:
    return serve(start_shared, "httpbin:app", manner, {}, "--threads", "4")


@pytest.fixture
def httpbin(httpbin_server: Server, manner: str) -> Iterator[Client]:
    before = len(httpbin_server.log())
    client = Client(httpbin_server)
    yield client
    client.session.close()
    if manner == "validated":
        assert "AssertionError" not in httpbin_server.log()[before:]


def test_httpbin_get_and_headers(httpbin: Client) -> None:
    shown = httpbin.get("/get?a=1&b=2&b=3", headers={"X-Own": "yes"}).json()
    assert shown["args"] == {"a": "1", "b": ["2", "3"]}
    assert shown["headers"]["X-Own"] == "yes"
    assert shown["origin"] == "127.0.0.1"
    assert shown["url"] == f"{httpbin.base}/get?a=1&b=2&b=3"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_httpbin_bodies(httpbin: Client, method: str) -> None:
    target = f"/{method.lower()}"
    assert httpbin(method, target, data={"a": "b"}).json()["form"] == {"a": "b"}
    assert httpbin(method, target, json={"a": [1]}).json()["json"] == {"a": [1]}
    shown = httpbin(method, target, files={"f": ("n.txt", b"content")}, data={"k": "v"}).json()
    assert (shown["files"], shown["form"]) == ({"f": "content"}, {"k": "v"})


def test_httpbin_a_big_multipart_upload(httpbin: Client) -> None:
    text = "x" * 3_000_000
    assert httpbin.post("/post", files={"f": ("n.txt", text.encode())}).json()["files"]["f"] == text


@pytest.mark.parametrize("status", [200, 204, 301, 304, 400, 404, 418, 429, 500, 503])
def test_httpbin_status(httpbin: Client, status: int) -> None:
    assert httpbin.get(f"/status/{status}", allow_redirects=False).status_code == status


def test_httpbin_streams(httpbin: Client) -> None:
    lines = httpbin.get("/stream/20").text.splitlines()
    assert len(lines) == 20
    assert len(httpbin.get("/stream-bytes/50000?seed=1").content) == 50_000
    assert httpbin.get("/bytes/1000?seed=1").content == httpbin.get("/bytes/1000?seed=1").content
    assert httpbin.get("/drip?numbytes=5&duration=0.2&code=200").content == b"*" * 5
    assert httpbin.get("/range/1000", headers={"Range": "bytes=5-9"}).text == "fghij"


def test_httpbin_redirects_and_cookies(httpbin: Client) -> None:
    assert len(httpbin.get("/redirect/3").history) == 3
    assert len(httpbin.get("/absolute-redirect/2").history) == 2
    assert httpbin.get("/cookies/set?a=1&b=2").json() == {"cookies": {"a": "1", "b": "2"}}
    assert httpbin.get("/cookies/delete?a=").json() == {"cookies": {"b": "2"}}


def test_httpbin_compression_auth_and_images(httpbin: Client) -> None:
    assert httpbin.get("/gzip").json()["gzipped"] is True
    assert httpbin.get("/deflate").json()["deflated"] is True
    assert httpbin.get("/basic-auth/u/p", auth=("u", "p")).json()["authenticated"] is True
    assert httpbin.get("/basic-auth/u/p", auth=("u", "x")).status_code == 401
    assert httpbin.get("/image/png").content.startswith(b"\x89PNG")
    assert httpbin.get("/delay/0.3").status_code == 200
    assert httpbin.get("/response-headers?X-A=1&X-A=2").headers["X-A"] == "1, 2"
    assert httpbin.get("/etag/x", headers={"If-None-Match": "x"}).status_code == 304


def test_the_applications_are_what_pypi_has() -> None:
    """Unmodified: nothing in the test tree shadows a framework."""
    names = {p.stem for p in Path(APPS).iterdir()}
    assert not names & {"flask", "django", "bottle", "falcon", "web", "httpbin", "werkzeug"}

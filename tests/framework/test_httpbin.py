"""httpbin's own tests, unmodified, against `examples/httpbin`: in process and under seven servers.

The tests come with the source distribution alone; `scripts/sources.sh` fetches it by its name and version.
They want a module `httpbin` with a Flask application: what stands in for it takes their requests to ours.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import sys
import unittest
from collections.abc import Callable, Iterator
from http.client import HTTPMessage
from http.cookies import SimpleCookie
from pathlib import Path
from types import ModuleType
from typing import Any
from wsgiref.validate import validator

import pytest
from framework import ways
from werkzeug.test import EnvironBuilder

VERSION = "0.10.2"
TESTS = Path(sys.prefix) / "sources" / f"httpbin-{VERSION}" / "tests" / "test_httpbin.py"
TESTS_COUNT = 67
FOLDER = ways.ROOT / "examples" / "httpbin"
WAYS = ("wsgi", "asgi", "uvicorn", "trivet", "wsgiref", "gunicorn", "uwsgi", "waitress")

Send = Callable[[dict[str, Any]], tuple[int, HTTPMessage, bytes]]


def names() -> list[str]:
    if not TESTS.exists():
        return []
    tree = ast.parse(TESTS.read_text())
    found = [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
    return sorted(found)


# What stands in for Flask's test client


class Answer:
    """What the tests read of a response."""

    def __init__(self, status: int, headers: HTTPMessage, data: bytes) -> None:
        self.status_code = status
        self.headers = headers
        self.data = data

    def get_data(self) -> bytes:
        return self.data

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def content_length(self) -> int | None:
        length = self.headers.get("Content-Length")
        return int(length) if length is not None else None


class Client:
    """Requests as Werkzeug builds them, answers by `send`; keeps cookies."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.jar: dict[str, str] = {}

    def open(self, target: str, **options: Any) -> Answer:
        builder = EnvironBuilder(target, **options)
        environ = builder.get_environ()
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read())
        builder.close()
        if self.jar:
            environ["HTTP_COOKIE"] = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        answer = Answer(*self.send(environ))
        for line in answer.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0":
                    self.jar.pop(name, None)
                else:
                    self.jar[name] = morsel.coded_value
        return answer

    def __getattr__(self, method: str) -> Callable[..., Answer]:
        return lambda target, **options: self.open(target, method=method.upper(), **options)


def message(fields: list[tuple[str, str]]) -> HTTPMessage:
    made = HTTPMessage()
    for name, value in fields:
        made.add_header(name, value)
    return made


def in_process(app: Any) -> Send:
    checked = validator(app)

    def send(environ: dict[str, Any]) -> tuple[int, HTTPMessage, bytes]:
        began: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
            began.append((status, headers))
            return lambda data: None

        result = checked(environ, start_response)
        try:
            body = b"".join(result)
        finally:
            result.close()
        status, headers = began[-1]
        return int(status[:3]), message(headers), body

    return send


def in_process_asgi(app: Any) -> Send:
    from framework.drive import asgi_exchange

    def send(environ: dict[str, Any]) -> tuple[int, HTTPMessage, bytes]:
        target, fields = environ["REQUEST_URI"], fields_of(environ)
        status, headers, body = asgi_exchange(
            app, environ["REQUEST_METHOD"], target, fields, environ["wsgi.input"].read()
        )
        return status, message(headers), body

    return send


def fields_of(environ: dict[str, Any]) -> list[tuple[str, str]]:
    fields = [
        (key[5:].replace("_", "-").title(), value)
        for key, value in environ.items()
        if key.startswith("HTTP_") and key != "HTTP_"
    ]
    for key, name in (("CONTENT_TYPE", "Content-Type"), ("CONTENT_LENGTH", "Content-Length")):
        if environ.get(key):
            fields.append((name, environ[key]))
    return fields


def over_socket(address: tuple[str, int]) -> Send:
    def send(environ: dict[str, Any]) -> tuple[int, HTTPMessage, bytes]:
        body = environ["wsgi.input"].read()
        method, target = environ["REQUEST_METHOD"], environ["REQUEST_URI"]
        return ways.exchange(address, method, target, fields_of(environ), body)

    return send


# The tests


def example() -> ModuleType:
    """`examples/httpbin/app.py` as a module of its own."""
    spec = importlib.util.spec_from_file_location("httpbin_on_trivet", FOLDER / "app.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # annotations are looked up there
    sys.path.insert(0, str(FOLDER))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


def theirs(send: Send, ours: ModuleType) -> type[unittest.TestCase]:
    """Their test case, with `httpbin` meaning what `send` reaches."""
    stand_in, helpers = ModuleType("httpbin"), ModuleType("httpbin.helpers")
    stand_in.app = ModuleType("app")  # type: ignore[attr-defined]
    stand_in.app.test_client = lambda: Client(send)
    helpers.parse_multi_value_header = ours.tags  # type: ignore[attr-defined]
    replaced = {name: sys.modules.get(name) for name in ("httpbin", "httpbin.helpers")}
    sys.modules |= {"httpbin": stand_in, "httpbin.helpers": helpers}
    try:
        spec = importlib.util.spec_from_file_location("their_tests", TESTS)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        for name, before in replaced.items():
            if before is None:
                del sys.modules[name]
            else:
                sys.modules[name] = before
    case = module.HttpbinTestCase
    assert issubclass(case, unittest.TestCase)
    return case


@pytest.fixture(scope="module")
def ours() -> ModuleType:
    return example()


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    reason = ways.missing(request.param)
    if reason:
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture(scope="module")
def send(way: str, ours: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Send]:
    if way == "wsgi":
        yield in_process(ours.app)
    elif way == "asgi":
        yield in_process_asgi(ours.app.asgi)
    else:
        address, stop = ways.serve(way, FOLDER, tmp_path_factory.mktemp(way))
        yield over_socket(address)
        stop()


@pytest.fixture(scope="module")
def case(send: Send, ours: ModuleType) -> type[unittest.TestCase]:
    return theirs(send, ours)


def test_all_of_their_tests_are_here() -> None:
    assert len(names()) == TESTS_COUNT, f"{TESTS} is missing: scripts/sources.sh .venv-test tests/sources.txt"


@pytest.mark.parametrize("name", names())
def test_httpbin(case: type[unittest.TestCase], name: str, way: str, send: Send) -> None:
    if instead := SERVERS_OWN.get((way, name)):
        instead(Client(send))
        return
    test = case(name)
    test.setUp()
    try:
        getattr(test, name)()
    finally:
        test.tearDown()


def chunked_is_decoded(client: Client) -> None:
    """In the place of the test that wants 501: what it wants, in a comment, where they are supported."""
    answer = client.post(
        "/post",
        content_type="application/json",
        headers=[("Transfer-Encoding", "chunked")],
        data='{"animal":"dog"}',
    )
    assert (answer.status_code, answer.json["data"], answer.json["json"]) == (
        200,
        '{"animal":"dog"}',
        {"animal": "dog"},
    )


def every_method_but_trace(client: Client) -> None:
    """In the place of the test that sends TRACE too."""
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"):
        assert client.open("/status/418", method=method).status_code == 418
    assert client.open("/status/418", method="TRACE").status_code == 501


# What no application behind these servers can pass, httpbin itself included. Trivet refuses TRACE before an
# app is asked. Trivet and Waitress take the chunked coding off and hide that it was there (PEP 3333): an app
# cannot know that it should refuse it.
SERVERS_OWN: dict[tuple[str, str], Callable[[Client], None]] = {
    ("trivet", "test_methods__to_status_endpoint"): every_method_but_trace,
    ("trivet", "test_post_chunked"): chunked_is_decoded,
    ("waitress", "test_post_chunked"): chunked_is_decoded,
}


# What their tests do not touch


def test_every_picture_is_what_it_says(send: Send) -> None:
    client = Client(send)
    for kind, magic in {"png": b"\x89PNG", "jpeg": b"\xff\xd8\xff", "webp": b"RIFF", "svg": b"<svg"}.items():
        answer = client.get(f"/image/{kind}")
        assert answer.data.startswith(magic)
        assert answer.headers["Content-Type"].startswith(f"image/{kind}")
        chosen = client.get("/image", headers={"Accept": answer.headers["Content-Type"].partition(";")[0]})
        assert chosen.data == answer.data
    assert client.get("/image", headers={"Accept": "text/html"}).status_code == 406


def test_cookies_are_set_shown_and_deleted(send: Send) -> None:
    client = Client(send)
    assert client.get("/cookies/set?a=1&b=2").status_code == 302
    assert client.get("/cookies/set/c/3").headers["Location"] == "/cookies"
    assert client.get("/cookies").json == {"cookies": {"a": "1", "b": "2", "c": "3"}}
    client.get("/cookies/delete?a=&c=")
    assert client.get("/cookies").json == {"cookies": {"b": "2"}}


def test_forms_and_files_are_shown(send: Send) -> None:
    client = Client(send)
    files = {"f": (io.BytesIO("caf\u00e9".encode()), "menu.txt"), "k": ["v", "w"]}
    shown = client.post("/post", data=files).json
    assert (shown["files"], shown["form"], shown["data"]) == ({"f": "caf\u00e9"}, {"k": ["v", "w"]}, "")


def test_lines_are_streamed(send: Send) -> None:
    lines = Client(send).get("/stream/5?x=1").data.splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(range(5))
    assert json.loads(lines[0])["args"] == {"x": "1"}


def test_pages_are_there(send: Send) -> None:
    client = Client(send)
    pages = "/ /html /xml /json /forms/post /encoding/utf8 /robots.txt /deny /uuid /ip /links/3/1 /cache"
    for target in pages.split():
        answer = client.get(target)
        assert (answer.status_code, bool(answer.data)) == (200, True), target
        head = client.open(target, method="HEAD")
        assert (head.status_code, head.data) == (200, b"")
    assert client.get("/cache", headers={"If-None-Match": "x"}).status_code == 304


def test_basic_credentials_are_asked_for(send: Send) -> None:
    client = Client(send)
    assert client.get("/basic-auth/ada/pw").headers["WWW-Authenticate"].startswith("Basic ")
    assert client.get("/hidden-basic-auth/ada/pw").status_code == 404
    right = {"Authorization": "Basic YWRhOnB3"}
    assert client.get("/basic-auth/ada/pw", headers=right).json == {"authenticated": True, "user": "ada"}
    assert client.get("/hidden-basic-auth/ada/pw", headers=right).status_code == 200

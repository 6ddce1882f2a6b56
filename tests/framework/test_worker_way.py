"""Trivet's worker calls an `App` without WSGI in between: what the client gets is the same."""

from __future__ import annotations

from pathlib import Path

from framework.drive import HOST, ask_wsgi
from framework.ways import exchange, serve

APP = '''
from trivet import App, HTTPError, Response, redirect

app = App(secret="a key for this test alone, long enough")


class Own(App):
    """A subclass that answers by itself is asked by itself."""

    def __call__(self, environ, start_response):
        start_response("299 Own", [("Content-Type", "text/plain"), ("Content-Length", "3")])
        return [b"own"]


@app.get("/text")
def text():
    return "Grüße"


@app.get("/bytes")
def some():
    return bytes(range(256))


@app.get("/json/{id:int}")
def item(id, q: str = "-"):
    return {"id": id, "q": q}


@app.get("/empty")
def empty():
    return ""


@app.get("/nothing")
def nothing():
    return None


@app.get("/created")
def created():
    return {"made": True}, 201


@app.get("/unmodified")
def unmodified():
    return "", 304


@app.get("/fields")
def fields():
    return Response("x", 202, {"X-One": "1"})


@app.get("/large")
def large():
    return "x" * 700_000


@app.get("/stream")
def stream():
    yield "a"
    yield "b"


@app.get("/moved")
def moved():
    return redirect("/text")


@app.get("/teapot")
def teapot():
    raise HTTPError(418, "short and stout")


@app.get("/broken")
def broken():
    raise ValueError("on purpose")


@app.post("/echo")
def echo(req):
    return req.body


own = Own()
'''

SAME = (
    ("GET", "/text"),
    ("HEAD", "/text"),
    ("GET", "/bytes"),
    ("GET", "/json/7?q=%C3%BC"),
    ("GET", "/json/x"),
    ("GET", "/empty"),
    ("GET", "/nothing"),
    ("GET", "/created"),
    ("HEAD", "/created"),
    ("GET", "/unmodified"),
    ("GET", "/fields"),
    ("GET", "/large"),
    ("HEAD", "/large"),
    ("GET", "/stream"),
    ("GET", "/moved"),
    ("GET", "/teapot"),
    ("GET", "/broken"),
    ("POST", "/echo"),
    ("POST", "/text"),
    ("OPTIONS", "/text"),
    ("GET", "/text/"),
    ("GET", "/none"),
)
# What a server says for itself.
SERVERS = ("date", "server", "x-request-id", "connection", "transfer-encoding")


def put(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "app.py").write_text(text)
    return folder


def test_the_short_way_gives_what_wsgi_gives(tmp_path: Path) -> None:
    namespace: dict[str, object] = {}
    exec(compile(APP, "app.py", "exec"), namespace)
    address, stop = serve("trivet", put(tmp_path / "app", APP), tmp_path)
    try:
        for method, target in SAME:
            body = b"some bytes" if method == "POST" else b""
            fields = [("Host", HOST)]
            expected = ask_wsgi(namespace["app"], target, method, fields=fields, body=body)
            length = [("Content-Length", str(len(body)))] if body else []
            status, given, content = exchange(address, method, target, fields + length, body)
            seen = sorted((n.lower(), v) for n, v in given.items() if n.lower() not in SERVERS)
            wanted = sorted((n.lower(), v) for n, v in expected.fields)
            assert (status, seen, content) == (expected.status, wanted, expected.body), (method, target)
    finally:
        stop()


def test_a_subclass_with_a_call_of_its_own_is_called(tmp_path: Path) -> None:
    address, stop = serve("trivet", put(tmp_path / "app", APP + "\napp = own\n"), tmp_path)
    try:
        assert exchange(address, "GET", "/text", [("Host", HOST)], b"")[2] == b"own"
    finally:
        stop()

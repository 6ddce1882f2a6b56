"""Streams, files, events, sessions: answers that are more than a value."""

from __future__ import annotations

import asyncio
import contextvars
import io
import json
import os
import tempfile
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from framework.caller import Answer, Caller, environ_of
from trivet import (
    App,
    Event,
    MemoryStore,
    Request,
    Response,
    Session,
    Sessions,
    events,
    file,
    redirect,
    stream,
)

SECRET = "0123456789abcdef0123456789abcdef"


def test_generators_stream_and_are_closed() -> None:
    app = App()
    log: list[str] = []

    @app.get("/gen")
    def gen() -> Iterator[str]:
        try:
            yield "é"
            yield "b"
        finally:
            log.append("closed")

    @app.get("/bytes")
    def pieces() -> Response:
        response = stream((b"x" for _ in range(3)), "text/csv", headers={"X-A": "1"})
        response.on_close(lambda: log.append("on_close"))
        return response

    @app.get("/wrong")
    def wrong() -> Iterator[Any]:
        yield 5

    caller = Caller(app)
    answer = caller.get("/gen")
    assert (answer.text, answer["Content-Type"], answer["Content-Length"]) == (
        "éb",
        "text/html; charset=utf-8",
        None,
    )
    assert log == ["closed"]
    log.clear()
    answer = caller.get("/bytes")
    assert (answer.body, answer["Content-Type"], answer["X-A"]) == (b"xxx", "text/csv", "1")
    assert log == ["on_close"]
    assert caller.head("/bytes").body == b""
    assert log == ["on_close", "on_close"]
    # Begun, so that its status is the one of GET, and closed.
    assert caller.head("/gen").body == b""
    assert log == ["on_close", "on_close", "closed"]
    with pytest.raises(TypeError):
        caller.get("/wrong")


def test_a_stream_that_is_given_up_is_closed() -> None:
    app = App()
    log: list[str] = []

    @app.get("/")
    def gen() -> Iterator[str]:
        try:
            while True:
                yield "x"
        finally:
            log.append("closed")

    iterable = app(environ_of("GET", "/"), lambda status, fields: None)
    assert next(iter(iterable)) == b"x"
    iterable.close()
    iterable.close()
    assert log == ["closed"]


def test_start_response_that_fails_closes_the_answer() -> None:
    app = App()
    log: list[str] = []

    @app.get("/")
    def index() -> Response:
        response = stream(iter(["a"]))
        response.on_close(lambda: log.append("closed"))
        return response

    def start_response(status: str, fields: Any, exc_info: Any = None) -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        app(environ_of("GET", "/"), start_response)
    assert log == ["closed"]


def test_events() -> None:
    app = App()

    @app.get("/")
    def index() -> Response:
        return events([{"a": 1}, "two\nlines", Event("x", event="e", id="5", retry=100)])

    answer = Caller(app).get("/")
    assert answer["Content-Type"] == "text/event-stream; charset=utf-8"
    assert (
        answer.text == 'data: {"a":1}\n\ndata: two\ndata: lines\n\nevent: e\nid: 5\nretry: 100\ndata: x\n\n'
    )
    with pytest.raises(ValueError, match="line break"):
        Event("x", event="a\nb")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_bytes(b"0123456789")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "é b.html").write_text("<p>")
    (tmp_path / ".hidden").write_text("secret")
    (tmp_path / "out").symlink_to("/etc/passwd")
    os.utime(tmp_path / "a.txt", (1_700_000_000, 1_700_000_000))
    return tmp_path


def test_files_with_conditions_and_ranges(files: Path) -> None:
    app = App()
    app.get("/a")(lambda: file(files / "a.txt", max_age=60))
    app.get("/d")(lambda: file(files / "a.txt", download='ü".txt'))
    app.get("/m")(lambda: file(io.BytesIO(b"memory"), content_type="image/png"))
    app.get("/none")(lambda: file(files / "none"))
    app.get("/folder")(lambda: file(files))
    caller = Caller(app)
    whole = caller.get("/a")
    assert (whole.status, whole.body, whole["Content-Length"]) == (200, b"0123456789", "10")
    assert (whole["Content-Type"], whole["Cache-Control"]) == ("text/plain; charset=utf-8", "max-age=60")
    assert whole["Last-Modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    etag = whole["ETag"]
    assert etag
    for fields, status, body in [
        ({"if_none_match": etag}, 304, b""),
        ({"if_none_match": '"other"'}, 200, b"0123456789"),
        ({"if_match": '"other"'}, 412, b""),
        ({"if_modified_since": "Tue, 14 Nov 2023 22:13:20 GMT"}, 304, b""),
        ({"range": "bytes=2-4"}, 206, b"234"),
        ({"range": "bytes=-3"}, 206, b"789"),
        ({"range": "bytes=5-", "if_range": etag}, 206, b"56789"),
        ({"range": "bytes=5-", "if_range": '"x"'}, 200, b"0123456789"),
        ({"range": "bytes=20-"}, 416, b""),
        ({"range": "lines=1"}, 200, b"0123456789"),
    ]:
        answer = caller.get("/a", **fields)
        assert (answer.status, answer.body) == (status, body), fields
        head = caller.head("/a", **fields)
        assert (head.status, head.body, head["Content-Length"]) == (status, b"", answer["Content-Length"])
    assert caller.get("/a", range="bytes=2-4")["Content-Range"] == "bytes 2-4/10"
    assert caller.get("/a", range="bytes=20-")["Content-Range"] == "bytes */10"
    several = caller.get("/a", range="bytes=0-1,8-9")
    assert several.status == 206
    assert (several["Content-Type"] or "").startswith("multipart/byteranges; boundary=")
    assert several["Content-Length"] == str(len(several.body))
    assert several.body.count(b"Content-Range: bytes") == 2
    assert "filename*=UTF-8''%C3%BC" in (caller.get("/d")["Content-Disposition"] or "")
    assert (caller.get("/m").body, caller.get("/m")["Content-Type"]) == (b"memory", "image/png")
    assert caller.get("/none").status == 404
    assert caller.get("/folder").status == 404


def test_the_servers_own_file_wrapper_is_used(files: Path) -> None:
    app = App()
    app.get("/a")(lambda: file(files / "a.txt"))
    for fields, body in [({}, b"0123456789"), ({"HTTP_RANGE": "bytes=4-"}, b"456789")]:
        environ = environ_of("GET", "/a") | {"wsgi.file_wrapper": FileWrapper} | fields
        result = app(environ, lambda status, fields: None)
        assert type(result) is FileWrapper
        assert b"".join(result) == body
        result.close()
    environ = environ_of("GET", "/a") | {"wsgi.file_wrapper": FileWrapper, "HTTP_RANGE": "bytes=1-2"}
    result = app(environ, lambda status, fields: None)
    assert type(result) is not FileWrapper
    assert b"".join(result) == b"12"
    result.close()


def test_an_answer_made_of_a_path_is_sent_again_and_again(files: Path) -> None:
    app = App()
    logo = file(files / "a.txt", max_age=60)
    app.get("/logo")(lambda: logo)
    app.get("/shown")(lambda: (logo, 201, {"X-A": "b"}))
    app.intercept("/closed/*")(lambda: logo)
    app.get("/closed/door")(lambda: "never")

    @app.intercept("/instead")
    def instead() -> Any:
        yield
        return logo

    app.get("/instead")(lambda: "never")

    @app.error(404)
    def lost() -> Any:
        return logo

    caller = Caller(app)
    for _ in range(3):
        for path in ("/logo", "/shown", "/closed/door", "/instead", "/lost"):
            answer = caller.get(path)
            assert (answer.body, answer["Cache-Control"]) == (b"0123456789", "max-age=60"), path
            assert caller.head(path)["Content-Length"] == "10"
        for path in ("/logo", "/closed/door", "/instead"):
            part = caller.get(path, range="bytes=2-4")
            assert (part.status, part.body) == (206, b"234"), path
            assert caller.get(path, if_none_match=answer["ETag"]).status == 304, path
        assert caller.get("/shown")["X-A"] == "b"
    assert (logo.status, logo.headers["Content-Length"]) == (200, "10")

    (files / "a.txt").write_bytes(b"longer than before")
    after = caller.get("/logo")
    assert (after.body, after["Content-Length"]) == (b"longer than before", "18")
    assert after["ETag"] != answer["ETag"]
    assert caller.get("/logo", if_none_match=answer["ETag"]).status == 200
    (files / "a.txt").unlink()
    assert Caller(app).get("/logo").status == 404  # the page for it is gone as well


def test_a_file_is_a_wsgi_app_for_every_request(files: Path) -> None:
    caller = Caller(file(files / "a.txt"))
    for _ in range(3):
        assert caller.get("/").body == b"0123456789"
        assert caller.get("/", range="bytes=1-2").body == b"12"


def test_two_clients_of_one_answer_have_each_their_own_file(files: Path) -> None:
    (files / "large").write_bytes(bytes(range(256)) * 1024)
    app = App()
    logo = file(files / "large")
    app.get("/")(lambda: logo)
    first, second = (iter(app(environ_of("GET", "/"), lambda status, fields: None)) for _ in range(2))
    pieces = [[next(first)], [next(second)]]
    for piece in first:
        pieces[0].append(piece)
        pieces[1].extend(islice(second, 1))
    pieces[1].extend(second)
    assert all(b"".join(each) == bytes(range(256)) * 1024 for each in pieces)
    first.close()  # type: ignore[attr-defined]
    second.close()  # type: ignore[attr-defined]


def test_a_file_may_be_gone_when_its_answer_is_sent(tmp_path: Path) -> None:
    app = App()

    @app.get("/")
    def made() -> Any:
        with tempfile.NamedTemporaryFile(dir=tmp_path) as temporary:
            temporary.write(b"made for this")
            temporary.flush()
            return file(temporary.name)

    assert [Caller(app).get("/").body for _ in range(2)] == [b"made for this"] * 2


def test_an_answer_made_of_an_open_file_is_sent_once(files: Path) -> None:
    app = App()
    with (files / "a.txt").open("rb") as opened:
        once = file(opened)
        app.get("/")(lambda: once)
        caller = Caller(app)
        assert caller.get("/").body == b"0123456789"
        again = caller.get("/")
        assert again.status == 500
        assert "an answer made of an open file is sent once" in caller.errors
        assert "hint: `file(path)`" in caller.errors
        assert not opened.closed


def test_a_constant_file_with_a_status_follows_the_file(tmp_path: Path) -> None:
    page = tmp_path / "gone.html"
    page.write_bytes(b"first, and longer")
    constant = file(page)
    app = App()

    @app.get("/")
    def handler() -> Any:
        return constant, 404

    assert Caller(app).get("/").body == b"first, and longer"
    page.write_bytes(b"second")
    os.utime(page, ns=(1, 1))
    answer = Caller(app).get("/")
    assert (answer.status, answer.body, answer["Content-Length"]) == (404, b"second", "6")


def test_another_process_opens_the_file_for_itself(files: Path) -> None:
    app = App()
    logo = file(files / "a.txt")
    app.get("/")(lambda: logo)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of the test runner
        child = os.fork()
    if child == 0:
        # What it has read to is not where its parent goes on.
        os._exit(0 if Caller(app).get("/").body == b"0123456789" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert Caller(app).get("/").body == b"0123456789"


def test_static_folders(files: Path) -> None:
    app = App()
    app.static("/s", files, max_age=5, index="index.html")
    app.static("/g", files)
    app.intercept("/g/*", guard=True)(lambda: None)
    caller = Caller(app)
    assert caller.get("/s/a.txt").body == b"0123456789"
    assert caller.get("/s/sub/é b.html").text == "<p>"
    assert caller.get("/g/a.txt")["Cache-Control"] == "private, no-store"
    for path in (
        "/s/.hidden",
        "/s/out",
        "/s/sub",
        "/s/sub/",
        "/s/none",
        "/s/../s/a.txt",
        "/s/sub\\é b.html",
        "/s/a.txt/x",
        "/s/",
    ):
        assert caller.get(path).status == 404, path
    assert caller.get("/s/..%2fa.txt", RAW_URI="/s/..%252fa.txt").status == 404
    assert caller.get("/s/sub/../a.txt", RAW_URI="/s/sub%2F..%2Fa.txt").status == 404


def test_redirects() -> None:
    for location, expected in [
        ("/a b", "/a%20b"),
        ("//evil.example/x", "/evil.example/x"),
        ("/\\evil", "/evil"),
        ("https://other.example/é", "https://other.example/%C3%A9"),
        ("/x?a=1", "/x?a=1&next=%2Fy%3Fz"),
    ]:
        more = {"next": "/y?z"} if "next" in expected else {}
        app = App()
        response = redirect(location, **more)
        assert response.headers["Location"] == expected
    app = App()
    app.get("/")(lambda: redirect("/a\r\nX: y"))
    answer = Caller(app).get("/")
    assert answer["X"] is None
    assert answer["Location"] == "/a%0D%0AX:%20y"


def test_responses_are_wsgi_apps() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        return Response("héllo", 201, {"X-A": "b"})(environ, start_response)

    answer = Caller(app).get("/")
    assert (answer.status, answer.text, answer["X-A"]) == (201, "héllo", "b")
    assert Caller(app).head("/").body == b""


def test_cookies_are_set_with_care() -> None:
    response = Response("x")
    response.set_cookie("a", "b c;é", max_age=5, secure=True)
    assert response.headers["Set-Cookie"].startswith("a=")
    assert "; Path=/; Max-Age=5; Secure; HttpOnly; SameSite=Lax" in response.headers["Set-Cookie"]
    for name, more in [
        ("a b", {}),
        ("__Host-x", {"path": "/x", "secure": True}),
        ("a", {"path": "/;x"}),
        ("a", {"domain": "a\r\n"}),
    ]:
        with pytest.raises(ValueError, match=r"cookie|`"):
            response.set_cookie(name, "x", **more)


def cookie_of(answer: Answer) -> str:
    (value,) = answer.all("Set-Cookie")
    return value.split(";")[0]


def session_app(**more: Any) -> Caller:
    app = App(secret=more.pop("secret", SECRET), sessions=Sessions(**more))

    @app.post("/set")
    def put(req: Request, session: Session) -> None:
        session.update(req.json())

    @app.post("/deep")
    def deep(session: Session) -> None:
        session["list"].append(1)

    @app.get("/get")
    def read(session: Session) -> Any:
        return dict(session)

    @app.post("/rotate")
    def rotate(session: Session) -> None:
        session.rotate()

    @app.post("/clear")
    def clear(session: Session) -> None:
        session.clear()

    app.get("/free")(lambda: "x")
    return Caller(app)


def test_sessions_in_a_signed_cookie() -> None:
    caller = session_app()
    answer = caller.get("/get")
    assert (answer.json, answer["Set-Cookie"], answer["Vary"]) == ({}, None, "Cookie")
    assert caller.get("/free")["Vary"] is None
    answer = caller.post("/set", json={"uid": 5, "list": []})
    (field,) = answer.all("Set-Cookie")
    for attribute in ("; Path=/", "; HttpOnly", "; SameSite=Lax", "; Secure", "; Max-Age="):
        assert attribute in field
    cookie = cookie_of(answer)
    answer = caller.get("/get", cookie=cookie)
    assert (answer.json, answer["Set-Cookie"]) == ({"uid": 5, "list": []}, None)
    changed = cookie_of(caller.post("/deep", cookie=cookie))
    assert caller.get("/get", cookie=changed).json["list"] == [1], "a change inside is noticed"
    assert caller.get("/get", cookie=cookie[:-1] + ("A" if cookie[-1] != "A" else "B")).json == {}
    assert "Max-Age=0" in caller.post("/clear", cookie=cookie).all("Set-Cookie")[0]
    assert "; Secure" not in caller.post("/set", json={"a": 1}, host="localhost:8000").all("Set-Cookie")[0]
    assert caller.post("/set", json={"a": "x" * 5000 + os.urandom(4000).hex()}).status == 500
    assert "a cookie has 4096" in caller.errors


def test_session_keys_rotate() -> None:
    old = session_app(secret="old-old-old-old-old")
    cookie = cookie_of(old.post("/set", json={"a": 1}))
    both = session_app(secret=["new-new-new-new-new", "old-old-old-old-old"])
    assert both.get("/get", cookie=cookie).json == {"a": 1}
    renewed = cookie_of(both.post("/set", json={"b": 2}, cookie=cookie))
    assert session_app(secret="new-new-new-new-new").get("/get", cookie=renewed).json == {"a": 1, "b": 2}
    assert session_app(secret="new-new-new-new-new").get("/get", cookie=cookie).json == {}


def test_sessions_end(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = session_app(max_age=100)
    cookie = cookie_of(caller.post("/set", json={"a": 1}))
    now = time.time()
    monkeypatch.setattr("trivet.session.time.time", lambda: now + 50)
    answer = caller.get("/get", cookie=cookie)
    assert answer.json == {"a": 1}
    renewed = cookie_of(answer)
    monkeypatch.setattr("trivet.session.time.time", lambda: now + 120)
    assert caller.get("/get", cookie=cookie).json == {}
    assert caller.get("/get", cookie=renewed).json == {"a": 1}, "one that is used goes on"


def test_sessions_in_a_store_can_be_revoked() -> None:
    store = MemoryStore()
    caller = session_app(store=store)
    cookie = cookie_of(caller.post("/set", json={"a": "x" * 9000}))
    assert len(cookie) < 200
    assert caller.get("/get", cookie=cookie).json == {"a": "x" * 9000}
    rotated = cookie_of(caller.post("/rotate", cookie=cookie))
    assert caller.get("/get", cookie=cookie).json == {}, "the old name is gone"
    assert "a" in caller.get("/get", cookie=rotated).json
    store._kept.clear()
    assert caller.get("/get", cookie=rotated).json == {}


def test_flasks_sessions_are_read_if_asked() -> None:
    flask = pytest.importorskip("flask")
    other = flask.Flask("x", instance_path="/nonexistent")
    other.secret_key = SECRET
    serializer = other.session_interface.get_signing_serializer(other)
    cookie = "session=" + serializer.dumps({"uid": 5, "t": (1, 2), "b": b"x"})
    assert session_app(flask=True).get("/get", cookie=cookie).json == {"uid": 5, "t": [1, 2], "b": "x"}
    assert session_app().get("/get", cookie=cookie).json == {}


VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="")


def test_async_handlers_under_wsgi() -> None:
    app = App()

    @app.get("/value")
    async def value(name: str) -> Any:
        await asyncio.sleep(0)
        return {"name": name, "var": VAR.get()}

    @app.get("/fails")
    async def fails() -> None:
        raise ValueError("x")

    @app.get("/stream")
    async def pieces() -> AsyncIterator[str]:
        for piece in "abc":
            await asyncio.sleep(0)
            yield piece

    caller = Caller(app)
    VAR.set("kept")
    assert caller.get("/value?name=a").json == {"name": "a", "var": "kept"}
    assert caller.get("/fails").status == 500
    assert caller.get("/stream").text == "abc"


def asgi(app: App, path: str, method: str = "GET", body: bytes = b"", **more: Any) -> Answer:
    """One request over ASGI."""
    sent: list[dict[str, Any]] = []
    parts = [
        {"type": "http.request", "body": body[:5], "more_body": True},
        {"type": "http.request", "body": body[5:]},
    ]

    async def main() -> None:
        async def receive() -> dict[str, Any]:
            if parts:
                return parts.pop(0)
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        plain, _, query = path.partition("?")
        fields = [(k.replace("_", "-").encode(), v.encode()) for k, v in more.items()]
        if body:
            fields.append((b"content-length", str(len(body)).encode()))
        scope = {
            "type": "http", "method": method, "path": plain, "raw_path": plain.encode(),
            "query_string": query.encode(), "headers": fields, "http_version": "1.1", "scheme": "http",
            "server": ("h", 80),
            "client": ("1.2.3.4", 5),
            "root_path": "",
        }  # fmt: skip
        await app.asgi(scope, receive, send)

    asyncio.run(main())
    assert sent[0]["type"] == "http.response.start"
    assert not sent[-1].get("more_body")
    fields = [(k.decode(), v.decode()) for k, v in sent[0]["headers"]]
    return Answer(f"{sent[0]['status']} x", fields, b"".join(m["body"] for m in sent[1:]))


def test_asgi_gives_the_same_answers(files: Path) -> None:
    app = App(secret=SECRET)
    log: list[str] = []

    @app.intercept("/in/*")
    def around() -> Iterator[None]:
        response = yield
        response.headers["X-In"] = "1"

    app.get("/hello")(lambda: "hello")
    app.get("/in/{id:int}")(lambda id: {"id": id})
    app.post("/echo")(lambda req: req.body)

    @app.post("/aecho")
    async def aecho(req: Request) -> bytes:
        return req.body

    @app.post("/json")
    def as_json(req: Request) -> Any:
        return req.json()

    @app.get("/async/{x}")
    async def handler(x: str, q: int = 1) -> Any:
        await asyncio.sleep(0)
        if x == "fail":
            raise KeyError(x)
        return {"x": x, "q": q}

    @app.get("/stream")
    def pieces() -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            log.append("closed")

    @app.get("/astream")
    async def apieces() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    @app.get("/count")
    def count(session: Session) -> Any:
        session["n"] = session.get("n", 0) + 1
        return {"n": session["n"]}

    app.get("/file")(lambda: file(files / "a.txt"))
    caller = Caller(app)
    for path, method, body in [
        ("/hello", "GET", b""),
        ("/hello", "HEAD", b""),
        ("/hello/", "GET", b""),
        ("/none", "GET", b""),
        ("/in/5", "GET", b""),
        ("/in/x", "GET", b""),
        ("/hello", "OPTIONS", b""),
        ("/hello", "POST", b""),
        ("/echo", "POST", b"0123456789"),
        ("/aecho", "POST", b"0123456789"),
        ("/async/a?q=5", "GET", b""),
        ("/async/a?q=x", "GET", b""),
        ("/stream", "GET", b""),
        ("/astream", "GET", b""),
        ("/file", "GET", b""),
    ]:
        one = caller.request(method, path, body)
        other = asgi(app, path, method, body)
        lower = [(name.lower(), value) for name, value in one.fields]
        assert (one.status, lower, one.body) == (other.status, other.fields, other.body), path
    assert log == ["closed", "closed"]
    assert asgi(app, "/count").json == {"n": 1}
    small = App(body_bytes_max=100)
    small.post("/aecho")(aecho)
    assert asgi(small, "/aecho", "POST", b"x" * 100).body == b"x" * 100
    assert asgi(small, "/aecho", "POST", b"x" * 1000).status == 413
    assert asgi(
        app, "/json", "POST", json.dumps({"a": [1, 2]}).encode(), content_type="application/json"
    ).json == {"a": [1, 2]}


def test_providers_and_interceptors_reach_handlers_under_asgi() -> None:
    app = App()
    threads: list[int] = []

    class Tx: ...

    @app.provide(Tx)
    def tx() -> Iterator[Tx]:
        threads.append(threading.get_ident())
        yield Tx()
        threads.append(threading.get_ident())

    @app.intercept("/*")
    def around() -> Iterator[None]:
        VAR.set("from the interceptor")
        yield

    @app.get("/sync")
    def sync(tx: Tx) -> str:
        threads.append(threading.get_ident())
        return VAR.get()

    @app.get("/async")
    async def asynchronous(tx: Tx) -> str:
        return VAR.get()

    for _ in range(5):
        assert asgi(app, "/sync").text == "from the interceptor"
        assert len(set(threads)) == 1
        assert threads[0] != threading.get_ident()
        threads.clear()
    assert asgi(app, "/async").text == "from the interceptor"


def test_asgi_cuts_a_stream_when_the_client_goes() -> None:
    app = App()
    log: list[str] = []

    @app.get("/")
    async def forever() -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
                await asyncio.sleep(0.01)
        finally:
            log.append("closed")

    async def main() -> None:
        gone = asyncio.Event()
        first = True

        async def receive() -> dict[str, Any]:
            nonlocal first
            if first:
                first = False
                return {"type": "http.request", "body": b""}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message.get("body"):
                gone.set()

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
        await asyncio.wait_for(app.asgi(scope, receive, send), 10)

    asyncio.run(main())
    assert log == ["closed"]


def websocket(app: App, path: str, messages: list[Any], **fields: str) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def main() -> None:
        todo = [{"type": "websocket.connect"}, *messages, {"type": "websocket.disconnect", "code": 1001}]

        async def receive() -> Any:
            return todo.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(name.encode(), value.encode()) for name, value in {"host": "h", **fields}.items()]
        scope = {
            "type": "websocket",
            "path": path,
            "headers": headers,
            "query_string": b"",
            "scheme": "ws",
            "subprotocols": [],
        }
        await app.asgi(scope, receive, send)

    asyncio.run(main())
    return sent


def test_websockets_pass_interceptors_and_the_origin_check() -> None:
    app = App()
    ran: list[str] = []

    @app.intercept("/ws/*")
    def check(req: Request) -> Response | None:
        ran.append(req.path)
        return None if "token" in req.headers else Response("no", 403)

    @app.websocket("/ws/{room}")
    async def chat(ws, room: str) -> None:  # type: ignore[no-untyped-def]
        async for message in ws:
            await ws.send({"room": room, "said": message})

    sent = websocket(app, "/ws/a", [{"type": "websocket.receive", "text": "hi"}], token="x")
    assert [m["type"] for m in sent] == ["websocket.accept", "websocket.send"]
    assert json.loads(sent[1]["text"]) == {"room": "a", "said": "hi"}
    assert [m["type"] for m in websocket(app, "/ws/a", [])] == ["websocket.close"]
    assert [m["type"] for m in websocket(app, "/none", [])] == ["websocket.close"]
    assert [m["type"] for m in websocket(app, "/ws/a", [], token="x", origin="http://evil")] == [
        "websocket.close"
    ]
    assert ran == ["/ws/a", "/ws/a"]
    status: list[str] = []
    b"".join(
        app(
            environ_of("GET", "/ws/a") | {"REQUEST_METHOD": "WEBSOCKET", "HTTP_TOKEN": "x"},
            lambda s, f: status.append(s),
        )
    )
    assert status == ["405 Method Not Allowed"]


def test_lifespan() -> None:
    app = App()
    app.get("/{x")(lambda: "")
    sent: list[Any] = []

    async def main() -> None:
        async def receive() -> Any:
            return {"type": "lifespan.startup"}

        async def send(message: Any) -> None:
            sent.append(message)

        await app.asgi({"type": "lifespan"}, receive, send)

    asyncio.run(main())
    assert sent[0]["type"] == "lifespan.startup.failed"
    assert "not closed" in sent[0]["message"]

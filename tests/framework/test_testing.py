"""`trivet.testing.Client`: any WSGI or ASGI application, without a socket."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from trivet.testing import Client, Cookies, WebSocketClosed, WebSocketRefused

Environ = dict[str, Any]


def echo(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """What arrived, as JSON."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    told = {k: v for k, v in environ.items() if isinstance(v, str)} | {"body": body.decode("latin-1")}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]


def cookies_of(*lines: str) -> Callable[..., Iterable[bytes]]:
    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        sent = environ.get("HTTP_COOKIE", "")
        start_response("200 OK", [("Content-Type", "text/plain"), *(("Set-Cookie", line) for line in lines)])
        return [sent.encode("latin-1")]

    return app


async def asgi_echo(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError  # as applications do that know of no lifespan
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    told = {"path": scope["path"], "query": scope["query_string"].decode(), "method": scope["method"]}
    told["body"] = body.decode()
    told["headers"] = str(scope["headers"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1"), (b"X-A", b"2")]})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


# Requests.


def test_paths_keep_the_spelling_that_was_typed() -> None:
    client = Client(echo, validate=True)
    told = client.get("/a%2Fb//../c é?x=1&y=ü", query={"z": ["1 2", "3"]}).json()
    assert told["PATH_INFO"].encode("latin-1").decode() == "/a/b//../c é"
    assert told["RAW_URI"] == "/a%2Fb//../c%20%C3%A9?x=1&y=%C3%BC&z=1+2&z=3"
    assert told["QUERY_STRING"] == "x=1&y=%C3%BC&z=1+2&z=3"
    assert (told["HTTP_HOST"], told["SERVER_PORT"], told["wsgi.url_scheme"]) == ("localhost", "80", "http")
    told = client.get("https://shop.example:8443/x").json()
    assert (told["HTTP_HOST"], told["SERVER_PORT"], told["wsgi.url_scheme"]) == (
        "shop.example:8443",
        "8443",
        "https",
    )


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options", "head"])
def test_every_method_has_a_function(method: str) -> None:
    response = getattr(Client(echo, validate=True), method)("/")
    assert response.json()["REQUEST_METHOD"] == method.upper()


def test_a_body_is_json_or_a_form_or_bytes() -> None:
    client = Client(echo, validate=True, headers={"X-One": "1"})
    told = client.post("/", json={"a": [1, None]}).json()
    assert told["CONTENT_TYPE"] == "application/json"
    assert json.loads(told["body"]) == {"a": [1, None]}
    assert told["HTTP_X_ONE"] == "1"
    told = client.post("/", form={"a": "1 &", "b": ["x", "ü"]}, headers={"x-one": "2"}).json()
    assert (told["body"], told["CONTENT_LENGTH"]) == ("a=1+%26&b=x&b=%C3%BC", "20")
    assert told["HTTP_X_ONE"] == "2"
    assert client.put("/", data="täxt").json()["CONTENT_TYPE"] == "text/plain; charset=utf-8"
    assert client.post("/").json()["CONTENT_LENGTH"] == "0"
    assert "CONTENT_LENGTH" not in client.get("/").json()
    with pytest.raises(TypeError, match="one body"):
        client.post("/", json={}, data=b"")


def test_fields_that_repeat_are_joined_as_servers_do() -> None:
    told = Client(echo).get("/", headers=[("X-A", "1"), ("X-A", "2"), ("Cookie", "a=1"), ("Cookie", "b=2")])
    assert (told.json()["HTTP_X_A"], told.json()["HTTP_COOKIE"]) == ("1,2", "a=1; b=2")


def test_files_are_sent_as_browsers_do(tmp_path: Path) -> None:
    flask = pytest.importorskip("flask")
    app = flask.Flask("files")

    @app.post("/")
    def take() -> Any:
        files = flask.request.files
        return {
            "form": flask.request.form.to_dict(flat=False),
            "files": [
                [name, file.filename, file.content_type, file.read().decode("latin-1")]
                for name in files
                for file in files.getlist(name)
            ],
        }

    (tmp_path / "p.png").write_bytes(b"\x89PNG")
    opened = io.BytesIO(b"opened")
    told = Client(app, validate=True).post(
        "/",
        form={"t": ["a", "ü"]},
        files=[
            ("one", tmp_path / "p.png"),
            ("two", ('a"b.txt', "text", "text/x-a")),
            ("three", opened),
            ("many", [b"1", b"2"]),
        ],
    )
    assert told.json() == {
        "form": {"t": ["a", "ü"]},
        "files": [
            ["one", "p.png", "image/png", "\x89PNG"],
            ["two", 'a"b.txt', "text/x-a", "text"],
            ["three", "file", "application/octet-stream", "opened"],
            ["many", "file", "application/octet-stream", "1"],
            ["many", "file", "application/octet-stream", "2"],
        ],
    }


# Answers.


def test_an_answer_has_its_parts() -> None:
    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        write = start_response(
            "404 Not Here", [("Content-Type", "text/plain; charset=latin-1"), ("Vary", "a"), ("VARY", "b")]
        )
        write(b"\xe4")
        return [b"\xf6"]

    response = Client(app).get("/")
    assert (response.status, response.reason, response.text, response.data) == (
        404,
        "Not Here",
        "äö",
        b"\xe4\xf6",
    )
    assert response.headers["vary"] == "a, b"
    assert response.headers.get_all("Vary") == ["a", "b"]
    assert "x" not in response.headers


def test_a_stream_is_read_as_it_comes_and_closed_once() -> None:
    seen: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            for number in range(3):
                seen.append(f"made {number}")
                yield f"line {number}\n".encode()

        def close(self) -> None:
            seen.append("closed")

    def app(environ: Environ, start_response: Callable[..., Any]) -> Body:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Body()

    client = Client(app)
    with client.get("/", stream=True) as response:
        lines = response.lines()
        assert next(lines) == "line 0"
        assert seen == ["made 0"]
    assert seen == ["made 0", "closed"]
    assert client.get("/").text == "line 0\nline 1\nline 2\n"
    assert seen[-1] == "closed"
    assert seen.count("closed") == 2


def test_what_the_application_raises_is_raised_or_a_500() -> None:
    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        raise KeyError("x")

    async def app2(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("x")

    for one in (app, app2):
        with pytest.raises(KeyError):
            Client(one).get("/")
        assert Client(one, raises=False).get("/").status == 500


def test_what_breaks_the_rules_of_wsgi_is_found() -> None:
    def no_head(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        return []

    def text(environ: Environ, start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return ["text"]

    with pytest.raises(AssertionError, match="did not call start_response"):
        Client(no_head).get("/")
    with pytest.raises(AssertionError, match="bytestring"):
        Client(text, validate=True).get("/")


def test_redirects_are_followed_with_the_method_that_a_browser_uses() -> None:
    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/go/"):
            start_response(path[4:] + " Go", [("Location", "/there?x=1"), ("Set-Cookie", "seen=1; Path=/")])
            return [b"gone"]
        if path == "/away":
            start_response("302 Go", [("Location", "https://other.example/x")])
            return []
        if path == "/round":
            start_response("302 Go", [("Location", "round")])
            return []
        return echo(environ, start_response)

    for status, method in (("301", "GET"), ("302", "GET"), ("303", "GET"), ("307", "POST"), ("308", "POST")):
        response = Client(app, validate=False).post(f"/go/{status}", data=b"body", follow=True)
        told = response.json()
        assert (told["REQUEST_METHOD"], told["body"]) == (method, "body" if method == "POST" else "")
        assert told["HTTP_COOKIE"] == "seen=1"
        assert ("CONTENT_TYPE" in told) is False
        assert [(r.status, r.data) for r in response.history] == [(int(status), b"gone")]
        assert response.url == "http://localhost/there?x=1"
    assert Client(app).head("/go/303", follow=True).json()["REQUEST_METHOD"] == "HEAD"
    assert Client(app).get("/go/302").status == 302
    told = Client(app, follow=True).get("/away", headers={"Authorization": "x", "X-Y": "y"}).json()
    assert (told["HTTP_HOST"], told["HTTP_X_Y"]) == ("other.example", "y")
    assert "HTTP_AUTHORIZATION" not in told
    with pytest.raises(RuntimeError, match="more than 20 redirects"):
        Client(app, follow=True).get("/round")


# Cookies, RFC 6265.


@pytest.mark.parametrize(
    ("line", "asked", "sent"),
    [
        ("a=1", "http://h.example/x/z", "a=1"),
        ("a=1", "http://h.example/", ""),  # the default path is /x
        ("a=1; Path=/", "http://h.example/", "a=1"),
        ("a=1; Path=/x", "http://h.example/xy", ""),
        ("a=1; Path=/x", "http://h.example/x", "a=1"),
        ("a=1; Path=/", "http://sub.h.example/", ""),
        ("a=1; Path=/; Domain=h.example", "http://sub.h.example/", "a=1"),
        ("a=1; Path=/; Domain=.H.example", "http://h.example/", "a=1"),
        ("a=1; Path=/; Domain=example", "http://h.example/", ""),
        ("a=1; Path=/; Domain=other.example", "http://h.example/", ""),
        ("a=1; Path=/; Secure", "https://h.example/", ""),  # set without TLS
        ("a=1; Path=/; Max-Age=10", "http://h.example/", "a=1"),
        ("a=1; Path=/; Max-Age=0", "http://h.example/", ""),
        ("a=1; Path=/; Max-Age=-1", "http://h.example/", ""),
        ("a=1; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "http://h.example/", ""),
        ("a=1; Path=/; Expires=Thu, 01-Jan-1970 00:00:00 GMT; Max-Age=5", "http://h.example/", "a=1"),
        ("a=1; Path=/; Expires=nonsense", "http://h.example/", "a=1"),
        ("__Host-a=1; Path=/", "http://h.example/", ""),
        ("; Path=/", "http://h.example/", ""),
    ],
)
def test_a_cookie_goes_where_it_belongs(line: str, asked: str, sent: str) -> None:
    client = Client(cookies_of(line))
    client.get("http://h.example/x/y")
    client.app = client._called = cookies_of()
    assert client.get(asked).text == sent


def test_secure_cookies_work_on_this_machine_and_with_tls() -> None:
    for base, kept in [("http://localhost", 1), ("https://h.example", 1), ("http://h.example", 0)]:
        client = Client(cookies_of("__Host-s=1; Path=/; Secure; HttpOnly"), base=base)
        assert len(client.get("/").cookies) == kept
        assert client.get("/").text == ("__Host-s=1" if kept else "")
    client = Client(cookies_of("s=1; Secure"), base="https://h.example")
    client.get("/")
    assert client.get("http://h.example/").text == ""


def test_cookies_expire_and_are_replaced_in_place() -> None:
    jar = Cookies()
    clock = [100.0]
    jar.now = lambda: clock[0]
    jar.take("a=1; Path=/; Max-Age=10", "h.example", "/", False)
    jar.take("b=2; Path=/x", "h.example", "/", False)
    jar.take("a=3; Path=/; Max-Age=20", "h.example", "/", False)
    assert jar.header("h.example", "/x/y", False) == ["b=2", "a=3"]
    assert dict(jar) == {"a": "3", "b": "2"}
    clock[0] = 119.0
    assert jar["a"] == "3"
    clock[0] = 121.0
    assert dict(jar) == {"b": "2"}
    jar.delete("b")
    assert len(jar) == 0


def test_cookies_of_a_request_stand_before_those_that_are_kept() -> None:
    client = Client(cookies_of())
    client.cookies.set("a", "kept")
    client.cookies.set("b", "kept")
    assert client.get("/", cookies={"a": "now"}).text == "a=now; b=kept"
    assert client.get("/").text == "a=kept; b=kept"
    client.cookies.clear()
    assert client.get("/").text == ""


# ASGI.


def test_asgi_gets_the_same_request() -> None:
    with Client(asgi_echo) as client:
        response = client.post("/a%20b?x=1", form={"a": "1"})
        told = response.json()
        assert (told["path"], told["query"], told["method"], told["body"]) == ("/a b", "x=1", "POST", "a=1")
        assert response.headers["x-a"] == "1, 2"
        assert "b'host', b'localhost'" in told["headers"]
        assert client.post("/", data=[b"ab", b"c"]).json()["body"] == "abc"


def test_an_endless_asgi_stream_is_told_that_the_client_has_gone() -> None:
    gone: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})

        async def ticks() -> None:
            for number in range(10**9):
                body = f"data: {number}\n\n".encode()
                await send({"type": "http.response.body", "body": body, "more_body": True})
                await asyncio.sleep(0)

        task = asyncio.ensure_future(ticks())
        message = await receive()
        gone.append(message["type"])
        task.cancel()

    client = Client(app)
    with client.get("/", stream=True) as response:
        lines = response.lines()
        assert [next(lines) for _ in range(3)] == ["data: 0", "", "data: 1"]
    assert gone == ["http.disconnect"]
    client.close()


def test_an_asgi_application_that_hangs_does_not_hang_the_test() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(3600)

    client = Client(app, timeout=0.2)
    with pytest.raises(TimeoutError, match="said nothing"):
        client.get("/")
    client.close()


def test_the_lifespan_begins_and_ends_with_the_client() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{phase}"
                seen.append(phase)
                scope["state"]["made"] = "at startup"
                await send({"type": f"lifespan.{phase}.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["state"]["made"].encode()})

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with Client(app) as client:
        assert seen == ["startup"]
        assert client.get("/").text == "at startup"
    assert seen == ["startup", "shutdown"]
    with pytest.raises(RuntimeError, match="failed to start: no database"), Client(failing):
        pass


def test_a_websocket_talks_and_is_closed_by_either_side() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        if scope["path"] == "/no":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["path"] == "/teapot":
            await send({"type": "websocket.http.response.start", "status": 418, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b"short and stout"})
            return
        await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0]})
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                left.append(message["code"])
                return
            if message.get("text") == "end":
                await send({"type": "websocket.close", "code": 4000, "reason": "asked"})
                return
            await send(
                {"type": "websocket.send", **{k: message[k] for k in ("text", "bytes") if k in message}}
            )

    left: list[int] = []
    with Client(app) as client:
        with client.websocket("/", subprotocols=["chat"]) as ws:
            assert ws.subprotocol == "chat"
            ws.send("hi")
            ws.send(b"\0")
            assert (ws.receive(), ws.receive()) == ("hi", b"\0")
            ws.send_json({"a": 1})
            assert ws.receive_json() == {"a": 1}
        assert left == [1000]
        with client.websocket("/", subprotocols=["chat"]) as ws:
            ws.send("end")
            with pytest.raises(WebSocketClosed) as closed:
                ws.receive()
            assert (closed.value.code, closed.value.reason) == (4000, "asked")
        with pytest.raises(WebSocketRefused) as refused:
            client.websocket("/no")
        assert refused.value.status == 403
        with pytest.raises(WebSocketRefused) as refused:
            client.websocket("/teapot")
        assert (refused.value.status, refused.value.body) == (418, b"short and stout")


# Frameworks.


def test_flask() -> None:
    flask = pytest.importorskip("flask")
    app = flask.Flask("shop")
    app.secret_key = "k"

    @app.post("/login")
    def login() -> Any:
        flask.session["user"] = flask.request.form["name"]
        return flask.redirect("/me")

    @app.get("/me")
    def me() -> str:
        return f"hello {flask.session.get('user')}"

    client = Client(app, validate=True)
    response = client.post("/login", form={"name": "ada"}, follow=True)
    assert (response.text, response.history[0].status) == ("hello ada", 302)
    assert "session" in client.cookies
    assert client.get("/nowhere").status == 404


def test_django() -> None:
    django = pytest.importorskip("django")
    from django.conf import settings

    if not settings.configured:
        settings.configure(
            SECRET_KEY="k",
            ROOT_URLCONF=__name__,
            ALLOWED_HOSTS=["*"],
            MIDDLEWARE=[],
            DATABASES={},
            USE_TZ=True,
        )
        django.setup()
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse
    from django.test import override_settings
    from django.urls import path

    def view(request: Any) -> Any:
        if request.method == "POST":
            answer = HttpResponse(request.POST["a"] + request.FILES["f"].read().decode())
            answer.set_cookie("seen", "1")
            return answer
        return HttpResponse(f"{request.GET.get('q')} {request.COOKIES.get('seen')}")

    globals()["urlpatterns"] = [path("x", view)]
    # Another test may have settings of its own in this process.
    with override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[]):
        for handler in (WSGIHandler(), ASGIHandler()):
            with Client(handler) as client:
                assert client.post("/x", form={"a": "ü"}, files={"f": b"file"}).text == "üfile"
                assert client.get("/x", query={"q": "ä"}).text == "ä 1"


def test_starlette_and_fastapi() -> None:
    from contextlib import asynccontextmanager

    import fastapi

    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Any) -> Any:
        seen.append("up")
        yield {"thing": "made"}
        seen.append("down")

    app = fastapi.FastAPI(lifespan=lifespan)

    async def post(request: Any, tasks: Any) -> dict[str, Any]:
        tasks.add_task(seen.append, "background")
        return {"body": await request.json(), "state": request.state.thing}

    post.__annotations__.update(request=fastapi.Request, tasks=fastapi.BackgroundTasks)
    post.__annotations__.pop("return")
    app.post("/items/{n}")(post)

    async def talk(ws: Any) -> None:
        await ws.accept()
        await ws.send_text("got " + await ws.receive_text())
        await ws.close(4001)

    talk.__annotations__["ws"] = fastapi.WebSocket
    app.websocket("/ws")(talk)
    with Client(app) as client:
        response = client.post("/items/3", json={"a": 1})
        assert response.json() == {"body": {"a": 1}, "state": "made"}
        assert seen == ["up", "background"]
        with client.websocket("/ws") as ws:
            ws.send("it")
            assert ws.receive() == "got it"
            with pytest.raises(WebSocketClosed) as closed:
                ws.receive()
            assert closed.value.code == 4001
        with pytest.raises(WebSocketRefused):
            client.websocket("/none")
    assert seen == ["up", "background", "down"]

"""Mistakes that were once there, in registration, parameters and mounts: each by the way that showed it."""

from __future__ import annotations

from typing import Any

import pytest
from framework.drive import ask_wsgi, refused
from trivet import CORS, App, Request, Session
from trivet.dev import is_local
from trivet.registry import StartError


def secret_app(**options: Any) -> App:
    inner = App(**options)

    @inner.get("/secret")
    def secret() -> str:
        return "secret"

    return inner


def test_a_mounted_app_keeps_its_default_deny() -> None:
    app = App()
    app.mount("/admin", secret_app(guard="required"))
    assert "/admin/secret" in refused(app)


def test_a_guard_around_it_is_enough() -> None:
    app = App()
    app.mount("/admin", secret_app(guard="required"))

    @app.intercept("/admin/*", guard=True)
    def pass_all() -> None:
        return None

    assert ask_wsgi(app, "/admin/secret").text == "secret"


@pytest.mark.parametrize(
    "options",
    [
        {"secret": "0123456789abcdef"},
        {"body_bytes_max": 10},
        {"json": str},
        {"trusted_origins": ["https://a.example"]},
    ],
)
def test_a_mounted_app_cannot_say_what_holds_for_the_whole_request(options: dict[str, Any]) -> None:
    app = App()
    app.mount("/x", secret_app(**options))
    assert next(iter(options)) in refused(app)


def test_public_and_csrf_are_not_for_a_mounted_app_of_ours() -> None:
    with pytest.raises(StartError, match="its own routes say so"):
        App().mount("/x", secret_app(), public=True)


@pytest.mark.parametrize(("credentials", "status"), [(False, 403), (True, 200)])
def test_only_a_rule_with_credentials_lets_another_origin_act(credentials: bool, status: int) -> None:
    app = App(cors=CORS(["https://widgets.example.com"], credentials=credentials))

    @app.post("/transfer")
    def transfer() -> str:
        return "done"

    fields = {"Origin": "https://widgets.example.com", "Sec-Fetch-Site": "same-site"}
    assert ask_wsgi(app, "/transfer", "POST", fields=fields).status == status


@pytest.mark.parametrize(
    "field", ["HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_REAL_IP"]
)
def test_what_a_proxy_passes_on_is_not_local(field: str) -> None:
    environ = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:8000"}
    assert is_local(environ)
    assert not is_local({**environ, field: "203.0.113.9"})


def test_a_parameter_that_was_not_sent_is_400() -> None:
    app = App()

    @app.get("/")
    def index(req: Request) -> str:
        return req.query["q"]

    assert ask_wsgi(app, "/?q=1").text == "1"
    assert ask_wsgi(app, "/").status == 400

    @App().get("/")
    def lenient(req: Request) -> str:
        try:
            return req.query["q"]
        except KeyError:
            return "none"


def wsgi(environ: dict[str, Any], start: Any) -> list[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start("200 OK", [("Content-Type", "text/plain"), ("Connection", "close"), ("X-Own", "1")])
    return [body]


def test_an_interceptor_that_reads_the_body_leaves_it_to_a_mounted_app() -> None:
    app = App()
    app.mount("/old", wsgi)
    seen = []

    @app.intercept("/old/*")
    def look(req: Request) -> None:
        seen.append(req.body)

    answer = ask_wsgi(app, "/old/x", "POST", body=b"all of it")
    assert (seen, answer.body, answer.get("X-Own"), answer.get("Connection")) == (
        [b"all of it"],
        b"all of it",
        "1",
        None,
    )


ABOUT_CONNECTION = (
    "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "TE",
    "Trailer", "Transfer-Encoding", "upgrade",
)  # fmt: skip


@pytest.mark.parametrize("name", ABOUT_CONNECTION)
def test_what_is_about_the_connection_is_taken_from_a_mounted_app_and_refused_from_ours(name: str) -> None:
    app = App()
    app.propagate_errors = True

    def old(environ: dict[str, Any], start: Any) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/plain"), (name, "x")])
        return [b"old"]

    app.mount("/old", old)

    @app.get("/own")
    def own() -> Any:
        return "own", {name: "x"}

    answer = ask_wsgi(app, "/old/x")
    assert (answer.text, answer.get(name)) == ("old", None)
    with pytest.raises(ValueError, match=f"`{name}` belongs to the server"):
        ask_wsgi(app, "/own")


def test_error_handlers_take_the_exception_and_the_request_alone() -> None:
    app = App(secret="0123456789abcdef")
    with pytest.raises(StartError, match="takes `session: Session`"):

        @app.error(404)
        def page(req: Request, session: Session) -> str:
            return "never"

"""What went wrong once under ASGI, and with coroutines."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from trivet import App, Body

from framework import drive


def ask(app: App, path: str, raw: bytes | None = None, root: str = "") -> drive.Answer:
    """One GET whose `raw_path` may say something else than its `path`."""

    async def between(scope: Any, receive: Any, send: Any) -> None:
        scope = {**scope, "path": path, "root_path": root, "raw_path": path.encode() if raw is None else raw}
        await app.asgi(scope, receive, send)

    status, fields, pieces = asyncio.run(drive.converse(between, "GET", "/"))
    return drive.Answer(status, fields, b"".join(pieces), pieces)


def test_what_a_middleware_says_about_the_path_is_what_is_routed() -> None:
    app = App()

    @app.get("/admin/x")
    def admin() -> str:
        return "admin"

    @app.get("/pub/{name}")
    def public(name: str) -> str:
        return f"public {name}"

    assert ask(app, "/pub/x", b"/admin/x").text == "public x"
    assert ask(app, "/pub/x", b"/en/pub/x").text == "public x"
    assert ask(app, "/root/pub/x", b"/root/pub/x", root="/root").text == "public x"
    # Which slashes were sent as `%2F` is still known, and bytes that are no UTF-8 are no text.
    assert ask(app, "/pub/a/b", b"/pub/a%2Fb").text == "public a/b"
    assert ask(app, "/pub/a/b", b"/pub/a/b").status == 404
    assert ask(app, "/pub/\ufffd", b"/pub/%FF").status == drive.ask_wsgi(app, "/pub/%FF").status
    assert ask(app, "/admin/\ufffd", b"/pub/%FF").status == 404


def test_a_get_with_a_body_is_read_beside_the_loop() -> None:
    app = App()

    @app.get("/x")
    def handler(data: Body[dict]) -> Any:  # type: ignore[type-arg]
        return data

    assert drive.ask_asgi(app, "/x", data={"a": 1}).json == {"a": 1}


def test_waiting_for_the_loop_in_the_loop_is_an_error() -> None:
    inner, outer = App(), App()
    outer.propagate_errors = True

    @inner.get("/")
    async def inside() -> str:
        return "inside"

    inner.propagate_errors = True

    @outer.get("/")
    async def around() -> str:
        return drive.ask_wsgi(inner).text

    caught: list[BaseException] = []

    def main() -> None:
        try:
            drive.ask_wsgi(outer)
        except BaseException as error:  # noqa: BLE001
            caught.append(error)

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert "wait for itself" in str(caught[0])
    assert drive.ask_wsgi(inner).text == "inside"

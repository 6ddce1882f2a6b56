"""Calls apps in process, each request under `wsgiref.validate` too."""

from __future__ import annotations

import io
import json as json_module
from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator


class Answer:
    """What came back: status as a number, fields in order, body as bytes."""

    def __init__(self, status: str, fields: list[tuple[str, str]], body: bytes) -> None:
        self.status = int(status[:3])
        self.line = status
        self.fields = fields
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json_module.loads(self.body)

    def __getitem__(self, name: str) -> str | None:
        values = [value for key, value in self.fields if key.lower() == name.lower()]
        return ", ".join(values) if values else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def __repr__(self) -> str:
        return f"<{self.line} {self.fields} {self.body!r}>"


class Input(io.BytesIO):
    """A body that counts what was read of it."""


def environ_of(
    method: str, path: str, body: bytes = b"", query: str | None = None, **more: Any
) -> dict[str, Any]:
    """`path` is decoded; `more` are header fields in lower case with underscores, or entries with a dot or
    in capitals.
    """
    if query is None:
        path, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": more.pop("script_name", ""),
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": query,
        "HTTP_HOST": "example.com",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": Input(body),
        "wsgi.errors": io.StringIO(),
    }
    if body or method in ("POST", "PUT", "PATCH"):
        environ["CONTENT_LENGTH"] = str(len(body))
    for name, value in more.items():
        if name.isupper() or "." in name:
            environ[name] = value
        elif name in ("content_type", "content_length"):
            environ[name.upper()] = value
        else:
            environ["HTTP_" + name.upper()] = value
    setup_testing_defaults(environ)
    return environ


def call(app: Callable[..., Any], environ: dict[str, Any]) -> Answer:
    """One request, checked by `wsgiref.validate`."""
    told: list[Any] = []
    written: list[bytes] = []

    def start_response(
        status: str, fields: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        assert not told or exc_info, "start_response was called twice"
        told[:] = [status, fields]
        return written.append

    iterable = validator(app)(environ, start_response)
    try:
        body = b"".join(iterable)
    finally:
        iterable.close()
    return Answer(told[0], told[1], b"".join(written) + body)


class Caller:
    """`caller.get("/path")`; keeps no cookies. `errors` is what the app wrote to `wsgi.errors` in the last
    request.
    """

    def __init__(self, app: Callable[..., Any]) -> None:
        self.app = app
        self.errors = ""

    def request(self, method: str, path: str, body: bytes = b"", **more: Any) -> Answer:
        environ = environ_of(method, path, body, **more)
        errors = environ["wsgi.errors"]
        try:
            return call(self.app, environ)
        finally:
            self.errors = errors.getvalue()

    def get(self, path: str, **more: Any) -> Answer:
        return self.request("GET", path, **more)

    def head(self, path: str, **more: Any) -> Answer:
        return self.request("HEAD", path, **more)

    def post(
        self, path: str, body: bytes = b"", *, json: Any = None, form: str | None = None, **more: Any
    ) -> Answer:
        if json is not None:
            body, more["content_type"] = json_module.dumps(json).encode(), "application/json"
        if form is not None:
            body, more["content_type"] = form.encode(), "application/x-www-form-urlencoded"
        more.setdefault("content_type", "application/octet-stream")
        return self.request("POST", path, body, **more)

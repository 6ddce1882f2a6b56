"""A web framework in sixty lines, on Trivet's toolkit: classes in a table of URLs, as web.py has them.

To serve it: `trivet run --chdir examples microframework:app`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from trivet import HTTPError, Request, Response, Router


class Page:
    """A page has a method for each method of HTTP; what they return is the answer."""

    def __init__(self, request: Request) -> None:
        self.request = request


class Application:
    """`Application(("/", Index), ("/todos/{id:int}", Todo))`: a WSGI application."""

    def __init__(self, *urls: tuple[str, type[Page]]) -> None:
        self.router = Router()
        for template, page in urls:
            methods = [name for name in ("GET", "POST", "PUT", "PATCH", "DELETE") if hasattr(page, name)]
            self.router.add(template, page, methods)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ)
        try:
            response = self.answer(request)
        except HTTPError as error:
            response = Response(f"{error.detail}\n", status=error.status, headers=error.headers)
        return response(environ, start_response)

    def answer(self, request: Request) -> Response:
        page_class, parameters = self.router.find(request.environ)
        page = page_class(request)
        method = getattr(page, "GET" if request.method == "HEAD" else request.method)
        value = method(**parameters)
        if value is None:
            return Response(status=204)
        if isinstance(value, str):
            return Response(value)
        return Response(json.dumps(value), content_type="application/json")


# What is made with it


TODOS = {1: "boil water", 2: "find the trivet"}


class Index(Page):
    def GET(self) -> dict[int, str]:
        return TODOS

    def POST(self) -> str:
        title = self.request.form.get("title")
        if not title:
            raise HTTPError(400, "a todo has a title")
        number = max(TODOS, default=0) + 1
        TODOS[number] = title
        return f"{number}\n"


class Todo(Page):
    def GET(self, id: int) -> str:
        if id not in TODOS:
            raise HTTPError(404, f"there is no {id}")
        return TODOS[id]

    def DELETE(self, id: int) -> None:
        TODOS.pop(id, None)


app = Application(("/", Index), ("/todos/{id:int}", Todo))

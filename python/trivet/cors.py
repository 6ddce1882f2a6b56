"""Which other sites' pages may use a route (WHATWG Fetch, CORS protocol)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .response import Response


class CORS:
    """`@app.get("/api/x", cors=CORS(["https://app.example"]))`, or for a whole group.

    - `origins`: exact origins, or `*` for every one (never together with `credentials`).
    - `credentials`: whether cookies may come along; then these origins also pass the CSRF check.
    - `headers`: request fields beyond the simple ones; `expose`: answer fields that scripts may read.
    - `max_age`: seconds for which a browser may remember the answer.
    """

    __slots__ = ("any", "credentials", "expose", "headers", "max_age", "methods", "origins")

    def __init__(
        self,
        origins: Iterable[str] | str = "*",
        *,
        methods: Iterable[str] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
        headers: Iterable[str] = ("Content-Type", "Authorization"),
        expose: Iterable[str] = (),
        credentials: bool = False,
        max_age: int = 600,
    ) -> None:
        listed = [origins] if isinstance(origins, str) else list(origins)
        self.any = "*" in listed
        if self.any and credentials:
            raise ValueError("`*` and `credentials` together would let every site act for your visitors")
        for origin in listed:
            if origin != "*" and ("://" not in origin or origin.count("/") != 2 or origin != origin.lower()):
                raise ValueError(f"`{origin}` is no origin\nhint: scheme and host, as `https://app.example`")
        self.origins = frozenset(listed)
        self.methods = ", ".join(methods)
        self.headers = ", ".join(headers)
        self.expose = ", ".join(expose)
        self.credentials = credentials
        self.max_age = max_age

    def allows(self, origin: str) -> bool:
        """Whether a page of that origin may read the answer."""
        return self.any or origin in self.origins

    def trusts(self, origin: str) -> bool:
        """Whether a page of that origin may act for the visitor: only with `credentials`, never by `*`."""
        return self.credentials and origin in self.origins

    def decorate(self, environ: dict[str, Any], response: Response) -> None:
        """Adds to an answer what the browser has to know."""
        if not self.any or self.credentials:
            response.headers.vary("Origin")
        origin = environ.get("HTTP_ORIGIN")
        if origin is None or not self.allows(origin):
            return
        response.headers["Access-Control-Allow-Origin"] = "*" if self.any else origin
        if self.credentials:
            response.headers["Access-Control-Allow-Credentials"] = "true"
        if self.expose:
            response.headers["Access-Control-Expose-Headers"] = self.expose

    def preflight(self, environ: dict[str, Any]) -> Response:
        """The answer to a browser that asks before it sends."""
        response = Response(b"", 204)
        response.headers.vary("Access-Control-Request-Method", "Access-Control-Request-Headers")
        if self.allows(environ.get("HTTP_ORIGIN", "")):
            response.headers["Access-Control-Allow-Methods"] = self.methods
            if self.headers:
                response.headers["Access-Control-Allow-Headers"] = self.headers
            response.headers["Access-Control-Max-Age"] = str(self.max_age)
        return response

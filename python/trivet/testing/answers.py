"""What comes back: the head, the body as far as somebody reads it, and how a WebSocket ends."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


class Headers(Mapping[str, str]):
    """Header fields in their order. Names in any case; a name that comes several times is joined by ``",
    "``.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self.pairs = list(pairs)

    def __getitem__(self, name: str) -> str:
        found = self.get_all(name)
        if not found:
            raise KeyError(name)
        return ", ".join(found)

    def get_all(self, name: str) -> list[str]:
        """Every value of a name: `Set-Cookie` cannot be joined."""
        name = name.lower()
        return [value for key, value in self.pairs if key.lower() == name]

    def __iter__(self) -> Iterator[str]:
        return iter({name.lower(): name for name, _ in self.pairs}.values())

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self.pairs})

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_all(name))

    def __repr__(self) -> str:
        return f"Headers({self.pairs})"


class Response:
    """What the application answered. ``history``: the redirects that led here, the first first."""

    def __init__(self, status: int, reason: str, headers: Headers, body: Iterator[bytes], url: str) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.url = url
        self.history: list[Response] = []
        self.cookies: dict[str, str] = {}
        self._body = body
        self._data: bytes | None = None

    @property
    def data(self) -> bytes:
        """The whole body; reads what is left of a stream."""
        if self._data is None:
            self._data = b"".join(self._body)
            self.close()
        return self._data

    @property
    def text(self) -> str:
        """The body by the charset of its Content-Type, UTF-8 where there is none."""
        charset = "utf-8"
        for parameter in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "charset":
                charset = value.strip().strip('"')
        return self.data.decode(charset, "replace")

    def json(self) -> Any:
        """What the body says as JSON. Raises `ValueError` where it is none."""
        return json.loads(self.data)

    def chunks(self) -> Iterator[bytes]:
        """The pieces of a body, as the application gives them (with ``stream=True``)."""
        return self._body

    def lines(self) -> Iterator[str]:
        """The lines of a stream as they come, without their ends."""
        rest = b""
        for chunk in self._body:
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line.removesuffix(b"\r").decode("utf-8", "replace")
        if rest:
            yield rest.decode("utf-8", "replace")

    def close(self) -> None:
        """Lets the application go: its iterable is closed, its ASGI call told that the client has gone."""
        close = getattr(self._body, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.url}>"


class WebSocketRefused(Exception):
    """The application did not accept. ``status``: of the answer that a client gets instead; ``body``: its
    text.
    """

    def __init__(self, status: int, body: bytes = b"") -> None:
        super().__init__(f"the application refused the WebSocket with {status}")
        self.status = status
        self.body = body


class WebSocketClosed(Exception):
    """The application has closed."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"the application closed the WebSocket with {code} {reason}".rstrip())
        self.code = code
        self.reason = reason

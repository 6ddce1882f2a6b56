"""Database URLs and what may stand in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from .engine import Engine


def engine_of(url: str) -> Engine:
    """The engine that a URL names. Raises `ValueError`, which never shows the password."""
    if "://" not in url:
        from .sqlite import SQLite

        return SQLite(url)
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        return sqlite_of(rest)
    if scheme in ("mysql", "mariadb"):
        return mysql_of(url)
    raise ValueError(
        f"no driver for `{scheme}://`\nhint: `sqlite:///file.sqlite3` or `mysql://user:password@host/name`"
    )


def sqlite_of(rest: str) -> Engine:
    from .sqlite import SQLite

    path, _, query = rest.partition("?")
    if path and not path.startswith("/"):
        raise ValueError(f"`sqlite://{path}` has no path\nhint: `sqlite:///{path}`, with three slashes")
    options = options_of(query, {"timeout": seconds, "synchronous": str.lower})
    file = unquote(path[1:])
    return SQLite(None if file in ("", ":memory:") else file, **options)


def mysql_of(url: str) -> Engine:
    from .mysql import OPTIONS, MySQL

    try:
        parts = urlsplit(url)
        port = parts.port or 3306
    except ValueError:
        raise ValueError(
            "the `mysql://` URL is malformed\nhint: escape `@`, `:`, `/` and `%` in the password by `%`"
        ) from None
    name = unquote(parts.path.strip("/"))
    if not name:
        raise ValueError("the `mysql://` URL names no database\nhint: `mysql://user:password@host/name`")
    return MySQL(
        host=parts.hostname or "127.0.0.1",
        port=port,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        database=name,
        **options_of(parts.query, OPTIONS),
    )


def options_of(query: str, known: dict[str, Callable[[str], Any]]) -> dict[str, Any]:
    """The options behind `?`.

    An unknown one, or one that is given twice, is an error: a typo is not ignored.
    """
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise ValueError(
                f"the database URL has no option `{name}`\nhint: there are {', '.join(sorted(known))}"
            )
        if name in options:
            raise ValueError(f"`{name}` is given twice in the database URL")
        try:
            options[name] = known[name](text)
        except ValueError as error:
            raise ValueError(f"`{name}={text}` in the database URL: {error}") from None
    return options


def seconds(text: str) -> float:
    """A time in seconds, zero or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise ValueError("wanted seconds")
    return value


def count(text: str) -> int:
    """A number of at least one."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise ValueError("wanted a number from 1 to 10000")
    return int(text)

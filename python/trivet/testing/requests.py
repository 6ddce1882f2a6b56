"""What is asked for: the target, and the body with its Content-Type."""

from __future__ import annotations

import io
import json
import mimetypes
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

LOCAL = ("localhost", "127.0.0.1", "[::1]")
SAFE_IN_TARGET = "/%:@!$&'()*+,;=~-._?[]"

Pairs = Mapping[str, Any] | Iterable[tuple[str, Any]]
File = bytes | str | os.PathLike[str] | Any


class Target:
    """The parts of a URL that a request needs."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self.scheme = parts.scheme
        self.authority = parts.netloc.rpartition("@")[2]
        self.host = (f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or "").lower()
        self.port = parts.port or (443 if parts.scheme in ("https", "wss") else 80)
        self.path = parts.path or "/"
        self.query = parts.query
        self.raw = self.path + ("?" + parts.query if parts.query else "")
        self.secure = parts.scheme in ("https", "wss") or self.host in LOCAL


def url_of(base: str, path: str, query: str | Pairs | None) -> str:
    if (path.startswith("/") and not path.startswith("//")) or "://" not in path:
        # By hand: `urljoin` takes `..` and `//` out, which are for the application to judge.
        parts = urlsplit(base)
        url = f"{parts.scheme}://{parts.netloc}{path}" if path.startswith("/") else urljoin(base + "/", path)
    else:
        url = path
    url = quote(url.partition("#")[0], safe=SAFE_IN_TARGET)
    if query is not None and query != "":
        text = query if isinstance(query, str) else urlencode(list(pairs_of(query)))
        url += ("&" if "?" in url else "?") + quote(text, safe=SAFE_IN_TARGET)
    return url


def pairs_of(given: Pairs) -> Iterator[tuple[str, Any]]:
    for name, value in given.items() if isinstance(given, Mapping) else given:
        for one in value if isinstance(value, (list, tuple)) else [value]:
            yield name, one


def body_of(
    json_value: Any, form: Pairs | None, files: Any, data: bytes | str | Iterable[bytes] | None
) -> tuple[bytes | Iterable[bytes], str | None]:
    """The body and its Content-Type."""
    given = [json_value is not ..., form is not None or files is not None, data is not None]
    if sum(given) > 1:
        raise TypeError("a request has one body\nhint: give one of `json`, `form` with `files`, and `data`")
    if json_value is not ...:
        return json.dumps(json_value).encode(), "application/json"
    if files is not None:
        return _multipart(form or {}, files)
    if form is not None:
        return urlencode(list(pairs_of(form))).encode(), "application/x-www-form-urlencoded"
    if data is None:
        return b"", None
    if isinstance(data, str):
        return data.encode(), "text/plain; charset=utf-8"
    return data if isinstance(data, bytes) else list(data), None


def _multipart(form: Pairs, files: Any) -> tuple[bytes, str]:
    """RFC 7578, with names as browsers write them."""

    def quoted(name: str) -> str:
        return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")

    boundary = "trivet-" + secrets.token_hex(16)
    out = io.BytesIO()
    for name, value in pairs_of(form):
        out.write(f'--{boundary}\r\nContent-Disposition: form-data; name="{quoted(name)}"\r\n\r\n'.encode())
        out.write(value if isinstance(value, bytes) else str(value).encode())
        out.write(b"\r\n")
    for name, given in files.items() if isinstance(files, Mapping) else files:
        for filename, content, kind in map(_file, given if isinstance(given, list) else [given]):
            disposition = f'form-data; name="{quoted(name)}"; filename="{quoted(filename)}"'
            out.write(f"--{boundary}\r\nContent-Disposition: {disposition}\r\n".encode())
            out.write(f"Content-Type: {kind}\r\n\r\n".encode() + content + b"\r\n")
    out.write(f"--{boundary}--\r\n".encode())
    return out.getvalue(), f"multipart/form-data; boundary={boundary}"


def _file(given: Any) -> tuple[str, bytes, str]:
    filename, content, kind = None, given, None
    if isinstance(given, tuple):
        filename, content, *rest = given
        kind = rest[0] if rest else None
    if isinstance(content, os.PathLike):
        path = Path(content)
        filename, content = filename or path.name, path.read_bytes()
    elif isinstance(content, str):
        content = content.encode()
    elif not isinstance(content, (bytes, bytearray)):
        filename = filename or os.path.basename(str(getattr(content, "name", "file")))
        content = content.read()
    filename = filename or "file"
    return filename, bytes(content), kind or mimetypes.guess_type(filename)[0] or "application/octet-stream"

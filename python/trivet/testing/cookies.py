"""The cookies that a client keeps, as a browser does (RFC 6265)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime


class Cookie:
    """A cookie as it is stored (RFC 6265, section 5.3). ``expires``: seconds since 1970, None at the end of
    the session.
    """

    def __init__(
        self,
        name: str,
        value: str,
        *,
        domain: str,
        host_only: bool = True,
        path: str = "/",
        secure: bool = False,
        http_only: bool = False,
        same_site: str | None = None,
        expires: float | None = None,
    ) -> None:
        self.name = name
        self.value = value
        self.domain = domain
        self.host_only = host_only
        self.path = path
        self.secure = secure
        self.http_only = http_only
        self.same_site = same_site
        self.expires = expires
        self.created = 0

    def __repr__(self) -> str:
        return f"Cookie({self.name}={self.value}; domain={self.domain}; path={self.path})"

    def is_for(self, host: str, path: str, secure: bool) -> bool:
        """Whether it is sent with a request there (RFC 6265 §5.4)."""
        domain = self.domain
        if host != domain and (self.host_only or not host.endswith("." + domain) or _is_address(host)):
            return False
        if self.secure and not secure:
            return False
        return path == self.path or (
            path.startswith(self.path) and (self.path.endswith("/") or path[len(self.path)] == "/")
        )


class Cookies(Mapping[str, str]):
    """The cookies of a client: names and values, whatever they are for; more by :meth:`all`."""

    def __init__(self) -> None:
        self._stored: dict[tuple[str, str, str], Cookie] = {}
        self._count = 0
        self.now: Callable[[], float] = time.time

    def all(self) -> list[Cookie]:
        """Those that have not expired, the oldest first."""
        now = self.now()
        self._stored = {k: c for k, c in self._stored.items() if c.expires is None or c.expires > now}
        return sorted(self._stored.values(), key=lambda cookie: cookie.created)

    def set(self, name: str, value: str, *, domain: str = "localhost", path: str = "/") -> None:
        """Keeps a cookie as if a server had set it."""
        self._store(Cookie(name, value, domain=domain, path=path))

    def delete(self, name: str) -> None:
        """Forgets every cookie of this name."""
        self._stored = {key: cookie for key, cookie in self._stored.items() if cookie.name != name}

    def clear(self) -> None:
        """Forgets every cookie."""
        self._stored = {}

    def __getitem__(self, name: str) -> str:
        for cookie in reversed(self.all()):
            if cookie.name == name:
                return cookie.value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter({cookie.name: None for cookie in self.all()})

    def __len__(self) -> int:
        return len({cookie.name for cookie in self.all()})

    def header(self, host: str, path: str, secure: bool) -> list[str]:
        """What is sent with a request: longer paths first, then the older (section 5.4)."""
        fitting = [cookie for cookie in self.all() if cookie.is_for(host, path, secure)]
        fitting.sort(key=lambda cookie: (-len(cookie.path), cookie.created))
        return [f"{c.name}={c.value}" if c.name else c.value for c in fitting]

    def take(self, line: str, host: str, path: str, secure: bool) -> Cookie | None:
        """Stores what a `Set-Cookie` says; None where a browser would not."""
        cookie = self.parse(line, host, path, self.now())
        if cookie is None or (cookie.secure and not secure):
            return None
        if cookie.name.lower().startswith(("__secure-", "__host-")) and not cookie.secure:
            return None
        if cookie.name.lower().startswith("__host-") and not (cookie.host_only and cookie.path == "/"):
            return None
        self._store(cookie)
        return cookie

    def _store(self, cookie: Cookie) -> None:
        key = (cookie.name, cookie.domain, cookie.path)
        known = self._stored.get(key)
        self._count += 1
        cookie.created = known.created if known else self._count
        self._stored[key] = cookie

    @staticmethod
    def parse(line: str, host: str, path: str, now: float) -> Cookie | None:
        """The cookie of a `Set-Cookie` field; None where it has to be ignored (RFC 6265 §5.3)."""
        pair, _, rest = line.partition(";")
        name, equals, value = pair.partition("=")
        if not equals:
            name, value = "", pair
        name, value = name.strip(), value.strip()
        if not name and not value:
            return None
        cookie = Cookie(name, value, domain=host, path=path[: path.rfind("/")] or "/")
        aged = False
        for attribute in rest.split(";"):
            key, _, text = attribute.partition("=")
            key, text = key.strip().lower(), text.strip()
            if key == "secure":
                cookie.secure = True
            elif key == "httponly":
                cookie.http_only = True
            elif key == "samesite":
                cookie.same_site = text
            elif key == "path":
                cookie.path = text if text.startswith("/") else path[: path.rfind("/")] or "/"
            elif key == "domain" and text:
                cookie.domain = text.lower().removeprefix(".")
                cookie.host_only = False
            elif key == "max-age" and text.removeprefix("-").isdigit():
                cookie.expires = now + int(text) if int(text) > 0 else 0.0
                aged = True
            elif key == "expires" and not aged:
                try:
                    cookie.expires = parsedate_to_datetime(text.replace("-", " ")).timestamp()
                except ValueError:
                    continue
        if not cookie.host_only and cookie.domain != host:
            if not host.endswith("." + cookie.domain) or "." not in cookie.domain or _is_address(host):
                return None
        elif not cookie.host_only and "." not in cookie.domain:
            cookie.host_only = True
        return cookie


def _is_address(host: str) -> bool:
    return host.startswith("[") or host.replace(".", "").isdigit()

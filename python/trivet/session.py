"""Sessions: a dict for each visitor, in a signed cookie or a store."""

from __future__ import annotations

import base64
import datetime
import json
import secrets
import threading
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ._load import native

if TYPE_CHECKING:
    from . import _web
    from .app import App
    from .response import Response
else:
    _web = native("_web")

#: What we wrote ourselves has no spaces around it: a third of the time of `json.loads`.
_scan: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined]

COOKIE_BYTES_MAX = 4096
#: A `MemoryStore` looks for sessions that have ended from here on.
SWEEP_MIN = 1024
SECRET_HINT = "hint: `App(secret=…)`; `python -c 'import secrets; print(secrets.token_hex(32))'` makes one"
LOCAL = ("localhost", "127.0.0.1", "[::1]")


class Session(dict[str, Any]):
    """What is kept of a visitor: texts as keys, JSON's kinds as values.

    Changes at any depth are noticed: what is written at the end is compared with what was read. `rotate()`
    belongs
    behind every sign-in, `clear()` behind every sign-out.
    """

    __slots__ = ("_began", "_id", "_rotated", "_written")

    def __init__(self, data: dict[str, Any] | None = None) -> None:
        if data:
            self.update(data)
        self._written = b""
        self._began = 0
        self._id: str | None = None
        self._rotated = False

    @property
    def is_new(self) -> bool:
        """Whether the client brought none that is good."""
        return self._began == 0

    def rotate(self) -> None:
        """A new name for the session, so that nobody who knows the old one gets in (session fixation)."""
        self._rotated = True


class SessionStore(Protocol):
    """Where sessions lie on the server: then they can be revoked, and the cookie holds only a name.

    A store may also have `replace(id, data, max_age) -> bool`: `save` if the session is still there, in one
    step, so that one that is revoked meanwhile stays so. Without it there is a `load` before the `save`.
    """

    def load(self, id: str) -> bytes | None:
        """What `save` was given, or None where it is gone or too old."""

    def save(self, id: str, data: bytes, max_age: int) -> None:
        """Keeps the data for `max_age` seconds."""

    def delete(self, id: str) -> None:
        """Forgets it."""


class MemoryStore:
    """Sessions in this process: for tests and for apps with one worker.

    Of more than `sessions_max`, those go that were not written for the longest time.
    """

    def __init__(self, sessions_max: int = 100_000) -> None:
        if sessions_max < 1:
            raise ValueError("`sessions_max` is at least 1")
        self._sessions_max = sessions_max
        #: What was written last is last.
        self._kept: dict[str, tuple[float, bytes]] = {}
        self._sweep_at = SWEEP_MIN
        self._lock = threading.Lock()

    def load(self, id: str) -> bytes | None:
        """What `save` was given, or None where it is gone or too old."""
        with self._lock:
            return self._live(id)

    def save(self, id: str, data: bytes, max_age: int) -> None:
        """Keeps the data for `max_age` seconds."""
        with self._lock:
            self._put(id, data, max_age)

    def replace(self, id: str, data: bytes, max_age: int) -> bool:
        """Keeps the data if the session is still there, and gives whether it is."""
        with self._lock:
            if self._live(id) is None:
                return False
            self._put(id, data, max_age)
            return True

    def delete(self, id: str) -> None:
        """Forgets it."""
        with self._lock:
            self._kept.pop(id, None)

    def _live(self, id: str) -> bytes | None:
        ends, data = self._kept.get(id, (0.0, b""))
        if ends <= time.time():
            self._kept.pop(id, None)
            return None
        return data

    def _put(self, id: str, data: bytes, max_age: int) -> None:
        now = time.time()
        self._kept.pop(id, None)
        self._kept[id] = (now + max_age, data)
        if len(self._kept) > min(self._sweep_at, self._sessions_max):
            # As many again must come before the next time: its cost for each of them is small.
            self._kept = {id: kept for id, kept in self._kept.items() if kept[0] > now}
            self._sweep_at = max(SWEEP_MIN, 2 * len(self._kept))
            while len(self._kept) > self._sessions_max:
                del self._kept[next(iter(self._kept))]


class Sessions:
    """How an app keeps sessions: `App(secret=KEY, sessions=Sessions(max_age=3600))`.

    - `max_age`: seconds after which a session that is not used ends; None for the browser's own session.
    - `secure`: None is `Secure` everywhere but on plain http to this very machine.
    - `store`: where data lies on the server; without one it is in the cookie, signed and readable, 4 KiB
      at most.
    - `flask=True` also reads the cookies of a Flask app with the same secret.
    """

    def __init__(
        self,
        *,
        cookie: str = "session",
        max_age: int | None = 14 * 24 * 3600,
        path: str = "/",
        domain: str | None = None,
        secure: bool | None = None,
        same_site: str = "Lax",
        store: SessionStore | None = None,
        flask: bool = False,
    ) -> None:
        self.cookie = cookie
        self.max_age = max_age
        self.path = path
        self.domain = domain
        self.secure = secure
        self.same_site = same_site
        self.store = store
        self.flask = flask
        self._signer: _web.Signer | None = None
        self._flask_signer: _web.Signer | None = None

    def _sign_with(self, keys: Sequence[bytes]) -> None:
        self._signer = _web.Signer(list(keys), "trivet.session")
        if self.flask:
            self._flask_signer = _web.Signer(list(keys), "cookie-session", "sha1")

    @property
    def _can_load(self) -> bool:
        """Whether there is a key, or a `load` of the app's own that may need none."""
        return self._signer is not None or type(self).load is not Sessions.load

    def _ready(self) -> _web.Signer:
        if self._signer is None:
            raise RuntimeError(f"sessions need a secret\n{SECRET_HINT}")
        return self._signer

    def load(self, request: _web.Request) -> Session:
        """The session of a request; an empty one where the cookie is missing, forged or too old."""
        signer = self._ready()
        session = Session()
        token = request.cookies.get(self.cookie)
        if not token:
            return session
        now = int(time.time())
        try:
            data, began = signer.load(token, now, self.max_age)
        except ValueError:
            return self._of_flask(token, now, session)
        if self.store is not None:
            session._id = data.decode("ascii", "replace")
            kept = self.store.load(session._id)
            if kept is None:
                session._id = None
                return session
            data = kept
        try:
            content, _ = _scan(data.decode(), 0)
        except (ValueError, StopIteration):
            return session
        if isinstance(content, dict):
            session.update(content)
            session._written = data
            session._began = began or 1
        return session

    def _of_flask(self, token: str, now: int, session: Session) -> Session:
        if self._flask_signer is None:
            return session
        try:
            data, _ = self._flask_signer.load(token, now, self.max_age)
            content = json.loads(data, object_hook=_untagged)
        except ValueError:
            return session
        if isinstance(content, dict):
            session.update(content)
            session._began = 1
        return session

    def save(self, app: App, request: _web.Request, session: Session, response: Response) -> None:
        """Writes what has changed into the answer."""
        response.headers.vary("Cookie")
        signer = self._ready()
        data = _web.json_bytes(dict(session), app.json_encoder) if session else b""
        now = int(time.time())
        old = self.max_age is not None and session._began < now - self.max_age // 4
        if data == session._written and not session._rotated and not (data and old):
            return
        if not data:
            if session._id is not None and self.store is not None:
                self.store.delete(session._id)
            if session._began or self.cookie in request.cookies:
                self._set(request, response, "", 0)
            return
        if self.store is not None:
            id = self._keep(self.store, session, data)
            if id is None:
                return
            data = id.encode()
        token = signer.dump(data, now)
        if len(self.cookie) + 1 + len(token) > COOKIE_BYTES_MAX:
            raise ValueError(
                f"the session needs {len(token)} bytes, a cookie has {COOKIE_BYTES_MAX}\n"
                "hint: keep less in it, or give `Sessions(store=…)`"
            )
        self._set(request, response, token, self.max_age)

    def _keep(self, store: SessionStore, session: Session, data: bytes) -> str | None:
        """The name that the data is kept under. None: the session was ended by another request since it was
        loaded, and stays so.
        """
        max_age = self.max_age or 14 * 24 * 3600
        id = session._id
        if id is not None and not session._rotated:
            replace = getattr(store, "replace", None)
            if replace is not None:
                return id if replace(id, data, max_age) else None
            if store.load(id) is None:
                return None
        elif id is not None:
            if store.load(id) is None:
                return None
            store.delete(id)
            # Once: a second answer to this request, for an exception after this, names the same one.
            session._id = id = secrets.token_urlsafe(24)
            session._rotated, session._written = False, b""
        else:
            session._id = id = secrets.token_urlsafe(24)
        store.save(id, data, max_age)
        return id

    def _set(self, request: _web.Request, response: Response, token: str, max_age: int | None) -> None:
        secure = self.secure
        if secure is None:
            secure = request.scheme == "https" or request.host.rsplit(":", 1)[0] not in LOCAL
        response.set_cookie(
            self.cookie,
            token,
            max_age=max_age,
            path=self.path,
            domain=self.domain,
            secure=secure,
            http_only=True,
            same_site=self.same_site,
        )


def _untagged(value: dict[str, Any]) -> Any:
    """A value of Flask's tagged JSON."""
    if len(value) != 1:
        return value
    (tag, inner), *_ = value.items()
    if tag == " t":
        return tuple(inner)
    if tag == " b":
        return base64.b64decode(inner).decode("latin-1")
    if tag == " u":
        return str(uuid.UUID(inner))
    if tag == " d":
        from email.utils import parsedate_to_datetime

        moment: datetime.datetime = parsedate_to_datetime(inner)
        return moment.isoformat()
    return inner if tag in (" m", " di") else value

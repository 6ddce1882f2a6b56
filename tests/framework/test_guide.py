"""Every piece of Python in `docs/guide/app` runs, and answers as the page says: other frameworks' too.

A block begins with the imports and the `app` of its kind (`BEFORE`). The word after `python` says more:

    python              a piece of its own, for Trivet
    python more         goes on where the piece before it ended
    python flask        for another framework; has to answer what the next piece of ours answers

A comment behind a piece asks it, in order and keeping cookies:

    <!-- check
    GET /search?q=tea -> 200 tea
    POST /todos {"title": "tea"} -> 201
    POST /login name=ada -> 303 /
    -->

After the status stands text that the answer has in its body, or in its `Location` where it redirects.
"""

from __future__ import annotations

import json
import linecache
import re
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from framework import drive, ways

GUIDE = drive.ROOT / "docs" / "guide" / "app"
PEERS = ("flask", "bottle", "django", "webpy")
FORM = "application/x-www-form-urlencoded"
BEFORE = {
    "trivet": """
from __future__ import annotations
from trivet import *
app = App(secret="for the guide's pieces only, and long enough")
""",
    "flask": """
from flask import *
app = Flask(__name__)
app.secret_key = "for the guide's pieces only"
""",
    "bottle": """
from bottle import *
import bottle
bottle.app.push()
""",
    "django": """
from django.http import *
from django.shortcuts import *
from django.urls import *
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import *
""",
    "webpy": """
import web, json
""",
}


@dataclass
class Piece:
    page: str
    line: int
    kind: str
    code: str
    checks: list[str] = field(default_factory=list)
    peer: Piece | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


FENCE = re.compile(r"^```python(?: (\w+))?\n(.*?)^```$|^<!-- check\n(.*?)^-->$", re.M | re.S)


def pieces(page: Path) -> list[Piece]:
    text = page.read_text()
    found: list[Piece] = []
    peer: Piece | None = None
    for match in FENCE.finditer(text):
        word, code, checks = match.groups()
        line = text.count("\n", 0, match.start()) + 2
        if checks is not None:
            assert found, f"{page.name}: nothing to check before line {line}"
            found[-1].checks += checks.strip().splitlines()
        elif word == "more":
            found[-1].code += "\n" * (line - found[-1].line - found[-1].code.count("\n")) + code
        elif word in PEERS:
            peer = Piece(page.name, line, word, code)
        else:
            assert word is None, f"{page.name}:{line}: `{word}` means nothing"
            found.append(Piece(page.name, line, "trivet", code, peer=peer))
            peer = None
    assert peer is None, f"{page.name}: a piece of {peer} has no counterpart"
    return found


PIECES = [piece for page in sorted(GUIDE.glob("*.md")) for piece in pieces(page)]


def run(piece: Piece, folder: Path) -> Callable[..., Any]:
    """Executes a piece as a module of its own; its WSGI application."""
    name = f"guide_{piece.page.removesuffix('.md').replace('-', '_')}_{piece.line}_{piece.kind}"
    module = types.ModuleType(name)
    before = BEFORE[piece.kind].strip() + "\n"
    # The line numbers of a traceback are those of the page.
    text = "\n" * max(0, piece.line - 1 - before.count("\n")) + before + piece.code
    if "__future__" in piece.code:
        text = piece.code
    filename = str(folder / f"{name}.py")
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    module.__file__ = filename
    sys.modules[name] = module
    exec(compile(text, filename, "exec", dont_inherit=True), module.__dict__)
    return application(piece.kind, module)


def application(kind: str, module: types.ModuleType) -> Callable[..., Any]:
    if kind == "bottle":
        import bottle

        made = bottle.app.pop()
        made.catchall = True
        return made  # type: ignore[no-any-return]
    if kind == "webpy":
        import web

        web.config.debug = False
        return web.application(module.urls, module.__dict__).wsgifunc()  # type: ignore[no-any-return]
    if kind == "django":
        return django_application(module)
    return module.app  # type: ignore[no-any-return]


def django_application(module: types.ModuleType) -> Callable[..., Any]:
    import django
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import override_settings

    if not settings.configured:
        settings.configure(SECRET_KEY="for the guide's pieces only")
        django.setup()

    def call(environ: dict[str, Any], start_response: Any) -> Any:
        sessions = "django.contrib.sessions.middleware.SessionMiddleware"
        # Another test may have settings of its own in this process.
        with override_settings(
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF=module.__name__,
            SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
            MIDDLEWARE=[sessions, *getattr(module, "MIDDLEWARE", [])],
        ):
            response = WSGIHandler()(environ, start_response)
            return [b"".join(response)]

    return call


CHECK = re.compile(
    r"(?P<method>[A-Z]+) (?P<target>\S+)(?: (?P<body>.+?))? -> (?P<status>\d{3})(?: (?P<text>.+))?"
)


def check(app: Callable[..., Any], lines: list[str], who: str) -> None:
    jar: dict[str, str] = {}
    for line in lines:
        match = CHECK.fullmatch(line.strip())
        assert match, f"cannot read {line!r}"
        body = match["body"]
        options: dict[str, Any] = {"cookies": jar, "scheme": "https"}
        if body and body[0] in "{[":
            options["data"] = json.loads(body)
        elif body:
            options |= {"body": body.encode(), "fields": {"Content-Type": FORM}}
        given, data = drive.prepared(
            options.get("fields"), None, options.get("data"), options.get("body", b""), jar
        )
        environ = drive.environ_of(match["method"], match["target"], given, data)
        environ["wsgi.url_scheme"] = "https"
        answer = drive.call(app, environ, validate=False)
        assert answer.status == int(match["status"]), (
            f"{who}: {line}: {answer.status} {answer.body[:300]!r}\n{answer.log}"
        )
        if match["text"]:
            shown = (
                (answer.get("Location") or "")
                if 300 <= answer.status < 400
                else answer.body.decode("utf-8", "replace")
            )
            assert match["text"] in shown, f"{who}: {line}: {shown[:300]!r}"
        jar.update(drive.cookies_of(answer))


@pytest.fixture
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the pieces find around them."""
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "style.css").write_text("body { color: teal }\n")
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "hello.html").write_text("<h1>Hello, {{ name }}!</h1>\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIVET_DB", str(tmp_path / "guide.sqlite3"))
    return tmp_path


@pytest.mark.parametrize("piece", PIECES, ids=str)
def test_the_guides_pieces_run(piece: Piece, in_a_folder: Path) -> None:
    check(run(piece, in_a_folder), piece.checks, "trivet")


@pytest.mark.parametrize("piece", [piece for piece in PIECES if piece.peer], ids=str)
def test_the_other_frameworks_answer_the_same(piece: Piece, in_a_folder: Path) -> None:
    assert piece.peer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        check(run(piece.peer, in_a_folder), piece.checks, piece.peer.kind)


@pytest.mark.parametrize("way", ["trivet", "gunicorn", "uwsgi", "waitress", "uvicorn"])
def test_the_quickstarts_first_file_is_served_as_it_says(way: str, tmp_path: Path) -> None:
    reason = ways.missing(way)
    if reason:
        pytest.skip(reason)
    first = next(piece for piece in PIECES if piece.page == "quickstart.md")
    assert first.code.startswith("# app.py\n")
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "app.py").write_text(first.code)
    address, stop = ways.serve(way, folder, tmp_path)
    try:
        status, _, body = ways.exchange(address, "GET", "/", [("Host", "test.example")], b"")
    finally:
        stop()
    assert (status, body) == (200, b"Hello, world!")


def test_every_page_has_pieces_and_most_of_them_are_asked() -> None:
    assert {piece.page for piece in PIECES} == {page.name for page in GUIDE.glob("*.md")}
    asked = [piece for piece in PIECES if piece.checks]
    assert len(asked) >= 0.7 * len(PIECES), f"{len(asked)} of {len(PIECES)}"


def test_links_of_the_guide_lead_somewhere() -> None:
    for page in GUIDE.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"

"""A guest book: sign up, write an entry with a picture, and an admin who may hide what does not belong.

    trivet dev app:app            # while it is written: https://localhost:8443
    trivet run app:app -w 4       # for visitors
    python app.py admin ada       # makes `ada` an admin

It keeps everything in SQLite, or in the database that ``TRIVET_DB`` names, as in
``mysql://user:password@host/guestbook``.
"""

from __future__ import annotations

import os
import secrets
import sys
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from accounts import Person, check_new, check_password, folded, hashed
from pictures import NotAPicture, keep
from trivet import App, Form, NotFound, Request, Response, Session, Upload, file, is_safe_next, redirect
from trivet.db import Database, IntegrityError, migrate
from trivet.templates import Templates

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("GUESTBOOK_DATA", HERE / "data"))
PICTURES = DATA / "pictures"
ENTRIES_PER_PAGE = 10
PAGES_MAX = 1_000_000
TEXT_CHARACTERS_MAX = 1000
POLICY = "default-src 'self'; frame-ancestors 'none'; form-action 'self'"


def secret() -> str:
    """The key that signs sessions: of the environment, else one that is made once and kept."""
    given = os.environ.get("GUESTBOOK_SECRET")
    if given:
        return given
    kept = DATA / "secret"
    if not kept.exists():
        # Several workers may come here at once: the first link counts, and what it leads to is whole.
        own = DATA / f".secret-{os.getpid()}"
        with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as new:
            new.write(secrets.token_hex(32))
        with suppress(FileExistsError):
            os.link(own, kept)
        own.unlink()
    return kept.read_text()


PICTURES.mkdir(parents=True, exist_ok=True)
db = Database(os.environ.get("TRIVET_DB") or f"sqlite:///{DATA / 'guestbook.sqlite3'}")
# What is pending is applied here so that the example starts by itself; for a deployment there is
# `trivet db migrate --dir migrations/sqlite`. Several workers may come at once: one works, the others wait.
migrate.run(db, HERE / "migrations" / db.dialect)

# Every route needs a guard or says that it is for all: who forgets it finds out at the start.
app = App(secret=secret(), guard="required", body_bytes_max=6 * 1024 * 1024)
templates = Templates("templates", root=HERE)
app.static("/static", HERE / "static", max_age=3600, public=True)


# Who is there.


@app.provide(Person)
def person(session: Session) -> Person:
    """Who is signed in; handlers and interceptors that ask for a ``Person`` are for those who are."""
    found = visitor(session)
    if found is None:
        raise SignInFirst
    return found


def visitor(session: Session) -> Person | None:
    """The same, or None."""
    if "person" not in session:
        return None
    row = db.one("SELECT id, name, is_admin FROM people WHERE id = ?", session["person"])
    return None if row is None else Person(row.id, row.name, bool(row.is_admin))


class SignInFirst(Exception):
    """Nobody is signed in."""


@app.error(SignInFirst)
def sign_in_first(error: SignInFirst, req: Request) -> Response:
    return redirect("/log-in", 303, next=req.path if req.method == "GET" else "/")


@app.intercept("/admin/*", guard=True)
def admins_only(person: Person) -> Response | None:
    if person.is_admin:
        return None
    return page(
        "error.html", person, 403, heading="This page is not for you", text="Admins alone may open it."
    )


@app.intercept("/entries/*", guard=True)
def the_signed_in_only(person: Person) -> None:
    """Asking for a person is enough: without one the provider sends to the log-in."""


@app.intercept("/*")
def headers(req: Request) -> Any:
    response = yield
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Content-Security-Policy", POLICY)


# Pages.


def page(template: str, person: Person | None, status: int = 200, /, **context: Any) -> Response:
    return Response(templates.render(template, person=person, status=status, **context), status)


@app.get("/", public=True)
def index(session: Session, page: int = 1) -> Response:
    return book(visitor(session), min(max(page, 1), PAGES_MAX), notice=session.pop("notice", ""))


def book(person: Person | None, number: int = 1, *, status: int = 200, **context: Any) -> Response:
    count = db.value("SELECT COUNT(*) FROM entries WHERE hidden = 0")
    entries = db.query(
        "SELECT e.id, e.person_id, e.text, e.picture, e.created_at, p.name FROM entries e JOIN people p"
        " ON p.id = e.person_id WHERE e.hidden = 0 ORDER BY e.id DESC LIMIT ? OFFSET ?",
        ENTRIES_PER_PAGE,
        (number - 1) * ENTRIES_PER_PAGE,
    )
    pages = -(-count // ENTRIES_PER_PAGE)
    return page(
        "index.html", person, status, entries=entries, count=count, page=number, pages=pages, **context
    )


@app.post("/entries")
def write(session: Session, person: Person, text: Form[str], picture: Upload | None = None) -> Response:
    text = text.strip().replace("\r\n", "\n")
    if not text or len(text) > TEXT_CHARACTERS_MAX:
        return book(person, status=422, draft=text, error=f"write 1 to {TEXT_CHARACTERS_MAX} letters")
    name = None
    # Browsers send a file without a name where none was chosen.
    if picture is not None and picture.size:
        try:
            name = keep(picture, PICTURES)
        except NotAPicture as error:
            return book(person, status=422, draft=text, error=str(error))
    db.execute(
        "INSERT INTO entries (person_id, text, picture, created_at) VALUES (?, ?, ?, ?)",
        person.id,
        text,
        name,
        now(),
    )
    session["notice"] = "Your entry is in the book."
    return redirect("/", 303)


@app.post("/entries/{id:int}/delete")
def delete(id: int, person: Person, session: Session) -> Response:
    with db.tx():
        entry = db.one("SELECT person_id, picture FROM entries WHERE id = ?", id)
        # What is somebody else's looks as if it were not there.
        if entry is None or not (person.is_admin or entry.person_id == person.id):
            raise NotFound()
        db.execute("DELETE FROM entries WHERE id = ?", id)
    if entry.picture:
        (PICTURES / entry.picture).unlink(missing_ok=True)
    session["notice"] = "The entry is gone."
    return redirect("/", 303)


@app.get("/pictures/{name:re([0-9a-f]{32}\\.(?:png|jpg|gif|webp))}", public=True)
def picture(name: str) -> Response:
    if not db.value("SELECT COUNT(*) FROM entries WHERE picture = ? AND hidden = 0", name):
        raise NotFound()
    return file(PICTURES / name)


# Accounts.


@app.get("/sign-up", public=True)
def sign_up_page() -> Response:
    return page("account.html", None, heading="Sign up", new=True)


@app.post("/sign-up", public=True)
def sign_up(session: Session, name: Form[str], password: Form[str]) -> Response:
    name = " ".join(name.split())
    wrong, error = check_new(name, password)
    if not wrong:
        try:
            made = db.execute(
                "INSERT INTO people (name, folded, password, created_at) VALUES (?, ?, ?, ?)",
                name,
                folded(name),
                hashed(password),
                now(),
            )
            assert made.lastrowid is not None
            return welcome(session, made.lastrowid, f"Welcome, {name}!")
        except IntegrityError:
            wrong, error = "name", "this name is taken"
    return page("account.html", None, 422, heading="Sign up", new=True, name=name, wrong=wrong, error=error)


@app.get("/log-in", public=True)
def log_in_page() -> Response:
    return page("account.html", None, heading="Log in", new=False)


@app.post("/log-in", public=True)
def log_in(session: Session, name: Form[str], password: Form[str], next: str = "/") -> Response:
    row = db.one("SELECT id, name, password FROM people WHERE folded = ?", folded(name))
    # The same work for names that nobody has: time does not tell which there are.
    if not check_password(password, row.password if row else None) or row is None:
        error = "name or password is wrong"
        return page("account.html", None, 422, heading="Log in", new=False, name=name, error=error)
    return welcome(session, row.id, f"Welcome back, {row.name}!", next)


def welcome(session: Session, person_id: int, notice: str, next: str = "/") -> Response:
    session.clear()
    session.rotate()
    session["person"] = person_id
    session["notice"] = notice
    # To a page of ours and to nowhere else.
    return redirect(next if is_safe_next(next) else "/", 303)


@app.post("/log-out", public=True)
def log_out(session: Session) -> Response:
    session.clear()
    return redirect("/", 303)


# Admin.


@app.get("/admin")
def admin(person: Person) -> Response:
    entries = db.query(
        "SELECT e.id, e.text, e.picture, e.hidden, e.created_at, p.name FROM entries e JOIN people p"
        " ON p.id = e.person_id ORDER BY e.id DESC LIMIT 200"
    )
    people = db.query(
        "SELECT p.name, p.is_admin, p.created_at,"
        " (SELECT COUNT(*) FROM entries e WHERE e.person_id = p.id) AS entries"
        " FROM people p ORDER BY p.id LIMIT 200"
    )
    return page("admin.html", person, entries=entries, people=people)


@app.post("/admin/entries/{id:int}")
def hide(id: int, hidden: Form[str]) -> Response:
    if not db.value("SELECT COUNT(*) FROM entries WHERE id = ?", id):
        raise NotFound()
    db.execute("UPDATE entries SET hidden = ? WHERE id = ?", 1 if hidden == "yes" else 0, id)
    return redirect("/admin", 303)


@app.error(404)
def not_found(req: Request) -> Response:
    who = visitor(req.session)
    text = "It may have been torn out, or the address has a slip of the pen."
    return page("error.html", who, 404, heading="This page is not in the book", text=text)


# Words for templates.


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


@templates.filter
def ago(text: str) -> str:
    """How long ago a time of ``now()`` is."""
    then = datetime.fromisoformat(text).replace(tzinfo=timezone.utc)
    seconds = (datetime.now(timezone.utc) - then).total_seconds()
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        count = int(seconds // size)
        if unit == "day" and count > 6:
            return f"{then.day} {then:%B %Y}"
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


@templates.filter
def truncate(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


@templates.function
def hue(name: str) -> int:
    """A colour for a name: one of twelve."""
    return sum(map(ord, name)) * 7 % 12


def main(arguments: list[str]) -> None:
    if not arguments:
        app.run()
    elif len(arguments) == 2 and arguments[0] == "admin":
        made = db.execute("UPDATE people SET is_admin = 1 WHERE folded = ?", folded(arguments[1]))
        there = made.rowcount or db.value(
            "SELECT COUNT(*) FROM people WHERE folded = ?", folded(arguments[1])
        )
        print(f"{arguments[1]} is an admin" if there else f"nobody is called {arguments[1]}")
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])

"""The application behind `make run`: ordinary Flask, which imports nothing of Trivet's."""

import hashlib
import itertools
import json
import os
import platform
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, jsonify, render_template, request

GUESTBOOK = Path(__file__).with_name("guestbook.sqlite3")
SHOWN_MAX = 30
NAME_CHARS_MAX = 40
WORDS_CHARS_MAX = 280
STREAM_SECONDS = 300  # then the browser asks again by itself, so that no closed laptop keeps a thread
DOWNLOAD_MIB_MAX = 1024

app = Flask(__name__)
app.json.sort_keys = False  # type: ignore[attr-defined]
answered = itertools.count(1)
started = time.time()


def guestbook() -> sqlite3.Connection:
    book = sqlite3.connect(GUESTBOOK, timeout=5)
    book.execute("create table if not exists guests (id integer primary key, at real, name text, words text)")
    return book


def facts() -> dict[str, Any]:
    """What this request can tell about its own way here."""
    environ = request.environ
    return {
        "request_id": environ.get("trivet.request_id", "unknown"),
        "worker": os.getpid(),
        "thread": threading.current_thread().name,
        "answered": next(answered),
        "worker_seconds": round(time.time() - started, 1),
        "supervisor": os.getppid(),
        "protocol": environ["SERVER_PROTOCOL"],
        "server": environ.get("SERVER_SOFTWARE", "unknown"),
        "client": environ.get("REMOTE_ADDR") or "unix socket",
        "scheme": request.scheme,
        "host": request.host,
        "python": platform.python_version(),
        "flask": version("flask"),
    }


@app.get("/")
def page() -> str:
    return render_template("index.html", facts=facts(), words_max=WORDS_CHARS_MAX, name_max=NAME_CHARS_MAX)


@app.get("/facts")
def facts_as_json() -> Response:
    return jsonify(facts())


@app.get("/events")
def events() -> Response:
    """Server-sent events: a clock, and word of new guests. Every chunk leaves at once."""

    def ticks() -> Iterator[str]:
        yield "retry: 500\n\n"
        for tick in range(STREAM_SECONDS):
            with closing(guestbook()) as book:
                (guests,) = book.execute("select coalesce(max(id), 0) from guests").fetchone()
            news = {"time": time.time(), "tick": tick, "worker": os.getpid(), "guests": guests}
            yield f"data: {json.dumps(news)}\n\n"
            time.sleep(1 - time.time() % 1)

    return Response(ticks(), mimetype="text/event-stream", headers={"Cache-Control": "no-store"})


@app.get("/guests")
def guests() -> Response:
    with closing(guestbook()) as book:
        rows = book.execute(
            "select id, at, name, words from guests order by id desc limit ?", (SHOWN_MAX,)
        ).fetchall()
    return jsonify([dict(zip(("id", "at", "name", "words"), row, strict=True)) for row in rows])


@app.post("/guests")
def sign() -> tuple[Response, int]:
    entry = request.get_json()
    name = str(entry.get("name", "")).strip()[:NAME_CHARS_MAX] or "Somebody"
    words = str(entry.get("words", "")).strip()[:WORDS_CHARS_MAX]
    if not words:
        abort(400, "a guest book wants a word or two")
    with closing(guestbook()) as book, book:
        book.execute("insert into guests (at, name, words) values (?, ?, ?)", (time.time(), name, words))
    return jsonify(ok=True), 201


@app.post("/fingerprint")
def fingerprint() -> Response:
    """Hashes the body as it is read: however large the upload is, a piece of it is in memory at a time."""
    begin = time.perf_counter()
    digest = hashlib.sha256()
    size = 0
    while piece := request.stream.read(256 * 1024):
        digest.update(piece)
        size += len(piece)
    milliseconds = (time.perf_counter() - begin) * 1000
    return jsonify(
        bytes=size, sha256=digest.hexdigest(), milliseconds=round(milliseconds, 1), worker=os.getpid()
    )


@app.get("/download/<int:mib>")
def download(mib: int) -> Response:
    """A generator that nobody holds in memory, whole or in part: `curl -o /dev/null …/download/1024`."""
    if mib > DOWNLOAD_MIB_MAX:
        abort(400, f"at most {DOWNLOAD_MIB_MAX} MiB")
    block = os.urandom(64 * 1024)
    pieces = (block for _ in range(mib * 16))
    return Response(
        pieces, mimetype="application/octet-stream", headers={"Content-Length": str(mib * 1024 * 1024)}
    )


@app.get("/nap/<float(max=60):seconds>")
@app.get("/nap/<int(max=60):seconds>")
def nap(seconds: float) -> Response:
    time.sleep(seconds)
    return jsonify(slept=seconds, worker=os.getpid())


@app.get("/boom")
def boom() -> str:
    raise RuntimeError("you asked for it")

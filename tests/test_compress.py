"""Compression on the way out (`compress`), and files that an app has the server send."""

import gzip
import hashlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Serve
from support.http import Cut, Response
from support.poll import until
from support.server import SiteServer

TEXT = b"all work and no play makes a dull page\n"
CONFIG = """
[app.a]
wsgi = "compressed_app:app"
folder = "${{APPS}}"
venv = "${{VENV}}"
threads = 4
env = {{ LARGE = "{place}/public/large.txt" }}
[site.main]
listen = ["http://127.0.0.1:${{P0}}"]
compress = ["gzip"]
route = [
  {{ path = "/static/*", static = "public" }},
  {{ path = "/internal/*", static = "private", internal = true }},
  {{ path = "/plain/*", app = "a", mount = true, compress = false }},
  {{ path = "/*", app = "a" }},
]
"""


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="trivet-compress-", dir="/var/tmp"))
    folder.chmod(0o755)
    (folder / "public").mkdir()
    (folder / "private").mkdir()
    (folder / "public" / "page.txt").write_bytes(TEXT * 100)
    (folder / "public" / "tiny.txt").write_bytes(b"tiny")
    (folder / "public" / "large.txt").write_bytes(TEXT * 30_000)
    (folder / "private" / "report.bin").write_bytes(bytes(range(256)) * 400)
    (folder / "private" / "note.txt").write_bytes(TEXT)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def server(serve: Serve, place: Path) -> SiteServer:
    server = serve(CONFIG.format(place=place))
    until(lambda: server.ask("/json").status == 200, 20, "the app is there")
    return server


def squeezed(server: SiteServer, target: str, **fields: str) -> Response:
    return server.ask(target, fields={"Accept-Encoding": "gzip", **fields})


def test_an_answer_is_compressed_and_says_so(server: SiteServer) -> None:
    answer = squeezed(server, "/json")
    assert answer.get("content-encoding") == "gzip"
    assert answer.get("etag") == '"v1-gzip"', "each form has a tag of its own"
    assert "accept-encoding" in (answer.get("vary") or "").lower()
    assert gzip.decompress(answer.body) == b'["' + b"x" * 5000 + b'"]'
    assert len(answer.body) < 200
    plain = server.ask("/json")
    assert plain.get("content-encoding") is None
    assert plain.get("etag") == '"v1"'
    assert "accept-encoding" in (plain.get("vary") or "").lower(), "caches must know of the other form"


def test_who_has_the_compressed_form_is_told_that_it_is_still_good(server: SiteServer) -> None:
    tag = squeezed(server, "/known").get("etag")
    assert tag == '"v1-gzip"'
    again = squeezed(server, "/known", **{"If-None-Match": tag})
    assert (again.status, again.get("etag")) == (304, tag)
    assert squeezed(server, "/known", **{"If-None-Match": '"v2-gzip"'}).status == 200


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/as/image/png", "a picture is compressed already"),
        ("/as/text/plain|Content-Encoding=br", "the app has compressed it"),
        ("/as/text/plain|Cache-Control=private, no-transform", "the app forbids it"),
        ("/plain/json", "the route says so"),
    ],
)
def test_some_answers_stay_as_they_are(server: SiteServer, target: str, why: str) -> None:
    answer = squeezed(server, target.replace(" ", "%20"))
    assert answer.get("content-encoding") in (None, "br"), why
    assert len(answer.body) > 4999


def test_only_codings_that_both_sides_want_are_used(server: SiteServer) -> None:
    for accepted in "br, zstd", "gzip;q=0", "identity", "*;q=0":
        answer = server.ask("/json", fields={"Accept-Encoding": accepted})
        assert answer.get("content-encoding") is None, accepted
    assert server.ask("/json", fields={"Accept-Encoding": "*"}).get("content-encoding") == "gzip"


def test_events_arrive_when_they_happen(server: SiteServer) -> None:
    import zlib

    decoder = zlib.decompressobj(31)
    times = []
    with server.connect() as connection:
        connection.send(b"GET /events HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
        connection.read_head()
        text = b""
        for piece in iter(connection.read_chunk, b""):
            text += decoder.decompress(piece)
            times.append(time.monotonic())
            if text.count(b"data:") == 2 and len(times) < 4:
                assert time.monotonic() - times[0] < 0.55, "the second one did not wait for the third"
    assert text == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_large_answers_and_files_arrive_whole(server: SiteServer, place: Path) -> None:
    large = hashlib.sha256(b"".join(b"%09d\n" % n * 100 for n in range(20_000))).hexdigest()
    answer = squeezed(server, "/large")
    assert answer.get("content-length") is None
    assert hashlib.sha256(gzip.decompress(answer.body)).hexdigest() == large
    answer = squeezed(server, "/file")
    assert answer.get("content-encoding") == "gzip"
    assert gzip.decompress(answer.body) == (place / "public/large.txt").read_bytes()


def test_a_slow_reader_of_a_compressed_answer_holds_no_memory(server: SiteServer) -> None:
    with server.connect(receive_buffer=4096) as connection:
        connection.send(b"GET /large HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
        connection.read_head()
        for _ in range(20):
            assert squeezed(server, "/json").status == 200
        body = b"".join(iter(connection.read_chunk, b""))
    assert len(gzip.decompress(body)) == 20_000_000


@pytest.mark.parametrize("target", ["/short", "/breaks"])
def test_a_part_is_never_passed_off_as_the_whole(server: SiteServer, target: str) -> None:
    with pytest.raises(Cut):
        squeezed(server, target)
    assert squeezed(server, "/json").status == 200


def test_a_worker_that_dies_in_mid_answer_is_no_end(server: SiteServer) -> None:
    with server.connect() as connection:
        connection.send(b"GET /events HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
        connection.read_head()
        connection.read_chunk()
        os.kill(server.workers()[0], signal.SIGKILL)
        with pytest.raises((Cut, ConnectionError)):
            list(iter(connection.read_chunk, b""))
    until(lambda: squeezed(server, "/json").status == 200, 10, "it goes on")


def test_a_file_is_compressed_for_those_who_ask_next(server: SiteServer, place: Path) -> None:
    assert squeezed(server, "/static/page.txt").body, "nobody waits for it"
    until(
        lambda: squeezed(server, "/static/page.txt").get("content-encoding") == "gzip", 5, "it is compressed"
    )
    answer = squeezed(server, "/static/page.txt")
    assert gzip.decompress(answer.body) == TEXT * 100
    assert answer.get("content-length") == str(len(answer.body))
    plain = server.ask("/static/page.txt")
    assert plain.get("etag") != answer.get("etag")
    assert squeezed(server, "/static/page.txt", **{"If-None-Match": answer.get("etag") or ""}).status == 304
    assert squeezed(server, "/static/tiny.txt").get("content-encoding") is None
    kept_since = time.monotonic()
    until(lambda: time.monotonic() > kept_since + 1.2, 5, "what is kept is compared with the disk")
    assert squeezed(server, "/static/page.txt").get("content-encoding") == "gzip", "it is not made anew"
    beside = place / "public/new"
    beside.write_bytes(TEXT * 7)
    beside.rename(place / "public/page.txt")

    def renewed() -> bool:
        answer = squeezed(server, "/static/page.txt")
        body = answer.body
        if answer.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        assert body in (TEXT * 100, TEXT * 7)
        return body == TEXT * 7

    until(renewed, 5, "the file is the new one")


# Files that an app has the server send.


def test_an_app_sends_to_a_file(server: SiteServer, place: Path) -> None:
    answer = server.ask("/send//internal/report.bin")
    assert (answer.status, answer.body) == (200, (place / "private/report.bin").read_bytes())
    assert answer.get("content-type") == "application/x-report"
    assert answer.get("content-disposition") == "attachment; filename=report"
    assert answer.get("set-cookie") == "seen=1"
    assert answer.get("x-other") is None
    assert answer.get("x-accel-redirect") is None
    part = server.ask("/send//internal/report.bin", fields={"Range": "bytes=256-259"})
    assert (part.status, part.body) == (206, b"\0\1\2\3")
    fresh = server.ask("/send//internal/report.bin", fields={"If-None-Match": answer.get("etag") or ""})
    assert fresh.status == 304
    head = server.ask("/send//internal/report.bin", method="HEAD")
    assert head.get("content-length") == str(256 * 400)


def test_an_app_names_the_file_itself(server: SiteServer, place: Path) -> None:
    answer = server.ask(f"/send/{place}/private/note.txt?X-Sendfile")
    assert (answer.status, answer.body) == (200, TEXT)


@pytest.mark.parametrize(
    "target",
    [
        "/send//internal/../public/page.txt",
        "/send//internal/%252e%252e/public/page.txt",
        "/send//internal/nothing",
        "/send//internal/",
        "/send//static/page.txt",
        "/send//etc/passwd?X-Sendfile",
        "/send/{place}/private/../public/page.txt?X-Sendfile",
        "/send/{place}/privately?X-Sendfile",
        "/send/{place}/public/page.txt?X-Sendfile",
    ],
)
def test_an_app_sends_to_no_other_file(server: SiteServer, place: Path, target: str) -> None:
    with server.connect() as connection:
        connection.send(f"GET {target.format(place=place)} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert connection.read().status == 404


def test_nobody_else_is_sent_there(server: SiteServer) -> None:
    assert server.ask("/internal/report.bin").status == 404


def test_an_app_that_goes_on_after_it_sent_away_is_stopped(server: SiteServer, place: Path) -> None:
    for _ in range(10):
        answer = server.ask("/send-and-go-on")
        assert answer.body == (place / "private/report.bin").read_bytes()
    assert server.ask("/json").status == 200

"""Files of folders, served by the edge (`--static`)."""

import gzip
import os
import pwd
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from conftest import Start
from support import procs
from support.http import Response, request
from support.poll import until
from support.server import Server, run

CSS = b"body { color: teal }\n" * 40
LARGE = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def folder() -> Iterator[Path]:
    # Started by root, the edge runs under an account of its own: not below pytest's private folder.
    outer = Path(tempfile.mkdtemp(prefix="trivet-static-", dir="/var/tmp"))
    outer.chmod(0o755)
    try:
        yield filled(outer)
    finally:
        shutil.rmtree(outer)


def filled(outer: Path) -> Path:
    public = outer / "public"
    (public / "docs").mkdir(parents=True)
    (public / ".well-known").mkdir()
    (public / ".git").mkdir()
    (public / "site.css").write_bytes(CSS)
    (public / "site.css.gz").write_bytes(gzip.compress(CSS))
    (public / "large.bin").write_bytes(LARGE)
    (public / "empty.txt").write_bytes(b"")
    (public / "app.55e7cbb9ba48.js").write_bytes(b"1")
    (public / "café latte.txt").write_bytes(b"cup")
    (public / "docs" / "index.html").write_bytes(b"<h1>docs</h1>")
    (public / ".well-known" / "security.txt").write_bytes(b"mail us")
    (public / ".git" / "config").write_bytes(b"TOP SECRET")
    (public / ".env").write_bytes(b"TOP SECRET")
    (outer / "secret").write_bytes(b"TOP SECRET")
    (public / "out").symlink_to(outer / "secret")
    return public


@pytest.fixture
def server(start: Start, folder: Path) -> Server:
    return start("echo", "--static", f"/static={folder}")


def get(server: Server, target: str, fields: dict[str, str] | None = None, method: str = "GET") -> Response:
    with server.connect() as connection:
        connection.send(request(method, target, fields or {}))
        return connection.read(method)


def test_a_file_comes_with_its_type_length_tag_and_date(server: Server, folder: Path) -> None:
    answer = get(server, "/static/site.css")
    assert (answer.status, answer.body) == (200, CSS)
    assert answer.get("content-type") == "text/css; charset=utf-8"
    assert answer.get("content-length") == str(len(CSS))
    assert answer.get("accept-ranges") == "bytes"
    assert answer.get("vary") == "Accept-Encoding"
    assert answer.get("x-content-type-options") == "nosniff"
    assert answer.get("last-modified") == formatdate((folder / "site.css").stat().st_mtime, usegmt=True)
    assert answer.get("x-request-id")
    head = get(server, "/static/site.css", method="HEAD")
    assert (head.status, head.body, head.get("content-length")) == (200, b"", str(len(CSS)))
    assert get(server, "/static/empty.txt").body == b""
    assert get(server, "/static/large.bin").body == LARGE
    assert get(server, "/static/caf%C3%A9%20latte.txt").body == b"cup"
    assert "immutable" in (get(server, "/static/app.55e7cbb9ba48.js").get("cache-control") or "")
    assert get(server, "/static/site.css").get("cache-control") is None


def test_the_app_gets_what_is_elsewhere(server: Server) -> None:
    for target in "/", "/statics/site.css", "/Static/site.css":
        answer = get(server, target)
        assert answer.status == 200
        assert answer.body != CSS


def test_a_compressed_file_beside_it_is_sent_to_who_takes_it(server: Server, folder: Path) -> None:
    plain = get(server, "/static/site.css")
    packed = get(server, "/static/site.css", {"Accept-Encoding": "br, gzip"})
    assert packed.get("content-encoding") == "gzip"
    assert gzip.decompress(packed.body) == CSS
    assert packed.get("content-type") == "text/css; charset=utf-8"
    assert packed.get("etag") != plain.get("etag")
    assert get(server, "/static/site.css", {"Accept-Encoding": "gzip;q=0"}).body == CSS
    again = {"Accept-Encoding": "gzip", "If-None-Match": packed.get("etag") or ""}
    assert get(server, "/static/site.css", again).status == 304
    # An old one is of an old original.
    os.utime(folder / "site.css.gz", (1, 1))
    time.sleep(1.1)
    assert get(server, "/static/site.css", {"Accept-Encoding": "gzip"}).body == CSS


def test_conditions(server: Server) -> None:
    first = get(server, "/static/site.css")
    etag, date = first.get("etag") or "", first.get("last-modified") or ""
    for fields, status in [
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": f'"x", W/{etag}'}, 304),
        ({"If-None-Match": '"x"', "If-Modified-Since": date}, 200),
        ({"If-Modified-Since": date}, 304),
        ({"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200),
        ({"If-Match": etag}, 200),
        ({"If-Match": '"x"'}, 412),
        ({"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 412),
    ]:
        answer = get(server, "/static/site.css", fields)
        assert answer.status == status, fields
        if status == 304:
            assert (answer.body, answer.get("etag"), answer.get("content-length")) == (b"", etag, None)
            assert answer.get("vary") == "Accept-Encoding"


@pytest.mark.parametrize("name", ["site.css", "large.bin"])
def test_ranges(server: Server, name: str) -> None:
    whole = CSS if name == "site.css" else LARGE
    size = len(whole)
    for value, part in [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=5-9", slice(5, 10)),
        (f"bytes={size - 3}-", slice(size - 3, size)),
        ("bytes=-4", slice(size - 4, size)),
        (f"bytes=10-{size * 2}", slice(10, size)),
    ]:
        answer = get(server, f"/static/{name}", {"Range": value})
        assert (answer.status, answer.body) == (206, whole[part]), value
        assert answer.get("content-range") == f"bytes {part.start}-{part.stop - 1}/{size}"
    head = get(server, f"/static/{name}", {"Range": "bytes=0-0"}, "HEAD")
    assert (head.status, head.get("content-length")) == (200, str(size)), "ranges are for GET"
    over = get(server, f"/static/{name}", {"Range": f"bytes={size}-"})
    assert (over.status, over.get("content-range")) == (416, f"bytes */{size}")
    for value in "bytes=0-5,3-9", "bytes=9-1", "lines=1-2", ",".join(["bytes=0-"] + ["0-"] * 1000):
        answer = get(server, f"/static/{name}", {"Range": value})
        assert (answer.status, answer.body) == (200, whole), "never more than the whole"
    assert get(server, f"/static/{name}", {"Range": "bytes=0-0", "If-Range": '"x"'}).status == 200
    several = get(server, f"/static/{name}", {"Range": "bytes=0-1,4-6"})
    kind, _, boundary = (several.get("content-type") or "").partition("; boundary=")
    assert (several.status, kind) == (206, "multipart/byteranges")
    parts = several.body.split(b"--" + boundary.encode())
    assert [p.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for p in parts[1:-1]] == [
        whole[0:2],
        whole[4:7],
    ]
    assert parts[-1] == b"--\r\n"


@pytest.mark.parametrize(
    "target",
    [
        "/static/out",
        "/static/../secret",
        "/static/%2e%2e/secret",
        "/static/docs/../../secret",
        "/static/.env",
        "/static/.git/config",
        "/static/docs/.hidden",
        "/static/..;/secret",
        "/static//etc/passwd",
        "/static/nothing",
        "/static/site.css/",
        "/static/site.css/x",
        "/static/docs/nothing/",
        "/static/" + "a" * 300,
        "/static/" + "a/" * 2000,
    ],
)
def test_what_is_not_there_or_nobodys_business(server: Server, target: str) -> None:
    answer = get(server, target)
    assert b"TOP SECRET" not in answer.body
    if target.startswith("/static/../") or "%2e" in target or "/../../" in target:
        assert answer.status == 200, "it means another path, which is the app's"
    else:
        assert answer.status == 404


@pytest.mark.parametrize(
    "target", ["/static/a%2Fb", "/static/..%2fsecret", "/static/..%5csecret", "/static/%zz", "/static/%ff"]
)
def test_spellings_that_two_readers_may_read_in_two_ways_are_refused(server: Server, target: str) -> None:
    assert get(server, target).status == 400


def test_one_path_has_many_honest_spellings(server: Server) -> None:
    for target in (
        "/static/%73ite.css",
        "//static//site.css",
        "/x/../static/./site.css",
        "/static/site.css?v=2",
    ):
        assert get(server, target).body == CSS, target
    assert get(server, "/static/.well-known/security.txt").body == b"mail us"


def test_a_folder_is_its_index_and_gets_its_slash(server: Server) -> None:
    assert get(server, "/static/docs/").body == b"<h1>docs</h1>"
    moved = get(server, "/static/docs?a=b")
    assert (moved.status, moved.get("location")) == (308, "/static/docs/?a=b")
    assert get(server, "/static").get("location") == "/static/"
    assert get(server, "/static/").status == 404, "no index, and no list of what is there"


def test_a_redirect_never_names_another_host(start: Start, folder: Path) -> None:
    (folder / "evil.example").mkdir()
    (folder / "evil.example" / "index.html").write_bytes(b"start")
    server = start("echo", "--static", f"/={folder}")
    for target in "//evil.example", "/%2e/evil.example", "///evil.example":
        assert get(server, target).get("location") == "/evil.example/", target
    moved = get(server, "/evil.example?%0d%0aSet-Cookie:x=1")
    assert (moved.get("location"), moved.get("set-cookie")) == ("/evil.example/?%0d%0aSet-Cookie:x=1", None)


def test_only_get_and_head(server: Server) -> None:
    for method in "POST", "PUT", "DELETE", "OPTIONS", "get":
        answer = get(server, "/static/site.css", method=method)
        assert (answer.status, answer.get("allow")) == (405, "GET, HEAD")
    with server.connect() as connection:
        connection.send(request("POST", "/static/site.css", {"Content-Length": "1000000"}) + b"x" * 1000)
        answer = connection.read()
        assert (answer.status, answer.says_close) == (405, True)


def test_with_the_root_as_path_the_app_gets_the_rest(start: Start, folder: Path) -> None:
    server = start("echo", "--static", f"/={folder}", "--static", f"/deep/er={folder / 'docs'}")
    assert get(server, "/site.css").body == CSS
    assert get(server, "/deep/er/").body == b"<h1>docs</h1>"
    for target, method in (
        ("/", "GET"),
        ("/nothing", "GET"),
        ("/site.css", "POST"),
        ("/.env", "GET"),
        ("/%ff", "GET"),
    ):
        answer = get(server, target, method=method)
        assert answer.status == 200, target
        assert answer.body not in (CSS, b"TOP SECRET")
    assert get(server, "/deep/er/nothing").status == 404
    (folder / "orders").mkdir()
    assert get(server, "/orders").status == 200, "a folder without an index is no answer"
    assert get(server, "/docs").status == 308
    assert get(server, "/search/a%2Fb").status == 200, "not under a prefix of ours"


def test_files_go_on_while_every_worker_is_busy(start: Start, folder: Path) -> None:
    server = start("hang", "--static", f"/static={folder}")
    with server.connect() as busy:
        busy.send(request("GET", "/hang", {}))
        time.sleep(0.1)
        begun = time.monotonic()
        assert get(server, "/static/site.css").body == CSS
        assert time.monotonic() - begun < 1


def test_a_file_that_is_replaced_is_wholly_old_or_wholly_new(server: Server, folder: Path) -> None:
    """Small ones from memory, large ones by sendfile: each body is of one version, with that one's tag."""
    ended = threading.Event()

    def replace() -> None:
        n = 0
        while not ended.wait(0.005):
            n += 1
            for name, size in ("small", 2_000), ("large", 400_000):
                new = folder / f"{name}.new"
                new.write_bytes(bytes([n % 256]) * (size + n))
                new.rename(folder / name)

    (folder / "small").write_bytes(b"\0" * 2_000)
    (folder / "large").write_bytes(b"\0" * 400_000)
    thread = threading.Thread(target=replace)
    thread.start()
    try:
        tags: dict[str, bytes] = {}
        until = time.monotonic() + 4
        with server.connect() as connection:
            while time.monotonic() < until:
                for name in "small", "large":
                    answer = connection.request("GET", f"/static/{name}")
                    assert answer.status == 200
                    assert len(set(answer.body)) == 1, "two versions in one body"
                    etag = f"{name} {answer.get('etag')}"
                    assert tags.setdefault(etag, answer.body) == answer.body, "one tag, two bodies"
    finally:
        ended.set()
        thread.join()
    assert len(tags) > 4, "changes are seen"


def test_a_file_cut_short_while_it_is_sent_cuts_the_connection(server: Server, folder: Path) -> None:
    big = folder / "big"
    with big.open("wb") as out:
        out.truncate(64 << 20)
    edge = server.edge()
    with server.connect(receive_buffer=4096) as connection:
        connection.send(request("GET", "/static/big", {}))
        head = connection.read_head()
        assert head.get("content-length") == str(64 << 20)
        os.truncate(big, 1 << 20)
        assert len(connection.rest()) < 64 << 20
    assert server.edge() == edge
    assert get(server, "/static/site.css").body == CSS


def test_descriptors_and_memory_stay_bounded(server: Server, folder: Path) -> None:
    for n in range(3_000):
        (folder / f"n{n}").write_bytes(b"x" * 70_000 if n % 2 else b"x" * 1000)
    edge = server.edge()
    with server.connect() as connection:
        for n in range(3_000):
            assert connection.request("GET", f"/static/n{n}").status == 200
    assert procs.descriptors(edge) < 2_200
    assert procs.memory_bytes(edge) < 64 << 20


def test_a_wrong_folder_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for value, words in [
        ("/static=nowhere", "cannot find the folder"),
        ("/static=file", "this is a file, not a folder"),
        ("static=.", "write a path and a folder, as `/static=public`"),
        ("/static", "write a path and a folder, as `/static=public`"),
        ("/a//b=.", "the path must be plain"),
        ("/a/../b=.", "the path must be plain"),
    ]:
        done = run("run", "echo", "--static", value, cwd=tmp_path)
        assert done.code in (64, 78), value
        assert words in done.err, value
    twice = run("run", "echo", "--static", "/a=.", "--static", "/a/=.", cwd=tmp_path)
    assert "two folders for `/a`" in twice.err


def test_the_static_root_of_a_real_django_is_found(start: Start, folder: Path) -> None:
    project = folder.parent / "project"
    project.mkdir()
    (project / "settings.py").write_text(
        "import os\nROOT_URLCONF = __name__\nurlpatterns = []\nALLOWED_HOSTS = ['*']\n"
        "STATIC_ROOT = os.environ['FILES'] or None\n"
    )
    (project / "wsgi.py").write_text(
        "import os\nfrom django.core.wsgi import get_wsgi_application\n"
        "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'project.settings')\n"
        "application = get_wsgi_application()\n"
    )
    flags = ("project.wsgi:application", "--static", "/static=django")
    server = start(*flags, "--env", f"FILES={folder}", chdir=folder.parent)
    assert get(server, "/static/site.css").body == CSS
    assert get(server, "/nothing").status == 404
    assert f"files of `{folder}` at /static" in server.log()
    for files, why in [
        ("", "STATIC_ROOT is not set"),
        (str(folder / "none"), f"is not there: `{folder / 'none'}`"),
    ]:
        venv = ("--venv", sys.prefix)
        done = run("run", *flags, *venv, "--env", f"FILES={files}", cwd=folder.parent)
        assert done.code == 78, done
        assert why in done.err
        assert "(`--static /static=django`)\nhint: " in done.err
    # It is a word, not a name of a folder.
    (folder.parent / "django").mkdir()
    done = run("run", "echo", "--static", "/static=django", "--venv", sys.prefix, cwd=folder.parent)
    assert (done.code, "STATIC_ROOT of `echo`" in done.err) == (78, True), done


def test_what_the_edge_may_not_read_is_404_and_told(start: Start, folder: Path) -> None:
    server = start("echo", "--static", f"/static={folder}")
    closed = folder / "closed"
    closed.mkdir()
    for name in "a.txt", "b.txt":
        (folder / name).write_text(name)
        (folder / name).chmod(0)
        (closed / name).write_text(name)
    closed.chmod(0)
    try:
        for _ in range(2):
            for name in "a.txt", "b.txt", "closed/a.txt", "closed/b.txt", "closed/", "none.txt":
                assert get(server, f"/static/{name}").status == 404, name
        log = server.wait_for_log("a folder of static files cannot be read and is 404")
    finally:
        closed.chmod(0o755)
    # Once of a file, once of a folder, whatever is asked for.
    lines = [line for line in log.splitlines() if "static file" in line and "cannot be read" in line]
    assert len(lines) == 2, lines
    assert f"{folder}/a.txt" in lines[0]
    assert f"{folder}/closed/a.txt" in lines[1]
    account = pwd.getpwuid(Path(f"/proc/{server.edge()}").stat().st_uid).pw_name
    assert all(f"`{account}`" in line for line in lines), lines
    (folder / "a.txt").chmod(0o644)
    until(lambda: get(server, "/static/a.txt").status == 200, 5, "it is there as soon as it can be read")

"""`examples/guestbook`, in process: WSGI under the validator, and ASGI; on SQLite, and on MariaDB."""

from __future__ import annotations

import base64
import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import mariadb
from trivet.testing import Client, Response

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "guestbook"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PASSWORD = "a long enough one"


@pytest.fixture(scope="module", params=["wsgi", "asgi", "mariadb"])
def book(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The example's module, with data of its own; `book.interface` is what its clients speak."""
    if request.param == "mariadb":
        if shutil.which("mariadbd") is None:
            pytest.skip("no MariaDB server on this machine")
        with mariadb.running() as server:
            yield from loaded("wsgi", tmp_path_factory, server.url("pool=2"))
    else:
        yield from loaded(request.param, tmp_path_factory, None)


def loaded(interface: str, tmp_path_factory: pytest.TempPathFactory, database: str | None) -> Iterator[Any]:
    patch = pytest.MonkeyPatch()
    patch.setenv("GUESTBOOK_DATA", str(tmp_path_factory.mktemp("data")))
    if database is None:
        patch.delenv("TRIVET_DB", raising=False)
    else:
        patch.setenv("TRIVET_DB", database)
    patch.delenv("TRIVET_DEV", raising=False)
    patch.syspath_prepend(str(FOLDER))
    for name in ("accounts", "pictures"):
        patch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location("guestbook_app", FOLDER / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    module.interface = interface  # type: ignore[attr-defined]
    yield module
    module.db.close()
    patch.undo()


@pytest.fixture
def client(book: Any) -> Iterator[Client]:
    with new(book) as client:
        yield client


def new(book: Any) -> Client:
    return Client(book.app, validate=book.interface == "wsgi", interface=book.interface)


def sign_up(client: Client, name: str) -> Response:
    return client.post("/sign-up", form={"name": name, "password": PASSWORD}, follow=True)


def entries(response: Response) -> list[str]:
    return re.findall(r'<li class="card entry" id="entry-(\d+)">', response.text)


def test_a_stranger_reads_and_cannot_write(client: Client) -> None:
    page = client.get("/")
    assert page.status == 200
    assert "You were here." in page.text
    assert "<form" not in page.text
    answer = client.post("/entries", form={"text": "hello"})
    assert (answer.status, answer.headers["location"]) == (303, "/log-in?next=%2F")
    assert client.get("/static/guestbook.css").headers["content-type"].startswith("text/css")
    assert page.headers["x-content-type-options"] == "nosniff"


def test_somebody_signs_up_writes_and_deletes(client: Client) -> None:
    page = sign_up(client, "Ada")
    assert "Welcome, Ada!" in page.text
    assert "Welcome, Ada!" not in client.get("/").text, "said once"
    page = client.post("/entries", form={"text": "<b>one\r\ntwo"}, files={"picture": ("", b"")}, follow=True)
    assert "Your entry is in the book." in page.text
    assert "&lt;b&gt;one\ntwo" in page.text
    number = entries(page)[0]
    with new(book_of(client)) as other:
        sign_up(other, "Brigitte")
        assert other.post(f"/entries/{number}/delete").status == 404
    page = client.post(f"/entries/{number}/delete", follow=True)
    assert "The entry is gone." in page.text
    assert number not in entries(page)


def book_of(client: Client) -> Any:
    module: Any = sys.modules["guestbook_app"]
    return module


@pytest.mark.parametrize(
    ("name", "password", "error"),
    [
        ("x", PASSWORD, "2 to 40 letters"),
        ("x" * 41, PASSWORD, "2 to 40 letters"),
        ("Zoe", "short", "10 characters"),
        ("Long Enough", "LONG  enough", "your name"),
        ("ADA", PASSWORD, "is taken"),
    ],
)
def test_what_cannot_be_an_account_is_told(
    book: Any, client: Client, name: str, password: str, error: str
) -> None:
    with new(book) as ada:
        sign_up(ada, "Ada")
    answer = client.post("/sign-up", form={"name": name, "password": password})
    assert answer.status == 422
    assert error in answer.text
    assert password not in answer.text


def test_signing_in_and_out(book: Any, client: Client) -> None:
    with new(book) as other:
        sign_up(other, "Grace")
    for name, password in [("Grace", "not the password"), ("nobody at all", PASSWORD)]:
        answer = client.post("/log-in", form={"name": name, "password": password})
        assert answer.status == 422
        assert "name or password is wrong" in answer.text
    answer = client.post("/log-in?next=/admin", form={"name": " grace ", "password": PASSWORD})
    assert answer.headers["location"] == "/admin"
    assert "Grace" in client.get("/").text
    client.post("/log-out")
    assert "Log in" in client.get("/").text
    for evil in ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"]:
        form = {"name": "Grace", "password": PASSWORD}
        target = client.post("/log-in", query={"next": evil}, form=form).headers["location"]
        assert re.match(r"/(?![/\\])", target), target


def test_pictures_are_pictures(client: Client) -> None:
    sign_up(client, "Paula")
    for content in (b"<svg onload=alert(1)>", b"GIF", b"\x89PNG\r\n\x1a\n" + b"x" * (5 * 2**20)):
        answer = client.post("/entries", form={"text": "look"}, files={"picture": ("a.png", content)})
        assert answer.status == 422
        assert "a picture" in answer.text
        assert ">look</textarea>" in answer.text, "what was written is not lost"
    page = client.post(
        "/entries", form={"text": "look"}, files={"picture": ("../../a.png", PNG)}, follow=True
    )
    found = re.search(r'src="(/pictures/[0-9a-f]{32}\.png)"', page.text)
    assert found is not None
    answer = client.get(found[1])
    assert (answer.data, answer.headers["content-type"]) == (PNG, "image/png")
    client.post(f"/entries/{entries(page)[0]}/delete")
    assert client.get(found[1]).status == 404
    assert client.get("/pictures/..%2Fsecret").status == 404


def test_a_body_that_is_too_large_is_refused(client: Client) -> None:
    sign_up(client, "Paula B")
    assert client.post("/entries", form={"text": "x"}, files={"picture": b"x" * (7 * 2**20)}).status == 413


def test_the_admin_is_refused_and_then_let_in(
    book: Any, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    assert client.get("/admin").headers["location"] == "/log-in?next=%2Fadmin"
    sign_up(client, "Root")
    page = client.post(
        "/entries", form={"text": "to be hidden"}, files={"picture": ("a.png", PNG)}, follow=True
    )
    number = entries(page)[0]
    picture = re.search(r'src="(/pictures/[^"]+)"', page.text)
    assert picture is not None
    for spelling in [
        "/admin",
        "/admin/",
        "/admin/none",
        "/admin/entries/1",
        "//admin",
        "/./admin",
        "/admin%2f",
    ]:
        for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT"):
            answer = client.request(method, spelling)
            assert answer.status in (403, 404), (method, spelling, answer.status)
            assert "<h1>Admin</h1>" not in answer.text
    book.main(["admin", "ROOT"])
    assert "is an admin" in capsys.readouterr().out
    assert "<h1>Admin</h1>" in client.get("/admin").text
    page = client.post(f"/admin/entries/{number}", form={"hidden": "yes"}, follow=True)
    assert 'class="hidden"' in page.text
    with new(book) as other:
        assert number not in entries(other.get("/"))
        assert other.get(picture[1]).status == 404
    page = client.post(f"/admin/entries/{number}", form={"hidden": "no"}, follow=True)
    assert 'class="hidden"' not in page.text


def test_other_sites_cannot_send(client: Client) -> None:
    sign_up(client, "Victim")
    for fields in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        assert client.post("/entries", form={"text": "x"}, headers=fields).status == 403


def test_pages_of_many_entries(client: Client) -> None:
    sign_up(client, "Writer")
    for number in range(12):
        client.post("/entries", form={"text": f"entry {number}"})
    first, second = client.get("/"), client.get("/?page=2")
    assert len(entries(first)) == 10
    assert set(entries(first)).isdisjoint(entries(second))
    assert 'rel="next"' in first.text
    assert 'rel="prev"' in second.text
    assert client.get("/?page=x").status == 400
    assert client.get("/?page=-5").status == 200


def test_what_is_not_there_has_a_page_of_ours(client: Client) -> None:
    answer = client.get("/nowhere")
    assert answer.status == 404
    assert "not in the book" in answer.text


def test_no_route_is_without_a_guard_by_accident(book: Any) -> None:
    assert book.app.unguarded() == []
    guarded = {route.template for route in book.app.routes() if not route.public}
    assert guarded == {"/admin", "/admin/entries/{id:int}", "/entries", "/entries/{id:int}/delete"}


def test_text_that_is_too_long_or_empty_is_refused(client: Client) -> None:
    sign_up(client, "Poet")
    for text in ("", "   ", "x" * 1001):
        answer = client.post("/entries", form={"text": text})
        assert answer.status == 422
        assert "write 1 to 1000 letters" in answer.text

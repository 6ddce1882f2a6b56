"""What an App has around it: templates beside its module, its document, the error page."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
from trivet import App
from trivet.templates import Templates
from trivet.testing import Client


def module_in(folder: Path, text: str) -> Any:
    (folder / "shop.py").write_text(text)
    spec = importlib.util.spec_from_file_location("shop_around", folder / "shop.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("engine", ["minijinja", "jinja2"])
def test_templates_lie_beside_the_module(tmp_path: Path, engine: str) -> None:
    if engine == "jinja2":
        pytest.importorskip("jinja2")
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/page.html").write_text(
        "<a href=\"{{ url_for('user', id=3, q='a b') }}\">{{ name|shout }}</a>"
    )
    app = module_in(
        tmp_path, f"from trivet import App\napp = App(templates='templates', engine={engine!r})\n"
    ).app
    app.templates.filter(str.upper, "shout")

    @app.get("/users/{id:int}")
    def user(id: int) -> str:
        return str(app.render("page.html", name="<ada>"))

    client = Client(app, validate=True)
    assert client.get("/users/1").text == '<a href="/users/3?q=a+b">&lt;ADA&gt;</a>'


def test_templates_that_are_made_are_taken(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("a")
    templates = Templates(tmp_path)
    assert App(templates=templates).templates is templates
    with pytest.raises(RuntimeError, match="no templates"):
        App().render("a.html")


def test_an_app_tells_its_document() -> None:
    app = App()

    @app.get("/a")
    def a() -> str:
        return ""

    document = app.openapi(title="T", version="2", servers=["https://a.example"])
    assert document["info"] == {"title": "T", "version": "2"}
    assert document["paths"].keys() == {"/a"}


def test_an_error_is_a_page_in_development_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = App()

    @app.get("/")
    def fail() -> str:
        raise KeyError("what is missing")

    client = Client(app, validate=True)
    assert "what is missing" not in client.get("/").text
    monkeypatch.setenv("TRIVET_DEV", "1")
    answer = client.get("/")
    assert answer.status == 500
    assert "what is missing" in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert "what is missing" not in client.get("http://evil.example/").text
    assert "what is missing" not in Client(app, client=("192.0.2.1", 1)).get("/").text
    assert "KeyError" in capsys.readouterr().err
    sys.stderr.flush()

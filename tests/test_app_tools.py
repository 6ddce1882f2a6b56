"""`trivet routes`, `trivet openapi` and `trivet db migrate`: the real binary asks the app's own Python."""

import json
import sys
import textwrap
from pathlib import Path

import pytest
from support.server import Finished, run

APP = """
    import os
    from trivet import App
    app = App()

    @app.get("/" + os.environ.get("WHERE", ""), public=True)
    def index(): return "hi"

    @app.get("/open")
    def forgotten(): return "hi"

    def create_app(): return app
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "app.py").write_text(textwrap.dedent(APP))
    return folder


def ask(place: Path, *arguments: str) -> Finished:
    return run(*arguments, "--venv", sys.prefix, "--chdir", str(place), cwd=place.parent)


def test_routes_of_an_app_are_shown_without_installing_anything(place: Path) -> None:
    done = ask(place, "routes", "app:app")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0].split() == ["METHOD", "TEMPLATE", "HANDLER", "INTERCEPTORS"]
    assert "app.forgotten" in done.out
    assert ask(place, "routes", "app:create_app()").code == 0
    done = ask(place, "routes", "app:app", "--unguarded")
    assert done.code == 1
    assert "/open" in done.out
    told = json.loads(ask(place, "routes", "app:app", "--json", "--env", "WHERE=here").out)
    assert told[0]["template"] == "/here"


def test_the_document_is_for_a_pipe(place: Path) -> None:
    done = ask(place, "openapi", "app:app")
    assert done.code == 0
    assert json.loads(done.out)["paths"].keys() == {"/", "/open"}


def test_migrations_run_from_the_command_line(place: Path) -> None:
    (place / "changes").mkdir()
    (place / "changes/0001_a.sql").write_text("CREATE TABLE a (id INTEGER PRIMARY KEY);")
    done = ask(place, "db", "migrate", "--dir", "changes", "--url", "sqlite:///x.sqlite3")
    assert (done.code, done.out) == (0, "applied `0001_a.sql`\n")
    assert (place / "x.sqlite3").exists()
    done = ask(
        place, "db", "migrate", "--dir", "changes", "--status", "--env", "TRIVET_DB=sqlite:///x.sqlite3"
    )
    assert done.code == 0
    assert done.out.startswith("0001_a.sql  applied ")
    assert ask(place, "db", "migrate", "--dir", "none").code == 78


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (
            ["routes", "app.py"],
            64,
            "error: `app.py` names a file, not a module\nhint: write the name of the module: `app`",
        ),
        (["routes", "nothing:app"], 70, "error: no module named `nothing`\nhint: "),
        (["openapi", "app:missing"], 70, "error: module `app` has no `missing`\nhint: "),
        (["db"], 64, "error: no command given\nhint: "),
        (["routes"], 64, "error: no application given\nhint: name one as MODULE:APP"),
    ],
)
def test_mistakes_are_told_with_a_hint(place: Path, arguments: list[str], code: int, told: str) -> None:
    done = ask(place, *arguments) if len(arguments) > 1 else run(*arguments, cwd=place)
    assert done.code == code
    assert done.err.startswith(told), done
    assert "Traceback" not in done.err


def test_a_python_that_is_not_there_is_told(place: Path) -> None:
    done = run("routes", "app:app", "--venv", "/no/such/venv", cwd=place)
    assert done.code == 78
    assert "no Python in the virtual environment `/no/such/venv`" in done.err

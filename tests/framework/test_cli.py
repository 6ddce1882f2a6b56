"""`python -m trivet.cli`: routes and the document of an app, by the app's own Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "python"
APP = """
    from trivet import App, Session
    app = App(secret="0123456789abcdef")

    @app.get("/", public=True)
    def index(): return "hi"

    @app.intercept("/admin/*", guard=True)
    def need_login(req): return None

    @app.intercept("/*")
    def timing(req): yield

    @app.route("/admin/{id:int}", methods=["GET", "POST"], needs="orders.write")
    def order(id: int): return {}

    @app.get("/open")
    def forgotten(q: str): return q

    class Other:
        def __call__(self, environ, start_response): ...
    other = Other()
"""


def cli(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{PACKAGE}", **more}
    return subprocess.run(
        [sys.executable, "-m", "trivet.cli", *arguments],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(textwrap.dedent(APP))
    return tmp_path


def test_routes_are_a_table(folder: Path) -> None:
    done = cli(folder, "routes", "shop:app")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == textwrap.dedent("""\
        METHOD     TEMPLATE         HANDLER         INTERCEPTORS
        GET        /                shop.index      timing  public
        GET, POST  /admin/{id:int}  shop.order      timing → need_login!  needs=orders.write
        GET        /open            shop.forgotten  timing
        """)


def test_routes_are_json_for_programs(folder: Path) -> None:
    told = json.loads(cli(folder, "routes", "shop:app", "--json").stdout)
    assert [route["template"] for route in told] == ["/", "/admin/{id:int}", "/open"]
    assert told[1]["interceptors"][-1] == {"name": "need_login", "pattern": "/admin/*", "guard": True}
    assert (told[1]["needs"], told[1]["guarded"], told[2]["guarded"]) == ("orders.write", True, False)


def test_what_has_no_guard_is_found(folder: Path) -> None:
    done = cli(folder, "routes", "shop:app", "--unguarded")
    assert done.returncode == 1
    assert "/open" in done.stdout
    assert "/admin" not in done.stdout
    assert done.stderr == "1 without a guard\n"
    text = (folder / "shop.py").read_text()
    (folder / "shop.py").write_text(text.replace('@app.get("/open")', '@app.get("/open", public=True)'))
    done = cli(folder, "routes", "shop:app", "--unguarded")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "every route has a guard or is public\n"


def test_an_app_that_refuses_to_start_still_tells_what_is_open(folder: Path) -> None:
    text = (folder / "shop.py").read_text()
    (folder / "shop.py").write_text(text.replace('abcdef")', 'abcdef", guard="required")'))
    done = cli(folder, "routes", "shop:app", "--unguarded")
    assert done.returncode == 1
    assert "/open" in done.stdout
    done = cli(folder, "routes", "shop:app")
    assert done.returncode == 70
    assert done.stderr.startswith("error: 1 routes have no guard, the first is GET `/open`")
    assert "\nhint: " in done.stderr


def test_the_document_is_printed(folder: Path) -> None:
    done = cli(folder, "openapi", "shop:app")
    document = json.loads(done.stdout)
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "shop"
    assert document["paths"]["/open"]["get"]["parameters"][0]["name"] == "q"


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("shp:app", "error: no module named `shp`\nhint: did you mean `shop`?"),
        ("shop:ap", "error: module `shop` has no `ap`\nhint: did you mean `shop:app`"),
        ("shop:other", "error: `shop:other` is no `trivet.App` but of type `shop.Other`\nhint: "),
    ],
)
def test_what_is_no_app_is_told_with_a_hint(folder: Path, target: str, told: str) -> None:
    done = cli(folder, "routes", target)
    assert done.returncode == 70
    assert done.stderr.startswith(told)
    assert "Traceback" not in done.stderr


def test_migrations_are_applied(folder: Path) -> None:
    (folder / "migrations").mkdir()
    (folder / "migrations/0001_a.sql").write_text("CREATE TABLE a (id INTEGER PRIMARY KEY);")
    done = cli(folder, "db", "migrate", "--status", TRIVET_DB="sqlite:///x.sqlite3")
    assert (done.returncode, done.stdout) == (1, "0001_a.sql  pending\n")
    done = cli(folder, "db", "migrate", TRIVET_DB="sqlite:///x.sqlite3")
    assert (done.returncode, done.stdout) == (0, "applied `0001_a.sql`\n")
    assert (folder / "x.sqlite3").exists()


def test_an_extension_that_is_missing_is_told(folder: Path) -> None:
    done = cli(folder, "routes", "shop:app", TRIVET_WEB_NATIVE="/no/such/library.so")
    assert done.returncode == 70
    assert done.stderr.startswith("error: ")
    assert "/no/such/library.so" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_command_is_told(folder: Path) -> None:
    done = cli(folder, "rotues", "shop:app")
    assert done.returncode == 64
    assert done.stderr.startswith("error: ")
    assert "hint: " in done.stderr

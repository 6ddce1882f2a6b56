"""`trivet check` as a person meets it: exit codes, where it says what, and what a real Django says."""

import sys
import textwrap
from pathlib import Path

from support.server import Finished, run

USAGE, CONFIG = 64, 78


def check(folder: Path, text: str, *arguments: str, **env: str) -> Finished:
    (folder / "trivet.toml").write_text(textwrap.dedent(text))
    (folder / "shop.py").write_text("def app(environ, start_response): ...\n")
    return run("check", *arguments, cwd=folder, env=env)


def test_a_good_file_is_told_in_one_line(tmp_path: Path) -> None:
    text = """
    [app.shop]
    wsgi = "shop:app"
    workers = "${WORKERS:-2}"
    [site.main]
    """
    done = check(tmp_path, text, WORKERS="3")
    assert (done.code, done.err) == (0, ""), done
    app, last = done.out.splitlines()
    assert app.startswith("app `shop`: `shop:app` with Python 3.")
    assert last == "ok: 1 site, 1 app, 1 address"


def test_an_app_that_cannot_be_imported_is_found(tmp_path: Path) -> None:
    text = """
    [app.shop]
    wsgi = "shop:nothing"
    [site.main]
    """
    done = check(tmp_path, text)
    assert done.code == 70, done
    assert "error: app `shop`: module `shop` has no `nothing`" in done.err


def test_all_errors_are_told_with_their_lines(tmp_path: Path) -> None:
    text = """
    [app.shop]
    wsgi = "shop:app"
    thread = 2
    [site.main]
    route = [{ path = "/*", app = "shpo" }]
    """
    done = check(tmp_path, text)
    assert done.code == CONFIG
    assert done.out == ""
    assert "error: unknown key `thread`\n --> trivet.toml:4:1\n" in done.err
    assert "hint: did you mean `shop`?" in done.err
    assert done.err.endswith("error: 2 errors in `trivet.toml`\nhint: nothing was started or changed\n")
    assert "\x1b[" not in done.said


def test_a_warning_is_no_error(tmp_path: Path) -> None:
    text = """
    [app.shop]
    wsgi = "shop:app"
    [site.main]
    route = [{ path = "/*", respond = 200 }]
    """
    done = check(tmp_path, text)
    assert done.code == 0, done
    assert done.err.startswith("warning: no route leads to the app `shop`\n")
    assert done.out.endswith("ok: 1 site, 1 app, 1 address, 1 warning\n")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = run("check", "other.toml", cwd=tmp_path)
    assert done.code == CONFIG
    assert "no such file or directory" in done.err
    assert "hint:" in done.err


def test_the_winner_is_explained_and_a_bad_question_is_told(tmp_path: Path) -> None:
    text = """
    [site.main]
    route = [{ path = "/*", respond = 404 }, { path = "/a", headers = { X-B = "*" }, respond = 200 }]
    """
    url = "http://localhost:8000/a"
    done = check(tmp_path, text, "--explain", url, "--header", "x-b: 1")
    assert done.code == 0, done
    assert "route `/a` with `X-B`: an answer with status 200\n" in done.out
    assert "route `/*`: an answer" in check(tmp_path, text, "--explain", url).out
    assert check(tmp_path, text, "--explain", "nowhere").code == USAGE


def test_the_folder_of_a_real_django_is_found(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "project").mkdir()
    (tmp_path / "project/settings.py").write_text(
        "from pathlib import Path\nSTATIC_ROOT = Path(__file__).parent.parent / 'files'\n"
    )
    (tmp_path / "project/wsgi.py").write_text(
        "import os\nfrom django.core.wsgi import get_wsgi_application\n"
        "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'project.settings')\n"
        "application = get_wsgi_application()\n"
    )
    text = f"""
    [app.shop]
    wsgi = "project.wsgi:application"
    venv = "{sys.prefix}"
    [site.main]
    route = [{{ path = "/*", app = "shop" }}, {{ path = "/static/*", static = "django" }}]
    """
    done = check(tmp_path, text, "--explain", "http://localhost:8000/static/a.css")
    assert done.code == 0, done
    assert f"files of `{tmp_path / 'files'}`" in done.out

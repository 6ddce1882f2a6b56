"""The examples: `microframework.py`, sixty lines on the toolkit without `App`; and the types of all."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from framework import drive

FILE = drive.ROOT / "examples" / "microframework.py"
LINES_MAX = 60


@pytest.fixture
def example() -> ModuleType:
    """A module of its own for each test: it keeps its data."""
    spec = importlib.util.spec_from_file_location("microframework_example", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_framework_has_sixty_lines_at_most() -> None:
    framework, _, _ = FILE.read_text().partition("# What is made with it")
    assert len(framework.rstrip().splitlines()) <= LINES_MAX


def test_pages_answer_by_their_methods(example: ModuleType) -> None:
    app = example.app
    assert drive.ask_wsgi(app, "/").json == {"1": "boil water", "2": "find the trivet"}
    assert drive.ask_wsgi(app, "/todos/2").text == "find the trivet"
    made = drive.ask_wsgi(app, "/", "POST", form={"title": "caf\u00e9"})
    assert (made.status, made.text) == (200, "3\n")
    assert drive.ask_wsgi(app, "/todos/3").text == "caf\u00e9"
    assert drive.ask_wsgi(app, "/todos/3", "DELETE").status == 204
    assert drive.ask_wsgi(app, "/todos/3").status == 404


def test_head_and_refusals_come_with_the_toolkit(example: ModuleType) -> None:
    app = example.app
    head = drive.ask_wsgi(app, "/todos/1", "HEAD")
    assert (head.status, head.body, head.get("Content-Length")) == (200, b"", "10")
    for target, status in (("/nothing", 404), ("/todos/x", 404), ("/todos/9", 404)):
        assert drive.ask_wsgi(app, target).status == status
    refused = drive.ask_wsgi(app, "/todos/1", "PUT")
    assert refused.status == 405
    assert {"GET", "HEAD", "DELETE"} <= refused.allow
    assert drive.ask_wsgi(app, "/", "POST", form={"other": "x"}).status == 400


@pytest.mark.parametrize("folder", [".", "httpbin"])
def test_the_examples_are_strictly_typed(folder: str, tmp_path: Path) -> None:
    place = drive.ROOT / "examples" / folder
    files = sorted(file.name for file in place.glob("*.py"))
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path), *files],
        cwd=place,
        env={**os.environ, "MYPYPATH": os.pathsep.join([str(drive.ROOT / "python"), "."])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    # What is wrong in the package itself is told where that is checked.
    ours = [line for line in checked.stdout.splitlines() if line.partition(":")[0] in files]
    assert not ours, "\n".join(ours)

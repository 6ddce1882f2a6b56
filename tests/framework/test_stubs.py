"""The stubs of the extension's modules say what it has: `stubtest` compares them with the real ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support import package

MODULES = ("_web", "_mysql", "_templates")
# The modules are no files of their own that could be imported by name: loading them puts them where it looks.
PROGRAM = """
import sys
from mypy import stubtest
from trivet._load import native
for name in sys.argv[2:]:
    native(name)
names = [f"trivet.{name}" for name in sys.argv[2:]]
sys.exit(stubtest.test_stubs(stubtest.parse_options(["--allowlist", sys.argv[1], *names])))
"""
# Every module of PyO3 has it; nobody imports from these with a star.
ALLOWED = r"trivet\._\w+\.__all__"


def compared(folder: Path, python: str, *modules: str) -> subprocess.CompletedProcess[str]:
    allowed = folder / "allowed"
    allowed.write_text(ALLOWED + "\n")
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(allowed), *modules],
        env=package.environment(MYPYPATH=python),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
    )


def test_stubs_are_as_the_extension_is(tmp_path: Path) -> None:
    done = compared(tmp_path, package.SOURCE, *MODULES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"no issues found in {len(MODULES)} modules" in done.stdout


def test_a_wrong_stub_is_found(tmp_path: Path) -> None:
    stubs = tmp_path / "python/trivet"
    for file in Path(package.SOURCE, "trivet").rglob("*.py*"):
        if file.suffix in (".py", ".pyi"):
            copy = stubs / file.relative_to(Path(package.SOURCE, "trivet"))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    stub = stubs / "_mysql.pyi"
    text = stub.read_text()
    assert "sql: str, values:" in text
    stub.write_text(text.replace("sql: str, values:", "text: str, values:"))
    done = compared(tmp_path, str(stubs.parent), "_mysql")
    assert done.returncode == 1
    assert "_mysql.Database.query is inconsistent" in done.stdout, done.stdout + done.stderr

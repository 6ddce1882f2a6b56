"""Makes this checkout's package the one that tests and their child processes import."""

import os
import sys
from pathlib import Path

SOURCE = str(Path(__file__).parents[2] / "python")

if SOURCE not in sys.path:
    sys.path.insert(0, SOURCE)


def environment(**more: str) -> dict[str, str]:
    """The environment of a child process that imports `trivet`."""
    return {**os.environ, "PYTHONPATH": SOURCE, **more}

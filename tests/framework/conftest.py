"""The package of this checkout, and the library that was built last."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "python"))
for profile in ("release", "debug"):
    built = ROOT / "target" / profile / "libtrivet_native.so"
    if built.is_file():
        os.environ.setdefault("TRIVET_WEB_NATIVE", str(built))

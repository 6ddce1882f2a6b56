"""Finds and loads the Rust half: one library holds the worker's gateway and the framework's `_web`."""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
LIBRARY = "trivet_native.abi3.so"


def library() -> Path:
    """Where the library is: named by `TRIVET_WEB_NATIVE`, beside the worker (wheel), or built in this
    checkout.
    """
    named = os.environ.get("TRIVET_WEB_NATIVE")
    if named:
        return Path(named)
    installed = HERE / "worker" / LIBRARY
    if installed.is_file():
        return installed
    return HERE.parents[1] / "target" / "release" / "libtrivet_native.so"


def native(name: str) -> ModuleType:
    """The module `name` of the library, as `trivet.<name>`; loaded once.

    Raises `ImportError` where the library is missing or was built for another Python.
    """
    full = f"trivet.{name}"
    known = sys.modules.get(full)
    if known is not None:
        return known
    path = library()
    if not path.is_file():
        raise ImportError(
            f"`{path}` is missing\n"
            "hint: `pip install --force-reinstall trivet`, or `make build` in a checkout"
        )
    loader = ExtensionFileLoader(full, str(path))
    spec = importlib.util.spec_from_file_location(full, path, loader=loader)
    if spec is None:
        raise ImportError(f"`{path}` cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[full]
        raise
    return module

"""Finds the extension beside this package and loads the modules that are in it."""

from __future__ import annotations

import os
import sys
import threading
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType

LIBRARY = "trivet_native.abi3.so"
_lock = threading.RLock()


def library() -> str:
    """Path of the extension: `TRIVET_WEB_NATIVE`, the installed one, or the one built in this checkout.

    Raises `ImportError` when there is none.
    """
    named = os.environ.get("TRIVET_WEB_NATIVE")
    if named:
        return named
    package = Path(__file__).parent
    built = package.parents[1] / "target" / "release" / "libtrivet_native.so"
    for candidate in (package / "worker" / LIBRARY, built):
        if candidate.is_file():
            return str(candidate)
    raise ImportError(
        "the extension of `trivet` is not installed\nhint: `pip install --force-reinstall trivet`"
    )


def native(name: str) -> ModuleType:
    """The extension's module `trivet.<name>`, loaded once; several modules are in one file.

    Raises `ImportError` when the file is missing or has no such module.
    """
    full = f"trivet.{name}"
    with _lock:
        loaded = sys.modules.get(full)
        if loaded is not None:
            return loaded
        path = library()
        spec = ModuleSpec(full, ExtensionFileLoader(full, path), origin=path)
        module = module_from_spec(spec)
        sys.modules[full] = module
        try:
            assert spec.loader is not None
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[full]
            raise
        return module

"""Files of a folder, below a path of the app."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ._load import native
from .errors import NotFound
from .response import Response, file

if TYPE_CHECKING:
    from . import _web
else:
    _web = native("_web")


def folder(
    where: str | os.PathLike[str], max_age: int | None, index: str | None
) -> Callable[[_web.Request, str], Response]:
    """A handler for `{path:path}`: regular files below `where`, never hidden ones, never out of it by a
    link.
    """
    root = Path(where).resolve()

    def serve(req: _web.Request, path: str) -> Response:
        if path.endswith("/") and index is not None:
            path += index
        parts = path.split("/")
        # The router has refused `.` and `..`; what an escaped slash or a backslash hides is refused here.
        if any(not part or part.startswith(".") or "\\" in part or "\0" in part for part in parts):
            raise NotFound()
        try:
            target = root.joinpath(*parts).resolve(strict=True)
            if not target.is_relative_to(root) or not stat.S_ISREG(target.stat().st_mode):
                raise NotFound()
        except (OSError, ValueError, RuntimeError):
            raise NotFound() from None
        response = file(target, max_age=max_age)
        response.headers["X-Content-Type-Options"] = "nosniff"
        # Any interceptor may refuse the next client: what one was let see, no cache keeps, unless the app
        # says for how long and nobody claims to guard it.
        chain = req.route.chain
        if any(link.guard for link in chain) or (chain and max_age is None):
            response.headers["Cache-Control"] = "private, no-store"
        return response

    return serve

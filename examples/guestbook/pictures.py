"""Pictures that visitors upload: known by their first bytes, kept under names of our own."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trivet import Upload

BYTES_MAX = 5 * 1024 * 1024
# What a browser shows by itself. SVG is not among them: it may have scripts.
KINDS = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpg"), (b"GIF87a", "gif"), (b"GIF89a", "gif"))


class NotAPicture(ValueError):
    """The upload is none of the kinds, or too large; the text is for the visitor."""


def kind_of(start: bytes) -> str | None:
    """The extension of what begins so."""
    for magic, kind in KINDS:
        if start.startswith(magic):
            return kind
    return "webp" if start[:4] == b"RIFF" and start[8:12] == b"WEBP" else None


def keep(upload: Upload, folder: Path) -> str:
    """Writes the upload and gives its name there; whoever reads the folder sees all of it or nothing."""
    with upload.file as content:
        if upload.size > BYTES_MAX:
            raise NotAPicture(f"a picture has {BYTES_MAX // 2**20} MB at most")
        data = content.read()
    kind = kind_of(data[:16])
    if kind is None:
        raise NotAPicture("a picture is a PNG, JPEG, GIF or WebP file")
    name = f"{secrets.token_hex(16)}.{kind}"
    unfinished = folder / f".{name}"
    unfinished.write_bytes(data)
    os.replace(unfinished, folder / name)
    return name

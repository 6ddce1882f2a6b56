"""What comes in with a request: parameters, header fields, files."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from .errors import BadRequest

T = TypeVar("T")


class Missing(BadRequest, KeyError):
    """400: a parameter that the handler takes for granted was not sent."""

    def __str__(self) -> str:
        return self.detail


class Values(Mapping[str, T], Generic[T]):
    """Parameters by name, in the order sent. A name may come several times: `values[name]` is the first."""

    __slots__ = ("_by_name", "_pairs")

    def __init__(self, pairs: Iterable[tuple[str, T]] = ()) -> None:
        self._pairs = list(pairs)
        self._by_name: dict[str, list[T]] = {}
        for name, value in self._pairs:
            self._by_name.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> T:
        found = self._by_name.get(name)
        if found is None:
            raise Missing(f"`{name}` is missing")
        return found[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def all(self, name: str) -> list[T]:
        """Every value of that name."""
        return list(self._by_name.get(name, ()))

    def pairs(self) -> list[tuple[str, T]]:
        """All of them, in the order sent."""
        return list(self._pairs)

    def __repr__(self) -> str:
        return f"Values({self._pairs!r})"


class Fields(Mapping[str, str]):
    """The header fields of a request, by names in any case; `Content-Type` or `content_type` are the same."""

    __slots__ = ("_environ",)

    def __init__(self, environ: dict[str, Any]) -> None:
        self._environ = environ

    @staticmethod
    def _key(name: str) -> str:
        key = name.upper().replace("-", "_")
        return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"

    def __getitem__(self, name: str) -> str:
        value = self._environ.get(self._key(name))
        if value is None or (value == "" and self._key(name).startswith("CONTENT_")):
            raise KeyError(name)
        return str(value)

    def __iter__(self) -> Iterator[str]:
        for key, value in self._environ.items():
            if key.startswith("HTTP_"):
                yield key[5:].replace("_", "-").title()
            elif key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
                yield key.replace("_", "-").title()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Fields({dict(self)!r})"


class Upload:
    """A file of a form.

    `filename` is made safe to be a name of a file of ours (no folders, no control characters, never empty
    or dotted);
    `client_filename` is what the client sent. `size` is in bytes. Larger files lie in a temporary file,
    which ends
    with the request unless it is saved.
    """

    __slots__ = ("_content", "_file", "client_filename", "content_type", "filename", "name", "size")

    def __init__(
        self,
        name: str,
        filename: str,
        client_filename: str,
        content_type: str,
        content: bytes | IO[bytes],
        size: int,
    ) -> None:
        self.name = name
        self.filename = filename
        self.client_filename = client_filename
        self.content_type = content_type
        self.size = size
        self._content = content
        self._file: IO[bytes] | None = None

    @property
    def file(self) -> IO[bytes]:
        """The content as a binary file, to be read and sought."""
        if self._file is None:
            self._file = io.BytesIO(self._content) if isinstance(self._content, bytes) else self._content
        return self._file

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, or all that are left."""
        return self.file.read(size)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Writes the content to `path`, or under `filename` where `path` is a folder, and gives where it is.

        Raises `FileExistsError` unless `overwrite`.
        """
        target = Path(path)
        if target.is_dir():
            target = target / self.filename
        with open(target, "wb" if overwrite else "xb") as out:
            if isinstance(self._content, bytes):
                out.write(self._content)
            else:
                place = self._content.tell()
                self._content.seek(0)
                shutil.copyfileobj(self._content, out, 256 * 1024)
                self._content.seek(place)
        return target

    def close(self) -> None:
        """Ends the temporary file, if there is one; the end of the request does it too."""
        if not isinstance(self._content, bytes):
            self._content.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Upload {self.filename!r} {self.content_type} {self.size} bytes>"

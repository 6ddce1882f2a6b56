"""Rows: tuples whose columns have names."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from .errors import ProgrammingError

ROW_CLASSES_MAX = 2048
# What a column may not hide: `dict(row)` and JSON need them.
RESERVED = frozenset({"keys", "get"})


class Result(NamedTuple):
    """What a statement did.

    `rowcount`: rows that it inserted, deleted or matched for an update. `lastrowid`: the number that an
    automatic key gave to the last inserted row, else None.
    """

    rowcount: int
    lastrowid: int | None


class Row(tuple[Any, ...]):
    """One row: a tuple with names. `row.name`, `row["name"]`, `row[0]`, `a, b = row`, `dict(row)`.

    A column that is no identifier, begins with `_`, or is called `keys` or `get` is reached by `row["…"]`
    only. Of two columns of one name the first is meant. In JSON a row is an object.
    """

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = ()
    _index: ClassVar[dict[str, int]] = {}

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __getitem__(self, key: Any) -> Any:
        """By position, slice or column name; `KeyError` names the columns there are."""
        if key.__class__ is str:
            try:
                return tuple.__getitem__(self, self._index[key])
            except KeyError:
                raise KeyError(f"no column `{key}`; there are {', '.join(self._fields)}") from None
        return tuple.__getitem__(self, key)

    def keys(self) -> tuple[str, ...]:
        """The columns' names, in order; makes `dict(row)` work."""
        return self._fields

    def get(self, name: str, default: Any = None) -> Any:
        """The column's value, `default` if there is no such column."""
        index = self._index.get(name)
        return default if index is None else tuple.__getitem__(self, index)

    def _asdict(self) -> dict[str, Any]:
        """Columns and values, as of a named tuple."""
        return {name: tuple.__getitem__(self, index) for name, index in self._index.items()}

    def __repr__(self) -> str:
        values: Iterator[Any] = tuple.__iter__(self)
        return f"Row({', '.join(f'{n}={v!r}' for n, v in zip(self._fields, values, strict=True))})"

    def __reduce__(self) -> tuple[Callable[..., Row], tuple[tuple[str, ...], tuple[Any, ...]]]:
        return restore, (self._fields, tuple(self))


def getter(index: int) -> Any:
    """A descriptor that gives one element of a tuple, in C where Python has one."""
    native = getattr(collections, "_tuplegetter", None)  # what `namedtuple` uses
    return native(index, None) if native else property(lambda row: tuple.__getitem__(row, index))


@lru_cache(maxsize=ROW_CLASSES_MAX)
def row_class(names: tuple[str, ...]) -> type[Row]:
    """The class of the rows with these columns; one for each list of columns."""
    index: dict[str, int] = {}
    for position, name in enumerate(names):
        index.setdefault(name, position)
    body: dict[str, Any] = {"__slots__": (), "_fields": names, "_index": index, "__module__": __name__}
    for name, position in index.items():
        if name.isidentifier() and not name.startswith("_") and name not in RESERVED:
            body[name] = getter(position)
    return type("Row", (Row,), body)


def restore(names: tuple[str, ...], values: tuple[Any, ...]) -> Row:
    """A pickled row again."""
    return row_class(names)(values)


def only_row(rows: list[Row], sql: str) -> Row | None:
    """The row of `one`."""
    if len(rows) > 1:
        raise ProgrammingError(
            f"one row was wanted, there are {len(rows)}\nhint: `query`, or `LIMIT 1`", sql=sql
        )
    return rows[0] if rows else None


def only_value(rows: list[Row], sql: str) -> Any:
    """The value of `value`."""
    row = only_row(rows, sql)
    if row is None:
        return None
    if len(row) != 1:
        raise ProgrammingError(f"one column was wanted, there are {len(row)}\nhint: `one`", sql=sql)
    return row[0]

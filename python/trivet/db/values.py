"""Python values as every database takes them. What a driver knows by itself does not come here."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from .errors import ProgrammingError


def plain(value: Any) -> Any:
    """A value that no driver knows, as one that all know.

    UUID as text, an Enum's value, subclasses as their bases.

    Raises `ProgrammingError` for what has no place in one column.
    """
    if isinstance(value, Enum):
        return plain(value.value) if type(value.value) not in BASES else value.value
    for base in BASES:
        if isinstance(value, base):
            return base(value) if base not in (datetime, date, time, timedelta) else value
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        raise ProgrammingError(
            f"a {type(value).__name__} cannot be a parameter\n"
            "hint: give `json.dumps(value)`, or one placeholder for each member"
        )
    raise ProgrammingError(f"a value of type `{type(value).__name__}` cannot be a parameter")


# `bool` before `int`, `datetime` before `date`: a subclass is met first.
BASES: tuple[Any, ...] = (bool, int, float, str, bytes, bytearray, Decimal, datetime, date, time, timedelta)


def naive(value: datetime) -> datetime:
    """Columns have no zone: a datetime with one is stored in UTC."""
    return value if value.tzinfo is None else value.astimezone(timezone.utc).replace(tzinfo=None)


def clock(value: timedelta) -> str:
    """`[-]HH:MM:SS[.ffffff]`, hours without a limit, as MySQL writes TIME."""
    sign, value = ("-", -value) if value < timedelta(0) else ("", value)
    seconds = value.days * 86400 + value.seconds
    text = f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{value.microseconds:06}" if value.microseconds else text


def for_sqlite(value: Any) -> Any:
    """The value as SQLite has it: times as ISO 8601 text with a space, Decimal as text, bool as 0 and 1."""
    kind = type(value)
    if kind in (int, float, str, bytes, bool, type(None), bytearray, memoryview):
        if kind is float and math.isnan(value):
            raise ProgrammingError("NaN cannot be stored: SQLite would make it NULL")
        return value
    if isinstance(value, datetime):
        return naive(value).isoformat(" ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, time):
        if value.tzinfo is not None:
            raise ProgrammingError("a time of day with a zone cannot be a parameter")
        return value.isoformat()
    if isinstance(value, timedelta):
        return clock(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ProgrammingError(f"`{value}` cannot be stored in a database")
        return format(value, "f")
    return for_sqlite(plain(value))

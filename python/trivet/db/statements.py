"""Reading SQL as far as needed: where placeholders are, what kind of statement it is, where it ends.

A tokenizer for each database, since they differ in strings, comments and quoted names (MariaDB "Comment
Syntax", "String Literals"; SQLite "SQL As Understood By SQLite", its tokenizer's rules).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .errors import ProgrammingError

STATEMENTS_KEPT = 2048

MYSQL = re.compile(
    r"""(?P<string>'(?:[^'\\]+|\\.|'')*'?|"(?:[^"\\]+|\\.|"")*"?)
      | (?P<name>`(?:[^`]+|``)*`?)
      | (?P<comment>\#[^\n]*|--(?=\s|\Z)[^\n]*|/\*.*?(?:\*/|\Z))
      | (?P<mark>\?)
      | (?P<named>(?<![:\w]):[A-Za-z_]\w*)
      | (?P<variable>@[@\w$.]*)
      | (?P<word>[^\W\d][\w$]*)
      | (?P<number>\d[\w.]*)
      | (?P<space>\s+)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
SQLITE = re.compile(
    r"""(?P<string>'(?:[^']+|'')*'?)
      | (?P<name>"(?:[^"]+|"")*"?|`(?:[^`]+|``)*`?|\[[^\]]*\]?)
      | (?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))
      | (?P<foreign>\?\d+|[@$][^\W\d]\w*)
      | (?P<mark>\?)
      | (?P<named>:[^\W\d]\w*)
      | (?P<word>[^\W\d][\w$]*)
      | (?P<number>\d[\w.]*)
      | (?P<space>\s+)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
SYNTAX = {"mysql": MYSQL, "sqlite": SQLITE}

READS = frozenset({"select", "show", "explain", "describe", "desc", "values", "table", "pragma", "help"})
CHANGES = frozenset({"insert", "update", "delete", "replace"})
TRANSACTION_WORDS = frozenset({"begin", "commit", "rollback", "savepoint", "release", "end", "xa"})
# Statements that make MySQL commit what is open (its manual, "Statements That Cause an Implicit Commit").
COMMITS = frozenset({
    "alter", "analyze", "cache", "change", "check", "create", "drop", "flush", "grant", "install", "lock",
    "optimize", "rename", "repair", "reset", "revoke", "truncate", "uninstall", "unlock",
})  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A statement, read once.

    `sql` has only `?` placeholders, `count` of them; `names` are the parameters' names in their order, None
    when they go by position. `verb` is the word that decides what the statement does. `stays`: it may leave
    something behind in its connection (variables, locks, temporary tables). `reads`: it changes nothing, so
    that its loss loses nothing. `transaction`: it begins or ends a transaction. `commits`: MySQL commits
    the open transaction before it runs this.
    """

    original: str
    sql: str
    count: int
    names: tuple[str, ...] | None
    verb: str
    stays: bool
    reads: bool
    transaction: bool
    commits: bool


def commits(verb: str, second: str) -> bool:
    """Whether MySQL commits the open transaction before a statement that begins with these words."""
    if verb in ("create", "drop") and second == "temporary":
        return False
    return verb in COMMITS or (verb == "set" and second in ("autocommit", "password"))


def tokens(sql: str, dialect: str) -> Iterator[tuple[str, str]]:
    """Kind and text of every token; joined, the texts are the statement again."""
    for match in SYNTAX[dialect].finditer(sql):
        yield match.lastgroup or "other", match.group()


@lru_cache(maxsize=STATEMENTS_KEPT)
def plan(sql: str, dialect: str) -> Plan:
    """Reads a statement. Raises `ProgrammingError` for an empty one and for placeholders of other kinds."""
    out: list[str] = []
    names: list[str] = []
    words: list[str] = []
    count = depth = 0
    stays = False
    for kind, text in tokens(sql, dialect):
        if kind == "mark":
            count += 1
        elif kind == "named":
            names.append(text[1:])
            text = "?"
        elif kind == "foreign":
            raise ProgrammingError(
                f"`{text}` is no placeholder here\nhint: write `?` or `:name`, which work on every database",
                sql=sql,
            )
        elif kind == "word":
            lower = text.lower()
            if depth == 0 or not words:
                words.append(lower)
            stays = stays or lower == "get_lock"
        elif kind == "variable":
            stays = True
        elif kind == "other":
            depth += (text == "(" and bool(words)) - (text == ")" and depth > 0)
        out.append(text)
    if not words:
        raise ProgrammingError("the statement is empty", sql=sql)
    if names and count:
        raise ProgrammingError("`?` and `:name` are both in one statement", sql=sql)
    verb = words[0]
    if verb == "with":
        verb = next((word for word in words if word in CHANGES), "select")
    second = words[1] if len(words) > 1 else ""
    return Plan(
        original=sql,
        sql="".join(out) if names else sql,
        count=len(names) or count,
        names=tuple(names) if names else None,
        verb=verb,
        stays=stays or (verb not in CHANGES and verb not in READS),
        reads=verb in READS,
        transaction=verb in TRANSACTION_WORDS or (verb == "start" and second == "transaction"),
        commits=commits(verb, second),
    )


def bind(plan: Plan, values: Sequence[Any], named: Mapping[str, Any]) -> Sequence[Any]:
    """The values in the order of the statement's placeholders, given by position, as one mapping, or by
    keyword.

    Raises `ProgrammingError` if they do not fit.
    """
    if plan.names is None and not named:
        if len(values) == plan.count:
            return values
        hint = ""
        if len(values) == 1:
            if isinstance(values[0], Mapping):
                raise ProgrammingError("parameters go by name, but the statement has `?`", sql=plan.original)
            if isinstance(values[0], (list, tuple)):
                hint = "\nhint: write `*values` to give a list's members one by one"
        raise ProgrammingError(
            f"the statement has {plan.count} placeholders, {len(values)} values were given{hint}",
            sql=plan.original,
        )
    if plan.names is None:
        raise ProgrammingError("parameters go by name, but the statement has no `:name`", sql=plan.original)
    if named:
        if values:
            raise ProgrammingError("values are given by position and by name", sql=plan.original)
        unknown = named.keys() - set(plan.names)
        if unknown:
            raise ProgrammingError(f"the statement has no `:{min(unknown)}`", sql=plan.original)
    else:
        if len(values) != 1 or not isinstance(values[0], Mapping):
            raise ProgrammingError(
                f"the statement wants names: {', '.join(':' + n for n in plan.names)}\n"
                "hint: give one dict, or keyword arguments",
                sql=plan.original,
            )
        named = values[0]
    try:
        return [named[name] for name in plan.names]
    except KeyError as error:
        raise ProgrammingError(f"no value for `:{error.args[0]}`", sql=plan.original) from None


def bound_rows(planned: Plan, rows: Iterable[Iterable[Any] | Mapping[str, Any]]) -> Iterable[Any]:
    """The values of each row of `executemany`, in the placeholders' order."""
    for row in rows:
        if isinstance(row, Mapping):
            yield bind(planned, (), row) if row else bind(planned, (row,), {})
        elif isinstance(row, (str, bytes)):
            raise ProgrammingError(
                "a row of `executemany` is a sequence of values, not text", sql=planned.original
            )
        else:
            yield bind(planned, tuple(row), {})


def split(script: str, dialect: str) -> list[tuple[int, str]]:
    """The statements of a script, each with the number of its first line.

    Knows strings and comments; for SQLite the bodies of triggers, for MySQL the client's `DELIMITER` lines.
    Raises `ValueError` for a script that ends inside a statement's string, comment or body.
    """
    statements = list(split_sqlite(script) if dialect == "sqlite" else split_mysql(script))
    return [(line, text) for line, text in statements if has_code(text, dialect)]


def has_code(text: str, dialect: str) -> bool:
    """Whether there is more than comments and space; `/*! … */` is code for MySQL."""
    return any(
        kind not in ("space", "comment") or (dialect == "mysql" and part.startswith(("/*!", "/*M!")))
        for kind, part in tokens(text, dialect)
    )


def first_line(script: str, start: int, text: str, dialect: str) -> int:
    """The line where the statement's first token stands that is no comment."""
    skipped = 0
    for kind, part in tokens(text, dialect):
        if kind not in ("space", "comment"):
            break
        skipped += len(part)
    return script.count("\n", 0, start + skipped) + 1


def split_sqlite(script: str) -> Iterator[tuple[int, str]]:
    start = position = 0
    for kind, part in tokens(script, "sqlite"):
        if unfinished_sqlite(kind, part):
            line = script.count("\n", 0, position) + 1
            raise ValueError(f"the {kind} that begins in line {line} does not end")
        position += len(part)
        if kind == "other" and part == ";":
            text = script[start:position]
            # It knows that `;` inside CREATE TRIGGER … BEGIN … END goes on.
            if sqlite3.complete_statement(text):
                yield first_line(script, start, text, "sqlite"), text.strip().removesuffix(";").rstrip()
                start = position
    rest = script[start:]
    if has_code(rest, "sqlite"):
        line = first_line(script, start, rest, "sqlite")
        if ";" in rest and not sqlite3.complete_statement(rest + ";"):
            raise ValueError(f"the statement that begins in line {line} does not end")
        yield line, rest.strip()


def unfinished_sqlite(kind: str, part: str) -> bool:
    if kind == "comment":
        return part.startswith("/*") and (len(part) < 4 or not part.endswith("*/"))
    if kind not in ("string", "name"):
        return False
    if part[0] == "[":
        return not part.endswith("]")
    # Doubled quotes inside are pairs, so the whole has an even number.
    return part.count(part[0]) % 2 == 1


def unfinished_mysql(kind: str, part: str) -> bool:
    if kind == "string":
        return re.sub(r"\\.", "", part, flags=re.DOTALL).count(part[0]) % 2 == 1
    return unfinished_sqlite(kind, part)


DELIMITER = re.compile(r"delimiter[ \t]+(\S+)[ \t]*(?:\r?\n|\Z)", re.IGNORECASE)


def split_mysql(script: str) -> Iterator[tuple[int, str]]:
    delimiter = ";"
    start = position = 0
    blank = True  # nothing but space and comments since the statement's start
    while position < len(script):
        if blank and (order := DELIMITER.match(script, position)):
            delimiter = order[1]
            start = position = order.end()
            continue
        if script.startswith(delimiter, position):
            text = script[start:position]
            if not blank:
                yield first_line(script, start, text, "mysql"), text.strip()
            position += len(delimiter)
            start = position
            blank = True
            continue
        match = MYSQL.match(script, position)
        assert match is not None, "`other` takes any character"
        kind, part = match.lastgroup or "other", match.group()
        if unfinished_mysql(kind, part):
            line = script.count("\n", 0, position) + 1
            raise ValueError(f"the {kind} that begins in line {line} does not end")
        if kind in ("word", "number", "variable") and delimiter != ";" and delimiter in part:
            # A delimiter of letters or `$$` ends a word.
            part = part[: part.index(delimiter)]
        blank = blank and (kind == "space" or (kind == "comment" and not part.startswith(("/*!", "/*M!"))))
        position += len(part)
    rest = script[start:]
    if has_code(rest, "mysql"):
        line = first_line(script, start, rest, "mysql")
        if delimiter != ";":
            raise ValueError(f"the statement that begins in line {line} does not end with `{delimiter}`")
        yield line, rest.strip()

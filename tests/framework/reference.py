"""What a table of routes and interceptors means, said a second time: slowly, by looking at everything.

It shares nothing with the framework: no trie, no binding at start-up, no decided tables. For each request all
templates and all patterns are compared segment by segment. Where the framework's page leaves a choice, the
reference says so (`Verdict.lenient`) instead of guessing.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from typing import Any
from urllib.parse import unquote_to_bytes

SEGMENTS_MAX = 64

# Segments


@dataclass(frozen=True)
class Path:
    """The decoded segments of a request's path; `odd` where no route may match.

    `other`: the path as it reads with every slash a border, where that is something else.
    """

    segments: tuple[bytes, ...]
    slash: bool
    odd: bool
    other: Path | None = None

    @property
    def is_text(self) -> bool:
        return all(utf8(segment) is not None for segment in self.segments)

    @property
    def may_be_refused(self) -> bool:
        """A slash inside a segment, or octets that are no text: refusing is as right as taking them."""
        return not self.is_text or any(b"/" in segment for segment in self.segments)


def utf8(octets: bytes) -> str | None:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return None


def split(path_info: bytes, script_name: bytes = b"", raw: bytes | None = None) -> Path:
    """Segments by the request's own spelling if that is true, else by the decoded path."""
    spelled = None
    if raw is not None:
        told = raw.partition(b"?")[0]
        if unquote_to_bytes(told) == script_name + path_info:
            spelled = below(told, script_name)
    parts = (
        [unquote_to_bytes(p) for p in spelled.split(b"/")] if spelled is not None else path_info.split(b"/")
    )
    if parts[0]:
        return Path((), False, True)  # a path begins with a slash
    parts = parts[1:]
    slash = not parts or parts[-1] == b""
    if parts and parts[-1] == b"":
        parts.pop()
    odd = any(part in (b"", b".", b"..") for part in parts) or len(parts) > SEGMENTS_MAX
    other = split(path_info) if any(b"/" in part for part in parts) else None
    return Path(tuple(parts), slash, odd, other)


def below(told: bytes, script_name: bytes) -> bytes | None:
    """The part of a raw path that follows the mount; None where the two cannot be parted at a slash."""
    for end in range(len(told) + 1):
        if unquote_to_bytes(told[:end]) == script_name and (end == len(told) or told[end : end + 1] == b"/"):
            return told[end:]
    return None


# Converters


def valid_date(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII) else None
    except ValueError:
        return None


def convert(kind: str, octets: bytes) -> Any:
    """The value that a parameter of this kind has for these octets; None if it is not one."""
    text = utf8(octets)
    if text is None or not text:
        return None
    match kind:
        case "str":
            return text
        case "int":
            number = int(text) if re.fullmatch(r"0|-?[1-9][0-9]*", text) else None
            return number if number is not None and -(2**63) <= number < 2**63 else None
        case "float":
            return Fraction(text) if re.fullmatch(r"-?[0-9]+\.[0-9]+", text) else None
        case "uuid":
            hexadecimal = r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
            return uuid.UUID(text) if re.fullmatch(hexadecimal, text) else None
        case "date":
            return valid_date(text)
    raise AssertionError(kind)


# Templates


@dataclass(frozen=True)
class Piece:
    """One segment of a template: `prefix{name:kind}suffix`, or a literal (no kind) that is the prefix."""

    prefix: bytes
    kind: str | None = None
    suffix: bytes = b""

    def inner(self, segment: bytes) -> bytes | None:
        """What the parameter gets of a segment; None where the affixes do not fit."""
        rest = segment.removeprefix(self.prefix) if segment.startswith(self.prefix) else None
        if rest is None or not rest.endswith(self.suffix):
            return None
        return rest[: len(rest) - len(self.suffix)]

    def takes(self, segment: bytes) -> bool:
        if self.kind is None:
            return segment == self.prefix
        inner = self.inner(segment)
        return inner is not None and convert(self.kind, inner) is not None

    @property
    def rank(self) -> int:
        """0 literal, 1 with an affix, 2 typed, 3 str, 4 path: the earlier wins."""
        if self.kind is None:
            return 0
        if self.kind == "path":
            return 4
        if self.prefix or self.suffix:
            return 1
        return 3 if self.kind == "str" else 2


PIECE = re.compile(r"([^{}]*)(?:\{(\w+)(?::(\w+))?\}([^{}]*))?")


def pieces(template: str) -> tuple[tuple[Piece, ...], bool]:
    """The pieces of a template, and whether it ends with a slash."""
    found = []
    for part in template.strip("/").split("/") if template.strip("/") else []:
        match = PIECE.fullmatch(part)
        assert match, template
        prefix, name, kind, suffix = match.groups()
        found.append(Piece(prefix.encode(), (kind or "str") if name else None, (suffix or "").encode()))
    return tuple(found), template.endswith("/")


@dataclass(frozen=True)
class Route:
    """A handler: a template with everything that stands before it, and one method."""

    id: int
    template: str
    method: str
    public: bool = False
    groups: tuple[int, ...] = ()

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return pieces(self.template)[0]

    @property
    def slash(self) -> bool:
        return pieces(self.template)[1]

    def fits(self, path: Path) -> bool:
        """Whether the segments fit, whatever the slash at the end."""
        if path.odd:
            return False
        wanted = self.pieces
        if wanted and wanted[-1].kind == "path":
            head = wanted[:-1]
            rest = path.segments[len(head) :]
            return bool(rest) and all(
                piece.takes(segment) for piece, segment in zip(head, path.segments, strict=False)
            )
        return len(wanted) == len(path.segments) and all(
            piece.takes(segment) for piece, segment in zip(wanted, path.segments, strict=True)
        )

    @property
    def is_path(self) -> bool:
        return bool(self.pieces) and self.pieces[-1].kind == "path"

    def fits_slash(self, path: Path) -> bool:
        return self.is_path or not path.segments or self.slash == path.slash

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(piece.rank for piece in self.pieces)


# Patterns


@dataclass(frozen=True)
class Pattern:
    """`/admin/*`, `/projects/{project}/*`, `/a/*/b`."""

    text: str

    @property
    def parts(self) -> list[str]:
        parts = self.text.strip("/").split("/") if self.text.strip("/") else []
        return parts[:-1] if self.subtree else parts

    @property
    def subtree(self) -> bool:
        return self.text.endswith("/*")

    def matches(self, path: Path, route: Route | None) -> bool:
        """Whether it covers a request; `route` is what that has found, for values of typed parameters."""
        parts = self.parts
        if len(path.segments) < len(parts) or (len(path.segments) > len(parts) and not self.subtree):
            return False
        wanted = route.pieces if route else ()
        for i, part in enumerate(parts):
            if part == "*" or part.startswith("{"):
                continue
            segment = path.segments[i]
            piece = wanted[i] if i < len(wanted) and wanted[i].kind not in (None, "path") else None
            if not same(part.encode(), segment, piece):
                return False
        return True

    def always(self, route: Route) -> bool:
        """Whether it covers every request that this route answers."""
        wanted, parts = route.pieces, self.parts
        single = wanted[:-1] if route.is_path else wanted
        if len(parts) > len(single):
            # A path parameter has one segment at least: `*` for that one is enough.
            if not (route.is_path and len(parts) == len(wanted) and self.subtree):
                return False
            if parts[-1] != "*" and not parts[-1].startswith("{"):
                return False
            parts = parts[:-1]
        elif not self.subtree and (len(parts) < len(single) or route.is_path):
            return False
        return all(
            part == "*" or part.startswith("{") or (piece.kind is None and piece.prefix == part.encode())
            for part, piece in zip(parts, single, strict=False)
        )

    def may(self, route: Route) -> bool:
        """Whether it can cover a request that this route answers."""
        wanted, parts = route.pieces, self.parts
        for i, part in enumerate(parts):
            if i >= len(wanted) or wanted[i].kind == "path":
                return bool(wanted) and wanted[-1].kind == "path"
            if part == "*" or part.startswith("{"):
                continue
            if not wanted[i].takes(part.encode()):
                return False
        return len(parts) == len(wanted) or self.subtree

    @property
    def depth(self) -> int:
        return len(self.parts)


def same(literal: bytes, segment: bytes, piece: Piece | None) -> bool:
    """A literal segment of a pattern against one of a request: by value where the parameter is typed."""
    if literal == segment:
        return True
    if piece is None or piece.kind in (None, "str"):
        return False
    wanted, given = piece.inner(literal), piece.inner(segment)
    if wanted is None or given is None:
        return False
    left, right = convert(piece.kind or "", wanted), convert(piece.kind or "", given)
    return left is not None and left == right


@dataclass(frozen=True)
class Interceptor:
    """`pattern` is None for one that covers a group (`group`), routes that were registered through it."""

    id: int
    pattern: Pattern
    except_: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    guard: bool = False
    stops: bool = False

    def methods_cover(self, method: str) -> bool:
        """GET stands for HEAD too."""
        return method in self.methods or (method == "HEAD" and "GET" in self.methods)

    def covers(self, path: Path, route: Route | None, method: str) -> bool:
        if self.methods and not self.methods_cover(method):
            return False
        if route is not None and route.template in self.except_:
            return False
        return self.pattern.matches(path, route)


# The table


@dataclass
class Verdict:
    """What may happen to a request.

    `handlers`: those that may run (one of them does, if no interceptor stops the request); none: a refusal.
    `statuses`: of the answer. `interceptors`: those that must run; `lenient`: those that may run as well.
    """

    path: Path
    handlers: tuple[int, ...] = ()
    statuses: tuple[int, ...] = ()
    interceptors: tuple[int, ...] = ()
    lenient: tuple[int, ...] = ()


def either(one: Verdict, other: Verdict) -> Verdict:
    """Both are right."""
    both = set(one.interceptors) & set(other.interceptors)
    some = {*one.interceptors, *other.interceptors, *one.lenient, *other.lenient} - both
    return Verdict(one.path, (), one.statuses + other.statuses, tuple(both), tuple(some))


@dataclass
class Table:
    routes: list[Route] = field(default_factory=list)
    interceptors: list[Interceptor] = field(default_factory=list)

    def best(self, routes: Iterable[Route]) -> list[Route]:
        """Those with the best rank, segment by segment; several where two typed parameters are level."""
        all_ = list(routes)
        first = min((route.ranks for route in all_), default=())
        return [route for route in all_ if route.ranks == first]

    def judge(self, method: str, path: Path) -> Verdict:
        fitting = [route for route in self.routes if route.fits(path)]
        exact = [route for route in fitting if route.fits_slash(path)]
        served = {"HEAD": ("HEAD", "GET")}.get(method, (method,))
        able = [route for route in exact if route.method in served]
        if able:
            chosen = self.best(able)
            return self._with(method, path, chosen, (200,), handlers=tuple(r.id for r in chosen))
        near = [route for route in fitting if route.method in served]  # the other form of the slash would do
        looks = method in ("GET", "HEAD")
        if exact:
            refused = self._with(method, path, exact, (200, 204) if method == "OPTIONS" else (405,))
            if not near:
                return refused
            return either(refused, self._with(method, path, near, (308,) if looks else (404,)))
        if fitting:
            if looks and near:
                return self._with(method, path, near, (308,))
            nothing = (404, 405, 200, 204) if method == "OPTIONS" else (404, 405)
            return either(self._with(method, path, [], nothing), self._with(method, path, fitting, nothing))
        return self._with(method, path, [], (404,))

    def _with(
        self,
        method: str,
        path: Path,
        routes: list[Route],
        statuses: tuple[int, ...],
        handlers: tuple[int, ...] = (),
    ) -> Verdict:
        verdict = Verdict(path, handlers, statuses)
        if path.may_be_refused:
            verdict.statuses = (*statuses, 400, 404)
        must: list[int] = []
        may: list[int] = []
        for each in self.interceptors:
            found: list[Route | None] = [*routes] or [None]
            covering = [each.covers(path, route, method) for route in found]
            if all(covering) and not path.odd:
                must.append(each.id)
            elif any(covering) or (path.odd and each.pattern.matches(path, None)):
                may.append(each.id)
            elif not handlers and self._by_any(each, path):
                # Whether exceptions, methods and values of routes that do not answer count is left open.
                may.append(each.id)
        verdict.interceptors, verdict.lenient = tuple(must), tuple(may)
        return verdict

    def _by_any(self, each: Interceptor, path: Path) -> bool:
        """Whether it covers the path for whatever route there is."""
        return path.odd or any(each.pattern.matches(path, route) for route in (None, *self.routes))

    def open_routes(self) -> list[Route]:
        """Routes that no guard covers always, and that are not public."""
        return [route for route in self.routes if not route.public and not any(self._guards(route))]

    def _guards(self, route: Route) -> Iterator[bool]:
        for each in self.interceptors:
            by_method = not each.methods or each.methods_cover(route.method)
            if each.guard and by_method and route.template not in each.except_:
                yield each.pattern.always(route)

"""No handler under a pattern runs without its interceptor: random tables, thousands of spellings of a URL.

Each case is a table of routes, groups, mounts and interceptors with requests to it, made from one number.
What may happen is judged by `reference.py`, which shares no line with the framework.

`TRIVET_PROOF_SECONDS` (20 for the file) makes it run longer; `TRIVET_PROOF_SEED` begins elsewhere, or repeats
a case.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path as File
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import pytest
from framework import drive, reference
from framework.reference import Interceptor, Pattern, Route, Table
from trivet import App, Response

SECONDS = float(os.environ.get("TRIVET_PROOF_SECONDS", "20"))
SEED = int(os.environ.get("TRIVET_PROOF_SEED", "0"))
REQUESTS_A_TABLE = 60

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
ASKED = ("GET", "GET", "GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "PROPFIND", "get")
WORDS = (
    "a",
    "b",
    "admin",
    "Admin",
    "login",
    "caf\u00e9",
    "x.y",
    "a;b",
    "a b",
    "100%",
    "\u00df",
    "\u0130",
    "-",
    "~",
    "0",
    "v1",
)
SAMPLES: dict[str, tuple[str, ...]] = {
    "str": (*WORDS, "a/b", "a\\b", "..a", "...", "%2F", "\u200b", "nul\0"),
    "int": (
        "0",
        "1",
        "-1",
        "-0",
        "00",
        "+1",
        "1_0",
        "\u0661",
        "9" * 30,
        " 1",
        "1.0",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
    ),
    "float": ("1.0", "1.00", "-1.5", "01.5", "-0.0", "0.0", "1.", ".5", "1e3", "nan", "1,5"),
    "uuid": (
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
    ),
    "date": ("2024-02-29", "2023-02-29", "2024-2-9", "0001-01-01", "2024-02-29 "),
    "path": ("a", "a/b", "a/b/c", "admin/login", "caf\u00e9/x"),
}
KINDS = tuple(SAMPLES)
UNSAFE = (
    "/",
    "\\",
    "//",
    "/./",
    "/../",
    "%2f",
    "%2F",
    "%5c",
    "%00",
    "%252f",
    ";x=1",
    "%2e",
    "%2e%2e",
    "%c0%af",
    "%ff",
    "?",
    "%3f",
    "%0a",
    "%20",
)

# Tables


@dataclass
class Built:
    """A table as the reference has it, and the application made from it."""

    table: Table
    app: App
    said: list[str] = field(default_factory=list)
    record: list[tuple[str, int]] = field(default_factory=list)

    def show(self) -> str:
        return "\n".join(self.said)


def template_of(chance: random.Random) -> str:
    parts = []
    count = chance.choice((0, 1, 1, 2, 2, 2, 3, 3, 4))
    for i in range(count):
        if chance.random() < 0.55:
            parts.append(chance.choice(WORDS))
            continue
        kind = chance.choice(KINDS) if i == count - 1 else chance.choice(KINDS[:-1])
        affix = chance.choice(("", "", "", "", "x-", "v")) if kind != "path" else ""
        suffix = chance.choice(("", "", "", "", ".txt")) if kind != "path" else ""
        parts.append(
            f"{affix}{{p{i}:{kind}}}{suffix}"
            if kind != "str" or chance.random() < 0.5
            else f"{affix}{{p{i}}}{suffix}"
        )
    text = "/" + "/".join(parts)
    is_path = bool(parts) and parts[-1].endswith(":path}")
    return text + "/" if parts and not is_path and chance.random() < 0.25 else text


def sample(chance: random.Random, template: str, *, valid: bool) -> str:
    """A path, in characters, that such a template could be asked by."""
    parts = []
    for piece in reference.pieces(template)[0]:
        if piece.kind is None:
            parts.append(piece.prefix.decode())
            continue
        candidates = list(SAMPLES[piece.kind])
        if valid and piece.kind not in ("str", "path"):
            candidates = [c for c in candidates if reference.convert(piece.kind, c.encode()) is not None]
        elif valid:
            candidates = [c for c in candidates if "/" not in c or piece.kind == "path"]
        parts.append(piece.prefix.decode() + chance.choice(candidates) + piece.suffix.decode())
    slash = "/" if template.endswith("/") and parts else ""
    return "/" + "/".join(parts) + slash


def pattern_of(chance: random.Random, template: str) -> str:
    """A pattern that reaches requests of this template."""
    if chance.random() < 0.1:
        return "/*"
    parts: list[str] = []
    has_path = "path}" in template
    plain = sample(chance, template.replace(":path", ""), valid=True).strip("/")
    wanted = plain.split("/") if plain else []
    keep = len(wanted) if chance.random() < 0.5 else chance.randint(0, len(wanted))
    for i, part in enumerate(wanted[:keep]):
        roll = chance.random()
        literal = roll < 0.7 and not set(part) & set("{}*%\\\0") and part not in (".", "..")
        parts.append(part if literal else ("*" if roll < 0.9 else f"{{c{i}}}"))
    whole = keep == len(wanted) and not has_path
    if not whole or chance.random() < 0.4 or (parts and parts[-1] == "*"):
        parts.append("*")
    return "/" + "/".join(parts)


def handler(built: Built, id_: int) -> Callable[[], str]:
    def handle() -> str:
        built.record.append(("handler", id_))
        return f"handler {id_}"

    return handle


def check(built: Built, id_: int, stops: bool, around: bool) -> Callable[[], Any]:
    if around:

        def wrap() -> Iterator[None]:
            built.record.append(("interceptor", id_))
            yield

        return wrap

    def look() -> Response | None:
        built.record.append(("interceptor", id_))
        return Response(f"stopped by {id_}", status=403) if stops else None

    return look


@dataclass
class Maker:
    """Fills a table and an application side by side, below `prefix`."""

    chance: random.Random
    built: Built
    numbers: Iterator[int]

    def route(self, at: Any, name: str, prefix: str, template: str) -> None:
        method = self.chance.choice(METHODS)
        whole = prefix + (template if template != "/" or not prefix else "/")
        known = self.built.table.routes
        if any(shape(r.template) == shape(whole) for r in known if r.method == method):
            return
        if any(shape(r.template) == shape(whole) and r.template != whole for r in known):
            return  # the same shape under other names: one template for both is what people write
        id_ = next(self.numbers)
        public = self.chance.random() < 0.2
        at.route(template, methods=[method], public=public)(handler(self.built, id_))
        known.append(Route(id_, whole, method, public))
        self.built.said.append(
            f"{name}.route({template!r}, methods=[{method!r}], public={public})  # handler {id_}: {whole}"
        )

    def intercept(self, at: Any, name: str, prefix: str) -> None:
        below = [
            r for r in self.built.table.routes if r.template.startswith(prefix + "/") or r.template == prefix
        ]
        if not below:
            return
        target = self.chance.choice(below)
        local = target.template[len(prefix) :] or "/"
        pattern = pattern_of(self.chance, local)
        whole = prefix + pattern if pattern != "/" else (prefix or "/")
        covered = sorted({r.template for r in below if Pattern(whole).may(r)})
        if not covered:
            return
        except_: tuple[str, ...] = ()
        if len(covered) > 1 and self.chance.random() < 0.4:
            except_ = (self.chance.choice(covered),)
        methods = (self.chance.choice(METHODS),) if self.chance.random() < 0.15 else ()
        if methods and not any(r.method in methods for r in below if r.template in covered):
            methods = ()
        stops, guard = self.chance.random() < 0.3, self.chance.random() < 0.5
        around = not stops and self.chance.random() < 0.4
        id_ = next(self.numbers)
        options: dict[str, Any] = {}
        if except_:
            options["except_"] = except_[0][len(prefix) :]
        if methods:
            options["methods"] = list(methods)
        if guard:
            options["guard"] = True
        at.intercept(pattern, **options)(check(self.built, id_, stops, around))
        self.built.table.interceptors.append(Interceptor(id_, Pattern(whole), except_, methods, guard, stops))
        self.built.said.append(
            f"{name}.intercept({pattern!r}, {options})  # interceptor {id_}: {whole}, stops={stops}"
        )


def shape(template: str) -> tuple[Any, ...]:
    """Templates of one shape match the same paths."""
    found, slash = reference.pieces(template)
    return found, slash


def build(chance: random.Random, *, guard: str | None = None) -> Built:
    app = App(guard=guard) if guard else App()
    built = Built(Table(), app)
    numbers = iter(range(1, 10_000))
    maker = Maker(chance, built, numbers)
    places: list[tuple[Any, str, str]] = [(app, "app", "")]
    if chance.random() < 0.5:
        group = app.group("/g1")
        built.said.append('group = app.group("/g1")')
        places.append((group, "group", "/g1"))
        if chance.random() < 0.5:
            places.append((group.group("/in"), 'group.group("/in")', "/g1/in"))
    mounted = None
    if chance.random() < 0.4:
        mounted = App()
        built.said.append("mounted = App()")
        places.append((mounted, "mounted", "/m1"))
    for _ in range(chance.randint(2, 14)):
        at, name, prefix = chance.choice(places)
        template = template_of(chance)
        if "g1" in template or "m1" in template:
            continue
        maker.route(at, name, prefix, template)
    if mounted is not None and not any(r.template.startswith("/m1/") for r in built.table.routes):
        maker.route(mounted, "mounted", "/m1", "/x")
    # An application's own patterns are made before it is mounted; those of the outer one reach into it.
    for _ in range(chance.randint(1, 7)):
        maker.intercept(*chance.choice(places))
    for at, name, prefix in places[1:]:
        if (
            name.startswith("group")
            and chance.random() < 0.3
            and any(r.template.startswith(prefix + "/") for r in built.table.routes)
        ):
            id_ = next(numbers)
            at.intercept()(check(built, id_, False, False))
            built.table.interceptors.append(Interceptor(id_, Pattern(prefix + "/*")))
            built.said.append(f"{name}.intercept()  # interceptor {id_}: {prefix}/*")
    if mounted is not None:
        app.mount("/m1", mounted)
        built.said.append('app.mount("/m1", mounted)')
    return built


# Requests


def spell(chance: random.Random, path: str) -> bytes:
    """The path as a client might send it: as it should be, or as somebody who wants to slip through would."""
    raw = bytearray(quote(path, safe="/:@!$&'()*+,;=~").encode())
    for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 3))):
        at = chance.randrange(len(raw) + 1)
        match chance.randrange(9):
            case 0:
                raw[at:at] = chance.choice(UNSAFE[:-7]).encode()
            case 1:
                raw[at:at] = chance.choice(UNSAFE).replace("?", "%3F").encode()
            case 2:
                raw = bytearray(raw.swapcase() if chance.random() < 0.5 else raw.upper())
            case 3 if at < len(raw):
                raw[at : at + 1] = b"%%%02x" % raw[at] if raw[at] != ord("%") else b"%25"
            case 4:
                raw = raw[:-1] if raw.endswith(b"/") and len(raw) > 1 else raw + b"/"
            case 5:
                raw = bytearray(quote(unicodedata.normalize("NFD", path)).encode())
            case 6 if at < len(raw):
                del raw[at]
            case 7:
                raw = bytearray(
                    raw.replace(b"/", chance.choice((b"//", b"/%2e/", b"%2F", b"/./", b"\\", b"/;/")), 1)
                )
            case 8:
                slash = raw.find(b"/", 1)
                if slash > 0:
                    raw[slash : slash + 1] = b"%2f"
    if not raw.startswith(b"/"):
        raw[0:0] = b"/"
    return bytes(raw)


@dataclass
class Asked:
    method: str
    environ: dict[str, Any]
    path: reference.Path
    said: str


def request_of(chance: random.Random, table: Table) -> Asked:
    method = chance.choice(ASKED)
    if chance.random() < 0.9:
        raw = spell(chance, sample(chance, chance.choice(table.routes).template, valid=chance.random() < 0.7))
    else:
        raw = spell(
            chance, "/" + "/".join(chance.choice(WORDS) for _ in range(chance.choice((0, 1, 2, 3, 70))))
        )
    script = chance.choice((b"", b"", b"", b"/site", b"/caf\xc3\xa9"))
    path_info = unquote_to_bytes(raw)
    sent = (quote(script).encode()) + raw
    environ = drive.environ_of(method, "/")
    environ["SCRIPT_NAME"] = script.decode("latin-1")
    environ["PATH_INFO"] = path_info.decode("latin-1")
    told: bytes | None = None
    match chance.randrange(6):
        case 0 | 1:
            told = sent + chance.choice((b"", b"?q=1", b"?/../"))
        case 2:
            told = chance.choice(
                (b"/", b"/a", b"/public", sent + b"/..", b"*", b"", quote(script).encode() + b"/%2e")
            )
        case 3:
            told = sent.swapcase()
    if told is not None:
        environ[chance.choice(("RAW_URI", "REQUEST_URI"))] = told.decode("latin-1")
    said = f"{method} raw={told!r} SCRIPT_NAME={script!r} PATH_INFO={path_info!r}"
    return Asked(method, environ, reference.split(path_info, script, told), said)


# What is demanded


def judge(built: Built, asked: Asked, answer: drive.Answer) -> None:
    verdict = built.table.judge(asked.method, asked.path)
    known = {each.id: each for each in built.table.interceptors}
    ran = [id_ for kind, id_ in built.record if kind == "interceptor"]
    handled = [id_ for kind, id_ in built.record if kind == "handler"]
    must, may = set(verdict.interceptors), set(verdict.interceptors) | set(verdict.lenient)
    stopped = [id_ for id_ in ran if known[id_].stops]

    # The one that matters.
    if handled:
        assert set(ran) >= must, f"handler {handled} ran without interceptors {sorted(must - set(ran))}"
        assert built.record[-1] == ("handler", handled[0]), "an interceptor came after the handler"
        assert not stopped, f"handler {handled} ran although interceptor {stopped} refused"
        assert handled[0] in verdict.handlers, f"handler {handled} ran, {verdict.handlers} would be right"
        assert len(handled) == 1
        assert answer.status == 200
    if asked.path.odd or not asked.path.is_text:
        assert not handled or asked.path.is_text
    # Nothing that answers below a pattern goes past it.
    if stopped:
        assert answer.status == 403
        assert ran[-1] == stopped[0], "more ran after a refusal"
    elif not asked.path.may_be_refused:
        assert set(ran) >= must, f"{answer.status} without interceptors {sorted(must - set(ran))}"
        assert answer.status in verdict.statuses, f"{answer.status}, not one of {verdict.statuses}"
    if asked.path.other is None:
        # By either reading of an escaped slash: guarding too much is as safe.
        assert set(ran) <= may, f"interceptors {sorted(set(ran) - may)} have no business here"
    assert len(set(ran)) == len(ran), "one ran twice"
    for before, after in pairwise(ran):
        one, two = known[before].pattern, known[after].pattern
        outer = two.subtree and two.depth < one.depth and one.parts[: two.depth] == two.parts
        assert not outer, f"interceptor {before} ({one.text}) ran before its parent {after} ({two.text})"
    # Refusals say what they must.
    if answer.status == 405:
        assert answer.allow, "405 without Allow"
        assert asked.method not in answer.allow
    if answer.status == 308:
        location = answer.get("Location") or ""
        assert location.startswith("/"), location
        assert not location.startswith(("//", "/\\")), location
        assert asked.method in ("GET", "HEAD")
    if asked.method == "HEAD":
        assert answer.body == b""


def cases(share: float) -> Iterator[random.Random]:
    """Numbers, and chances made from them, until the share of the time is over; at least three."""
    until = time.monotonic() + SECONDS * share
    number = SEED
    while number < SEED + 3 or time.monotonic() < until:
        chance = random.Random(number)
        chance.number = number  # type: ignore[attr-defined]
        yield chance
        number += 1


def said(chance: random.Random, built: Built, request: str, problem: object) -> str:
    number = chance.number  # type: ignore[attr-defined]
    return f"{problem}\n\nTRIVET_PROOF_SEED={number}\n{built.show()}\n\n{request}\nran: {built.record}"


def test_no_handler_runs_without_its_interceptors() -> None:
    asked_count = 0
    kinds: dict[int, int] = {}
    for chance in cases(0.7):
        built = build(chance)
        if not built.table.routes:
            continue
        for _ in range(REQUESTS_A_TABLE):
            asked = request_of(chance, built.table)
            built.record.clear()
            answer = drive.call(
                built.app, asked.environ, validate=chance.random() < 0.1 and asked.method in METHODS
            )
            asked_count += 1
            kinds[answer.status] = kinds.get(answer.status, 0) + 1
            try:
                judge(built, asked, answer)
            except AssertionError as problem:
                pytest.fail(
                    said(chance, built, f"{asked.said}\n{answer.status} {answer.fields}", problem),
                    pytrace=False,
                )
    # A proof that asked for nothing, or was refused everything, is none.
    assert asked_count >= 3 * REQUESTS_A_TABLE or SEED
    if asked_count > 5000:
        assert {200, 308, 403, 404, 405} <= kinds.keys(), kinds
        assert kinds[200] > asked_count / 40, kinds


def test_the_same_over_asgi() -> None:
    for chance in cases(0.1):
        built = build(chance)
        if not built.table.routes:
            continue
        for _ in range(10):
            asked = request_of(chance, built.table)
            raw = spell(chance, sample(chance, chance.choice(built.table.routes).template, valid=True))
            path = reference.split(unquote_to_bytes(raw), b"", raw)
            if not path.is_text:
                continue
            asked.path = path
            built.record.clear()
            answer = drive.ask_asgi(built.app, raw.decode("latin-1"), asked.method)
            try:
                judge(built, asked, answer)
            except AssertionError as problem:
                pytest.fail(
                    said(chance, built, f"ASGI {asked.method} {raw!r}\n{answer.status}", problem),
                    pytrace=False,
                )


def test_nothing_foreign_and_no_file_is_reached_without_its_interceptor(tmp_path: File) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("secret.txt", "sub/secret.txt"):
        (tmp_path / name).write_text("the secret")
    record: list[str] = []

    def foreign(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        record.append(f"foreign {environ['SCRIPT_NAME']}|{environ['PATH_INFO']}")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"foreign"]

    app = App()
    app.mount("/f1", foreign)
    app.static("/files", tmp_path)
    app.get("/{rest:path}")(lambda rest: "ours")
    for pattern in ("/f1/*", "/files/*"):
        app.intercept(pattern)(noting(record, pattern))
    samples = (
        "/f1",
        "/f1/",
        "/f1/a",
        "/f1/a/b c",
        "/files/secret.txt",
        "/files/sub/secret.txt",
        "/f1x",
        "/other",
    )
    seen: set[str] = set()
    for chance in cases(0.05):
        for _ in range(REQUESTS_A_TABLE):
            raw = spell(chance, chance.choice(samples))
            environ = drive.environ_of(chance.choice(ASKED), "/")
            environ["PATH_INFO"] = unquote_to_bytes(raw).decode("latin-1")
            told = chance.choice((None, raw, raw, b"/other"))
            if told is not None:
                environ["RAW_URI"] = told.decode("latin-1")
            record.clear()
            answer = drive.call(app, environ, validate=False)
            what = f"TRIVET_PROOF_SEED={chance.number} {raw!r} {told!r} {record}"  # type: ignore[attr-defined]
            reached = [each for each in record if each.startswith("foreign")]
            if reached:
                seen.add("foreign")
                assert record[0] == "/f1/*", what
                assert len(reached) == 1, what
                assert reached[0].startswith(("foreign /f1|/", "foreign /f1|")), what
                assert reached[0].partition("|")[2][:1] in ("", "/"), what
            if answer.body == b"the secret":
                seen.add("secret")
                assert record == ["/files/*"], what
            path = reference.split(unquote_to_bytes(raw), b"", told)
            if not path.odd and not path.may_be_refused:
                wanted = [p for p in ("/f1/*", "/files/*") if Pattern(p).matches(path, None)]
                assert [each for each in record if each.startswith("/")] == wanted, what
    assert seen == {"foreign", "secret"} or SECONDS < 5


def noting(record: list[str], text: str) -> Callable[[], None]:
    return lambda: record.append(text)


def starts(app: App) -> Exception | None:
    """What start-up says; None when it is content."""
    try:
        drive.call(app, drive.environ_of("GET", "/-/start-up"), validate=False)
    except Exception as problem:  # noqa: BLE001 - whatever it is
        return problem
    return None


def test_default_deny_finds_every_open_route() -> None:
    refused = started = 0
    for chance in cases(0.15):
        built = build(chance, guard="required")
        if not built.table.routes:
            continue
        if chance.random() < 0.5:
            # Few random tables are closed by themselves.
            id_ = 9_999
            pattern = chance.choice(("/*", "/*", "/{any}/*"))
            if any(Pattern(pattern).may(route) for route in built.table.routes):
                built.app.intercept(pattern, guard=True)(check(built, id_, False, False))
                built.table.interceptors.append(Interceptor(id_, Pattern(pattern), guard=True))
                built.said.append(f"app.intercept({pattern!r}, guard=True)")
        wanted = built.table.open_routes()
        problem = starts(built.app)
        if not wanted:
            started += 1
            assert problem is None, said(chance, built, "", f"nothing is open, but: {problem}")
        else:
            refused += 1
            assert problem is not None, said(chance, built, "", f"open: {wanted}")
            assert any(route.template in str(problem) for route in wanted), problem
        found = sorted((*route.methods, route.template) for route in built.app.unguarded())
        told = sorted((route.method, route.template) for route in wanted)
        assert found == told, said(chance, built, "", f"found {found}, open are {told}")
    assert refused
    assert started or SECONDS < 5


def test_the_command_line_tells_open_routes(tmp_path: File) -> None:
    (tmp_path / "half.py").write_text(
        "from trivet import App\n"
        "app = App()\n"
        "@app.intercept('/admin/*', guard=True)\n"
        "def check(): return None\n"
        "@app.get('/admin/users')\n"
        "def users(): return 'users'\n"
        "@app.get('/forgotten')\n"
        "def forgotten(): return 'open'\n"
        "@app.get('/about', public=True)\n"
        "def about(): return 'open to all'\n"
    )

    def routes(*flags: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "trivet.cli", "routes", "half:app", *flags]
        path = os.pathsep.join([str(drive.ROOT / "python"), str(tmp_path)])
        env = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=30
        )

    everything = routes()
    assert everything.returncode == 0, everything.stderr
    for text in ("GET", "/admin/users", "/forgotten", "/about", "users", "check"):
        assert text in everything.stdout
    unguarded = routes("--unguarded")
    assert unguarded.returncode == 1, unguarded.stdout + unguarded.stderr
    assert "/forgotten" in unguarded.stdout
    assert "/about" not in unguarded.stdout
    assert "/admin/users" not in unguarded.stdout


# The judge is judged too


@pytest.mark.parametrize(
    ("ran", "status", "problem"),
    [
        ([("handler", 1)], 200, "without interceptors"),
        ([("handler", 1), ("interceptor", 2)], 200, "came after"),
        ([("interceptor", 2), ("interceptor", 3), ("handler", 1)], 200, "refused"),
        ([("interceptor", 2), ("handler", 9)], 200, "would be right"),
        ([("interceptor", 3)], 200, "200"),
        ([], 404, "without interceptors"),
        ([("interceptor", 2)], 404, "not one of"),
        ([("interceptor", 2), ("interceptor", 2), ("handler", 1)], 200, "twice"),
    ],
)
def test_what_must_not_happen_is_found(ran: list[tuple[str, int]], status: int, problem: str) -> None:
    table = Table(
        [Route(1, "/admin/{p0}", "GET"), Route(9, "/open", "GET")],
        [Interceptor(2, Pattern("/admin/*")), Interceptor(3, Pattern("/*"), methods=("POST",), stops=True)],
    )
    built = Built(table, App(), record=ran)
    asked = Asked("GET", {}, reference.split(b"/admin/x"), "")
    right = Built(table, App(), record=[("interceptor", 2), ("handler", 1)])
    judge(right, asked, drive.Answer(200, [], b""))
    with pytest.raises(AssertionError, match=problem):
        judge(built, asked, drive.Answer(status, [], b""))

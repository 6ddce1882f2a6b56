"""No handler under a pattern ever runs without its interceptor: random tables against a naive reference."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from framework.caller import environ_of
from trivet import App, StartError

WORDS = ["admin", "api", "a", "b", "7", "Admin", "1.5", "é"]
METHODS = ["GET", "POST", "HEAD", "OPTIONS", "DELETE"]


def reference_segments(raw: str, has_raw: bool) -> list[bytes]:
    """The path cut at its slashes and then decoded; where the server says nothing of the raw path, the
    other way.
    """
    if has_raw:
        parts = [unquote_to_bytes(part) for part in raw.split("/")[1:]]
    else:
        parts = unquote_to_bytes(raw).split(b"/")[1:]
    return parts[:-1] if parts and parts[-1] == b"" else parts


def reference_covers(pattern: str, segments: list[bytes]) -> bool:
    wanted = pattern.split("/")[1:]
    if wanted[-1] == "*":
        wanted = wanted[:-1]
        segments = segments[: len(wanted)] if len(segments) >= len(wanted) else [b""] * 99
    return len(wanted) == len(segments) and all(
        want == "*" or want.encode() == segment for want, segment in zip(wanted, segments, strict=True)
    )


def some_template(chance: random.Random) -> str:
    parts = []
    for at in range(chance.randint(1, 3)):
        parts.append(
            chance.choice(
                [chance.choice(WORDS), f"{{p{at}}}", f"{{p{at}:int}}", f"x-{{p{at}}}", f"{{p{at}:float}}"]
            )
        )
    if chance.random() < 0.15:
        parts.append("{rest:path}")
    return "/" + "/".join(parts) + ("/" if chance.random() < 0.2 and parts[-1] != "{rest:path}" else "")


def some_pattern(chance: random.Random) -> str:
    parts = [
        chance.choice([chance.choice(WORDS), chance.choice(WORDS), "*"]) for _ in range(chance.randint(0, 2))
    ]
    if not parts or chance.random() < 0.7:
        return "/" + "/".join([*parts, "*"])
    return "/" + "/".join([*parts, chance.choice(WORDS)])


def some_spelling(chance: random.Random) -> str:
    parts = []
    for _ in range(chance.randint(0, 4)):
        word = chance.choice(
            [*WORDS, "x-a", "x-admin", ".", "..", "", "a;b", "admin;x", "a%2Fb", "admin%2Fx", "..%2Fadmin"]
        )
        word = chance.choice([word, word, word.upper(), word + "%00", word + "%5C", word.replace("a", "%61")])
        parts.append(word)
    return ("/" + "/".join(parts)).replace("é", "%C3%A9") + chance.choice(["", "", "/"])


def handler_of(ran: list[Any]) -> Callable[[Any], None]:
    return lambda req: ran.append("handler")


def note(ran: list[Any], what: str) -> Callable[[], None]:
    return lambda: ran.append(what)


@pytest.mark.parametrize("seed", range(40))
def test_no_request_gets_past_a_pattern(seed: int) -> None:
    chance = random.Random(seed)
    handled = tables = 0
    while tables < 8:
        app = App()
        ran: list[Any] = []
        for _ in range(chance.randint(1, 8)):
            methods = chance.sample(["GET", "POST", "DELETE"], 2)
            app.route(some_template(chance), methods=methods)(handler_of(ran))
        patterns = [some_pattern(chance) for _ in range(chance.randint(1, 4))]
        for pattern in patterns:
            app.intercept(pattern)(note(ran, pattern))
        try:
            app.freeze()
        except StartError:
            continue  # twice the same route, or a pattern without one
        tables += 1
        for _ in range(150):
            raw, has_raw, method = some_spelling(chance), chance.random() < 0.6, chance.choice(METHODS)
            path = unquote_to_bytes(raw)
            environ = environ_of(method, "/")
            environ["PATH_INFO"] = path.decode("latin-1")
            if has_raw:
                environ["RAW_URI"] = raw + "?x=/admin"
            ran.clear()
            told: list[str] = []
            result = app(environ, lambda status, fields, told=told: told.append(status))
            b"".join(result)
            getattr(result, "close", lambda: None)()
            segments = reference_segments(raw, has_raw)
            for pattern in patterns:
                if reference_covers(pattern, segments):
                    assert pattern in ran, (
                        patterns,
                        raw,
                        has_raw,
                        method,
                        told,
                        [r.template for r in app.routes()],
                    )
            if "handler" in ran:
                handled += 1
                assert ran[-1] == "handler", "interceptors run first"
                assert not {b"", b".", b".."} & set(segments), raw
            assert told[0][:3] != "500"
    assert handled > 0, "the spellings reach no handler: the test shows nothing"


def test_the_first_requests_may_come_at_once() -> None:
    for _ in range(20):
        app = App()
        for number in range(50):
            app.get(f"/r{number}/{{x}}")(lambda x: x)
        gate = threading.Barrier(8)
        got: list[bytes] = []

        def first(app: App = app, gate: threading.Barrier = gate, got: list[bytes] = got) -> None:
            gate.wait()
            got.append(b"".join(app(environ_of("GET", "/r7/a"), lambda status, fields: None)))

        threads = [threading.Thread(target=first) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == [b"a"] * 8

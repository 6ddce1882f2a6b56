"""Small WSGI applications, one for each way in which an application may behave or misbehave.

`/plain/NAME` calls the application bare, `/validated/NAME` inside `wsgiref.validate`, which checks the
server's side of the interface too. Only those marked lawful may be wrapped.
"""

import io
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs
from wsgiref.validate import validator

TEXT = [("Content-Type", "text/plain")]
APPS = {}
LAWFUL = {}
closed = Counter()
noted = {}


def lawful(app):
    LAWFUL[app.__name__] = validator(app)
    return unlawful(app)


def unlawful(app):
    APPS[app.__name__] = app
    return app


def application(environ, start_response):
    parts = environ["PATH_INFO"].split("/")
    if len(parts) > 2 and parts[1] == "validated":
        return LAWFUL[parts[2]](environ, start_response)
    if len(parts) > 2 and parts[1] == "plain":
        return APPS[parts[2]](environ, start_response)
    start_response("404 Not Found", TEXT)
    return [b"no such application"]


def argument(environ, name, default=""):
    return parse_qs(environ["QUERY_STRING"], encoding="latin-1").get(name, [default])[0]


def as_json(start_response, what, status="200 OK"):
    data = json.dumps(what).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
    return [data]


class Body:
    """An iterable with `close()`, which is counted under a key."""

    def __init__(self, environ, pieces, fail_at=None):
        self.key = argument(environ, "key", "none")
        self.pieces = iter(pieces)
        self.fail_at = fail_at
        self.given = 0

    def __iter__(self):
        closed[self.key, "iter"] += 1
        return self

    def __next__(self):
        if self.given == self.fail_at:
            raise RuntimeError("the app fails in mid-body")
        self.given += 1
        return next(self.pieces)

    def close(self):
        closed[self.key, "close"] += 1


@lawful
def counts(environ, start_response):
    key = argument(environ, "key")
    return as_json(start_response, {what: closed[key, what] for what in ("iter", "close")})


@lawful
def note(environ, start_response):
    return as_json(start_response, noted.get(argument(environ, "key")))


@lawful
def hello(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"hello"]


@lawful
def pid(environ, start_response):
    return as_json(start_response, os.getpid())


@lawful
def late_start(environ, start_response):
    start_response("200 Late", TEXT)
    yield b"late"


@lawful
def empty_first(environ, start_response):
    start_response("200 OK", TEXT)
    yield b""
    yield b""
    yield b"first"
    yield b""
    yield b"second"


@lawful
def headers_wait(environ, start_response):
    """The first chunk is empty, so what was said may still be replaced."""
    start_response("200 OK", [*TEXT, ("X-Old", "1")])
    yield b""
    try:
        raise ValueError("changed my mind")
    except ValueError:
        start_response("502 Mind Changed", [*TEXT, ("X-New", "1")], sys.exc_info())
    yield b"replaced"


@unlawful
def never_starts(environ, start_response):
    return [b"nobody asked for this"]


@unlawful
def never_starts_empty(environ, start_response):
    return []


@unlawful
def returns_none(environ, start_response):
    start_response("200 OK", TEXT)


@unlawful
def starts_twice(environ, start_response):
    start_response("200 OK", TEXT)
    try:
        start_response("201 Created", TEXT)
    except AssertionError:
        return [b"AssertionError"]
    return [b"nothing was raised"]


@lawful
def replaces(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-Old", "1"), ("Content-Length", "1000")])
    try:
        raise ValueError("replaced")
    except ValueError:
        start_response("503 Replaced", [*TEXT, ("X-New", "1")], sys.exc_info())
    return [b"the other answer"]


@unlawful
def starts_again_too_late(environ, start_response):
    start_response("200 OK", TEXT)
    yield b"sent already" * 10
    error = ValueError("too late")
    try:
        raise error
    except ValueError:
        try:
            start_response("500 Too Late", TEXT, sys.exc_info())
        except ValueError as raised:
            noted[argument(environ, "key")] = raised is error
            raise
    yield b"never asked for"


@lawful
def writes(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"one ")
    write(b"two ")
    return [b"three ", b"four"]


@lawful
def writes_only(environ, start_response):
    write = start_response("200 OK", TEXT)
    for i in range(100):
        write(b"%04d" % i * 1000)
    return []


@unlawful
def writes_text(environ, start_response):
    write = start_response("200 OK", TEXT)
    try:
        write("text")
    except Exception as error:
        noted[argument(environ, "key")] = type(error).__name__
        raise
    return []


@lawful
def counted(environ, start_response):
    start_response("200 OK", TEXT)
    return Body(environ, [b"one", b"two"])


@lawful
def counted_single(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "3")])
    return Body(environ, [b"one"])


@unlawful
def counted_fails(environ, start_response):
    start_response("200 OK", TEXT)
    return Body(environ, [b"one", b"two"], fail_at=int(argument(environ, "at", "1")))


@unlawful
def counted_sized_fails(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "6")])
    return Body(environ, [b"one", b"two"], fail_at=1)


@unlawful
def counted_wrong_type(environ, start_response):
    start_response("200 OK", TEXT)
    return Body(environ, [b"one", "two"])


@unlawful
def counted_never_starts(environ, start_response):
    return Body(environ, [b"one"])


@lawful
def counted_endless(environ, start_response):
    start_response("200 OK", TEXT)

    def pieces():
        while True:
            yield b"x" * 10_000

    return Body(environ, pieces())


@unlawful
def close_fails(environ, start_response):
    start_response("200 OK", TEXT)

    class Failing(Body):
        def close(self):
            super().close()
            raise RuntimeError("the app fails in close")

    return Failing(environ, [b"whole"])


@unlawful
def text_chunk(environ, start_response):
    start_response("200 OK", TEXT)
    return ["text"]


@unlawful
def not_iterable(environ, start_response):
    start_response("200 OK", TEXT)
    return 42


@unlawful
def fails_before(environ, start_response):
    raise RuntimeError("the app fails before it starts")


@unlawful
def fails_started(environ, start_response):
    start_response("200 OK", TEXT)
    raise RuntimeError("the app fails after it started")


@unlawful
def fails_in_the_middle(environ, start_response):
    start_response("200 OK", TEXT)
    yield b"a" * 100
    raise RuntimeError("the app fails in mid-body")


@unlawful
def fails_in_the_middle_late(environ, start_response):
    """After so much that the first of it has left already."""
    start_response("200 OK", TEXT)
    for _ in range(100):
        yield b"a" * 100_000
    raise RuntimeError("the app fails in mid-body")


@lawful
def single(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"just one"]


@lawful
def single_tuple(environ, start_response):
    start_response("200 OK", TEXT)
    return (b"just one",)


@unlawful
def shorter(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "100")])
    return [b"only this"]


@unlawful
def shorter_generator(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "100")])
    yield b"only "
    yield b"this"


@unlawful
def longer(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    return [b"only this"]


@unlawful
def longer_generator(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    yield b"on"
    yield b"ly this"
    yield b" and that"


@unlawful
def with_length(environ, start_response):
    start_response("200 OK", [*TEXT, *[("Content-Length", v) for v in argument(environ, "v", "").split(";")]])
    return [b"hello"]


@lawful
def sized(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return Body(environ, [b"hello"]) if environ["REQUEST_METHOD"] != "HEAD" else Body(environ, [])


@unlawful
def with_status(environ, start_response):
    status = eval(argument(environ, "v"))
    start_response(status, [("X-A", "b")])
    return [b"body"] if argument(environ, "body", "1") == "1" else []


@unlawful
def with_fields(environ, start_response):
    try:
        start_response("200 OK", eval(argument(environ, "v")))
    except BaseException as error:
        noted[argument(environ, "key")] = type(error).__name__
        raise
    return [b"body"]


@lawful
def duplicates(environ, start_response):
    names = ["b=2", "a=1", "c=3"]
    start_response(
        "200 OK", [*TEXT, *[("Set-Cookie", n) for n in names], ("X-End", "1"), ("Set-Cookie", "d=4")]
    )
    return [b""]


@lawful
def changes_its_list(environ, start_response):
    fields = [*TEXT, ("X-Said", "before")]
    start_response("200 OK", fields)
    fields[:] = [("X-Said", "after")]
    return [b"x"]


@lawful
def own_date_and_server(environ, start_response):
    start_response("200 OK", [*TEXT, ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Server", "own/1")])
    return [b"x"]


@lawful
def show(environ, start_response):
    strings = {k: v for k, v in environ.items() if type(v) is str}
    flags = {k: v for k, v in environ.items() if type(v) in (bool, tuple)}
    return as_json(
        start_response,
        {
            "strings": strings,
            "flags": flags,
            "type": type(environ).__name__,
            "keys_are_str": all(type(k) is str for k in environ),
            "latin_1": all(max(v, default="a") <= "\xff" for v in strings.values()),
            "others": sorted(k for k, v in environ.items() if type(v) not in (str, bool, tuple)),
            "left_by_others": environ.get("left.behind", None),
        },
    )


@unlawful
def spoils_environ(environ, start_response):
    environ["left.behind"] = "spoiled"
    environ["wsgi.url_scheme"] = "gopher"
    environ["SERVER_SOFTWARE"] = "spoiled"
    del environ["SERVER_NAME"]
    environ["wsgi.version"] = (9, 9)
    start_response("200 OK", TEXT)
    return [b"spoiled"]


@lawful
def reads(environ, start_response):
    """Runs a list of calls on the input and shows what each returned."""
    calls = json.loads(argument(environ, "calls"))
    source = environ["wsgi.input"]
    results = []
    for name, *arguments in calls:
        result = list(source) if name == "iterate" else getattr(source, name)(*arguments)
        if isinstance(result, list):
            results.append([line.decode("latin-1") for line in result])
        else:
            assert type(result) is bytes, result
            results.append(result.decode("latin-1"))
    return as_json(start_response, results)


@unlawful
def reads_to_the_end(environ, start_response):
    """Streams: notes what came, and how it ended."""
    key = argument(environ, "key")
    noted[key] = "reading"
    total = 0
    try:
        while data := environ["wsgi.input"].read(1000):
            total += len(data)
    except Exception as error:
        noted[key] = f"{type(error).__name__}: OSError={isinstance(error, OSError)}"
        raise
    noted[key] = f"end after {total}"
    start_response("200 OK", TEXT)
    return [b"%d" % total]


class Opened(io.FileIO):
    def __init__(self, key, *rest):
        super().__init__(*rest)
        self.key = key

    def close(self):
        if not self.closed:
            closed[self.key, "close"] += 1
        super().close()


@lawful
def file(environ, start_response):
    opened = Opened(argument(environ, "key"), argument(environ, "path"))
    opened.seek(int(argument(environ, "offset", "0")))
    length = argument(environ, "length")
    start_response("200 OK", [*TEXT, *([("Content-Length", length)] if length else [])])
    return environ["wsgi.file_wrapper"](opened, 4096)


@lawful
def file_in_memory(environ, start_response):
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](io.BytesIO(b"in memory" * 10_000))


@lawful
def file_shortened(environ, start_response):
    """Not the wrapper itself is returned, so its content may not be sent by another way."""
    with tempfile.TemporaryFile() as opened:
        opened.write(b"0123456789")
        opened.seek(0)
        pieces = list(environ["wsgi.file_wrapper"](opened, 3))
    start_response("200 OK", TEXT)
    return [b"|".join(pieces)]


@lawful
def complains(environ, start_response):
    errors = environ["wsgi.errors"]
    errors.write("complaint: caf\u00e9 \u2603\n")
    errors.writelines(["first line\n", "second line\n"])
    print("printed complaint", file=errors)
    errors.flush()
    print("printed to stdout", flush=True)
    start_response("200 OK", TEXT)
    return [b"complained"]


@unlawful
def hints(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload; as=style")])
    start_response("200 OK", TEXT)
    return [b"hinted"]


@unlawful
def exits(environ, start_response):
    what = argument(environ, "what")
    if what == "late":
        start_response("200 OK", TEXT)
    raise {"keyboard": KeyboardInterrupt, "generator": GeneratorExit}.get(what, SystemExit)(3)


@lawful
def step_by_step(environ, start_response):
    """Yields, then waits until the client has made a file, to show that it has the chunk."""
    flag = Path(argument(environ, "flag"))
    start_response("200 OK", TEXT)
    for i in range(3):
        yield b"chunk %d" % i
        deadline = time.monotonic() + 10
        while not Path(f"{flag}.{i}").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("the client never had the chunk")
            time.sleep(0.002)


@lawful
def method(environ, start_response):
    return as_json(start_response, environ["REQUEST_METHOD"])


@unlawful
def child_process(environ, start_response):
    """A fork that comes back into the server's loop must not answer for its parent."""
    child = os.fork()
    if child == 0:
        start_response("200 OK", TEXT)
        return [b"from the child"]
    os.waitpid(child, 0)
    start_response("200 OK", TEXT)
    return [b"from the parent"]


@unlawful
def dies(environ, start_response):
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10)

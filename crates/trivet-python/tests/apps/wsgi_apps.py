"""Applications by rule: the path's first segment names the function, ``/validated/`` before it wraps it."""

import atexit
import gc
import io
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
from wsgiref.validate import validator

EVENTS = []
STATE = {}
TEXT = [("Content-Type", "text/plain")]


class Closing:
    """An iterable that notes how often it is iterated and closed."""

    def __init__(self, chunks, name="body"):
        self.chunks = chunks
        self.name = name

    def __iter__(self):
        EVENTS.append(f"iter {self.name}")
        return iter(self.chunks)

    def close(self):
        EVENTS.append(f"close {self.name}")


def events(environ, start_response):
    found, EVENTS[:] = list(EVENTS), []
    start_response("200 OK", TEXT)
    return [json.dumps(found).encode()]


def env(environ, start_response):
    """The environ as JSON, objects by their type."""
    EVENTS.append(f"builtin dict {type(environ) is dict}")
    shown = {}
    for key, value in environ.items():
        shown[key] = value if isinstance(value, str | bool | tuple) else type(value).__name__
    start_response("200 OK", TEXT)
    return [json.dumps(shown).encode()]


def leaky_env(environ, start_response):
    seen = [key for key in environ if key.startswith("leak.")]
    environ["leak.one"] = "1"
    environ["HTTP_HOST"] = "changed"
    environ["wsgi.url_scheme"] = "gopher"
    start_response("200 OK", TEXT)
    return [json.dumps(seen).encode()]


def late_start(environ, start_response):
    start_response("201 Created", TEXT)
    yield b""
    yield b"late"


def later_start(environ, start_response):
    """More than the validator lets pass, but PEP 3333 only wants it before the first bytes."""
    yield b""
    yield from late_start(environ, start_response)


def no_start(environ, start_response):
    return [b"body"]


def no_start_empty(environ, start_response):
    return Closing([])


def second_start(environ, start_response):
    start_response("200 OK", TEXT)
    try:
        start_response("200 OK", TEXT)
    except AssertionError:
        return [b"refused"]
    return [b"taken"]


def replaced(environ, start_response):
    start_response("200 OK", [("X-First", "1")])
    try:
        raise ValueError("first thought")
    except ValueError:
        start_response("503 Sorry", [("X-Second", "2")], exc_info=sys.exc_info())
    return [b"replaced"]


def replaced_after_empty(environ, start_response):
    start_response("200 OK", TEXT)
    yield b""
    try:
        raise ValueError("first thought")
    except ValueError:
        start_response("503 Sorry", TEXT, sys.exc_info())
    yield b"replaced"


def reraised(environ, start_response):
    start_response("200 OK", TEXT)
    yield b"sent"
    try:
        raise LookupError("the cause")
    except LookupError:
        try:
            start_response("500 Oops", TEXT, sys.exc_info())
        except LookupError as error:
            EVENTS.append(f"reraised {error}")
    yield b"never"


def writes(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"one ")
    write(b"")
    write(b"two ")
    return Closing([b"three"])


def writes_only(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"all")
    return []


def closing(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing([b"a", b"b"])


def closing_error(environ, start_response):
    def chunks():
        yield b"first"
        raise RuntimeError("in the middle")

    start_response("200 OK", TEXT)
    return Closing(chunks())


def closing_raises(environ, start_response):
    class Bad(Closing):
        def close(self):
            super().close()
            raise RuntimeError("close failed")

    start_response("200 OK", TEXT)
    return Bad([b"x"])


def fails_before(environ, start_response):
    start_response("200 OK", TEXT)
    raise RuntimeError("secret cause")


def fails_first(environ, start_response):
    start_response("200 OK", TEXT)
    if environ:
        raise RuntimeError("at first")
    yield b""


def empties(environ, start_response):
    start_response("200 OK", TEXT)
    yield b""
    yield b"a"
    yield b""
    yield b"b"
    yield b""


def nothing(environ, start_response):
    start_response("200 OK", TEXT)
    return []


def only_empties(environ, start_response):
    start_response("200 OK", TEXT)
    return iter([b"", b""])


def text_body(environ, start_response):
    start_response("200 OK", TEXT)
    return ["text"]


def bytearray_body(environ, start_response):
    start_response("200 OK", TEXT)
    return iter([bytearray(b"array")])


def not_iterable(environ, start_response):
    start_response("200 OK", TEXT)
    return 5


def bytes_result(environ, start_response):
    start_response("200 OK", TEXT)
    return b"abc"


def many_parts(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"part%d;" % n for n in range(50)]


def tuple_body(environ, start_response):
    start_response("200 OK", TEXT)
    return (b"of ", b"a tuple")


def declared(environ, start_response):
    """``?length&chunk,chunk`` as an iterable, ``?list`` first for a list."""
    kind, length, chunks = environ["QUERY_STRING"].split("&")
    chunks = [chunk.encode() for chunk in chunks.split(",")]
    start_response("200 OK", [*TEXT, ("Content-Length", length)])
    return chunks if kind == "list" else Closing(chunks)


def status(environ, start_response):
    start_response(STATUSES[int(environ["QUERY_STRING"])], TEXT)
    return [b"body"]


STATUSES = [
    "204 No Content", "304 Not Modified", "200", "299 A  reason, with (signs)", "999 Odd", "404 \xe4",
    "20 Short", "2000 Long", "200OK", "abc Def", "200 Bad\r\nX: y", "100 Go on", "200 \u20ac", "", " 200 OK",
]  # fmt: skip


def bytes_status(environ, start_response):
    start_response(b"200 OK", TEXT)
    return [b"body"]


def headers(environ, start_response):
    start_response("200 OK", HEADERS[environ["QUERY_STRING"]])
    return [b"body"]


HEADERS = {
    "duplicates": [
        ("Set-Cookie", "a=1"),
        ("X-Z", "z"),
        ("Set-Cookie", "b=2"),
        ("X-A", "a"),
        ("set-cookie", "c=3"),
    ],
    "hop": [
        ("Connection", "close"),
        ("Keep-Alive", "5"),
        ("Upgrade", "x"),
        ("Trailer", "x"),
        ("X-Stays", "1"),
    ],
    "transfer": [("Transfer-Encoding", "chunked")],
    "latin1": [("X-Name", "caf\xe9 \xff")],
    "euro": [("X-Name", "secret\u20acvalue")],
    "surrogate": [("X-Name", "secret\udc80value")],
    "crlf": [("X-Name", "secret\r\nSet-Cookie: evil=1")],
    "nul": [("X-Name", "secret\0value")],
    "badname": [("X Name", "v")],
    "colon": [("X-Name:", "v")],
    "emptyname": [("", "v")],
    "bytesname": [(b"X-Name", "v")],
    "intvalue": [("X-Name", 5)],
    "triple": [("X-Name", "a", "b")],
    "nolength": [("Content-Length", "abc-secret")],
    "negative": [("Content-Length", "-1")],
    "plus": [("Content-Length", "+4")],
    "twolengths": [("Content-Length", "4"), ("Content-Length", "5")],
    "samelengths": [("Content-Length", "4"), ("Content-Length", "4")],
    "date": [("Date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("Server", "mine")],
    "listpair": [["X-List", "pair"]],
    "huge": [("X-Huge", "v" * 300_000)],
}


def mutated_headers(environ, start_response):
    fields = [("X-Kept", "1")]
    start_response("200 OK", fields)
    fields.append(("X-Late", "2"))
    fields[0] = ("X-Kept", "changed")
    return [b"body"]


def reads(environ, start_response):
    """``?`` a Python expression over ``f``, the input."""
    from urllib.parse import unquote

    result = eval(unquote(environ["QUERY_STRING"]), {"f": environ["wsgi.input"], "io": io})
    start_response("200 OK", TEXT)
    return [repr(result).encode()]


def copies(environ, start_response):
    """Reads in pieces, answers length and a checksum."""
    size = int(environ["QUERY_STRING"] or 65536)
    total, checksum = 0, 0
    while data := environ["wsgi.input"].read(size):
        total += len(data)
        checksum = (checksum * 31 + sum(data[::997])) % 1_000_003
    start_response("200 OK", TEXT)
    return [f"{total} {checksum}".encode()]


def upload_error(environ, start_response):
    try:
        environ["wsgi.input"].read()
    except OSError as error:
        EVENTS.append(type(error).__name__)
        raise
    start_response("200 OK", TEXT)
    return [b"whole"]


def keeps_input(environ, start_response):
    STATE["input"] = environ["wsgi.input"]
    STATE["start"] = start_response
    STATE["write"] = start_response("200 OK", TEXT)
    return [b"kept"]


def uses_kept_input(environ, start_response):
    try:
        STATE["input"].read()
        result = "read"
    except ValueError:
        result = "ValueError"
    start_response("200 OK", TEXT)
    return [result.encode()]


def make_file(size):
    file = tempfile.TemporaryFile()  # noqa: SIM115
    for start in range(0, size, 1000):
        file.write(b"%09d\n" % start + b"x" * (min(1000, size - start) - 10))
    file.seek(0)
    return file


def file(environ, start_response):
    """``?size&offset&length``, each may be empty."""
    size, offset, length = environ["QUERY_STRING"].split("&")
    opened = make_file(int(size))
    opened.seek(int(offset or 0))
    fields = [*TEXT, ("Content-Length", length)] if length else TEXT
    start_response("200 OK", fields)

    class Noting:
        """A file object that notes how it is used."""

        def __getattr__(self, name):
            return getattr(opened, name)

        def read(self, size):
            EVENTS.append("read")
            return opened.read(size)

        def close(self):
            EVENTS.append("close file")
            opened.close()

    return environ["wsgi.file_wrapper"](Noting())


def file_memory(environ, start_response):
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](io.BytesIO(b"from memory" * 1000), 100)


def file_pipe(environ, start_response):
    r, w = os.pipe()
    os.write(w, b"from a pipe")
    os.close(w)
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](os.fdopen(r, "rb"))


def file_wrapped(environ, start_response):
    start_response("200 OK", TEXT)
    wrapper = environ["wsgi.file_wrapper"](make_file(2000))
    return (chunk.upper() for chunk in wrapper)


def file_after_write(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"before ")
    return environ["wsgi.file_wrapper"](make_file(20))


def errors(environ, start_response):
    stream = environ["wsgi.errors"]
    stream.write("one\n")
    stream.writelines(["two\n", "thr\xe9e \u20ac\n"])
    stream.flush()
    start_response("200 OK", TEXT)
    return [b"ok"]


def early(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload"), ("Link", "</b.js>; rel=preload")])
    start_response("200 OK", TEXT)
    return [b"ok"]


def early_bad(environ, start_response):
    result = []
    for fields in ([("X\n", "v")], [("Content-Length", "4")], [("X", "a\r\nb")], [("X", 1)]):
        try:
            environ["wsgi.early_hints"](fields)
            result.append("sent")
        except (ValueError, TypeError) as error:
            result.append(type(error).__name__)
    start_response("200 OK", TEXT)
    return [" ".join(result).encode()]


def leaves(environ, start_response):
    how = environ["QUERY_STRING"]
    if how == "exit":
        sys.exit(3)
    if how == "interrupt":
        raise KeyboardInterrupt
    raise GeneratorExit


def steps(environ, start_response):
    """Each chunk after the first waits for a file to appear."""
    folder = environ["HTTP_X_FOLDER"]
    start_response("200 OK", TEXT)
    for number in range(3):
        if number:
            wait_for(os.path.join(folder, str(number)))
        yield b"chunk%d" % number


def wait_for(path):
    end = time.monotonic() + 20
    while not os.path.exists(path):
        assert time.monotonic() < end
        time.sleep(0.002)


def slow(environ, start_response):
    """Begins, says so, and answers when told."""
    folder = environ["HTTP_X_FOLDER"]
    name = environ["QUERY_STRING"]
    open(os.path.join(folder, f"entered-{name}"), "w").close()
    wait_for(os.path.join(folder, f"go-{name}"))
    start_response("200 OK", TEXT)
    return Closing([b"slow " + name.encode()], name)


def big(environ, start_response):
    """``?chunk&count``: bytes that are known by their place."""
    chunk, count = map(int, environ["QUERY_STRING"].split("&"))
    data = bytes(n % 251 for n in range(chunk))
    start_response("200 OK", TEXT)

    def chunks():
        try:
            for _ in range(count):
                yield data
        finally:
            EVENTS.append("generator closed")

    return chunks()


def big_list(environ, start_response):
    chunk, count = map(int, environ["QUERY_STRING"].split("&"))
    start_response("200 OK", [*TEXT, ("Content-Length", str(chunk * count))])
    return [bytes(n % 251 for n in range(chunk))] * count


def counting(environ, start_response):
    """Sends without end while another thread counts: does it run while we wait for the client?"""
    STATE["count"] = 0
    stop = threading.Event()

    def count():
        while not stop.is_set():
            STATE["count"] += 1
            time.sleep(0.0001)

    thread = threading.Thread(target=count)
    thread.start()

    def chunks():
        try:
            while True:
                yield b"x" * 10_000
        finally:
            stop.set()
            thread.join()
            EVENTS.append(f"counted {STATE['count'] > 50}")

    start_response("200 OK", TEXT)
    return chunks()


def forks(environ, start_response):
    """The child leaves (``exit``), comes back to us (``returns``) or tries what is ours (``uses``)."""
    how = environ["QUERY_STRING"]
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        if how == "uses":
            said = []
            for attempt in (
                lambda: start_response("200 OK", TEXT),
                lambda: environ["wsgi.input"].read(),
                lambda: environ["wsgi.early_hints"]([]),
            ):
                try:
                    attempt()
                    said.append("worked")
                except (RuntimeError, OSError) as error:
                    said.append(type(error).__name__)
            os.write(write, " ".join(said).encode())
            os._exit(0)
        if how == "exit":
            os.write(write, b"child")
            os._exit(0)
        os.write(write, b"returned")
        return [b"from the child"]
    os.close(write)
    _, status = os.waitpid(pid, 0)
    said = os.read(read, 1000)
    os.close(read)
    start_response("200 OK", TEXT)
    return [said + b" %d" % status]


def spawns(environ, start_response):
    """A tree of children in other sessions; answers their numbers."""
    import subprocess

    code = (
        "import os,time,subprocess,sys\n"
        "p=subprocess.Popen(['sleep','1000'],start_new_session=True)\n"
        "print(os.getpid(),p.pid,flush=True)\ntime.sleep(1000)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    STATE["child"] = child
    start_response("200 OK", TEXT)
    return [child.stdout.readline()]


def holds_gil(environ, start_response):
    """A C call that never lets go of the interpreter."""
    open(os.path.join(environ["HTTP_X_FOLDER"], "entered-gil"), "w").close()
    re.match(r"(a+)+$", "a" * 60 + "b")
    start_response("200 OK", TEXT)
    return [b"unlikely"]


def from_thread(environ, start_response):
    """Another thread calls while this one sends."""
    start_response("200 OK", TEXT)
    write = STATE.get("write")
    said = []

    def other():
        end = time.monotonic() + 20
        while not said and time.monotonic() < end:
            try:
                write(b"torn")
            except RuntimeError as error:
                said.append(str(error))
            time.sleep(0.001)

    def chunks():
        yield b"a" * 1000
        thread = threading.Thread(target=other)
        thread.start()
        yield b"b" * 200_000
        thread.join()
        EVENTS.append(said[0])

    return chunks()


def refcounts(environ, start_response):
    gc.collect()
    start_response("200 OK", TEXT)
    return [str(len(gc.get_objects())).encode()]


def signals(environ, start_response):
    os.kill(os.getpid(), signal.SIGINT)
    start_response("200 OK", TEXT)
    return [b"alive"]


def at_exit():
    sys.stderr.write("atexit ran\n")


atexit.register(at_exit)


def app(environ, start_response):
    name = environ["PATH_INFO"].split("/")[1]
    if name == "validated":
        name = environ["PATH_INFO"].split("/")[2]
        return validator(globals()[name])(environ, start_response)
    return globals()[name](environ, start_response)

"""What a worker does in Python, none of it for each request: the application's import, slots, errors."""

from __future__ import annotations

import ast
import contextlib
import difflib
import faulthandler
import importlib.util
import io
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType, TracebackType
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
USAGE = 64
APP_FAILED = 70
RELOAD_EVERY_S = 0.3

native: Any


class Unloadable(Exception):
    """The application cannot be had: a line for the operator, with a hint."""

    def __init__(self, summary: str, hint: str | None = None, cause: BaseException | None = None) -> None:
        super().__init__(summary)
        self.summary = summary
        self.hint = hint
        self.cause = cause


class Errors:
    """``wsgi.errors``: whatever ``sys.stderr`` is when something is written."""

    __slots__ = ()

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        sys.stderr.writelines(lines)

    def flush(self) -> None:
        sys.stderr.flush()


class FileWrapper:
    """``wsgi.file_wrapper``. Returned as it is, over a real file, the server sends that file by itself."""

    def __init__(self, filelike: Any, blksize: int = 8192) -> None:
        self.filelike = filelike
        self.blksize = blksize

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.filelike.read(self.blksize)
        if data:
            return data
        raise StopIteration

    def close(self) -> None:
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()


def log(level: str, message: str) -> None:
    sys.stderr.write(f"{native.log_prefix(level)} {message}\n")


def quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


def without_our_frames(trace: TracebackType | None) -> TracebackType | None:
    """What the reader wants to see begins where the application's code does."""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if (
            os.path.dirname(file) != HERE
            and not file.startswith("<frozen importlib")
            and file != importlib.__file__
        ):
            return trace
        trace = trace.tb_next
    return None


def report(error: BaseException, request_line: str, request_id: str) -> None:
    """The traceback of a failed request, in one write."""
    head = (
        f"{native.log_prefix('error')} the application failed "
        f"request={quoted(request_line)} request_id={request_id}\n"
    )
    trace = without_our_frames(error.__traceback__)
    sys.stderr.write(head + "".join(traceback.format_exception(type(error), error, trace)))
    sys.stderr.flush()


def split_target(target: str) -> tuple[str, str]:
    """``MODULE:APP``; a Windows drive or a slice inside the call cannot come before the first colon."""
    module, _, app = target.partition(":")
    return module, app


def import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(missing + "."):
            raise Unloadable(f"no module named `{missing}`", where_to_look(name)) from None
        raise Unloadable(
            f"module `{name}` imports `{missing}`, which is not installed in this Python",
            f"the Python is `{sys.executable}`; choose the application's own with `--venv`",
            error,
        ) from error
    except SystemExit as error:
        raise Unloadable(
            f"module `{name}` called sys.exit({error.code!r}) while being imported", None, error
        ) from error
    except BaseException as error:
        raise Unloadable(
            f"module `{name}` raised {type(error).__name__} while being imported", None, error
        ) from error


def where_to_look(name: str) -> str:
    path = name.replace("/", ".").removesuffix(".py").strip(".")
    if path != name and path:
        return f"a module is named as in an import: `{path}`"
    here = sorted(
        entry.name.removesuffix(".py")
        for entry in os.scandir(".")
        if (entry.name.endswith(".py") or os.path.exists(os.path.join(entry.path, "__init__.py")))
        and entry.name.removesuffix(".py").isidentifier()
    )
    near = difflib.get_close_matches(name.partition(".")[0], here, n=3)
    if near:
        return "did you mean " + " or ".join(f"`{module}`" for module in near) + "?"
    return f"it was looked for in `{os.getcwd()}`; another folder is set with `--chdir` or `--pythonpath`"


def call_of(expression: str) -> tuple[str, list[Any], dict[str, Any]] | None:
    """The parts of ``factory("a", b=1)``; None where it is no call. Only literals are arguments."""
    try:
        parsed = ast.parse(expression, mode="eval").body
    except SyntaxError:
        raise Unloadable(
            f"`{expression}` is neither an attribute nor a call",
            "write `app`, `package.app` or `create_app()`",
        ) from None
    if not isinstance(parsed, ast.Call):
        return None
    try:
        args = [ast.literal_eval(arg) for arg in parsed.args]
        kwargs = {keyword.arg: ast.literal_eval(keyword.value) for keyword in parsed.keywords if keyword.arg}
    except ValueError:
        raise Unloadable(f"the arguments of `{expression}` are not literals") from None
    return ast.unparse(parsed.func), args, kwargs


def attribute(module: ModuleType, path: str) -> Any:
    found: Any = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Unloadable(
                f"module `{module.__name__}` has no `{path}`", candidates(module, part)
            ) from None
    return found


def candidates(module: ModuleType, wanted: str) -> str:
    """Names of the module that may be what was meant."""
    names = [name for name, value in vars(module).items() if not name.startswith("_") and callable(value)]
    near = difflib.get_close_matches(wanted, names, n=3)
    own = [
        name
        for name in names
        if getattr(vars(module)[name], "__module__", module.__name__) == module.__name__
    ]
    factories = [name for name in ("create_app", "make_app") if name in names]
    if near:
        return "did you mean " + " or ".join(f"`{module.__name__}:{name}`" for name in near) + "?"
    if factories:
        return f"a factory is called: `{module.__name__}:{factories[0]}()`"
    if own:
        return "it has " + ", ".join(f"`{name}`" for name in own[:8])
    return "nothing in it can be called"


def load_app(target: str) -> tuple[Any, str]:
    """The callable that the target names, and its full name."""
    name, expression = split_target(target)
    module = import_module(name)
    if not expression:
        for guess in ("app", "application"):
            if hasattr(module, guess):
                expression = guess
                break
        else:
            raise Unloadable(
                f"module `{name}` has neither `app` nor `application`", candidates(module, "application")
            )
    call = call_of(expression)
    if call is None:
        app = attribute(module, expression)
    else:
        path, args, kwargs = call
        factory = attribute(module, path)
        if not callable(factory):
            raise Unloadable(f"`{name}:{path}` cannot be called, it is of type `{type(factory).__name__}`")
        try:
            app = factory(*args, **kwargs)
        except BaseException as error:
            raise Unloadable(f"`{name}:{expression}` raised {type(error).__name__}", None, error) from error
    if not callable(app):
        raise Unloadable(
            f"`{name}:{expression}` cannot be called, it is of type `{type(app).__name__}`",
            candidates(module, expression),
        )
    return app, f"{name}:{expression}"


def prepare(start: dict[str, Any]) -> None:
    """The world as the application expects it: its folder, its path, its signals."""
    os.chdir(start["chdir"])
    sys.path[:0] = [start["chdir"], *start["pythonpath"]]
    if start["fallback_path"]:
        sys.path.append(start["fallback_path"])
    sys.argv = ["trivet"]
    # Ctrl-C is the supervisor's business; a function instead of SIG_IGN, since children would inherit that.
    signal.signal(signal.SIGINT, lambda *_: None)
    # What the supervisor sends to a worker whose request is past its time. It needs no Python to run.
    stderr = os.fdopen(os.dup(2), "w")
    faulthandler.register(signal.SIGRTMIN + 7, file=stderr, all_threads=True, chain=False)
    prepare.stderr = stderr  # type: ignore[attr-defined]  # kept open for as long as the handler


def tell_unloadable(error: Unloadable) -> None:
    """The traceback once, without our frames, then a line that says it and one that helps."""
    out = io.StringIO()
    if error.cause is not None:
        trace = without_our_frames(error.cause.__traceback__)
        out.write("".join(traceback.format_exception(type(error.cause), error.cause, trace)))
    out.write(f"{native.log_prefix('error')} {error.summary}\n")
    if error.hint:
        out.write(f"hint: {error.hint}\n")
    sys.stderr.write(out.getvalue())
    sys.stderr.flush()


def loaded_files() -> Iterator[str]:
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and os.path.dirname(file) != HERE:
            yield file


class Files:
    """The loaded files as they were, to find the one that becomes another."""

    def __init__(self, extra: Iterable[str] = ()) -> None:
        self.extra = list(extra)
        self.seen: dict[str, tuple[int, int]] = {}
        self.changed()

    def changed(self) -> str | None:
        for path in [*loaded_files(), *self.extra]:
            try:
                stat = os.stat(path)
            except OSError:
                continue  # one that is being replaced is away for a moment: it counts when it is back
            now = (stat.st_mtime_ns, stat.st_size)
            if self.seen.setdefault(path, now) != now:
                return path
        return None

    def folders(self) -> set[str]:
        return {os.path.dirname(path) for path in self.seen}

    def wait(self) -> None:
        """Returns when the supervisor has been told of a change."""
        watch = Watch()
        while True:
            # Watched first and looked at then: no change falls between the two.
            watch.folders(self.folders())
            if (path := self.changed()) is not None:
                forget_compiled(path)
                native.changed(path)
                return
            watch.wait()


def forget_compiled(path: str) -> None:
    """Two versions within a second and of one size are the same to Python, which compares these two alone."""
    if path.endswith(".py"):
        # A Python that keeps nothing compiled has no name for it either.
        with contextlib.suppress(OSError, NotImplementedError):
            os.unlink(importlib.util.cache_from_source(path))


class Watch:
    """Sleeps until something in a folder may have changed: told by the kernel (inotify(7)), else for a while.

    What the kernel does not tell (a file system of another machine, a limit that is reached) is found by
    looking, in the time that looking alone would take.
    """

    # A file is whole when it is closed or moved into its place; one that is written in pieces is not, before.
    EVENTS = 0x8 | 0x80 | 0x4  # IN_CLOSE_WRITE, IN_MOVED_TO, IN_ATTRIB
    FLAGS = os.O_CLOEXEC | os.O_NONBLOCK  # IN_CLOEXEC, IN_NONBLOCK
    SETTLE_S = 0.005

    def __init__(self) -> None:
        self.fd = -1
        self.watched: set[str] = set()
        try:
            import ctypes

            libc = ctypes.CDLL(None)
            self.add = libc.inotify_add_watch
            self.fd = libc.inotify_init1(self.FLAGS)
        except (ImportError, OSError, AttributeError):
            return

    def folders(self, folders: set[str]) -> None:
        if self.fd >= 0:
            for folder in folders - self.watched:
                self.watched.add(folder)
                self.add(self.fd, os.fsencode(folder), self.EVENTS)

    def wait(self) -> None:
        if self.fd < 0:
            time.sleep(RELOAD_EVERY_S)
            return
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        if poll.poll(RELOAD_EVERY_S * 1000):
            # Who saves one file often saves another with it.
            time.sleep(self.SETTLE_S)
            with contextlib.suppress(BlockingIOError):
                os.read(self.fd, 65536)


def source_files(folder: str) -> list[str]:
    """What may be changed to mend an application that could not be imported."""
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and name not in ("node_modules", "__pycache__")
        ]
        found += [os.path.join(root, name) for name in names if name.endswith(".py")]
        if len(found) > 5000:
            break
    return found


def with_error_page(app: Callable[..., Any]) -> Callable[..., Any]:
    """Whatever the application raises before its answer has begun becomes a page, for this machine alone."""
    path = os.path.join(os.path.dirname(HERE), "dev.py")
    spec = importlib.util.spec_from_file_location("_trivet_dev", path)
    if spec is None or spec.loader is None:
        return app
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    pages: Callable[..., Any] = module.pages(app)
    return pages


def serve(app: Callable[..., Any], threads: int) -> None:
    """Runs the slots: one in this thread, or each of several in its own."""
    hooks = (app, Errors(), FileWrapper, report)
    # A signal of the application's must wake a main thread that waits in our code.
    signal.set_wakeup_fd(native.signal_fd(), warn_on_full_buffer=False)
    if threads == 1:
        native.serve(*hooks)
        return
    # Daemons: should the application end the main thread, the process must not wait for the slots.
    slots = [
        threading.Thread(target=native.serve, args=hooks, name=f"slot-{number}", daemon=True)
        for number in range(1, threads + 1)
    ]
    for slot in slots:
        slot.start()
    native.wait_for_quit()
    for slot in slots:
        slot.join()


def main(extension: ModuleType) -> int:
    global native
    native = extension
    try:
        start = native.start()
    except RuntimeError:
        return APP_FAILED  # the supervisor has been told
    except OSError:
        sys.stderr.write("a worker is started by the server\nhint: `trivet run MODULE:APP`\n")
        return USAGE
    prepare(start)
    try:
        app, name = load_app(start["app"])
    except Unloadable as error:
        failure = error.summary if error.cause is None else f"{error.summary}: {error.cause}"
        # Whoever reads the message may mend the file at once, so the first look comes before it.
        files = Files(source_files(start["chdir"])) if start["reload"] else None
        if failure != start["known_failure"]:
            tell_unloadable(error)
        native.import_failed(failure)
        if files is not None:
            files.wait()
        return APP_FAILED
    if start["reload"]:
        # What changes after `ready` must be noticed, so the first look comes before.
        threading.Thread(target=Files().wait, name="reload", daemon=True).start()
    if os.environ.get("TRIVET_DEV"):
        app = with_error_page(app)
    version = ".".join(map(str, sys.version_info[:3]))
    native.ready(f"{version} ({sys.executable})", name)
    if start["check_only"]:
        return 0
    serve(app, start["threads"])
    return 0

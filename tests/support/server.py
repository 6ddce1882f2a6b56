"""The server under test: the real binary with a real Python, started, watched and stopped by its pid."""

import itertools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

from support import procs
from support.http import Address, Connection, Cut, Response, once
from support.poll import until

TESTS = Path(__file__).resolve().parent.parent
APPS = TESTS / "apps"
BINARY = Path(os.environ.get("TRIVET_BIN", TESTS.parent / "target/release/trivet")).resolve()
START_SECONDS = 20.0
STOP_SECONDS = 20.0
CLEANED = (
    "PORT",
    "WEB_CONCURRENCY",
    "GUNICORN_CMD_ARGS",
    "VIRTUAL_ENV",
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONWARNINGS",
)
NEVER_SAID = ("panicked at", "Fatal Python error", "AddressSanitizer")

# Below the range from which clients get their ports; each test process has its own part of it.
_runner = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "0")) or 0)
_ports = itertools.cycle(random.sample(range(16000 + 2000 * _runner, 18000 + 2000 * _runner), 2000))

LIVE: list["Server"] = []


def free_port() -> int:
    for port in _ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("unreachable: the cycle has no end")


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in CLEANED and not k.startswith("PYTEST_")}
    return kept | (extra or {})


class Server:
    """`trivet run APP FLAGS…`, bound to a port of its own unless the flags bind it.

    With `config`, the text of a configuration: `trivet serve`. In it `@PORT@` is the port, `@VENV@` the
    folder of the Python.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        bind: str | None = None,
        chdir: Path = APPS,
        env: dict[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        wrap: list[str] | None = None,
        venv: bool = True,
        command: str = "run",
        config: str | None = None,
    ) -> None:
        assert BINARY.exists(), f"{BINARY} is missing: build it, or set TRIVET_BIN"
        self._name(folder)
        flags: list[str] = []
        if bind is None:
            flags += ["--bind", f"127.0.0.1:{self.address[1]}"]
        elif bind.startswith("unix:"):
            self.address = bind.removeprefix("unix:")
            flags += ["--bind", bind]
        elif bind:
            host, _, port = bind.rpartition(":")
            self.address = (host.strip("[]"), int(port))
            flags += ["--bind", bind]
        if config is not None:
            self.config_path = folder / "trivet.toml"
            self.configure(config)
            command, flags, venv = "serve", [str(self.config_path)], False
        if venv:
            flags += ["--venv", sys.prefix]
        if chdir and config is None:
            flags += ["--chdir", str(chdir)]
        self._begin(folder, [*(wrap or []), str(BINARY), command, *arguments, *flags], env, pass_fds)

    def _name(self, folder: Path) -> None:
        self.mark = f"TRIVET_TEST_MARK={uuid.uuid4().hex}"
        self.log_path = folder / f"log-{uuid.uuid4().hex[:8]}.txt"
        self.expected_code = 0  # of its end, where a test provokes another
        self.address: Address = ("127.0.0.1", free_port())

    def _begin(
        self, folder: Path, command: list[str], env: dict[str, str] | None, pass_fds: tuple[int, ...] = ()
    ) -> None:
        self.command = command
        name, _, value = self.mark.partition("=")
        with self.log_path.open("wb") as log:
            self.popen = subprocess.Popen(
                self.command,
                cwd=folder,
                env=environment({name: value, **(env or {})}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=pass_fds,
            )
        LIVE.append(self)

    def configure(self, text: str) -> None:
        """Writes the configuration that `serve` reads."""
        port = str(self.address[1])
        self.config_path.write_text(text.replace("@PORT@", port).replace("@VENV@", sys.prefix))

    # Its processes.

    @property
    def pid(self) -> int:
        return self.popen.pid

    def family(self) -> list[procs.Process]:
        return procs.marked(self.mark)

    def _children(self) -> list[procs.Process]:
        return [p for p in procs.everyone() if p.parent == self.pid]

    def edge(self) -> int:
        """Pid of the edge."""
        own = str(BINARY)
        found = until(
            lambda: [p.pid for p in self._children() if p.executable == own], why="an edge is running"
        )
        return found[-1]

    def workers(self) -> list[int]:
        """Pids of the worker processes, the apps' own children left out."""
        own = str(BINARY)
        return sorted(p.pid for p in self._children() if p.executable and p.executable != own)

    def wait_for_workers(self, count: int, *, without: list[int] | None = None) -> list[int]:
        """Until exactly so many are running, none of them one of `without`."""
        gone = set(without or [])

        def settled() -> list[int] | None:
            now = self.workers()
            return now if len(now) == count and not gone & set(now) else None

        return until(settled, 20, f"{count} workers, none of {sorted(gone)}; there are {self.workers()}")

    def signal(self, which: signal.Signals) -> None:
        os.kill(self.pid, which)

    # Its words.

    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace")

    def wait_for_log(self, text: str, seconds: float = 10, *, after: int = 0) -> str:
        """Until the log has this text (a regular expression); returns the log after `after` characters."""

        def seen() -> str | None:
            log = self.log()[after:]
            return log if re.search(text, log) else None

        return until(seen, seconds, f"{text!r} in the log")

    # Its answers.

    def connect(self, **options: object) -> Connection:
        return Connection(self.address, **options)  # type: ignore[arg-type]

    def get(self, target: str = "/", fields: dict[str, str] | None = None) -> Response:
        return once(self.address, "GET", target, fields)

    def post(self, target: str, body: bytes, fields: dict[str, str] | None = None) -> Response:
        return once(self.address, "POST", target, fields, body)

    def wait_until_it_answers(self, target: str = "/-ready", seconds: float = START_SECONDS) -> "Server":
        def answered() -> bool:
            assert self.popen.poll() is None, f"ended with {self.popen.returncode}:\n{self.log()}"
            try:
                return once(self.address, "GET", target).status > 0
            except (OSError, Cut):
                return False

        until(answered, seconds, "the server answers")
        return self

    # Its end.

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s") from None

    def stop(self) -> int:
        """SIGTERM; everything must be gone afterwards."""
        if self.popen.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            code = self.wait()
            until(lambda: not self.family(), 3, "nothing of its process tree is left")
        finally:
            self.kill()
        log = self.log()
        for text in NEVER_SAID:
            assert text not in log, f"{text!r} in the log"
        return code

    def kill(self) -> None:
        """The last resort: leaves nothing behind, whatever state it is in."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        for p in self.family():
            try:
                os.kill(p.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self in LIVE:
            LIVE.remove(self)


class SiteServer(Server):
    """`trivet serve FILE`, with the file in `folder`.

    It finds in its environment: `${P0}` to `${P5}`, ports of its own; `${APPS}`, the folder of the
    applications; `${VENV}`, the tests' own environment.
    """

    PORTS = 6

    def __init__(self, folder: Path, text: str, env: dict[str, str] | None = None) -> None:
        assert BINARY.exists(), f"{BINARY} is missing: build it, or set TRIVET_BIN"
        self._name(folder)
        self.folder = folder
        number = len(list(folder.glob("*.toml"))) or ""
        self.file = folder / f"trivet{number}.toml"
        self.pid_file = self.file.with_suffix(".pid")
        self.ports = [self.address[1], *(free_port() for _ in range(self.PORTS - 1))]
        known = {f"P{n}": str(port) for n, port in enumerate(self.ports)}
        self.env = {**known, "APPS": str(APPS), "VENV": sys.prefix, **(env or {})}
        self.write(text)
        self._begin(folder, [str(BINARY), "serve", str(self.file)], self.env)

    def write(self, text: str) -> None:
        """Another file, with a pid file unless its `[server]` says something else."""
        if "[server]" not in text:
            text = f'{textwrap.dedent(text).strip()}\n[server]\npid-file = "{self.pid_file.name}"\n'
        beside = self.file.with_suffix(".new")
        beside.write_text(text)
        beside.rename(self.file)

    def reload(self, *app: str, seconds: float = 30) -> "Finished":
        return run("reload", "--pid", str(self.pid_file), *app, cwd=self.folder, seconds=seconds)

    def take(self, text: str) -> None:
        """Another file, which must be good."""
        self.write(text)
        done = self.reload()
        assert done.code == 0, done

    def check(self, *arguments: str) -> "Finished":
        return run("check", str(self.file), *arguments, cwd=self.folder, env=self.env)

    def ask(
        self,
        target: str = "/",
        host: str | None = None,
        *,
        method: str = "GET",
        fields: dict[str, str] | None = None,
        body: bytes | None = None,
        port: int = 0,
        **options: object,
    ) -> Response:
        """One request to one of its ports, by number."""
        fields = {**({"Host": host} if host is not None else {}), **(fields or {})}
        return once(("127.0.0.1", self.ports[port]), method, target, fields, body, **options)


def run(*arguments: str, cwd: Path, env: dict[str, str] | None = None, seconds: float = 20) -> "Finished":
    """A command that is expected to end by itself."""
    begun = time.monotonic()
    done = subprocess.run(
        [str(BINARY), *arguments],
        cwd=cwd,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=seconds,
        check=False,
    )
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode(), time.monotonic() - begun)


class Finished:
    def __init__(self, code: int, out: str, err: str, seconds: float) -> None:
        self.code = code
        self.out = out
        self.err = err
        self.seconds = seconds

    @property
    def said(self) -> str:
        return self.out + self.err

    def __repr__(self) -> str:
        return f"exit {self.code}\nstdout: {self.out}\nstderr: {self.err}"

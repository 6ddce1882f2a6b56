"""Ways to run one WSGI or ASGI application: in process, or under a server on a port of its own."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support.poll import until
from support.server import Server, environment, free_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 20.0
STOP_SECONDS = 10.0

# `{host}`, `{port}` and `{prefix}` are filled in; the application is `app:app` in the folder of the process.
SERVE_WSGIREF = (
    "import sys; from wsgiref.simple_server import make_server; from app import app; "
    "make_server('{host}', {port}, app).serve_forever()"
)
COMMANDS: dict[str, list[str]] = {
    "uvicorn": [
        *("{python}", "-m", "uvicorn", "app:app.asgi", "--host", "{host}", "--port", "{port}"),
        *("--log-level", "warning"),
    ],
    "wsgiref": ["{python}", "-c", SERVE_WSGIREF],
    "gunicorn": ["{python}", "-m", "gunicorn", "app:app", "-b", "{host}:{port}", "--threads", "4"],
    "uwsgi": [
        *(
            "{prefix}/bin/uwsgi",
            "--http-socket",
            "{host}:{port}",
            "--module",
            "app:app",
            "--virtualenv",
            "{prefix}",
        ),
        *("--master", "--die-on-term", "--need-app", "--threads", "4", "--disable-logging"),
    ],
    # It takes X-Forwarded-Proto away otherwise.
    "waitress": [
        *(
            "{python}",
            "-m",
            "waitress",
            "--listen={host}:{port}",
            "--no-clear-untrusted-proxy-headers",
            "app:app",
        ),
    ],
}


def missing(way: str) -> str | None:
    """Why this server cannot run here, in words for a skipped test."""
    if way == "uwsgi" and not shutil.which("uwsgi", path=f"{sys.prefix}/bin"):
        return "uWSGI is not installed: it is compiled by pip, which needs a C compiler and Python's headers"
    return None


def python_path(*folders: Path) -> dict[str, str]:
    """The environment in which the package of this checkout can be imported by another process."""
    return {"PYTHONPATH": os.pathsep.join(map(str, [ROOT / "python", *folders]))}


@dataclass
class Peer:
    """A server that is not ours, stopped by its pid and its own group."""

    address: tuple[str, int]
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, way: str, folder: Path, scratch: Path) -> Peer:
        address = ("127.0.0.1", free_port())
        known = {"host": address[0], "port": str(address[1]), "prefix": sys.prefix, "python": sys.executable}
        command = COMMANDS[way]
        for name, value in known.items():
            command = [word.replace(f"{{{name}}}", value) for word in command]
        log = scratch / f"{way}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(python_path(folder)),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        peer = cls(address, process, log)
        try:
            until(peer._listens, START_SECONDS, f"{way} listens")
        except AssertionError:
            peer.stop()
            raise
        return peer

    def _listens(self) -> bool:
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log.read_text()}"
        try:
            socket.create_connection(self.address, 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # its own session: nobody else is in there


def serve(way: str, folder: Path, scratch: Path) -> tuple[tuple[str, int], Callable[[], object]]:
    """Starts `app:app` of `folder`; its address, and what stops it."""
    if way == "trivet":
        server = Server(scratch, "app:app", "--threads", "4", chdir=folder, env=python_path(folder))
        try:
            server.wait_until_it_answers()
        except AssertionError:
            server.kill()
            raise
        assert isinstance(server.address, tuple)
        return server.address, server.stop
    peer = Peer.start(way, folder, scratch)
    return peer.address, peer.stop


def exchange(
    address: tuple[str, int], method: str, target: str, fields: list[tuple[str, str]], body: bytes
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """One request on a connection of its own. Where a field says `chunked`, the body goes in two chunks."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        chunked = any(name.lower() == "transfer-encoding" for name, _ in fields)
        for name, value in fields:
            if not (chunked and name.lower() == "content-length"):
                connection.putheader(name, value)
        if chunked:
            half = len(body) // 2
            parts = [part for part in (body[:half], body[half:]) if part]
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        connection.endheaders(body or None)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()

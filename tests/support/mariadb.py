"""A MariaDB server for tests: its own data, its own port, stopped by its process number."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

START_SECONDS = 60
STOP_SECONDS = 30
ACCOUNT = "mysql"


class MariaDB:
    """One server. `url` is for `Database`, as the user `trivet` with all rights on the database `test`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.socket = folder / "s"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.as_account = ["--user=" + ACCOUNT] if os.getuid() == 0 else []
        self.tls: list[str] = []

    def url(self, options: str = "", port: int | None = None) -> str:
        return f"mysql://trivet:p%40ss@127.0.0.1:{port or self.port}/test{'?' + options if options else ''}"

    def install(self) -> None:
        if os.getuid() == 0:
            shutil.chown(self.folder, ACCOUNT)
        done = subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={self.data}",
             "--auth-root-authentication-method=normal", "--skip-test-db", *self.as_account],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"mariadb-install-db ended with {done.returncode}:\n{done.stdout[-4000:]}")
        self.make_certificates()

    def make_certificates(self) -> None:
        """An authority, and a certificate of it for 127.0.0.1. None without `openssl`."""
        if shutil.which("openssl") is None:
            return
        own = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ]
        names = ["-addext", "subjectAltName=IP:127.0.0.1"]
        ca, ca_key = str(self.folder / "ca.pem"), str(self.folder / "ca.key")
        cert, key = str(self.folder / "cert.pem"), str(self.folder / "key.pem")
        run = [
            [*own, "-subj", "/CN=ca", "-days", "3", "-keyout", ca_key, "-out", ca],
            [*own, "-subj", "/CN=db", "-days", "3", "-keyout", key, "-out", cert, "-CA", ca, "-CAkey", ca_key,
             "-addext", "basicConstraints=critical,CA:FALSE", *names],
        ]  # fmt: skip
        for command in run:
            subprocess.run(command, check=True, capture_output=True)
        if os.getuid() == 0:
            shutil.chown(key, ACCOUNT)
        self.tls = [f"--ssl-cert={cert}", f"--ssl-key={key}", f"--ssl-ca={ca}"]

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["mariadbd", "--no-defaults", f"--datadir={self.data}", f"--socket={self.socket}",
                 "--skip-networking=0", "--bind-address=127.0.0.1", f"--port={self.port}",
                 f"--pid-file={self.folder / 'pid'}",
                 "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M", "--skip-name-resolve",
                 "--innodb-flush-log-at-trx-commit=1", *self.tls, *self.as_account],
                stdout=log,
                stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text()[-4000:])
            time.sleep(0.05)

    def answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            connection.settimeout(5)
            return len(connection.recv(5)) == 5
        return False

    def sql(self, text: str) -> str:
        """As root, by MariaDB's own client. Gives the rows, a line each."""
        return subprocess.run(
            ["mariadb", "--no-defaults", f"--socket={self.socket}", "-uroot", "-N",
             "--default-character-set=utf8mb4", "-e", text],
            check=True,
            capture_output=True,
            text=True,
            encoding="utf-8",
        ).stdout  # fmt: skip

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running() -> Iterator[MariaDB]:
    """A new server with the database `test`, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="trivet-mariadb-", dir="/tmp"))
    server = MariaDB(folder)
    try:
        server.install()
        server.start()
        server.sql(
            "CREATE DATABASE test CHARACTER SET utf8mb4; "
            "CREATE USER trivet@127.0.0.1 IDENTIFIED BY 'p@ss'; GRANT ALL ON test.* TO trivet@127.0.0.1;"
        )
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


class Proxy:
    """Stands before the server and forwards, until it sees `cut_after` from the client.

    Then the answer is kept back.

    `forwarded` is set when the server has answered what the client will never hear.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.cut_after: bytes | None = None
        self.forwarded = threading.Event()
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.connections += 1
                server = socket.create_connection(("127.0.0.1", self.target))
                self._open += [client, server]
                cut = threading.Event()
                self._start(self._up, client, server, cut)
                self._start(self._down, client, server, cut)

    def _up(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self.cut_after is not None and self.cut_after in data:
                    cut.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _down(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if cut.is_set():
                    self.forwarded.set()
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)

    def drop_all(self) -> None:
        """Every connection breaks, on both sides."""
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.drop_all()
        for thread in self._threads:
            thread.join()
        for connection in (self.listener, *self._open):
            connection.close()

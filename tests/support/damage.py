"""A MySQL server whose bytes arrive damaged, and the client process that has to live with it.

As a program, `damage.py PORT SEED FIRST ROUNDS [SECONDS]`, it is that client: each round opens a `Database`
through a proxy that damages one packet of the server, runs a handful of statements, and prints a line of
JSON. It ends at the first thing that may not happen, by itself or, if the library aborts, by a signal; the
lines tell in which round.
"""

from __future__ import annotations

import faulthandler
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

# What a round may take: each of its statements waits at most for READ_SECONDS.
HANGS_SECONDS = 20.0
READ_SECONDS = 0.3
MARKS = (0x00, 0x01, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF, 0x7F, 0x80)

TABLE = (
    "CREATE TABLE IF NOT EXISTS damaged (id INT AUTO_INCREMENT PRIMARY KEY, big BIGINT, number DOUBLE, "
    "small FLOAT, price DECIMAL(20,4), day DATE, moment DATETIME(6), span TIME(6), year YEAR, flag BOOL, "
    "text TEXT, data BLOB, nothing INT NULL, kind ENUM('a','b'))"
)
COLUMNS = "big, number, small, price, day, moment, span, year, flag, text, data, kind"
VALUES = (
    -(2**40), 1e300, 1.5, "12.3400", "2026-02-03", "2026-02-03 04:05:06.000789",
    timedelta(hours=-30, microseconds=5), 2026, True, "grüße 🎈 " * 20, b"\0\xff" * 150, "b",
)  # fmt: skip


class Damage:
    """What is done: to which packet of the server, counted from the first of a round, and how."""

    def __init__(self, seed: str, packets: int) -> None:
        self.random = random.Random(seed)
        self.packet = self.random.randrange(packets)
        self.how = self.random.choice(sorted(KINDS))

    def __call__(self, header: bytes, body: bytes) -> tuple[bytes, bool]:
        """The bytes in place of a packet, and whether the connection ends after them."""
        return KINDS[self.how](self.random, header, body)

    def __str__(self) -> str:
        return f"packet {self.packet}, {self.how}"


def framed(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


def place(rng: random.Random, body: bytes) -> int:
    """A place in a packet, near its begin as often as anywhere."""
    return rng.randrange(min(len(body), 12) if rng.random() < 0.5 else len(body))


def flipped(rng: random.Random, header: bytes, body: bytes) -> tuple[bytes, bool]:
    changed = bytearray(header + body)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[place(rng, changed)] ^= 1 << rng.randrange(8)
    return bytes(changed), False


def marked(rng: random.Random, header: bytes, body: bytes) -> tuple[bytes, bool]:
    changed = bytearray(body)
    for _ in range(rng.choice((1, 1, 2))):
        if changed:
            changed[place(rng, changed)] = rng.choice(MARKS)
    return header + changed, False


def shortened(rng: random.Random, header: bytes, body: bytes) -> tuple[bytes, bool]:
    return framed(header[3], body[: rng.randrange(len(body) + 1)]), False


def lengthened(rng: random.Random, header: bytes, body: bytes) -> tuple[bytes, bool]:
    at = rng.randrange(len(body) + 1)
    more = rng.randbytes(rng.choice((1, 2, 9, 300)))
    return framed(header[3], body[:at] + more + body[at:]), False


def torn(rng: random.Random, header: bytes, body: bytes) -> tuple[bytes, bool]:
    whole = header + body
    return whole[: rng.randrange(len(whole))], True


def mismeasured(rng: random.Random, header: bytes, body: bytes) -> tuple[bytes, bool]:
    size = rng.choice((0, 1, len(body) - 1, len(body) + 1, len(body) + 4, 0xFFFFFF, rng.randrange(1 << 24)))
    return max(size, 0).to_bytes(3, "little") + header[3:] + body, False


def misnumbered(rng: random.Random, header: bytes, body: bytes) -> tuple[bytes, bool]:
    return header[:3] + bytes([rng.randrange(256)]) + body, False


def emptied(rng: random.Random, header: bytes, body: bytes) -> tuple[bytes, bool]:
    return framed(header[3], b""), False


def garbage(rng: random.Random, header: bytes, body: bytes) -> tuple[bytes, bool]:
    first = bytes([rng.choice(MARKS)]) if rng.random() < 0.5 else b""
    return framed(header[3], first + rng.randbytes(rng.randrange(1, 60))), False


def noise(rng: random.Random, header: bytes, body: bytes) -> tuple[bytes, bool]:
    return rng.randbytes(rng.randrange(1, 400)), rng.random() < 0.5


def counted(rng: random.Random, header: bytes, body: bytes) -> tuple[bytes, bool]:
    """A length-encoded number in front: how many columns there are, or how long the first text is.

    The client library reserves memory for so many columns. What no machine has ends a process in Rust, and
    nothing can catch that: there are no numbers here between the possible and the overflow.
    """
    number = rng.choice((rng.randrange(1 << 16), rng.randrange(1 << 20), rng.randrange(1 << 58, 1 << 64)))
    width, mark = (2, 0xFC) if number < 1 << 16 else (3, 0xFD) if number < 1 << 24 else (8, 0xFE)
    return framed(header[3], bytes([mark]) + number.to_bytes(width, "little") + body[1:]), False


def dropped(rng: random.Random, header: bytes, body: bytes) -> tuple[bytes, bool]:
    return b"", False


def doubled(rng: random.Random, header: bytes, body: bytes) -> tuple[bytes, bool]:
    again = framed((header[3] + 1) % 256, body) if rng.random() < 0.5 else header + body
    return header + body + again, False


KINDS: dict[str, Callable[[random.Random, bytes, bytes], tuple[bytes, bool]]] = {
    made.__name__: made
    for made in (
        flipped, marked, shortened, lengthened, torn, mismeasured, misnumbered, emptied, garbage, noise,
        counted, dropped, doubled,
    )
}  # fmt: skip


class Proxy:
    """Forwards, and does to the server's packets of a round what its `damage` says."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.damage: Damage | None = None
        self.seen = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def begin(self, damage: Damage | None) -> None:
        self.damage, self.seen = damage, 0

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.target))
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._up, args=(client, server), daemon=True).start()
            threading.Thread(target=self._down, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        held = b""
        with suppress(OSError):
            while data := server.recv(65536):
                held += data
                out = b""
                while len(held) >= 4 and len(held) >= (end := 4 + int.from_bytes(held[:3], "little")):
                    header, body, held = held[:4], held[4:end], held[end:]
                    piece, ends = header + body, False
                    if self.damage is not None and self.seen == self.damage.packet:
                        piece, ends = self.damage(header, body)
                    self.seen += 1
                    out += piece
                    if ends:
                        client.sendall(out)
                        client.shutdown(socket.SHUT_RDWR)
                client.sendall(out)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
        client.close()
        server.close()


def statements(db: Any) -> list[Callable[[], object]]:
    """Both protocols, every kind of answer, each kind of column."""
    select = "SELECT * FROM damaged ORDER BY id LIMIT 3"

    def as_text() -> object:
        with db._engine.alone() as connection:
            return connection._engine.native.run_text(connection._held, select)

    def committed() -> None:
        with db.tx():
            db.execute("UPDATE damaged SET flag = 1 WHERE id = 1")
            with db.tx():
                db.value("SELECT COUNT(*) FROM damaged")

    return [
        lambda: db.query(select),
        as_text,
        lambda: db.query("SELECT nonsense FROM damaged"),
        committed,
        lambda: db.query("SELECT id, ? AS given FROM damaged WHERE id < ?", "x", 3),
        lambda: db.execute("SET @left = 1"),
        lambda: db.value("SELECT 1"),
    ]


def run(port: int, seed: str, first: int, rounds: int, seconds: float) -> None:
    from trivet.db import Database, DatabaseError

    proxy = Proxy(port)
    options = f"pool=1&pool_timeout=5&connect_timeout={READ_SECONDS}&read_timeout={READ_SECONDS}"
    url = f"mysql://trivet:p%40ss@127.0.0.1:{proxy.port}/test?{options}"
    proxy.begin(None)
    with Database(url) as db:
        db.execute(TABLE)
        if not db.value("SELECT COUNT(*) FROM damaged"):
            marks = ", ".join("?" * len(VALUES))
            for _ in range(3):
                db.execute(f"INSERT INTO damaged ({COLUMNS}) VALUES ({marks})", *VALUES)
    proxy.begin(None)
    with Database(url) as db:
        for statement in statements(db):
            with suppress(DatabaseError):
                statement()
    packets = proxy.seen
    deadline = time.monotonic() + seconds
    for number in range(first, first + rounds):
        if time.monotonic() > deadline:
            break
        damage = Damage(f"{seed}-{number}", packets)
        print(json.dumps({"round": number, "damage": str(damage)}), flush=True)
        faulthandler.dump_traceback_later(HANGS_SECONDS, exit=True)
        proxy.begin(damage)
        failed = 0
        db = Database(url)
        for statement in statements(db):
            try:
                statement()
            except DatabaseError:
                failed += 1
        # Afterwards the pool is whole: the server is there, and nothing is damaged any more.
        proxy.begin(None)
        db.close()
        assert db.value("SELECT 40 + 2") == 42
        assert db._engine.open == 1, "a connection was counted that is not there"
        db.close()
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps({"round": number, "failed": failed}), flush=True)
    print(json.dumps({"ended": True, "packets": packets}), flush=True)


if __name__ == "__main__":
    run(
        int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float((sys.argv[5:] or ["inf"])[0])
    )

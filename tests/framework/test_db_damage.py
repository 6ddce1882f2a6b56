"""`trivet.db` on a MariaDB server whose bytes arrive damaged.

There are errors of ours, in time, and the process lives on. It is seeded: `TRIVET_DAMAGE_ROUNDS` (of each
client) and `TRIVET_DAMAGE_SEED` make it longer and other. One round again:
`python tests/support/damage.py PORT SEED ROUND 1`, with the seed and the round that the failure names.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from support import damage, mariadb, package
from trivet.db import Database, OperationalError

pytestmark = pytest.mark.skipif(shutil.which("mariadbd") is None, reason="MariaDB is not installed")

CLIENTS = 3
ROUNDS = int(os.environ.get("TRIVET_DAMAGE_ROUNDS", "110"))
SEED = os.environ.get("TRIVET_DAMAGE_SEED", "1")
# Of a round, with a good deal of what it waits for; the child ends itself when one hangs.
ROUND_SECONDS = 2


@pytest.fixture(scope="module")
def server() -> Iterator[mariadb.MariaDB]:
    with mariadb.running() as server:
        yield server


@pytest.mark.timeout(60 + ROUNDS * ROUND_SECONDS)
def test_no_damaged_answer_ends_the_process_or_hangs_it(server: mariadb.MariaDB) -> None:
    clients = []
    for number in range(CLIENTS):
        seed = f"{SEED}.{number}"
        command = [sys.executable, damage.__file__, str(server.port), seed, "0", str(ROUNDS)]
        clients.append(
            subprocess.Popen(
                command, env=package.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    told = [client.communicate() for client in clients]
    kinds = set()
    for number, (client, (out, errors)) in enumerate(zip(clients, told, strict=True)):
        lines = [json.loads(line) for line in out.splitlines()]
        begun = [line for line in lines if "damage" in line]
        assert client.returncode == 0, (
            f"seed {SEED}.{number}, {begun[-1:]}: {client.returncode}\n{errors[-6000:]}"
        )
        assert lines[-1]["ended"]
        assert len(begun) == ROUNDS
        kinds |= {line["damage"].partition(", ")[2] for line in begun}
        # Not every damage is seen (a letter inside a text), but most are.
        seen = sum(line["failed"] > 1 for line in lines if "failed" in line)
        assert seen > ROUNDS / 3, f"{seen} of {ROUNDS}"
    if ROUNDS >= 70:
        assert kinds == set(damage.KINDS)


def test_a_server_that_says_nothing_is_not_waited_for_for_ever() -> None:
    """It accepts, and is silent: what `connect_timeout` is for."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        start = time.monotonic()
        with (
            Database(f"mysql://u:p@127.0.0.1:{port}/n?connect_timeout=0.3") as db,
            pytest.raises(OperationalError, match="no answer in time"),
        ):
            db.query("SELECT 1")
        assert 0.2 < time.monotonic() - start < 5


def test_a_long_statement_may_take_longer_than_connecting(server: mariadb.MariaDB) -> None:
    with Database(server.url("connect_timeout=0.3&pool=1")) as db:
        assert db.value("SELECT sleep(0.8)") == 0
        db.execute("SET @left = 1")
        assert db.value("SELECT sleep(0.8)") == 0, "after a reset too"

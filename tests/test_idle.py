"""What it takes when it has nothing to do."""

import pytest
from conftest import Start
from support import procs
from support.http import Connection
from support.poll import until
from support.server import Server

MIB = 1 << 20
IDLE_BYTES_MAX = 12 * MIB
CONNECTION_BYTES_MAX = 8 * 1024


def test_supervisor_and_edge_are_small(start: Start, transport: str) -> None:
    server = start("echo", "--transport", transport)
    assert procs.memory_bytes(server.pid, server.edge()) <= IDLE_BYTES_MAX


@pytest.mark.alone
def test_nothing_runs_while_nothing_is_to_do(start: Start, transport: str) -> None:
    server = start("echo", "--transport", transport, "--workers", "2", "--threads", "2")
    family = [p.pid for p in server.family()]
    quiet_looks = 0
    before = [procs.cpu_seconds(pid) for pid in family]

    def quiet() -> bool:
        nonlocal before, quiet_looks
        now = [procs.cpu_seconds(pid) for pid in family]
        quiet_looks = quiet_looks + 1 if now == before else 0
        before = now
        return quiet_looks > 100

    until(quiet, 15, "no process uses the processor")


@pytest.mark.alone
@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_idle_connections_cost_little(start: Start, count: int) -> None:
    server = start("echo")
    edge = server.edge()
    warm(server, 50)
    before = procs.memory_bytes(edge)
    connections: list[Connection] = []
    try:
        for i in range(count):
            connections.append(server.connect())
            assert connections[-1].request("GET", f"/{i}").status == 200
        each = (procs.memory_bytes(edge) - before) / count
        assert each <= CONNECTION_BYTES_MAX, f"{each:.0f} bytes for each connection"
        for connection in connections[:: count // 100]:
            assert connection.request("GET", "/again").status == 200
    finally:
        for connection in connections:
            connection.socket.close()
    until(lambda: procs.descriptors(edge) < 100, why="they are gone")


def warm(server: Server, count: int) -> None:
    connections = [server.connect() for _ in range(count)]
    for connection in connections:
        assert connection.request("GET", "/").status == 200
        connection.socket.close()


def test_the_descriptor_limit_is_raised(start: Start) -> None:
    """A soft limit is for programs that use select; we do not."""
    server = start("echo", wrap=["sh", "-c", 'ulimit -S -n 256; exec "$@"', "sh"])
    connections = []
    try:
        for _ in range(400):
            connections.append(server.connect())
            assert connections[-1].request("GET", "/").status == 200
    finally:
        for connection in connections:
            connection.socket.close()

"""Uploads of 100 MiB and downloads of 1 GiB, while the edge stays small."""

import hashlib
import os
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Start
from support import procs
from support.http import Response, request
from support.poll import until
from support.server import Server

MIB = 1 << 20
UPLOAD_BYTES = 100 * MIB
DOWNLOAD_BYTES = 1024 * MIB
EDGE_BYTES_MAX = 64 * MIB
BLOCK = bytes(range(256)) * 256


def spooled_bytes(pid: int) -> int:
    """What the unlinked files that a process holds take on disk."""
    total = 0
    for entry in (procs.PROC / str(pid) / "fd").iterdir():
        try:
            if "(deleted)" in os.readlink(entry) and "memfd:" not in os.readlink(entry):
                total += os.stat(entry).st_blocks * 512
        except OSError:
            continue
    return total


class Watch:
    """The highest memory of a process while it is watched."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peak = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self.ended.wait(0.02):
            self.peak = max(self.peak, procs.memory_bytes(self.pid))

    def __enter__(self) -> "Watch":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()


@pytest.fixture
def big_file(tmp_path: Path) -> Iterator[Path]:
    """1 GiB without blocks of its own: a hole with a beginning and an end."""
    file = tmp_path / "big"
    with file.open("wb") as out:
        out.write(b"beginning")
        out.truncate(DOWNLOAD_BYTES - 3)
        out.seek(0, 2)
        out.write(b"end")
    yield file
    file.unlink()


@pytest.fixture
def server(start: Start, transport: str, big_file: Path) -> Server:
    flags = ["--transport", transport, "--limit-request-body", "128MiB"]
    return start("big", *flags, env={"BIG_FILE": str(big_file)})


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("buffering", ["buffered", "streaming"])
def test_an_upload_of_100_mib(start: Start, transport: str, framing: str, buffering: str) -> None:
    flags = ["--transport", transport, "--limit-request-body", "128MiB"]
    server = start("big", *flags, *(["--no-request-buffering"] if buffering == "streaming" else []))
    block = hashlib.sha256(b"block").digest() * (MIB // 32)
    digest = hashlib.sha256()
    with Watch(server.edge()) as watch, server.connect() as connection:
        if framing == "length":
            fields = {"Content-Length": str(UPLOAD_BYTES)}
        else:
            fields = {"Transfer-Encoding": "chunked"}
        connection.send(request("POST", "/upload", fields))
        for _ in range(UPLOAD_BYTES // MIB):
            digest.update(block)
            connection.send(b"%x\r\n%b\r\n" % (MIB, block) if framing == "chunked" else block)
        if framing == "chunked":
            connection.send(b"0\r\n\r\n")
        response = connection.read()
    assert response.json() == [UPLOAD_BYTES, digest.hexdigest()]
    assert watch.peak < EDGE_BYTES_MAX


def test_streamed_uploads_to_threads_that_pause_fill_the_ring_and_go_on(start: Start, transport: str) -> None:
    server = start("big", "--transport", transport, "--no-request-buffering", "--threads", "6")
    body = hashlib.sha256(b"body").digest() * (4 * MIB // 32)
    answers: list[object] = []

    def upload() -> None:
        with server.connect() as connection:
            response = connection.request("POST", "/upload-with-pause", body=body)
            answers.append(response.json() if response.status == 200 else response.status)

    threads = [threading.Thread(target=upload) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[len(body), hashlib.sha256(body).hexdigest()]] * 6


def download(server: Server, target: str) -> tuple[Response, int, int]:
    checksum = 0
    total = 0

    def take(piece: bytes) -> None:
        nonlocal checksum, total
        checksum = zlib.crc32(piece, checksum)
        total += len(piece)

    with server.connect() as connection:
        response = connection.request("GET", target, sink=take)
    return response, total, checksum


@pytest.fixture(scope="module")
def expected() -> int:
    checksum = 0
    for _ in range(DOWNLOAD_BYTES // len(BLOCK)):
        checksum = zlib.crc32(BLOCK, checksum)
    return checksum


@pytest.mark.parametrize("kind", ["generate", "generate-sized"])
def test_a_download_of_1_gib_from_a_generator(server: Server, kind: str, expected: int) -> None:
    with Watch(server.edge()) as watch:
        response, total, checksum = download(server, f"/{kind}/{DOWNLOAD_BYTES}")
    assert response.framing == ("chunked" if kind == "generate" else "length")
    assert (total, checksum) == (DOWNLOAD_BYTES, expected)
    assert watch.peak < EDGE_BYTES_MAX


def test_a_download_of_1_gib_from_a_file_is_sent_by_the_edge(server: Server, big_file: Path) -> None:
    ends: list[bytes] = []
    total = 0

    def take(piece: bytes) -> None:
        nonlocal total
        total += len(piece)
        # the first and the latest piece
        ends[1:] = [piece]

    worker = server.workers()[0]
    before = procs.cpu_seconds(worker)
    begun = time.monotonic()
    with Watch(server.edge()) as watch, server.connect() as connection:
        response = connection.request("GET", "/file", sink=take)
    assert (response.framing, total) == ("length", DOWNLOAD_BYTES)
    assert ends[0].startswith(b"beginning")
    assert ends[-1].endswith(b"end")
    assert watch.peak < EDGE_BYTES_MAX
    assert procs.cpu_seconds(worker) - before < 0.2, (
        f"the worker is not in the way ({time.monotonic() - begun} s)"
    )


def test_an_upload_that_is_stopped_leaves_nothing_open(server: Server) -> None:
    edge = server.edge()

    def stop_some() -> int:
        for _ in range(30):
            with server.connect() as connection:
                connection.send(request("POST", "/upload", {"Content-Length": str(50 * MIB)}) + b"x" * MIB)
                connection.reset()
        with server.connect() as connection:
            assert connection.request("POST", "/upload", body=b"x" * MIB).status == 200
        return procs.descriptors(edge)

    # files are kept for the next bodies, a bounded number of them
    most = 64 + 30 + procs.descriptors(edge)
    for _ in range(6):
        assert stop_some() <= most
    until(lambda: spooled_bytes(edge) <= 64 * MIB, why="what they took on disk is given back")

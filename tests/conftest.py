"""Fixtures: servers that are stopped and looked after, both transports, the slow set."""

import fcntl
import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.server import LIVE, Server, SiteServer

LOG_CHARACTERS_SHOWN = 12_000
SLOW_SET_TEST_SECONDS = 3600
TRANSPORTS = ("ring", "socket")

Start = Callable[..., Server]
Serve = Callable[..., SiteServer]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slow-set", action="store_true", help="the full figures: 50 repetitions, 10,000 connections"
    )
    parser.addoption(
        "--repetitions", type=int, default=0, help="of each loss test (5, or 50 in the slow set)"
    )


def pytest_configure() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow_set = config.getoption("--slow-set")
    for item in items:
        if slow_set:
            item.add_marker(pytest.mark.timeout(SLOW_SET_TEST_SECONDS))
        elif item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="only with --slow-set"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:
        for server in LIVE:
            report.sections.append(
                (f"log of {' '.join(server.command)}", server.log()[-LOG_CHARACTERS_SHOWN:])
            )
    return report


@pytest.fixture(autouse=True)
def turn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A test marked `alone` runs while none of the other test processes does anything.

    Tests hold the second lock, shared or alone. The first one is held while waiting for the second, so that
    whoever wants to be alone is not overtaken for ever.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    common = tmp_path_factory.getbasetemp().parent
    alone = request.node.get_closest_marker("alone")
    with (common / "gate.lock").open("w") as gate, (common / "turn.lock").open("w") as lock:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield


@pytest.fixture(scope="session")
def repetitions(pytestconfig: pytest.Config) -> int:
    return pytestconfig.getoption("--repetitions") or (50 if pytestconfig.getoption("--slow-set") else 5)


@pytest.fixture(scope="session")
def slow_set(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--slow-set"))


def _starter(folder: Path, started: list[Server]) -> Start:
    def start(*arguments: str, answers: bool = True, **options: object) -> Server:
        server = Server(folder, *arguments, **options)  # type: ignore[arg-type]
        started.append(server)
        return server.wait_until_it_answers() if answers else server

    return start


def _stop_all(started: list[Server]) -> None:
    codes = []
    try:
        for server in reversed(started):
            codes.append((server.stop(), server))
    finally:
        for server in started:
            server.kill()
    for code, server in codes:
        assert code == 0 or code == server.expected_code, f"ended with {code}:\n{server.log()[-4000:]}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server for one test and waits until it answers."""
    started: list[Server] = []
    yield _starter(tmp_path, started)
    _stop_all(started)


@pytest.fixture(scope="module")
def start_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """The same for all tests of a module."""
    started: list[Server] = []
    yield _starter(tmp_path_factory.mktemp("server"), started)
    _stop_all(started)


@pytest.fixture(scope="module", params=TRANSPORTS)
def shared_transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def _readable() -> Iterator[Path]:
    # Started by root, the edge runs under an account of its own: not below pytest's private folders.
    folder = Path(tempfile.mkdtemp(prefix="trivet-site-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _server_of(folder: Path, started: list[Server]) -> Serve:
    def serve(text: str, *, answers: bool = True, env: dict[str, str] | None = None) -> SiteServer:
        server = SiteServer(folder, text, env)
        started.append(server)
        if answers:
            server.wait_until_it_answers()
        return server

    return serve


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for a configuration, its pages and files, which every account can read."""
    with _readable() as folder:
        yield folder


@pytest.fixture
def serve(place: Path) -> Iterator[Serve]:
    """Serves a configuration in `place` for one test, and waits until it answers at `${P0}`."""
    started: list[Server] = []
    yield _server_of(place, started)
    _stop_all(started)


@pytest.fixture(scope="module")
def place_shared() -> Iterator[Path]:
    with _readable() as folder:
        yield folder


@pytest.fixture(scope="module")
def serve_shared(place_shared: Path) -> Iterator[Serve]:
    """The same for all tests of a module."""
    started: list[Server] = []
    yield _server_of(place_shared, started)
    _stop_all(started)

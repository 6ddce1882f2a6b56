"""Requests that take too long: 504, stacks and request line in the log, a new worker, the others unharmed."""

import re
import threading
import time

import pytest
from conftest import Start
from support.http import Cut, Response, once
from support.poll import until
from support.server import Server

STACKS = r"(Current thread|Thread) 0x[0-9a-f]+"


class Background:
    """A request in a thread of its own."""

    def __init__(self, server: Server, target: str, method: str = "GET") -> None:
        self.seconds = 0.0
        self.response: Response | None = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(server, target, method))
        self.thread.start()

    def _run(self, server: Server, target: str, method: str) -> None:
        begun = time.monotonic()
        try:
            self.response = once(server.address, method, target)
        except (OSError, Cut) as error:
            self.error = error
        self.seconds = time.monotonic() - begun

    def wait(self) -> Response:
        self.thread.join(60)
        assert self.response, self.error
        return self.response


@pytest.mark.parametrize(
    ("target", "function"), [("/block/60", "block_in_python"), ("/gil/60", "hold_the_gil")]
)
def test_a_request_past_its_time_is_504_with_its_stacks_logged_and_the_worker_replaced(
    start: Start, transport: str, target: str, function: str
) -> None:
    flags = ["--timeout", "1", "--threads", "2", "--graceful-timeout", "1", "--transport", transport]
    server = start("hang", *flags)
    old = server.workers()
    begun = time.monotonic()
    response = server.get(target)
    took = time.monotonic() - begun
    assert response.status == 504
    assert 0.9 < took < 2.5
    log = server.wait_for_log(STACKS)
    server.wait_for_log(rf"in {function}\b")
    assert re.search(rf"GET {target}", log), "the request line is in the log"
    request_id = response.get("x-request-id")
    assert request_id
    assert request_id in log
    assert server.get("/").status == 200, "a replacement serves"
    server.wait_for_workers(1, without=old)


def test_the_stacks_are_those_of_all_threads(start: Start) -> None:
    server = start("hang", "--timeout", "1", "--threads", "3", "--graceful-timeout", "1")
    requests = [Background(server, "/block/60")]
    server.wait_for_log("blocking in Python")
    requests.append(Background(server, "/gil/60"))
    assert [r.wait().status for r in requests] == [504, 504]
    server.wait_for_log(r"in block_in_python\b")
    log = server.wait_for_log(r"in hold_the_gil\b")
    assert len(re.findall(STACKS, log)) >= 3


def test_other_requests_of_that_worker_may_finish(start: Start, transport: str) -> None:
    flags = ["--timeout", "2", "--threads", "2", "--graceful-timeout", "5", "--transport", transport]
    server = start("hang", *flags)
    old = str(server.workers()[0])
    stuck = Background(server, "/block/60")
    begun = time.monotonic()
    until(lambda: time.monotonic() - begun > 1.2)
    beside = Background(server, "/block/1.5")
    assert stuck.wait().status == 504
    assert not beside.response, "it still runs"
    response = beside.wait()
    assert (response.status, response.text) == (200, old)
    assert server.get("/").text != old
    server.wait_for_workers(1, without=[int(old)])


def test_after_the_head_the_connection_is_cut(start: Start, transport: str) -> None:
    server = start("hang", "--timeout", "1", "--graceful-timeout", "1", "--transport", transport)
    with server.connect() as connection:
        connection.send(b"GET /mid/60 HTTP/1.1\r\nHost: test.example\r\n\r\n")
        with pytest.raises(Cut) as caught:
            connection.read()
        assert caught.value.head is not None
        assert caught.value.head.body == b"begun"
    server.wait_for_log(r"in block_in_python\b")
    assert server.get("/").status == 200


def test_each_chunk_has_its_own_time(start: Start, transport: str) -> None:
    server = start("hang", "--timeout", "1", "--transport", transport)
    assert server.get("/chunks/0.4").body == b"01234567"


def test_time_in_the_queue_does_not_count(start: Start, transport: str) -> None:
    server = start("hang", "--timeout", "1", "--transport", transport)
    requests = [Background(server, "/block/0.6") for _ in range(4)]
    assert [r.wait().status for r in requests] == [200] * 4
    assert max(r.seconds for r in requests) > 1.8


def test_waiting_for_a_slow_reader_does_not_count(start: Start, transport: str) -> None:
    server = start("hang", "--timeout", "1", "--transport", transport)
    before = server.workers()
    with server.connect(receive_buffer=4096) as connection:
        connection.send(b"GET /big/30000000 HTTP/1.1\r\nHost: test.example\r\n\r\n")
        assert connection.read_head().status == 200
        begun = time.monotonic()
        until(lambda: time.monotonic() - begun > 2)
        length = len(connection.rest_within(30_000_000))
        assert length == 30_000_000
    assert server.workers() == before


def test_waiting_for_a_slow_sender_does_not_count(start: Start, transport: str) -> None:
    server = start("hang", "--timeout", "1", "--no-request-buffering", "--transport", transport)
    before = server.workers()
    with server.connect() as connection:
        connection.send(b"POST /read HTTP/1.1\r\nHost: test.example\r\nContent-Length: 10\r\n\r\n12345")
        begun = time.monotonic()
        until(lambda: time.monotonic() - begun > 2)
        assert connection.send(b"67890").read().status == 200
    assert server.workers() == before


def test_zero_means_no_limit(start: Start) -> None:
    server = start("hang", "--timeout", "0")
    assert server.get("/block/2").status == 200


def test_w7_close_is_called_once_when_a_request_past_its_time_comes_back(
    start: Start, transport: str
) -> None:
    server = start("hang", "--timeout", "1", "--graceful-timeout", "10", "--transport", transport)
    old = server.workers()
    assert server.get("/closing/1.8").status == 504
    assert server.get("/").status == 200
    server.wait_for_log(r"close\(\) was called")
    server.wait_for_workers(1, without=old)
    assert server.log().count("close() was called") == 1

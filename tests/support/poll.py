"""Waiting with a deadline: the tests never sleep for a fixed time and hope."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TICK_SECONDS = 0.01


def until(what: Callable[[], T], seconds: float = 10.0, why: str = "") -> T:
    """Asks again until the answer is true, and returns it; fails when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        answer = what()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {why or what}")
        time.sleep(TICK_SECONDS)


def throughout(what: Callable[[], bool], seconds: float, why: str = "") -> None:
    """The statement holds each time it is looked at for this long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert what(), why
        time.sleep(TICK_SECONDS)

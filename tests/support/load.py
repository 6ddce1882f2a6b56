"""Load from many connections at once, with an account of every single request."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from support.http import Address, AsyncConnection, Cut, Response, Violation, request

STREAM = b"0123456789abcdef" * 64 * 40
# Longer than any wait that the server may impose.
ANSWER_SECONDS = 45.0


@dataclass
class Outcome:
    """What became of one request."""

    id: str
    kind: str
    begun: float
    status: int = 0
    """0: no answer."""
    cut: bool = False
    """The head came, the body was broken off."""
    error: str = ""
    worker: str = ""
    ended: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.id}: status {self.status} cut {self.cut} {self.error}"


@dataclass
class Load:
    """Clients in one event loop, each on a connection of its own, one request after the other."""

    address: Address
    kinds: tuple[str, ...] = ("get",)
    clients: int = 64
    keep_alive: bool = True
    """False: a new connection for each request."""
    outcomes: list[Outcome] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    ending: bool = False
    stop_when_told: bool = False
    """A client ends when an answer says close (or when its idle connection is closed), as at a shutdown."""

    def __post_init__(self) -> None:
        self.ids: Iterator[int] = itertools.count(1)
        self.run_id = f"{random.getrandbits(32):08x}"

    async def _client(self, number: int) -> None:
        connection: AsyncConnection | None = None
        dice = random.Random(number)
        while not self.ending:
            if connection is None:
                try:
                    connection = await AsyncConnection.open(self.address)
                except OSError as error:
                    self.refused.append(time.monotonic())
                    if self.stop_when_told:
                        return
                    self.outcomes.append(Outcome("-", "connect", time.monotonic(), error=repr(error)))
                    await asyncio.sleep(0.01)
                    continue
            kind = dice.choice(self.kinds)
            outcome = Outcome(f"{self.run_id}.{next(self.ids)}", kind, time.monotonic())
            self.outcomes.append(outcome)
            try:
                response = await self._one(connection, outcome)
            except Cut as cut:
                outcome.error = f"Cut: {cut}"
                if cut.head is not None:
                    outcome.status, outcome.cut = cut.head.status, True
                connection.close()
                connection = None
                if self.stop_when_told:
                    return
                continue
            finally:
                outcome.ended = time.monotonic()
            outcome.status = response.status
            if connection.closing or not self.keep_alive:
                connection.close()
                connection = None
                if self.stop_when_told:
                    return
        if connection:
            connection.close()

    async def _one(self, connection: AsyncConnection, outcome: Outcome) -> Response:
        if outcome.kind == "post":
            body = b"a body" * 10
            response = await connection.request(request("POST", f"/post/{outcome.id}", body=body), "POST")
        else:
            body = b""
            response = await connection.request(request("GET", f"/{outcome.kind}/{outcome.id}"))
        if response.status == 200:
            if outcome.kind == "stream":
                if response.body != STREAM:
                    raise Violation(f"a stream that ends as if whole has {len(response.body)} bytes")
            else:
                answered, _, rest = response.body.partition(b" ")
                outcome.worker = rest[: len(rest) - len(body)].decode()
                if answered.decode() != outcome.id or not rest.endswith(body):
                    raise Violation(f"{outcome} was answered with {response.body[:100]!r}")
        return response

    async def run(self, disturb: Callable[["Load"], Awaitable[None]]) -> None:
        """Runs the clients, then `disturb` beside them, then lets every request come to its end."""
        tasks = [asyncio.create_task(self._client(n)) for n in range(self.clients)]
        try:
            await disturb(self)
        finally:
            self.ending = True
            done, hanging = await asyncio.wait(tasks, timeout=ANSWER_SECONDS)
            for task in hanging:
                task.cancel()
        assert not hanging, f"{len(hanging)} requests were never answered"
        for task in done:
            task.result()

    async def answered(self, count: int, seconds: float = 20.0) -> None:
        """Until so many more requests have ended."""
        goal = len(self.ended()) + count
        deadline = time.monotonic() + seconds
        while len(self.ended()) < goal:
            assert time.monotonic() < deadline, f"{count} answers not within {seconds} s"
            await asyncio.sleep(0.005)

    def ended(self) -> list[Outcome]:
        return [o for o in self.outcomes if o.ended]

    def failures(self) -> list[str]:
        return [str(o) for o in self.outcomes if o.status != 200 or o.cut]


async def until(what: Callable[[], object], seconds: float = 20.0, why: str = "") -> None:
    """`support.poll.until` beside a running load."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s: {why}"
        await asyncio.sleep(0.01)


def recorded(record: Path) -> Counter[str]:
    """How often each request was entered into the app."""
    return Counter(line.split()[0] for line in record.read_text().splitlines())

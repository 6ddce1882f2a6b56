"""Threads for what is not `async`: one request, one thread, which serves others in between.

Each request has a `Lane`. Its steps (interceptors and handler; each piece of its answer; the close) run one
after the other in one context and, as long as its code goes on, in one thread: what a context or a thread
keeps for a step is there in the next one. In between the thread serves other lanes, unless something open
belongs to the thread and must not be met by others, such as a transaction. While there are less than
`THREADS_MAX` threads, each lane that needs one has it for itself anyway.

Only first steps wait for one of `AT_WORK_MAX` places: a handler may wait for what a later step of another
request gives back. For the same reason lanes that keep a thread for themselves leave some to the others.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from enum import Enum
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

#: Lanes that are in their first step in a thread, a handler mostly; more wait. Later steps do not count.
AT_WORK_MAX = 40
#: More that wait for their first step are refused.
WAITING_MAX = 10_000
#: So many lanes may have a thread of their own; more share. Beyond it there are threads in place
#: of those that are kept, up to `AT_WORK_MAX`, and as many again for later steps.
THREADS_MAX = 400
IDLE_SECONDS = 10.0

_MISSING = object()


class Busy(Exception):
    """Too many wait already."""


class Ended(RuntimeError):
    """Code of the app raised what would end the server's loop, and with it all other requests."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"the app raised `{error!r}`")


class Need(Enum):
    """What the next step of a lane needs, and whatever else there is in the thread."""

    ANY = "any thread"
    SAME = "the same thread"
    ALONE = "the same thread, and nobody else there before"


class Lanes:
    """The threads of an app. They end when they have had nothing to do for a while, and with the process."""

    def __init__(self) -> None:
        # Everything here and in `_Thread` is under the lock, of a `Lane` what it says.
        self._lock = threading.Lock()
        self.pid = os.getpid()
        #: With something to do and without a thread, the oldest first: those that begin, and others.
        self._waiting: deque[Lane] = deque()
        self._later: deque[Lane] = deque()
        #: Threads with nothing to do, those without lanes and others; the last used is last.
        self._spare: dict[_Thread, None] = {}
        self._shared: dict[_Thread, None] = {}
        self._threads = 0
        self._at_work = 0
        #: Lanes that have a thread and let nobody else have it.
        self._kept = 0

    def give(self, lane: Lane, work: Callable[[], None]) -> None:
        """Has something done in the lane's thread, in one that it gets now if it has none.

        Raises `Busy`, or `RuntimeError` where the system has no thread; then it is never done.
        """
        with self._lock:
            if not lane.begun and len(self._waiting) >= WAITING_MAX and not lane.todo:
                raise Busy
            lane.todo.append(work)
            if lane.runs or len(lane.todo) > 1:
                return  # its turn comes again when the thread has done what is before
            if lane.thread is None:
                queue = self._later if lane.begun else self._waiting
                queue.append(lane)
                try:
                    self._place()
                except RuntimeError:
                    queue.remove(lane)
                    lane.todo.clear()
                    raise
            else:
                self._call(lane.thread, lane)

    def leave(self, lane: Lane) -> None:
        """The lane needs its thread no more once everything that it was given is done."""
        with self._lock:
            lane.left = True
            if not lane.runs and not lane.todo:
                self._release(lane)

    def keep(self, lane: Lane) -> bool:
        """Whether the lane may have its thread alone from now on, without others being left without one."""
        with self._lock:
            if not lane.keeps:
                if self._kept >= THREADS_MAX:
                    return False
                self._keeps(lane, True)
            return True

    def step_aside(self, lane: Lane) -> bool:
        """Gives the lane's place to others while it waits for its client; its thread is kept meanwhile.

        False where it has none, or where too few threads would be left.
        """
        with self._lock:
            if not lane.begins or self._kept >= THREADS_MAX:
                return False
            lane.begins, lane.is_aside = False, True
            self._at_work -= 1
            self._keeps(lane, True)
            self._place()
            return True

    def step_back(self, lane: Lane) -> None:
        """Ends that. The lane works again at once, though all places may be taken."""
        with self._lock:
            if lane.is_aside:
                lane.begins, lane.is_aside = True, False
                self._at_work += 1
                self._keeps(lane, False)

    def _keeps(self, lane: Lane, keeps: bool) -> None:
        self._kept += keeps - lane.keeps
        lane.keeps = keeps

    def _call(self, thread: _Thread, lane: Lane) -> None:
        if thread.bound_to is not lane:
            thread.ready.append(lane)
            if thread.bound_to is not None:
                return
        self._wake(thread)

    def _wake(self, thread: _Thread) -> None:
        self._spare.pop(thread, None)
        self._shared.pop(thread, None)
        if thread.sleeps:
            thread.sleeps = False
            thread.alarm.put(None)

    def _place(self) -> None:
        """Gives threads to lanes that wait for one, as long as there are any."""
        while self._later or (self._waiting and self._at_work < AT_WORK_MAX):
            begins = not self._later
            thread = self._best(begins)
            if thread is None:
                return
            lane = (self._waiting if begins else self._later).popleft()
            lane.thread = thread
            lane.begun = True
            lane.begins = begins
            thread.lanes += 1
            self._at_work += begins
            self._call(thread, lane)

    def _best(self, begins: bool) -> _Thread | None:
        """One without lanes, else a new one, else that with the fewest; never one that is at work."""
        if self._spare:
            return next(reversed(self._spare))
        if self._threads < THREADS_MAX:
            return self._new()
        if self._shared:
            return min(self._shared, key=lambda thread: thread.lanes)
        beyond = min(self._kept, AT_WORK_MAX) + (0 if begins else AT_WORK_MAX)
        return self._new() if self._threads < THREADS_MAX + beyond else None

    def _new(self) -> _Thread | None:
        thread = _Thread()
        try:
            threading.Thread(target=self._serve, args=(thread,), name="trivet-lane", daemon=True).start()
        except RuntimeError:  # the system has no more of them
            if not self._threads:
                raise
            return min(self._shared, key=lambda thread: thread.lanes, default=None)
        self._threads += 1
        return thread

    def _release(self, lane: Lane) -> None:
        thread, lane.thread = lane.thread, None
        if thread is None:
            return
        self._keeps(lane, False)
        thread.lanes -= 1
        if thread.bound_to is lane:
            thread.bound_to = None
            if thread.ready:
                self._wake(thread)
        if thread.sleeps:
            self._rest(thread)
            self._place()

    def _rest(self, thread: _Thread) -> None:
        if thread.bound_to is None and not thread.ready:
            self._shared.pop(thread, None)
            (self._shared if thread.lanes else self._spare)[thread] = None

    def _serve(self, thread: _Thread) -> None:
        lane: Lane | None = None
        while True:
            with self._lock:
                if lane is not None:
                    self._done(thread, lane)
                self._rest(thread)
                self._place()
                lane, work = self._next(thread)
                thread.sleeps = lane is None
            if work is not None:
                work()
                del work
                continue
            try:
                thread.alarm.get(timeout=IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if thread in self._spare:
                        del self._spare[thread]
                        self._threads -= 1
                        return

    def _done(self, thread: _Thread, lane: Lane) -> None:
        lane.runs = lane.is_aside = False
        if lane.begins:
            lane.begins = False
            self._at_work -= 1
        alone = lane.need is Need.ALONE
        self._keeps(lane, alone)
        thread.bound_to = lane if alone else None
        if lane.todo:
            if not alone:
                thread.ready.append(lane)
        elif lane.left or lane.need is Need.ANY:
            self._release(lane)

    def _next(self, thread: _Thread) -> tuple[Lane, Callable[[], None]] | tuple[None, None]:
        lane = thread.bound_to
        if lane is None and thread.ready:
            lane = thread.ready.popleft()
        if lane is None or not lane.todo:
            return None, None
        lane.runs = True
        return lane, lane.todo.popleft()


class _Thread:
    """What `Lanes` knows of one of its threads."""

    def __init__(self) -> None:
        self.alarm: SimpleQueue[None] = SimpleQueue()
        self.sleeps = False
        #: Lanes with something to do in it, in turn.
        self.ready: deque[Lane] = deque()
        #: How many lanes have it.
        self.lanes = 0
        #: The only one that it serves for now.
        self.bound_to: Lane | None = None


class Lane:
    """The steps of one request. `needs` is asked after each of them, in its thread and context."""

    def __init__(self, lanes: Lanes, needs: Callable[[], Need]) -> None:
        self._lanes = lanes
        self._needs = needs
        #: The steps' own: what one of them sets, the next one has, and may reset.
        self.context = contextvars.copy_context()
        self.used = False
        # `Lanes`' own.
        self.todo: deque[Callable[[], None]] = deque()
        self.thread: _Thread | None = None
        self.need = Need.ANY
        self.runs = self.begins = self.is_aside = self.keeps = self.left = False
        #: Whether the next step is a later one.
        self.begun = False

    def submit(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """Has a step done after those that were given before."""
        result: Future[T] = Future()

        def step() -> None:
            if not result.set_running_or_notify_cancel():
                return
            try:
                value = self.context.run(function, *args)
            except BaseException as error:  # noqa: BLE001 - it is whose result it is
                self.need = self.context.run(self._needs)
                if isinstance(error, (SystemExit, KeyboardInterrupt)):
                    ended = Ended(error)
                    ended.__cause__ = error
                    error = ended
                result.set_exception(error)
            else:
                self.need = self.context.run(self._needs)
                result.set_result(value)

        self._lanes.give(self, step)
        self.used = True
        return result

    async def run(
        self,
        function: Callable[..., T],
        *args: Any,
        undo: Callable[[], object] | None = None,
        must: bool = True,
    ) -> T:
        """A step's result.

        With `undo`, a step goes on where nobody waits for it any more, and `undo()` is the step after it.
        What has not begun by then is still done if it `must`.
        """
        future = self.submit(function, *args)
        waiting = asyncio.wrap_future(future)
        try:
            return await (waiting if undo is None else asyncio.shield(waiting))
        except BaseException:
            if undo is not None and not (future.done() and future.exception() is not None):
                if not must:
                    future.cancel()
                self.submit(_late, future, undo)
            raise

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While the step waits for its client, another request has its place."""
        is_aside = self._lanes.step_aside(self)
        try:
            yield
        finally:
            if is_aside:
                self._lanes.step_back(self)

    def keep(self) -> bool:
        """Whether the thread may be kept from all others after the step that asks."""
        return self._lanes.keep(self)

    def leave(self) -> None:
        """The thread is free once it has done what it was given, whatever the last step needs."""
        self._lanes.leave(self)

    def tell(self) -> None:
        """Sets in the caller's context what the steps have set in theirs."""
        if self.used:
            _adopt(self.context)

    def hear(self) -> None:
        """Sets in the steps' context what the caller has in its own."""
        self.context.run(_adopt, contextvars.copy_context())


def _adopt(other: contextvars.Context) -> None:
    for variable, value in other.items():
        if variable.get(_MISSING) is not value:
            variable.set(value)


def _late(done: Future[Any], undo: Callable[[], object]) -> None:
    if done.cancelled() or done.exception() is not None:
        return
    try:
        undo()
    except asyncio.CancelledError:
        pass
    except BaseException:  # noqa: BLE001 - nobody is there who could be told otherwise
        traceback.print_exc()

"""Coroutines for servers that have no loop: one loop in a thread of its own, for the whole process."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import threading
import traceback
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .app import App

T = TypeVar("T")

_loop: asyncio.AbstractEventLoop | None = None
_loop_pid = 0
_loop_thread: threading.Thread | None = None
_loop_lock = threading.Lock()


def _process_loop() -> asyncio.AbstractEventLoop:
    global _loop, _loop_pid, _loop_thread
    with _loop_lock:
        # A forked child has the object but not the thread.
        alive = _loop_pid == os.getpid() and _loop_thread is not None and _loop_thread.is_alive()
        if _loop is None or not alive:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=_turn, args=(loop,), name="trivet-loop", daemon=True)
            thread.start()
            _loop, _loop_pid, _loop_thread = loop, os.getpid(), thread
        return _loop


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    while True:
        try:
            loop.run_forever()
            return
        except (SystemExit, KeyboardInterrupt):
            # Of a task that some coroutine began: the others are still waited for.
            traceback.print_exc()


def wait(app: App | None, awaitable: Awaitable[T] | T) -> T:
    """The result of a coroutine, from a thread without a loop; context variables go with it.

    Raises `RuntimeError` in the thread of the loop itself, which would wait for itself for ever.
    """
    if not inspect.isawaitable(awaitable):
        # A plain function around an `async def` has waited already.
        return awaitable
    loop = _process_loop()
    if threading.current_thread() is _loop_thread:
        close = getattr(awaitable, "close", None)
        if close is not None:
            close()
        raise RuntimeError(
            "an `async def` handler asks for another one in its own loop, which would wait for itself\n"
            "hint: `await` it, or call the app in a thread (`asyncio.to_thread`)"
        )
    result: Future[T] = Future()

    async def run() -> None:
        # A task that raises `SystemExit` or `KeyboardInterrupt` itself ends the loop of all the others.
        try:
            value = await awaitable
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            result.set_exception(error)
        else:
            result.set_result(value)

    def begin() -> None:
        task = loop.create_task(run())
        task.add_done_callback(finish)

    def finish(task: asyncio.Task[None]) -> None:
        if not result.done():  # it was cancelled before it began
            result.set_exception(asyncio.CancelledError())

    loop.call_soon_threadsafe(begin, context=contextvars.copy_context())
    return result.result()


class blocking:
    """An async iterable as a plain one, for a server without a loop."""

    def __init__(self, source: Any, app: App | None) -> None:
        self._iterator = aiter(source)
        self._app = app

    def __iter__(self) -> blocking:
        return self

    def __next__(self) -> Any:
        end = object()

        async def step() -> Any:
            async for piece in self._iterator:
                return piece
            return end

        piece = wait(self._app, step())
        if piece is end:
            raise StopIteration
        return piece

    def close(self) -> None:
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            wait(self._app, close())

"""How work ends: by a request to end soon, beside the loop, or as a group of tasks with one plain error."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from threading import Thread
from typing import Any, TypeVar

from exporter.model.errors import ExporterError, InterruptedRunError

T = TypeVar("T")
#: Work that ignores the interruption is left behind: a read from a terminal may last for ever.
_PATIENCE_S = 3.0


class Stop:
    """A request to end soon: set once, by a signal or by the caller; whether it is `asked`, any thread may look."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.asked = False
        self.signal_number: int | None = None

    def ask(self, signal_number: int) -> None:
        """Ask for the end; `signal_number` says why, where nobody has said so before."""
        self.signal_number = self.signal_number or signal_number
        self.asked = True
        self._event.set()

    async def wait(self, at_most_s: float | None = None) -> None:
        """Return when the end is asked for, or so many seconds are over."""
        await waited(self._event, at_most_s)

    def error(self, what: str, hint: str) -> InterruptedRunError:
        """Return the error that ends the run: what is kept, and how to resume."""
        return InterruptedRunError(self.signal_number or 2, what, hint)


async def waited(event: asyncio.Event, at_most_s: float | None) -> None:
    """Return when an event is set, or so many seconds are over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(at_most_s):
            await event.wait()


async def beside_the_loop(
    work: Callable[[], T], stop: Stop, doing: str, interrupt: Callable[[], object] = lambda: None
) -> T:
    """Do blocking work, as `reading the input`, in a thread, so that a signal is noticed while it continues.

    An `InterruptedRunError` where the end was asked for first; `interrupt` makes the work end soon, by any error.
    """
    working = asyncio.wrap_future(in_thread(work, doing))
    if not await _done_first(working, stop):
        interrupt()
        await asyncio.wait({working}, timeout=_PATIENCE_S)
    if stop.asked:
        # The error that the interruption brought is looked at, so that nobody warns of it.
        if not working.cancel() and not working.cancelled():
            working.exception()
        raise stop.error(f"Stopped by a signal while {doing}.", "Run the same command again to resume.")
    return working.result()


async def unless_stopped(task: asyncio.Task[T], stop: Stop, what: str, hint: str) -> T:
    """Return what a task does; where the end is asked for first, end it and raise the error that says so."""
    try:
        if not await _done_first(task, stop):
            raise stop.error(what, hint)
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _done_first(work: asyncio.Future[Any], stop: Stop) -> bool:
    """Wait for work to be done, or the end to be asked for; tell whether it is done."""
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return work.done()
    finally:
        stopped.cancel()


def in_thread(work: Callable[[], T], name: str | None = None) -> Future[T]:
    """Begin blocking work in a thread that never keeps the process from ending, whatever it waits for."""
    result: Future[T] = Future()

    def fulfil() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    Thread(target=fulfil, name=name, daemon=True).start()
    return result


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Open an `asyncio.TaskGroup` whose end raises one error: the most telling, of ours before any other."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        telling: BaseException = errors.subgroup(ExporterError) or errors
        while isinstance(telling, BaseExceptionGroup):
            telling = telling.exceptions[0]
        raise telling from None

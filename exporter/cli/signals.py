"""SIGINT and SIGTERM ask for the end once; the second one ends the process at once.

Plain handlers, not the event loop's: those wait for the loop, and a loop that waits for a disk does not
turn. Ending the process is always safe: a kill is what the store and the renames are made for.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from exporter.system.child_process import END_SIGNALS
from exporter.system.stopping import Stop

T = TypeVar("T")
#: The answers in flight have eight seconds, and the promise is ten.
_LONGEST_S = 9.5
_LAST_WORDS = (
    b"Error: Stopped by a signal; what was fetched is kept.\nRun the same command again to resume.\n"
)


def run_stoppable(main: Callable[[Stop], Awaitable[T]]) -> T:
    """Run a coroutine to its end; a signal asks its `Stop` for the end first."""

    async def run() -> T:
        stop = Stop()
        with _heard_by(stop):
            return await main(stop)

    return asyncio.run(run())


@contextmanager
def _heard_by(stop: Stop) -> Iterator[None]:
    loop, signalled = asyncio.get_running_loop(), False

    def hear(number: int, _: object) -> None:
        nonlocal signalled
        if signalled:
            os._exit(128 + number)
        signalled = True
        loop.call_soon_threadsafe(stop.ask, number)
        last_moment = threading.Timer(_LONGEST_S, _end, [number])
        last_moment.daemon = True
        last_moment.start()

    before = {number: signal.getsignal(number) for number in END_SIGNALS}
    for number in END_SIGNALS:
        with suppress(NotImplementedError):  # Windows' loops wake up by themselves
            # Wakes a waiting loop even where the system hands the signal to another thread.
            loop.add_signal_handler(number, lambda: None)
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _end(number: int) -> None:
    os.write(2, _LAST_WORDS)
    os._exit(128 + number)

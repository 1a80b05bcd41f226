"""SIGINT and SIGTERM ask for the end once; the second one ends the process at once.

Plain handlers, not the event loop's: those wait for the loop, and a loop that waits for a disk does not
turn. Ending the process is always safe: a kill is what the store
and the renames are made for.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from exporter.system.stopping import Stop

T = TypeVar("T")
#: Ctrl-Break is what ends a process of another group on Windows.
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
#: The answers in flight have eight seconds, and the promise is ten.
_LONGEST_S = 9.5


def run_stoppable(main: Callable[[Stop], Awaitable[T]]) -> T:
    """Run a coroutine to its end; a signal asks its `Stop` for the end first."""
    return asyncio.run(_main(main))


async def _main(main: Callable[[Stop], Awaitable[T]]) -> T:
    stop = Stop()
    with _signals(_Listener(stop, asyncio.get_running_loop())):
        return await main(stop)


class _Listener:
    def __init__(self, stop: Stop, loop: asyncio.AbstractEventLoop) -> None:
        self._stop = stop
        self._loop = loop
        self._signalled = False

    def __call__(self, number: int, _: object) -> None:
        if self._signalled:
            os._exit(128 + number)
        self._signalled = True
        self._loop.call_soon_threadsafe(self._stop.ask, number)
        last_moment = threading.Timer(_LONGEST_S, _end, [number])
        last_moment.daemon = True
        last_moment.start()


def _end(number: int) -> None:
    os.write(
        2, b"Error: Stopped by a signal; what was fetched is kept.\nThe same command goes on from there.\n"
    )
    os._exit(128 + number)


@contextmanager
def _signals(handler: _Listener) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        _wake_the_loop_at(number)
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _wake_the_loop_at(number: int) -> None:
    """Let the signal wake a waiting loop even where the system hands it to another thread."""
    try:
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
    except NotImplementedError:  # Windows' loops wake up by themselves
        pass

"""SIGINT and SIGTERM ask for the end once; the second one ends the process at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

from exporter.refresh import Stop

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_stoppable(main: Callable[[Stop], Awaitable[T]]) -> T:
    """Run a coroutine to its end; a signal asks its `Stop` for the end first.

    Args:
        main: Gets the `Stop` to heed.
    """
    return asyncio.run(_main(main))


async def _main(main: Callable[[Stop], Awaitable[T]]) -> T:
    stop = Stop()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.asked:
            # SQLite and our renames are safe at any moment; nothing here is worth waiting for.
            os._exit(128 + number)
        stop.ask(number)

    for number in _SIGNALS:
        try:
            loop.add_signal_handler(number, on_signal, number)
        except NotImplementedError:  # Windows' event loops
            signal.signal(number, lambda number, _: loop.call_soon_threadsafe(on_signal, number))
    return await main(stop)

"""What is between the workers and the store: numbers read ahead, outcomes on their way into the next commit.

Both are bounded, so a slow disk slows the fetching.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from exporter.model.options import MIB
from exporter.model.records import Outcome, Traffic
from exporter.system.stopping import Stop, waited

_BATCH = 1000
_BATCH_BYTES = 4 * MIB
#: A kill costs what is in flight and at most this much of answers, with the commit's own time.
_COMMIT_EVERY_S = 0.25

Chunk = list[tuple[int, str, str | None]]  # of each number its line, itself and its entry's digest


class Try(NamedTuple):
    """An order number to ask for: which attempt is next, whether none is made after it, and its entry's digest."""

    number: str
    attempt: int = 1
    is_last: bool = False
    entry: str | None = None


class Pending:
    """The numbers still to be asked for, which `read` brings from behind a line on; `furthest` is the last of them."""

    def __init__(self, read: Callable[[int], asyncio.Future[Chunk]], stop: Stop) -> None:
        self._read, self._stop = read, stop
        self._ahead: asyncio.Future[Chunk] | None = None
        self._ready: deque[Try] = deque()
        self._refill = asyncio.Lock()
        self._read_out = False
        self.furthest: str | None = None

    async def next(self) -> Try | None:
        """Return what to ask for next, or None when there is nothing left or the end was asked for."""
        while not (self._ready or self._read_out or self._stop.asked):
            async with self._refill:
                if not (self._ready or self._read_out):
                    await self._take_chunk()
        return self._ready.popleft() if self.is_left else None

    def put_back(self, again: Try) -> None:
        """Let an order be requested again."""
        self._ready.append(again)

    @property
    def is_left(self) -> bool:
        """Whether something was put back since the last one was given out."""
        return bool(self._ready) and not self._stop.asked

    @property
    def is_read_out(self) -> bool:
        """Whether every number has been given out."""
        return self._read_out and not self._ready

    async def _take_chunk(self) -> None:
        chunk = await (self._ahead or self._read(-1))
        self._read_out = not chunk
        if chunk:
            line, self.furthest, _ = chunk[-1]
            self._ready.extend(Try(number, entry=entry) for _, number, entry in chunk)
            self._ahead = self._read(line)


class Recorder:
    """Has outcomes settled in batches, with the traffic since the batch before; `traffic` is all of it so far."""

    def __init__(
        self, settle: Callable[[list[Outcome], Traffic], Awaitable[None]], traffic: Callable[[], Traffic]
    ) -> None:
        self._settle, self._traffic = settle, traffic
        self._written = Traffic()
        self._waiting: list[Outcome] = []
        self._bytes = 0
        self._turn = asyncio.Lock()
        self._closed = asyncio.Event()

    async def add(self, outcome: Outcome) -> None:
        """Take an outcome; return at once while there is room."""
        self._waiting.append(outcome)
        self._bytes += len(outcome.payload or b"")
        if len(self._waiting) >= _BATCH or self._bytes >= _BATCH_BYTES:
            await self.flush()

    async def run(self) -> None:
        """Commit every quarter of a second, until closed."""
        while not self._closed.is_set():
            await waited(self._closed, _COMMIT_EVERY_S)
            await self.flush()

    def close(self) -> None:
        """Let `run` commit what is left and end."""
        self._closed.set()

    async def flush(self, *, last: bool = False) -> None:
        """Commit what waits; `last` commits the traffic even where no outcome waits."""
        async with self._turn:
            batch, self._waiting, self._bytes = self._waiting, [], 0
            traffic = self._traffic() - self._written
            if batch or (last and traffic.sent):
                self._written += traffic
                # Shielded: a cancelled call that still waits for the thread would never be made, and its batch lost.
                await asyncio.shield(self._settle(batch, traffic))

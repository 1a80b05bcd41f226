"""A worker's pace: slots that the coordinator's one pace has given out, used at their own times.

Each slot comes with its age, and is used a fixed lag after it was given: so the even spacing of the
coordinator's pace reaches the API as it was, however the slots travelled. So slots are asked for ahead,
also for the requests in flight that will have ended by then: else each request would wait for the lag. A
slot that nobody waits for when its time has come is lost, as it would be on one machine. Without the
coordinator a worker goes on with its static share of the pace.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque

from exporter.engines.messages import Word
from exporter.pace import Pace, PaceState
from exporter.rate import Rate

#: It must cover how long slots wait to be sent together, and their travel.
LAG_S = 0.030
#: From asking for a slot to its time: the asking waits for company, too.
_AHEAD_S = LAG_S + 0.007
#: A new latency's weight in the mean.
_LATELY = 0.1
_KEPT_S = 0.010
_SHORTEST_S = 0.001
_SLOWEST_PER_S = 1 / 3600
_quiet = logging.getLogger("exporter.engines.alone")
_quiet.disabled = True  # of a share's pauses the coordinator tells, or nobody


class LeasedPace:
    """Gives each request of one worker its slot; see `exporter.pace.Gate`.

    For one event loop. A cancelled `slot` leaves nothing behind.

    Args:
        concurrency: How many may want a slot or be in flight at one time.
    """

    def __init__(self, concurrency: int) -> None:
        self.changed = asyncio.Event()
        self.latencies: list[float] = []
        self.refusals: list[tuple[float | None, float | None]] = []
        self._concurrency = concurrency
        self._latency_s = math.inf
        self._loop = asyncio.get_running_loop()
        self._free = False
        self._last = Word(share_per_s=0.0)
        self._heard_at = self._loop.time()
        self._alone: Pace | None = None
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._held: dict[int, asyncio.TimerHandle] = {}
        self._received = 0
        self._kept = 0

    def asked(self, left: int | None) -> int:
        """Return the slots wanted since the link was made: those received, and those that are still missing.

        Args:
            left: Orders that are not settled; None where that is not known.
        """
        usable = 0 if self._free else math.ceil(self._concurrency * _AHEAD_S / self._latency_s)
        wanted = max(len(self._waiting), usable if left is None else min(usable, left))
        return self._received + max(0, wanted - len(self._held) - self._kept)

    async def slot(self) -> None:
        """Return when one request may start."""
        while not self._free:
            if self._alone is not None:
                await self._alone.slot()
                return
            if self._kept:
                self._kept -= 1
                self.changed.set()
                return
            if await self._wait():
                return

    def throttled(self, retry_after_s: float | None, latency_s: float | None = None) -> None:
        """Take in a 429: nothing more starts here until the coordinator has spoken.

        Raises:
            ApiUnavailableError: The wait is over 15 minutes; known here only without the coordinator.
        """
        if self._alone is not None:
            self._alone.throttled(retry_after_s, latency_s)
            return
        self.refusals.append((retry_after_s, latency_s))
        self._free = False
        self._void()
        self.changed.set()

    def answered(self, latency_s: float) -> None:
        """Take in an answer that is no 429."""
        self.latencies.append(latency_s)
        if math.isinf(self._latency_s):
            self._latency_s = latency_s
        self._latency_s = max(_SHORTEST_S, self._latency_s + _LATELY * (latency_s - self._latency_s))
        if self._alone is not None:
            self._alone.answered(latency_s)

    def snapshot(self) -> PaceState:
        """Return that nothing bounds the pace here: the coordinator's is the one to look at."""
        return PaceState(per_s=math.inf, paused_until=None, why="as the coordinator says")

    def linked(self) -> None:
        """Begin to count anew: the coordinator can be reached, perhaps again."""
        self._received = 0

    def heard(self, word: Word) -> None:
        """Take in what the coordinator says."""
        self._alone = None
        self._last, self._heard_at = word, self._loop.time()
        if word.voided:
            self._void()
        self._free = word.free and not self.refusals  # else it does not know of them yet
        if self._free:
            self._look_again()
        for age_s in word.slots:
            self._received += 1
            due = self._heard_at - age_s + LAG_S
            self._held[self._received] = self._loop.call_at(due, self._due, self._received)

    def lost(self) -> None:
        """Go on alone, at the static share: the coordinator cannot be reached."""
        if self._alone is None:
            self._free = False
            self._alone = self._static_share()
            self._look_again()

    def _static_share(self) -> Pace:
        share_per_s = self._last.share_per_s
        rate = (
            Rate(kind="unlimited") if share_per_s is None else Rate(requests=max(share_per_s, _SLOWEST_PER_S))
        )
        pace = Pace(rate, log=_quiet)
        paused_s = self._last.paused_s - (self._loop.time() - self._heard_at)
        if paused_s > 0:
            pace.throttled(paused_s)
        return pace

    async def _wait(self) -> bool:
        """Wait for a slot; False means to look again."""
        future: asyncio.Future[bool] = self._loop.create_future()
        self._waiting.append(future)
        self.changed.set()
        try:
            return await future
        except asyncio.CancelledError:
            if future in self._waiting:
                self._waiting.remove(future)
            raise

    def _due(self, number: int) -> None:
        del self._held[number]
        self.changed.set()  # others are to be asked for
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(True)
                return
        self._kept += 1
        self._loop.call_later(_KEPT_S, self._drop)

    def _drop(self) -> None:
        self._kept = max(0, self._kept - 1)

    def _void(self) -> None:
        for held in self._held.values():
            held.cancel()
        self._held.clear()
        self._kept = 0
        self.changed.set()

    def _look_again(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(False)

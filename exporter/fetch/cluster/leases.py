"""A worker's pace: slots that the coordinator's one pace has given out, used at their own times.

Each slot comes with its age, and is used a fixed lag after it was given: so the even spacing of the
coordinator's pace reaches the API as it was, however the slots travelled. So that no request waits for
that, slots are also asked for ahead, as many as were used lately in that time. A slot that nobody waits for
when its time has come is lost, as it would be on one machine. Without the coordinator a worker goes on with
its static share of the pace.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections import deque

from exporter.api.pace import Pace, PaceState
from exporter.fetch.cluster.messages import Word
from exporter.model.rate import Rate

#: It must cover how long slots wait to be sent together, and their travel.
LAG_S = 0.030
#: From asking for a slot to its time: the asking waits for company, too.
_AHEAD_S = LAG_S + 0.010
#: "Lately" is a mean over so long.
_LATELY_S = 0.1
# A slot may be used so late. With the 10 ms by which the pace itself may catch up, and the 5 ms that are left for
# the way to the API, a second holds what was given out in 1.02 s.
_KEPT_S = 0.005
_SLOWEST_PER_S = 1 / 3600
_quiet = logging.getLogger("exporter.fetch.cluster.alone")
_quiet.disabled = True  # of a share's pauses the coordinator tells, or nobody


class LeasedPace:
    """Gives each request of one worker its slot; see `exporter.api.pace.Gate`.

    For one event loop. A cancelled `slot` leaves nothing behind.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.latencies: list[float] = []
        self.refusals: list[tuple[float | None, float | None]] = []
        self._loop = asyncio.get_running_loop()
        self._free = False
        self._last = Word(share_per_s=0.0)
        self._heard_at = self._loop.time()
        self._alone: Pace | None = None
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._keys = itertools.count()
        self._held: dict[int, asyncio.TimerHandle] = {}
        self._received = 0
        #: Until when each slot can be used that came when nobody waited.
        self._kept: deque[float] = deque()
        self._used_per_s = 0.0
        self._used_at = -math.inf

    def asked(self, left: int | None) -> int:
        """Return the slots wanted since the link was made: those received, and those that are still missing.

        Args:
            left: Orders that are not settled; None where that is not known.
        """
        lately = 0 if self._free else int(self._used_lately_per_s() * _AHEAD_S)
        wanted = len(self._waiting) + (lately if left is None else min(lately, left))
        self._lose_late()
        return self._received + max(0, wanted - len(self._held) - len(self._kept))

    async def slot(self) -> None:
        """Return when one request may start."""
        while not self._free:
            if self._alone is not None:
                await self._alone.slot()
                return
            self._lose_late()
            if self._kept:
                self._kept.popleft()
                self._used()
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
            due, key = self._heard_at - age_s + LAG_S, next(self._keys)
            self._held[key] = self._loop.call_at(due, self._due, key)

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

    def _due(self, key: int) -> None:
        del self._held[key]
        self.changed.set()  # others are to be asked for
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(True)
                self._used()
                return
        self._kept.append(self._loop.time() + _KEPT_S)

    def _lose_late(self) -> None:
        now = self._loop.time()
        while self._kept and self._kept[0] < now:
            self._kept.popleft()

    def _used(self) -> None:
        self._used_per_s = self._used_lately_per_s() + 1 / _LATELY_S
        self._used_at = self._loop.time()

    def _used_lately_per_s(self) -> float:
        return self._used_per_s * math.exp((self._used_at - self._loop.time()) / _LATELY_S)

    def _void(self) -> None:
        for held in self._held.values():
            held.cancel()
        self._held.clear()
        self._kept.clear()
        self.changed.set()

    def _look_again(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(False)

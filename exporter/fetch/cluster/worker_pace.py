"""A worker's pace: its share of the run's one rate, evenly spaced, as the coordinator last said."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress

from exporter.api.pace import PaceState

# What a late timer loses, up to this, is made up for at once; see `exporter.api.pace`.
_CATCH_UP_S = 0.010
_NEW_ANSWER_WEIGHS = 0.1


class SharePace:
    """Gives each request of one range its slot; see `exporter.api.pace.Gate`.

    For one event loop. Nothing starts before the coordinator has spoken; without it the share stays as it was.
    A cancelled `slot` leaves nothing behind.

    Attributes:
        changed: Set when the coordinator should know more.
        share_per_s: Requests a second that may start; infinite for no bound.
        started: Requests that have started.
        answers: Answers, refusals aside, since somebody took them away.
        answers_s: What these took, added up.
        latency_s: What an answer takes of late; None before the first.
        refusals: (Retry-After, latency, what was answered) of each 429 since somebody took them away.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.share_per_s = 0.0
        self.started = 0
        self.answers, self.answers_s = 0, 0.0
        self.latency_s: float | None = None
        self.refusals: list[tuple[float | None, float | None, str]] = []
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._shared_anew = asyncio.Event()
        self._last = self._not_before = -math.inf

    async def slot(self) -> None:
        """Return when one request may start."""
        if not math.isinf(self.share_per_s):
            async with self._turn:  # first come, first served
                await self._due()
        self.started += 1

    async def _due(self) -> None:
        while (wait_s := self._next() - self._loop.time()) > 0:
            self._shared_anew.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s if math.isfinite(wait_s) else None):
                    await self._shared_anew.wait()
        self._last = max(self._next(), self._loop.time() - _CATCH_UP_S)

    def _next(self) -> float:
        if not self.share_per_s:
            return math.inf
        return max(self._last + 1 / self.share_per_s, self._not_before)

    def share(self, per_s: float) -> None:
        """Take a new share of the rate; zero makes everybody wait."""
        if per_s == self.share_per_s:
            return
        if not self.share_per_s and per_s:
            # Whoever had it before has just used it.
            self._not_before = self._loop.time() + 1 / per_s
        self.share_per_s = per_s
        self._shared_anew.set()
        self.changed.set()  # what was given up is another's once the coordinator knows

    def throttled(
        self, retry_after_s: float | None, latency_s: float | None = None, cause: str = "429"
    ) -> None:
        """Take in a 429: nothing more starts here until the coordinator has spoken."""
        self.refusals.append((retry_after_s, latency_s, cause))
        self.share(0.0)
        self.changed.set()

    def answered(self, latency_s: float) -> None:
        """Take in an answer that is no 429."""
        self.answers += 1
        self.answers_s += latency_s
        before = latency_s if self.latency_s is None else self.latency_s
        self.latency_s = before + _NEW_ANSWER_WEIGHS * (latency_s - before)

    def snapshot(self) -> PaceState:
        """Return that nothing bounds the pace here: the coordinator's is the one to look at."""
        return PaceState(per_s=math.inf, paused_until=None, why="as the coordinator says")

"""When the next request may start: one gate for every request that reaches the wire."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import NamedTuple

from aiolimiter import AsyncLimiter

from exporter.model.options import AskOptions
from exporter.model.pace_law import Steering
from exporter.model.rate import Rate
from exporter.model.units import local_time
from exporter.system.log import log
from exporter.system.stopping import waited

#: A timer of the event loop rings late. What is lost by it, up to this, is made up for at once: more
#: would break the promise `rate * 1.02 + 1` a second, that is 0.02 s to share with the network's jitter.
CATCH_UP_S = 0.010
# Arrivals of one minute or hour may come this much closer together than they left.
_JITTER_S = 0.3
_HIGHEST = Rate.parse(AskOptions.max_rate)
_NEW_ANSWER_WEIGHS = 0.1
#: Retry-After or None, latency, and what was answered, of one 429.
Refusal = tuple[float | None, float | None, str]


class PaceState(NamedTuple):
    """The pace at one moment, in the words of `Progress`."""

    permitted_per_s: float | None
    paused_s: float | None
    why: str
    limited: bool = False

    @property
    def per_s(self) -> float:
        """Requests a second that are permitted; infinite without a limit."""
        return math.inf if self.permitted_per_s is None else self.permitted_per_s


class Pace:
    """Gives each request its slot, and slows down when the API asks for it.

    For one event loop, whose own clock `clock` is. A cancelled `slot` leaves nothing behind. `max_rate` bounds
    `auto`; `waiting` returns how many orders wait, for the log.
    """

    def __init__(
        self,
        rate: Rate,
        *,
        max_rate: Rate = _HIGHEST,
        clock: Callable[[], float] = time.monotonic,
        waiting: Callable[[], int] | None = None,
    ) -> None:
        auto = rate.kind == "auto"
        bound = max_rate if auto else rate
        self._rate, self._clock, self._waiting = rate, clock, waiting
        # Even, so that no window of the rate's period holds too much.
        spare_s = 0.0 if bound.period_s == 1 else _JITTER_S + CATCH_UP_S
        ceiling_per_s = bound.requests / (bound.period_s + spare_s)
        self._steering = Steering(ceiling_per_s=ceiling_per_s, auto=auto, now=clock())
        self._unlimited = self._open = rate.kind == "unlimited"
        self._turn = asyncio.Lock()
        # It holds seconds of the API's time, and one second leaks out in a second. So one bucket
        # serves every pace: a request costs 1/pace.
        self._bucket = AsyncLimiter(1, 1)

    async def slot(self) -> None:
        """Return when one request may start; call it for each request that reaches the wire."""
        if self._open:
            return
        # One at a time in the bucket: first come, first served, and a new pace holds for all at once.
        async with self._turn:
            await self._take()

    def throttled(
        self, retry_after_s: float | None, latency_s: float | None = None, cause: str = "429"
    ) -> float | None:
        """Take in a 429, or what means the same: everybody waits, then continues more slowly.

        Return the seconds of the pause, where it is new or has grown. `retry_after_s` is what the API asked for, if it
        did, and `cause` what it answered, in a word; `latency_s` tells whether it was in flight when a pause began. An
        `ApiUnavailableError` when the wait is over 15 minutes.
        """
        self._open = False
        steering, now = self._steering, self._clock()
        before = steering.paused_until
        if steering.throttled(now, retry_after_s, latency_s, cause):
            self._tell_pause(retry_after_s, cause)
        return steering.paused_until - now if steering.paused_until != before else None

    def answered(self, latency_s: float) -> None:
        """Take in an answer that is no 429, `latency_s` after the start of its request."""
        now = self._clock()
        if self._steering.answered(now, latency_s):
            log.info("Answers take %.2f s: slowing to %s.", latency_s, self._pace_in_words())
        if self._unlimited and not self._open:
            self._open = self._steering.forget(now)

    def snapshot(self) -> PaceState:
        """Return the pace at this moment."""
        now, steering = self._clock(), self._steering
        per_s = steering.pace(now)
        return PaceState(
            permitted_per_s=None if math.isinf(per_s) else per_s,
            paused_s=steering.paused_until - now if steering.paused_until > now else None,
            why=steering.limit.why if steering.limit else f"rate {self._rate}",
            limited=steering.limit is not None and per_s < steering.ceiling_per_s,
        )

    async def _take(self) -> None:
        steering, bucket, cost_s = self._steering, self._bucket, 0.0
        while True:
            if await self._paused():
                cost_s = steering.probe_s
            cost_s = max(cost_s, 1 / steering.pace(self._clock()))
            # A request may start when no more than the catch-up is booked ahead of it.
            bucket.max_rate = cost_s + CATCH_UP_S
            await bucket.acquire(cost_s)
            if self._clock() >= steering.paused_until:
                return

    async def _paused(self) -> bool:
        """Wait for the end of a pause; return whether there was one."""
        steering, waited = self._steering, False
        while (wait_s := steering.paused_until - self._clock()) > 0:
            waited = True
            await asyncio.sleep(wait_s)
        if waited:
            log.info("Continuing at %s.", self._pace_in_words())
        return waited

    def _tell_pause(self, retry_after_s: float | None, cause: str) -> None:
        until = time.time() + self._steering.paused_until - self._clock()
        log.warning(
            "The API answered %s (%s): all requests wait until %s%s.",
            cause,
            "no Retry-After" if retry_after_s is None else f"Retry-After: {retry_after_s:.0f} s",
            f"{local_time(until):%H:%M:%S}",
            f"; {self._waiting()} orders are left" if self._waiting else "",
        )

    def _pace_in_words(self) -> str:
        return f"{self._steering.pace(self._clock()):.3g}/s"


class SharePace:
    """Gives each request its slot, evenly spaced in a range's share of a rate that another process keeps; see `Pace`.

    Nothing starts before the coordinator has spoken; without it the share stays as it was. `changed` is set when the
    coordinator should know more; the rest is what a `Report` says.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.share_per_s = 0.0
        self.started = self.answers = 0
        self.latency_s: float | None = None
        self.refusals: list[Refusal] = []
        self._turn = asyncio.Lock()
        self._shared_anew = asyncio.Event()
        self._last = -math.inf

    async def slot(self) -> None:
        """Return when one request may start."""
        if not math.isinf(self.share_per_s):
            async with self._turn:  # first come, first served
                while (wait_s := self._next() - time.monotonic()) > 0:
                    self._shared_anew.clear()
                    await waited(self._shared_anew, wait_s if math.isfinite(wait_s) else None)
                # What a late timer loses, up to this, is made up for at once.
                self._last = max(self._next(), time.monotonic() - CATCH_UP_S)
        self.started += 1

    def _next(self) -> float:
        return self._last + 1 / self.share_per_s if self.share_per_s else math.inf

    def share(self, per_s: float) -> None:
        """Take a new share of the rate; zero makes everybody wait."""
        if per_s == self.share_per_s:
            return
        if not self.share_per_s:
            self._last = time.monotonic()  # whoever had it before has just used it
        self.share_per_s = per_s
        self._shared_anew.set()
        self.changed.set()  # what was given up is another's once the coordinator knows

    def throttled(
        self, retry_after_s: float | None, latency_s: float | None = None, cause: str = "429"
    ) -> float | None:
        """Take in a 429: nothing more starts here until the coordinator has spoken."""
        self.refusals.append((retry_after_s, latency_s, cause))
        self.share(0.0)
        self.changed.set()
        return None

    def answered(self, latency_s: float) -> None:
        """Take in an answer that is no 429."""
        self.answers += 1
        before = latency_s if self.latency_s is None else self.latency_s
        self.latency_s = before + _NEW_ANSWER_WEIGHS * (latency_s - before)

    def snapshot(self) -> PaceState:
        """Return that nothing bounds the pace here: the coordinator's is the one to look at."""
        return PaceState(permitted_per_s=None, paused_s=None, why="as the coordinator says")


Gate = Pace | SharePace  # what every request passes

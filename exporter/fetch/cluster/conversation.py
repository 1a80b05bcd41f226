"""What the coordinator hears from the ranges that are being done, and what it tells them: shares of its one pace.

All shares together never exceed the pace. A share that is smaller is told at once; a larger one only once what it
needs was given back, in the words of whoever had it. Who loses the coordinator keeps its share, and so the promise.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import msgspec

from exporter.api.pace import Pace, Refusal
from exporter.fetch.cluster.dask_cluster import CONNECT_S, PATIENCE_S, gone
from exporter.fetch.cluster.messages import REPORTS, WORDS, Check, Report, Word
from exporter.fetch.cluster.ranges import Range
from exporter.model.errors import ExporterError
from exporter.model.run_statistics import Statistics
from exporter.system.log import log
from exporter.system.stopping import waited

_LOOK_S = 1.0
#: So often the rate is divided again, beside whenever somebody reports; `auto` moves it all the time.
_DIVIDE_S = 0.25
#: A range that is not heard of for so long has ended by itself, somewhat earlier; see `range_worker`.
_GONE_S = 35.0
_SAME_LINE_S = 60.0  # the same line of several workers is logged once within that time
_SAME = 0.03  # shares that differ by less are left as they are
# Each of n even paces may have one request more in a second than its share, and its timers' and the network's
# jitter: with the promise of `rate * 1.02 + 1` for all, few ranges share a low rate, and all of them a little less.
_RANGES_FOR_EACH_PER_S = 0.03
_PROMISED, _JITTER = 1.02, 1.015
_LEAST = 0.05  # a smaller part of the rate helps nobody
T = TypeVar("T")


def shares(rate_per_s: float, wants: Sequence[float]) -> list[float]:
    """Return each range's share, in requests a second.

    The first range gets what it can use, the next one what that leaves: ranges of one size that shared evenly
    would all end at one time, and nobody would ask meanwhile. What nobody can use is the first one's.

    Each of `wants` is what a range could use, in requests a second; the rate is 0 while everybody waits.

    >>> shares(1000.0, [300, 0, 5000, 100])
    [300.0, 0.0, 700.0, 0.0]
    >>> shares(10.0, [4, 100]), shares(0.0, [math.inf])
    ([10.0, 0.0], [0.0])
    """
    if math.isinf(rate_per_s):
        return [rate_per_s if want else 0.0 for want in wants]
    given = [0.0] * len(wants)
    left, places = rate_per_s, 1 + int(_RANGES_FOR_EACH_PER_S * rate_per_s)
    for index, want in enumerate(wants):
        if want and places and left > _LEAST * rate_per_s:
            given[index] = min(float(want), left)
            left -= given[index]
            places -= 1
    first = next((index for index, share in enumerate(given) if share), None)
    if first is None:
        return given
    given[first] += left
    sharing = sum(share > 0 for share in given)
    part = min(1.0, (_PROMISED + (1 - sharing) / rate_per_s) / _JITTER)
    return [part * share for share in given]


@dataclass
class Seat:
    """One doing of a range: what it said last, and the share that it was last told."""

    report: Report
    heard_at: float
    told: float = 0.0

    @property
    def held(self) -> float:
        """What it may be using, as far as anybody can know."""
        return max(self.told, self.report.share_per_s)


def divide(rate_per_s: float, seats: Iterable[Seat]) -> bool:
    """Divide the rate again; return whether anybody is not known to have the share that it is to be told."""
    seats = sorted(seats, key=lambda seat: seat.report.index)
    uses = [seat.report.use_per_s for seat in seats]
    wanted = shares(rate_per_s, [rate_per_s / 2 if use is None else use for use in uses])
    for seat, share in zip(seats, wanted, strict=True):
        if share < seat.told * (1 - _SAME):
            seat.told = share
    spare = rate_per_s - sum(seat.held for seat in seats)
    for seat, share in zip(seats, wanted, strict=True):
        if math.isinf(share):
            seat.told = share
        elif share > seat.told * (1 + _SAME) and (more := min(share - seat.held, spare)) > 0:
            seat.told = seat.held + more
            spare -= more
    return any(seat.told != seat.report.share_per_s for seat in seats)


class Conversation:
    """One try's talk with the workers of a cluster, through Dask's `client`."""

    client: Any

    def __init__(self, pace: Pace, check: Check, ranges: Sequence[Range]) -> None:
        self.pace, self._check, self._ranges = pace, check, ranges
        self.statistics = Statistics(time.monotonic, lambda: pace.snapshot().permitted_per_s)
        self.workers: set[str] = set()  # the addresses of those that are there
        self.answered_at: dict[str, float] = {}  # when each had an answer last
        self._seats: dict[str, Seat] = {}
        self._failure: ExporterError | None = None
        self._news = asyncio.Event()
        self._logged_at: dict[str, float] = {}

    async def go_on(self) -> NoReturn:
        """Look which workers are there, and tell every range its share: whenever that changes, and once a second.

        An `ApiUnavailableError` where the cluster has been gone for a minute, or the API asks for too long a wait.
        """
        looked_at, seen_at = -math.inf, time.monotonic()
        while self._failure is None:
            self._news.clear()
            now = time.monotonic()
            if look := now - looked_at >= _LOOK_S:
                looked_at = now
                # A scheduler that restarts forgets who listens.
                self.client.subscribe_topic(REPORTS, self._hear)
                if await self.look():
                    seen_at = time.monotonic()
                    seats, since = self._seats.items(), seen_at - _GONE_S
                    there = {name: seat for name, seat in seats if seat.report.worker in self.workers}
                    self._seats = {name: seat for name, seat in there.items() if seat.heard_at >= since}
                elif now - seen_at > PATIENCE_S:
                    raise gone(self._check.options["dask"], "its scheduler or its workers are gone")
            state = self.pace.snapshot()
            if divide(0.0 if state.paused_s else state.per_s, self._seats.values()) or look:
                await self.say({name: seat.told for name, seat in self._seats.items()})
            await waited(self._news, min(_DIVIDE_S, state.paused_s or math.inf))
        raise self._failure

    @property
    def down_since(self) -> float | None:
        """Since when no range that is being done has an answer; None while one has."""
        times = [seat.report.down_since for seat in self._seats.values()]
        return max((at for at in times if at is not None), default=None) if None not in times else None

    async def look(self) -> bool:
        """Find out which workers are there; return whether there are any."""
        found = await _reached(lambda: self.client.scheduler.identity(n_workers=-1))
        if found and found["workers"]:
            self.workers = set(found["workers"])
            return True
        return False

    async def say(self, shares: dict[str, float], stop: int | None = None) -> None:
        """Tell every range its share, or to stop for that signal; lost where the scheduler is away."""
        word = Word(folder=self._check.folder, try_id=self._check.try_id, shares=shares, stop=stop)
        await _reached(lambda: self.client.log_event(WORDS, msgspec.msgpack.encode(word)))

    def _hear(self, event: tuple[float, bytes]) -> None:
        report = msgspec.msgpack.decode(event[1], type=Report)
        if report.try_id != self._check.try_id:
            return
        now = time.monotonic()
        for _ in range(report.answers):
            self.pace.answered(report.latency_s or 0.0)
        if report.answers:
            self.answered_at[report.worker] = now
        self._slow_down(report.refusals)
        if report.figures is not None:
            self.statistics.add(report.figures)
        if report.standing is not None:
            self._ranges[report.index].standing = report.standing
        for level, template, text in report.logs:
            if now - self._logged_at.get(template, -math.inf) >= _SAME_LINE_S:
                self._logged_at[template] = now
                log.log(level, "%s", text)
        seat = self._seats.setdefault(report.seat, Seat(report, now))
        seat.report, seat.heard_at = report, now
        if report.over:
            del self._seats[report.seat]
        self._news.set()

    def _slow_down(self, refusals: list[Refusal]) -> None:
        try:
            for retry_after_s, latency_s, cause in refusals:
                if (pause_s := self.pace.throttled(retry_after_s, latency_s, cause)) is not None:
                    self.statistics.paused(pause_s, cause)
        except ExporterError as error:
            self._failure = error


async def _reached(asked: Callable[[], Awaitable[T]]) -> T | None:
    """Return what the scheduler answers; None where it is away."""
    try:
        async with asyncio.timeout(CONNECT_S):
            return await asked()
    except (OSError, AttributeError):  # the client has no scheduler while it reconnects
        return None

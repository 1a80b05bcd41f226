"""What the coordinator hears from the ranges that are being done, and what it tells them: shares of its one pace."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

import msgspec

from exporter.api.pace import Pace
from exporter.fetch.cluster.dask_cluster import CONNECT_S, PATIENCE_S, gone
from exporter.fetch.cluster.messages import REPORTS, WORDS, Check, Report, Word
from exporter.fetch.cluster.ranges import Range
from exporter.fetch.cluster.rate_division import Seat, divide
from exporter.model.errors import ExporterError
from exporter.model.run_statistics import Statistics

log = logging.getLogger("exporter")

_LOOK_S = 1.0
#: So often the rate is divided anew, beside whenever somebody reports; `auto` moves it all the time.
_DIVIDE_S = 0.25
#: A range that is not heard of for so long has ended by itself, somewhat earlier; see `worker_link`.
_GONE_S = 35.0
#: The same line of several workers is logged once within that time.
_SAME_LINE_S = 60.0
T = TypeVar("T")


class Conversation:
    """One try's talk with the workers of a cluster, through Dask's `client`.

    `workers` are the addresses of those that are there, and `answered_at` is when each had an answer last.
    """

    client: Any

    def __init__(self, pace: Pace, check: Check, ranges: Sequence[Range]) -> None:
        self.pace, self._check, self._ranges = pace, check, ranges
        self.statistics = Statistics(time.monotonic, lambda: pace.snapshot().permitted_per_s)
        self.workers: set[str] = set()
        self.answered_at: dict[str, float] = {}
        self._seats: dict[str, Seat] = {}
        self._failure: ExporterError | None = None
        self._news = asyncio.Event()
        self._logged_at: dict[str, float] = {}

    async def go_on(self) -> NoReturn:
        """Look which workers are there, and tell every range its share: whenever that changes, and once a second.

        Raises:
            ClusterUnavailableError: The cluster has been gone for a minute.
            ApiUnavailableError: It asks for too long a wait.
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
                    self._forget_who_is_gone()
                elif now - seen_at > PATIENCE_S:
                    raise gone(self._check.options["dask"], "its scheduler or its workers are gone")
            state = self.pace.snapshot()
            if divide(0.0 if state.paused_s else state.per_s, self._seats.values()) or look:
                await self.say({name: seat.told for name, seat in self._seats.items()})
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_DIVIDE_S, state.paused_s or math.inf)):
                    await self._news.wait()
        raise self._failure

    @property
    def down_since(self) -> float | None:
        """Since when no range that is being done has an answer; None while one has."""
        times = [seat.report.down_since for seat in self._seats.values()]
        return max((at for at in times if at is not None), default=None) if None not in times else None

    def _forget_who_is_gone(self) -> None:
        """Take back the shares of those whose worker is gone, and of those that nobody hears of any more."""
        since = time.monotonic() - _GONE_S
        for name, seat in list(self._seats.items()):
            if seat.heard_at < since or seat.report.worker not in self.workers:
                del self._seats[name]

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
        for refusal in report.refusals:
            self._throttled(*refusal)
        if report.figures is not None:
            self.statistics.add(report.figures)
        if report.standing is not None:
            self._ranges[report.index].standing = report.standing
        for line in report.logs:
            self._relay(now, *line)
        seat = self._seats.setdefault(report.seat, Seat(report, now))
        seat.report, seat.heard_at = report, now
        if report.over:
            del self._seats[report.seat]
        self._news.set()

    def _throttled(self, retry_after_s: float | None, latency_s: float | None, cause: str) -> None:
        try:
            if (pause_s := self.pace.throttled(retry_after_s, latency_s, cause)) is not None:
                self.statistics.paused(pause_s, cause)
        except ExporterError as error:
            self._failure = error

    def _relay(self, now: float, level: int, template: str, text: str) -> None:
        if now - self._logged_at.get(template, -math.inf) >= _SAME_LINE_S:
            self._logged_at[template] = now
            log.log(level, "%s", text)


async def _reached(asked: Callable[[], Awaitable[T]]) -> T | None:
    """Return what the scheduler answers; None where it is away."""
    try:
        async with asyncio.timeout(CONNECT_S):
            return await asked()
    except (OSError, AttributeError):  # the client has no scheduler while it connects anew
        return None

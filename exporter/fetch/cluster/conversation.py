"""What the coordinator hears from the ranges that are being done, and what it tells them: shares of its one pace."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import msgspec

from exporter.api.pace import Pace
from exporter.fetch.cluster.dask_cluster import PATIENCE_S, Cluster
from exporter.fetch.cluster.messages import REPORTS, Check, Report, Word
from exporter.fetch.cluster.rate_division import RateDivision
from exporter.model.errors import ExporterError
from exporter.model.run_statistics import Statistics

log = logging.getLogger("exporter")

_LOOK_S = 1.0
#: So often the rate is divided anew, beside whenever somebody reports; `auto` moves it all the time.
_DIVIDE_S = 0.25
#: The same line of several workers is logged once within that time.
_SAME_LINE_S = 60.0


class Conversation:
    """One try's talk with its ranges.

    Args:
        check: Names the try.
        pace: The one of the run.
        heard: Takes each report.

    Attributes:
        workers: The addresses of those that are there.
        answered_at: When each worker had an answer last.
        statistics: Of all workers.
    """

    def __init__(self, check: Check, pace: Pace, heard: Callable[[Report], None]) -> None:
        self.workers: set[str] = set()
        self.answered_at: dict[str, float] = {}
        self.statistics = Statistics(time.monotonic, lambda: pace.snapshot().permitted_per_s)
        self._check = check
        self._pace = pace
        self._heard = heard
        self._division = RateDivision()
        self._failure: ExporterError | None = None
        self._news = asyncio.Event()
        self._logged_at: dict[str, float] = {}

    async def go_on(self, cluster: Cluster) -> NoReturn:
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
                cluster.client.subscribe_topic(REPORTS, self._hear)
                if found := await cluster.workers():
                    self.workers, seen_at = found, time.monotonic()
                    self._division.forget(lambda worker: worker not in self.workers, seen_at)
            if now - seen_at > PATIENCE_S:
                raise cluster.gone("its scheduler or its workers are gone")
            state = self._pace.snapshot()
            if self._division.divide(0.0 if state.paused_until else state.per_s) or look:
                await self.say(cluster)
            pause_s = (state.paused_until or math.inf) - time.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_DIVIDE_S, max(0.0, pause_s))):
                    await self._news.wait()
        raise self._failure

    async def say(self, cluster: Cluster, stop: int | None = None) -> None:
        """Tell every range its share, or to stop for that signal."""
        shares = self._division.told() if stop is None else {}
        check = self._check
        await cluster.say(Word(folder=check.folder, try_id=check.try_id, shares=shares, stop=stop))

    def _hear(self, event: tuple[float, bytes]) -> None:
        report = msgspec.msgpack.decode(event[1], type=Report)
        if report.try_id != self._check.try_id:
            return
        now = time.monotonic()
        for _ in range(report.answers):
            self._pace.answered(report.answers_s / report.answers)
        if report.answers:
            self.answered_at[report.worker] = now
        for refusal in report.refusals:
            self._throttled(*refusal)
        if report.figures is not None:
            self.statistics.add(report.figures)
        for line in report.logs:
            self._relay(now, *line)
        self._division.heard(report, now)
        self._heard(report)
        self._news.set()

    def _throttled(self, retry_after_s: float | None, latency_s: float | None, cause: str) -> None:
        before = self._pace.snapshot().paused_until
        try:
            self._pace.throttled(retry_after_s, latency_s, cause)
        except ExporterError as error:
            self._failure = self._failure or error
        until = self._pace.snapshot().paused_until
        if until is not None and until != before:
            self.statistics.paused(until - time.monotonic(), "429")

    def _relay(self, now: float, level: int, template: str, text: str) -> None:
        if now - self._logged_at.get(template, -math.inf) >= _SAME_LINE_S:
            self._logged_at[template] = now
            log.log(level, "%s", text)

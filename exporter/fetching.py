"""One plan fetched and published, side by side: from what is pending to staged files, on this machine."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter import manifest, units
from exporter.client import Client, open_client
from exporter.groups import task_group
from exporter.options import Options
from exporter.pace import Pace
from exporter.progress import Progress, ProgressCallback
from exporter.publish_job import PublishJob, PublishResult
from exporter.publishing import Publishing, start_publishing
from exporter.rate import Rate
from exporter.records import PlanCounts, RunRecord, Traffic
from exporter.refresh import Refresh, Tally, refresh
from exporter.statistics import Statistics
from exporter.stop import Stop, beside_the_loop
from exporter.store import Freshness, Store
from exporter.workdir import WorkDirectory

log = logging.getLogger("exporter")

_TICK_S = 0.25
#: An average over two seconds that has sunk below this tells of no answers at all.
_NO_RATE_PER_S = 0.001


@dataclass(frozen=True, kw_only=True)
class FetchJob:
    """All that one try fetches and publishes with.

    Attributes:
        options: What the export is asked to do.
        work: The run's work directory, held.
        store: With the plan attached.
        counts: What the input held.
        input: The input's record.
        record: The run that this is a try of.
        freshness: What counts as done; knows when the try began.
        stop: The end may be asked for.
    """

    options: Options
    work: WorkDirectory
    store: Store
    counts: PlanCounts
    input: manifest.Input
    record: RunRecord
    freshness: Freshness
    stop: Stop


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What came of it.

    Attributes:
        result: What stands in the work directory's staged folder.
        traffic: Requests of the run that reached the wire, all its tries counted.
        statistics: What this try was like, as JSON values.
    """

    result: PublishResult
    traffic: Traffic
    statistics: dict[str, Any] = field(default_factory=dict)


async def fetch(job: FetchJob, on_progress: ProgressCallback | None) -> Fetched:
    """Ask for what is pending and write the tables, in this process and a publishing one.

    Args:
        job: What to do.
        on_progress: Called a few times a second with how far it is.

    Raises:
        ExporterError: As `refresh` and the publishing process raise them.
    """
    states = await beside_the_loop(
        lambda: job.store.states(job.freshness),
        job.stop,
        doing="reading the store",
        interrupt=job.store.interrupt,
    )
    pending = states.get(None, 0)
    tell_plan(job, pending)
    fetching = _Fetching(job, pending)
    result = await fetching.run(on_progress)
    return Fetched(
        result=result,
        traffic=job.record.traffic + fetching.traffic,
        statistics=fetching.statistics.as_dict(),
    )


def tell_plan(job: FetchJob, pending: int) -> None:
    """Log what the input holds and what is to be asked for.

    Args:
        job: The try that begins.
        pending: Order numbers to ask for.
    """
    log.info(
        "%s: %d order numbers (%d duplicates, %d invalid lines, %d blank); %d are in the store, %d to ask for%s.",
        job.options.orders,
        job.counts.requested,
        job.counts.duplicates,
        job.counts.invalid,
        job.counts.blank,
        job.counts.requested - pending,
        pending,
        _time_needed(pending, Rate.parse(job.options.rate)),
    )
    if job.record.resumed:
        log.info("Going on with the run that began at %s.", manifest.time_text(job.record.started_at))
    if job.options.store is not None and job.options.pii != "keep":
        log.warning(
            "%s keeps payloads as received, with personal data: --pii %s is about the dataset.",
            job.options.store,
            job.options.pii,
        )


def publish_job(
    options: Options, freshness: Freshness, *, store: Path, plan: Path, staged: Path
) -> PublishJob:
    """Return the publishing of a plan that these options ask for.

    Args:
        options: What the export is asked to do.
        freshness: What counts as settled.
        store: The store's file.
        plan: The plan's file.
        staged: The folder to write into; it exists and is empty.
    """
    return PublishJob(
        store=str(store),
        plan=str(plan),
        staged=str(staged),
        freshness=freshness,
        formats=options.formats,
        rows_per_file=options.rows_per_file,
        compression=options.compression,
        csv_dialect=options.csv_dialect,
        pii=options.pii,
        pii_key=options.pii_key,
        select=options.select,
        drop=options.drop,
    )


async def tick(
    on_progress: ProgressCallback, progress: Callable[[float], Progress], settled: Callable[[], int]
) -> None:
    """Tell how far a run is, a few times a second, until cancelled.

    Args:
        on_progress: Who is told.
        progress: Returns how far it is, given the answers a second of late.
        settled: Returns how many orders this try has settled.
    """
    before = settled()
    rate = 0.0
    while True:
        on_progress(progress(rate))
        await asyncio.sleep(_TICK_S)
        lately = (settled() - before) / _TICK_S
        before = settled()
        # An average over about two seconds: the eye wants a number, not its noise.
        rate += (lately - rate) * min(1.0, _TICK_S / 2.0) if rate else lately
        if rate < _NO_RATE_PER_S:
            rate = 0.0


class _Fetching:
    """The refresh and the publishing process of one try, side by side."""

    def __init__(self, job: FetchJob, pending: int) -> None:
        self._job = job
        self._pending = pending
        self._tally = Tally()
        self._over = False
        self._ended = False
        self._pace = Pace(
            Rate.parse(job.options.rate),
            max_rate=Rate.parse(job.options.max_rate),
            waiting=lambda: self._pending - self._tally.total,
        )
        self.statistics = Statistics(time.monotonic, self._permitted)
        self._client: Client | None = None

    @property
    def traffic(self) -> Traffic:
        """Requests of this try that reached the wire so far."""
        return self._client.traffic if self._client else Traffic()

    async def run(self, on_progress: ProgressCallback | None) -> PublishResult:
        async with start_publishing(self._publish_job()) as publishing, task_group() as group:
            published = group.create_task(publishing.result())
            ticking = group.create_task(self._tick(publishing, on_progress)) if on_progress else None
            await self._refresh()
            self._over = True
            publishing.refresh_is_over()
            result = await self._unless_stopped(published)
            if ticking is not None:
                ticking.cancel()
        if on_progress:
            self._ended = True
            on_progress(self._progress(publishing, 0.0))
        return result

    def _publish_job(self) -> PublishJob:
        job = self._job
        return publish_job(
            job.options,
            job.freshness,
            store=job.store.path,
            plan=job.work.plan,
            staged=job.work.fresh_staged(),
        )

    async def _refresh(self) -> None:
        job = self._job
        async with open_client(job.options, self._pace, self.statistics) as client:
            self._client = client
            await refresh(
                Refresh(
                    options=job.options,
                    store=job.store,
                    freshness=job.freshness,
                    run=job.record,
                    client=client,
                    pace=self._pace,
                    statistics=self.statistics,
                    tally=self._tally,
                    stop=job.stop,
                )
            )

    async def _unless_stopped(self, published: asyncio.Task[PublishResult]) -> PublishResult:
        stop = self._job.stop
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({published, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        if not published.done():
            raise stop.error(
                "Stopped by a signal while publishing; every order is kept.",
                "The same command publishes without asking again.",
            )
        return published.result()

    async def _tick(self, publishing: Publishing, on_progress: ProgressCallback) -> None:
        await tick(on_progress, lambda rate: self._progress(publishing, rate), lambda: self._tally.total)

    def _permitted(self) -> float | None:
        per_s = self._pace.snapshot().per_s
        return None if math.isinf(per_s) else per_s

    def _progress(self, publishing: Publishing, rate: float) -> Progress:
        job = self._job
        pace = self._pace.snapshot()
        fetched = self._tally.settled["fetched"]
        traffic = self.traffic
        return Progress(
            phase="done" if self._ended else "publishing" if self._over else "fetching",
            total=job.counts.requested,
            done=job.counts.requested - self._pending + self._tally.total,
            pending_at_start=self._pending,
            fetched=fetched,
            rejected=self._tally.total - fetched,
            retried=traffic.retried,
            throttled=traffic.throttled,
            published=job.counts.requested if self._ended else publishing.lines,
            elapsed_s=time.time() - job.freshness.try_started_at,
            rate_per_s=rate,
            permitted_per_s=self._permitted(),
            waiting=self._tally.backing_off,
            paused_s=None if pace.paused_until is None else max(0.0, pace.paused_until - time.monotonic()),
            why=pace.why,
        )


def _time_needed(pending: int, rate: Rate) -> str:
    if not pending or math.isinf(rate.per_s):
        return ""
    return f", about {units.duration_text(pending / rate.per_s)} at {rate}"

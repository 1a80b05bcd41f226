"""One plan fetched and published, side by side: from what is pending to staged files, on this machine."""

from __future__ import annotations

import asyncio
import math
import time
from functools import partial

from exporter.api.client import Client, open_client
from exporter.api.pace import Pace
from exporter.dataset.publishing.publish_job import PublishResult
from exporter.dataset.publishing.publisher_process import Publishing, start_publishing
from exporter.fetch.fetch_job import Fetched, FetchJob, publish_job, tell_plan, tick
from exporter.fetch.refresh import Refresh, Tally, refresh
from exporter.fetch.reject_limit import most_new_rejects
from exporter.model.progress import Progress, ProgressCallback
from exporter.model.rate import Rate
from exporter.model.records import Traffic
from exporter.model.run_statistics import Statistics
from exporter.system.stopping import beside_the_loop
from exporter.system.task_groups import task_group


async def fetch(job: FetchJob, on_progress: ProgressCallback | None) -> Fetched:
    """Ask for what is pending and write the tables, in this process and a publishing one."""
    states = await beside_the_loop(
        lambda: job.store.states(job.freshness),
        job.stop,
        doing="reading the store",
        interrupt=job.store.interrupt,
    )
    pending = states.get(None, 0)
    tell_plan(job, pending)
    most = most_new_rejects(job.options, job.counts, states)
    fetching = _Fetching(job, pending, most)
    result = await fetching.run(on_progress)
    return Fetched(
        result=result,
        traffic=job.record.traffic + fetching.traffic,
        statistics=fetching.statistics.as_dict(),
    )


class _Fetching:
    """The refresh and the publishing process of one try, side by side."""

    def __init__(self, job: FetchJob, pending: int, most_rejects: int | None) -> None:
        self._job = job
        self._pending = pending
        self._most_rejects = most_rejects
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
        job = self._job
        publish = publish_job(
            job.options,
            job.freshness,
            store=job.store.path,
            plan=job.work.plan,
            staged=job.work.fresh_staged(),
        )
        async with start_publishing(publish) as publishing, task_group() as group:
            published = group.create_task(publishing.result())
            ticking = None
            if on_progress:
                progress = partial(self._progress, publishing)
                ticking = group.create_task(tick(on_progress, progress, lambda: self._tally.total))
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
                    most_rejects=self._most_rejects,
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
            rejected=self._tally.rejected,
            retried=traffic.retried,
            throttled=traffic.throttled,
            published=job.counts.requested if self._ended else publishing.lines,
            elapsed_s=job.elapsed_s,
            rate_per_s=rate,
            permitted_per_s=self._permitted(),
            waiting=self._tally.backing_off,
            paused_s=None if pace.paused_until is None else max(0.0, pace.paused_until - time.monotonic()),
            why=pace.why,
            limited=pace.limited,
            down_since=self._tally.down_since(),
        )

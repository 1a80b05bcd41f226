"""One plan fetched and published, side by side: from what is pending to staged files, on this machine."""

from __future__ import annotations

import time

from exporter.dataset.publishing.publish_job import PublishResult
from exporter.dataset.publishing.publisher_process import start_publishing
from exporter.fetch.fetch_job import Fetched, FetchJob, publish_job, tell_plan, tick
from exporter.fetch.refresh import Refresh, Tally, refresh
from exporter.fetch.reject_limit import most_new_rejects
from exporter.model.progress import Phase, Progress, ProgressCallback
from exporter.model.run_statistics import Statistics
from exporter.system.stopping import beside_the_loop, unless_stopped
from exporter.system.task_groups import task_group


async def fetch(job: FetchJob, on_progress: ProgressCallback) -> Fetched:
    """Ask for what is pending and write the tables, in this process and a publishing one."""
    states = await beside_the_loop(
        lambda: job.store.states(job.freshness),
        job.stop,
        doing="reading the store",
        interrupt=job.store.interrupt,
    )
    pending = states.get(None, 0)
    tell_plan(job, pending)
    tally = Tally()
    pace = job.pace(lambda: pending - tally.total)
    statistics = Statistics(time.monotonic, lambda: pace.snapshot().permitted_per_s)
    refreshing = Refresh(
        options=job.options,
        store=job.store,
        freshness=job.freshness,
        run=job.record,
        pace=pace,
        statistics=statistics,
        tally=tally,
        stop=job.stop,
        most_rejects=most_new_rejects(job.options, job.input, states),
    )
    result = await _refresh_and_publish(job, refreshing, pending, on_progress)
    return Fetched(
        result=result, traffic=job.record.traffic + tally.traffic(), statistics=statistics.as_dict()
    )


async def _refresh_and_publish(
    job: FetchJob, refreshing: Refresh, pending: int, on_progress: ProgressCallback
) -> PublishResult:
    tally = refreshing.tally
    phase: Phase = "fetching"

    def progress() -> Progress:
        standing = tally.standing(pending, publishing.lines)
        return job.progress(phase, standing, refreshing.pace.snapshot(), tally.down_since())

    publish = publish_job(
        job.options,
        job.freshness,
        store=job.store.path,
        plan=job.work.plan,
        staged=job.work.fresh_staged(),
    )
    async with start_publishing(publish) as publishing, task_group() as group:
        published = group.create_task(publishing.result())
        ticking = group.create_task(tick(on_progress, progress))
        await refresh(refreshing)
        phase = "publishing"
        publishing.refresh_is_over()
        result = await unless_stopped(
            published,
            job.stop,
            "Stopped by a signal while publishing; every order is kept.",
            "The same command publishes without asking again.",
        )
        ticking.cancel()
    phase = "done"
    on_progress(progress())
    return result

"""One try of a run: fetched and published side by side on this machine, and what every engine tells meanwhile."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from exporter.api.pace import Pace, PaceState
from exporter.dataset.publishing.publish_job import PublishJob, PublishResult
from exporter.dataset.publishing.publisher_process import start_publishing
from exporter.fetch.refresh import Refresh, Standing, Tally, refresh
from exporter.fetch.reject_limit import most_new_rejects
from exporter.fetch.work_directory import WorkDirectory
from exporter.lists.how_read import sentence
from exporter.model import manifest, units
from exporter.model.options import Options, TableOptions, part_of
from exporter.model.progress import Phase, Progress, ProgressCallback
from exporter.model.rate import Rate
from exporter.model.records import Traffic
from exporter.store.order_store import Freshness
from exporter.system.log import log
from exporter.system.stopping import beside_the_loop, task_group, unless_stopped

_TICK_S = 0.25
_PII_TEXTS = {
    "keep": "as received",
    "drop": "left empty (--pii drop)",
    "hash": "a keyed hash in place of each value (--pii hash)",
}
_NO_RATE_PER_S = 0.001  # an average over two seconds that has sunk below this tells of no answers at all


@dataclass(frozen=True, kw_only=True)
class FetchJob(Refresh):
    """All that one try fetches and publishes with, its work directory held; it `began` then on the steady clock."""

    work: WorkDirectory
    input: manifest.Input
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Seconds of this try, whatever becomes of the machine's clock."""
        return time.monotonic() - self.began

    @property
    def now(self) -> float:
        """The time, by a clock that was set when this try began; never before the run's start."""
        return max(self.record.started_at, self.freshness.try_started_at + self.elapsed_s)

    def progress(
        self, phase: Phase, standing: Standing, pace: PaceState, down_since: float | None = None
    ) -> Progress:
        """Return how far this try is; `tick` adds the rate."""
        total = self.input.requested
        return Progress(
            phase=phase,
            total=total,
            done=total - standing.left,
            **(standing._replace(published=total) if phase == "done" else standing)._asdict(),
            elapsed_s=self.elapsed_s,
            rate_per_s=0.0,
            **pace._asdict(),
            down_since=down_since,
        )


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What came of it: what is staged, the requests of all tries of the run, and what this try was like."""

    result: PublishResult
    traffic: Traffic
    statistics: dict[str, Any]


async def fetch(job: FetchJob, on_progress: ProgressCallback) -> Fetched:
    """Ask for what is pending and write the tables, in this process and a publishing one."""
    pace = pace_of(job.options, lambda: tally.standing().left)
    phase: Phase = "fetching"

    def progress() -> Progress:
        return job.progress(phase, tally.standing(publishing.lines), pace.snapshot(), tally.down_since())

    folder, staged = job.work, job.work.fresh_staged()
    publish = publish_job(job.options, job.freshness, job.store.path, folder.plan, staged)
    async with start_publishing(publish) as publishing, task_group() as group:
        published = group.create_task(publishing.result())
        # The first rows are written while what is pending is counted.
        count = partial(job.store.states, job.freshness)
        states = await beside_the_loop(count, job.stop, "reading the store", job.store.interrupt)
        tally = Tally(pace, states.get(None, 0))
        tell_plan(job, tally.pending)
        ticking = group.create_task(tick(on_progress, progress))
        if tally.pending:
            await refresh(job, tally, most_new_rejects(job.options, job.input, states))
        phase = "publishing"
        publishing.refresh_is_over()
        what = "Stopped by a signal while publishing; every order is kept."
        hint = "Run the same command again to publish without new requests."
        result = await unless_stopped(published, job.stop, what, hint)
        ticking.cancel()
    phase = "done"
    on_progress(progress())
    traffic = job.record.traffic + tally.traffic()
    return Fetched(result=result, traffic=traffic, statistics=tally.statistics.as_dict())


def pace_of(options: Options, left: Callable[[], int] | None = None) -> Pace:
    """Return the pace that options ask for; `left` tells how many order numbers are still to be settled."""
    return Pace(Rate.parse(options.rate), max_rate=Rate.parse(options.max_rate), waiting=left)


def tell_plan(job: FetchJob, pending: int) -> None:
    """Log what the input holds, and that so many order numbers are to be asked for."""
    counts, orders, store = job.input, job.options.orders, job.options.store
    log.info("%s: read as %s.", orders, sentence(job.input.read))
    known, rate = counts.requested - pending, Rate.parse(job.options.rate)
    takes = f", about {units.duration_text(pending / rate.per_s)} at {rate}"
    log.info(
        "%s: %d order numbers (%d duplicates, %d invalid lines, %d blank); %s%d to fetch%s.",
        *(orders, counts.requested, counts.duplicates, counts.invalid, counts.blank),
        f"{known} are in the store, " if known or store is not None else "",
        pending,
        takes if pending and math.isfinite(rate.per_s) else "",
    )
    if job.record.resumed:
        log.info("Resuming the run that began at %s.", manifest.time_text(job.record.started_at))
    if store is not None and job.options.pii != "keep":
        what = "%s keeps payloads as received, with personal data: --pii %s is about the dataset."
        log.warning(what, store, job.options.pii)


def publish_job(options: Options, freshness: Freshness, store: Path, plan: Path, staged: Path) -> PublishJob:
    """Return the publishing of a plan that these options ask for, into the empty folder `staged`."""
    return PublishJob(
        store=str(store),
        plan=str(plan),
        staged=str(staged),
        freshness=freshness,
        about={
            "Source": options.api_url,
            "List of order numbers": str(options.orders),
            "Run began": manifest.time_text(freshness.run_started_at),
            "Times are those of": options.timezone,
            "Personal columns": _PII_TEXTS[options.pii],
        },
        **part_of(options, TableOptions),
    )


async def tick(on_progress: ProgressCallback, progress: Callable[[], Progress]) -> None:
    """Tell how far a run is, a few times a second, and how many answers came a second lately, until cancelled."""
    now = progress()
    rate = 0.0
    while True:
        on_progress(replace(now, rate_per_s=rate))
        await asyncio.sleep(_TICK_S)
        before, now = now, progress()
        lately = (now.done - before.done) / _TICK_S
        # An average over about two seconds: the eye wants a number, not its noise.
        rate += (lately - rate) * min(1.0, _TICK_S / 2.0) if rate else lately
        if rate < _NO_RATE_PER_S:
            rate = 0.0

"""What an engine is given to fetch and publish, what it gives back, and what it tells meanwhile."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from exporter.api.pace import Pace, PaceState
from exporter.dataset.publishing.publish_job import PublishJob, PublishResult
from exporter.fetch.work_directory import WorkDirectory
from exporter.lists.how_read import sentence
from exporter.model import manifest, units
from exporter.model.options import Options, TableOptions, part_of
from exporter.model.progress import Phase, Progress, ProgressCallback
from exporter.model.rate import Rate
from exporter.model.records import RunRecord, Traffic
from exporter.store.order_store import Freshness, Store
from exporter.system.stopping import Stop

log = logging.getLogger("exporter")

_TICK_S = 0.25
_PII_TEXTS = {
    "keep": "as received",
    "drop": "left empty (--pii drop)",
    "hash": "a keyed hash in place of each value (--pii hash)",
}
#: An average over two seconds that has sunk below this tells of no answers at all.
_NO_RATE_PER_S = 0.001


class Standing(NamedTuple):
    """How far a refresh and its publishing are, in the words of `Progress`."""

    pending_at_start: int = 0
    fetched: int = 0
    rejected: int = 0
    retried: int = 0
    throttled: int = 0
    waiting: int = 0
    published: int = 0

    @property
    def left(self) -> int:
        """Order numbers that are still to be settled."""
        return self.pending_at_start - self.fetched - self.rejected


@dataclass(frozen=True, kw_only=True)
class FetchJob:
    """All that one try fetches and publishes with: a work directory that is held, a store with the plan attached.

    `began` is the start of the try on the steady clock.
    """

    options: Options
    work: WorkDirectory
    store: Store
    input: manifest.Input
    record: RunRecord
    freshness: Freshness
    stop: Stop
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Seconds of this try, whatever becomes of the machine's clock."""
        return time.monotonic() - self.began

    @property
    def now(self) -> float:
        """The time, by a clock that was set when this try began; never before the run's start."""
        return max(self.record.started_at, self.freshness.try_started_at + self.elapsed_s)

    def pace(self, left: Callable[[], int]) -> Pace:
        """Return the pace of this try's requests; `left` tells how many order numbers are still to be settled."""
        options = self.options
        return Pace(Rate.parse(options.rate), max_rate=Rate.parse(options.max_rate), waiting=left)

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
            permitted_per_s=pace.permitted_per_s,
            paused_s=None if pace.paused_until is None else max(0.0, pace.paused_until - time.monotonic()),
            why=pace.why,
            limited=pace.limited,
            down_since=down_since,
        )


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What came of it: what is staged, the requests of all tries of the run, and what this try was like."""

    result: PublishResult
    traffic: Traffic
    statistics: dict[str, Any] = field(default_factory=dict)


def tell_plan(job: FetchJob, pending: int) -> None:
    """Log what the input holds, and that so many order numbers are to be asked for."""
    known = job.input.requested - pending
    log.info("%s: read as %s.", job.options.orders, sentence(job.input.read))
    log.info(
        "%s: %d order numbers (%d duplicates, %d invalid lines, %d blank); %s%d to ask for%s.",
        job.options.orders,
        job.input.requested,
        job.input.duplicates,
        job.input.invalid,
        job.input.blank,
        f"{known} are in the store, " if known or job.options.store is not None else "",
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
    """Tell how far a run is, a few times a second, and how many answers came a second of late, until cancelled."""
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


def _time_needed(pending: int, rate: Rate) -> str:
    if not pending or math.isinf(rate.per_s):
        return ""
    return f", about {units.duration_text(pending / rate.per_s)} at {rate}"

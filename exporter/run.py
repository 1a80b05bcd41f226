"""One export from start to end: plan, refresh, publish.

The order of the durable steps is the promise: payloads are committed before they count; table files and
the manifest are synced in the work directory; a marker there names the run; one rename puts the dataset
in its place; only then is the work directory removed. A kill after any of them leaves a state that the
same command recognises and finishes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from exporter import __version__, durable, manifest, units
from exporter.client import Client, open_client
from exporter.columns import choose_columns
from exporter.destination import Destination, destination_of
from exporter.errors import DriftError, StorageError, TooManyRejectsError, UsageError
from exporter.groups import task_group
from exporter.identity import token_of
from exporter.input import InputPlan, open_input
from exporter.keep import remove_older
from exporter.manifest import Manifest
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
from exporter.summary import Summary, summary_of
from exporter.workdir import WorkDirectory, locked_store, work_directory

log = logging.getLogger("exporter")

_TICK_S = 0.25


def export(options: Options, *, on_progress: ProgressCallback | None = None) -> Summary:
    """Run one export and wait for it.

    Args:
        options: What to do.
        on_progress: Called a few times a second with how far the run is.

    Returns:
        What was exported.

    Raises:
        ExporterError: One of its children; `exporter.errors` says which means what.
    """
    return asyncio.run(export_async(options, on_progress=on_progress))


async def export_async(
    options: Options, *, on_progress: ProgressCallback | None = None, stop: Stop | None = None
) -> Summary:
    """Run one export inside a running event loop.

    Args:
        options: What to do.
        on_progress: Called a few times a second with how far the run is.
        stop: Ask it for the end to stop the run; what was fetched is kept.

    Returns:
        What was exported.

    Raises:
        ExporterError: One of its children; `exporter.errors` says which means what.
    """
    # What cannot work is refused before anything is made.
    choose_columns(options.select, options.drop)
    token_of(options)
    now = time.time()
    out = resolve_out(options.out, datetime.fromtimestamp(now, UTC).astimezone())
    destination = destination_of(out)
    stop = stop or Stop()
    with open_input(options.orders) as source, work_directory(out) as work:
        destination.repair(work.retired)
        standing = destination.standing()
        if standing is not None and work.marked() == standing.run_id:
            return _finish_published(options, work, standing, out)
        refuse_to_replace(standing, options, out)
        with _open_store(options, work) as store:
            plan = InputPlan(source, options.orders, options.column, work.plan)
            counts, input_record = await beside_the_loop(
                plan.make, stop, doing="reading the input", interrupt=plan.interrupt
            )
            store.attach_plan(work.plan)
            record = store.begin_run(out, now, units.seconds(options.resume_within, option="--resume-within"))
            run = _Run(options, out, destination, work, store, counts, input_record, record, now)
            return await run.go(on_progress, stop)


def resolve_out(out: str, now: datetime) -> str:
    """Return `out` with `{date}` and `{time}` filled in.

    Args:
        out: As the user gave it.
        now: The run's start, in the machine's own time zone.

    >>> resolve_out("orders-{date}", datetime(2026, 11, 23, 18, 30))
    'orders-2026-11-23'
    """
    return out.replace("{date}", f"{now:%Y-%m-%d}").replace("{time}", f"{now:%H%M%S}")


def refuse_to_replace(standing: Manifest | None, options: Options, out: str) -> None:
    """Raise where a finished dataset stands that the options do not allow to replace.

    Args:
        standing: The dataset that stands there, or None.
        options: Say whether it may be replaced.
        out: Where it stands, for the message.

    Raises:
        UsageError: It may not be replaced.
    """
    if standing is not None and not options.overwrite:
        raise UsageError(
            f"--out {out}: a finished dataset of {standing.finished_at} is there.",
            "Give another --out, or --overwrite to replace it.",
        )


@contextmanager
def _open_store(options: Options, work: WorkDirectory) -> Iterator[Store]:
    """Open the kept store under its own lock, or the work directory's."""
    if options.store is None:
        with closing(Store(work.store, options.api_url)) as store:
            yield store
        return
    path = Path(options.store).absolute()
    with locked_store(path), closing(Store(path, options.api_url)) as store:
        yield store


def _finish_published(options: Options, work: WorkDirectory, standing: Manifest, out: str) -> Summary:
    """End a run whose process died after its dataset stood in its place."""
    if options.store is not None:
        with _open_store(options, work) as store:
            store.finish_run(standing.run_id, time.time())
    work.remove()
    return summary_of(standing, out)


@dataclass(frozen=True)
class _Run:
    """One try of a run, with everything opened."""

    options: Options
    out: str
    destination: Destination
    work: WorkDirectory
    store: Store
    counts: PlanCounts
    input: manifest.Input
    record: RunRecord
    began: float

    async def go(self, on_progress: ProgressCallback | None, stop: Stop) -> Summary:
        """Refresh, publish, and remove the work directory."""
        freshness = self._freshness()
        states = await beside_the_loop(
            lambda: self.store.states(freshness),
            stop,
            doing="reading the store",
            interrupt=self.store.interrupt,
        )
        self._tell_plan(states)
        fetching = _Fetching(self, freshness, states, stop)
        result = await fetching.run(on_progress)
        self._judge(result)
        self._look_again()
        finished = self._manifest(result, fetching)
        with durable.storage_errors("writing the manifest", self.work.staged):
            path = self.work.staged / manifest.MANIFEST_FILE
            durable.write_bytes(path, manifest.encode(finished), mode=None)
        self.work.mark(self.record.run_id)
        self.destination.put(self.work.staged, self.work.retired)
        self.store.finish_run(self.record.run_id, time.time())
        self.store.close()
        self.work.remove()
        removed = remove_older(self.options.out, self.out, self.options.keep) if self.options.keep else ()
        return summary_of(finished, self.out, resumed=self.record.resumed, removed=removed)

    def _freshness(self) -> Freshness:
        return Freshness(
            run_started_at=self.record.started_at,
            try_started_at=self.began,
            max_age_s=units.seconds(self.options.max_age, option="--max-age"),
            max_age_s_by_status=units.ages_by_status(self.options.refresh_status),
        )

    def _tell_plan(self, states: dict[str | None, int]) -> None:
        pending = states.get(None, 0)
        log.info(
            "%s: %d order numbers (%d duplicates, %d invalid lines, %d blank); %d are in the store, %d to ask for%s.",
            self.options.orders,
            self.counts.requested,
            self.counts.duplicates,
            self.counts.invalid,
            self.counts.blank,
            self.counts.requested - pending,
            pending,
            _time_needed(pending, Rate.parse(self.options.rate)),
        )
        if self.record.resumed:
            log.info("Going on with the run that began at %s.", manifest.time_text(self.record.started_at))

    def _judge(self, result: PublishResult) -> None:
        """Raise where what was rejected, or what fits no column, forbids publishing."""
        rejects = sum(result.rejects_by_reason.values())
        allowed = units.allowed_rejects(self.options.max_rejects, self.counts.requested + self.counts.invalid)
        if rejects > allowed:
            reasons = ", ".join(f"{reason} {count}" for reason, count in result.rejects_by_reason.items())
            raise TooManyRejectsError(
                f"{rejects} rejects ({reasons}) are more than --max-rejects {self.options.max_rejects} allows"
                f" ({allowed}); nothing was published.",
                f"They are listed in {self.work.staged / 'rejects.jsonl'}. The same command with a higher"
                " --max-rejects publishes without asking again.",
                rejects,
            )
        drifted = {**result.unmapped_paths, **result.uncoerced}
        if self.options.on_drift == "fail" and drifted:
            raise DriftError(
                f"{len(drifted)} paths fit no column ({', '.join(list(drifted)[:5])}); nothing was published.",
                "The same command with --on-drift warn publishes without asking again.",
            )

    def _look_again(self) -> None:
        """Refuse to replace what came to the destination in mid-run: it may be anybody's."""
        try:
            refuse_to_replace(self.destination.standing(), self.options, self.out)
        except UsageError as error:
            raise StorageError(
                f"{error.what} It came there in mid-run.",
                "Move it away; the same command then publishes without asking again.",
            ) from None

    def _manifest(self, result: PublishResult, fetching: _Fetching) -> Manifest:
        rows = {"orders": result.exported, "order_items": result.order_items}
        return Manifest(
            manifest_version=manifest.MANIFEST_VERSION,
            exporter_version=__version__,
            run_id=self.record.run_id,
            started_at=manifest.time_text(self.record.started_at),
            finished_at=manifest.time_text(time.time()),
            api_url=self.options.api_url,
            input=self.input,
            counts=manifest.Counts(
                requested=self.counts.requested,
                exported=result.exported,
                rejected=self.counts.requested - result.exported,
                order_items=result.order_items,
            ),
            rejects_by_reason=result.rejects_by_reason,
            requests=manifest.requests_of(self.record.traffic + fetching.traffic),
            tables={
                name: manifest.TableFiles(rows=rows[name], files=files)
                for name, files in result.files.items()
            },
            drift=manifest.Drift(unmapped_paths=result.unmapped_paths, uncoerced=result.uncoerced),
            statistics=fetching.statistics.as_dict(),
        )


class _Fetching:
    """The refresh and the publishing process of one try, side by side."""

    def __init__(self, run: _Run, freshness: Freshness, states: dict[str | None, int], stop: Stop) -> None:
        self._run = run
        self._freshness = freshness
        self._pending = states.get(None, 0)
        self._stop = stop
        self._tally = Tally()
        self._over = False
        self._ended = False
        options = run.options
        self._pace = Pace(
            Rate.parse(options.rate),
            max_rate=Rate.parse(options.max_rate),
            waiting=lambda: self._pending - self._tally.total,
        )
        self.statistics = Statistics(time.monotonic, self._permitted)
        self._client: Client | None = None

    @property
    def traffic(self) -> Traffic:
        """Requests of this try that reached the wire so far."""
        return self._client.traffic if self._client else Traffic()

    async def run(self, on_progress: ProgressCallback | None) -> PublishResult:
        async with start_publishing(self._job()) as publishing, task_group() as group:
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

    def _job(self) -> PublishJob:
        options, work = self._run.options, self._run.work
        return PublishJob(
            store=str(self._run.store.path),
            plan=str(work.plan),
            staged=str(work.fresh_staged()),
            freshness=self._freshness,
            formats=options.formats,
            rows_per_file=options.rows_per_file,
            compression=options.compression,
            csv_dialect=options.csv_dialect,
            pii=options.pii,
            pii_key=options.pii_key,
            select=options.select,
            drop=options.drop,
        )

    async def _refresh(self) -> None:
        async with open_client(self._run.options, self._pace, self.statistics) as client:
            self._client = client
            await refresh(
                Refresh(
                    options=self._run.options,
                    store=self._run.store,
                    freshness=self._freshness,
                    run=self._run.record,
                    client=client,
                    pace=self._pace,
                    statistics=self.statistics,
                    tally=self._tally,
                    stop=self._stop,
                )
            )

    async def _unless_stopped(self, published: asyncio.Task[PublishResult]) -> PublishResult:
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({published, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        if not published.done():
            raise self._stop.error(
                "Stopped by a signal while publishing; every order is kept.",
                "The same command publishes without asking again.",
            )
        return published.result()

    async def _tick(self, publishing: Publishing, on_progress: ProgressCallback) -> None:
        before = self._tally.total
        rate = 0.0
        while True:
            on_progress(self._progress(publishing, rate))
            await asyncio.sleep(_TICK_S)
            lately = (self._tally.total - before) / _TICK_S
            before = self._tally.total
            # An average over about two seconds: the eye wants a number, not its noise.
            rate += (lately - rate) * min(1.0, _TICK_S / 2.0) if rate else lately

    def _permitted(self) -> float | None:
        per_s = self._pace.snapshot().per_s
        return None if math.isinf(per_s) else per_s

    def _progress(self, publishing: Publishing, rate: float) -> Progress:
        pace = self._pace.snapshot()
        settled = self._tally.settled
        fetched = settled["fetched"]
        traffic = self.traffic
        return Progress(
            phase="done" if self._ended else "publishing" if self._over else "fetching",
            total=self._run.counts.requested,
            done=self._run.counts.requested - self._pending + self._tally.total,
            pending_at_start=self._pending,
            fetched=fetched,
            rejected=self._tally.total - fetched,
            retried=traffic.retried,
            throttled=traffic.throttled,
            published=publishing.lines,
            elapsed_s=time.time() - self._run.began,
            rate_per_s=rate,
            permitted_per_s=self._permitted(),
            waiting=self._tally.backing_off,
            paused_s=None if pace.paused_until is None else max(0.0, pace.paused_until - time.monotonic()),
            why=pace.why,
        )


def _time_needed(pending: int, rate: Rate) -> str:
    if not pending or math.isinf(rate.per_s):
        return ""
    seconds = pending / rate.per_s
    if seconds < 120:
        return f", about {seconds:.0f} s at {rate}"
    if seconds < 7200:
        return f", about {seconds / 60:.0f} min at {rate}"
    return f", about {seconds / 3600:.1f} h at {rate}"

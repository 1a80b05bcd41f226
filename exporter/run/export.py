"""One export from start to end: plan, refresh, publish.

The order of the durable steps is the promise: payloads are committed before they count; table files and
the manifest are synced in the work directory; a marker there names the run; one rename puts the dataset
in its place; only then is the work directory removed. A kill after any of them leaves a state that the
same command recognises and finishes.
"""

import asyncio
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from exporter.dataset.destination import (
    Destination,
    came_in_mid_run,
    destination_of,
    manifest_in,
    remove_dataset,
)
from exporter.dataset.publishing.publish_job import PublishResult
from exporter.dataset.summary import Summary, summary_of
from exporter.fetch.fetch_job import Fetched, FetchJob, fetch
from exporter.fetch.list_shortcut import use_list
from exporter.fetch.number_listing import Listing
from exporter.fetch.reject_limit import allowed_rejects, examples, limit_text
from exporter.fetch.work_directory import WorkDirectory, locked_store, name_of, work_directory
from exporter.model import manifest
from exporter.model.errors import (
    DriftError,
    ExporterError,
    InputError,
    StorageError,
    TooFewOrdersError,
    TooManyRejectsError,
    UsageError,
)
from exporter.model.manifest import Manifest
from exporter.model.options import PRUNE_AGE, Options
from exporter.model.progress import ProgressCallback
from exporter.model.records import RunRecord, Traffic
from exporter.model.units import count_or_share, seconds
from exporter.model.version import __version__
from exporter.report.report_process import write_report_apart
from exporter.run.compare import add_changes
from exporter.run.load_dataset import load_published
from exporter.run.preparation import prepared, refuse_invalid, refuse_to_replace
from exporter.run.retention import newest, remove_older, tell_unfinished
from exporter.store import prune_and_backup
from exporter.store.input_file import InputPlan, open_input
from exporter.store.listed_numbers import Walk
from exporter.store.order_store import Store
from exporter.system import durable
from exporter.system.log import log
from exporter.system.stopping import Stop, beside_the_loop

T = TypeVar("T")


def export(options: Options, *, on_progress: ProgressCallback | None = None) -> Summary:
    """Run one export and wait for it; where an event loop runs already, as in a notebook, use `export_async`.

    Args:
        options: What to do.
        on_progress: Called a few times a second with how far the run is.

    Returns:
        What was exported.

    Raises:
        UsageError: An option is wrong, or the place is taken; nothing was created.
        InputError: The list cannot be read, or holds no order number; nothing was created.
        TooManyRejectsError, TooFewOrdersError, DriftError: `max_rejects`, `expect_orders` or `on_drift` forbid to
            publish; what was fetched is kept.
        TokenRefusedError: The API refuses the token; what was fetched is kept.
        ApiUnavailableError: The API does not answer, or asks for too long a wait; what was fetched is kept.
        StorageError: The disk, the store or the database of `load` fails; what was fetched is kept.
        LockedError: Another run holds the work directory or the store.
        InterruptedRunError: The end was asked for; what was fetched is kept.
    """
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise UsageError("export() was called where an event loop runs.", "Write: await export_async(…)")
    return asyncio.run(export_async(options, on_progress=on_progress))


async def export_async(
    options: Options, *, on_progress: ProgressCallback | None = None, stop: Stop | None = None
) -> Summary:
    """Run one export inside a running event loop; see `export`.

    Args:
        options: What to do.
        on_progress: Called a few times a second with how far the run is.
        stop: Ask it for the end to stop the run; what was fetched is kept.
    """
    if sys.platform == "win32" and not isinstance(asyncio.get_running_loop(), asyncio.ProactorEventLoop):
        what = "export_async() was called in an event loop that cannot start processes."
        raise UsageError(what, "Use asyncio.ProactorEventLoop, which asyncio.run() takes by itself.")
    now, began = time.time(), time.monotonic()
    options, out, destination = prepared(options, now)
    try:
        with work_directory(out) as work:
            run = _Run(options, out, destination, work, on_progress or (lambda _: None), stop or Stop())
            published = await run.look()
            return await (run.go(now, began) if published is None else run.finish_published(published))
    except ExporterError as error:
        error.out = out
        raise


@dataclass(frozen=True)
class _Run:
    """One try of a run, its work directory held."""

    options: Options
    out: str
    destination: Destination
    work: WorkDirectory
    on_progress: ProgressCallback
    stop: Stop

    async def look(self) -> Manifest | None:
        """Return the dataset of a dead try of this run that had published; refuse what may not be replaced."""

        def look() -> Manifest | None:
            self.destination.repair(self.work.retired)
            standing = self.destination.standing()
            if standing is not None and self.work.marked() == standing.run_id:
                return standing
            refuse_to_replace(standing, self.destination, self.options, self.out)
            return None

        return await self._there(look, "looking at the destination")

    async def _there(self, work: Callable[[], T], doing: str) -> T:
        return await beside_the_loop(work, self.stop, doing, self.destination.interrupt)

    @contextmanager
    def _open_store(self) -> Iterator[Store]:
        """Open the kept store under its own lock, or the work directory's."""
        kept = self.options.store
        path = Path(kept).absolute() if kept else self.work.store
        lock = locked_store(path) if kept else nullcontext()
        with lock, closing(Store(path, self.options.api_url)) as store:
            yield store

    async def finish_published(self, standing: Manifest) -> Summary:
        """End a run whose process died after its dataset stood in its place."""
        if self.options.store is not None:
            with self._open_store() as store:
                store.finish_run(standing.run_id, time.time())
        with durable.storage_errors("removing the dataset that was replaced", self.work.path):
            for old in (*self.work.path.glob("dataset*"), self.work.retired):
                if manifest_in(old) is not None and (stranger := remove_dataset(old)) is not None:
                    what = f"{old}: {stranger} appeared during the run."
                    raise StorageError(what, "Move it away, then run the same command again.")
        await self._end()
        return summary_of(standing, self.out)

    async def _end(self) -> None:
        """Load what was published, where that is asked for; an interrupted load leaves the work directory to resume by."""
        try:
            if self.options.load is not None:
                await load_published(self.out, self.options.load, self.stop)
        except StorageError:
            self.work.remove()
            raise
        self.work.remove()

    async def go(self, now: float, began: float) -> Summary:
        """Plan, refresh, publish, and remove the work directory; `began` is `now` on the steady clock."""
        options, name = self.options, name_of(self.out, kept=self.options.store is not None)
        with self._open_store() as store:
            listing = Listing(options=options, on_progress=self.on_progress, stop=self.stop)
            found, walk = await self._plan(store, listing, name, now)
            refuse_invalid(options, found)
            fewest = await self._there(self._fewest_orders, "looking at the newest dataset")
            self._refuse_fewer(found.requested, fewest, "order numbers", "exports them")
            store.attach_plan(self.work.plan)
            record = store.begin_run(name, now, options.resume_within_s, walk.began_at if walk else None)
            _tell_dropped(store, record, options)
            freshness = options.freshness(record.started_at, now)
            if options.looks_at_list:
                walk, freshness = await use_list(listing, self.work, store, record, freshness)
            job = FetchJob(
                options=options,
                work=self.work,
                store=store,
                input=found,
                record=record,
                freshness=freshness,
                stop=self.stop,
                began=began,
            )
            fetched = await self._fetch(job)
            self._judge(job, fetched.result, fewest)
            finished = _manifest(job, fetched, walk.traffic if walk else Traffic())
            return await self._publish(job, finished)

    async def _plan(
        self, store: Store, listing: Listing, name: str, now: float
    ) -> tuple[manifest.Input, Walk | None]:
        """Read the list into a plan, the API's own list first where it is asked for, and check the store beside it."""
        options, walk = self.options, None

        def check() -> None:
            store.check()
            store.disbelieve_the_future(now)

        checking = beside_the_loop(check, self.stop, "reading the store", store.interrupt)
        checked = asyncio.ensure_future(checking)
        try:
            if options.from_api:
                await checked  # before the first request
                walk = await _list(listing, self.work, store.unfinished_run(name))
            with open_input(str(self.work.listed) if walk else options.orders) as source:
                if not all(stream.seekable() for stream in source):
                    await checked  # before a pipe that may stay open for hours
                plan = InputPlan(source, options.orders, options, self.work.plan, store.path)
                found = await beside_the_loop(plan.make, self.stop, "reading the input", plan.interrupt)
        finally:
            await checked  # where the store is damaged, that may be why the rest failed
        if walk is not None:
            about = found.read | listing.about | {"pages": walk.pages, "listed": walk.orders}
            found = msgspec.structs.replace(found, read=about)
        return found, walk

    async def _publish(self, job: FetchJob, finished: Manifest) -> Summary:
        options, work = self.options, self.work
        if options.changes:
            finished = await add_changes(finished, self.out, options, work, self.stop)
        with durable.storage_errors("writing the manifest", work.staged):
            durable.write_bytes(work.staged / manifest.MANIFEST_FILE, manifest.encode(finished), mode=None)
        if options.report:
            try:
                await write_report_apart(work.staged)
            except ExporterError as error:  # a report that fails never keeps data from its readers
                what = "%s The dataset is published without its report: exporter report %s"
                log.warning(what, error, self.out)
        try:
            await self.look()
        except UsageError as error:  # it may be anybody's
            raise came_in_mid_run(error) from None
        work.mark(job.record.run_id)
        await self._there(partial(self.destination.put, work.staged, work.retired), "publishing the dataset")
        job.store.finish_run(job.record.run_id, job.now)
        job.store.close()
        if options.prune:
            await self._prune(job)
        await self._end()
        removed = remove_older(options.out, self.out, options.keep) if options.keep else ()
        tell_unfinished(options.out, self.out, remove=options.keep is not None)
        return summary_of(finished, self.out, resumed=job.record.resumed, removed=removed)

    async def _fetch(self, job: FetchJob) -> Fetched:
        if self.options.dask is not None:
            from exporter.fetch.cluster.coordinator import spread

            return await spread(job, self.on_progress)
        if job.record.resumed and self.work.ranges.exists():
            what = "its unfinished run was started with --dask."
            hint = f"Resume it with --dask, or remove {self.work.path} to start over."
            raise UsageError(what, hint, option="out", value=self.out)
        return await fetch(job, self.on_progress)

    async def _prune(self, job: FetchJob) -> None:
        """Remove from the kept store what the list no longer names; the dataset is published, whatever becomes of that."""
        store, before = job.store.path, job.record.started_at - seconds(PRUNE_AGE, option="older_than")
        prune = partial(prune_and_backup.prune, store, self.work.plan, before)
        try:
            gone = await beside_the_loop(prune, self.stop, "pruning the store")
            log.info("%s: %d orders pruned that are no longer listed.", store, gone)
        except StorageError as error:
            log.warning("--prune: %s", error)

    def _judge(self, job: FetchJob, result: PublishResult, fewest: int) -> None:
        """Raise where what was rejected, or what fits no column, forbids publishing."""
        rejects, allowed = sum(result.rejects_by_reason.values()), allowed_rejects(self.options, job.input)
        if rejects > allowed:
            reasons = ", ".join(f"{reason} {count}" for reason, count in result.rejects_by_reason.items())
            again = "unavailable" in result.rejects_by_reason
            asking = "and requests only the unavailable orders again" if again else "without new requests"
            raise TooManyRejectsError(
                f"{rejects} rejects ({reasons}) are more than {limit_text(self.options.max_rejects, allowed)};"
                f" nothing was published.{examples(job.store.rejects(job.freshness))}",
                f"They are listed in {self.work.staged / 'rejects.jsonl'}. The same command with a higher"
                f" --max-rejects publishes {asking}; with --retry-rejects it requests all of them again.",
                str(rejects),
            )
        self._refuse_fewer(result.exported, fewest, "exported orders", "publishes without new requests")
        drifted = {**result.drift.unmapped_paths, **result.drift.uncoerced}
        if self.options.on_drift == "fail" and drifted:
            raise DriftError(
                f"{len(drifted)} paths fit no column ({', '.join(list(drifted)[:5])}); nothing was published.",
                "The same command with --on-drift warn publishes without new requests.",
            )

    def _fewest_orders(self) -> int:
        """Return the number that `expect_orders` stands for; 0 where it names a share and there is no dataset yet."""
        expected, whole = self.options.expect_orders or "0", 0
        if expected.endswith("%") and (place := newest(self.options.out)) is not None:
            standing = destination_of(place).standing()
            whole = standing.counts.exported if standing else 0
        return math.ceil(count_or_share(expected, whole, option="expect_orders"))

    def _refuse_fewer(self, found: int, fewest: int, what: str, way_on: str) -> None:
        """Raise where a list cut short would replace a whole one; `what` was `found`, and `way_on` is what helps."""
        if found < fewest:
            raise TooFewOrdersError(
                f"{found:,} {what} are fewer than --expect-orders {self.options.expect_orders} expects ({fewest:,});"
                " nothing was published.",
                f"Check the list. The same command with a lower --expect-orders {way_on}.",
            )


async def _list(listing: Listing, work: WorkDirectory, before: RunRecord | None) -> Walk:
    """Read the API's own list into the work directory; the list of an unfinished run stays as it was."""
    answered_at = (before and before.answered_at) or 0.0
    numbers, walk = await listing.write(work.listed, work, spell=json.dumps, answered_at=answered_at)
    if not numbers:
        work.listing.unlink()  # the next try reads the list again
        raise InputError(
            f"{listing.options.orders}: none of its {walk.orders:,} orders is selected: nothing to export.",
            "Check --status, --placed-from, --placed-to and --filter.",
        )
    return walk


def _tell_dropped(store: Store, record: RunRecord, options: Options) -> None:
    """Say which unfinished run was too old to be resumed, and what is asked for again for that."""
    if (old := record.dropped) is not None:
        last_at = max(old.started_at, old.answered_at or 0.0)
        log.warning(
            "The unfinished run of %s had its last answer at %s, longer ago than --resume-within %s, so this run starts over"
            " and its %d answers are dropped.",
            *map(manifest.time_text, (old.started_at, last_at)),
            options.resume_within,
            store.answered_since(old.started_at),
        )


def _manifest(job: FetchJob, fetched: Fetched, listing: Traffic) -> Manifest:
    result, sent = fetched.result, fetched.traffic + listing
    return Manifest(
        manifest_version=manifest.MANIFEST_VERSION,
        exporter_version=__version__,
        run_id=job.record.run_id,
        started_at=manifest.time_text(job.record.started_at),
        finished_at=manifest.time_text(job.now),
        api_url=job.options.api_url,
        input=job.input,
        counts=manifest.Counts(
            requested=job.input.requested,
            exported=result.exported,
            rejected=job.input.requested - result.exported,
            order_items=result.order_items,
        ),
        rejects_by_reason=result.rejects_by_reason,
        requests=manifest.Requests(sent=sent.sent, retried=sent.retried, throttled=sent.throttled),
        tables={name: manifest.table_of(files) for name, files in result.files.items()},
        drift=result.drift,
        statistics=fetched.statistics,
        timezone=job.options.timezone,
        pii=manifest.pii_of(job.options.pii, job.options.pii_key),
        stale_by_reason=result.stale_by_reason,
        sources=job.store.sources(job.freshness)
        if job.options.looks_at_list
        else {"detail": result.exported},
    )

"""One export from start to end: plan, refresh, publish.

The order of the durable steps is the promise: payloads are committed before they count; table files and
the manifest are synced in the work directory; a marker there names the run; one rename puts the dataset
in its place; only then is the work directory removed. A kill after any of them leaves a state that the
same command recognises and finishes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import msgspec

from exporter.api.credentials import token_of
from exporter.dataset.destination import (
    Destination,
    came_in_mid_run,
    destination_of,
    manifest_in,
    remove_dataset,
)
from exporter.dataset.loading.target import kind_of
from exporter.dataset.publishing.publish_job import PublishResult
from exporter.fetch.cluster import check_extra as check_dask_extra
from exporter.fetch.fetch_job import Fetched, FetchJob, fetch
from exporter.fetch.number_listing import Listing
from exporter.fetch.reject_limit import allowed_rejects, examples
from exporter.fetch.work_directory import WorkDirectory, locked_store, name_of, place_of, work_directory
from exporter.model import manifest
from exporter.model.column_selection import choose_columns
from exporter.model.errors import (
    DriftError,
    ExporterError,
    InputError,
    StorageError,
    TooManyRejectsError,
    UsageError,
    missing_extra,
)
from exporter.model.manifest import Input, Manifest
from exporter.model.options import PRUNE_AGE, Options
from exporter.model.progress import ProgressCallback
from exporter.model.records import RunRecord, Traffic
from exporter.model.summary import Summary, summary_of
from exporter.model.units import seconds
from exporter.model.version import __version__
from exporter.report.report_process import write_report_apart
from exporter.run.compare import add_changes
from exporter.run.compare import check_extra as check_changes_extra
from exporter.run.expected_orders import fewest_orders, refuse_fewer
from exporter.run.load import load_published
from exporter.run.retention import remove_older, tell_unfinished
from exporter.store import upkeep
from exporter.store.input_file import InputPlan, open_input
from exporter.store.listed_numbers import Walk
from exporter.store.order_store import Store
from exporter.system import durable
from exporter.system.stopping import Stop, beside_the_loop

log = logging.getLogger("exporter")

T = TypeVar("T")


def export(options: Options, *, on_progress: ProgressCallback | None = None) -> Summary:
    """Run one export and wait for it; where an event loop runs already, as in a notebook, use `export_async`.

    Args:
        options: What to do.
        on_progress: Called a few times a second with how far the run is.

    Returns:
        What was exported.

    Raises:
        ExporterError: One of its children; `exporter.model.errors` says which means what.
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
    # What cannot work is refused before anything is made.
    choose_columns(options.select, options.drop, options.tables)
    # Once: a token file may be a pipe, and a link to a store may change. Workers on other machines read their
    # token file, of the same name.
    store = options.store
    options = replace(options, token=token_of(options), store=real_store(store))
    if "xlsx" in options.formats and find_spec("xlsxwriter") is None:
        raise missing_extra("--format xlsx", "xlsx")
    if options.dask is not None:
        check_dask_extra()
    if options.changes:
        check_changes_extra("--changes")
    if options.load is not None:
        kind_of(options.load)
    now, began = time.time(), time.monotonic()
    out = resolve_out(options.out, datetime.fromtimestamp(now))  # noqa: DTZ006 - the machine's own; it knows `fold`
    destination = destination_of(out, "none" if options.proxy == "none" else None)
    refuse_passing_store(store, out)
    try:
        return await _export(options, out, destination, now, began, on_progress, stop or Stop())
    except ExporterError as error:
        error.out = out
        raise


async def _export(
    options: Options,
    out: str,
    destination: Destination,
    now: float,
    began: float,
    on_progress: ProgressCallback | None,
    stop: Stop,
) -> Summary:
    """Run one export into `out`; see `export_async`."""
    with work_directory(out) as work:
        published = await _look(destination, work, options, out, stop)
        if published is not None:
            return await _finish_published(options, work, published, out, stop)
        with _open_store(options, work) as store:
            name = name_of(out, kept=options.store is not None)
            listing = Listing(options=options, on_progress=on_progress or (lambda _: None), stop=stop)
            walk = await _list(listing, work, store.unfinished_run(name)) if options.from_api else None
            with open_input(str(work.listed) if walk else options.orders) as source:
                plan = InputPlan(source, options.orders, options, work.plan)
                found = await beside_the_loop(
                    plan.make, stop, doing="reading the input", interrupt=plan.interrupt
                )
            if walk is not None:
                about = found.read | listing.about | {"pages": walk.pages, "listed": walk.orders}
                found = msgspec.structs.replace(found, read=about)
            _refuse_invalid(options, found)
            count = partial(fewest_orders, options)
            fewest = await _there(destination, count, stop, "looking at the newest dataset")
            refuse_fewer(options, found.requested, fewest, "order numbers", "exports them")
            store.attach_plan(work.plan)
            store.disbelieve_the_future(now)
            record = store.begin_run(name, now, options.resume_within_s)
            _tell_dropped(store, record, options)
            run = _Run(
                out=out,
                destination=destination,
                options=options,
                work=work,
                store=store,
                input=found,
                listing=walk.traffic if walk else Traffic(),
                record=record,
                freshness=options.freshness(record.started_at, now),
                stop=stop,
                began=began,
                fewest=fewest,
            )
            return await run.go(on_progress)


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


def _refuse_invalid(options: Options, found: Input) -> None:
    """Raise before the first request where the input's invalid lines alone forbid publishing."""
    allowed = allowed_rejects(options, found)
    if not found.invalid:
        return
    line, text, detail = found.read["invalid"]
    first = f"The first is line {line}, {text!r}: {detail}"
    if not found.requested:
        what = f"{options.orders}: expected order numbers, got {found.invalid} invalid lines alone. {first}"
        raise InputError(what, "Correct the list.")
    if found.invalid > allowed:
        raise TooManyRejectsError(
            f"{options.orders}: {found.invalid} invalid lines are more than --max-rejects {options.max_rejects}"
            f" allows ({allowed}); nothing was requested. {first}",
            "Correct the list. The same command with a higher --max-rejects leaves these lines out.",
            str(found.invalid),
        )


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


async def _look(
    destination: Destination, work: WorkDirectory, options: Options, out: str, stop: Stop
) -> Manifest | None:
    """Return the dataset of a dead try of this run that had published; refuse what may not be replaced."""

    def look() -> Manifest | None:
        destination.repair(work.retired)
        standing = destination.standing()
        if standing is not None and work.marked() == standing.run_id:
            return standing
        refuse_to_replace(standing, destination, options, out)
        return None

    return await _there(destination, look, stop, "looking at the destination")


async def _there(destination: Destination, work: Callable[[], T], stop: Stop, doing: str) -> T:
    return await beside_the_loop(work, stop, doing=doing, interrupt=destination.interrupt)


def resolve_out(out: str, now: datetime) -> str:
    """Return `out` with the run's start, in the machine's own time zone, for `{date}` and `{time}`.

    >>> resolve_out("orders-{date}", datetime(2026, 11, 23, 18, 30))
    'orders-2026-11-23'
    >>> resolve_out("{time}", datetime(2026, 10, 25, 2, 30, fold=1))
    '023000b'
    """
    again = "b" if now.fold else ""  # the hour that comes twice when summer time ends
    return out.replace("{date}", f"{now:%Y-%m-%d}").replace("{time}", f"{now:%H%M%S}{again}")


def refuse_to_replace(
    standing: Manifest | None, destination: Destination, options: Options, out: str
) -> None:
    """Raise a `UsageError` where a finished dataset stands that may not be replaced."""
    if standing is None:
        return
    if not options.overwrite:
        what = f"a finished dataset of {standing.finished_at} is there."
        raise UsageError(what, "Give another --out, or --overwrite to replace it.", option="out", value=out)
    destination.refuse_strangers(standing)


def real_store(store: str | None) -> str | None:
    """Return where a store really is: its lock and what SQLite keeps are beside it, not beside a link to it."""
    return os.path.realpath(store) if store is not None and Path(store).is_symlink() else store


def refuse_passing_store(store: str | None, out: str) -> None:
    """Raise a `UsageError` where a store that is to be kept would go with the dataset or the work directory."""
    folders = [place_of(out)] if "://" in out else [place_of(out), Path(out).absolute()]
    for folder in folders:
        if store is not None and Path(store).resolve().is_relative_to(folder.resolve()):
            what = f"expected a file outside of {folder}, which a run replaces or removes."
            raise UsageError(what, "Give another --store.", option="store", value=store)


@contextmanager
def _open_store(options: Options, work: WorkDirectory) -> Iterator[Store]:
    """Open the kept store under its own lock, or the work directory's."""
    path = Path(options.store).absolute() if options.store else work.store
    with (
        locked_store(path) if options.store else nullcontext(),
        closing(Store(path, options.api_url)) as store,
    ):
        yield store


async def _finish_published(
    options: Options, work: WorkDirectory, standing: Manifest, out: str, stop: Stop
) -> Summary:
    """End a run whose process died after its dataset stood in its place."""
    if options.store is not None:
        with _open_store(options, work) as store:
            store.finish_run(standing.run_id, time.time())
    with durable.storage_errors("removing the dataset that was replaced", work.path):
        for old in (*work.path.glob("dataset*"), work.retired):
            if manifest_in(old) is not None and (stranger := remove_dataset(old)) is not None:
                what = f"{old}: {stranger} came there in mid-run."
                raise StorageError(what, "Move it away, then run the same command again.")
    await _end(options, work, out, stop)
    return summary_of(standing, out)


async def _end(options: Options, work: WorkDirectory, out: str, stop: Stop) -> None:
    """Load what was published, where that is asked for; an interrupted load leaves the work directory to resume by."""
    try:
        if options.load is not None:
            await load_published(out, options.load, stop)
    except StorageError:
        work.remove()
        raise
    work.remove()


@dataclass(frozen=True, kw_only=True)
class _Run(FetchJob):
    """One try of a run, with everything opened."""

    out: str
    destination: Destination
    listing: Traffic
    fewest: int

    async def go(self, on_progress: ProgressCallback | None) -> Summary:
        """Refresh, publish, and remove the work directory."""
        fetched = await self._fetch(on_progress)
        self._judge(fetched.result)
        finished = self._manifest(fetched)
        if self.options.changes:
            finished = await add_changes(finished, self.out, self.options, self.work, self.stop)
        with durable.storage_errors("writing the manifest", self.work.staged):
            path = self.work.staged / manifest.MANIFEST_FILE
            durable.write_bytes(path, manifest.encode(finished), mode=None)
        if self.options.report:
            await self._report()
        await self._look_again()
        self.work.mark(self.record.run_id)
        put = partial(self.destination.put, self.work.staged, self.work.retired)
        await _there(self.destination, put, self.stop, "publishing the dataset")
        self.store.finish_run(self.record.run_id, self.now)
        self.store.close()
        if self.options.prune:
            await self._prune()
        await _end(self.options, self.work, self.out, self.stop)
        keep = self.options.keep
        removed = remove_older(self.options.out, self.out, keep) if keep else ()
        tell_unfinished(self.options.out, self.out, remove=keep is not None)
        return summary_of(finished, self.out, resumed=self.record.resumed, removed=removed)

    async def _fetch(self, on_progress: ProgressCallback | None) -> Fetched:
        tell = on_progress or (lambda _: None)
        if self.options.dask is not None:
            from exporter.fetch.cluster.coordinator import spread

            return await spread(self, tell)
        self._refuse_ranges()
        return await fetch(self, tell)

    def _refuse_ranges(self) -> None:
        """Refuse to ask again on this machine for what a cluster has fetched."""
        if self.record.resumed and self.work.ranges.exists():
            hint = f"Resume it with --dask, or remove {self.work.path} to start over."
            raise UsageError(
                "its unfinished run was started with --dask.", hint, option="out", value=self.out
            )

    async def _prune(self) -> None:
        """Remove from the kept store what the list no longer names; the dataset stands, whatever becomes of that."""
        before = self.record.started_at - seconds(PRUNE_AGE, option="older_than")
        prune = partial(upkeep.prune, self.store.path, self.work.plan, before)
        try:
            gone = await beside_the_loop(prune, self.stop, doing="pruning the store", interrupt=lambda: None)
            log.info("%s: %d orders pruned that are no longer listed.", self.store.path, gone)
        except StorageError as error:
            log.warning("--prune: %s", error)

    async def _report(self) -> None:
        """Add the report to the staged dataset; a report that fails never keeps data from its readers."""
        try:
            await write_report_apart(self.work.staged)
        except ExporterError as error:
            log.warning("%s The dataset is published without its report: exporter report %s", error, self.out)

    def _judge(self, result: PublishResult) -> None:
        """Raise where what was rejected, or what fits no column, forbids publishing."""
        rejects = sum(result.rejects_by_reason.values())
        allowed = allowed_rejects(self.options, self.input)
        if rejects > allowed:
            reasons = ", ".join(f"{reason} {count}" for reason, count in result.rejects_by_reason.items())
            raise TooManyRejectsError(
                f"{rejects} rejects ({reasons}) are more than --max-rejects {self.options.max_rejects} allows"
                f" ({allowed}); nothing was published.{examples(self.store, self.freshness)}",
                f"They are listed in {self.work.staged / 'rejects.jsonl'}. The same command with a higher"
                f" --max-rejects publishes {_asking(result.rejects_by_reason)}; with --retry-rejects it requests all of"
                " them again.",
                str(rejects),
            )
        refuse_fewer(
            self.options, result.exported, self.fewest, "exported orders", "publishes without new requests"
        )
        drifted = {**result.unmapped_paths, **result.uncoerced}
        if self.options.on_drift == "fail" and drifted:
            raise DriftError(
                f"{len(drifted)} paths fit no column ({', '.join(list(drifted)[:5])}); nothing was published.",
                "The same command with --on-drift warn publishes without new requests.",
            )

    async def _look_again(self) -> None:
        """Refuse to replace what came to the destination in mid-run: it may be anybody's."""
        try:
            await _look(self.destination, self.work, self.options, self.out, self.stop)
        except UsageError as error:
            raise came_in_mid_run(error) from None

    def _manifest(self, fetched: Fetched) -> Manifest:
        result, sent = fetched.result, fetched.traffic + self.listing
        return Manifest(
            manifest_version=manifest.MANIFEST_VERSION,
            exporter_version=__version__,
            run_id=self.record.run_id,
            started_at=manifest.time_text(self.record.started_at),
            finished_at=manifest.time_text(self.now),
            api_url=self.options.api_url,
            input=self.input,
            counts=manifest.Counts(
                requested=self.input.requested,
                exported=result.exported,
                rejected=self.input.requested - result.exported,
                order_items=result.order_items,
            ),
            rejects_by_reason=result.rejects_by_reason,
            requests=manifest.Requests(sent=sent.sent, retried=sent.retried, throttled=sent.throttled),
            tables={name: manifest.table_of(files) for name, files in result.files.items()},
            drift=manifest.Drift(unmapped_paths=result.unmapped_paths, uncoerced=result.uncoerced),
            statistics=fetched.statistics,
            timezone=self.options.timezone,
            pii=manifest.pii_of(self.options.pii, self.options.pii_key),
            stale_by_reason=result.stale_by_reason,
        )


def _asking(rejects_by_reason: dict[str, int]) -> str:
    """Say what a resumed run asks for after too many rejects."""
    if "unavailable" in rejects_by_reason:
        return "and requests only the unavailable orders again"
    return "without new requests"

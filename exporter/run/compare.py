"""Two datasets compared: by `exporter changes`, by a run with the one before it, and for one order's life."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from glob import glob
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from exporter.dataset.destination import destination_of
from exporter.fetch.work_directory import WorkDirectory, work_directory
from exporter.model import manifest
from exporter.model.errors import ExporterError, InterruptedRunError, UsageError
from exporter.model.manifest import Changes, Manifest
from exporter.model.options import Options, TableOptions
from exporter.model.version import __version__
from exporter.run.retention import newest
from exporter.system import durable
from exporter.system.extras import need_extra
from exporter.system.log import log
from exporter.system.stopping import Stop, beside_the_loop

if TYPE_CHECKING:
    from exporter.dataset.changes.comparison import Comparison
    from exporter.dataset.local_tables import LocalDataset


def compare(old: str, new: str, out: str, options: TableOptions, *, full: bool, overwrite: bool) -> Manifest:
    """Compare two finished datasets, and put what differs into a folder of its own, all at once.

    Each is a directory, or `s3://…`. `full` writes the whole rows of changed orders as well, `overwrite` replaces a
    finished comparison at `out`. Returned is the record of its files, and of what differs in counts.
    """
    need_extra("exporter changes", "duckdb", "duckdb")
    destination = destination_of(out)
    with work_directory(out) as work:
        destination.repair(work.retired)
        standing = destination.standing()
        if standing is not None and work.marked() != standing.run_id:
            if not overwrite or not standing.is_comparison:
                kind = "comparison" if standing.is_comparison else "dataset"
                what = f"a finished {kind} of {standing.finished_at} is there."
                hint = "Give another --out, or --overwrite to replace a comparison."
                raise UsageError(what, hint, option="out", value=out)
            destination.refuse_strangers(standing)
            standing = None
        finished = standing or _compared(work, old, new, options, full=full)
        if standing is None:
            work.mark(finished.run_id)
            destination.put(work.staged, work.retired)
        work.remove()
    return finished


def _compared(work: WorkDirectory, old: str, new: str, options: TableOptions, *, full: bool) -> Manifest:
    """Write the files of a comparison into the staged folder, the manifest last."""
    from exporter.dataset.local_tables import local_dataset

    began, steady = time.time(), time.monotonic()
    scratch = fresh_scratch(work)
    staged = work.fresh_staged()
    sides = local_dataset(old, scratch / "old"), local_dataset(new, scratch / "new")
    tables, changes = _changes(*sides, staged, scratch, options, full=full)
    run_ids = [side.manifest.run_id for side in sides]
    finished = Manifest(
        manifest_version=manifest.MANIFEST_VERSION,
        exporter_version=__version__,
        run_id=hashlib.sha256(" ".join(run_ids).encode()).hexdigest()[:32],
        started_at=manifest.time_text(began),
        finished_at=manifest.time_text(began + time.monotonic() - steady),
        api_url=sides[1].manifest.api_url,
        input=manifest.Input(path=new, sha256="", lines=0, blank=0, invalid=0, duplicates=0),
        counts=manifest.Counts(requested=0, exported=0, rejected=0, order_items=0),
        rejects_by_reason={},
        requests=manifest.Requests(sent=0, retried=0, throttled=0),
        tables=tables,
        drift=manifest.Drift(unmapped_paths={}, uncoerced={}),
        changes=changes,
    )
    with durable.storage_errors("writing the manifest", staged):
        durable.write_bytes(staged / manifest.MANIFEST_FILE, manifest.encode(finished), mode=None)
    return finished


def fresh_scratch(work: WorkDirectory) -> Path:
    """Return an empty folder of a work directory, for what a comparison copies and spills."""
    scratch = work.path / "comparing"
    with durable.storage_errors("preparing the work directory", scratch):
        durable.remove_tree(scratch)
        scratch.mkdir()
    return scratch


def _changes(
    old: LocalDataset | None,
    new: LocalDataset,
    staged: Path,
    scratch: Path,
    options: TableOptions,
    *,
    full: bool = False,
    begun: Callable[[Comparison], object] = lambda _: None,
) -> tuple[dict[str, manifest.TableFiles], Changes]:
    from exporter.dataset.changes.comparison import Comparison

    with Comparison(old, new, scratch) as comparison:
        begun(comparison)
        changes = comparison.run()
        return comparison.write(staged, options, full=full), changes


async def add_changes(
    finished: Manifest, out: str, options: Options, work: WorkDirectory, stop: Stop
) -> Manifest:
    """Write beside the staged tables what changed since the newest dataset whose name fits `--out`.

    Returned is the staged dataset's manifest with that. What cannot be compared keeps no data from its readers.
    """
    under_way: list[Comparison] = []

    def add() -> Manifest:
        from exporter.dataset.local_tables import LocalDataset, local_dataset  # pyarrow: not while fetching

        scratch = fresh_scratch(work)
        place = newest(options.out)
        new = LocalDataset(place=out, folder=work.staged, manifest=finished, scratch=scratch)
        old = local_dataset(place, scratch / "old") if place is not None else None
        if old is None:
            log.info("--changes: there is no dataset before this one: the table changes is empty.")
        tables, changes = _changes(old, new, work.staged, scratch, options, begun=under_way.append)
        return msgspec.structs.replace(finished, tables=finished.tables | tables, changes=changes)

    try:
        doing = "comparing with the dataset before"
        return await beside_the_loop(add, stop, doing, lambda: [one.interrupt() for one in under_way])
    except InterruptedRunError:
        raise
    except ExporterError as error:
        log.warning("--changes: %s The dataset is published without its changes.", error)
        return finished


def history(number: str, patterns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield what each dataset (a folder, `s3://…`, or all that fit a name with `*`) says of an order, oldest first."""
    need_extra("exporter history", "duckdb", "duckdb")
    from exporter.dataset.changes.comparison import Comparison
    from exporter.dataset.local_tables import local_dataset

    with TemporaryDirectory(prefix="exporter-history-") as name:
        scratch, before = Path(name), None
        found = [local_dataset(place, scratch / str(at)) for at, place in enumerate(_places(patterns))]
        for dataset in sorted(found, key=lambda each: each.manifest.finished_at):
            with Comparison(before, dataset, scratch, only=number) as comparison:
                comparison.run()
                changes = [row for table in comparison.rows() for row in table.to_pylist()]
            order = dataset.order(number)
            state = (
                order.get("status", "exported") if order else dataset.rejects().get(number, "not requested")
            )
            facts = {"dataset": dataset.place, "finished_at": dataset.manifest.finished_at}
            yield {**facts, "state": state, "order": order, "changes": changes}
            before = dataset if order is not None or state == "not_found" else before


def _places(patterns: Sequence[str]) -> list[str]:
    places = []
    for pattern in patterns:
        globbed = "*" in pattern and "://" not in pattern
        found = sorted(glob(pattern)) if globbed else [pattern]  # noqa: PTH207 - the pattern may be absolute
        places += [place for place in found if not globbed or Path(place, manifest.MANIFEST_FILE).is_file()]
    if not places:
        what = f"expected finished datasets, got none that fits {' '.join(patterns)}."
        raise UsageError(what, "Give the --out of a run.")
    return places

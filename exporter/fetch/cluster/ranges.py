"""The plan cut into ranges, each a folder with a plan, a store and a result of its own; and those put together."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import TypeVar

import msgspec

from exporter.dataset.publishing.publish_job import PublishResult
from exporter.fetch.cluster.messages import Done
from exporter.fetch.refresh import Standing
from exporter.fetch.reject_limit import EXAMPLES
from exporter.fetch.work_directory import WorkDirectory
from exporter.model.errors import ExporterError, StorageError
from exporter.model.manifest import REJECTS_FILE, Drift, part_name
from exporter.model.options import FileFormat
from exporter.model.records import FETCHED, PartFile
from exporter.store.order_store import Freshness, RejectRow, Store
from exporter.store.plan import SCHEMA
from exporter.system import durable

T = TypeVar("T")

_SMALLEST, _LARGEST = 250, 50_000
#: Several for each worker, so that none waits long for the last one; each costs its worker some 50 ms.
_RANGES_A_WORKER = 4
_USUAL_WORKERS = 4
_CUT_FILE, _DONE_FILE = "cut.json", "done.json"
_LAST_LINE = 2**62
_STARTS = (
    "SELECT line FROM (SELECT line, row_number() OVER (ORDER BY line) - 1 AS at FROM plan) WHERE at % ? = 0"
)
_NOTHING = Standing()


@dataclass(kw_only=True)
class Range:
    """Consecutive order numbers of the plan in a folder of their own, and what the coordinator knows of them."""

    index: int  # its place in the plan, from 0
    folder: WorkDirectory
    orders: int
    rejected_before: int = 0
    done: Done | None = None
    standing: Standing = _NOTHING
    given_back: int = 0  # so often by a worker that did not finish it

    @property
    def left(self) -> int:
        """Order numbers that are still to be settled."""
        return 0 if self.done else self.standing.left

    @property
    def rejected(self) -> int:
        """Order numbers that are surely rejects; of a range that is done again in this try, perhaps fewer."""
        if self.done is None:
            return self.rejected_before + self.standing.rejected
        return self.orders - self.done.result.exported

    def look(self, key: str, freshness: Freshness) -> None:
        """Find out what earlier tries have brought; a result must be of that key."""
        self.done = self._finished(key)
        if self.done is None:
            all_pending: dict[str | None, int] = {None: self.orders}
            states = self._read(lambda store: store.states(freshness), all_pending)
            self.standing = Standing(states.pop(None, 0))
            self.rejected_before = sum(states.values()) - states.get(FETCHED, 0)

    def _finished(self, key: str) -> Done | None:
        path = self.folder.path
        with durable.storage_errors("reading a finished range", path):
            try:
                done = msgspec.json.decode((path / _DONE_FILE).read_bytes(), type=Done)
                staged = path / done.staged
                parts = [part for files in done.result.files.values() for part in files]
                is_whole = all((staged / part.path).stat().st_size == part.bytes for part in parts)
            except (FileNotFoundError, msgspec.MsgspecError):
                return None
        # `unavailable` before this try is asked for again, as on one machine.
        settled = "unavailable" not in done.result.rejects_by_reason
        return done if is_whole and done.key == key and settled else None

    def rejects(self, freshness: Freshness) -> list[RejectRow]:
        """Return its first rejects, while nobody works on it."""
        return self._read(lambda store: list(islice(store.rejects(freshness), EXAMPLES)), [])

    def _read(self, read: Callable[[Store], T], otherwise: T) -> T:
        """Read its store, which may not be there yet, or be damaged: its worker will tell."""
        try:
            with closing(Store(self.folder.store, readonly=True)) as store:
                store.check()
                store.attach_plan(self.folder.plan)
                return read(store)
        except (ExporterError, sqlite3.Error):
            return otherwise


def finish(folder: WorkDirectory, done: Done) -> None:
    """Remember durably that the range in `folder` is finished."""
    with durable.storage_errors("recording a finished range", folder.path):
        durable.write_bytes(folder.path / _DONE_FILE, msgspec.json.encode(done))


def range_size(orders: int, workers: int | None) -> int:
    """Return how many order numbers a range of a plan holds; `workers` is None where their number is not known.

    >>> range_size(100, 2), range_size(100_000, 2), range_size(10_000_000, 2)
    (250, 12500, 50000)
    """
    ranges = _RANGES_A_WORKER * (workers or _USUAL_WORKERS)
    return min(_LARGEST, max(_SMALLEST, -(-orders // ranges)))


def cut(folder: Path, plan: Path, orders: int, workers: int | None) -> list[Range]:
    """Cut a plan of `orders` order numbers into ranges, in the sizes of the run's first try, a folder for each."""
    with durable.storage_errors("cutting the plan", folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        size = _recorded_size(folder / _CUT_FILE, range_size(orders, workers))
        with closing(sqlite3.connect(f"{plan.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            starts = [line for (line,) in connection.execute(_STARTS, (size,))]
        # Invalid lines belong to the range before them, or to the first.
        bounds = [0, *starts[1:], _LAST_LINE]
        return [_make(folder, plan, index, lines) for index, lines in enumerate(pairwise(bounds))]


def _recorded_size(file: Path, size: int) -> int:
    """Return the size of the first try, whose stores are cut like that, whatever the input has become."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, int])["size"]
    except FileNotFoundError:
        durable.write_bytes(file, msgspec.json.encode({"size": size}))
        return size
    except (msgspec.MsgspecError, KeyError):
        raise StorageError(f"{file}: it is damaged.", "Remove the work directory to start over.") from None


def _make(ranges: Path, plan: Path, index: int, lines: tuple[int, int]) -> Range:
    """Make a range's folder and its plan, as `plan.make_plan` would from those lines."""
    folder = WorkDirectory(ranges.absolute() / f"{index:05}")
    folder.path.mkdir(mode=0o700, exist_ok=True)
    beside = folder.path / "plan.new"
    beside.unlink(missing_ok=True)
    with closing(sqlite3.connect(beside, isolation_level=None)) as connection:
        connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {SCHEMA}")
        connection.execute("ATTACH DATABASE ? AS whole", (str(plan),))
        connection.execute("BEGIN")
        for table in ("plan", "invalid"):
            # In the line's order: the index of numbers is small enough to be built in memory.
            connection.execute(
                f"INSERT INTO {table} SELECT * FROM whole.{table} WHERE line >= ? AND line < ? ORDER BY line",  # noqa: S608 - our own words
                lines,
            )
        connection.execute("UPDATE plan SET id = NULL")  # those are of the run's own store
        connection.execute("COMMIT")
        (orders,) = connection.execute("SELECT count(*) FROM plan").fetchone()
    # A worker of a dead try may still read the old plan: it keeps the file that it has opened.
    beside.replace(folder.plan)
    return Range(index=index, folder=folder, orders=orders)


def gather(staged: Path, ranges: Iterable[Range], formats: Iterable[FileFormat]) -> PublishResult:
    """Move the files of all ranges, which are finished, into the empty staged folder; say what is there."""
    found = [(each.folder.path / each.done.staged, each.done.result) for each in ranges if each.done]
    results = [result for _, result in found]
    with durable.storage_errors("gathering the ranges", staged):
        files = {
            name: [part for each in formats for part in _gathered(staged, found, name, f".{each}")]
            for name in {name: None for result in results for name in result.files}
        }
        rejects = ((folder / REJECTS_FILE).read_bytes() for folder, _ in found)
        durable.write_lines(staged / REJECTS_FILE, rejects, mode=None)
    return PublishResult(
        exported=sum(result.exported for result in results),
        order_items=sum(result.order_items for result in results),
        rejects_by_reason=_sum(result.rejects_by_reason for result in results),
        files=files,
        drift=Drift(
            unmapped_paths=_sum(result.drift.unmapped_paths for result in results),
            uncoerced=_sum(result.drift.uncoerced for result in results),
        ),
    )


def _gathered(
    staged: Path, ranges: Sequence[tuple[Path, PublishResult]], name: str, suffix: str
) -> Iterator[PartFile]:
    """Move one table's files of one format; yield them under their new names."""
    parts = ((folder, part) for folder, result in ranges for part in result.files[name])
    found = [(folder / part.path, part) for folder, part in parts if part.path.endswith(suffix)]
    table = staged / f"{'orders' if suffix == '.xlsx' else name}{suffix}"
    single = len(found) == 1 and "/" not in found[0][1].path
    if not single:
        table.mkdir(exist_ok=True)
    for index, (source, part) in enumerate(found):
        target = table if single else table / part_name(index, suffix)
        if source.exists():  # a workbook came with the table before
            source.replace(target)
        yield replace(part, path=target.relative_to(staged).as_posix())
    durable.sync_folder(table if table.is_dir() else staged)


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    return dict(sorted(sum(map(Counter, counts), Counter[str]()).items()))

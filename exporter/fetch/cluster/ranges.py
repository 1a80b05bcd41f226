"""The plan cut into ranges: each a folder with a plan of its own, and later with its store and its result."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec

from exporter.fetch.cluster.messages import RangeResult
from exporter.fetch.fetch_job import Standing
from exporter.fetch.work_directory import WorkDirectory
from exporter.model.errors import ExporterError, StorageError
from exporter.store.order_store import Freshness, Store
from exporter.store.plan import SCHEMA
from exporter.system import durable

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
    """Consecutive order numbers of the plan, in a folder of their own, and what the coordinator knows of them.

    Attributes:
        index: Its place in the plan, from 0.
        folder: Its files.
        orders: So many order numbers it has.
        done: Its result, once it is finished.
        standing: How far it is.
        given_at: When it was last given out.
        failing_since: Since when each worker that it was given to left it at once; None for never.
    """

    index: int
    folder: WorkDirectory
    orders: int
    done: RangeResult | None = None
    standing: Standing = _NOTHING
    given_at: float = 0.0
    failing_since: float | None = None

    @property
    def left(self) -> int:
        """Order numbers that are still to be settled."""
        return 0 if self.done else self.standing.left

    def look(self, key: str, freshness: Freshness) -> None:
        """Find out what earlier tries have brought."""
        done = _finished(self.folder, key)
        # `unavailable` before this try is asked for again, as on one machine.
        if done is not None and done.result and "unavailable" not in done.result.rejects_by_reason:
            self.done = done
        else:
            self.standing = Standing(pending=self._pending(freshness))

    def _pending(self, freshness: Freshness) -> int:
        try:
            with closing(Store(self.folder.store, readonly=True)) as store:
                store.attach_plan(self.folder.plan)
                return store.states(freshness).get(None, 0)
        except (ExporterError, sqlite3.Error):
            return self.orders  # not there yet, or damaged: its worker will tell


def finish(folder: WorkDirectory, result: RangeResult) -> None:
    """Remember durably that the range in `folder` is finished."""
    with durable.storage_errors("recording a finished range", folder.path):
        durable.write_bytes(folder.path / _DONE_FILE, msgspec.json.encode(result))


def _finished(folder: WorkDirectory, key: str) -> RangeResult | None:
    """Return a range's result, where it was finished with that key and its files are still there."""
    with durable.storage_errors("reading a finished range", folder.path):
        try:
            done = msgspec.json.decode((folder.path / _DONE_FILE).read_bytes(), type=RangeResult)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        return done if done.key == key and _is_whole(folder.path / done.staged, done) else None


def _is_whole(staged: Path, done: RangeResult) -> bool:
    assert done.result is not None
    parts = [part for files in done.result.files.values() for part in files]
    with suppress(FileNotFoundError):
        return all((staged / part.path).stat().st_size == part.bytes for part in parts)
    return False


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
        return [
            _make(folder / f"{index:05}", index, plan, lines) for index, lines in enumerate(pairwise(bounds))
        ]


def _recorded_size(file: Path, size: int) -> int:
    """Return the size of the first try, whose stores are cut like that, whatever the input has become."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, int])["size"]
    except FileNotFoundError:
        durable.write_bytes(file, msgspec.json.encode({"size": size}))
        return size
    except (msgspec.MsgspecError, KeyError):
        raise StorageError(f"{file}: it is damaged.", "Remove the work directory to begin anew.") from None


def _make(path: Path, index: int, plan: Path, lines: tuple[int, int]) -> Range:
    """Make a range's folder and its plan, as `plan.make_plan` would from those lines."""
    path.mkdir(mode=0o700, exist_ok=True)
    folder = WorkDirectory(path.absolute())
    beside = path / "plan.new"
    beside.unlink(missing_ok=True)
    with closing(sqlite3.connect(beside, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(SCHEMA)
        connection.execute("ATTACH DATABASE ? AS whole", (str(plan),))
        connection.execute("BEGIN")
        for table in ("plan", "invalid"):
            # In the line's order: the index of numbers is small enough to be built in memory.
            connection.execute(
                f"INSERT INTO {table} SELECT * FROM whole.{table} WHERE line >= ? AND line < ? ORDER BY line",  # noqa: S608 - our own words
                lines,
            )
        connection.execute("COMMIT")
        (orders,) = connection.execute("SELECT count(*) FROM plan").fetchone()
    # A worker of a dead try may still read the old plan: it keeps the file that it has opened.
    beside.replace(folder.plan)
    return Range(index=index, folder=folder, orders=orders)

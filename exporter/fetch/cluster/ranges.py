"""The plan cut into ranges: each a folder with a plan of its own, and later with its store and its result."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from exporter.fetch.cluster.messages import RangeResult
from exporter.model.errors import StorageError
from exporter.store.plan import SCHEMA
from exporter.system import durable

_SMALLEST, _LARGEST = 250, 50_000
#: Several for each worker, so that none waits long for the last one; each costs its worker some 50 ms.
_RANGES_A_WORKER = 4
_USUAL_WORKERS = 4
_CUT_FILE = "cut.json"
_LAST_LINE = 2**62


@dataclass(frozen=True, kw_only=True)
class Range:
    """Consecutive order numbers of the plan: the range number `index`, from 0, in a folder of its own."""

    index: int
    folder: Path
    orders: int

    @property
    def store(self) -> Path:
        """The range's store."""
        return self.folder / "store.db"

    @property
    def plan(self) -> Path:
        """The range's plan."""
        return self.folder / "plan.db"

    @property
    def _done(self) -> Path:
        return self.folder / "done.json"

    def finish(self, result: RangeResult) -> None:
        """Remember durably that the range is finished."""
        with durable.storage_errors("recording a finished range", self._done):
            durable.write_bytes(self._done, msgspec.json.encode(result))

    def finished(self, key: str) -> RangeResult | None:
        """Return the range's result, where it was finished with that key and its files still stand."""
        with durable.storage_errors("reading a finished range", self._done):
            try:
                done = msgspec.json.decode(self._done.read_bytes(), type=RangeResult)
            except (FileNotFoundError, msgspec.MsgspecError):
                return None
        return done if done.key == key and _stands(self.folder / done.staged, done) else None


def _stands(staged: Path, done: RangeResult) -> bool:
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
        size = _recorded_size(folder, orders, workers)
        with closing(sqlite3.connect(f"{plan.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            starts = list(_starts(connection, size))
        ranges = []
        for index, first in enumerate(starts):
            after = starts[index + 1] if index + 1 < len(starts) else _LAST_LINE
            ranges.append(_make(folder / f"{index:05}", index, plan, (first, after)))
        return ranges


def _recorded_size(folder: Path, orders: int, workers: int | None) -> int:
    """Return the size of the first try, whose stores are cut like that, whatever the input has become."""
    file = folder / _CUT_FILE
    try:
        return int(msgspec.json.decode(file.read_bytes())["size"])
    except FileNotFoundError:
        size = range_size(orders, workers)
        durable.write_bytes(file, msgspec.json.encode({"size": size}))
        return size
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
        raise StorageError(f"{file}: it is damaged.", "Remove the work directory to begin anew.") from None


def _starts(connection: sqlite3.Connection, size: int) -> Iterator[int]:
    """Yield the first line of each range; invalid lines belong to the range before them."""
    yield 0
    lines = connection.execute("SELECT line FROM plan ORDER BY line")
    for position, (line,) in enumerate(lines):
        if position and position % size == 0:
            yield line


def _make(folder: Path, index: int, plan: Path, lines: tuple[int, int]) -> Range:
    """Make a range's folder and its plan, as `plan.make_plan` would from those lines."""
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / "plan.db"
    beside = folder / "plan.new"
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
    beside.replace(target)
    return Range(index=index, folder=folder, orders=orders)

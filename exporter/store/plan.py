"""The input's order numbers, each once, in input order: a scratch SQLite file made anew by each try.

The plan holds no state. What is fetched, and when, stands in the store; which numbers are asked for,
and in which order they are published, stands here. It needs no durability: the input makes it again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from exporter.lists import Batch
from exporter.model.records import PlanCounts
from exporter.system import durable, private_files

SCHEMA = """
CREATE TABLE plan(line INTEGER PRIMARY KEY, number TEXT NOT NULL);
CREATE TABLE invalid(line INTEGER PRIMARY KEY, number TEXT NOT NULL, detail TEXT NOT NULL);
"""
# Sorted once at the end, on a disk if need be: a unique index, filled in input order, took twice the time
# for 10 million random numbers and wrote to all of its pages over and over (measured 2026-11-24: 118 s; 57 s).
_DROP_DUPLICATES = """
DELETE FROM plan WHERE line IN (
  SELECT line FROM (SELECT line, number = lag(number) OVER (ORDER BY number, line) AS again FROM plan)
  WHERE again)
"""
_CACHE_KIB = 4 * 1024
_MOST_HASHES = 100_000


def make_plan(path: Path, batches: Iterable[Batch]) -> PlanCounts:
    """Write the plan of these lines to `path`, replacing what stands there.

    Raises:
        InputError: The input cannot be read, or holds no order number at all.
        StorageError: The disk refuses.
    """
    with durable.storage_errors("writing the plan", path):
        path.unlink(missing_ok=True)
        private_files.claim(path)
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            connection.executescript(SCHEMA)
            return _fill(connection, batches)
        finally:
            connection.close()


def _fill(connection: sqlite3.Connection, batches: Iterable[Batch]) -> PlanCounts:
    blank = invalid = given = 0
    hashes = _Hashes()
    connection.execute("BEGIN")
    for batch in batches:
        connection.executemany("INSERT INTO plan VALUES (?, ?)", batch.pairs())
        connection.executemany(
            "INSERT INTO invalid VALUES (?, ?, ?)",
            [(bad.line, bad.text, bad.detail) for bad in batch.invalid],
        )
        blank += batch.blank
        invalid += len(batch.invalid)
        given += len(batch.order_numbers)
        hashes.add(batch.order_numbers)
    if not hashes.all_differ:
        connection.execute(_DROP_DUPLICATES)
    connection.execute("COMMIT")
    (requested,) = connection.execute("SELECT count(*) FROM plan").fetchone()
    return PlanCounts(blank + invalid + given, blank, invalid, given - requested, requested)


class _Hashes:
    """Tells a small input without duplicates from all others, in a tenth of the time that sorting takes."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._count = 0

    def add(self, numbers: Sequence[str]) -> None:
        self._count += len(numbers)
        if self._count <= _MOST_HASHES:  # 8 MiB
            self._seen.update(map(hash, numbers))
        else:
            self._seen.clear()

    @property
    def all_differ(self) -> bool:
        """Whether they surely do: two that share a hash may differ all the same."""
        return len(self._seen) == self._count

"""The input's order numbers, each once, in input order: a scratch SQLite file made again by each try.

The plan holds no state. What is fetched, and when, is in the store; which numbers are asked for,
and in which order they are published, is here, with a digest of what the API's list shows of them, where that was
read. It needs no durability: the input makes it again.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import msgspec

from exporter.lists import Batch
from exporter.model.manifest import Input
from exporter.system import durable, private_files

SCHEMA = """
CREATE TABLE plan(line INTEGER PRIMARY KEY, number TEXT NOT NULL, entry TEXT);
CREATE TABLE invalid(line INTEGER PRIMARY KEY, number TEXT NOT NULL, detail TEXT NOT NULL);
"""
# In half the time that a statement for each takes (measured 2026-11-30: 0.47 s a million; 0.88 s).
_ADD_NUMBERS = "INSERT INTO plan(line, number) SELECT key, value FROM json_each(?)"
# Sorted once at the end, on a disk if need be: a unique index, filled in input order, took twice the time
# for 10 million random numbers and wrote to all of its pages over and over (measured 2026-11-24: 118 s; 57 s).
_DROP_DUPLICATES = """
DELETE FROM plan WHERE line IN (
  SELECT line FROM (SELECT line, number = lag(number) OVER (ORDER BY number, line) AS again FROM plan)
  WHERE again)
"""
# A third of that time, for the many inputs that have none.
_HAS_DUPLICATES = "SELECT 1 FROM plan GROUP BY number HAVING count(*) > 1 LIMIT 1"
_CACHE_KIB = 4 * 1024


def make_plan(path: Path, batches: Iterable[Batch]) -> Input:
    """Write the plan of these lines to `path`, over what is there; return what they were, or raise an `InputError`."""
    with durable.storage_errors("writing the plan", path):
        path.unlink(missing_ok=True)
        private_files.claim(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            off = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            connection.executescript(f"{off} PRAGMA cache_size = -{_CACHE_KIB}; {SCHEMA}")
            return _fill(connection, batches)


def _fill(connection: sqlite3.Connection, batches: Iterable[Batch]) -> Input:
    blank = invalid = given = 0
    connection.execute("BEGIN")
    for batch in batches:
        numbers_by_line = msgspec.json.encode(dict(batch.pairs())).decode()
        connection.execute(_ADD_NUMBERS, (numbers_by_line,))
        invalid_lines = [(bad.line, bad.text, bad.detail) for bad in batch.invalid]
        connection.executemany("INSERT INTO invalid VALUES (?, ?, ?)", invalid_lines)
        blank += batch.blank
        invalid += len(batch.invalid)
        given += len(batch.order_numbers)
    if connection.execute(_HAS_DUPLICATES).fetchone():
        connection.execute(_DROP_DUPLICATES)
    connection.execute("COMMIT")
    (requested,) = connection.execute("SELECT count(*) FROM plan").fetchone()
    lines, duplicates = blank + invalid + given, given - requested
    return Input(path="", sha256="", lines=lines, blank=blank, invalid=invalid, duplicates=duplicates)

"""The input's order numbers, each once, in input order: a scratch SQLite file made again by each try.

The plan holds no state. What is fetched, and when, is in the store; which numbers are asked for,
and in which order they are published, is here, with a digest of what the API's list shows of them, where that was
read, and the id of those that the store knew already. It needs no durability: the input makes it again.
"""

import sqlite3
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import msgspec

from exporter.lists import Batch
from exporter.model.manifest import Input
from exporter.store.store_file import file_uri, uri_to_look_at
from exporter.system import durable, private_files

SCHEMA = """
CREATE TABLE plan(line INTEGER PRIMARY KEY, number TEXT NOT NULL, entry TEXT, id INTEGER);
CREATE TABLE invalid(line INTEGER PRIMARY KEY, number TEXT NOT NULL, detail TEXT NOT NULL);
"""
# In half the time that a statement for each takes (measured 2026-11-30: 0.47 s a million; 0.88 s).
_ADD_NUMBERS = "INSERT INTO plan(line, number, id) SELECT key, value, {id} FROM json_each(?)"
# Each look-up by a number costs what six by an id do: it is made once, beside the reading of the next numbers.
_KNOWN_ID = "(SELECT id FROM known.orders WHERE number = value)"
_KNOWN_CACHE_KIB = 64 * 1024  # holds the index of three million numbers: half the time of SQLite's own 2 MiB
# Sorted once at the end, on a disk if need be: a unique index, filled in input order, took twice the time
# for 10 million random numbers and wrote to all of its pages over and over (measured 2026-11-24: 118 s; 57 s).
_DROP_DUPLICATES = """
DELETE FROM plan WHERE line IN (
  SELECT line FROM (SELECT line, number = lag(number) OVER (ORDER BY number, line) AS again FROM plan)
  WHERE again)
"""
# A third of that time, for the many inputs that have none; again a third of it where the store knows most of them.
_HAS_DUPLICATES = "SELECT 1 FROM plan GROUP BY coalesce(id, number) HAVING count(*) > 1 LIMIT 1"
_CACHE_KIB = 4 * 1024


def make_plan(path: Path, batches: Iterable[Batch], store: Path | None = None) -> Input:
    """Write the plan of these lines to `path`, over what is there; return what they were, or raise an `InputError`.

    Look-ups in the `store` that it is made for are faster then; nobody may remove orders from that while it is used.
    """
    with durable.storage_errors("writing the plan", path):
        path.unlink(missing_ok=True)
        private_files.claim(path)
        uri = file_uri(path.absolute())
        with closing(
            sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        ) as connection:
            off = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            connection.executescript(f"{off} PRAGMA cache_size = -{_CACHE_KIB}; {SCHEMA}")
            if store is not None:
                connection.execute("ATTACH DATABASE ? AS known", (uri_to_look_at(store),))
                connection.execute(f"PRAGMA known.cache_size = -{_KNOWN_CACHE_KIB}")
            return _fill(connection, batches, _ADD_NUMBERS.format(id=_KNOWN_ID if store else "NULL"))


def _fill(connection: sqlite3.Connection, batches: Iterable[Batch], add_numbers: str) -> Input:
    blank = invalid = given = 0
    connection.execute("BEGIN")
    with ThreadPoolExecutor(1) as beside:
        adding: Future[object] = beside.submit(lambda: None)  # nothing, so far
        for batch in batches:
            numbers_by_line = msgspec.json.encode(dict(batch.pairs())).decode()
            invalid_lines = [(bad.line, bad.text, bad.detail) for bad in batch.invalid]
            blank += batch.blank
            invalid += len(batch.invalid)
            given += len(batch.order_numbers)
            adding.result()
            connection.executemany("INSERT INTO invalid VALUES (?, ?, ?)", invalid_lines)
            adding = beside.submit(connection.execute, add_numbers, (numbers_by_line,))
        adding.result()
    if connection.execute(_HAS_DUPLICATES).fetchone():
        connection.execute(_DROP_DUPLICATES)
    connection.execute("COMMIT")
    (requested,) = connection.execute("SELECT count(*) FROM plan").fetchone()
    lines, duplicates = blank + invalid + given, given - requested
    return Input(path="", sha256="", lines=lines, blank=blank, invalid=invalid, duplicates=duplicates)

"""SQLite: the one table that has a column of order numbers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial

from exporter.lists.batch import Batch
from exporter.lists.how_read import Source
from exporter.lists.table import Cells, Table, choose

_LARGEST = 64 << 20  # bytes, which are held in memory


def read(source: Source, hint: str) -> Iterator[Batch]:
    """Yield the batches of a database; rows are counted as lines, from 1. The hint says how to make a list of it."""
    data = source.stream.read(_LARGEST + 1)
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(data[:_LARGEST])
            (sound,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if sound != "ok":  # as where the file is cut
                raise sqlite3.DatabaseError(str(sound))
            yield from _batches(source, database)
    except sqlite3.Error as error:
        source.refuse(f"expected a list of order numbers, got an SQLite database: {error}.", hint)


def _batches(source: Source, database: sqlite3.Connection) -> Iterator[Batch]:
    tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    names = [str(name) for (name,) in database.execute(tables)]

    def rows(name: str) -> Iterator[Cells]:
        quoted = name.replace('"', '""')
        cursor = database.execute(f'SELECT * FROM "{quoted}"')  # noqa: S608 - the name is quoted
        yield [column for column, *_ in cursor.description]
        yield from cursor

    chosen = choose(source, {name: partial(rows, name) for name in names})
    if chosen is None:
        raise sqlite3.DataError("no table in it has a column of order numbers")
    yield from Table(source, enumerate(rows(chosen))).batches()

"""What a listing has met so far, in a SQLite file: so that it resumes, and no list is held in memory."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from exporter.model.records import Traffic
from exporter.store.store_file import uri_to_look_at
from exporter.system import durable

_SCHEMA = """
CREATE TABLE met(id INTEGER PRIMARY KEY, entry TEXT NOT NULL UNIQUE, number TEXT);
CREATE TABLE walk(facts BLOB NOT NULL);
"""


@dataclass(frozen=True, kw_only=True)
class Walk:
    """How far a listing is: the last page that was read, all that were, and the entries met and wanted so far.

    `source` is what is listed: the API's address, the query, and what is wanted of the list; `traffic` are the
    requests of all tries, as far as committed.
    """

    source: str
    answered_at: float
    page: int = 0
    pages: int = 0
    orders: int = 0
    wanted: int = 0
    complete: bool = False
    traffic: Traffic = field(default_factory=Traffic)

    def may_resume(self, source: str, now: float, within_s: float, answered_at: float) -> bool:
        """Tell whether it lists `source`, and its last answer, or that at `answered_at`, is young enough."""
        return self.source == source and 0 <= now - max(self.answered_at, answered_at) <= within_s


class ListedNumbers:
    """The entries of an order list, each once, in the order in which they were met.

    The file at `path` is made anew where it is of another source, or its last answer, or that at `answered_at` to what
    was asked for after the listing, is over `within_s` old: then it has `dropped` so many entries.
    """

    def __init__(self, path: Path, source: str, within_s: float, answered_at: float) -> None:
        self._path = path
        self.dropped = 0
        with durable.storage_errors("opening the listing", path):
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            found = _walk_of(connection)
            if found is None or not found.may_resume(source, time.time(), within_s, answered_at):
                self.dropped = found.orders if found else 0
                connection.close()
                path.unlink(missing_ok=True)
                connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
                # What a power cut takes is asked for again.
                connection.executescript(f"PRAGMA synchronous = OFF; {_SCHEMA}")
                found = Walk(source=source, answered_at=time.time())
                connection.execute("INSERT INTO walk VALUES (?)", (msgspec.json.encode(found),))
        self.walk, self._connection = found, connection
        self.close, self.interrupt = connection.close, connection.interrupt

    def take(self, page: int, entries: Iterable[tuple[str, str | None]], traffic: Traffic) -> int:
        """Write page number `page` in one transaction; return how many of its entries were not met before.

        An entry is what tells it from others, and its order number; None where that is not wanted.
        """
        walk = self.walk
        with durable.storage_errors("writing the listing", self._path), self._connection as connection:
            connection.execute("BEGIN")
            connection.executemany("INSERT OR IGNORE INTO met(entry, number) VALUES (?, ?)", entries)
            query = "SELECT count(*), count(number) FROM met WHERE id > ?"
            new, wanted = connection.execute(query, (walk.orders,)).fetchone()
            counts = {"orders": walk.orders + new, "wanted": walk.wanted + wanted, "pages": walk.pages + 1}
            self._note(page=page, answered_at=time.time(), traffic=traffic, **counts)
        return int(new)

    def finish(self, traffic: Traffic) -> None:
        """Note that the list was read to its end."""
        with durable.storage_errors("writing the listing", self._path):
            self._note(complete=True, traffic=traffic)

    def numbers(self) -> Iterator[str]:
        """Yield each order number once, in the order of the list."""
        query = "SELECT number FROM met WHERE number IS NOT NULL GROUP BY number ORDER BY min(id)"
        with durable.storage_errors("reading the listing", self._path):
            for (number,) in self._connection.execute(query):
                yield number

    def _note(self, **changes: object) -> None:
        walk: Walk = replace(self.walk, **changes)  # type: ignore[arg-type] # the fields' own names and types
        self._connection.execute("UPDATE walk SET facts = ?", (msgspec.json.encode(walk),))
        self.walk = walk


def _walk_of(connection: sqlite3.Connection) -> Walk | None:
    try:
        (facts,) = connection.execute("SELECT facts FROM walk").fetchone()
        whole = connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
        return msgspec.json.decode(facts, type=Walk) if whole else None
    except (sqlite3.DatabaseError, msgspec.MsgspecError, TypeError):
        return None  # there is none, or it is damaged


def look_at_listing(path: Path) -> Walk | None:
    """Return how far the listing in a file is, None where there is none; nothing is changed."""
    if not path.is_file():
        return None
    with closing(sqlite3.connect(uri_to_look_at(path), uri=True)) as connection:
        return _walk_of(connection)

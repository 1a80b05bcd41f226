"""What a listing has met so far, in a SQLite file: so that it resumes, and no list is held in memory."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from exporter.system import durable

_SCHEMA = """
CREATE TABLE met(id INTEGER PRIMARY KEY, entry TEXT NOT NULL UNIQUE, number TEXT);
CREATE TABLE walk(source TEXT NOT NULL, page INTEGER NOT NULL, pages INTEGER NOT NULL, answered_at REAL NOT NULL);
"""


class ListedNumbers:
    """The entries of an order list, each once, in the order in which they were met.

    Args:
        path: The file; made where it is missing, and made anew where it is of another source or too old.
        source: What is listed: the API's address and the query.
        within_s: Seconds within which the last page must have been read to resume.

    Attributes:
        page: The last page that was read; 0 for none.
        pages: Pages read so far, those of a second walk included.
        dropped: Entries of a listing that was too old to resume.

    Raises:
        StorageError: The disk refuses.
    """

    def __init__(self, path: Path, source: str, within_s: float) -> None:
        self._path = path
        self.page = self.pages = self.dropped = 0
        with durable.storage_errors("opening the listing", path):
            self._connection = sqlite3.connect(path, isolation_level=None)
            if not self._resumes(source, within_s):
                self._begin(source)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def take(self, page: int, entries: Iterable[tuple[str, str | None]]) -> int:
        """Write a page in one transaction; return how many of its entries were not met before.

        Args:
            page: Its number.
            entries: What tells an entry from others, and its order number; None where `run` could not ask for it.
        """
        before = self.met
        with durable.storage_errors("writing the listing", self._path), self._connection as connection:
            connection.execute("BEGIN")
            connection.executemany("INSERT OR IGNORE INTO met(entry, number) VALUES (?, ?)", entries)
            self.page, self.pages = page, self.pages + 1
            now = time.time()
            connection.execute(
                "UPDATE walk SET page = ?, pages = ?, answered_at = ?", (page, self.pages, now)
            )
        return self.met - before

    @property
    def met(self) -> int:
        """Entries met so far."""
        return self._count("SELECT coalesce(max(id), 0) FROM met")

    @property
    def left_out(self) -> int:
        """Entries whose number `run` could not ask for."""
        return self._count("SELECT count(*) FROM met WHERE number IS NULL")

    def numbers(self) -> Iterator[str]:
        """Yield each order number once, in the order of the list."""
        query = "SELECT number FROM met WHERE number IS NOT NULL GROUP BY number ORDER BY min(id)"
        with durable.storage_errors("reading the listing", self._path):
            for (number,) in self._connection.execute(query):
                yield number

    def _count(self, query: str) -> int:
        with durable.storage_errors("reading the listing", self._path):
            return int(self._connection.execute(query).fetchone()[0])

    def _resumes(self, source: str, within_s: float) -> bool:
        try:
            known, self.page, self.pages, answered_at = self._connection.execute(
                "SELECT * FROM walk"
            ).fetchone()
            whole = self._connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
        except (sqlite3.DatabaseError, TypeError):
            return False
        if known == source and whole and 0 <= time.time() - answered_at <= within_s:
            return True
        self.page, self.pages, self.dropped = 0, 0, self.met
        return False

    def _begin(self, source: str) -> None:
        self._connection.close()
        self._path.unlink(missing_ok=True)
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        # What a power cut takes is asked for again.
        self._connection.executescript(f"PRAGMA synchronous = OFF; {_SCHEMA}")
        self._connection.execute("INSERT INTO walk VALUES (?, 0, 0, ?)", (source, time.time()))

"""What a listing has met so far, in a SQLite file: so that it resumes, and no list is held in memory.

Of entries that may stand for their orders it keeps the pages as received, and the details that some of them were
compared with. None of it is believed before the list is read to its end.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import msgspec
from zstandard import ZstdCompressor, ZstdError, decompress

from exporter.api.list_page import raw_entries
from exporter.api.payload_check import check
from exporter.model.entry_proof import EntryProof
from exporter.model.errors import AttemptError
from exporter.model.records import FETCHED, Outcome, Traffic
from exporter.store.store_file import uri_to_look_at
from exporter.system import durable, private_files

_SCHEMA = """
CREATE TABLE met(id INTEGER PRIMARY KEY, entry TEXT NOT NULL UNIQUE, number TEXT, digest TEXT, page INTEGER, place INTEGER);
CREATE TABLE pages(id INTEGER PRIMARY KEY, read_at REAL NOT NULL, body BLOB NOT NULL);
CREATE TABLE details(number TEXT PRIMARY KEY, read_at REAL NOT NULL, body BLOB NOT NULL);
CREATE TABLE walk(facts BLOB NOT NULL);
"""
# One that is met again and shows something else has moved meanwhile: nothing that it says is used.
_MEET = """
INSERT INTO met(entry, number, digest, page, place) VALUES (?, ?, ?, ?, ?)
ON CONFLICT(entry) DO UPDATE SET digest = iif(digest = excluded.digest, digest, NULL),
  page = iif(digest = excluded.digest, page, NULL)
"""
# Only a 404 says that an order is gone.
_UNMET = """
INSERT INTO met(entry, number) SELECT 'kept ' || number, number FROM kept.orders
WHERE state <> 'not_found' AND number NOT IN (SELECT number FROM met WHERE number IS NOT NULL) ORDER BY id
"""
# A number that two entries have, as of two sales channels, says nothing.
_DIGEST = "(SELECT iif(count(*) = 1, max(digest), NULL) FROM {0}met AS e WHERE e.number = {1}.number)"
DIGEST_OF_PLANNED = _DIGEST.format("listed.", "plan")
_DETAILS = f"SELECT number, read_at, body, {_DIGEST.format('', 'details')} FROM details"  # noqa: S608 - our own words
_PROVEN = """
SELECT page, place, number, digest, read_at FROM met JOIN pages ON pages.id = page
WHERE NOT EXISTS (SELECT 1 FROM met AS e WHERE e.number = met.number AND e.id <> met.id) ORDER BY met.id
"""
#: With a checksum: no power cut's garbage passes for an order.
_frame = ZstdCompressor(level=1, write_checksum=True).compress
_NO_ENTRIES = b'{"results": []}'


class Met(NamedTuple):
    """What tells an entry from others, its order number, None where that is not wanted, and a digest of it."""

    entry: str
    number: str | None
    digest: str | None = None
    place: int | None = None  # on its page, where it may stand for its order


class LookedAt(NamedTuple):
    """A page's entries, what is known of all entries by now, the details that were asked for, and the page's body."""

    entries: Sequence[Met]
    proof: EntryProof | None = None
    details: Mapping[str, bytes] = MappingProxyType({})
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Walk:
    """How far a listing is: the last page that was read, all that were, and the entries met and wanted so far."""

    source: str  # what is listed: the API's address, the query, and what is wanted of the list
    began_at: float
    answered_at: float
    page: int = 0
    pages: int = 0
    orders: int = 0
    wanted: int = 0
    complete: bool = False
    traffic: Traffic = field(default_factory=Traffic)  # of all tries, as far as committed
    proof: EntryProof | None = None  # what was learnt of the entries, where they may be taken

    def may_resume(self, source: str, now: float, within_s: float, answered_at: float) -> bool:
        """Tell whether it lists `source`, and its last answer, or that at `answered_at`, is young enough."""
        return self.source == source and 0 <= now - max(self.answered_at, answered_at) <= within_s


class ListedNumbers:
    """The entries of an order list, each once, in the order in which they were met.

    The file at `path` is made again where it is of another source, or its last answer, or that at `answered_at` to what
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
                private_files.claim(path)
                connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
                # What a power cut takes is asked for again.
                connection.executescript(f"PRAGMA synchronous = OFF; {_SCHEMA}")
                found = Walk(source=source, began_at=(now := time.time()), answered_at=now)
                connection.execute("INSERT INTO walk VALUES (?)", (msgspec.json.encode(found),))
        self.walk, self._connection = found, connection
        self.close, self.interrupt = connection.close, connection.interrupt

    def known(self, entries: Iterable[str]) -> set[str]:
        """Return which of these entries were met before."""
        with durable.storage_errors("reading the listing", self._path):
            query = "SELECT entry FROM met WHERE entry IN (SELECT value FROM json_each(?))"
            given = msgspec.json.encode(list(entries)).decode()
            return {entry for (entry,) in self._connection.execute(query, (given,))}

    def take(self, page: int, found: LookedAt, traffic: Traffic) -> int:
        """Write page number `page` in one transaction; return how many of its entries were not met before."""
        walk, now = self.walk, time.time()
        with durable.storage_errors("writing the listing", self._path), self._connection as connection:
            connection.execute("BEGIN")
            met = ((*one[:3], None if one.place is None else walk.pages, one.place) for one in found.entries)
            connection.executemany(_MEET, met)
            if any(one.place is not None for one in found.entries):
                kept = (walk.pages, now, _frame(found.body))
                connection.execute("INSERT INTO pages VALUES (?, ?, ?)", kept)
            details = ((number, now, _frame(body)) for number, body in found.details.items())
            connection.executemany("INSERT OR REPLACE INTO details VALUES (?, ?, ?)", details)
            query = "SELECT count(*), count(number) FROM met WHERE id > ?"
            new, wanted = connection.execute(query, (walk.orders,)).fetchone()
            counts = {"orders": walk.orders + new, "wanted": walk.wanted + wanted, "pages": walk.pages + 1}
            self._note(page=page, answered_at=now, traffic=traffic, proof=found.proof, **counts)
        return int(new)

    def finish(self, traffic: Traffic, kept: Path | None = None) -> int:
        """Note that the list was read to its end; return how many orders of a `kept` store it adds: they are on no page."""
        with durable.storage_errors("writing the listing", self._path):
            self._connection.execute("CREATE INDEX IF NOT EXISTS by_number ON met(number)")
            if kept:
                self._connection.execute("ATTACH DATABASE ? AS kept", (str(kept),))
            with self._connection as connection:
                connection.execute("BEGIN")
                unmet = connection.execute(_UNMET).rowcount if kept else 0
                self._note(complete=True, traffic=traffic, wanted=self.walk.wanted + unmet)
            return unmet

    def found(self, not_before: float, max_items: int) -> Iterator[Outcome]:
        """Yield the orders that the list has brought as fetched, `not_before` a moment: compared ones, and proven entries.

        What is no order, or was damaged meanwhile, is left to its detail.
        """
        with durable.storage_errors("reading the listing", self._path):
            for number, read_at, payload, source, digest in self._payloads():
                with suppress(AttemptError):
                    status = check(payload, number, max_items)
                    at = max(read_at, not_before)
                    yield Outcome(number, FETCHED, at, 1, 200, status, None, payload, source, digest)

    def _payloads(self) -> Iterator[tuple[str, float, bytes, str, str | None]]:
        for number, read_at, body, digest in self._connection.execute(_DETAILS):
            yield number, read_at, _unframed(body), "detail", digest
        page, entries = -1, list[bytes]()
        proven = self.walk.proof is not None and self.walk.proof.holds
        for at, place, number, digest, read_at in self._connection.execute(_PROVEN) if proven else ():
            if at != page:
                (body,) = self._connection.execute("SELECT body FROM pages WHERE id = ?", (at,)).fetchone()
                page, entries = at, raw_entries(_unframed(body) or _NO_ENTRIES)
            if entries:
                yield number, read_at, entries[place], "list", digest

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


def _unframed(frame: bytes) -> bytes:
    try:
        return decompress(frame)
    except ZstdError:
        return b""


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

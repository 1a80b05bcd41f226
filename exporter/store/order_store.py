"""The SQLite file that remembers what the API answered: checkpoint, cache and list of rejects at once.

There is a row for each order number that was ever settled: how it ended last, when, after how many attempts;
and beside that the last good payload as received, compressed, with its time: no refusal takes it away. What is *pending* is never written down: it follows from those
facts, the run's start and the ages that the options allow (`Freshness`), so that changing an option
changes the answer and nothing else.
"""

import math
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import astuple
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import zstandard

from exporter.model.freshness import CLOCK_SLACK_S, STALE, may_resume
from exporter.model.freshness import Freshness as Freshness
from exporter.model.records import FETCHED, Outcome, RunRecord, Traffic
from exporter.store.compression import Frames, crc, dictionary_of, payload_crc
from exporter.store.listed_numbers import DIGEST_OF_PLANNED
from exporter.store.store_file import StoreFile
from exporter.system import durable
from exporter.system.log import log

# One statement writes many rows: sqlite3 gives the GIL back once for each statement, and a thread that takes it
# again for each row starves the event loop. Rows as JSON text in one value took 14 µs an order, these take 10
# (measured 2026-11-30). In powers of two, so that there are ten statements: each is a megabyte, and sqlite3 keeps 128.
_ROWS_AT_ONCE = 512
_SETTLE_ORDERS = """
INSERT INTO orders(
  number, state, settled_at, attempts, http_status, detail, crc,
  fetched_at, order_status, source, list_digest, payload_crc)
VALUES {values}
ON CONFLICT(number) DO UPDATE SET
  state = excluded.state, settled_at = excluded.settled_at, attempts = excluded.attempts,
  http_status = excluded.http_status, detail = excluded.detail, crc = excluded.crc,
  order_status = iif(excluded.fetched_at IS NULL, order_status, excluded.order_status),
  list_digest = iif(excluded.fetched_at IS NULL, list_digest, excluded.list_digest),
  source = coalesce(excluded.source, source), fetched_at = coalesce(excluded.fetched_at, fetched_at),
  payload_crc = coalesce(excluded.payload_crc, payload_crc)
"""
_SETTLE_PAYLOADS = """
INSERT OR REPLACE INTO payloads
SELECT o.id, column2 FROM (VALUES {values}) JOIN orders AS o ON o.number = column1
"""
# As old as can be: a new crc goes with the new time, or the next reader would find it damaged.
_DISBELIEVE_PAYLOADS = """
UPDATE orders SET fetched_at = 0.0, payload_crc = payload_crc(
  number, 0.0, order_status, source, list_digest, (SELECT body FROM payloads AS p WHERE p.id = orders.id))
WHERE fetched_at > ?
"""
_DISBELIEVE_OUTCOMES = """
UPDATE orders SET settled_at = 0.0, crc = crc(number, state, 0.0, attempts, http_status, detail)
WHERE settled_at > ?
"""

_NEWEST_RUN = """
SELECT finished_at, run_id, started_at, answered_at, crc, sent, retried, throttled, redirected
FROM runs WHERE out = ? ORDER BY id DESC LIMIT 1
"""

#: An invalid line or a reject: line, text, reason, HTTP status, attempts, detail.
RejectRow = tuple[int, str, str, int | None, int, str]
_REJECT = "p.line, p.number, o.state, o.http_status, o.attempts, coalesce(o.detail, '')"
_PLANNED = "plan.plan AS p LEFT JOIN orders AS o ON o.id = coalesce(p.id, (SELECT id FROM orders WHERE number = p.number))"


class PlannedOrder(NamedTuple):
    """An order number of the plan with what the store knows of it.

    `state` is `fetched`, `stale` or a reject reason, None while pending; only of the first two there is the
    `frame` of a payload.
    """

    line: int
    order_number: str
    state: str | None
    attempts: int = 0
    http_status: int | None = None
    detail: str | None = None
    frame: bytes | None = None


class Store:
    """An open store. One thread at a time may use it; any number of readers may look on.

    The file is made, with mode 0600, where it is missing; with `readonly` it must exist. Its payloads come from
    `api_url`. Who opens it first in a run calls `check`.

    Raises:
        UsageError: It belongs to another API, is of another version, or is not a store.
        StorageError: It cannot be opened, or it is damaged.
    """

    def __init__(self, path: Path, api_url: str | None = None, *, readonly: bool = False) -> None:
        self.path = path
        self._file = StoreFile(path, api_url, readonly=readonly)
        self._connection = self._file.connection
        self._frames: Frames | None = None
        try:
            with durable.storage_errors("opening the store", path):
                self._load_dictionary()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; a clean close leaves no write-ahead log behind."""
        self._connection.close()

    def check(self) -> None:
        """Raise a `StorageError` where it is damaged; a third of a second for a million orders.

        Payloads are checked one by one, as they are read.
        """
        with durable.storage_errors("reading the store", self.path):
            self._file.check()

    def interrupt(self) -> None:
        """Make a query that another thread waits for end with an error."""
        self._connection.interrupt()

    @property
    def api_url(self) -> str | None:
        """The API that the payloads come from."""
        value = self._file.meta("api_url")
        return None if value is None else str(value)

    def begin_run(
        self, out: str, now: float, resume_within_s: float, began_at: float | None = None
    ) -> RunRecord:
        """Resume the unfinished run into `out`, or begin a new one where its last answer is older than that.

        A new one began `now`, or at `began_at`, when its listing did.
        """
        found = self.unfinished_run(out)
        if found and may_resume(found.started_at, found.answered_at, now, resume_within_s):
            return found
        run_id, began = uuid.uuid4().hex, min(now, began_at or now)
        with durable.storage_errors("writing to the store", self.path):
            self._connection.execute(
                "INSERT INTO runs(run_id, out, started_at, crc) VALUES (?, ?, ?, ?)",
                (run_id, out, began, crc(run_id, out, began, 0, 0, 0, 0)),
            )
            durable.step("commit")
        return RunRecord(run_id, began, resumed=False, dropped=found)

    def disbelieve_the_future(self, now: float) -> None:
        """Make what was settled under a clock that was ahead as old as can be: it would be fresh for too long."""
        latest = now + CLOCK_SLACK_S
        with durable.storage_errors("writing to the store", self.path):
            self._connection.create_function("crc", 6, crc)
            self._connection.create_function("payload_crc", 6, payload_crc)
            found = self._connection.execute(_DISBELIEVE_PAYLOADS, (latest,)).rowcount
            self._connection.execute(_DISBELIEVE_OUTCOMES, (latest,))
        if found:
            told = "%s: %d orders were fetched in the future, by a clock that was wrong: they count as old."
            log.warning(told, self.path, found)

    def answered_since(self, since: float) -> int:
        """Return how many orders were settled since a moment."""
        with durable.storage_errors("reading the store", self.path):
            query = "SELECT count(*) FROM orders WHERE settled_at >= ?"
            return int(self._connection.execute(query, (since,)).fetchone()[0])

    def unfinished_run(self, out: str) -> RunRecord | None:
        """Return the newest run into `out`, unless it is finished; a `StorageError` where its record is damaged."""
        with durable.storage_errors("reading the store", self.path):
            row = self._connection.execute(_NEWEST_RUN, (out,)).fetchone()
        if row is None or row[0] is not None:
            return None
        _, run_id, started_at, answered_at, known_crc, *traffic = row
        if known_crc != crc(run_id, out, started_at, *traffic):
            raise self._file.corrupt("the record of the unfinished run is damaged")
        sent = Traffic(*traffic)
        return RunRecord(run_id, started_at, resumed=True, traffic=sent, answered_at=answered_at)

    def finish_run(self, run_id: str, now: float) -> None:
        """Remember that the dataset of this run is in its place."""
        with durable.storage_errors("writing to the store", self.path):
            self._connection.execute("UPDATE runs SET finished_at = ? WHERE run_id = ?", (now, run_id))
            durable.step("commit")

    def settle(self, run_id: str, outcomes: Sequence[Outcome], traffic: Traffic) -> None:
        """Write outcomes, each number at most once, and the traffic since the last call in one durable transaction.

        Raises:
            StorageError: The disk refuses; nothing of the batch is kept.
        """
        payloads = {o.order_number: o.payload for o in outcomes if o.payload is not None}
        with durable.storage_errors("writing to the store", self.path):
            self._file.check_place()
            if payloads and self._frames is None:
                # Before the transaction: no frame may outlive the dictionary that it needs.
                self._make_dictionary(payloads)
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._write(run_id, outcomes, traffic)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            durable.step("commit")

    def _write(self, run_id: str, outcomes: Sequence[Outcome], traffic: Traffic) -> None:
        frames = self._compressed(outcomes)
        facts = [_facts(o, frames.get(o.order_number, b"")) for o in outcomes]
        self._insert(_SETTLE_ORDERS, facts)
        self._insert(_SETTLE_PAYLOADS, list(frames.items()))
        self._add_traffic(run_id, traffic)
        if outcomes:
            answered_at = max(outcome.settled_at for outcome in outcomes)
            update = "UPDATE runs SET answered_at = ? WHERE run_id = ?"
            self._connection.execute(update, (answered_at, run_id))

    def _insert(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        while rows:
            some = rows[: min(_ROWS_AT_ONCE, 1 << (len(rows).bit_length() - 1))]
            values = ", ".join([f"({', '.join('?' * len(some[0]))})"] * len(some))
            self._connection.execute(statement.format(values=values), list(chain.from_iterable(some)))
            rows = rows[len(some) :]

    def _add_traffic(self, run_id: str, traffic: Traffic) -> None:
        out, started_at, *before = self._connection.execute(
            "SELECT out, started_at, sent, retried, throttled, redirected FROM runs WHERE run_id = ?",
            (run_id,),
        ).fetchone()
        total = astuple(Traffic(*before) + traffic)
        self._connection.execute(
            "UPDATE runs SET sent = ?, retried = ?, throttled = ?, redirected = ?, crc = ? WHERE run_id = ?",
            (*total, crc(run_id, out, started_at, *total), run_id),
        )

    def _compressed(self, outcomes: Sequence[Outcome]) -> dict[str, bytes]:
        """Return the compressed payload of each order number that has one."""
        payloads = {o.order_number: o.payload for o in outcomes if o.payload is not None}
        if not payloads:
            return {}
        assert self._frames is not None
        return dict(zip(payloads, self._frames.compress(list(payloads.values())), strict=True))

    def _make_dictionary(self, payloads: Mapping[str, bytes]) -> None:
        self._file.set_dictionary(*dictionary_of(payloads))
        durable.step("commit")
        self._load_dictionary()

    def _load_dictionary(self) -> None:
        dictionary = self._file.meta("dictionary")
        if isinstance(dictionary, bytes):
            try:
                self._frames = Frames(dictionary)
            except zstandard.ZstdError as error:
                raise self._file.corrupt("the dictionary of its payloads is damaged") from error

    def attach_plan(self, plan: Path) -> None:
        """Make the plan's tables readable beside the store's."""
        with durable.storage_errors("opening the plan", plan):
            self._connection.execute("ATTACH DATABASE ? AS plan", (str(plan),))

    def last_line(self) -> int:
        """Return the plan's last line; 0 where it holds no number."""
        return int(self._connection.execute("SELECT coalesce(max(line), 0) FROM plan.plan").fetchone()[0])

    def blocks(self, line: int, limit: int) -> Iterator[tuple[int, int]]:
        """Yield the numbers of the plan that follow a line, `limit` at a time: the line before, and how many they are."""
        query = "SELECT count(*), max(line) FROM (SELECT line FROM plan.plan WHERE line > ? ORDER BY line LIMIT ?)"
        while (found := self._connection.execute(query, (line, limit)).fetchone())[0]:
            yield line, found[0]
            line = found[1]

    def note_entries(self, listed: Path) -> None:
        """Note in the plan what a finished listing has met of its orders."""
        with durable.storage_errors("reading the listing", listed):
            self._connection.execute("ATTACH DATABASE ? AS listed", (str(listed),))
            self._connection.execute(f"UPDATE plan.plan SET entry = {DIGEST_OF_PLANNED}")  # noqa: S608 - our own words
            self._connection.execute("DETACH DATABASE listed")

    def pending_of(
        self, freshness: Freshness, entries: Iterable[tuple[str, str | None]], *, of_plan: bool = False
    ) -> set[str]:
        """Return which of some order numbers, each with its entry's digest, must be asked for; those `of_plan` alone."""
        if of_plan:
            self._connection.execute("CREATE INDEX IF NOT EXISTS plan.by_number ON plan(number)")
        planned = "AND p.number IN (SELECT number FROM plan.plan)" if of_plan else ""
        query = f"""
            SELECT p.number FROM (SELECT json_extract(value, '$[0]') AS number, json_extract(value, '$[1]') AS entry
            FROM json_each(:entries)) AS p LEFT JOIN orders AS o ON o.number = p.number
            WHERE {{state}} IS NULL {planned}"""  # noqa: S608 - our own words
        given = msgspec.json.encode(list(entries)).decode()
        return {number for (number,) in self._rows(query, freshness, entries=given)}

    def sources(self, freshness: Freshness) -> dict[str, int]:
        """Return how many orders of the plan have a payload from `detail` and from `list`."""
        query = f"""
            SELECT o.source, count(*) FROM {{planned}}
            WHERE {{state}} IN ('{FETCHED}', '{STALE}') GROUP BY 1 ORDER BY 1"""  # noqa: S608 - our own words
        return dict(self._rows(query, freshness))

    def pending(self, freshness: Freshness, after_line: int, limit: int) -> list[tuple[int, str, str | None]]:
        """Return up to `limit` (line, order number, entry) beyond `after_line` that must be asked for."""
        query = """
            SELECT p.line, p.number, p.entry FROM {planned}
            WHERE p.line > :after AND {state} IS NULL ORDER BY p.line LIMIT :limit"""
        return list(self._rows(query, freshness, after=after_line, limit=limit))

    def states(self, freshness: Freshness) -> dict[str | None, int]:
        """Return how many numbers of the plan are in each state; None is pending."""
        return dict(self._rows("SELECT {state}, count(*) FROM {planned} GROUP BY 1", freshness))

    def planned(
        self, freshness: Freshness, after_line: int, *, limit: int, limit_bytes: int
    ) -> list[PlannedOrder]:
        """Return the next numbers of the plan beyond `after_line`, up to the first pending one.

        They are at most `limit`, and none follows once their frames have `limit_bytes`.

        Raises:
            StorageError: What it holds of one is damaged.
        """
        query = """
            SELECT p.line, p.number, {state}, o.state, o.settled_at, o.attempts, o.http_status, o.detail, o.crc,
                   o.fetched_at, o.order_status, o.source, o.list_digest, o.payload_crc, b.body
            FROM {planned} LEFT JOIN payloads AS b ON b.id = o.id
            WHERE p.line > :after ORDER BY p.line LIMIT :limit"""
        planned, size = [], 0
        # An open reader keeps the write-ahead log from being reused.
        with closing(self._rows(query, freshness, after=after_line, limit=limit)) as rows:
            for row in rows:
                planned.append(self._planned_order(row))
                size += len(planned[-1].frame or b"")
                if planned[-1].state is None or size >= limit_bytes:
                    break
        return planned

    def _rows(
        self, query: str, freshness: Freshness, **values: int | str
    ) -> Generator[tuple[Any, ...], None, None]:
        """Yield the rows of a query that may name the plan with its orders, and the state that counts."""
        state, known = freshness.state_sql()
        text = query.format(state=state, planned=_PLANNED)
        with durable.storage_errors("reading the store", self.path):
            yield from self._connection.execute(text, known | values)

    def _planned_order(self, row: tuple[Any, ...]) -> PlannedOrder:
        line, number, state, outcome, settled_at, attempts, http_status, detail, known_crc, *payload = row
        if state is None:
            return PlannedOrder(line, number, None)
        if crc(number, outcome, settled_at, attempts, http_status, detail) != known_crc:
            raise self._file.corrupt(f"what it holds of order {number} is damaged")
        if state not in (FETCHED, STALE):
            return PlannedOrder(line, number, outcome, attempts, http_status, detail)
        fetched_at, order_status, source, digest, known_crc, frame = payload
        frame = frame or b""
        if crc(number, fetched_at, order_status, source, digest, frame=frame) != known_crc:
            raise self._file.corrupt(f"what it holds of order {number} is damaged")
        return PlannedOrder(line, number, state, attempts, http_status, detail, frame)

    def payload(self, number: str, frame: bytes) -> bytes:
        """Return an order's payload from its frame; a `StorageError` where that, or the dictionary, is damaged."""
        if self._frames is None:
            self._load_dictionary()  # it was made after this reader opened the store
        try:
            assert self._frames is not None
            return self._frames.decompress(frame)
        except zstandard.ZstdError as error:
            raise self._file.corrupt(f"the payload of order {number} is damaged") from error

    def rejects(self, freshness: Freshness, first_line: int = 0) -> Iterator[RejectRow]:
        """Yield invalid lines and rejects, in line order; no order number before `first_line` is a reject."""
        query = f"""
            SELECT line, number, 'invalid_order_number', NULL, 0, detail FROM plan.invalid
            UNION ALL
            SELECT {_REJECT} FROM {{planned}} WHERE p.line >= :first AND {{state}} NOT IN ('{FETCHED}', '{STALE}')
            ORDER BY line"""  # noqa: S608 - our own words
        return self._rows(query, freshness, first=first_line)

    def stale(self, freshness: Freshness) -> Iterator[tuple[RejectRow, float]]:
        """Yield orders that count as stale, and when they were fetched."""
        query = f"""
            SELECT {_REJECT}, o.fetched_at FROM {{planned}}
            WHERE {{state}} = '{STALE}' ORDER BY p.line"""  # noqa: S608 - our own words
        for *facts, fetched_at in self._rows(query, freshness):
            yield tuple(facts), fetched_at

    def a_fetched_number(self) -> str | None:
        """Return an order number that the API has answered well before, to tell a dead API from dead orders."""
        query = "SELECT number FROM orders WHERE id = (SELECT max(id) FROM payloads)"
        row = self._connection.execute(query).fetchone()
        return None if row is None else str(row[0])


def _facts(outcome: Outcome, frame: bytes) -> tuple[object, ...]:
    number, state, settled_at, attempts, http_status, order_status, detail, payload, source, digest = outcome
    # Milliseconds, upwards: SQLite reads the number back as it is here, and never before a try's start.
    settled_at = math.ceil(settled_at * 1000) / 1000
    facts = (number, state, settled_at, attempts, http_status, detail)
    if payload is None:
        return (*facts, crc(*facts), None, None, None, None, None)
    about = (settled_at, order_status, source, digest)
    return (*facts, crc(*facts), *about, crc(number, *about, frame=frame))

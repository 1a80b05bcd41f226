"""What is at a place: a finished dataset, an unfinished run, a store; and what a run would do there."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from exporter.api.list_page import Page, raw_entries
from exporter.dataset.destination import destination_of
from exporter.fetch.work_directory import Holder, WorkDirectory, holder, name_of, place_of
from exporter.lists.how_read import sentence
from exporter.model.entry_proof import FIRST, ONE_IN, digest_of
from exporter.model.errors import InputError, StorageError, UsageError
from exporter.model.freshness import may_resume
from exporter.model.manifest import Input, Manifest
from exporter.model.options import AskOptions, Options
from exporter.model.rate import Rate
from exporter.run.preparation import prepared, real_store, refuse_invalid, refuse_to_replace
from exporter.store.input_file import InputPlan, open_input
from exporter.store.listed_numbers import Met, Walk, look_at_listing
from exporter.store.order_store import Freshness, Store
from exporter.store.store_file import is_begun, uri_to_look_at
from exporter.system import durable
from exporter.system.stopping import Stop

if TYPE_CHECKING:
    from exporter.fetch.number_listing import Listing

_PARTIAL = ".partial"
_UNFINISHED_RUN = "the unfinished run"
_HELD = "SELECT state, count(*), min(settled_at), max(settled_at) FROM orders GROUP BY 1 ORDER BY 2 DESC, 1"
_UNFINISHED = """
SELECT out, started_at, sent, answered_at FROM runs WHERE finished_at IS NULL AND id IN (SELECT max(id) FROM runs GROUP BY out)
ORDER BY id DESC
"""


@dataclass(frozen=True, slots=True)
class Held:
    """Orders of one state, `fetched` or a reject reason, and when the first and the last of them were settled."""

    state: str
    orders: int
    oldest_at: float
    newest_at: float


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """A run that has not published: where its dataset will be, its requests so far, and its last answer."""

    out: str
    started_at: float
    sent: int
    answered_at: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Holdings:
    """What a store holds."""

    api_url: str | None
    bytes: int  # with the write-ahead log
    held: tuple[Held, ...]  # the most frequent first
    unfinished: tuple[UnfinishedRun, ...]  # the newest first
    from_list: int  # of its payloads, from the API's list

    @property
    def orders(self) -> int:
        """All order numbers that it knows."""
        return sum(held.orders for held in self.held)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a run would ask for: `pending` order numbers, None where they must be listed first, out of `orders`."""

    pending: int | None
    orders: int | None
    of: str  # what those are: the input's name, `the unfinished run` or `the store`
    rate: str  # that is permitted
    seconds: float | None  # that it takes at that rate, at least; None where nothing bounds it
    input: Input | None = None  # what the input holds, where one was given
    ways: dict[str, int] | None = None  # requests by way of `--details`, as store and first page tell
    without_list: int | None = None  # of the input, where payloads from the API's list count for nothing
    new: int | None = None  # of the input, whatever ages are allowed


@dataclass(frozen=True, kw_only=True)
class Status:
    """What is at a place at one moment, in seconds since the epoch; None for what does not."""

    now: float
    out: str | None  # where the dataset is, or will be
    dataset: Manifest | None
    work: Path | None  # the work directory of an unfinished run
    work_holder: Holder | None
    store: Path | None
    store_holder: Holder | None
    holdings: Holdings | None
    ask: Ask | None
    listing: Walk | None  # how far that run has read the API's own list


def look(place: str, options: AskOptions, *, orders: str | None = None, may_be_new: bool = False) -> Status:
    """Look at a place, an `--out`, its work directory or a store, without touching it.

    Options and `orders` are those of the run in mind; nothing need stand there yet where that `may_be_new`.
    """
    now = time.time()
    out, work, store = _places(place, options.store)
    dataset = _standing(out) if out else None
    if not may_be_new and not (dataset or work or store):
        what = f"{place}: expected a dataset, a work directory or a store, got none."
        raise UsageError(what, "Give the --out or the --store of a run.")
    with tempfile.TemporaryDirectory(prefix="exporter-") as folder, ThreadPoolExecutor(1) as beside:
        holding = beside.submit(_holdings, store) if store else None
        plan = Path(folder, "plan.db")
        try:
            record = None if orders is None else _plan(orders, options, plan, store)
        finally:
            found = holding.result() if holding else None  # a damaged store may be why the rest failed
        run = _run_gone_on_with(options, now, out, work, found)
        listing = look_at_listing(WorkDirectory(work).listing) if work else None
        freshness = options.freshness(run.started_at if run else now, now)
        if orders is not None and record is not None:
            everything = (record.requested, record.requested)
            counts = _pending_of_plan(store, plan, freshness) if store else everything
            without_list = new = counts[0]
            if store and found and options.looks_at_list:
                new = _pending_of_plan(store, plan, _whenever(freshness))[0]
                if found.from_list:
                    without_list = _pending_of_plan(store, plan, replace(freshness, from_list=False))[0]
            answer = _answer(options, orders, *counts)
            ask = replace(answer, input=record, without_list=without_list, new=new)
        elif store is None or found is None or (listing and not listing.complete):
            ask = None
        elif work is not None and (pending := _pending_of_unfinished(work, store, freshness)):
            ask = _answer(options, _UNFINISHED_RUN, *pending)
        else:
            ask = _answer(options, "the store", _pending_of_store(store, freshness), found.orders)
    return Status(
        now=now,
        out=out,
        dataset=dataset,
        work=work,
        work_holder=holder(work / "lock") if work else None,
        store=store,
        store_holder=holder(store.with_name(f"{store.name}.lock")) if store else None,
        holdings=found,
        ask=ask,
        listing=listing,
    )


def dry_run(options: Options) -> Status:
    """Check what a run would check before its first request, raise what it would, and say what it would ask for."""
    options, out, destination = prepared(options, time.time())
    refuse_to_replace(destination.standing(), destination, options, out)
    status = look(out, options, orders=None if options.from_api else options.orders, may_be_new=True)
    if status.ask is not None and status.ask.input is not None:
        refuse_invalid(options, status.ask.input)
    if status.store is not None:
        with closing(Store(status.store, options.api_url, readonly=True)):
            pass  # it belongs to this API
    if not (options.from_api or options.looks_at_list):
        return status
    from exporter.fetch.number_listing import Listing  # with aiohttp, which no other look needs

    listing = Listing(options=options, on_progress=lambda _: None, stop=Stop())
    if options.from_api:
        status = _with_list(status, listing)
    if options.looks_at_list and status.ask and status.ask.of != _UNFINISHED_RUN:
        ways = _ways(options, status, *asyncio.run(listing.first_page()))
        status = replace(status, ask=replace(status.ask, ways=ways))
    return status


def _ways(options: Options, status: Status, page: Page, chosen: list[Met]) -> dict[str, int]:
    """Return the requests of each way: of details alone, and with a list whose entries are complete, or are not."""
    pairs = zip(chosen, raw_entries(page.body), strict=True)
    entries = [(one.number, digest_of(raw)) for one, raw in pairs if one.number is not None]
    if options.from_api:
        return _ways_of_list(options, status, page, entries)
    pending = (status.ask and status.ask.pending) or 0
    details = (status.ask and status.ask.without_list) or 0
    if pending < 2 or page.last >= pending:  # the list is not looked at, or left after its first page
        few = pending + (pending > 1)
        return {"always": details, "auto_complete": few, "auto_partial": few}
    new = (status.ask and status.ask.new) or 0
    moved = math.ceil(max(0, pending - new - FIRST) * _on_page(options, status, entries).moved_share)
    partial = page.last + min(FIRST, pending - new) + new + moved if options.store else 1 + pending
    return {"always": details, "auto_complete": page.last + _compared(pending), "auto_partial": partial}


def _ways_of_list(
    options: Options, status: Status, page: Page, entries: list[tuple[str, str]]
) -> dict[str, int]:
    """Return the same where the list's own orders are wanted: they are as those on this page beyond the first ones."""
    orders = math.ceil(page.count * len(entries) / max(1, len(page.results)))
    others = entries[FIRST:] or entries
    first, found = entries[: -len(others)], _on_page(options, status, others)
    details = (orders - len(first)) * found.details / max(1, len(others))
    moved = (orders - min(FIRST, orders)) * found.moved / max(1, len(others))
    return {
        "always": page.last + _on_page(options, status, first).details + math.ceil(details),
        "auto_complete": page.last + _compared(orders),
        "auto_partial": page.last + min(FIRST, orders) + math.ceil(moved),
    }


def _compared(orders: int) -> int:
    return min(FIRST, orders) + max(0, orders - FIRST) // ONE_IN


class _OnPage(NamedTuple):
    """Of some entries of a page: what details alone ask for, and what is asked for where entries are not complete."""

    details: int
    moved: int  # and new
    moved_share: float  # of those that the store knows, and would have asked for


def _on_page(options: Options, status: Status, entries: list[tuple[str, str]]) -> _OnPage:
    if status.store is None:
        return _OnPage(len(entries), len(entries), 1.0)
    freshness = replace(options.freshness(status.now, status.now), from_list=False)
    whenever = _whenever(replace(freshness, from_list=True))
    numbers = [(number, None) for number, _ in entries]
    with closing(Store(status.store, readonly=True)) as store:
        details = store.pending_of(freshness, numbers)  # without an entry, none is believed to be unmoved
        moved = store.pending_of(freshness, entries)
        known = details - store.pending_of(whenever, numbers)
    return _OnPage(len(details), len(moved), len(moved & known) / len(known) if known else 1.0)


def _whenever(freshness: Freshness) -> Freshness:
    return replace(freshness, max_age_s=math.inf, max_age_s_by_status=())


def _with_list(status: Status, listing: Listing) -> Status:
    """Say what a run would list first: what it asks for then is known in the end."""
    name = name_of(status.out or "", kept=listing.options.store is not None)
    unfinished = status.holdings.unfinished if status.holdings else ()
    answered_at = max((run.answered_at or 0.0 for run in unfinished if run.out == name), default=0.0)
    walk, within_s = status.listing, listing.options.resume_within_s
    goes_on = walk and walk.complete and walk.may_resume(listing.source, status.now, within_s, answered_at)
    if goes_on and status.ask and status.ask.of == _UNFINISHED_RUN:
        return status
    of = f"the API's list ({sentence(listing.about)}), then each selected order"
    return replace(status, ask=Ask(pending=None, orders=None, of=of, rate=listing.options.rate, seconds=None))


def _standing(out: str) -> Manifest | None:
    try:
        return destination_of(out).standing()
    except InputError:
        raise
    except UsageError:
        return None  # something of somebody else's


def _places(place: str, kept: str | None) -> tuple[str | None, Path | None, Path | None]:
    """Return (out, work directory, store), each None where it does not exist."""
    place = place.rstrip("/") or "/"
    kept = real_store(kept)
    if Path(place).is_file():
        return None, None, Path(real_store(place) or place)
    out = place.removesuffix(_PARTIAL) if Path(place, "store.db").is_file() else place
    work = place_of(out)
    store = WorkDirectory(work).store if kept is None else Path(kept)
    return out, work if work.is_dir() else None, store if is_begun(store) else None


def _run_gone_on_with(
    options: AskOptions, now: float, out: str | None, work: Path | None, found: Holdings | None
) -> UnfinishedRun | None:
    """Return the unfinished run that the next one into the same place resumes."""
    own = options.store is None and work is not None  # a work directory's own store knows no other place
    for run in found.unfinished if found else ():
        is_young = may_resume(run.started_at, run.answered_at, now, options.resume_within_s)
        if is_young and (own or run.out == name_of(out or "", kept=True)):
            return run
    return None


def _pending_of_unfinished(work: Path, store: Path, freshness: Freshness) -> tuple[int, int] | None:
    plan = WorkDirectory(work).plan
    if not plan.is_file():
        return None
    try:
        return _pending_of_plan(store, plan, freshness)
    except (StorageError, sqlite3.OperationalError):
        return None  # it was killed while it was made; the store tells what it can


def _plan(orders: str, options: AskOptions, plan: Path, store: Path | None) -> Input:
    with open_input(orders) as source:
        return InputPlan(source, orders, options, plan, store).make()


def _answer(options: AskOptions, of: str, pending: int, orders: int) -> Ask:
    named = Rate.parse(options.rate)
    rate = Rate.parse(options.max_rate) if named.kind == "auto" else named
    seconds = None if math.isinf(rate.per_s) else pending / rate.per_s
    words = str(rate) if rate is named else f"{rate}, the most that auto reaches"
    return Ask(pending=pending, orders=orders, of=of, rate=words, seconds=seconds)


def _holdings(path: Path) -> Holdings:
    with closing(Store(path, readonly=True)) as store:
        store.check()
        api_url = store.api_url
    with _reading(path) as connection:
        return Holdings(
            api_url=api_url,
            bytes=sum(file.stat().st_size for file in (path, Path(f"{path}-wal")) if file.exists()),
            held=tuple(Held(*row) for row in connection.execute(_HELD)),
            unfinished=tuple(UnfinishedRun(*row) for row in connection.execute(_UNFINISHED)),
            from_list=connection.execute("SELECT count(*) FROM orders WHERE source = 'list'").fetchone()[0],
        )


def _pending_of_store(path: Path, freshness: Freshness) -> int:
    """Return how many of a store's own order numbers must be asked for."""
    state, values = freshness.state_sql()
    query = f"SELECT count(*) FROM orders AS o, (SELECT NULL AS entry) AS p WHERE {state} IS NULL"  # noqa: S608 - our own words
    with _reading(path) as connection:
        return int(connection.execute(query, values).fetchone()[0])


def _pending_of_plan(path: Path, plan: Path, freshness: Freshness) -> tuple[int, int]:
    """Return (to ask for, all) of a plan's order numbers."""
    with closing(Store(path, readonly=True)) as store:
        store.attach_plan(plan)
        states = store.states(freshness)
    return states.get(None, 0), sum(states.values())


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with (
        durable.storage_errors("reading the store", path),
        closing(sqlite3.connect(uri_to_look_at(path), uri=True)) as connection,
    ):
        yield connection

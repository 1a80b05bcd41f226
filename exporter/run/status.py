"""What is at a place: a finished dataset, an unfinished run, a store; and what a run would ask for there."""

from __future__ import annotations

import math
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from exporter.dataset.destination import destination_of
from exporter.fetch.work_directory import Holder, WorkDirectory, holder, name_of, place_of
from exporter.model.errors import InputError, StorageError, UsageError
from exporter.model.freshness import may_resume
from exporter.model.manifest import Input, Manifest
from exporter.model.options import AskOptions
from exporter.model.rate import Rate
from exporter.run.preparation import real_store
from exporter.store.input_file import InputPlan, open_input
from exporter.store.listed_numbers import Walk, look_at_listing
from exporter.store.order_store import Freshness, Store
from exporter.store.store_file import is_begun, uri_to_look_at
from exporter.system import durable

_PARTIAL = ".partial"
UNFINISHED_RUN = "the unfinished run"
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
            ask = _answer(options, orders, *counts)
            ask = replace(ask, input=record, without_list=ask.pending, new=ask.pending)
            if store and options.looks_at_list:
                ask = _ask_beside_the_list(ask, store, plan, freshness)
        elif store is None or found is None or (listing and not listing.complete):
            ask = None
        elif work is not None and (pending := _pending_of_unfinished(work, store, freshness)):
            ask = _answer(options, UNFINISHED_RUN, *pending)
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


def _ask_beside_the_list(ask: Ask, store: Path, plan: Path, freshness: Freshness) -> Ask:
    """Count what the list has to do with: payloads that came from it, and orders that the store has never had."""
    without_list = _pending_of_plan(store, plan, replace(freshness, from_list=False))[0]
    return replace(
        ask, without_list=without_list, new=_pending_of_plan(store, plan, freshness.of_any_age())[0]
    )


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

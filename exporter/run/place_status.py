"""What stands at a place: a finished dataset, an unfinished run, a store; and what a run would do there."""

from __future__ import annotations

import math
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from exporter.api.credentials import token_of
from exporter.dataset.destination import destination_of
from exporter.fetch.work_directory import WorkDirectory, place_of
from exporter.model.column_selection import choose_columns
from exporter.model.errors import InputError, StorageError, UsageError
from exporter.model.manifest import Manifest
from exporter.model.options import AskOptions, Options, part_of
from exporter.model.rate import Rate
from exporter.run.export import refuse_passing_store, refuse_to_replace, resolve_out
from exporter.store.input_file import InputPlan, open_input
from exporter.store.order_store import Freshness, Store
from exporter.store.overview import (
    Holder,
    Holdings,
    UnfinishedRun,
    holder,
    holdings,
    pending_of_plan,
    pending_of_store,
)

_PARTIAL = ".partial"


@dataclass(frozen=True, kw_only=True)
class Question(AskOptions):
    """What to look at, and with which options of `run` in mind.

    Attributes:
        place: An `--out`, its work directory, or a store.
        may_be_new: Nothing need stand there yet.
        orders: The input of the run in mind.
    """

    place: str
    may_be_new: bool = False
    orders: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a run would ask for.

    Attributes:
        pending: Order numbers that it would ask for.
        orders: Of how many.
        of: What those are: the input's name, `the unfinished run` or `the store`.
        rate: The permitted rate.
        seconds: How long that takes, at least; None where nothing bounds the rate.
    """

    pending: int
    orders: int
    of: str
    rate: str
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Status:
    """What stands at a place; None for what does not.

    Attributes:
        now: When it was looked at; seconds since the epoch.
        out: Where the dataset stands, or will stand.
        dataset: The finished dataset.
        work: The work directory of an unfinished run.
        work_holder: The process that holds it.
        store: The store's file.
        store_holder: The process that holds the kept store.
        holdings: What the store holds.
        ask: What a run would ask for.
    """

    now: float
    out: str | None
    dataset: Manifest | None
    work: Path | None
    work_holder: Holder | None
    store: Path | None
    store_holder: Holder | None
    holdings: Holdings | None
    ask: Ask | None


def look(question: Question) -> Status:
    """Look at a place without touching it.

    Raises:
        UsageError: Nothing of ours stands there, or an option cannot work.
        StorageError: The disk refuses, or a store is damaged.
    """
    now = time.time()
    out, work, store = _places(question)
    dataset = None if out is None else _standing(out)
    if not question.may_be_new and dataset is None and work is None and store is None:
        raise UsageError(
            f"{question.place}: expected a dataset, a work directory or a store, got none.",
            "Give the --out or the --store of a run.",
        )
    found = None if store is None else holdings(store)
    run = _run_gone_on_with(question, now, out, work, found)
    freshness = question.freshness(run.started_at if run else now, now)
    return Status(
        now=now,
        out=out,
        dataset=dataset,
        work=work,
        work_holder=None if work is None else holder(work / "lock"),
        store=store,
        store_holder=None if store is None else holder(store.with_name(f"{store.name}.lock")),
        holdings=found,
        ask=_ask(question, freshness, work, store, found),
    )


def dry_run(options: Options) -> Status:
    """Check what a run would check before its first request, raise what it would, and say what it would ask for."""
    choose_columns(options.select, options.drop, options.tables)
    token_of(options)
    out = resolve_out(options.out, datetime.now().astimezone())
    destination = destination_of(out)
    refuse_passing_store(options.store, out)
    refuse_to_replace(destination.standing(), destination, options, out)
    status = look(Question(place=out, may_be_new=True, orders=options.orders, **part_of(options, AskOptions)))
    if status.store is not None:
        with closing(Store(status.store, options.api_url, readonly=True)):
            pass  # it belongs to this API
    return status


def _standing(out: str) -> Manifest | None:
    try:
        return destination_of(out).standing()
    except InputError:
        raise
    except UsageError:
        return None  # something of somebody else's


def _places(question: Question) -> tuple[str | None, Path | None, Path | None]:
    """Return (out, work directory, store), each None where it does not exist."""
    place = question.place.rstrip("/") or "/"
    kept = None if question.store is None else Path(question.store)
    if Path(place).is_file():
        return None, None, Path(place)
    out = place.removesuffix(_PARTIAL) if Path(place, "store.db").is_file() else place
    work = place_of(out)
    store = kept or WorkDirectory(work).store
    return out, work if work.is_dir() else None, store if store.is_file() else None


def _run_gone_on_with(
    question: Question, now: float, out: str | None, work: Path | None, found: Holdings | None
) -> UnfinishedRun | None:
    """Return the unfinished run that the next one into the same place goes on with."""
    youngest = now - question.resume_within_s
    own = question.store is None and work is not None  # a work directory's own store knows no other place
    for run in found.unfinished if found else ():
        if (own or run.out == out) and run.started_at >= youngest:
            return run
    return None


def _ask(
    question: Question,
    freshness: Freshness,
    work: Path | None,
    store: Path | None,
    found: Holdings | None,
) -> Ask | None:
    if question.orders is not None:
        return _answer(question, question.orders, *_pending_of_input(question, store, freshness))
    if store is None or found is None:
        return None
    if work is not None and (pending := _pending_of_unfinished(work, store, freshness)):
        return _answer(question, "the unfinished run", *pending)
    return _answer(question, "the store", pending_of_store(store, freshness), found.orders)


def _pending_of_unfinished(work: Path, store: Path, freshness: Freshness) -> tuple[int, int] | None:
    plan = WorkDirectory(work).plan
    if not plan.is_file():
        return None
    try:
        return pending_of_plan(store, plan, freshness)
    except StorageError:
        return None  # it was killed while it was made; the store tells what it can


def _pending_of_input(question: Question, store: Path | None, freshness: Freshness) -> tuple[int, int]:
    assert question.orders is not None
    with tempfile.TemporaryDirectory(prefix="exporter-") as folder, open_input(question.orders) as source:
        plan = Path(folder, "plan.db")
        counts, _ = InputPlan(source, question.orders, question.column, plan).make()
        if store is None:
            return counts.requested, counts.requested
        return pending_of_plan(store, plan, freshness)


def _answer(question: Question, of: str, pending: int, orders: int) -> Ask:
    named = Rate.parse(question.rate)
    rate = Rate.parse(question.max_rate) if named.kind == "auto" else named
    seconds = None if math.isinf(rate.per_s) else pending / rate.per_s
    words = str(rate) if rate is named else f"{rate}, the most that auto reaches"
    return Ask(pending=pending, orders=orders, of=of, rate=words, seconds=seconds)

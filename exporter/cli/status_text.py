"""What is at a place, and what a run would ask for: for people, and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from exporter.cli.option_kinds import show
from exporter.model.units import duration_text, local_time, size_text

if TYPE_CHECKING:
    from exporter.fetch.work_directory import Holder
    from exporter.model.manifest import Manifest
    from exporter.run.status import Ask, Holdings, Status

_WAYS = (
    "--details always: {always:,}; auto: about {auto_complete:,} if the list's entries are complete,"
    " {auto_partial:,} if they are not"
)
_FROM_LIST = "from the API's list"


def show_status(status: Status, *, as_json: bool) -> None:
    """Print a status: as one JSON object, or for people, for 80 columns."""
    show(_as_json(status), _lines(status), as_json=as_json)


def _lines(status: Status) -> Iterator[str]:
    if status.dataset is not None:
        yield f"Dataset {status.out}"
        yield from _dataset(status.dataset, status.now)
    if status.work is not None:
        yield f"Work directory {status.work}"
        yield _row("held by", _holder(status.work_holder, status.now))
    if status.listing is not None:
        walk = status.listing
        end = "its end" if walk.complete else f"page {walk.page}"
        yield _row("API's list", f"read to {end}: {walk.wanted:,} of {walk.orders:,} orders are selected")
    if status.holdings is not None:
        yield f"Store {status.store}"
        if status.store_holder is not None:
            yield _row("held by", _holder(status.store_holder, status.now))
        yield from _store(status.holdings, status.now)
    if status.ask is not None:
        yield from _ask(status.ask)


def _dataset(manifest: Manifest, now: float) -> Iterator[str]:
    from exporter.cli.outcome_text import change_lines, file_lines
    from exporter.dataset.summary import summary_of

    summary = summary_of(manifest, "")
    finished_at = datetime.fromisoformat(manifest.finished_at).timestamp()
    yield _row("finished", f"{_when(finished_at, now)}, after {duration_text(summary.duration_s)}")
    if manifest.is_comparison and manifest.changes is not None:
        yield from change_lines(manifest.changes)
    else:
        yield _row("orders", f"{summary.exported:,} of {summary.requested:,}, {summary.items:,} items")
        rejects = ", ".join(f"{reason} {count:,}" for reason, count in summary.rejects_by_reason.items())
        yield _row("rejected", rejects or "none")
    yield from file_lines(summary.files)


def _store(holdings: Holdings, now: float) -> Iterator[str]:
    yield _row("of", holdings.api_url or "no API yet")
    yield _row("size", size_text(holdings.bytes))
    for run in holdings.unfinished:
        began = _when(run.started_at, now)
        yield _row("unfinished", f"run into {run.out}, began {began}, {run.sent:,} requests")
    yield f"  {'state':<22}{'orders':>14}   {'oldest':<14}newest"
    for held in holdings.held:
        oldest, newest = (duration_text(max(0.0, now - at)) for at in (held.oldest_at, held.newest_at))
        yield f"  {held.state:<22}{held.orders:>14,}   {oldest:<14}{newest}"
    if holdings.from_list:
        yield f"  {_FROM_LIST:<22}{holdings.from_list:>14,}"


def _ask(ask: Ask) -> Iterator[str]:
    from exporter.lists.how_read import sentence

    yield "The next run, with these options"
    counts = "" if ask.pending is None else f"{ask.pending:,} of {ask.orders:,} orders of "
    yield from _wrapped("fetches", f"{counts}{ask.of}")
    if (found := ask.input) is not None:
        counts = f"{found.duplicates:,} duplicates, {found.blank:,} blank, {found.invalid:,} invalid lines"
        yield from _wrapped("input", f"{sentence(found.read)}; {counts}")
    if ask.ways is not None:
        yield from _wrapped("requests", _WAYS.format(**ask.ways))
    if ask.seconds is not None and ask.pending:
        yield _row("takes", f"{duration_text(ask.seconds)} at {ask.rate}")


def _wrapped(label: str, text: str) -> Iterator[str]:
    first, *others = textwrap.wrap(text, 66, break_long_words=False, break_on_hyphens=False)
    return iter([_row(label, first), *(_row("", line) for line in others)])


def _row(label: str, text: str) -> str:
    return f"  {label:<12}{text}"


def _holder(holder: Holder | None, now: float) -> str:
    if holder is None:
        return "nobody"
    if not holder.alive:
        return f"nobody; process {holder.pid} died"
    return f"process {holder.pid}, started {_when(holder.started_at, now)}"


def _when(epoch_s: float, now: float) -> str:
    return f"{local_time(epoch_s):%Y-%m-%d %H:%M:%S} ({duration_text(max(0.0, now - epoch_s))} ago)"


def _as_json(status: Status) -> dict[str, Any]:
    """Return the status as JSON values; of a dataset only what it holds, not how the run went."""
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins({**status.__dict__, "dataset": None}, enc_hook=str)
    if status.holdings is not None:
        plain["holdings"]["orders"] = status.holdings.orders
    if status.dataset is not None:
        plain["dataset"] = msgspec.to_builtins(status.dataset)
        del plain["dataset"]["statistics"]
    return plain

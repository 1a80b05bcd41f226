"""What a person or a script is told of a run that published, and of two datasets that were compared."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import msgspec

from exporter.cli.next_command import command_for_rejects
from exporter.cli.option_kinds import show
from exporter.dataset.summary import Summary
from exporter.model.errors import StorageError
from exporter.model.manifest import CHANGE_COUNTS, Changes
from exporter.model.records import PartFile
from exporter.model.units import duration_text, size_text
from exporter.system import durable

_NUMBERS_END = 22
_MOST_SHOWN = 3
_MOST_PATHS = 5


def print_summary(summary: Summary, *, as_json: bool, quiet: bool) -> None:
    """Print what the run brought: one JSON object, or a short table, or nothing when quiet."""
    if quiet and not as_json:
        return
    try:
        # Whoever reads may have seen enough, as in `exporter run … | head -1`.
        refused = durable.storage_errors("printing the summary", Path("standard output"))
        with refused, suppress(BrokenPipeError):
            show(facts_of(summary), _lines(summary), as_json=as_json)
    except StorageError as error:
        hint = f"The dataset is at {summary.out}, and its manifest.json has the same figures."
        raise StorageError(error.what, hint) from error


def facts_of(summary: Summary) -> dict[str, Any]:
    """Return the object that `--json` prints."""
    facts = asdict(summary) | {"order_items": summary.items, "exit_code": summary.exit_code}
    del facts["items"]
    return facts


def _lines(summary: Summary) -> Iterator[str]:
    yield f"Exported {summary.exported:,} of {summary.requested:,} orders to {summary.out}"
    yield ""
    yield _row("orders", f"{summary.exported:,}")
    yield _row("items", f"{summary.items:,}")
    reasons = summary.rejects_by_reason
    yield _row("rejected", f"{sum(reasons.values()):,}", " · ".join(_counted(reasons.items())))
    again = _counted((word, summary.requests[word]) for word in ("retried", "throttled"))
    yield _row("requests", f"{summary.requests['sent']:,}", " · ".join(again))
    if taken := summary.sources.get("list"):
        yield _row("from list", f"{taken:,}", "orders, without a request of their own")
    tries = "over all tries of the run" if summary.resumed else ""
    yield _row("time", duration_text(summary.duration_s), tries)
    yield ""
    yield from file_lines(summary.files)
    if summary.changes is not None:
        yield ""
        yield from change_lines(msgspec.convert(summary.changes, Changes))
    yield from _notes(summary)


def _row(label: str, value: str, more: str = "") -> str:
    return f"  {label}{value:>{_NUMBERS_END - len(label)}}   {more}".rstrip()


def _counted(counts: Iterable[tuple[str, Any]]) -> list[str]:
    return [
        f"{name} {count:,}" if isinstance(count, int) else f"{name} {count}"
        for name, count in counts
        if count
    ]


def file_lines(files: Iterable[PartFile]) -> Iterator[str]:
    """Yield a line for each file, or one for each directory of part files."""
    folders: dict[str, list[PartFile]] = {}
    for part in files:
        folders.setdefault(part.path.split("/")[0], []).append(part)
    for name, parts in folders.items():
        rows, size = sum(part.rows for part in parts), sum(part.bytes for part in parts)
        more = f"   {len(parts):,} part files" if len(parts) > 1 else ""
        yield f"  {name:<22}{rows:>14,} rows {size_text(size):>11}{more}"


def _notes(summary: Summary) -> Iterator[str]:
    if summary.drift:
        yield ""
        yield f"Kept in _unmapped, as no column fits: {_few(sorted(summary.drift), _MOST_PATHS)}."
    if summary.stale_by_reason:
        count = sum(summary.stale_by_reason.values())
        yield ""
        yield f"{count:,} orders are published in an older version: {summary.out}/stale.jsonl says which, since when, and why."
    for path in summary.removed:
        yield f"Removed, older than --keep allows: {path}"
    ctx = click.get_current_context(silent=True)
    if summary.rejects_by_reason:
        yield ""
        yield f"{summary.out}/rejects.jsonl says which were rejected, and why."
        if ctx is not None and ctx.command.name == "run" and summary.rejected:
            alone = ctx.params["store"] is not None
            yield f"To request them again{'' if alone else ' (and all others, since there is no --store)'}:"
            yield f"  {command_for_rejects(ctx, summary)}"


def change_lines(changes: Changes) -> Iterator[str]:
    """Yield what a comparison brought, for a terminal of 80 columns."""
    if changes.compared_with is None:
        yield "No earlier dataset to compare with."
        return
    yield f"Changed since {changes.compared_with.place}, of {changes.compared:,} orders in both"
    yield ""
    more = {"not_compared": " · ".join(_counted(changes.not_compared_reasons.items()))}
    for word in CHANGE_COUNTS:
        yield _row(word.replace("_", " "), f"{getattr(changes, word):,}", more.get(word, ""))
    yield _row("items", f"+{changes.items_added:,} −{changes.items_removed:,}")
    moves = [(f"{old} → {new}", count) for old, tos in changes.statuses.items() for new, count in tos.items()]
    yield from _rows("status", sorted(moves, key=lambda move: -move[1]))
    for currency, sums in changes.deltas.items():
        yield from _rows(currency, sums.items())
    yield from _rows("columns", changes.columns.items())
    if changes.matched_by_position:
        yield f"  Items without ids were matched by their position, in {changes.matched_by_position:,} orders."
    for table, names in changes.columns_not_compared.items():
        few = _few(names, _MOST_SHOWN)
        yield f"  Not compared, because the datasets do not both have them alike: {few} of {table}."


def _rows(label: str, counts: Any) -> Iterator[str]:
    if texts := _counted(counts):
        yield _row(label, "", _few(texts, _MOST_SHOWN, " · "))


def _few(texts: list[str], most: int, between: str = ", ") -> str:
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return between.join(texts[:most]) + more

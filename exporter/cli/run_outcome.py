"""What a person or a script is told at the end of a run that published."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import msgspec

from exporter.cli.change_text import change_lines
from exporter.cli.next_command import command_for_rejects
from exporter.cli.option_kinds import show
from exporter.model.errors import StorageError
from exporter.model.manifest import Changes
from exporter.model.records import PartFile
from exporter.model.summary import Summary
from exporter.model.units import duration_text, size_text
from exporter.system import durable

_LABEL = 10
_MOST_PATHS = 5


def print_summary(summary: Summary, *, as_json: bool, quiet: bool) -> None:
    """Print what the run brought: one JSON object, or a short table, or nothing when quiet."""
    if quiet and not as_json:
        return
    try:
        # Whoever reads may have seen enough, as in `exporter run … | head -1`.
        with (
            durable.storage_errors("printing the summary", Path("standard output")),
            suppress(BrokenPipeError),
        ):
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
    yield _row("rejected", f"{sum(reasons.values()):,}", _counted(reasons))
    again = {word: summary.requests[word] for word in ("retried", "throttled")}
    yield _row("requests", f"{summary.requests['sent']:,}", _counted(again))
    tries = "over all tries of the run" if summary.resumed else ""
    yield _row("time", duration_text(summary.duration_s), tries)
    yield ""
    yield from file_lines(summary.files)
    if summary.changes is not None:
        yield ""
        yield from change_lines(msgspec.convert(summary.changes, Changes))
    yield from _notes(summary)


def _row(label: str, value: str, more: str = "") -> str:
    return f"  {label:<{_LABEL}}{value:>12}   {more}".rstrip()


def _counted(counts: dict[str, int]) -> str:
    return " · ".join(f"{name} {count:,}" for name, count in counts.items() if count)


def file_lines(files: Iterable[PartFile]) -> Iterator[str]:
    """Yield a line for each file, or one for each directory of part files."""
    folders: dict[str, list[int]] = {}
    for part in files:
        total = folders.setdefault(part.path.split("/")[0], [0, 0, 0])
        for index, value in enumerate((1, part.rows, part.bytes)):
            total[index] += value
    for name, (count, rows, size) in folders.items():
        parts = f"   {count:,} part files" if count > 1 else ""
        yield f"  {name:<22}{rows:>14,} rows {size_text(size):>11}{parts}"


def _notes(summary: Summary) -> Iterator[str]:
    if summary.drift:
        paths = ", ".join(sorted(summary.drift)[:_MOST_PATHS])
        more = f" and {len(summary.drift) - _MOST_PATHS} more" if len(summary.drift) > _MOST_PATHS else ""
        yield ""
        yield f"Kept in _unmapped, as no column fits: {paths}{more}."
    if summary.stale_by_reason:
        count = sum(summary.stale_by_reason.values())
        yield ""
        yield f"{count:,} orders are as they last were: {summary.out}/stale.jsonl says which, since when, and why."
    for path in summary.removed:
        yield f"Removed, older than --keep allows: {path}"
    ctx = click.get_current_context(silent=True)
    if summary.rejects_by_reason:
        yield ""
        yield f"{summary.out}/rejects.jsonl says which were rejected, and why."
        if ctx is not None and ctx.command.name == "run" and summary.rejected:
            alone = ctx.params["store"] is not None
            yield f"To request them again{'' if alone else ', and all others, as no --store keeps them'}:"
            yield f"  {command_for_rejects(ctx, summary)}"

"""What differs between two datasets, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from exporter.model.manifest import CHANGE_COUNTS, Changes

_LABEL = 14
_MOST = 3


def change_lines(changes: Changes) -> Iterator[str]:
    """Yield what a comparison brought, for a terminal of 80 columns."""
    if changes.compared_with is None:
        yield "Nothing to compare with: no dataset was there before."
        return
    yield f"Changed since {changes.compared_with.place}, of {changes.compared:,} orders in both"
    yield ""
    more = {"not_compared": _listed(changes.not_compared_reasons.items())}
    for word in CHANGE_COUNTS:
        yield _row(word.replace("_", " "), f"{getattr(changes, word):,}", more.get(word, ""))
    yield _row("items", f"+{changes.items_added:,} −{changes.items_removed:,}")
    moves = [(f"{old} → {new}", count) for old, tos in changes.statuses.items() for new, count in tos.items()]
    yield from _rows("status", sorted(moves, key=lambda move: -move[1]))
    for currency, sums in changes.deltas.items():
        yield from _rows(currency, sums.items())
    yield from _rows("columns", changes.columns.items())
    yield from _notes(changes)


def _notes(changes: Changes) -> Iterator[str]:
    if changes.matched_by_position:
        yield f"  Items without ids were matched by their position, in {changes.matched_by_position:,} orders."
    for table, names in changes.columns_not_compared.items():
        few = ", ".join(names[:_MOST]) + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")
        yield f"  Not compared, because the datasets do not both have them alike: {few} of {table}."


def _rows(label: str, counts: Any) -> Iterator[str]:
    pairs = list(counts)
    if pairs:
        rest = f" and {len(pairs) - _MOST} more" if len(pairs) > _MOST else ""
        yield _row(label, "", _listed(pairs[:_MOST]) + rest)


def _row(label: str, value: str, more: str = "") -> str:
    return f"  {label:<{_LABEL}}{value:>8}   {more}".rstrip()


def _listed(counts: Any) -> str:
    return " · ".join(
        f"{name} {count:,}" if isinstance(count, int) else f"{name} {count}" for name, count in counts
    )

"""Which column of a table holds the order numbers."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.model.errors import InputError

# In this order: beside an `order_number`, a `number` is the number of something else.
_KNOWN = ("order_number", "number")
_SHOWN_COLUMNS = 20


def choose(columns: Sequence[str], wanted: str | None, place: str) -> int:
    """Find the column of order numbers.

    Args:
        columns: The names there are.
        wanted: The name asked for, exactly as written in the input, or None for the usual names.
        place: Where the names stand, for the error text.

    Returns:
        The index of the column asked for; else of `order_number` or `number`, in any case; else of the
        only column.

    Raises:
        InputError: When there is no such column, or more than one.

    >>> choose(["Date", "Number"], None, "orders.csv:1")
    1
    """
    if wanted is not None:
        return _only(columns, [i for i, name in enumerate(columns) if name == wanted], repr(wanted), place)
    for known in _KNOWN:
        if found := [i for i, name in enumerate(columns) if name.casefold() == known]:
            return _only(columns, found, repr(known), place)
    return _only(columns, range(len(columns)), "'number' or 'order_number'", place)


def _only(columns: Sequence[str], found: Sequence[int], expected: str, place: str) -> int:
    if len(found) == 1:
        return found[0]
    raise InputError(
        f"{place}: expected one column {expected}, got {_listed(columns)}.",
        "Name the column of order numbers with --column.",
    )


def _listed(columns: Sequence[str]) -> str:
    if not columns:
        return "no columns"
    more = f" and {len(columns) - _SHOWN_COLUMNS:,} more" if len(columns) > _SHOWN_COLUMNS else ""
    return "the columns " + ", ".join(map(repr, columns[:_SHOWN_COLUMNS])) + more

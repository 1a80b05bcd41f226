"""Which columns are written: `--select` and `--drop` by name or glob."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from exporter.model.catalog import ORDER_ITEMS, ORDERS
from exporter.model.errors import UsageError

#: Columns that join items to orders; they are always written.
KEYS = {"orders": ("number",), "order_items": ("order_number", "item_index")}
_NAMES = {
    "orders": tuple(column.name for column in ORDERS),
    "order_items": tuple(column.name for column in ORDER_ITEMS),
}


def choose_columns(select: Sequence[str], drop: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns of each table that are written, in the catalogue's order.

    Args:
        select: Names or globs of the only columns to write, in either table; empty for all. One text
            may hold several, with commas between them; so may one of `drop`.
        drop: Names or globs of columns not to write.

    Returns:
        Table name to column names; the keys that join the tables are always among them.

    Raises:
        UsageError: A name or glob fits no column, or a key would be dropped by its name.

    >>> choose_columns(("amount,price*",), ("price_list",))["order_items"]
    ['order_number', 'item_index', 'price_currency', 'price']
    """
    selected, dropped = _split(select), _split(drop)
    _check(selected, "select")
    _check(dropped, "drop")
    return {table: _chosen(table, selected, dropped) for table in _NAMES}


def _split(texts: Iterable[str]) -> list[str]:
    patterns = [pattern.strip() for text in texts for pattern in text.split(",")]
    # Nothing but commas is a slip, and must not mean every column.
    return list(filter(None, patterns)) or patterns[:1]


def _chosen(table: str, select: Sequence[str], drop: Sequence[str]) -> list[str]:
    def wanted(name: str) -> bool:
        if name in KEYS[table]:
            return True
        return (not select or _fits(name, select)) and not _fits(name, drop)

    return [name for name in _NAMES[table] if wanted(name)]


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check(patterns: Sequence[str], option: str) -> None:
    names = sorted({name for table in _NAMES.values() for name in table})
    keys = {key for table in KEYS.values() for key in table}
    for pattern in patterns:
        if option == "drop" and pattern in keys:
            raise UsageError(
                f"{pattern} joins the tables and is always written.", "Leave it out of --drop.", option="drop"
            )
        if not any(fnmatchcase(name, pattern) for name in names):
            near = get_close_matches(pattern, names, n=1, cutoff=0.0)
            raise UsageError(f"no column fits {pattern!r}.", f"The nearest is {near[0]}.", option=option)

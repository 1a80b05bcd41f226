"""Which columns are written, and in what order: `--select` and `--drop` by name or glob."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from exporter.model.catalog import TABLES
from exporter.model.errors import UsageError

#: Columns that join items to orders; they are always written.
KEYS = {
    "orders": ("number",),
    "order_items": ("order_number", "item_index"),
    "order_lines": ("number", "item_index"),
}
#: How alike a name must be to be suggested, from 0 to 1; half of it, as a glob stands for the rest.
_NEAR = 0.5
_NAMES = {table: tuple(column.name for column in columns) for table, columns in TABLES.items()}


def choose_columns(
    select: Sequence[str], drop: Sequence[str], tables: Sequence[str] = tuple(TABLES)
) -> dict[str, list[str]]:
    """Return the columns of each table that are written: those selected in the order given, else the catalogue's.

    The keys that join the tables are always among them: first, or after the key before, where not selected. Names or
    globs are of every table, or of one as `orders.status`; one text may hold several, with commas between them.
    A `UsageError` where one fits no column, or a key would be dropped by its name.

    >>> choose_columns(("price*,order_items.id",), ("price_list",))["order_items"]
    ['order_number', 'item_index', 'price_currency', 'price', 'id']
    """
    selected, dropped = _split(select), _split(drop)
    _check(selected, "select", tables)
    _check(dropped, "drop", tables)
    return {table: _chosen(table, selected, dropped) for table in tables}


def _split(texts: Iterable[str]) -> list[str]:
    patterns = [pattern.strip() for text in texts for pattern in text.split(",")]
    # Nothing but commas is a slip, and must not mean every column.
    return list(filter(None, patterns)) or patterns[:1]


def _chosen(table: str, select: Sequence[str], drop: Sequence[str]) -> list[str]:
    keys = KEYS[table]
    named = [name for pattern in select or ("*",) for name in _fitting(table, pattern)]
    dropped = {name for pattern in drop for name in _fitting(table, pattern)} - set(keys)
    chosen = [name for name in dict.fromkeys(named) if name not in dropped]
    for at, key in enumerate(keys):
        if key not in chosen:
            chosen.insert(chosen.index(keys[at - 1]) + 1 if at else 0, key)
    return chosen


def _fitting(table: str, pattern: str) -> list[str]:
    """Return the table's columns that a name or glob means, `orders.status` or `status`."""
    of, _, name = pattern.rpartition(".")
    return [each for each in _NAMES[table] if of in ("", table) and fnmatchcase(each, name)]


def _check(patterns: Sequence[str], option: str, tables: Sequence[str]) -> None:
    for pattern in patterns:
        of, _, name = pattern.rpartition(".")
        if option == "drop" and any(name in KEYS[table] for table in tables if of in ("", table)):
            what = f"{pattern} joins the tables and is always written."
            raise UsageError(what, "Leave it out of --drop.", option="drop")
        if not any(_fitting(table, pattern) for table in tables):
            dot = "." in pattern
            names = {f"{table}.{name}" if dot else name for table in tables for name in _NAMES[table]}
            near = get_close_matches(pattern, sorted(names), n=1, cutoff=_NEAR)
            did_you = f"Did you mean {near[0]}? " if near else ""
            raise UsageError(f"no column fits {pattern!r}.", f"{did_you}See exporter schema.", option=option)

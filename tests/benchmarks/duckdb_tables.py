"""What DuckDB makes of the same payloads: JSON lines read with the catalogue's types, two Parquet files written.

    python tests/benchmarks/duckdb_tables.py PAYLOADS.jsonl FOLDER

Nothing is checked, nothing that fits no column is kept, and one value that fits no type ends it. The lines are read once
for each file, which takes less time and memory than a table between them.
"""

from __future__ import annotations

import sys
from typing import Any

import duckdb

from exporter.model.catalog import ITEMS_KEY, ORDER_ITEMS, ORDERS, Column, Kind

_TYPES = {
    Kind.TEXT: "VARCHAR",
    Kind.INTEGER: "BIGINT",
    Kind.DECIMAL: "DECIMAL(20, 4)",
    Kind.TIMESTAMP: "TIMESTAMPTZ",
    Kind.BOOLEAN: "BOOLEAN",
    Kind.JSON: "JSON",
}
_Tree = dict[str, Any]


def main(payloads: str, folder: str) -> None:
    """Write both files."""
    orders = f"SELECT {_named(ORDERS)} FROM {_lines(payloads, _tree(ORDERS))}"
    lines = _lines(payloads, {"number": "VARCHAR", ITEMS_KEY: f"{_struct(_tree(ORDER_ITEMS))}[]"})
    items = (
        f"SELECT order_number, item_index, {_named(ORDER_ITEMS, 'item.')} FROM (SELECT number AS order_number,"
        f" unnest(range(len({ITEMS_KEY}))) AS item_index, unnest({ITEMS_KEY}) AS item FROM {lines})"
    )
    for name, query in (("orders", orders), ("order_items", items)):
        duckdb.execute(
            f"COPY ({query}) TO '{folder}/{name}.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
        )


def _lines(payloads: str, tree: _Tree) -> str:
    types = ", ".join(f"'{key}': '{_struct(kind)}'" for key, kind in tree.items())
    return f"read_json('{payloads}', format = 'newline_delimited', columns = {{{types}}})"


def _tree(columns: tuple[Column, ...]) -> _Tree:
    tree: _Tree = {}
    for column in (column for column in columns if column.path):
        place = tree
        for key in column.path[:-1]:
            place = place.setdefault(key, {})
        place[column.path[-1]] = _TYPES[column.kind]
    return tree


def _struct(kind: _Tree | str) -> str:
    if isinstance(kind, str):
        return kind
    return "STRUCT({})".format(", ".join(f'"{key}" {_struct(inner)}' for key, inner in kind.items()))


def _named(columns: tuple[Column, ...], holder: str = "") -> str:
    paths = ((column.name, '"."'.join(column.path)) for column in columns if column.path)
    return ", ".join(f'{holder}"{path}" AS "{name}"' for name, path in paths)


if __name__ == "__main__":
    main(*sys.argv[1:])

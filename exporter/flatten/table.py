"""One batch of one table: bodies spread over columns, leftovers gathered beside them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from exporter.catalog import Column, Kind
from exporter.flatten.columns import make_column
from exporter.flatten.hide import Hide
from exporter.flatten.leftovers import Drift, Leftovers
from exporter.flatten.literals import literal_of, respell, write_text
from exporter.flatten.odd import Undeclared
from exporter.flatten.schema import JSON_TYPE
from exporter.flatten.shape import Place


class TableMaker:
    """Make one table of a batch.

    Args:
        rows: How many rows it has.
        drift: Where leftovers are counted.
        prefix: What leads to this table's paths, in the counts.
        hide: What becomes of personal columns.
    """

    def __init__(self, rows: int, *, drift: Drift, prefix: str, hide: Hide) -> None:
        self._arrays: dict[str, pa.Array] = {}
        self._lists: dict[str, list[Sequence[Any]]] = {}
        self._drift = drift
        self._hide = hide
        self._leftovers = Leftovers(rows, prefix)

    def add(self, name: str, array: pa.Array) -> None:
        """Add a column that the exporter makes itself."""
        self._arrays[name] = array

    def spread(self, place: Place, held: list[Any], odd_rows: Collection[int]) -> None:
        """Spread what each row holds in a place over the place's columns, and those of the places in it.

        Args:
            place: The place.
            held: For each row a body of the place, or None, or what stands there instead of an object.
            odd_rows: The rows whose leaves are raw.
        """
        bodies = held
        strays = {
            row: _stray(value)
            for row, value in enumerate(held)
            if type(value) is not place.struct and value is not None
        }
        if strays or None in held:
            bodies = [body if type(body) is place.struct else place.empty for body in held]
            self._leftovers.add(place.path, strays, self._drift.uncoerced)
        for key, leaf in place.leaves.items():
            array, misfits = make_column(leaf, place.values(key, bodies), odd_rows)
            self._arrays[leaf.column.name] = array
            self._leftovers.add(leaf.column.path, misfits, self._drift.uncoerced)
        for key, path in place.unknowns.items():
            raws = enumerate(place.values(key, bodies))
            literals = {row: literal_of(raw) for row, raw in raws if raw is not None}
            self._leftovers.add(path, literals, self._drift.unmapped_paths)
        for key in place.list_keys:
            self._lists[key] = self._spread_list((*place.path, key), place.values(key, bodies))
        for key, inner in place.places.items():
            self.spread(inner, place.values(key, bodies), odd_rows)

    def _spread_list(self, path: tuple[str, ...], held: list[Any]) -> list[Sequence[Any]]:
        strays = {row: _stray(value) for row, value in enumerate(held) if isinstance(value, msgspec.Raw)}
        self._leftovers.add(path, strays, self._drift.uncoerced)
        return [value if isinstance(value, list) else () for value in held]

    def add_undeclared(self, undeclared: Mapping[int, Undeclared]) -> None:
        """Add what odd orders held under keys that nobody declared."""
        for row, literals in undeclared.items():
            for path, literal in literals.items():
                self._leftovers.add(path, {row: literal}, self._drift.unmapped_paths)

    def lists(self, key: str) -> list[Sequence[Any]]:
        """Give the lists that the rows held under a key."""
        return self._lists[key]

    def finish(self, columns: Sequence[Column], schema: pa.Schema) -> pa.Table:
        """Make the table, with personal columns hidden and leftovers in the last column."""
        self.add("_unmapped", self._leftovers.texts())
        arrays = [self._finished(column) for column in columns]
        return pa.Table.from_arrays(arrays, schema=schema)

    def _finished(self, column: Column) -> pa.Array:
        array = self._hide(column, self._arrays[column.name])
        return pa.ExtensionArray.from_storage(JSON_TYPE, array) if column.kind is Kind.JSON else array


def _stray(value: Any) -> str:
    if isinstance(value, msgspec.Raw):
        return respell(literal_of(value))
    return write_text(value) if isinstance(value, str) else str(value)

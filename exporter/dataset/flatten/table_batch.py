"""One batch of one table: bodies spread over columns, leftovers gathered beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import msgspec
import pyarrow as pa

from exporter.dataset.flatten.cells import make_values
from exporter.dataset.flatten.decoder_types import Leaf, Place
from exporter.dataset.flatten.irregular_orders import Undeclared
from exporter.dataset.flatten.json_literals import literals_of, spell
from exporter.dataset.flatten.paths import Path
from exporter.dataset.flatten.personal_data import Hide
from exporter.dataset.flatten.unmapped import Drift, Leftovers
from exporter.model.catalog import Column, Kind


class TableMaker:
    """Make one table of a batch.

    Args:
        rows: How many rows it has.
        odd_rows: The rows whose leaves are raw.
        drift: Where leftovers are counted.
        prefix: What leads to this table's paths, in the counts.
    """

    def __init__(self, rows: int, odd_rows: Collection[int], *, drift: Drift, prefix: str) -> None:
        self._rows = rows
        self._odd_rows = odd_rows
        self._drift = drift
        self._leftovers = Leftovers(prefix)
        self._arrays: dict[str, pa.Array] = {}
        self._lists: dict[str, list[Sequence[Any]]] = {}
        self._blocks = {kind: _Block() for kind in Kind}

    def add(self, name: str, array: pa.Array) -> None:
        """Add a column that the exporter makes itself."""
        self._arrays[name] = array

    def add_undeclared(self, undeclared: Mapping[int, Undeclared]) -> None:
        """Add what odd orders held under keys that nobody declared, by row."""
        for row, literals in undeclared.items():
            for path, literal in literals.items():
                self._leftovers.add_undeclared(path, {row: literal}, self._drift)

    def spread(self, place: Place, held: Sequence[Any]) -> None:
        """Spread what each row holds in a place over the place's columns, and those of the places in it.

        For each row, `held` has a body of the place, or None, or what stands there instead of an object.
        """
        columns = self._columns(place, held)
        for key, leaf in place.leaves.items():
            block = self._blocks[leaf.column.kind]
            block.leaves.append(leaf)
            block.cells.extend(columns[key])
        for key, path in place.unknowns.items():
            raws = {row: raw for row, raw in enumerate(columns[key]) if raw is not None}
            literals = literals_of(list(raws.values()))
            self._leftovers.add_undeclared(path, dict(zip(raws, literals, strict=True)), self._drift)
        for key in place.list_keys:
            self._spread_lists((*place.path, key), columns[key])
        for key, inner in place.places.items():
            self.spread(inner, columns[key])

    def _columns(self, place: Place, held: Sequence[Any]) -> dict[str, Sequence[Any]]:
        if set(map(type, held)) - {place.struct}:
            strays = {row: spell(value) for row, value in enumerate(held) if _is_stray(place, value)}
            self._leftovers.add(place.path, strays, self._drift.uncoerced)
            held = [value if type(value) is place.struct else place.empty for value in held]
        columns = zip(*map(msgspec.structs.astuple, held), strict=True) if held else repeat(())
        return dict(zip(place.fields, columns, strict=False))

    def _spread_lists(self, path: Path, held: Sequence[Any]) -> None:
        strays = {row: spell(value) for row, value in enumerate(held) if isinstance(value, msgspec.Raw)}
        self._leftovers.add(path, strays, self._drift.uncoerced)
        self._lists[path[-1]] = [value if isinstance(value, list) else () for value in held]

    def lists(self, key: str) -> list[Sequence[Any]]:
        """Give the list that each row held under a key; empty where it held none."""
        return self._lists[key]

    def finish(self, columns: Sequence[Column], schema: pa.Schema, hide: Hide) -> pa.Table:
        """Make the table, with personal columns hidden and leftovers in the last column."""
        for kind, block in self._blocks.items():
            self._finish_block(kind, block)
        self.add("_unmapped", self._leftovers.texts(self._rows))
        arrays = [hide(column, self._arrays[column.name]) for column in columns]
        return pa.Table.from_arrays(arrays, schema=schema)

    def _finish_block(self, kind: Kind, block: _Block) -> None:
        rows = self._rows
        values, misfits = make_values(kind, block.cells, block.raw_at(rows, self._odd_rows))
        by_leaf: defaultdict[int, dict[int, str]] = defaultdict(dict)
        for at, literal in misfits.items():
            by_leaf[at // rows][at % rows] = literal
        for number, leaf in enumerate(block.leaves):
            self._arrays[leaf.column.name] = values.slice(number * rows, rows)
            self._leftovers.add(leaf.column.path, by_leaf[number], self._drift.uncoerced)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Block:
    """All cells of one kind, column after column.

    Arrow is called once for each kind: at 500 rows, once for each column costs a third more.
    """

    leaves: list[Leaf] = field(default_factory=list)
    cells: list[Any] = field(default_factory=list)

    def raw_at(self, rows: int, odd_rows: Collection[int]) -> list[int]:
        """Tell where raw JSON may stand among the cells."""
        return [
            number * rows + row
            for number, leaf in enumerate(self.leaves)
            for row in (range(rows) if leaf.raw else odd_rows)
        ]


def _is_stray(place: Place, value: Any) -> bool:
    return value is not None and type(value) is not place.struct

"""One batch of one table: bodies spread over columns, leftovers gathered beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
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
        odd_rows: What was under undeclared keys of each row whose leaves are raw.
        drift: Where leftovers are counted.
        prefix: What leads to this table's paths, in the counts.
    """

    def __init__(self, rows: int, odd_rows: Mapping[int, Undeclared], drift: Drift, prefix: str) -> None:
        self._rows, self._odd_rows, self._drift = rows, odd_rows, drift
        self._leftovers = Leftovers(prefix)
        self._arrays: dict[str, pa.Array] = {}
        # All leaves of one kind and their cells, column after column: Arrow is called once for each kind. At 500 rows,
        # once for each column costs a third more.
        self._leaves: dict[Kind, list[Leaf]] = {kind: [] for kind in Kind}
        self._cells: dict[Kind, list[Any]] = {kind: [] for kind in Kind}
        for row, undeclared in odd_rows.items():
            for path, literal in undeclared.items():
                self._leftovers.add_undeclared(path, {row: literal}, drift)

    def add(self, name: str, values: Sequence[Any], kind: pa.DataType) -> None:
        """Add a column that the exporter makes itself."""
        self._arrays[name] = pa.array(values, kind)

    def add_strays(self, path: Path, strays: Mapping[int, Any]) -> None:
        """Add what is in a place instead of an object or a list, by row."""
        literals = {row: spell(value) for row, value in strays.items()}
        self._leftovers.add(path, literals, self._drift.uncoerced)

    def spread(self, place: Place, held: Sequence[Any]) -> None:
        """Spread what each row holds in a place over the place's columns, and those of the places in it.

        For each row, `held` has a body of the place, or None, or what is there instead of an object.
        """
        columns = self._columns(place, held)
        for key, leaf in place.leaves.items():
            self._leaves[leaf.column.kind].append(leaf)
            self._cells[leaf.column.kind].extend(columns[key])
        for key, path in place.unknowns.items():
            raws = {row: raw for row, raw in enumerate(columns[key]) if raw is not None}
            literals = dict(zip(raws, literals_of(list(raws.values())), strict=True))
            self._leftovers.add_undeclared(path, literals, self._drift)
        for key, inner in place.places.items():
            self.spread(inner, columns[key])

    def _columns(self, place: Place, held: Sequence[Any]) -> dict[str, Sequence[Any]]:
        struct = place.struct
        if set(map(type, held)) - {struct}:
            strays = {row: value for row, value in enumerate(held) if not isinstance(value, struct | None)}
            self.add_strays(place.path, strays)
            held = [value if type(value) is struct else place.empty for value in held]
        columns = zip(*map(msgspec.structs.astuple, held), strict=True) if held else repeat(())
        return dict(zip(place.fields, columns, strict=False))

    def finish(self, columns: Sequence[Column], schema: pa.Schema, hide: Hide) -> pa.Table:
        """Make the table, with personal columns hidden and leftovers in the last column."""
        for kind in Kind:
            self._finish_kind(kind)
        self._arrays["_unmapped"] = self._leftovers.texts(self._rows)
        arrays = [hide(column, self._arrays[column.name]) for column in columns]
        return pa.Table.from_arrays(arrays, schema=schema)

    def _finish_kind(self, kind: Kind) -> None:
        rows = self._rows
        values, misfits = make_values(kind, self._cells[kind], self._raw_at(kind))
        by_leaf: defaultdict[int, dict[int, str]] = defaultdict(dict)
        for at, literal in misfits.items():
            by_leaf[at // rows][at % rows] = literal
        for number, leaf in enumerate(self._leaves[kind]):
            self._arrays[leaf.column.name] = values.slice(number * rows, rows)
            self._leftovers.add(leaf.column.path, by_leaf[number], self._drift.uncoerced)

    def _raw_at(self, kind: Kind) -> list[int]:
        """Tell where raw JSON may be among the cells of a kind."""
        every: Collection[int] = range(self._rows)
        return [
            number * self._rows + row
            for number, leaf in enumerate(self._leaves[kind])
            for row in (every if leaf.raw else self._odd_rows)
        ]

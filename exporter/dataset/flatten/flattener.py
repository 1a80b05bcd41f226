"""Payloads to the two Arrow tables, a batch at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate, chain, repeat
from typing import Any

import msgspec
import pyarrow as pa

from exporter.dataset.flatten.arrow_schema import ORDER_ITEMS_SCHEMA, ORDERS_SCHEMA
from exporter.dataset.flatten.cells import make_values
from exporter.dataset.flatten.decoder_types import NULL, Leaf, Place
from exporter.dataset.flatten.irregular_orders import Learner, OddOrder, Undeclared, take_apart
from exporter.dataset.flatten.json_literals import literals_of, spell
from exporter.dataset.flatten.personal_data import hide
from exporter.dataset.flatten.unmapped import Drift, Leftovers, Path
from exporter.model.catalog import ITEMS_KEY, ORDER_ITEMS, ORDERS, Column, Kind
from exporter.model.options import Pii


class Flattener:
    """Turn payloads into order rows and item rows, exactly or into `_unmapped`.

    It learns which undeclared keys and odd types keep coming, and gets faster on them; what it returns
    depends on the payload alone, never on its neighbours or on what came before.

    By `pii`, personal columns are kept, null (`drop`) or HMAC-SHA256 with `pii_key` in hex (`hash`); in the last
    two, JSON columns and `_unmapped` are null too. `drift` counts what left the catalogue so far, by path.
    """

    def __init__(self, *, pii: Pii = "keep", pii_key: bytes | None = None) -> None:
        self.drift = Drift(hides_keys=pii != "keep")
        if pii == "hash" and not pii_key:
            raise ValueError("pii='hash' needs a pii_key")
        self._hide = partial(hide, pii, pii_key or b"")
        self._learner = Learner()
        self._begin()

    def _begin(self) -> None:
        #: Orders that wait for `tables`: their numbers, decoded payloads, and items.
        self._numbers: list[str] = []
        self._bodies: list[Any] = []
        self._lists: list[Sequence[Any]] = []
        #: Items that wait for `tables`.
        self.items = 0
        self._odd: dict[int, OddOrder] = {}
        self._strays: dict[int, Any] = {}

    def flatten(self, payloads: Iterable[tuple[str, bytes]]) -> tuple[pa.Table, pa.Table]:
        """Flatten a batch into `orders`, a row for each payload, and `order_items`; see `add`."""
        for number, payload in payloads:
            self.add(number, payload)
        return self.tables()

    def add(self, number: str, payload: bytes) -> None:
        """Take in an order for the next `tables`.

        Its payload has passed `exporter.api.payload_check.check`. Together they are under 2 GiB, which is what one
        Arrow array of text can hold.
        """
        shape, row = self._learner.shape, len(self._bodies)
        try:
            body = shape.decode(payload)
        except (msgspec.DecodeError, RecursionError):
            self._odd[row] = odd = take_apart(payload, shape)
            body = odd.body
        items = getattr(body, shape.order.fields[ITEMS_KEY])
        if not isinstance(items, list):
            if isinstance(items, msgspec.Raw):
                self._strays[row] = items
            items = ()
        self._numbers.append(number)
        self._bodies.append(body)
        self._lists.append(items)
        self.items += len(items)

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """Return `orders` and `order_items` of what was added since the last time; 250 to 500 orders are fastest."""
        odd = self._odd
        orders = _TableMaker(
            len(self._bodies), {row: one.undeclared for row, one in odd.items()}, self.drift, ""
        )
        orders.spread(self._learner.shape.order, self._bodies)
        orders.add_strays((ITEMS_KEY,), self._strays)
        items = self._items(self._numbers, self._lists, odd)
        self._begin()
        self._learner.learn(odd.values())
        return (
            orders.finish(ORDERS, ORDERS_SCHEMA, self._hide),
            items.finish(ORDER_ITEMS, ORDER_ITEMS_SCHEMA, self._hide),
        )

    def _items(self, numbers: list[str], lists: list[Sequence[Any]], odd: dict[int, OddOrder]) -> _TableMaker:
        # A null entry is a row with a leftover, unlike a null customer.
        entries = [NULL if entry is None else entry for entry in chain.from_iterable(lists)]
        counts = list(map(len, lists))
        maker = _TableMaker(len(entries), _by_item_row(counts, odd), self.drift, f"{ITEMS_KEY}[]")
        maker.add("order_number", list(chain.from_iterable(map(repeat, numbers, counts))), pa.string())
        maker.add("item_index", list(chain.from_iterable(map(range, counts))), pa.int64())
        maker.spread(self._learner.shape.item, entries)
        return maker


def _by_item_row(counts: list[int], odd: dict[int, OddOrder]) -> dict[int, Undeclared]:
    firsts = list(accumulate(counts, initial=0)) if odd else ()
    return {
        firsts[row] + index: undeclared
        for row, order in odd.items()
        for index, undeclared in enumerate(order.item_undeclared)
    }


class _TableMaker:
    """One table of a batch; `odd_rows` has what was under undeclared keys of each row whose leaves are raw.

    Leftovers are counted in `drift`, under paths that begin with `prefix`.
    """

    def __init__(self, rows: int, odd_rows: Mapping[int, Undeclared], drift: Drift, prefix: str) -> None:
        self._rows, self._odd_rows, self._drift = rows, odd_rows, drift
        self._leftovers = Leftovers(prefix)
        self._arrays: dict[str, pa.Array] = {}
        # All leaves of one kind and their cells, column after column: Arrow is called once for each kind. At
        # 500 rows, once for each column costs a third more.
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

    def finish(self, columns: Sequence[Column], schema: pa.Schema, hide: Callable[..., pa.Array]) -> pa.Table:
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

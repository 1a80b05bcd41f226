"""Payloads to the two Arrow tables, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain, repeat
from typing import Any

import msgspec
import pyarrow as pa

from exporter.dataset.flatten.arrow_schema import ORDER_ITEMS_SCHEMA, ORDERS_SCHEMA
from exporter.dataset.flatten.decoder_types import NULL
from exporter.dataset.flatten.irregular_orders import Learner, OddOrder, Undeclared, take_apart
from exporter.dataset.flatten.personal_data import Hide
from exporter.dataset.flatten.table_batch import TableMaker
from exporter.dataset.flatten.unmapped import Drift
from exporter.model.catalog import ITEMS_KEY, ORDER_ITEMS, ORDERS
from exporter.model.options import Pii


class Flattener:
    """Turn payloads into order rows and item rows, exactly or into `_unmapped`.

    It learns which undeclared keys and odd types keep coming, and gets faster on them; what it returns
    depends on the payload alone, never on its neighbours or on what came before.

    Args:
        pii: What becomes of personal columns: `keep`, `drop` (null) or `hash` (HMAC-SHA256 in hex). In
            the last two, JSON columns and `_unmapped` are null too.
        pii_key: The key for `hash`.

    Attributes:
        drift: What left the catalogue so far, by path.

    Raises:
        ValueError: `hash` without a key.
    """

    def __init__(self, *, pii: Pii = "keep", pii_key: bytes | None = None) -> None:
        self.drift = Drift(hides_keys=pii != "keep")
        self._hide = Hide(pii, pii_key)
        self._learner = Learner()

    def flatten(self, payloads: Sequence[tuple[str, bytes]]) -> tuple[pa.Table, pa.Table]:
        """Flatten a batch into `orders`, a row for each payload, and `order_items`; 250 to 500 orders are fastest.

        Each payload has passed `exporter.api.payload_check.check`. Together they are under 2 GiB, which is what one
        Arrow array of text can hold.
        """
        shape = self._learner.shape
        bodies: list[Any] = []
        odd: dict[int, OddOrder] = {}
        for row, (_, payload) in enumerate(payloads):
            try:
                bodies.append(shape.decode(payload))
            except (msgspec.DecodeError, RecursionError):
                odd[row] = take_apart(payload, shape)
                bodies.append(odd[row].body)
        orders = TableMaker(len(bodies), {row: one.undeclared for row, one in odd.items()}, self.drift, "")
        orders.spread(shape.order, bodies)
        field = shape.order.fields[ITEMS_KEY]
        held = [getattr(body, field) for body in bodies]
        orders.add_strays(
            (ITEMS_KEY,), {row: one for row, one in enumerate(held) if isinstance(one, msgspec.Raw)}
        )
        lists: list[Sequence[Any]] = [one if isinstance(one, list) else () for one in held]
        items = self._items([number for number, _ in payloads], lists, odd)
        self._learner.learn(odd.values())
        return (
            orders.finish(ORDERS, ORDERS_SCHEMA, self._hide),
            items.finish(ORDER_ITEMS, ORDER_ITEMS_SCHEMA, self._hide),
        )

    def _items(self, numbers: list[str], lists: list[Sequence[Any]], odd: dict[int, OddOrder]) -> TableMaker:
        # A null entry is a row with a leftover, unlike a null customer.
        entries = [NULL if entry is None else entry for entry in chain.from_iterable(lists)]
        counts = list(map(len, lists))
        maker = TableMaker(len(entries), _by_item_row(counts, odd), self.drift, f"{ITEMS_KEY}[]")
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

"""`order_lines`: each item beside its order, the order's money once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from exporter.dataset.flatten import SCHEMAS, Flattener, make_lines
from exporter.model.catalog import ORDER_ITEMS, ORDER_LINES, ORDERS, line_name
from exporter.model.options import Pii
from tests.support.datasets import demo_payloads

pytestmark = pytest.mark.fast

_MONEY = [column.name for column in ORDERS if column.money]


def flat(payloads: Sequence[dict[str, Any]], pii: Pii = "keep") -> tuple[pa.Table, pa.Table, pa.Table]:
    numbers = [str(payload["number"]) for payload in payloads]
    batch = [(number, json.dumps(p).encode()) for number, p in zip(numbers, payloads, strict=True)]
    orders, items = Flattener(pii=pii, pii_key=b"k" * 32).flatten(batch)
    return orders, items, make_lines(numbers, orders, items)


def some_payloads() -> list[dict[str, Any]]:
    """Orders with several items, one and none, also the first and the last."""
    payloads = demo_payloads(12)
    for at in (0, 4, 5, 11):
        payloads[at]["orderitem_set"] = []
    return payloads


def test_each_item_has_a_row_and_so_has_an_order_without_items() -> None:
    """Rows are in the order of orders and items, whole orders beside whole items."""
    payloads = some_payloads()
    orders, items, lines = flat(payloads)
    expected = [
        (order["number"], index if item else None, item.get("id"))
        for order in payloads
        for index, item in enumerate(order["orderitem_set"] or [{}])
    ]
    found = list(zip(*(lines[name].to_pylist() for name in ("number", "item_index", "item_id")), strict=True))
    assert found == expected
    assert lines.schema.equals(SCHEMAS["order_lines"], check_metadata=True)
    with_item = lines.filter(pc.is_valid(lines["item_index"]))
    for column in ORDER_ITEMS[1:]:
        assert with_item[line_name(column.name)].to_pylist() == items[column.name].to_pylist()
    first = lines.filter(pc.equal(pc.fill_null(lines["item_index"], 0), 0))
    for column in ORDERS:
        assert first[column.name].to_pylist() == orders[column.name].to_pylist()


def test_sums_of_the_orders_money_are_those_of_orders() -> None:
    """An order's amounts are on its first line only; its other columns are on each."""
    orders, _, lines = flat(some_payloads())
    assert _MONEY == [
        "amount",
        "shipping_amount",
        "installment_interest_amount",
        "refund_amount",
        "discount_refund_amount",
        "shipping_refund_amount",
        "discount_amount",
        "net_shipping_amount",
        "shipping_interest_amount",
    ]
    for name in _MONEY:
        assert pc.sum(lines[name]) == pc.sum(orders[name])
    later = lines.filter(pc.greater(pc.fill_null(lines["item_index"], 0), 0))
    assert later.num_rows
    assert later["amount"].null_count == later.num_rows
    assert later["date_placed"].null_count == later["status"].null_count == 0


def test_descriptions_say_what_repeats() -> None:
    """A reader of the schema learns which columns are the order's, and which may be summed."""
    meanings = {column.name: column.meaning for column in ORDER_LINES}
    assert meanings["amount"].endswith(
        "(the order's, on the order's first line only, so that sums are right)"
    )
    assert meanings["status"].endswith("(the order's, on each line)")
    assert all("item" in meaning.lower() for name, meaning in meanings.items() if name.startswith("item_"))
    assert [column.name for column in ORDER_LINES if not column.nullable] == ["number"]


def test_no_order_at_all_gives_an_empty_table() -> None:
    """The columns are there."""
    assert flat([])[2].schema.equals(SCHEMAS["order_lines"])


@pytest.mark.parametrize("pii", ["drop", "hash"])
def test_personal_columns_are_hidden_there_too(pii: Pii) -> None:
    """No line says what `orders` and `order_items` keep to themselves."""
    payloads = some_payloads()
    payloads[1]["orderitem_set"][0]["surprise"] = "Ayşe"
    _, _, lines = flat(payloads, pii)
    secrets = {payload["customer"]["email"] for payload in payloads} | {"Ayşe"}
    assert not any(secret in str(lines.to_pylist()) for secret in secrets)
    assert lines["item__unmapped"].null_count == lines.num_rows


def test_what_fits_no_column_stays_with_its_table() -> None:
    """`_unmapped` is the order's, `item__unmapped` the item's."""
    payloads = demo_payloads(1)
    payloads[0] |= {"odd": 1}
    payloads[0]["orderitem_set"] = [{"price": "2.50", "strange": 2}, None]
    lines = flat(payloads)[2]
    assert lines["_unmapped"].to_pylist() == ['{"odd":1}'] * 2
    assert lines["item__unmapped"].to_pylist() == ['{"strange":2}', '{"":null}']
    assert lines["item_price"].to_pylist() == [Decimal("2.5000"), None]

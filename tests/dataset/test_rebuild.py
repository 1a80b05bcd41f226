"""The theorem: rows and their `_unmapped` hold the whole payload."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.dataset.flatten import Flattener, rebuild
from exporter.dataset.flatten.unmapped import join, split
from tests.support.thorough import examples
from tests.support.wild_json import SAMPLE, meaning, parse, payload_texts, texts

pytestmark = pytest.mark.fast


def _rebuilt(payload: bytes, flattener: Flattener | None = None) -> Any:
    orders, items = (flattener or Flattener()).flatten([("A1", payload)])
    return rebuild(orders.to_pylist()[0], items.to_pylist())


@settings(max_examples=examples(200), deadline=None)
@given(payload_texts)
def test_any_payload_can_be_rebuilt(text: str) -> None:
    """Whatever JSON stands wherever in an order, its rows hold every leaf, key and element, in order."""
    assert meaning(_rebuilt(text.encode())) == meaning(parse(text))


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(payload_texts, min_size=5, max_size=8))
def test_what_was_learned_changes_no_row(payloads: list[str]) -> None:
    """An order's rows are the same alone, among any neighbours, and after any number of other orders."""
    batch = [(str(number), text.encode()) for number, text in enumerate(payloads)]
    taught = Flattener()
    for _ in range(5):
        taught.flatten(batch)
    orders, items = taught.flatten(batch)
    for number, payload in batch:
        alone_orders, alone_items = Flattener().flatten([(number, payload)])
        assert orders.slice(int(number), 1).to_pylist() == alone_orders.to_pylist()
        assert [row for row in items.to_pylist() if row["order_number"] == number] == alone_items.to_pylist()


def test_the_sample_comes_back_but_for_nulls() -> None:
    """The documented example comes back whole; only nulls are absent and numbers differ in spelling."""
    rebuilt = _rebuilt(SAMPLE)
    assert meaning(rebuilt) == meaning(parse(SAMPLE))
    assert rebuilt["amount"] == Decimal("16.40")
    assert rebuilt["date_placed"] == "2017-01-30T08:28:26.158165Z"


def test_numbers_beyond_int64_and_decimal_come_back_digit_for_digit() -> None:
    """No number in free-form JSON becomes a float, however long."""
    digits = "9" * 5000
    rebuilt = _rebuilt(
        f'{{"id": {digits}, "extra_field": {{"a": 0.1000000000000000055511151231257827}}}}'.encode()
    )
    assert rebuilt["id"] == Decimal(digits)
    assert rebuilt["extra_field"]["a"] == Decimal("0.1000000000000000055511151231257827")


def test_items_that_are_no_objects_keep_their_places() -> None:
    """Null, a number and a list between objects come back where they stood."""
    entries = [{"id": 1}, None, 7, {}, "x", [1, {"id": 2}], {"": 3}]
    assert _rebuilt(json.dumps({"orderitem_set": entries}).encode()) == {"orderitem_set": entries}


@given(st.lists(texts, max_size=4).map(tuple))
def test_a_path_can_be_split_again(path: tuple[str, ...]) -> None:
    """Keys with dots, backslashes or nothing in them never collide in `_unmapped`."""
    assert split(join(path)) == path


@given(st.lists(texts, max_size=3).map(tuple), st.lists(texts, max_size=3).map(tuple))
def test_two_paths_never_share_a_text(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """`join` is injective."""
    assert (join(one) == join(other)) == (one == other)

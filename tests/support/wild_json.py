"""Hypothesis strategies for JSON text as an API can send it, and the meaning that must survive."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from exporter.model.catalog import ORDER_ITEMS, ORDERS, Column, Kind

SAMPLE = (Path(__file__).parents[1] / "data" / "order_detail.sample.json").read_bytes()


_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


class Number(str):
    """A JSON number as it is written."""

    __slots__ = ()


class Members(list[tuple[str, Any]]):
    """A JSON object as it is written: keys may come twice."""


def render(value: Any) -> str:
    """Write JSON text by hand."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, Members):
        return "{" + ", ".join(f"{json.dumps(key)}:{render(inner)}" for key, inner in value) + "}"
    if isinstance(value, list):
        return "[" + " ,".join(map(render, value)) + "]"
    return json.dumps(value, ensure_ascii=not _has_utf8(value))


def _has_utf8(value: Any) -> bool:
    return not isinstance(value, str) or not any("\ud800" <= letter <= "\udfff" for letter in value)


def parse(text: str | bytes) -> Any:
    """Read JSON without losing a digit; the last of a key wins."""
    return json.loads(text, parse_int=Number, parse_float=Number)


def tree(text: str | bytes) -> Any:
    """Read JSON to be changed and written by hand."""
    return json.loads(text, parse_int=Number, parse_float=Number, object_pairs_hook=Members)


texts = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    [
        "",
        ".",
        "\\",
        "a.b",
        "\\e",
        "\u0000",
        "\ud800",
        "\udc00x",
        "id",
        "orderitem_set",
        "_unmapped",
        '"',
        "DİNAR",
    ]
)
numbers = st.builds(
    lambda sign, digits, fraction, exponent: Number(f"{sign}{digits}{fraction}{exponent}"),
    st.sampled_from(["", "-"]),
    st.integers(0, 10**40).map(str) | st.sampled_from(["0", "9" * 5000, str(2**63), str(2**63 - 1)]),
    st.sampled_from(["", ".0", ".5", ".1234", ".12345", "." + "0" * 40, ".10000000000000000000001"]),
    st.sampled_from(["", "", "e2", "E+2", "e-5", "e400", "e-400", "e99999999999999999999"]),
)
near_misses = st.sampled_from(
    [
        *(
            "27",
            "-0",
            "007",
            "1_0",
            "+5",
            ".5",
            "5.",
            "1e2",
            "16.40",
            "0.12345",
            "12345678901234567.89",
            "NaN",
        ),
        *("٣", "true", "null", "x", "", " 1", "1 ", "1." + "0" * 40, "9" * 20, "9" * 5000),
        *("2017-01-30T08:28:26Z", "2017-01-30T11:28:26.5+03:00", "2017-01-30", "2017-01-30T08:28:26"),
        *("2017-02-30T08:28:26Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+03:00"),
        *("9999-12-31T23:59:59Z", "2017-01-30T08:28:26.1234567Z"),
    ]
)
scalars = st.none() | st.booleans() | numbers | texts | near_misses
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(texts, inner), max_size=3).map(Members),
    max_leaves=8,
)
_KEYS = sorted({key for column in (*ORDERS, *ORDER_ITEMS) for key in column.path} | {"orderitem_set"})
keys = st.sampled_from(_KEYS) | texts


@st.composite
def wild_objects(draw: st.DrawFn, depth: int = 3) -> Members:
    """Draw an object of declared and undeclared keys, with anything under them."""
    inner = (
        values
        if depth == 0
        else values | wild_objects(depth - 1) | st.lists(wild_objects(depth - 1), max_size=3)
    )
    return Members(draw(st.lists(st.tuples(keys, inner), max_size=5)))


@st.composite
def bent_samples(draw: st.DrawFn) -> Members:
    """Draw the documented example, bent in a few places."""
    sample = tree(SAMPLE)
    for _ in range(draw(st.integers(1, 4))):
        _bend(draw, sample)
    return Members(sample)


def _bend(draw: st.DrawFn, node: Any) -> None:
    index = draw(st.integers(0, len(node)))
    if index == len(node):
        node.append((draw(keys), draw(values)) if isinstance(node, Members) else draw(values))
        return
    inner = node[index][1] if isinstance(node, Members) else node[index]
    if isinstance(inner, list) and draw(st.integers(0, 3)):
        _bend(draw, inner)
    elif isinstance(node, Members):
        node[index] = (node[index][0], draw(values))
    else:
        node[index] = draw(values)


payload_texts = (bent_samples() | wild_objects()).map(render)


def meaning(payload: Any) -> Any:
    """Reduce a payload to what the theorem keeps: no spelling, no nulls and empties in declared places."""
    order = _meaning(payload, ORDERS, ())
    entries = order.pop(("declared", "orderitem_set"), [])
    if isinstance(entries, list):
        items = [
            _meaning(entry, ORDER_ITEMS, ()) if _is_object(entry) else anything(entry) for entry in entries
        ]
        return order, items
    return order, anything(entries)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _meaning(node: dict[str, Any], columns: tuple[Column, ...], path: tuple[str, ...]) -> dict[Any, Any]:
    kinds = {column.path: column.kind for column in columns if column.path}
    places = {declared[:length] for declared in kinds for length in range(1, len(declared))}
    kept: dict[Any, Any] = {}
    for key, value in node.items():
        here = (*path, key)
        if here in kinds:
            if value is not None:
                kept[key] = _leaf(kinds[here], value)
        elif here in places:
            inner = _meaning(value, columns, here) if _is_object(value) else value
            if inner is not None and inner != {}:
                kept[key] = inner if _is_object(value) else anything(value)
        elif here == ("orderitem_set",) and columns is ORDERS:
            if value is not None:
                kept["declared", key] = value
        else:
            kept[key] = anything(value)
    return kept


def _leaf(kind: Kind, value: Any) -> Any:
    """Let a number and its text be the same where a column takes both."""
    if kind is Kind.TEXT and isinstance(value, Number | int | Decimal) and not isinstance(value, bool):
        return str(value)
    if kind in {Kind.INTEGER, Kind.DECIMAL} and isinstance(value, str):
        return _digits(Number(value)) if _NUMBER.fullmatch(value) else value
    if kind is Kind.TIMESTAMP and isinstance(value, str) and not isinstance(value, Number):
        return _instant(value)
    return anything(value)


def _instant(text: str) -> Any:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else text
    except (ValueError, OverflowError):
        return text


def anything(value: Any) -> Any:
    """Reduce free-form JSON: numbers to digits and exponent, the rest as it is."""
    if isinstance(value, dict):
        return {key: anything(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [anything(inner) for inner in value]
    if isinstance(value, Number | int | Decimal) and not isinstance(value, bool):
        return _digits(value)
    return value


def _digits(value: Number | int | Decimal) -> Any:
    try:
        sign, digits, exponent = Decimal(value).as_tuple()
    except InvalidOperation:
        return str(value)
    text = "".join(map(str, digits)).lstrip("0")
    bare = text.rstrip("0")
    assert isinstance(exponent, int)
    return ("number", sign, bare, exponent + len(text) - len(bare)) if bare else ("number", 0, "", 0)

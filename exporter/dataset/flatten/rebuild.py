"""Rows back to the payload that they were made from."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from exporter.dataset.flatten.unmapped import Path, split
from exporter.model.catalog import ITEMS_KEY, ORDER_ITEMS, ORDERS, Column, Kind


def rebuild(order_row: Mapping[str, Any], item_rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rebuild a payload from its order row and its item rows.

    Every leaf, key and array element comes back. Only the spelling of numbers and times may differ, and
    keys whose value is null, or an empty object or array in a declared place, may be absent. Rows made
    with `pii` other than `keep` give what they still hold.

    The rows are as `Table.to_pylist()` gives them, the items in order. In the payload amounts are Decimal,
    times ISO 8601 text in UTC; a number inside JSON is an int or a Decimal, never a float, or its text where
    Decimal cannot hold its exponent.
    """
    order: dict[str, Any] = _object(ORDERS, order_row)
    if item_rows and ITEMS_KEY not in order:
        order[ITEMS_KEY] = [_object(ORDER_ITEMS, row) for row in item_rows]
    return order


def _object(columns: Sequence[Column], row: Mapping[str, Any]) -> Any:
    values: dict[Path, Any] = {
        column.path: _SPELL[column.kind](row[column.name]) if column.kind in _SPELL else row[column.name]
        for column in columns
        if column.path and row[column.name] is not None
    }
    values |= {split(name): value for name, value in _read(row["_unmapped"] or "{}").items()}
    if () in values:
        return values[()]
    root: dict[str, Any] = {}
    for (*way, last), value in values.items():
        place = root
        for key in way:
            place = place.setdefault(key, {})
        place[last] = value
    return root


def _read(text: str) -> Any:
    return json.loads(text, parse_int=_number, parse_float=_number)


def _number(literal: str) -> int | Decimal | str:
    try:
        return int(literal)
    except ValueError:  # a fraction, or more digits than Python turns into an int
        pass
    try:
        return Decimal(literal)
    except InvalidOperation:
        return literal


def _time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


_SPELL: dict[Kind, Callable[[Any], Any]] = {Kind.JSON: _read, Kind.TIMESTAMP: _time}

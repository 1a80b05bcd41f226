"""Demo orders that move on from day to day: the same order on the same day is always the same."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any

from exporter.demo.orders import order_numbers, order_payload

_FIRST_DAY = date(2026, 1, 1)
_NEW_A_DAY = 3
#: An order's life begins anew after so many days; each day one in thirty comes to each of its turns.
_LIFE_DAYS = 30
_CANCELLED_AT, _MOVED_AT, _REFUNDED_AT, _GONE_AT = 5, 10, 20, 28
_NEXT_STATUS = {"300": "400", "400": "500", "450": "500", "500": "550", "510": "550", "520": "550"}


@lru_cache(maxsize=2)
def numbers_on(day: date | None, count: int) -> tuple[str, ...]:
    """Return the numbers of the orders that there are: `count` of them, and a few more each day since 2026."""
    if day is None:
        return tuple(order_numbers(count))
    numbers = order_numbers(count + _NEW_A_DAY * max(0, (day - _FIRST_DAY).days))
    return tuple(number for number in numbers if number[0] not in "0123" or _age(number, day) < _GONE_AT)


@lru_cache(maxsize=2)
def known_on(day: date | None, count: int) -> frozenset[str]:
    """Return the same numbers, to find one among them."""
    return frozenset(numbers_on(day, count))


def _age(number: str, day: date) -> int:
    return (day.toordinal() + int(number, 16)) % _LIFE_DAYS


@lru_cache(maxsize=10_000)
def order_on(number: str, day: date | None) -> dict[str, Any]:
    """Return an order as it is on a day; None is the day on which it was made."""
    order = order_payload(number)
    age = 0 if day is None else _age(number, day)
    if age >= _CANCELLED_AT and len(order["orderitem_set"]) > 2:
        item = order["orderitem_set"][-1]
        item |= {"status": "100", "cancel_status": "completed"}
        order["refund_amount"] = str(Decimal(order["refund_amount"]) + Decimal(item["price"]))
    if age >= _MOVED_AT and (status := _NEXT_STATUS.get(order["status"])):
        _move(order, status)
    if age >= _REFUNDED_AT and order["status"] == "550":
        order["refund_amount"] = order["amount"]
        _move(order, "600")
    return order


def _move(order: dict[str, Any], status: str) -> None:
    order["status"] = status
    for item in order["orderitem_set"]:
        item["status"] = status if item["status"] != "100" else "100"

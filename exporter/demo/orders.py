"""Orders that look like the API's own example, each made from its order number, and moving on from day to day."""

import random
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

_T = TypeVar("_T")
_Json = dict[str, Any]
_WORDS = tomllib.loads(Path(__file__).with_name("vocabulary.toml").read_text("utf-8"))
_STATUSES = [status for status, share in _WORDS["status_shares"].items() for _ in range(share)]
#: City, township and district, each with its id, and the post code.
_PLACES = [
    ((city_id, city), (township_id, township), (township_id * 10 + index, district), postcode)
    for city_id, city, township_id, township, postcode, districts in _WORDS["places"]
    for index, district in enumerate(districts)
]
_FIRST_ORDER_S = int(datetime(2019, 1, 1, tzinfo=UTC).timestamp())
_DAYS = 2_500
_TURKEY_TIME = timezone(timedelta(hours=3))
_NUMBER_SPACE = 16**15
_SENT = frozenset({"500", "510", "520", "540", "550", "600"})
_CANCEL_STATUSES = ("waiting", "confirmed", "approved", "completed", "manuel_refund_need")
_FIRST_DAY = date(2026, 1, 1)
_NEW_A_DAY = 3
#: An order's life begins again after so many days; each day one in thirty comes to each of its turns.
_LIFE_DAYS = 30
_CANCELLED_AT, _MOVED_AT, _REFUNDED_AT, _GONE_AT = 5, 10, 20, 28
_NEXT_STATUS = {"300": "400", "400": "500", "450": "500", "500": "550", "510": "550", "520": "550"}


class _Dice:
    """Draws that hold on every Python version: only `Random.random` is promised to."""

    def __init__(self, seed_text: str) -> None:
        seed = int.from_bytes(blake2b(seed_text.encode(), digest_size=8).digest(), "big")
        self.random = random.Random(seed).random  # noqa: S311 (demo data, not a secret)

    def below(self, limit: int) -> int:
        return int(self.random() * limit)

    def pick(self, choices: Sequence[_T]) -> _T:
        return choices[self.below(len(choices))]

    def maybe(self, share: float, value: _T) -> _T | None:
        return value if self.random() < share else None

    def digits(self, count: int) -> str:
        return f"{self.below(10**count):0{count}d}"


def order_numbers(count: int, start: int = 0) -> Iterator[str]:
    """List demo order numbers from the place `start` on: 15 hexadecimal characters, never one twice.

    >>> list(order_numbers(2))
    ['65a81ab6771eacb', '168c60f2f2daa2b']
    """
    return (f"{_scatter(index):015x}" for index in range(start, start + count))


def _scatter(index: int) -> int:
    """Each step can be undone within 60 bits, so no two indexes meet."""
    mixed = (index * 0x9E3779B97F4A7C15 + 0xBF7B66149236455) % _NUMBER_SPACE
    mixed ^= mixed >> 31
    mixed = mixed * 0x94D049BB133111EB % _NUMBER_SPACE
    return mixed ^ mixed >> 31


def order_payload(number: str) -> dict[str, Any]:
    """Make the order of any text, always the same one, with every key of the documented example, in its order."""
    dice = _Dice(number)
    status = dice.pick(_STATUSES)
    order_id, placed_s = dice.below(10**12), _FIRST_ORDER_S + dice.below(_DAYS * 86_400)
    lines = [_line(dice) for _ in range(1 + dice.below(5))]
    price, discount, interest = map(sum, zip(*lines, strict=True))
    shipping = dice.pick((0, 850, 2_990, 4_999))
    amount = price - discount + interest + shipping
    sent, refunded = status in _SENT, int(status == "600")
    tracking_number = dice.digits(12) if sent else None
    customer = _customer(dice)
    address = _address(dice, customer)
    order = {
        "id": order_id,
        "number": number,
        "status": status,
        "date_placed": _time(dice, placed_s),
        "customer": customer,
        "shipping_address": address,
        "billing_address": address if dice.random() < 0.7 else _address(dice, customer),
        "currency": "try",
        "amount": _decimal(amount),
        "shipping_amount": _decimal(shipping),
        "shipping_tax_rate": dice.maybe(0.3, "20.00"),
        "extra_field": {"cargo_line_id": str(UUID(int=dice.below(2**64) << 64 | dice.below(2**64)))}
        if dice.random() < 0.7
        else {},
        **dice.pick(_WORDS["payment_options"]),
        "bin_number": f"0{dice.digits(5)}",
        "installment": 1 + dice.below(40),
        "installment_count": dice.pick((1, 1, 1, 3, 6, 12)),
        "installment_interest_amount": _decimal(interest),
        **_invoice(dice, f"DMO{dice.digits(13)}" if sent else "", placed_s, cargo_company=1 + dice.below(3)),
        "refund_amount": _decimal(refunded * amount),
        "discount_refund_amount": _decimal(refunded * discount),
        "shipping_refund_amount": _decimal(refunded * shipping),
        "discount_amount": _decimal(discount),
        "is_send": sent,
        "net_shipping_amount": _decimal(shipping),
        "shipping_interest_amount": "0.00",
        "tracking_number": tracking_number,
        "carrier_shipping_code": tracking_number and f"TR{tracking_number}",
        **_extras(dice),
    }
    items = [_item(dice, order, placed_s, index, *line) for index, line in enumerate(lines)]
    channel = {"name": dice.pick(_WORDS["channels"]), "conf": {"server": "http://localhost:8080/api/v1/"}}
    return {**order, "orderitem_set": items, "channel": channel}


def _line(dice: _Dice) -> tuple[int, int, int]:
    """Draw the price of an item, its discount and its interest, in hundredths."""
    price = 500 + dice.below(250_000)
    return price, dice.pick((0, 0, 0, price // 10)), dice.pick((0, 0, 0, 0, price // 50))


def _item(
    dice: _Dice, order: _Json, placed_s: int, index: int, price: int, discount: int, interest: int
) -> _Json:
    sku, sent = dice.digits(13), order["is_send"]
    return {
        "id": order["id"] * 10 + index,
        "order": order["id"],
        "product_sku": sku,
        "status": order["status"],
        "price_currency": "try",
        "price": _decimal(price),
        "tax_rate": dice.pick(("1.00", "10.00", "18.00", "20.00")),
        "extra_field": {},
        "price_list": 1 + dice.below(3),
        "stock_list": 1 + dice.below(3),
        "cancel_status": dice.pick(_CANCEL_STATUSES) if order["status"] in ("100", "600") else None,
        # Most installations invoice the order and leave its items' fields null.
        **_invoice(dice, f"DMI{dice.digits(13)}" if sent and dice.random() < 0.05 else None, placed_s),
        "installment_interest_amount": _decimal(interest),
        "tracking_number": order["tracking_number"],
        "carrier_shipping_code": order["carrier_shipping_code"],
        "shipping_company": dice.pick(_WORDS["shippers"]) if sent else None,
        "shipment_code": f"S{dice.digits(8)}" if sent else None,
        "external_status": dice.maybe(0.1, 1 + dice.below(20)),
        "discount_amount": _decimal(discount),
        "retail_price": dice.maybe(0.4, _decimal(price * 5 // 4)),
        **_attributes(dice),
        "image": dice.maybe(0.25, f"https://cdn.example.com/{sku}.jpg"),
    }


def _customer(dice: _Dice) -> _Json:
    customer_id = 1 + dice.below(900_000)
    return {
        "id": customer_id,
        "email": f"musteri{customer_id}@example.com",
        "first_name": dice.pick(_WORDS["first_names"]),
        "last_name": dice.pick(_WORDS["last_names"]),
        "phone_number": dice.maybe(0.6, _phone(dice)),
    }


def _address(dice: _Dice, customer: _Json) -> _Json:
    """Draw an address; no real tax or identity number begins with 0."""
    phone = _phone(dice)
    city, township, district, postcode = dice.pick(_PLACES)
    return {
        "email": customer["email"],
        "phone_number": phone,
        "first_name": customer["first_name"],
        "last_name": customer["last_name"],
        "country": {"name": "Turkey", "code": "tr"},
        "city": {"id": city[0], "name": city[1]},
        "line": f"{dice.pick(_WORDS['streets'])} No: {1 + dice.below(180)} D: {1 + dice.below(40)}",
        "title": dice.pick(_WORDS["address_titles"]),
        "township": {"id": township[0], "name": township[1]},
        "district": {"id": district[0], "name": district[1]},
        "postcode": postcode,
        "notes": dice.maybe(0.15, dice.pick(_WORDS["notes"])),
        "company_name": (company := dice.maybe(0.15, dice.pick(_WORDS["companies"]))),
        "tax_office": company and dice.pick(_WORDS["tax_offices"]),
        "tax_no": company and f"0{dice.digits(9)}",
        "e_bill_taxpayer": company is not None and dice.random() < 0.5,
        "identity_number": None if company else dice.maybe(0.2, f"0{dice.digits(10)}"),
        "extra_field": {},
    }


def _phone(dice: _Dice) -> str:
    """No area of Turkey has the code 198; the documented example uses it too."""
    return f"0 (198) {dice.digits(3)}-{dice.digits(4)}"


def _invoice(dice: _Dice, number: str | None, placed_s: int, **before: int) -> _Json:
    return {
        **before,
        "invoice_number": number,
        "invoice_date": _time(dice, placed_s + 90_000) if number else None,
        "e_archive_url": f"https://e-arsiv.example.com/{number}" if number else None,
    }


def _extras(dice: _Dice) -> _Json:
    gift_note = dice.maybe(0.1, dice.pick(_WORDS["gift_notes"]))
    return {
        "remote_addr": dice.maybe(0.5, f"203.0.113.{dice.below(256)}"),
        "has_gift_box": gift_note is not None,
        "gift_box_note": gift_note,
        "external_status": dice.maybe(0.1, 1 + dice.below(20)),
    }


def _attributes(dice: _Dice) -> _Json:
    if dice.random() >= 0.25:
        return {"attributes": {}, "attributes_kwargs": {}}
    colour, size = dice.pick(_WORDS["colours"]), dice.pick(_WORDS["sizes"])
    return {
        "attributes": {"renk": colour, "beden": size},
        "attributes_kwargs": {"renk": {"label": "Renk", "value": colour}},
    }


def _decimal(hundredths: int) -> str:
    return f"{hundredths // 100}.{hundredths % 100:02d}"


def _time(dice: _Dice, unix_s: int) -> str:
    """Write a time as the API does: sometimes without microseconds, as `Z` or as Turkey's offset."""
    microseconds = dice.below(10**6) if dice.random() < 0.8 else 0
    moment = datetime.fromtimestamp(unix_s, UTC).replace(microsecond=microseconds)
    if dice.random() < 0.25:
        return moment.astimezone(_TURKEY_TIME).isoformat()
    return moment.replace(tzinfo=None).isoformat() + "Z"


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

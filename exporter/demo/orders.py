"""Orders that look like the API's own example, each made from its order number alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from hashlib import blake2b
from typing import Any, TypeVar

from exporter.demo import vocabulary

_T = TypeVar("_T")
_Json = dict[str, Any]
_STATUSES = tuple(status for status, share in vocabulary.STATUS_SHARES.items() for _ in range(share))
_FIRST_ORDER_S = int(datetime(2019, 1, 1, tzinfo=UTC).timestamp())
_DAYS = 2_500
_TURKEY_TIME = timezone(timedelta(hours=3))
_NUMBER_SPACE = 16**15
_SENT = frozenset({"500", "510", "520", "540", "550", "600"})
_CANCEL_STATUSES = ("waiting", "confirmed", "approved", "completed", "manuel_refund_need")


class _Dice:
    """Draws that hold on every Python version: only `Random.random` is promised to."""

    def __init__(self, seed_text: str) -> None:
        seed = int.from_bytes(blake2b(seed_text.encode(), digest_size=8).digest(), "big")
        self.random = random.Random(seed).random  # noqa: S311 (demo data, not a secret)

    def below(self, limit: int) -> int:
        return int(self.random() * limit)

    def pick(self, choices: Sequence[_T]) -> _T:
        return choices[int(self.random() * len(choices))]

    def maybe(self, share: float, value: _T) -> _T | None:
        return value if self.random() < share else None

    def digits(self, count: int) -> str:
        return f"{int(self.random() * 10**count):0{count}d}"


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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    """The money of one item, in hundredths."""

    price: int
    discount: int
    interest: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Facts:
    """What the parts of one order must agree on; money in hundredths, time in Unix seconds."""

    order_id: int
    status: str
    placed_s: int
    lines: tuple[_Line, ...]
    shipping: int
    tracking_number: str | None

    @property
    def sent(self) -> bool:
        return self.status in _SENT

    @property
    def refunded(self) -> bool:
        return self.status == "600"

    @property
    def discount(self) -> int:
        return sum(line.discount for line in self.lines)

    @property
    def interest(self) -> int:
        return sum(line.interest for line in self.lines)

    @property
    def amount(self) -> int:
        return sum(line.price for line in self.lines) - self.discount + self.interest + self.shipping


def order_payload(number: str) -> dict[str, Any]:
    """Make the order of an order number, with every key of the documented example, in its order.

    Any text is one, and the same text always gives the same order.
    """
    dice = _Dice(number)
    facts = _facts(dice)
    customer = _customer(dice)
    shipping_address = _address(dice, customer)
    return {
        "id": facts.order_id,
        "number": number,
        "status": facts.status,
        "date_placed": _time(dice, facts.placed_s),
        "customer": customer,
        "shipping_address": shipping_address,
        "billing_address": shipping_address if dice.random() < 0.7 else _address(dice, customer),
        "currency": "try",
        **_totals(dice, facts),
        **_payment(dice, facts),
        **_invoice(dice, facts),
        **_refunds(facts),
        **_delivery(dice, facts),
        "orderitem_set": [_item(dice, facts, index) for index in range(len(facts.lines))],
        "channel": {
            "name": dice.pick(vocabulary.CHANNELS),
            "conf": {"server": "http://localhost:8080/api/v1/"},
        },
    }


def _facts(dice: _Dice) -> _Facts:
    status = dice.pick(_STATUSES)
    return _Facts(
        order_id=dice.below(10**12),
        status=status,
        placed_s=_FIRST_ORDER_S + dice.below(_DAYS * 86_400),
        lines=tuple(_line(dice) for _ in range(1 + dice.below(5))),
        shipping=dice.pick((0, 850, 2_990, 4_999)),
        tracking_number=dice.digits(12) if status in _SENT else None,
    )


def _line(dice: _Dice) -> _Line:
    price = 500 + dice.below(250_000)
    return _Line(
        price=price,
        discount=dice.pick((0, 0, 0, price // 10)),
        interest=dice.pick((0, 0, 0, 0, price // 50)),
    )


def _customer(dice: _Dice) -> _Json:
    customer_id = 1 + dice.below(900_000)
    return {
        "id": customer_id,
        "email": f"musteri{customer_id}@example.com",
        "first_name": dice.pick(vocabulary.FIRST_NAMES),
        "last_name": dice.pick(vocabulary.LAST_NAMES),
        "phone_number": dice.maybe(0.6, _phone(dice)),
    }


def _address(dice: _Dice, customer: _Json) -> _Json:
    return {
        "email": customer["email"],
        "phone_number": _phone(dice),
        "first_name": customer["first_name"],
        "last_name": customer["last_name"],
        "country": {"name": "Turkey", "code": "tr"},
        **_place(dice),
        "notes": dice.maybe(0.15, dice.pick(vocabulary.NOTES)),
        **_taxpayer(dice),
        "extra_field": {},
    }


def _place(dice: _Dice) -> _Json:
    place = dice.pick(vocabulary.PLACES)
    return {
        "city": {"id": place.city_id, "name": place.city},
        "line": f"{dice.pick(vocabulary.STREETS)} No: {1 + dice.below(180)} D: {1 + dice.below(40)}",
        "title": dice.pick(vocabulary.ADDRESS_TITLES),
        "township": {"id": place.township_id, "name": place.township},
        "district": {"id": place.district_id, "name": place.district},
        "postcode": place.postcode,
    }


def _taxpayer(dice: _Dice) -> _Json:
    """No real tax or identity number begins with 0."""
    company = dice.maybe(0.15, dice.pick(vocabulary.COMPANIES))
    return {
        "company_name": company,
        "tax_office": company and dice.pick(vocabulary.TAX_OFFICES),
        "tax_no": company and f"0{dice.digits(9)}",
        "e_bill_taxpayer": company is not None and dice.random() < 0.5,
        "identity_number": None if company else dice.maybe(0.2, f"0{dice.digits(10)}"),
    }


def _phone(dice: _Dice) -> str:
    """No area of Turkey has the code 198; the documented example uses it too."""
    return f"0 (198) {dice.digits(3)}-{dice.digits(4)}"


def _totals(dice: _Dice, facts: _Facts) -> _Json:
    return {
        "amount": _decimal(facts.amount),
        "shipping_amount": _decimal(facts.shipping),
        "shipping_tax_rate": dice.maybe(0.3, "20.00"),
        "extra_field": {"cargo_line_id": _uuid(dice)} if dice.random() < 0.7 else {},
    }


def _payment(dice: _Dice, facts: _Facts) -> _Json:
    option, slug = dice.pick(vocabulary.PAYMENT_OPTIONS)
    return {
        "payment_option": option,
        "payment_option_slug": slug,
        "bin_number": f"0{dice.digits(5)}",
        "installment": 1 + dice.below(40),
        "installment_count": dice.pick((1, 1, 1, 3, 6, 12)),
        "installment_interest_amount": _decimal(facts.interest),
    }


def _invoice(dice: _Dice, facts: _Facts) -> _Json:
    number = f"DMO{dice.digits(13)}" if facts.sent else ""
    return {
        "cargo_company": 1 + dice.below(3),
        "invoice_number": number,
        "invoice_date": _time(dice, facts.placed_s + 90_000) if number else None,
        "e_archive_url": f"https://e-arsiv.example.com/{number}" if number else None,
    }


def _refunds(facts: _Facts) -> _Json:
    def refund(amount: int) -> str:
        return _decimal(amount if facts.refunded else 0)

    return {
        "refund_amount": refund(facts.amount),
        "discount_refund_amount": refund(facts.discount),
        "shipping_refund_amount": refund(facts.shipping),
        "discount_amount": _decimal(facts.discount),
    }


def _delivery(dice: _Dice, facts: _Facts) -> _Json:
    gift_note = dice.maybe(0.1, dice.pick(vocabulary.GIFT_NOTES))
    return {
        "is_send": facts.sent,
        "net_shipping_amount": _decimal(facts.shipping),
        "shipping_interest_amount": "0.00",
        **_tracking(facts),
        "remote_addr": dice.maybe(0.5, f"203.0.113.{dice.below(256)}"),
        "has_gift_box": gift_note is not None,
        "gift_box_note": gift_note,
        "external_status": dice.maybe(0.1, 1 + dice.below(20)),
    }


def _tracking(facts: _Facts) -> _Json:
    number = facts.tracking_number
    return {"tracking_number": number, "carrier_shipping_code": number and f"TR{number}"}


def _item(dice: _Dice, facts: _Facts, index: int) -> _Json:
    line = facts.lines[index]
    sku = dice.digits(13)
    return {
        "id": facts.order_id * 10 + index,
        "order": facts.order_id,
        "product_sku": sku,
        "status": facts.status,
        "price_currency": "try",
        "price": _decimal(line.price),
        "tax_rate": dice.pick(("1.00", "10.00", "18.00", "20.00")),
        "extra_field": {},
        "price_list": 1 + dice.below(3),
        "stock_list": 1 + dice.below(3),
        "cancel_status": dice.pick(_CANCEL_STATUSES) if facts.status in ("100", "600") else None,
        **_item_invoice(dice, facts),
        "installment_interest_amount": _decimal(line.interest),
        **_tracking(facts),
        "shipping_company": dice.pick(vocabulary.SHIPPERS) if facts.sent else None,
        "shipment_code": f"S{dice.digits(8)}" if facts.sent else None,
        "external_status": dice.maybe(0.1, 1 + dice.below(20)),
        "discount_amount": _decimal(line.discount),
        "retail_price": dice.maybe(0.4, _decimal(line.price * 5 // 4)),
        **_product(dice, sku),
    }


def _item_invoice(dice: _Dice, facts: _Facts) -> _Json:
    """Most installations invoice the order and leave its items' fields null."""
    number = f"DMI{dice.digits(13)}" if facts.sent and dice.random() < 0.05 else None
    return {
        "invoice_number": number,
        "invoice_date": number and _time(dice, facts.placed_s + 90_000),
        "e_archive_url": number and f"https://e-arsiv.example.com/{number}",
    }


def _product(dice: _Dice, sku: str) -> _Json:
    attributes, kwargs = {}, {}
    if dice.random() < 0.25:
        colour = dice.pick(vocabulary.COLOURS)
        attributes = {"renk": colour, "beden": dice.pick(vocabulary.SIZES)}
        kwargs = {"renk": {"label": "Renk", "value": colour}}
    return {
        "attributes": attributes,
        "attributes_kwargs": kwargs,
        "image": dice.maybe(0.25, f"https://cdn.example.com/{sku}.jpg"),
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


def _uuid(dice: _Dice) -> str:
    text = f"{dice.below(2**64):016x}{dice.below(2**64):016x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

"""Time payload bytes to Arrow tables against `orjson.loads` of the same bytes, side by side.

Run: python tests/benchmarks/flatten.py [repeats]
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import orjson

from exporter.api.payload_check import check
from exporter.dataset.flatten import Flattener

ORDERS = 500
Payloads = list[tuple[str, bytes]]
_WORDS = ["çınar", "gül", "lale", "ova", "deniz", "kaya", "dağ", "ırmak", "yol", "köprü", "bahçe", "şehir"]


def _address(rng: random.Random) -> dict[str, Any]:
    return {
        "email": f"{rng.choice(_WORDS)}{rng.randrange(10**6)}@example.com",
        "phone_number": f"0 ({rng.randrange(500, 560)}) {rng.randrange(10**7):07}",
        "first_name": rng.choice(_WORDS).title(),
        "last_name": rng.choice(_WORDS).title(),
        "country": {"name": "Türkiye", "code": "tr"},
        "city": {"id": rng.randrange(1, 82), "name": rng.choice(_WORDS).title()},
        "line": f"{rng.choice(_WORDS)} mah. {rng.choice(_WORDS)} sok. No: {rng.randrange(200)}",
        "title": "Ev",
        "township": {"id": rng.randrange(1000), "name": rng.choice(_WORDS).upper()},
        "district": {"id": rng.randrange(70000), "name": rng.choice(_WORDS).upper()},
        "postcode": f"{rng.randrange(1000, 81999):05}",
        "notes": None,
        "company_name": None,
        "tax_office": None,
        "tax_no": None,
        "e_bill_taxpayer": False,
        "identity_number": None,
        "extra_field": {},
    }


def _money(rng: random.Random) -> str:
    return f"{rng.randrange(10**6) / 100:.2f}"


def _item(rng: random.Random, order_id: int) -> dict[str, Any]:
    return {
        "id": rng.randrange(10**8),
        "order": order_id,
        "product_sku": str(rng.randrange(10**12, 10**13)),
        "status": "400",
        "price_currency": "try",
        "price": _money(rng),
        "tax_rate": "18.00",
        "extra_field": {},
        "price_list": 1,
        "stock_list": 1,
        "cancel_status": None,
        "invoice_number": None,
        "invoice_date": None,
        "e_archive_url": None,
        "installment_interest_amount": "0.00",
        "tracking_number": None,
        "carrier_shipping_code": None,
        "shipping_company": None,
        "shipment_code": None,
        "external_status": None,
        "discount_amount": "0.00",
        "retail_price": _money(rng),
        "attributes": {"integration_renk": rng.choice(_WORDS), "quantity": rng.randrange(1, 4)},
        "attributes_kwargs": {"beden": {"value": "M", "label": "Beden"}},
        "image": f"https://cdn.example.com/products/{rng.randrange(10**9)}.jpg",
    }


def make_order(rng: random.Random, items: int) -> dict[str, Any]:
    order_id = rng.randrange(10**7)
    return {
        "id": order_id,
        "number": f"{rng.randrange(16**15):015x}",
        "status": "400",
        "date_placed": f"2026-11-{rng.randrange(1, 29):02}T08:28:26.{rng.randrange(10**6):06}Z",
        "customer": {
            "id": rng.randrange(10**6),
            "email": f"{rng.choice(_WORDS)}@example.com",
            "first_name": rng.choice(_WORDS).title(),
            "last_name": rng.choice(_WORDS).title(),
            "phone_number": None,
        },
        "shipping_address": _address(rng),
        "billing_address": _address(rng),
        "currency": "try",
        "amount": _money(rng),
        "shipping_amount": "8.50",
        "shipping_tax_rate": None,
        "extra_field": {"cargo_line_id": f"{rng.randrange(16**32):032x}"},
        "payment_option": 2,
        "payment_option_slug": "kredi_karti",
        "bin_number": "454360",
        "installment": 22,
        "installment_count": 1,
        "installment_interest_amount": "0.00",
        "cargo_company": 1,
        "invoice_number": "",
        "invoice_date": None,
        "e_archive_url": None,
        "refund_amount": "0.00",
        "discount_refund_amount": "0.00",
        "shipping_refund_amount": "0.00",
        "discount_amount": _money(rng),
        "is_send": True,
        "net_shipping_amount": "8.50",
        "shipping_interest_amount": "0.00",
        "tracking_number": None,
        "carrier_shipping_code": None,
        "remote_addr": "192.0.2.7",
        "has_gift_box": False,
        "gift_box_note": None,
        "external_status": None,
        "orderitem_set": [_item(rng, order_id) for _ in range(items)],
        "channel": {"name": "Shop", "conf": {"server": "http://localhost:8080/api/v1/"}},
    }


def _clean(order: dict[str, Any]) -> None:
    pass


def _unknown(order: dict[str, Any]) -> None:
    order |= {"segment": None, "client_type": "web", "language_code": "tr-tr", "delivery_type": 1}
    order |= {
        "modified_date": order["date_placed"],
        "discountitem_set": [],
        "transaction_set": [{"amount": "1.00"}],
    }
    order["customer"]["gender"] = "female"
    for item in order["orderitem_set"]:
        item |= {"parent": None, "delivered_date": None, "product": {"pk": 17, "name": "Gömlek"}}


def _numeric_money(order: dict[str, Any]) -> None:
    for holder in (order, *order["orderitem_set"]):
        for key, value in holder.items():
            if isinstance(value, str) and (
                key.endswith("amount") or key in {"price", "tax_rate", "retail_price"}
            ):
                holder[key] = float(value)


def _nulls(order: dict[str, Any]) -> None:
    order["customer"] = order["customer"]["id"]
    order["billing_address"] = None
    order["shipping_address"]["district"] = None


VARIANTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "clean": _clean,
    "unknown fields": _unknown,
    "one odd in 500": _clean,
    "numbers for money": _numeric_money,
    "ids for places": _nulls,
}


def make_payloads(variant: str, items: int) -> Payloads:
    rng = random.Random(7)
    orders = [make_order(rng, items) for _ in range(ORDERS)]
    for order in orders:
        VARIANTS[variant](order)
    if variant == "one odd in 500":
        orders[250]["surprise"] = {"a": [1, 2]}
        orders[250]["amount"] = "-"
    return [
        (order["number"], json.dumps(order, ensure_ascii=False, separators=(",", ":")).encode())
        for order in orders
    ]


def _us(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) / ORDERS * 1e6


def _loads(payloads: Payloads) -> None:
    for _, payload in payloads:
        orjson.loads(payload)


def _check(payloads: Payloads) -> None:
    for number, payload in payloads:
        check(payload, number)


def measure(payloads: Payloads, repeats: int) -> tuple[float, float, float]:
    """Time `orjson.loads`, `flatten` and `check`, in turns, so that a busy machine slows all alike."""
    flattener = Flattener()
    flattener.flatten(payloads)
    times = [
        (
            _us(lambda: _loads(payloads)),
            _us(lambda: flattener.flatten(payloads)),
            _us(lambda: _check(payloads)),
        )
        for _ in range(repeats)
    ]
    loads, flat, checked = map(min, zip(*times, strict=True))
    return loads, flat, checked


def main(repeats: int) -> None:
    print(f"µs an order, best of {repeats}")
    print(f"{'payloads':<18} items  bytes  orjson  flatten  ratio  check")
    for variant in VARIANTS:
        for items in (1, 3, 5):
            payloads = make_payloads(variant, items)
            size = sum(len(payload) for _, payload in payloads) // ORDERS
            loads, flat, checked = measure(payloads, repeats)
            print(
                f"{variant:<18} {items:>5} {size:>6} {loads:>7.1f} {flat:>8.1f} {flat / loads:>6.2f}"
                f" {checked:>6.1f}"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)

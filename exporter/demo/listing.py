"""The demo API's order list: filters and pages, as Django REST Framework counts them."""

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any
from zlib import crc32

from yarl import URL

from exporter.demo.orders import order_on

_DEFAULT_LIMIT, _LARGEST_LIMIT = 10, 100
_FILTERS = ("status", "is_send", "cancel_status")
_ONLY_IN_DETAIL = frozenset({"customer", "shipping_address", "billing_address", "orderitem_set"})


def list_page(
    numbers: Sequence[str], url: URL, day: date | None, *, whole: bool, lies: int, seed: int
) -> dict[str, Any] | None:
    """Answer a request for the list of all orders, as they are on a day; None for a page that the list lacks.

    The URL's query holds `limit`, `page` and the filters; what is unknown there is ignored. Entries that are `whole`
    are as in the detail, but for one in so many that `lies`, by the seed: another amount, or an item less.
    """
    wanted = {name: url.query[name] for name in _FILTERS if name in url.query}
    matching = [number for number in numbers if _matches(number, day, wanted)] if wanted else numbers
    # A limit that makes no sense is ignored, one too large is cut, both without a word.
    limit = min(_positive(url.query.get("limit", "")) or _DEFAULT_LIMIT, _LARGEST_LIMIT)
    page, last = _positive(url.query.get("page", "1")), max(1, -(-len(matching) // limit))
    if not 0 < page <= last:
        return None
    hidden = frozenset() if whole else _ONLY_IN_DETAIL
    orders = (order_on(number, day) for number in matching[(page - 1) * limit : page * limit])
    shown = (_lie(order) if _is_lie(order["number"], lies, seed) else order for order in orders)
    return {
        "count": len(matching),
        "next": str(url.update_query(page=page + 1)) if page < last else None,
        "previous": str(url.update_query(page=page - 1)) if page > 1 else None,
        "results": [{key: order[key] for key in order if key not in hidden} for order in shown],
    }


def _is_lie(number: str, lies: int, seed: int) -> bool:
    return lies > 0 and crc32(f"{seed} {number}".encode()) % lies == 0


def _lie(order: dict[str, Any]) -> dict[str, Any]:
    items = order["orderitem_set"]
    if len(items) % 2:
        return {**order, "amount": str(Decimal(order["amount"]) + 1)}
    return {**order, "orderitem_set": items[:-1]}


def _positive(text: str) -> int:
    """Return a number of digits alone; 0 for all other texts."""
    return int(text) if text.isascii() and text.isdigit() else 0


def _matches(number: str, day: date | None, wanted: Mapping[str, str]) -> bool:
    order = order_on(number, day)
    sent = str(order["is_send"])
    found = {
        "status": {order["status"]},
        "is_send": {sent, sent.lower()},
        "cancel_status": {item["cancel_status"] for item in order["orderitem_set"]},
    }
    return all(text in found[name] for name, text in wanted.items())

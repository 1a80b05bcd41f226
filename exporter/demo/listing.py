"""The demo API's order list: filters and pages, as Django REST Framework counts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Any

from yarl import URL

from exporter.demo.evolution import order_on

_DEFAULT_LIMIT = 10
_LARGEST_LIMIT = 100
_ONLY_IN_DETAIL = frozenset({"customer", "shipping_address", "billing_address", "orderitem_set"})


class InvalidPageError(ValueError):
    """Raised for a page that is no number or lies outside the list."""


def list_page(numbers: Sequence[str], url: URL, day: date | None = None) -> dict[str, Any]:
    """Answer a request for the order list: the envelope of `count`, `next`, `previous` and the page's `results`.

    Args:
        numbers: All order numbers that the API knows, in list order.
        url: The URL asked for; its query holds `limit`, `page` and the filters.

    Raises:
        InvalidPageError: The page is no number or lies outside the list.
    """
    matching = _filter(numbers, url.query, day)
    limit, page = _limit(url.query.get("limit", "")), _page(url.query.get("page", "1"))
    last = max(1, -(-len(matching) // limit))
    if page > last:
        raise InvalidPageError(page)
    return {
        "count": len(matching),
        "next": str(url.update_query(page=page + 1)) if page < last else None,
        "previous": str(url.update_query(page=page - 1)) if page > 1 else None,
        "results": [_summary(number, day) for number in matching[(page - 1) * limit : page * limit]],
    }


def _filter(numbers: Sequence[str], query: Mapping[str, str], day: date | None) -> Sequence[str]:
    wanted = [(name, query[name]) for name in ("status", "is_send", "cancel_status") if name in query]
    if not wanted:
        return numbers
    return [number for number in numbers if all(text in _traits(number, day)[name] for name, text in wanted)]


def _limit(text: str) -> int:
    """A limit that makes no sense is ignored, one too large is cut, both without a word."""
    return min(int(text), _LARGEST_LIMIT) if _is_positive(text) else _DEFAULT_LIMIT


def _page(text: str) -> int:
    if not _is_positive(text):
        raise InvalidPageError(text)
    return int(text)


def _is_positive(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) > 0


@lru_cache(maxsize=100_000)
def _traits(number: str, day: date | None) -> dict[str, set[str | None]]:
    """Return, for each filter, the texts that find this order."""
    payload = order_on(number, day)
    return {
        "status": {payload["status"]},
        "is_send": {str(payload["is_send"]), str(payload["is_send"]).lower()},
        "cancel_status": {item["cancel_status"] for item in payload["orderitem_set"]},
    }


def _summary(number: str, day: date | None) -> dict[str, Any]:
    return {key: value for key, value in order_on(number, day).items() if key not in _ONLY_IN_DETAIL}

"""The API's documented order status codes, how they may be spelt, and which of them are no sale."""

from typing import Final

STATUS_NAMES: Final = {
    "50": "cancellation waiting",
    "100": "canceled",
    "200": "waiting",
    "300": "payment waiting",
    "350": "confirmation waiting",
    "400": "approved",
    "450": "preparing",
    "500": "shipped",
    "510": "shipped and informed",
    "520": "ready for pickup",
    "540": "attempted delivery",
    "544": "review started",
    "545": "review waiting",
    "546": "waiting for payment",
    "547": "paid",
    "550": "delivered",
    "600": "refunded",
}

#: Orders of these statuses bring no revenue: cancelled, not paid, or refunded. `examples/revenue_net.sql` is the rule.
NO_SALE: Final = ("50", "100", "300", "546", "600")

_CODES: Final = {name: code for code, name in STATUS_NAMES.items()}


def status_code(shown: object) -> str | None:
    """Return the code of a status as the API may show it: a code, a documented name, or an object around one.

    >>> status_code({"value": 400, "label": "Approved"}), status_code("cancellation_waiting"), status_code(None)
    ('400', '50', None)
    """
    if isinstance(shown, dict):
        shown = shown.get("value")
    if isinstance(shown, int) and not isinstance(shown, bool):
        return str(shown)
    word = shown.strip() if isinstance(shown, str) else ""
    return _CODES.get(word.lower().replace("_", " "), word) or None

"""The API's documented order status codes, and which of them are no sale."""

from __future__ import annotations

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

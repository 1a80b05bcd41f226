"""Numbers, times and codes as people read them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

from exporter.model.order_statuses import STATUS_NAMES
from exporter.report.data_figures import NO_CODE, NOT_A_CODE

REASON_NAMES = {
    "invalid_order_number": "not an order number",
    "not_found": "not found",
    "forbidden": "forbidden",
    "client_error": "refused by the API",
    "bad_response": "unusable answer",
    "unavailable": "attempts used up",
}

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip

_HTTP_NAMES = {
    "200": "OK",
    "301": "moved",
    "302": "moved",
    "307": "moved",
    "308": "moved",
    "400": "bad request",
    "401": "token refused",
    "403": "forbidden",
    "404": "not found",
    "408": "request timeout",
    "429": "too many requests",
    "500": "server error",
    "502": "bad gateway",
    "503": "unavailable",
    "504": "gateway timeout",
}


def status_name(code: str) -> str:
    """Return an order status as a label; an unknown code stands as it is.

    >>> status_name("550"), status_name("777"), status_name("")
    ('550 delivered', '777', 'no status')
    """
    special = {NO_CODE: "no status", NOT_A_CODE: "text that is no code"}
    return special.get(code) or f"{code} {STATUS_NAMES.get(code, '')}".strip()


def http_name(status: str) -> str:
    """Return an HTTP status as a label; `none` is no answer at all."""
    return "no answer" if status == "none" else f"{status} {_HTTP_NAMES.get(status, '')}".strip()


def currency_name(code: str) -> str:
    """Return a currency as a label."""
    return {NO_CODE: "no currency", NOT_A_CODE: "text that is no code"}.get(code) or code.upper()


def number(value: float) -> str:
    """Return a number with its thousands set apart, small ones with a digit after the point.

    >>> number(12345), number(76.04), number(0.25)
    ('12,345', '76', '0.25')
    """
    if isinstance(value, int) or value >= 100 or value == int(value):
        return f"{round(value):,}"
    return f"{value:.3g}" if value < 10 else f"{value:.1f}".removesuffix(".0")


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return a count with its noun.

    >>> counted(1, "order"), counted(2000, "order")
    ('1 order', '2,000 orders')
    """
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def percent(part: float, whole: float) -> str:
    """Return a share, never rounded to all or nothing.

    >>> percent(1, 3), percent(99999, 100000), percent(1, 100000), percent(3, 3)
    ('33.3 %', 'over 99.9 %', 'under 0.1 %', '100 %')
    """
    if not whole or part in (0, whole):
        return "100 %" if whole and part else "0 %"
    share = 100 * part / whole
    if share < 0.1:
        return "under 0.1 %"
    return "over 99.9 %" if 99.9 < share < 100 else f"{share:.1f} %"


def duration(seconds: float) -> str:
    """Return a time span.

    >>> duration(0.25), duration(45), duration(185), duration(7325)
    ('0.25 s', '45 s', '3 min 05 s', '2 h 02 min')
    """
    if seconds < 120:
        return f"{number(seconds) if seconds < 10 else round(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def milliseconds(value: float) -> str:
    """Return a latency.

    >>> milliseconds(75), milliseconds(2400), milliseconds(20000)
    ('75 ms', '2.4 s', '20 s')
    """
    return f"{number(float(value))} ms" if value < 1000 else f"{number(value / 1000)} s"


def money(amount: Decimal, digits: int = 2) -> str:
    """Return an exact amount, with at least so many digits after the point.

    >>> money(Decimal("1234.5000")), money(Decimal("0.1250")), money(Decimal("7.5"), 4)
    ('1,234.50', '0.125', '7.5000')
    """
    whole, _, fraction = f"{amount:,f}".partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(digits, '0')}"


def short(amount: Decimal) -> str:
    """Return an amount in few digits, for where the exact one stands nearby.

    >>> short(Decimal("1514230.62")), short(Decimal("84107.2")), short(Decimal("-12"))
    ('1.51 M', '84,107', '-12')
    """
    for size, unit in ((10**12, "T"), (10**9, "bn"), (10**6, "M")):
        if abs(amount) >= size:
            return f"{amount / size:.2f} {unit}"
    return f"{amount:,.0f}"


def day(value: date) -> str:
    """Return a day, the same in every locale.

    >>> day(date(2026, 11, 3))
    '3 November 2026'
    """
    return f"{value.day} {_MONTHS[value.month - 1]} {value.year}"


def moment(text: str) -> str:
    """Return a time of the manifest, as `24 November 2026, 06:38 UTC`."""
    when = datetime.fromisoformat(text).astimezone(UTC)
    return f"{day(when.date())}, {when:%H:%M} UTC"

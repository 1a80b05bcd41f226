"""Numbers, times and codes as people read them."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from http.client import responses
from pathlib import PurePath
from typing import TypeVar

from exporter.model.order_statuses import STATUS_NAMES
from exporter.model.outside_text import visible
from exporter.report.data_figures import NO_CODE, NOT_A_CODE, Money

K = TypeVar("K")
N = TypeVar("N", int, Decimal)
_REASONS = {
    "invalid_order_number": "not an order number",
    "client_error": "refused by the API",
    "bad_response": "unusable answer",
    "unavailable": "attempts used up",
}
_NOT_A_CODE = "text that is no code"


def status_name(code: str) -> str:
    """Return an order status as a label; an unknown code stays as it is.

    >>> status_name("550"), status_name("777"), status_name("")
    ('550 delivered', '777', 'no status')
    """
    special = {NO_CODE: "no status", NOT_A_CODE: _NOT_A_CODE}
    return special.get(code) or f"{code} {STATUS_NAMES.get(code, '')}".strip()


def currency_name(code: str) -> str:
    """Return a currency as a label."""
    return {NO_CODE: "no currency", NOT_A_CODE: _NOT_A_CODE}.get(code) or code.upper()


def city_name(city: str) -> str:
    """Return a city as a label."""
    return visible(city)[:60] or "no city"


def file_name(path: str) -> str:
    """Return the last part of a path, of whatever system: the folders above it may name a person."""
    return visible(PurePath(path.replace("\\", "/")).name or path)


def reason_name(reason: str) -> str:
    """Return the reason of a reject as a label."""
    return _REASONS.get(reason, reason.replace("_", " "))


def http_name(status: str) -> str:
    """Return an HTTP status as a label; `none` is no answer at all.

    >>> http_name("502"), http_name("799"), http_name("none")
    ('502 Bad Gateway', '799', 'no answer')
    """
    known = {str(code): f"{code} {phrase}" for code, phrase in responses.items()} | {"none": "no answer"}
    return known.get(status, status)


def listed(names: list[str]) -> str:
    """Return some names as a sentence has them: two at most where there are many.

    >>> listed(["a"]), listed(["a", "b", "c"]), listed(["a", "b", "c", "d"])
    ('a', 'a, b and c', 'a, b and 2 others')
    """
    shown = names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} others"]
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def number(value: float) -> str:
    """Return a number with its thousands set apart, small ones with a digit after the point.

    >>> number(12345), number(76.04), number(0.25)
    ('12,345', '76', '0.25')
    """
    if isinstance(value, int) or value >= 100 or value == int(value):
        return f"{round(value):,}"
    return f"{value:.3g}" if value < 10 else f"{value:.1f}".removesuffix(".0")


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return a count with its noun, as `1 order` and `2,000 orders`."""
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


def money(amount: Decimal | str) -> str:
    """Return an exact amount, with at least two digits after the point.

    >>> money(Decimal("1234.5000")), money("0.1250"), money("-7.5")
    ('1,234.50', '0.125', '-7.50')
    """
    whole, _, fraction = f"{Decimal(amount):,f}".partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"


def short(amount: Decimal) -> str:
    """Return an amount in few digits, for where the exact one is nearby.

    >>> short(Decimal("1514230.62")), short(Decimal("84107.2")), short(Decimal("-12"))
    ('1.51 M', '84,107', '-12')
    """
    for size, unit in ((10**12, "T"), (10**9, "bn"), (10**6, "M")):
        if abs(amount) >= size:
            return f"{amount / size:.2f} {unit}"
    return f"{amount:,.0f}"


def month(value: date) -> str:
    """Return a month, as `Nov 2026`: no program of ours asks for another locale's names."""
    return f"{value:%b} {value.year}"


def day(value: date) -> str:
    """Return a day, as `3 November 2026`."""
    return f"{value.day} {value:%B} {value.year}"


def moment(text: str) -> str:
    """Return a time of the manifest, as `24 November 2026, 06:38 UTC`."""
    when = datetime.fromisoformat(text).astimezone(UTC)
    return f"{day(when.date())}, {when:%H:%M} UTC"


def renamed(counts: Mapping[K, int], name: Callable[[K], str]) -> dict[str, int]:
    """Return counts by the names of their keys."""
    return {name(key): count for key, count in counts.items()}


def first_place(values: Mapping[K, N]) -> tuple[list[K], N]:
    """Return what shares the first place, and the largest value."""
    most = max(values.values())
    return [key for key, value in values.items() if value == most], most


def named(sums: Mapping[tuple[str, K], Money], name: Callable[[K], str]) -> Iterator[tuple[str, str, Money]]:
    """Yield currency, `name` and sums of each key, in the order of both; what has no key is left out."""
    for (currency, key), of in sorted(sums.items(), key=lambda item: (item[0][0], str(item[0][1]))):
        if key is not None:
            yield currency, name(key), of


def most_net(sums: list[tuple[str, str, Money]], before: str = "") -> str:
    """Say where the net sum of a currency is largest; a tie is told as one."""
    most = max(of.net for *_, of in sums)
    where = [before + name for _, name, of in sums if of.net == most]
    told = f"{money(most)} {currency_name(sums[0][0])}"
    return f"The most {where[0]}: {told}." if len(where) == 1 else f"The most, {told} each: {listed(where)}."

"""The small texts that people write and read: ages, shares, lists of statuses, durations and sizes."""

import re
from datetime import UTC, datetime

from exporter.model.errors import UsageError

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


def seconds(text: str, *, option: str) -> float:
    """Return the seconds that a text such as `90s`, `15m`, `24h`, `7d` or `2w` stands for; a `UsageError` names `option`.

    >>> seconds("24h", option="max_age")
    86400.0
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        what = f"expected a number and a unit, got {text!r}."
        raise UsageError(what, "Write for example 90s, 15m, 24h or 7d.", option=option)
    return float(match[1]) * _SECONDS[match[2]]


def allowed_rejects(text: str, requested: int) -> int:
    """Return how many rejects a text such as `20` or `5%` allows among `requested` order numbers.

    A share below one allows one.

    >>> allowed_rejects("5%", 400), allowed_rejects("20", 400), allowed_rejects("5%", 3)
    (20, 20, 1)
    """
    allowed = count_or_share(text, requested, option="max_rejects")
    return max(1, int(allowed)) if allowed else 0


def count_or_share(text: str, whole: int, *, option: str) -> float:
    """Return the number that a text such as `20` or `5%` stands for, of `whole`; a `UsageError` names `option`.

    >>> count_or_share("20", 30, option="expect_orders"), count_or_share("90%", 30, option="expect_orders")
    (20.0, 27.0)
    """
    found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)%", text.strip())
    if found is None or float(found[2] or 0) > 100:
        what = f"expected a count or a percentage, got {text!r}."
        raise UsageError(what, "Write for example 20 or 5%.", option=option)
    return float(found[1]) if found[1] else whole * float(found[2]) / 100


def ages_by_status(rules: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    """Return (status code, seconds) pairs of rules such as `100,550,600=30d`; a later rule beats an earlier one.

    >>> ages_by_status(("100,550=1d",))
    (('100', 86400.0), ('550', 86400.0))
    """
    ages: dict[str, float] = {}
    for rule in rules:
        statuses, equals, age = rule.partition("=")
        codes = [code.strip() for code in statuses.split(",")]
        if not equals or not all(codes):
            what = f"expected statuses and an age, got {rule!r}."
            raise UsageError(what, "Write for example 100,550,600=30d.", option="refresh_status")
        ages |= dict.fromkeys(codes, seconds(age, option="refresh_status"))
    return tuple(ages.items())


def duration_text(duration_s: float | None) -> str:
    """Return a duration as people say it.

    >>> duration_text(3725), duration_text(59), duration_text(200_000), duration_text(None)
    ('1 h 02 min', '59 s', '2 d 07 h', 'unknown')
    """
    if duration_s is None:
        return "unknown"
    if duration_s < 99.5:
        return f"{duration_s:.0f} s"
    minutes = round(duration_s / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24:02d} h"


def local_time(epoch_s: float) -> datetime:
    """Return a moment as this machine's clocks show it."""
    return datetime.fromtimestamp(epoch_s, UTC).astimezone()


def size_text(size: int) -> str:
    """Return a number of bytes as people say it, in powers of 1024.

    >>> size_text(999), size_text(131_527), size_text(5 << 30)
    ('999 B', '128.4 KiB', '5.0 GiB')
    """
    number, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if number < 1023.95:
            break
        number, unit = number / 1024, larger
    return f"{size} B" if unit == "B" else f"{number:.1f} {unit}"

"""Days put together into weeks, months or years, so that a chart of any span can be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MOST_DAYS, _MOST_WEEKS, _MOST_MONTHS = 92, 7 * 80, 31 * 120


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Counts over time without gaps.

    Attributes:
        unit: `day`, `week`, `month` or `year`.
        counts: (label, count) in their order.
    """

    unit: str
    counts: tuple[tuple[str, int], ...]


def steps(by_day: Mapping[date, int]) -> Steps:
    """Put days together into steps that fit their span.

    Args:
        by_day: At least one day.

    >>> steps({date(2026, 1, 30): 2, date(2026, 2, 1): 1}).counts
    (('30 Jan 2026', 2), ('31 Jan 2026', 0), ('1 Feb 2026', 1))
    """
    first, last = min(by_day), max(by_day)
    unit = _unit((last - first).days)
    counts: Counter[date] = Counter()
    for day, count in by_day.items():
        counts[_start(day, unit)] += count
    starts, at = [], _start(first, unit)
    while at <= last:
        starts.append(at)
        if (following := _next(at, unit)) is None:
            break
        at = following
    return Steps(unit=unit, counts=tuple((_label(start, unit), counts[start]) for start in starts))


def _unit(days: int) -> str:
    for unit, most in (("day", _MOST_DAYS), ("week", _MOST_WEEKS), ("month", _MOST_MONTHS)):
        if days <= most:
            return unit
    return "year"


def _start(day: date, unit: str) -> date:
    if unit == "week":
        return day - timedelta(days=min(day.weekday(), day.toordinal() - 1))
    if unit == "month":
        return day.replace(day=1)
    return day.replace(month=1, day=1) if unit == "year" else day


def _next(start: date, unit: str) -> date | None:
    """Return the following step's start; None after the last day that a date can be."""
    days = {"day": 1, "week": 7, "month": 31, "year": 366}[unit]
    try:
        return _start(start + timedelta(days=days), unit)
    except OverflowError:
        return None


def _label(start: date, unit: str) -> str:
    if unit == "year":
        return str(start.year)
    return month_label(start) if unit == "month" else f"{start.day} {month_label(start)}"


def month_label(day: date) -> str:
    """Return a day's month, as `Nov 2026`."""
    return f"{_MONTHS[day.month - 1]} {day.year}"

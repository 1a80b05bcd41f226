"""Days put together into weeks, months or years, so that a chart of any span can be read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from exporter.report.figure_texts import month

#: Of each unit: the most days that a chart of it spans, and the least that one of them has.
_UNITS = {"day": (92, 1), "week": (7 * 80, 7), "month": (31 * 120, 28), "year": (date.max.toordinal(), 365)}


def steps(by_day: Mapping[date, int]) -> tuple[str, dict[str, int]]:
    """Put days together into steps that fit their span.

    Returns:
        The steps' unit, and their counts by label in their order, without gaps.

    >>> steps({date(2026, 1, 30): 2, date(2026, 2, 1): 1})
    ('day', {'30 Jan 2026': 2, '31 Jan 2026': 0, '1 Feb 2026': 1})
    """
    if not by_day:
        return "day", {}
    first, last = min(by_day).toordinal(), max(by_day).toordinal()
    unit, least = next((unit, least) for unit, (most, least) in _UNITS.items() if last - first <= most)
    every = (*range(first, last, least), last)
    counts = dict.fromkeys((_start(date.fromordinal(number), unit) for number in every), 0)
    for day, count in by_day.items():
        counts[_start(day, unit)] += count
    return unit, {_label(start, unit): count for start, count in counts.items()}


def _start(day: date, unit: str) -> date:
    if unit == "week":
        return date.fromordinal(day.toordinal() - day.weekday())  # the first day that there is was a Monday
    if unit == "day":
        return day
    return day.replace(day=1) if unit == "month" else day.replace(month=1, day=1)


def _label(start: date, unit: str) -> str:
    if unit == "year":
        return str(start.year)
    return month(start) if unit == "month" else f"{start.day} {month(start)}"

"""What the page's charts are made of: lengths are the style sheet's percentages, so one drawing fits every width."""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal

from exporter.model.manifest import Drift, Manifest
from exporter.model.records import REJECT_REASONS
from exporter.report.figure_texts import milliseconds, month, reason_name
from exporter.report.run_figures import Latency

_MOST_BARS, _MOST_ITEMS = 14, 12
_SHORTEST = 0.006  # what is not nothing is drawn at least as this share of the longest bar
#: Pixels for the labels below the columns: at every width, and where there is room for more.
_NARROW, _WIDE = 250, 560
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
#: Of each unit: the most days that a chart of it spans, and the least that one of them has.
_UNITS = {"day": (92, 1), "week": (7 * 80, 7), "month": (31 * 120, 28), "year": (date.max.toordinal(), 365)}


def top(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the counts that a chart has room for; the table has all."""
    shown = dict(list(counts.items())[: _MOST_BARS if len(counts) <= _MOST_BARS else _MOST_BARS - 1])
    if others := len(counts) - len(shown):
        shown[f"{others} others"] = sum(counts.values()) - sum(shown.values())
    return shown


def sizes(by_items: Mapping[int, int]) -> dict[str, int]:
    """Return every number of items up to the largest, what is beyond the chart's room in one step."""
    shown = range(min(by_items), min(max(by_items), _MOST_ITEMS) + 1)
    more = sum(count for size, count in by_items.items() if size > _MOST_ITEMS)
    counts = {str(size): by_items.get(size, 0) for size in shown}
    return counts | ({f"{_MOST_ITEMS + 1}+": more} if more else {})


def outcomes(manifest: Manifest) -> dict[str, int]:
    """Return how many lines were exported, and how many were rejected for each reason."""
    counts = manifest.rejects_by_reason
    reasons = sorted(counts, key=lambda reason: ((*REJECT_REASONS, reason).index(reason), reason))
    rejected = {f"rejected: {reason_name(reason)}": counts[reason] for reason in reasons}
    return {"exported": manifest.counts.exported} | rejected


def drifted(drift: Drift) -> list[tuple[int, str, str]]:
    """Return the paths that fitted no column, the most frequent first: their count below nothing, path, and why."""
    whys = {"it has no column": drift.unmapped_paths, "does not fit its column's type": drift.uncoerced}
    return sorted((-count, path, why) for why, paths in whys.items() for path, count in paths.items())


def ranges(latency: Latency) -> dict[str, int]:
    """Return the requests by how long they took, from the fastest to the slowest that there was."""
    return {_range(low, high): count for low, high, count in latency.buckets}


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return f"over {milliseconds(low)}"
    return f"{milliseconds(low)} to {milliseconds(high)}" if low else f"up to {milliseconds(high)}"


def quantiles(latency: Latency) -> dict[str, float]:
    """Return the quantiles, and where they lie among the ranges."""
    marks = {}
    for name, share in _QUANTILES.items():
        value = latency.quantile(share) or 0.0
        place, (low, high, _) = next(each for each in enumerate(latency.buckets) if value <= each[1][1])
        marks[f"{name} {milliseconds(value)}"] = place + (value - low) / (high - low)
    return marks


def steps(by_day: Mapping[date, int]) -> tuple[str, dict[str, int]]:
    """Put days together into steps that fit their span: their unit, and their counts by label, without gaps.

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
    labels = {"year": "{0.year}", "month": "{1}"}
    return unit, {labels.get(unit, "{0.day} {1}").format(day, month(day)): n for day, n in counts.items()}


def _start(day: date, unit: str) -> date:
    week = day - timedelta(days=day.weekday())  # the first day that there is was a Monday
    return {"day": day, "week": week, "month": day.replace(day=1), "year": day.replace(month=1, day=1)}[unit]


def part(value: float | Decimal, most: float | Decimal) -> str:
    """Return a length as a share of the longest; what is less than nothing has none."""
    share = max(float(value) / float(most), _SHORTEST if value > 0 else 0.0)
    return f"{100 * share:.1f}%"


def scale(most: float) -> list[float]:
    """Return three to six round steps from 0 to at least the most.

    >>> scale(87), scale(0.3), scale(0)
    ([0.0, 20.0, 40.0, 60.0, 80.0, 100.0], [0.0, 0.1, 0.2, 0.3], [0.0, 1.0])
    """
    if not most:
        return [0.0, 1.0]
    size = 10.0 ** math.floor(math.log10(most / 3))
    step = next(size * by for by in (1, 2, 5, 10) if most / (size * by) <= 5)
    count = math.ceil(round(most / step, 9))
    return [round(step * place, 9) for place in range(count + 1)]


def ticks(labels: Sequence[str]) -> Iterator[dict[str, str]]:
    """Yield some labels for below the columns: a few at every width, more of them where there is room."""
    room, last = 7 * max(map(len, labels)) + 14, len(labels) - 1
    few, many = (_chosen(len(labels), max(2, width // room)) for width in (_NARROW, _WIDE))
    for place in sorted({*few, *many}):
        kind = "always" if place in few and place in many else "narrow" if place in few else "wide"
        side, left = "", 100 * (place + 0.5) / len(labels)
        if last and place in (0, last):  # they begin and end with the chart
            side, left = (" last", 100.0) if place else (" first", 0.0)
        yield {"label": labels[place], "kind": kind + side, "left": f"{left:.1f}%"}


def _chosen(count: int, most: int) -> list[int]:
    """Return at most so many places out of `count`, the first and the last among them.

    >>> _chosen(3, 7), _chosen(92, 3)
    ([0, 1, 2], [0, 46, 91])
    """
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]

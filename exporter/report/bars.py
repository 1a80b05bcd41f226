"""The bars of the page's charts: lengths are the style sheet's percentages, so one drawing fits every width."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from exporter.model.manifest import Manifest
from exporter.model.records import REJECT_REASONS
from exporter.report.data_figures import Money
from exporter.report.figure_texts import (
    duration,
    http_name,
    milliseconds,
    money,
    number,
    percent,
    reason_name,
)
from exporter.report.run_figures import Latency, RunFigures

__all__ = [
    "bar_rows", "count_bars", "latency_bars", "latency_marks", "net_bars", "outcome_bars", "part", "scale", "sizes",
    "status_bars", "step_bars", "ticks", "top_bars",
]  # fmt: skip

_MOST_BARS, _MOST_ITEMS, _MOST_STEPS = 14, 12, 120
#: What is not nothing is drawn at least as this share of the longest bar.
_SHORTEST = 0.006
#: Pixels for the labels below the columns: at every width, and where there is room for more.
_NARROW, _WIDE = 250, 560
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Bar(NamedTuple):
    """One bar.

    Attributes:
        label: What it is for.
        value: Its length, 0 or more.
        text: The value as people read it.
        mood: `good`, `warn`, `bad`, or empty for the common colour.
        limit: A value to compare it with, drawn as a dash across it.
        paused: Whether it lies in a pause.
    """

    label: str
    value: float
    text: str
    mood: str = ""
    limit: float | None = None
    paused: bool = False


# --- what has bars ---


def count_bars(counts: Mapping[Any, int], mood: str = "") -> list[Bar]:
    """Return a bar for each count."""
    return [Bar(str(label), count, number(count), mood) for label, count in counts.items()]


def net_bars(sums: Iterable[tuple[str, Money]]) -> list[Bar]:
    """Return a bar for each net sum; there is none for less than nothing."""
    return [Bar(name, float(max(of.net, Decimal(0))), money(of.net)) for name, of in sums]


def top_bars(counts: Mapping[str, int], total: int) -> list[Bar]:
    """Return the bars that a chart has room for, each with its share; the table has all."""
    shown = dict(list(counts.items())[: _MOST_BARS if len(counts) <= _MOST_BARS else _MOST_BARS - 1])
    if others := len(counts) - len(shown):
        shown[f"{others} others"] = sum(counts.values()) - sum(shown.values())
    return [Bar(name, count, f"{number(count)} · {percent(count, total)}") for name, count in shown.items()]


def sizes(by_items: Mapping[int, int]) -> dict[str, int]:
    """Return every number of items up to the largest, what is beyond the chart's room in one step."""
    shown = range(min(by_items), min(max(by_items), _MOST_ITEMS) + 1)
    more = sum(count for size, count in by_items.items() if size > _MOST_ITEMS)
    counts = {str(size): by_items.get(size, 0) for size in shown}
    return counts | ({f"{_MOST_ITEMS + 1}+": more} if more else {})


def outcome_bars(manifest: Manifest) -> list[Bar]:
    """Return what became of the lines: exported, or rejected for a reason."""
    known = {reason: place for place, reason in enumerate(REJECT_REASONS)}
    reasons = sorted(manifest.rejects_by_reason.items(), key=lambda item: (known.get(item[0], 99), item[0]))
    rejected = {f"rejected: {reason_name(reason)}": count for reason, count in reasons}
    return [*count_bars({"exported": manifest.counts.exported}, "good"), *count_bars(rejected, "bad")]


def step_bars(run: RunFigures) -> list[Bar]:
    """Return the answers a second over time, beside what was permitted."""
    return [
        Bar(
            duration(step.at_s),
            step.rate,
            f"{number(round(step.rate, 2))} answers a second",
            limit=step.permitted,
            paused=step.paused_s > 0,
        )
        for step in run.steps(_MOST_STEPS)
    ]


def status_bars(run: RunFigures) -> list[Bar]:
    """Return the answers by HTTP status, the most frequent first."""
    moods = {"2": "", "4": "bad"}
    return [
        Bar(
            http_name(status),
            count,
            number(count),
            "warn" if status == "429" else moods.get(status[0], "warn"),
        )
        for status, count in run.statuses.items()
    ]


def latency_bars(latency: Latency) -> list[Bar]:
    """Return the requests by how long they took, from the fastest to the slowest that there was."""
    edges = pairwise([0.0, *latency.edges, math.inf])
    bars = [
        Bar(_range(*edge), count, number(count)) for edge, count in zip(edges, latency.counts, strict=False)
    ]
    occupied = [place for place, count in enumerate(latency.counts) if count]
    return bars[occupied[0] : occupied[-1] + 1]


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return f"over {milliseconds(low)}"
    return f"{milliseconds(low)} to {milliseconds(high)}" if low else f"up to {milliseconds(high)}"


def latency_marks(latency: Latency) -> dict[str, float]:
    """Return the quantiles, and where they lie among the bars."""
    first = next(place for place, count in enumerate(latency.counts) if count)
    marks = {}
    for name, share in _QUANTILES.items():
        value = latency.quantile(share) or 0.0
        place = bisect_left(latency.edges, value)
        low, high = [0.0, *latency.edges][place], [*latency.edges, math.inf][place]
        marks[f"{name} {milliseconds(value)}"] = place - first + (value - low) / (high - low)
    return marks


def bar_rows(bars: Iterable[Bar], *, share: bool = True) -> Iterator[tuple[str, ...]]:
    """Yield the bars of counts as rows of a table, with the share of each."""
    bars = list(bars)
    total = sum(bar.value for bar in bars)
    for bar in bars:
        yield (bar.label, number(bar.value), *([percent(bar.value, total)] if share else []))


# --- how they are drawn ---


def part(value: float, most: float) -> str:
    """Return a length as a share of the longest."""
    share = max(value / most, _SHORTEST if value else 0.0)
    return f"{100 * share:.1f}%"


def scale(bars: Iterable[Bar]) -> list[float]:
    """Return three to six round steps from 0 to at least the longest of the bars and limits.

    >>> scale([Bar("", 87, "")]), scale([Bar("", 0.2, "", limit=0.3)]), scale([Bar("", 0, "")])
    ([0.0, 20.0, 40.0, 60.0, 80.0, 100.0], [0.0, 0.1, 0.2, 0.3], [0.0, 1.0])
    """
    most = max(max(bar.value, bar.limit or 0) for bar in bars)
    if not most:
        return [0.0, 1.0]
    size = 10.0 ** math.floor(math.log10(most / 3))
    step = next(size * by for by in (1, 2, 5, 10) if most / (size * by) <= 5)
    count = math.ceil(round(most / step, 9))
    return [round(step * place, 9) for place in range(count + 1)]


def ticks(bars: Sequence[Bar]) -> Iterator[dict[str, str]]:
    """Yield some labels for below the columns: a few at every width, more of them where there is room."""
    room, last = 7 * max(len(bar.label) for bar in bars) + 14, len(bars) - 1
    few, many = (_chosen(len(bars), max(2, width // room)) for width in (_NARROW, _WIDE))
    for place in sorted({*few, *many}):
        kind = "always" if place in few and place in many else "narrow" if place in few else "wide"
        side, left = "", 100 * (place + 0.5) / len(bars)
        if last and place in (0, last):  # they begin and end with the chart
            side, left = (" last", 100.0) if place else (" first", 0.0)
        yield {"label": bars[place].label, "kind": kind + side, "left": f"{left:.1f}%"}


def _chosen(count: int, most: int) -> list[int]:
    """Return at most so many places out of `count`, the first and the last among them.

    >>> _chosen(3, 7), _chosen(92, 3)
    ([0, 1, 2], [0, 46, 91])
    """
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]

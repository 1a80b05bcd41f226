"""Bar charts as HTML: lengths are the style sheet's percentages, so one drawing fits every width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from exporter.report.figure_texts import number
from exporter.report.html_elements import h

#: What is not nothing is drawn at least as this share of the longest bar.
_SHORTEST = 0.006
#: More columns than that have no room for their values above them.
_MOST_NAMED = 7
#: Pixels for the labels below the columns: at every width, and where there is room for more.
_NARROW, _WIDE = 250, 560


@dataclass(frozen=True, kw_only=True)
class Bar:
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


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A line across the columns.

    Attributes:
        place: Where it is, counted in columns from the left.
        text: Its name.
    """

    place: float
    text: str


def rows(bars: Sequence[Bar]) -> Element:
    """Draw one horizontal bar for each, its label above it and its value at the right."""
    most = max(bar.value for bar in bars) or 1
    return h("div", *(_row(bar, most) for bar in bars), class_="rows")


def _row(bar: Bar, most: float) -> Element:
    length = h("span", class_=bar.mood or None, style=f"width:{_percent(bar.value, most)}")
    return h(
        "div",
        h("span", bar.label, class_="label"),
        h("span", bar.text, class_="amount"),
        h("span", length, class_="track"),
        class_="row",
        title=f"{bar.label}: {bar.text}",
    )


def columns(bars: Sequence[Bar], *, marks: Sequence[Mark] = (), tall: bool = False) -> Element:
    """Draw one upright bar for each, with a scale at the left and some of their labels below.

    Args:
        bars: At least one.
        marks: Lines across them.
        tall: Whether it takes the height of a chart over the whole page.
    """
    most = max(max(bar.value, bar.limit or 0) for bar in bars)
    steps = _scale(most)
    top = steps[-1]
    named = len(bars) <= _MOST_NAMED
    return h(
        "div",
        h(
            "div",
            *(h("span", number(step), style=f"bottom:{_percent(step, top)}") for step in steps),
            class_="scale",
        ),
        h(
            "div",
            *(h("i", class_="grid", style=f"bottom:{_percent(step, top)}") for step in steps),
            *(_column(bar, top, named=named) for bar in bars),
            *(_mark(mark, row, len(bars)) for row, mark in enumerate(marks)),
            class_="field",
        ),
        h("div", *_ticks(bars), class_="ticks"),
        class_="columns tall" if tall else "columns",
    )


def _column(bar: Bar, top: float, *, named: bool) -> Element:
    return h(
        "span",
        h("span", bar.text, class_="amount", style=f"bottom:{_percent(bar.value, top)}")
        if named and bar.value
        else None,
        h("b", class_=bar.mood or None, style=f"height:{_percent(bar.value, top)}") if bar.value else None,
        h("i", class_="limit", style=f"bottom:{_percent(bar.limit, top)}") if bar.limit is not None else None,
        class_="column paused" if bar.paused else "column",
        title=f"{bar.label}: {bar.text}",
    )


def _mark(mark: Mark, row: int, count: int) -> Element:
    left = h(
        "span", mark.text, class_="left" if mark.place > 0.6 * count else None, style=f"top:{row * 1.25}em"
    )
    return h("i", left, class_="mark", style=f"left:{100 * mark.place / count:.1f}%")


def _ticks(bars: Sequence[Bar]) -> list[Element]:
    """Return some labels: a few at every width, more of them where there is room."""
    room = 7 * max(len(bar.label) for bar in bars) + 14
    few, many = (_chosen(len(bars), max(2, width // room)) for width in (_NARROW, _WIDE))
    shown = []
    for place in sorted({*few, *many}):
        kind = "always" if place in few and place in many else "narrow" if place in few else "wide"
        side = "first" if place == 0 and len(bars) > 1 else "last" if place == len(bars) - 1 > 0 else ""
        left = 0.0 if side == "first" else 100.0 if side == "last" else 100 * (place + 0.5) / len(bars)
        shown.append(h("span", bars[place].label, class_=f"{kind} {side}".strip(), style=f"left:{left:.1f}%"))
    return shown


def _chosen(count: int, most: int) -> list[int]:
    """Return at most so many places out of `count`, the first and the last among them.

    >>> _chosen(3, 7), _chosen(92, 3)
    ([0, 1, 2], [0, 46, 91])
    """
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]


def _scale(most: float) -> list[float]:
    """Return three to six round steps from 0 to at least `most`.

    >>> _scale(87), _scale(0.3), _scale(0)
    ([0.0, 20.0, 40.0, 60.0, 80.0, 100.0], [0.0, 0.1, 0.2, 0.3], [0.0, 1.0])
    """
    if not most:
        return [0.0, 1.0]
    size = 10.0 ** math.floor(math.log10(most / 3))
    step = next(size * by for by in (1, 2, 5, 10) if most / (size * by) <= 5)
    count = math.ceil(round(most / step, 9))
    return [round(step * place, 9) for place in range(count + 1)]


def _percent(value: float, most: float) -> str:
    share = max(value / most, _SHORTEST if value else 0.0)
    return f"{100 * share:.1f}%"

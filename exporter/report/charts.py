"""The charts, each drawn for one width in CSS pixels; colours are the page's."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from xml.etree.ElementTree import Element

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from exporter.report.chart_svg import ACCENT, BAD, GRID, INK, MUTED, TRACK, WARN, svg
from exporter.report.figure_texts import milliseconds, number
from exporter.report.run_figures import Latency, Timeline

Draw = Callable[[int], Element]

#: Widths that fit a card over half the page and over all of it, from a phone on.
HALF, FULL = (320, 540), (320, 640, 1120)
#: What is not nothing is drawn at least as this share of the longest bar.
_SHORTEST = 0.006
QUANTILES = (0.5, 0.95, 0.99)
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 12.0,
    "axes.linewidth": 1.0,
}
_PX = 1 / 72


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar.

    Attributes:
        label: What it stands for.
        value: Its length.
        text: The value as people read it.
        colour: One of the stand-in colours of `svg`.
    """

    label: str
    value: float
    text: str
    colour: str = ACCENT


def timeline(figures: Timeline, width: int) -> Element:
    """Draw answers a second over time, the permitted rate, and the pauses."""
    shown = figures.coarser(width // 4)
    edges = [shown.step_s * index for index in range(len(shown.rates) + 1)]
    with _axes(width, 260, left=44, bottom=26, top=12) as (figure, axes):
        axes.set_xlim(0, edges[-1])
        axes.set_ylim(0, _headroom([*shown.rates, *(limit or 0 for limit in shown.permitted)]))
        _grid(axes, 5)
        _mark_pauses(axes, shown)
        axes.stairs(shown.rates, edges, fill=True, color=ACCENT, alpha=0.22)
        axes.stairs(shown.rates, edges, baseline=None, color=ACCENT, linewidth=1.6)
        limits = [math.nan if limit is None else limit for limit in shown.permitted]
        if not all(map(math.isnan, limits)):
            axes.stairs(limits, edges, baseline=None, color=INK, linewidth=1.4, linestyle=(0, (4, 3)))
        _time_ticks(axes, edges[-1], width)
        return svg(figure, {})


def _mark_pauses(axes: Axes, figures: Timeline) -> None:
    for pause in figures.pauses:
        end_s = min(pause.end_s, figures.length_s)
        if pause.at_s < end_s:
            axes.axvspan(pause.at_s, end_s, color=WARN, alpha=0.28, linewidth=0)
            axes.axvline(pause.at_s, color=WARN, linewidth=1.5)


def _time_ticks(axes: Axes, length_s: float, width: int) -> None:
    unit, name = next((unit, name) for unit, name, most in _TIME_UNITS if length_s <= most or most is None)
    locator = MaxNLocator(nbins=max(3, width // 90), steps=[1, 2, 3, 5, 6, 10])
    ticks = [tick * unit for tick in locator.tick_values(0, length_s / unit) if tick * unit <= length_s]
    labels = [f"{tick / unit:g} {name}" for tick in ticks]
    axes.set_xticks(ticks, labels)
    _keep_inside(axes, ticks, (0, length_s))


_TIME_UNITS: tuple[tuple[float, str, float], ...] = (
    (1, "s", 180),
    (60, "min", 10_800),
    (3600, "h", math.inf),
)


def latency(figures: Latency, width: int) -> Element:
    """Draw requests by how long they took, with the estimated quantiles."""
    first, last = _occupied(figures.counts)
    counts = figures.counts[first : last + 1]
    edges = [0.0, *figures.edges, math.inf][first : last + 2]
    with _axes(width, 260, left=12, bottom=26, top=70) as (figure, axes):
        axes.set_xlim(0, len(counts))
        axes.set_ylim(0, _headroom(counts))
        titles = _columns(axes, [0.5 + place for place in range(len(counts))], _latency_bars(counts, edges))
        _edge_ticks(axes, edges, width)
        for row, share in enumerate(QUANTILES):
            _mark_quantile(axes, figures, share, row, edges)
        axes.spines["bottom"].set_visible(True)
        return svg(figure, titles)


def _latency_bars(counts: Sequence[int], edges: Sequence[float]) -> list[Bar]:
    return [
        Bar(label=latency_bucket(low, high), value=count, text=number(count))
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]


def latency_bucket(low: float, high: float) -> str:
    """Return a bucket's range as a label."""
    if math.isinf(high):
        return f"over {milliseconds(low)}"
    return f"{milliseconds(low)} to {milliseconds(high)}" if low else f"up to {milliseconds(high)}"


def _edge_ticks(axes: Axes, edges: Sequence[float], width: int) -> None:
    finite = [(place, edge) for place, edge in enumerate(edges) if math.isfinite(edge)]
    every = -(-len(finite) * 58 // width)
    chosen = finite[::every]
    axes.set_xticks(
        [place for place, _ in chosen], [milliseconds(edge) if edge else "0" for _, edge in chosen]
    )
    _keep_inside(axes, [place for place, _ in chosen], (0, len(edges) - 1))


def _keep_inside(axes: Axes, ticks: Sequence[float], limits: tuple[float, float]) -> None:
    """Turn the labels near the ends of the axis inwards: nothing may be cut off."""
    near = (limits[1] - limits[0]) / 30
    for tick, label in zip(ticks, axes.get_xticklabels(), strict=True):
        if tick - limits[0] < near:
            label.set_horizontalalignment("left")
        elif limits[1] - tick < near:
            label.set_horizontalalignment("right")


def _mark_quantile(axes: Axes, figures: Latency, share: float, row: int, edges: Sequence[float]) -> None:
    """Draw a line at the quantile, its name in a row of its own above the bars."""
    value = figures.quantile(share)
    if value is None:
        return
    place = _place_of(value, edges)
    top, right = 1.3 - 0.11 * row, place > 0.6 * (len(edges) - 1)
    across = axes.get_xaxis_transform()
    dots = (0, (2, 2))
    axes.plot([place, place], [0, top], color=INK, lw=1.2, ls=dots, transform=across, clip_on=False)
    axes.annotate(
        f"p{share * 100:.0f} {milliseconds(value)}",
        (place, top),
        (-5 if right else 5, 0),
        xycoords=across,
        textcoords="offset points",
        ha="right" if right else "left",
        va="top",
        color=INK,
        fontweight="bold",
    )


def _place_of(value: float, edges: Sequence[float]) -> float:
    """Return where a latency lies on an axis on which every bucket is equally wide."""
    for place, (low, high) in enumerate(pairwise(edges)):
        if value <= high:
            return place + ((value - low) / (high - low) if math.isfinite(high) else 0.0)
    return float(len(edges) - 1)


def _occupied(counts: Sequence[int]) -> tuple[int, int]:
    occupied = [place for place, count in enumerate(counts) if count]
    return occupied[0], occupied[-1]


def bars(rows: Sequence[Bar], width: int) -> Element:
    """Draw one horizontal bar for each row, its label above it and its value at the right."""
    row_height = 40
    with _axes(width, row_height * len(rows) + 4, left=1, right=1, bottom=2, top=2) as (figure, axes):
        most = max(bar.value for bar in rows) or 1
        axes.set_xlim(0, most)
        axes.set_ylim(len(rows) * row_height, 0)
        axes.axis("off")
        titles = {}
        for place, bar in enumerate(rows):
            top = place * row_height
            _label_row(axes, bar, top + 15, width)
            for length, colour in ((most, TRACK), (max(bar.value, _SHORTEST * most), bar.colour)):
                drawn = axes.barh(top + 26, length, height=10, color=colour, linewidth=0)[0]
            drawn.set_gid(f"bar-{place}")
            titles[f"bar-{place}"] = f"{bar.label}: {bar.text}"
        return svg(figure, titles)


def _label_row(axes: Axes, bar: Bar, y: float, width: int) -> None:
    most = (width - 7 * len(bar.text) - 16) / 6.6
    label = bar.label if len(bar.label) <= most else bar.label[: int(most) - 1].rstrip() + "…"
    across = axes.get_yaxis_transform()
    axes.text(0, y, label, ha="left", va="baseline", color=INK, transform=across)
    axes.text(1, y, bar.text, ha="right", va="baseline", color=INK, fontweight="bold", transform=across)


def columns(steps: Sequence[Bar], width: int, *, height: int = 260) -> Element:
    """Draw one upright bar for each step, values above them where there is room."""
    with _axes(width, height, left=44, bottom=26, top=22) as (figure, axes):
        axes.set_xlim(-0.5, len(steps) - 0.5)
        axes.set_ylim(0, _headroom([bar.value for bar in steps]))
        _grid(axes, 4)
        titles = _columns(axes, list(range(len(steps))), steps, named=len(steps) * 36 <= width)
        room = 10 * max(len(step.label) for step in steps) + 14  # the first label stands right of its bar
        chosen = range(0, len(steps), -(-len(steps) * room // (width - 52)))
        axes.set_xticks(list(chosen), [steps[place].label for place in chosen])
        if chosen.step > 1:
            _keep_inside(axes, list(chosen), axes.get_xlim())
        return svg(figure, titles)


def _columns(
    axes: Axes, places: Sequence[float], steps: Sequence[Bar], *, named: bool = True
) -> dict[str, str]:
    titles = {}
    for index, (place, step) in enumerate(zip(places, steps, strict=True)):
        if not step.value:
            continue
        axes.bar(place, step.value, width=0.82, color=step.colour, linewidth=0)[0].set_gid(f"bar-{index}")
        titles[f"bar-{index}"] = f"{step.label}: {step.text}"
        if named:
            axes.annotate(step.text, (place, step.value), (0, 3), textcoords="offset points",
                          ha="center", va="bottom", color=INK, fontsize=11)  # fmt: skip
    return titles


@contextmanager
def _axes(
    width: int, height: int, *, left: float, bottom: float, top: float, right: float = 8
) -> Iterator[tuple[Figure, Axes]]:
    """Give axes with these margins in pixels, of which only what is drawn shows."""
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        # A letter that the font for measuring lacks: the reader's system has its own.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure = Figure(figsize=(width * _PX, height * _PX), dpi=72, facecolor="none")
        box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
        axes = figure.add_axes(box, facecolor="none")
        axes.spines[:].set_visible(False)
        axes.spines[:].set_color(MUTED)
        axes.tick_params(length=0, labelcolor=MUTED, labelsize=12)
        axes.set_yticks([])
        yield figure, axes


def _grid(axes: Axes, count: int) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(nbins=count, min_n_ticks=3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.grid(axis="y", color=GRID, linewidth=1)
    axes.set_axisbelow(True)


def _headroom(values: Sequence[float]) -> float:
    return max(values, default=0) * 1.08 or 1


__all__ = ["BAD", "FULL", "HALF", "WARN", "Bar", "Draw", "bars", "columns", "latency", "timeline"]

"""The part of the page about the run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from xml.etree.ElementTree import Element

from exporter.model.manifest import Manifest
from exporter.model.records import REJECT_REASONS
from exporter.report.bars import Bar, Mark, columns
from exporter.report.cards import Table, bar_card, card, missing
from exporter.report.figure_texts import (
    REASON_NAMES,
    counted,
    duration,
    http_name,
    milliseconds,
    number,
    percent,
)
from exporter.report.run_figures import Latency, RunFigures, Timeline

_MOST_STEPS = 240
_MOST_COLUMNS = 120
_QUANTILES = (0.5, 0.95, 0.99)
_NOTHING_ASKED = (
    "Nothing was asked in the try that published this dataset: every order was in the store already."
)


def run_cards(manifest: Manifest, figures: RunFigures) -> list[Element]:
    """Return the cards, in their order."""
    return [
        _timeline_card(manifest, figures.timeline),
        _outcome_card(manifest),
        _latency_card(figures.latency),
        _causes_card(manifest, figures.causes),
        _statuses_card(figures.statuses),
    ]


# --- answers a second ---


def _timeline_card(manifest: Manifest, timeline: Timeline | None) -> Element:
    name, title = "answers", "Answers a second"
    if timeline is None:
        return missing(name, title, _NOTHING_ASKED, wide=True)
    return card(
        name,
        title,
        summary=" ".join(_timeline_sentences(manifest, timeline)),
        chart=columns(_timeline_bars(timeline), tall=True),
        legend=_timeline_legend(timeline),
        table=_timeline_table(timeline),
        wide=True,
    )


def _timeline_bars(timeline: Timeline) -> list[Bar]:
    shown = timeline.coarser(_MOST_COLUMNS)
    return [
        Bar(
            label=duration(place * shown.step_s),
            value=rate,
            text=f"{number(round(rate, 2))} answers a second",
            limit=limit,
            paused=_paused_between(shown, place) > 0,
        )
        for place, (rate, limit) in enumerate(zip(shown.rates, shown.permitted, strict=True))
    ]


def _timeline_sentences(manifest: Manifest, timeline: Timeline) -> list[str]:
    answers = round(sum(timeline.rates) * timeline.step_s)
    counts = f"{counted(answers, 'answer')} in {duration(timeline.length_s)}"
    sentences = [f"{counts}: {_mean_of(timeline)}, {number(max(timeline.rates))} at most."]
    if timeline.used is not None:
        sentences.append(
            "Pauses are included; the permitted rate is the mean of what was permitted meanwhile."
        )
    if timeline.pauses:
        pauses = counted(len(timeline.pauses), "pause")
        sentences.append(f"{pauses} of the whole run, {duration(timeline.paused_s)} in all.")
    if answers < manifest.requests.sent:
        sentences.append(
            f"The run sent {counted(manifest.requests.sent, 'request')} over all its tries; this is the last one."
        )
    return sentences


def _mean_of(timeline: Timeline) -> str:
    """Return the mean of the answers, beside the mean of what was permitted in the same seconds."""
    if timeline.used is None or timeline.mean_permitted is None:
        return f"{number(timeline.mean)} a second on average"
    permitted = f"{number(timeline.mean_permitted)} permitted"
    return f"{number(timeline.mean)} a second on average of {permitted} ({percent(timeline.used, 1)})"


def _timeline_legend(timeline: Timeline) -> list[tuple[str, str]]:
    legend = [("area", "answers a second")]
    if any(limit is not None for limit in timeline.permitted):
        legend.append(("dashes", "permitted rate"))
    if timeline.pauses:
        legend.append(("band", "pause: the API asked everybody to wait"))
    return legend


def _timeline_table(timeline: Timeline) -> Table:
    shown = timeline.coarser(_MOST_STEPS)
    rows = [
        (
            duration(place * shown.step_s),
            number(round(rate, 2)),
            "no limit" if limit is None else number(round(limit, 2)),
            duration(paused) if (paused := _paused_between(shown, place)) else "",
        )
        for place, (rate, limit) in enumerate(zip(shown.rates, shown.permitted, strict=True))
    ]
    return Table(
        caption="answers a second over time",
        head=("From", "Answers a second", "Permitted", "Paused"),
        rows=rows,
    )


def _paused_between(timeline: Timeline, place: int) -> float:
    start_s, end_s = place * timeline.step_s, (place + 1) * timeline.step_s
    return sum(max(0.0, min(end_s, pause.end_s) - max(start_s, pause.at_s)) for pause in timeline.pauses)


# --- latency ---


def _latency_card(latency: Latency) -> Element:
    name, title = "latency", "Latency"
    if not latency.total:
        return missing(name, title, _NOTHING_ASKED)
    return card(
        name,
        title,
        summary=_latency_sentences(latency),
        chart=_latency_chart(latency),
        table=_latency_table(latency),
    )


def _latency_chart(latency: Latency) -> Element:
    edges = [0.0, *latency.edges, math.inf]
    occupied = [place for place, count in enumerate(latency.counts) if count]
    first, last = occupied[0], occupied[-1]
    bars = [
        Bar(
            label=_bucket(edges[place], edges[place + 1]),
            value=latency.counts[place],
            text=number(latency.counts[place]),
        )
        for place in range(first, last + 1)
    ]
    marks = [
        Mark(place=_place_of(value, edges) - first, text=f"p{share * 100:.0f} {milliseconds(value)}")
        for share in _QUANTILES
        if (value := latency.quantile(share)) is not None
    ]
    return columns(bars, marks=marks)


def _bucket(low: float, high: float) -> str:
    """Return a bucket's range as a label."""
    if math.isinf(high):
        return f"over {milliseconds(low)}"
    return f"{milliseconds(low)} to {milliseconds(high)}" if low else f"up to {milliseconds(high)}"


def _place_of(value: float, edges: Sequence[float]) -> float:
    """Return where a latency lies on an axis on which every bucket is equally wide."""
    for place, (low, high) in enumerate(pairwise(edges)):
        if value <= high:
            return place + ((value - low) / (high - low) if math.isfinite(high) else 0.0)
    return float(len(edges) - 1)


def _latency_sentences(latency: Latency) -> str:
    half, most, nearly_all = (milliseconds(latency.quantile(share) or 0.0) for share in _QUANTILES)
    return (
        f"Half of the requests took up to {half} (p50), 95 % up to {most} (p95), 99 % up to {nearly_all} (p99)."
        " These are estimates: requests are counted in ranges, and taken as spread evenly within each."
    )


def _latency_table(latency: Latency) -> Table:
    edges = [0.0, *latency.edges, float("inf")]
    rows = [
        (_bucket(low, high), number(count), percent(count, latency.total))
        for low, high, count in zip(edges, edges[1:], latency.counts, strict=False)
        if count
    ]
    return Table(caption="requests by latency", head=("Latency", "Requests", "Share"), rows=rows)


# --- outcomes ---


def _outcome_card(manifest: Manifest) -> Element:
    outcomes = _outcomes(manifest)
    total = sum(count for _, count, _ in outcomes)
    lines = f"{counted(total, 'line')} with an order number, or what should be one"
    return bar_card(
        "outcomes",
        "Outcomes",
        [Bar(label=name, value=count, text=number(count), mood=mood) for name, count, mood in outcomes],
        summary=f"{lines}: {counted(manifest.counts.exported, 'order')} exported, {number(manifest.rejects)} rejected.",
        table=Table(
            caption="lines by outcome",
            head=("Outcome", "Lines", "Share"),
            rows=[(name, number(count), percent(count, total)) for name, count, _ in outcomes],
        ),
    )


def _outcomes(manifest: Manifest) -> list[tuple[str, int, str]]:
    reasons = manifest.rejects_by_reason
    ordered = sorted(reasons, key=lambda reason: (_rank(reason), reason))
    return [
        ("exported", manifest.counts.exported, "good"),
        *((f"rejected: {REASON_NAMES.get(reason, reason)}", reasons[reason], "bad") for reason in ordered),
    ]


def _rank(reason: str) -> int:
    return REJECT_REASONS.index(reason) if reason in REJECT_REASONS else len(REJECT_REASONS)


# --- retries and statuses ---


def _causes_card(manifest: Manifest, causes: Mapping[str, int]) -> Element:
    name, title = "retries", "Retries by cause"
    requests = manifest.requests
    told = (
        f"{counted(requests.retried, 'request')} repeated after a failure,"
        f" {number(requests.throttled)} answered 429 (too many requests)."
    )
    if not causes:
        return missing(
            name, title, told if requests.retried or requests.throttled else "Nothing had to be asked twice."
        )
    return bar_card(
        name,
        title,
        [Bar(label=cause, value=count, text=number(count), mood="warn") for cause, count in causes.items()],
        summary=f"{told} The causes, each failed request counted once:",
        table=_counts_table("failed requests by cause", "Cause", causes),
    )


def _statuses_card(statuses: Mapping[str, int]) -> Element:
    name, title = "http", "Answers by HTTP status"
    if not statuses:
        return missing(name, title, _NOTHING_ASKED)
    total = sum(statuses.values())
    named = {http_name(status): count for status, count in statuses.items()}
    return bar_card(
        name,
        title,
        [
            Bar(label=http_name(status), value=count, text=number(count), mood=_status_mood(status))
            for status, count in statuses.items()
        ],
        summary=f"{percent(statuses.get('200', 0), total)} of {counted(total, 'request')} were answered 200.",
        table=_counts_table("requests by HTTP status", "Status", named),
    )


def _status_mood(status: str) -> str:
    return {"2": "", "4": "bad"}.get(status[:1], "warn") if status != "429" else "warn"


def _counts_table(caption: str, of: str, counts: Mapping[str, int]) -> Table:
    total = sum(counts.values())
    rows = [(name, number(count), percent(count, total)) for name, count in counts.items()]
    return Table(caption=caption, head=(of, "Requests", "Share"), rows=rows)

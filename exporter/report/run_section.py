"""The part of the page about the run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from xml.etree.ElementTree import Element

from exporter.model.manifest import Manifest
from exporter.model.records import REJECT_REASONS
from exporter.report import charts
from exporter.report.cards import Chart, Table, bar_card, card, missing
from exporter.report.chart_svg import ACCENT, BAD, GOOD, WARN
from exporter.report.charts import FULL, HALF, QUANTILES, Bar
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
        chart=Chart(draw=partial(charts.timeline, timeline), widths=FULL),
        legend=_timeline_legend(timeline),
        table=_timeline_table(timeline),
        wide=True,
    )


def _timeline_sentences(manifest: Manifest, timeline: Timeline) -> list[str]:
    answers = round(sum(timeline.rates) * timeline.step_s)
    mean = number(sum(timeline.rates) / len(timeline.rates))
    counts = f"{counted(answers, 'answer')} in {duration(timeline.length_s)}"
    sentences = [f"{counts}: {mean} a second on average, {number(max(timeline.rates))} at most."]
    if timeline.used is not None:
        sentences.append(f"That used {percent(timeline.used, 1)} of the permitted rate, pauses included.")
    if timeline.pauses:
        pauses = counted(len(timeline.pauses), "pause")
        sentences.append(f"{pauses} of the whole run, {duration(timeline.paused_s)} in all.")
    if answers < manifest.requests.sent:
        sentences.append(
            f"The run sent {counted(manifest.requests.sent, 'request')} over all its tries; this is the last one."
        )
    return sentences


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
        chart=Chart(draw=partial(charts.latency, latency), widths=HALF),
        table=_latency_table(latency),
    )


def _latency_sentences(latency: Latency) -> str:
    half, most, nearly_all = (milliseconds(latency.quantile(share) or 0.0) for share in QUANTILES)
    return (
        f"Half of the requests took up to {half} (p50), 95 % up to {most} (p95), 99 % up to {nearly_all} (p99)."
        " These are estimates: requests are counted in ranges, and taken as spread evenly within each."
    )


def _latency_table(latency: Latency) -> Table:
    edges = [0.0, *latency.edges, float("inf")]
    rows = [
        (charts.latency_bucket(low, high), number(count), percent(count, latency.total))
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
        [Bar(label=name, value=count, text=number(count), colour=colour) for name, count, colour in outcomes],
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
        ("exported", manifest.counts.exported, GOOD),
        *((f"rejected: {REASON_NAMES.get(reason, reason)}", reasons[reason], BAD) for reason in ordered),
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
        [Bar(label=cause, value=count, text=number(count), colour=WARN) for cause, count in causes.items()],
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
            Bar(label=http_name(status), value=count, text=number(count), colour=_status_colour(status))
            for status, count in statuses.items()
        ],
        summary=f"{percent(statuses.get('200', 0), total)} of {counted(total, 'request')} were answered 200.",
        table=_counts_table("requests by HTTP status", "Status", named),
    )


def _status_colour(status: str) -> str:
    return {"2": ACCENT, "4": BAD}.get(status[:1], WARN) if status != "429" else WARN


def _counts_table(caption: str, of: str, counts: Mapping[str, int]) -> Table:
    total = sum(counts.values())
    rows = [(name, number(count), percent(count, total)) for name, count in counts.items()]
    return Table(caption=caption, head=(of, "Requests", "Share"), rows=rows)

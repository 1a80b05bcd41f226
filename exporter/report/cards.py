"""The pieces that every section is built from: a card with a chart, its summary and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from exporter.report.bars import Bar, rows
from exporter.report.html_elements import Child, h


@dataclass(frozen=True, kw_only=True)
class Table:
    """Figures as a table; the first cell of a row is its heading.

    Attributes:
        caption: What the figures are.
        head: The columns' names.
        rows: Texts, or elements, as many as there are names.
        words: Columns, from 0, that hold words and not numbers.
    """

    caption: str
    head: tuple[str, ...]
    rows: Sequence[Sequence[Child]]
    words: tuple[int, ...] = (0,)


def card(
    name: str,
    title: str,
    *body: Child,
    summary: str = "",
    chart: Element | None = None,
    legend: Sequence[tuple[str, str]] = (),
    table: Table | None = None,
    wide: bool = False,
) -> Element:
    """Make one card.

    Args:
        name: Its id in the page.
        title: Its heading.
        body: What stands below the chart.
        summary: In words what the chart shows.
        chart: What is drawn; a screen reader is told title and summary instead.
        legend: (swatch, meaning) pairs; a swatch is a CSS class.
        table: The chart's figures.
        wide: Whether it takes the whole width.
    """
    return h(
        "article",
        h("h3", title, id=f"{name}-title"),
        h("p", summary, class_="summary", id=f"{name}-summary") if summary else None,
        _plot(name, chart) if chart else None,
        _legend(legend) if legend else None,
        *body,
        _figures(name, table) if table else None,
        id=name,
        class_="card wide" if wide else "card",
        aria_labelledby=f"{name}-title",
    )


def bar_card(name: str, title: str, bars: Sequence[Bar], *, summary: str, table: Table) -> Element:
    """Make a card with horizontal bars."""
    return card(name, title, summary=summary, chart=rows(bars), table=table)


def missing(name: str, title: str, why: str, *, wide: bool = False) -> Element:
    """Make a card that says why there is nothing to show."""
    return card(name, title, h("p", why, class_="missing"), wide=wide)


def table_of(table: Table) -> Element:
    """Make the table itself, in a box that scrolls by keyboard too."""
    head = h(
        "tr", *(h("th", name, scope="col", class_=_kind(table, at)) for at, name in enumerate(table.head))
    )
    body = (
        h(
            "tr",
            h("th", row[0], scope="row"),
            *(h("td", cell, class_=_kind(table, at)) for at, cell in enumerate(row[1:], start=1)),
        )
        for row in table.rows
    )
    inner = h("table", h("caption", table.caption, class_="hidden"), h("thead", head), h("tbody", *body))
    return h("div", inner, class_="scroll", tabindex="0", role="region", aria_label=table.caption)


def _kind(table: Table, at: int) -> str | None:
    return None if at in table.words else "number"


def _figures(name: str, table: Table) -> Element:
    return h("details", h("summary", f"Figures: {table.caption}"), table_of(table), id=f"{name}-figures")


def _plot(name: str, chart: Element) -> Element:
    told = {"aria_labelledby": f"{name}-title", "aria_describedby": f"{name}-summary"}
    return h("div", chart, class_="plot", role="img", **told)


def _legend(legend: Sequence[tuple[str, str]]) -> Element:
    # The summary tells the same in words; a list of colours tells a listener nothing.
    entries = (h("li", h("span", class_=f"swatch {swatch}"), meaning) for swatch, meaning in legend)
    return h("ul", *entries, class_="legend", aria_hidden="true")

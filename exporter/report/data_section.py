"""The part of the page about the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from functools import partial
from xml.etree.ElementTree import Element

from exporter.model.manifest import Drift
from exporter.report import charts
from exporter.report.cards import Chart, Table, bar_card, card, missing, table_of
from exporter.report.charts import FULL, HALF, Bar
from exporter.report.data_figures import CurrencyTotal, DataFigures, NullCount, TableNulls
from exporter.report.date_steps import steps
from exporter.report.figure_texts import (
    counted,
    currency_name,
    day,
    money,
    number,
    percent,
    status_name,
    visible,
)
from exporter.report.html_elements import h

_MOST_BARS = 14
_MOST_PATHS = 100
_MOST_ITEMS = 12
_NO_ORDERS = "There are no orders in this dataset."


def data_cards(figures: DataFigures, drift: Drift) -> list[Element]:
    """Return the cards, in their order."""
    return [
        _days_card(figures),
        _status_card(figures),
        h("div", _items_card(figures), _amounts_card(figures), class_="stack"),
        _nulls_card(figures.nulls),
        _drift_card(drift),
    ]


def _not_written(*columns: str) -> str:
    names = " and ".join(columns)
    verb = "was" if len(columns) == 1 else "were not both"
    return (
        f"The dataset was written without this: {names} {verb}{' not' if len(columns) == 1 else ''} selected."
    )


# --- orders by day ---


def _days_card(figures: DataFigures) -> Element:
    name, title = "days", "Orders by day"
    if figures.by_day is None:
        return missing(name, title, _not_written("date_placed"), wide=True)
    if not figures.by_day:
        return missing(name, title, "No order has a date." if figures.orders else _NO_ORDERS, wide=True)
    shown = steps(figures.by_day)
    bars = [Bar(label=label, value=count, text=number(count)) for label, count in shown.counts]
    return card(
        name,
        title if shown.unit == "day" else f"{title}, shown by {shown.unit}",
        summary=_days_sentences(figures.by_day, figures.undated),
        chart=Chart(draw=partial(charts.columns, bars), widths=FULL),
        table=Table(
            caption=f"orders by {shown.unit}",
            head=(shown.unit.capitalize(), "Orders"),
            rows=[(label, number(count)) for label, count in shown.counts if count],
        ),
        wide=True,
    )


def _days_sentences(by_day: Mapping[date, int], undated: int) -> str:
    busiest = max(by_day, key=lambda at: (by_day[at], at))
    text = (
        f"Placed from {day(min(by_day))} to {day(max(by_day))} (UTC), on {counted(len(by_day), 'day')};"
        f" the most on {day(busiest)}: {number(by_day[busiest])}."
    )
    return f"{text} {counted(undated, 'order')} without a date." if undated else text


# --- orders by status, items an order ---


def _status_card(figures: DataFigures) -> Element:
    name, title = "status", "Orders by status"
    if figures.by_status is None:
        return missing(name, title, _not_written("status"))
    if not figures.by_status:
        return missing(name, title, _NO_ORDERS)
    named = {status_name(code): count for code, count in figures.by_status.items()}
    first = next(iter(named))
    return bar_card(
        name,
        title,
        [
            Bar(label=label, value=count, text=_with_share(count, figures.orders))
            for label, count in _top(named)
        ],
        summary=f"{counted(len(named), 'status', 'statuses')}; most orders are {first}:"
        f" {percent(named[first], figures.orders)}.",
        table=Table(
            caption="orders by status",
            head=("Status", "Orders", "Share"),
            rows=[(label, number(count), percent(count, figures.orders)) for label, count in named.items()],
        ),
    )


def _top(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return what a chart has room for; the table has all."""
    items = list(counts.items())
    if len(items) <= _MOST_BARS:
        return items
    kept, rest = items[: _MOST_BARS - 1], items[_MOST_BARS - 1 :]
    return [*kept, (f"{len(rest)} others", sum(count for _, count in rest))]


def _with_share(count: int, total: int) -> str:
    return f"{number(count)} · {percent(count, total)}"


def _items_card(figures: DataFigures) -> Element:
    name, title = "items", "Items an order"
    if not figures.orders:
        return missing(name, title, _NO_ORDERS)
    items = sum(size * count for size, count in figures.by_items.items())
    shown = _grouped_sizes(figures.by_items)
    bars = [Bar(label=label, value=count, text=number(count)) for label, count in shown]
    return card(
        name,
        title,
        summary=f"{items / figures.orders:.2f} items an order on average, {max(figures.by_items)} at most;"
        f" {counted(figures.by_items.get(0, 0), 'order')} without any.",
        chart=Chart(draw=partial(charts.columns, bars), widths=HALF),
        table=Table(
            caption="orders by number of items",
            head=("Items", "Orders", "Share"),
            rows=[
                (str(size), number(count), percent(count, figures.orders))
                for size, count in figures.by_items.items()
            ],
        ),
    )


def _grouped_sizes(by_items: Mapping[int, int]) -> list[tuple[str, int]]:
    """Return every size up to the largest, what is beyond the chart's room in one step."""
    largest = max(by_items)
    sizes = [
        (str(size), by_items.get(size, 0)) for size in range(min(by_items), min(largest, _MOST_ITEMS) + 1)
    ]
    more = sum(count for size, count in by_items.items() if size > _MOST_ITEMS)
    return [*sizes, (f"{_MOST_ITEMS + 1}+", more)] if more else sizes


# --- amounts ---


def _amounts_card(figures: DataFigures) -> Element:
    name, title = "amounts", "Amounts by currency"
    if figures.totals is None:
        return missing(name, title, _not_written("currency", "amount"))
    if not figures.totals:
        return missing(name, title, _NO_ORDERS)
    return card(
        name,
        title,
        table_of(_amounts_table(figures.totals)),
        summary="Exact sums of the column amount, means to four digits. Currencies are never added together.",
    )


def _amounts_table(totals: Iterable[CurrencyTotal]) -> Table:
    return Table(
        caption="amounts by currency",
        head=("Currency", "Orders", "Sum", "Mean"),
        rows=[
            (
                currency_name(total.currency),
                number(total.orders),
                money(total.total),
                money(total.mean, 4) if total.orders else "",
            )
            for total in totals
        ],
    )


# --- nulls ---


def _nulls_card(tables: Iterable[TableNulls]) -> Element:
    return card(
        "nulls",
        "Empty cells",
        *(h("div", *_nulls_of(table), class_="half") for table in tables),
        summary="The share of null cells in each column that was written, the emptiest first.",
        wide=True,
    )


def _nulls_of(table: TableNulls) -> list[Element]:
    columns = sorted(table.columns, key=lambda column: -column.nulls)
    rows = [(_column(column), _share(column, table.rows)) for column in columns]
    figures = Table(caption=f"null share of the columns of {table.table}", head=("Column", "Null"), rows=rows)
    return [
        h("h4", table.table),
        h("p", _nulls_sentence(table)),
        h("details", h("summary", f"Figures: {figures.caption}"), table_of(figures)),
    ]


def _nulls_sentence(table: TableNulls) -> str:
    if not table.rows:
        return "No rows."
    full = sum(not column.nulls for column in table.columns)
    empty = sum(column.nulls == table.rows for column in table.columns)
    text = (
        f"Of {counted(len(table.columns), 'column')}, {number(full)} are always filled,"
        f" {number(len(table.columns) - full - empty)} sometimes and {number(empty)} never."
    )
    personal = [column for column in table.columns if column.personal]
    if personal and all(column.nulls == table.rows for column in personal):
        text += " All personal columns are empty, as --pii drop leaves them."
    return text


def _column(column: NullCount) -> Element:
    mark = h("small", " personal", class_="tag") if column.personal else None
    return h("span", h("code", column.column), mark)


def _share(column: NullCount, rows: int) -> Element:
    share = percent(column.nulls, rows)
    width = 100 * column.nulls / rows if rows else 0
    meter = h("span", h("span", style=f"width:{width:.1f}%"), class_="meter", aria_hidden="true")
    return h("span", meter, h("span", share), class_="share")


# --- drift ---


def _drift_card(drift: Drift) -> Element:
    name, title = "drift", "Drift"
    paths = [
        *((path, "no column is for it", count) for path, count in drift.unmapped_paths.items()),
        *((path, "does not fit its column's type", count) for path, count in drift.uncoerced.items()),
    ]
    if not paths:
        return missing(name, title, "None: every value of every order fitted its column.", wide=True)
    paths.sort(key=lambda path: (-path[2], path[0]))
    return card(
        name,
        title,
        table_of(_drift_table(paths[:_MOST_PATHS])),
        h("p", f"The manifest lists all {number(len(paths))}.") if len(paths) > _MOST_PATHS else None,
        summary=f"{counted(len(paths), 'path')} of the API fitted no column;"
        " the values are kept, as received, in the column _unmapped.",
        wide=True,
    )


def _drift_table(paths: Iterable[tuple[str, str, int]]) -> Table:
    return Table(
        caption="paths that fitted no column",
        head=("Path", "Why", "Times"),
        rows=[(h("code", _path(path)), why, number(count)) for path, why, count in paths],
        words=(0, 1),
    )


def _path(path: str) -> str:
    """Return a path in full sight, of a length that a page can bear."""
    text = visible(path) or "(the item itself)"
    return text if len(text) <= 120 else f"{text[:119]}…"

"""The part of the page about the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TypeVar
from xml.etree.ElementTree import Element

from exporter.model.manifest import CHANGE_COUNTS, Changes, Drift
from exporter.model.outside_text import visible
from exporter.report.bars import Bar, columns
from exporter.report.cards import Table, bar_card, card, missing, table_of
from exporter.report.data_figures import NO_CODE, DataFigures, Money, TableNulls
from exporter.report.date_steps import month_label, steps
from exporter.report.figure_texts import (
    counted,
    currency_name,
    day,
    moment,
    money,
    number,
    percent,
    status_name,
)
from exporter.report.html_elements import h

K = TypeVar("K")
_MOST_BARS = 14
_MOST_MONTHS = 48
_MOST_PATHS = 100
_MOST_ITEMS = 12
_NO_ORDERS = "There are no orders in this dataset."
_RULE = (
    "Gross is the column amount. Net is amount less refund_amount, without orders that are cancelled, waiting for"
    " their payment, or refunded (statuses 50, 100, 300, 546, 600). Currencies are never added together."
)
_MONEY_HEAD = ("Orders", "Gross", "Refunds", "Net")


def data_cards(figures: DataFigures, drift: Drift, changes: Changes | None = None) -> list[Element]:
    """Return the cards, in their order."""
    if not figures.readable and figures.orders:
        why = "The dataset has only a workbook; charts of the data need Parquet or CSV."
        return [missing("money", "Money", why, wide=True), *_changes_cards(changes), _drift_card(drift)]
    return [
        *_changes_cards(changes),
        _money_card(figures),
        _months_card(figures),
        _status_card(figures),
        _cities_card(figures),
        _days_card(figures),
        _items_card(figures),
        _nulls_card(figures.nulls),
        _drift_card(drift),
    ]


def _not_written(*names: str) -> str:
    verb = "was not selected" if len(names) == 1 else "were not both selected"
    return f"The dataset was written without this: {' and '.join(names)} {verb}."


# --- what changed ---


def _changes_cards(changes: Changes | None) -> list[Element]:
    """Return the card about what differs from the dataset before, where `--changes` compared them."""
    name, title = "changes", "What changed"
    if changes is None:
        return []
    if changes.compared_with is None:
        return [missing(name, title, "There was no dataset before to compare with.", wide=True)]
    before = changes.compared_with
    summary = (
        f"Since {visible(Path(before.place).name)} of {moment(before.finished_at)}: {number(changes.compared)} orders"
        f" are in both. Items: {number(changes.items_added)} added, {number(changes.items_removed)} removed."
    )
    table = Table(
        caption="what changed",
        head=("What", "Which", "How much"),
        rows=list(_change_rows(changes)),
        words=(0, 1),
    )
    return [card(name, title, table_of(table), summary=summary, wide=True)]


def _change_rows(changes: Changes) -> Iterator[tuple[str, str, str]]:
    yield from (("orders", word.replace("_", " "), number(getattr(changes, word))) for word in CHANGE_COUNTS)
    for reason, count in changes.not_compared_reasons.items():
        yield "not compared", reason.replace("_", " "), number(count)
    for old, tos in changes.statuses.items():
        yield from (
            ("status", f"{status_name(old)} → {status_name(new)}", number(count))
            for new, count in tos.items()
        )
    for currency, sums in changes.deltas.items():
        yield from ((currency_name(currency), what, money(Decimal(total))) for what, total in sums.items())
    yield from (("column", name, number(count)) for name, count in changes.columns.items())


# --- money ---


def _money_card(figures: DataFigures) -> Element:
    name, title = "money", "Money by currency"
    if figures.by_currency is None:
        return missing(name, title, _not_written("currency", "amount"), wide=True)
    if not figures.by_currency:
        return missing(name, title, _NO_ORDERS, wide=True)
    rows = [
        (
            currency_name(currency),
            *_money_cells(sums),
            f"{sums.gross / sums.orders:,.2f}" if sums.orders else "",
        )
        for currency, sums in figures.by_currency.items()
    ]
    table = Table(caption="money by currency", head=("Currency", *_MONEY_HEAD, "Gross mean"), rows=rows)
    return card(name, title, table_of(table), summary=f"Exact sums. {_RULE}", wide=True)


def _money_cells(sums: Money) -> tuple[str, ...]:
    return number(sums.orders), money(sums.gross), money(sums.refunds), money(sums.net)


def _main_currency(figures: DataFigures) -> str:
    return next(iter(figures.by_currency or {}), NO_CODE)


def _of_currency(sums: Mapping[tuple[str, K], Money], currency: str) -> dict[K, Money]:
    return {key: money for (of, key), money in sums.items() if of == currency and key is not None}


def _months_card(figures: DataFigures) -> Element:
    name, title = "months", "Net by month"
    if figures.by_month is None:
        return missing(name, title, _not_written("date_placed", "amount"), wide=True)
    currency = _main_currency(figures)
    months = _of_currency(figures.by_month, currency)
    if not months:
        return missing(name, title, "No order has a date." if figures.orders else _NO_ORDERS, wide=True)
    shown = sorted(months)[-_MOST_MONTHS:]
    bars = [
        Bar(label=month_label(at), value=float(max(months[at].net, Decimal(0))), text=money(months[at].net))
        for at in shown
    ]
    return card(
        name,
        f"{title}, {currency_name(currency)}",
        summary=f"{_most(months, lambda at: f'in {month_label(at)}', currency)}"
        f" Months are those of {figures.timezone}.",
        chart=columns(bars, tall=True),
        table=_grouped_table("money by month", "Month", figures.by_month, month_label),
        wide=True,
    )


def _most(sums: Mapping[K, Money], name: Callable[[K], str], currency: str) -> str:
    """Say where the net sum is largest; a tie is told as one."""
    most = max(money.net for money in sums.values())
    where = [name(key) for key, money in sums.items() if money.net == most]
    told = f"{money(most)} {currency_name(currency)}"
    return f"The most {where[0]}: {told}." if len(where) == 1 else f"The most, {told} each: {_listed(where)}."


def _listed(names: list[str]) -> str:
    shown = names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} others"]
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


def _grouped_table(
    caption: str, of: str, sums: Mapping[tuple[str, K], Money], name: Callable[[K], str]
) -> Table:
    rows = [
        (name(key), currency_name(currency), *_money_cells(money))
        for (currency, key), money in sorted(sums.items(), key=lambda item: _by_key(item[0]))
        if key is not None
    ]
    return Table(caption=caption, head=(of, "Currency", *_MONEY_HEAD), rows=rows, words=(0, 1))


def _by_key(place: tuple[str, object]) -> tuple[str, str]:
    return place[0], str(place[1])


def _cities_card(figures: DataFigures) -> Element:
    name, title = "cities", "Net by city of delivery"
    if figures.by_city is None:
        return missing(name, title, _not_written("shipping_address_city_name", "amount"))
    currency = _main_currency(figures)
    cities = _of_currency(figures.by_city, currency)
    if not cities:
        return missing(name, title, _NO_ORDERS)
    ranked = sorted(cities.items(), key=lambda item: (-item[1].net, item[0]))
    bars = [
        Bar(label=_city(city), value=float(max(sums.net, Decimal(0))), text=money(sums.net))
        for city, sums in ranked
    ]
    return bar_card(
        name,
        f"{title}, {currency_name(currency)}",
        bars[:_MOST_BARS],
        summary=f"{counted(len(cities), 'city', 'cities')}. {_most(cities, _city, currency)}",
        table=_grouped_table("money by city", "City", figures.by_city, _city),
    )


def _city(city: str) -> str:
    return visible(city)[:60] if city else "no city"


# --- orders by day ---


def _days_card(figures: DataFigures) -> Element:
    name, title = "days", "Orders by day"
    if figures.by_day is None:
        return missing(name, title, _not_written("date_placed"), wide=True)
    if not figures.by_day:
        return missing(name, title, "No order has a date." if figures.orders else _NO_ORDERS, wide=True)
    shown = steps(figures.by_day)
    return card(
        name,
        title if shown.unit == "day" else f"{title}, shown by {shown.unit}",
        summary=_days_sentences(figures),
        chart=columns(
            [Bar(label=at, value=count, text=number(count)) for at, count in shown.counts], tall=True
        ),
        table=Table(
            caption=f"orders by {shown.unit}",
            head=(shown.unit.capitalize(), "Orders"),
            rows=[(label, number(count)) for label, count in shown.counts if count],
        ),
        wide=True,
    )


def _days_sentences(figures: DataFigures) -> str:
    by_day = figures.by_day or {}
    most = max(by_day.values())
    busiest = [day(at) for at, count in by_day.items() if count == most]
    when = (
        f"on {busiest[0]}: {number(most)}"
        if len(busiest) == 1
        else f"on {len(busiest)} days: {number(most)} each"
    )
    text = (
        f"Placed from {day(min(by_day))} to {day(max(by_day))} ({figures.timezone}),"
        f" on {counted(len(by_day), 'day')}; the most {when}."
    )
    return f"{text} {counted(figures.undated, 'order')} without a date." if figures.undated else text


# --- orders by status, items an order ---


def _status_card(figures: DataFigures) -> Element:
    name, title = "status", "Orders by status"
    if figures.by_status is None:
        return missing(name, title, _not_written("status"))
    if not figures.by_status:
        return missing(name, title, _NO_ORDERS)
    counts = figures.by_status
    bars = [
        Bar(label=label, value=count, text=f"{number(count)} · {percent(count, figures.orders)}")
        for label, count in _top({status_name(code): count for code, count in counts.items()})
    ]
    return bar_card(
        name, title, bars, summary=_status_sentence(counts, figures.orders), table=_status_table(figures)
    )


def _status_sentence(counts: Mapping[str, int], orders: int) -> str:
    most = max(counts.values())
    first = [status_name(code) for code, count in counts.items() if count == most]
    told = f"most orders are {first[0]}" if len(first) == 1 else f"{_listed(first)} tie for the most"
    return f"{counted(len(counts), 'status', 'statuses')}; {told}: {percent(most, orders)}{'' if len(first) == 1 else ' each'}."


def _status_table(figures: DataFigures) -> Table:
    counts = figures.by_status or {}
    if figures.of_status is None:
        rows = [
            (status_name(code), number(count), percent(count, figures.orders))
            for code, count in counts.items()
        ]
        return Table(caption="orders by status", head=("Status", "Orders", "Share"), rows=rows)
    return _grouped_table("orders and money by status", "Status", figures.of_status, status_name)


def _top(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return what a chart has room for; the table has all."""
    items = list(counts.items())
    if len(items) <= _MOST_BARS:
        return items
    kept, rest = items[: _MOST_BARS - 1], items[_MOST_BARS - 1 :]
    return [*kept, (f"{len(rest)} others", sum(count for _, count in rest))]


def _items_card(figures: DataFigures) -> Element:
    name, title = "items", "Items an order"
    if figures.by_items is None:
        return missing(name, title, "The dataset was written without a table of items.", wide=True)
    if not figures.orders:
        return missing(name, title, _NO_ORDERS, wide=True)
    items = sum(size * count for size, count in figures.by_items.items())
    bars = [
        Bar(label=label, value=count, text=number(count)) for label, count in _grouped_sizes(figures.by_items)
    ]
    return card(
        name,
        title,
        summary=f"{items / figures.orders:.2f} items an order on average, {max(figures.by_items)} at most;"
        f" {counted(figures.by_items.get(0, 0), 'order')} without any.",
        chart=columns(bars),
        table=Table(
            caption="orders by number of items",
            head=("Items", "Orders", "Share"),
            rows=[
                (str(size), number(count), percent(count, figures.orders))
                for size, count in figures.by_items.items()
            ],
        ),
        wide=True,
    )


def _grouped_sizes(by_items: Mapping[int, int]) -> list[tuple[str, int]]:
    """Return every size up to the largest, what is beyond the chart's room in one step."""
    largest = max(by_items)
    sizes = [
        (str(size), by_items.get(size, 0)) for size in range(min(by_items), min(largest, _MOST_ITEMS) + 1)
    ]
    more = sum(count for size, count in by_items.items() if size > _MOST_ITEMS)
    return [*sizes, (f"{_MOST_ITEMS + 1}+", more)] if more else sizes


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
    nulls = sorted(table.nulls.items(), key=lambda item: -item[1])
    rows = [(_column(name, table), _share(count, table.rows)) for name, count in nulls]
    figures = Table(caption=f"null share of the columns of {table.table}", head=("Column", "Null"), rows=rows)
    return [
        h("h4", table.table),
        h("p", _nulls_sentence(table)),
        h("details", h("summary", f"Figures: {figures.caption}"), table_of(figures)),
    ]


def _nulls_sentence(table: TableNulls) -> str:
    if not table.rows:
        return "No rows."
    full = sum(not nulls for nulls in table.nulls.values())
    empty = sum(nulls == table.rows for nulls in table.nulls.values())
    text = (
        f"Of {counted(len(table.nulls), 'column')}, {number(full)} are always filled,"
        f" {number(len(table.nulls) - full - empty)} sometimes and {number(empty)} never."
    )
    if table.personal and all(table.nulls[name] == table.rows for name in table.personal):
        text += " All personal columns are empty, as --pii drop leaves them."
    return text


def _column(name: str, table: TableNulls) -> Element:
    mark = h("small", " personal", class_="tag") if name in table.personal else None
    return h("span", h("code", name), mark)


def _share(nulls: int, rows: int) -> Element:
    width = 100 * nulls / rows if rows else 0
    meter = h("span", h("span", style=f"width:{width:.1f}%"), class_="meter", aria_hidden="true")
    return h("span", meter, h("span", percent(nulls, rows)), class_="share")


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

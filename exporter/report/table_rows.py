"""The rows of the page's tables: texts, or HTML that escapes what is put into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import TypeVar

from markupsafe import Markup

from exporter.model.manifest import CHANGE_COUNTS, Changes, Drift, Manifest
from exporter.model.outside_text import visible
from exporter.model.units import size_text
from exporter.report.bars import part
from exporter.report.data_figures import Money, Nulls
from exporter.report.figure_texts import currency_name, duration, money, number, percent, status_name
from exporter.report.run_figures import RunFigures

__all__ = ["change_rows", "currency_rows", "drift_rows", "file_rows", "money_rows", "null_rows", "step_rows"]

K = TypeVar("K")
_MOST_STEPS = 240
_CODE = Markup("<code>{}</code>")
_PERSONAL = Markup('<small class="tag"> personal</small>')
_SHARE = Markup(
    '<span class="share"><span class="meter" aria-hidden="true"><span style="width:{}"></span></span>'
    "<span>{}</span></span>"
)


def change_rows(changes: Changes) -> Iterator[tuple[str, str, str]]:
    """Yield what differs from the dataset before, and by how much."""
    yield from (("orders", word.replace("_", " "), number(getattr(changes, word))) for word in CHANGE_COUNTS)
    for reason, count in changes.not_compared_reasons.items():
        yield "not compared", reason.replace("_", " "), number(count)
    for old, tos in changes.statuses.items():
        for new, count in tos.items():
            yield "status", f"{status_name(old)} → {status_name(new)}", number(count)
    for currency, sums in changes.deltas.items():
        yield from ((currency_name(currency), what, money(Decimal(total))) for what, total in sums.items())
    yield from (("column", name, number(count)) for name, count in changes.columns.items())


def currency_rows(by_currency: Mapping[str, Money]) -> Iterator[tuple[str, ...]]:
    """Yield the sums of each currency, and the mean of an order."""
    for currency, sums in by_currency.items():
        mean = f"{sums.gross / sums.orders:,.2f}" if sums.orders else ""
        yield currency_name(currency), *_money_cells(sums), mean


def money_rows(sums: Mapping[tuple[str, K], Money], name: Callable[[K], str]) -> Iterator[tuple[str, ...]]:
    """Yield the sums of each currency and key, whose `name` is told."""
    for (currency, key), of in sorted(sums.items(), key=lambda item: (item[0][0], str(item[0][1]))):
        if key is not None:
            yield name(key), currency_name(currency), *_money_cells(of)


def _money_cells(sums: Money) -> tuple[str, ...]:
    return number(sums.orders), money(sums.gross), money(sums.refunds), money(sums.net)


def null_rows(nulls: Iterable[Nulls], rows: int) -> Iterator[tuple[str, str]]:
    """Yield the columns, the emptiest first, and the share of their nulls."""
    for column in sorted(nulls, key=lambda column: -column.nulls):
        name = _CODE.format(column.name) + (_PERSONAL if column.personal else "")
        yield name, _SHARE.format(part(column.nulls, rows or 1), percent(column.nulls, rows))


def drift_rows(drift: Drift) -> list[tuple[str, str, str]]:
    """Return the paths that fitted no column, the most frequent first."""
    paths = [
        *((-count, path, "it has no column") for path, count in drift.unmapped_paths.items()),
        *((-count, path, "does not fit its column's type") for path, count in drift.uncoerced.items()),
    ]
    return [(_CODE.format(_path(path)), why, number(-count)) for count, path, why in sorted(paths)]


def _path(path: str) -> str:
    """Return a path in full sight, of a length that a page can bear."""
    text = visible(path) or "(the item itself)"
    return text if len(text) <= 120 else f"{text[:119]}…"


def step_rows(run: RunFigures) -> Iterator[tuple[str, ...]]:
    """Yield the steps of the run's timeline."""
    for step in run.steps(_MOST_STEPS):
        permitted = "no limit" if step.permitted is None else number(round(step.permitted, 2))
        paused = duration(step.paused_s) if step.paused_s else ""
        yield duration(step.at_s), number(round(step.rate, 2)), permitted, paused


def file_rows(manifest: Manifest) -> Iterator[tuple[str, str, str]]:
    """Yield the files of every table."""
    for table in manifest.tables.values():
        for file in table.files:
            yield _CODE.format(visible(file.path)), number(file.rows), size_text(file.bytes)

"""What the page shows of the data, gathered in one pass over a few columns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from exporter.model.catalog import ORDER_ITEMS, ORDERS
from exporter.model.manifest import TableFiles
from exporter.report.dataset_reading import TableReader

#: Stands for a code that is null, and for text that is no code: it could be anything, even a name.
NO_CODE, NOT_A_CODE = "", "(text)"
_CODE = re.compile(r"[\w.\-]{1,32}")
_MOST_CODES = 1000
_EPOCH = date(1970, 1, 1)
_PERSONAL = frozenset((column.table, column.name) for column in (*ORDERS, *ORDER_ITEMS) if column.personal)
_TO_READ = ("date_placed", "status", "currency", "amount")


@dataclass(frozen=True, kw_only=True)
class CurrencyTotal:
    """The amounts of the orders in one currency.

    Attributes:
        currency: As the API writes it.
        orders: Orders with an amount.
        total: Their exact sum.
    """

    currency: str
    orders: int
    total: Decimal

    @property
    def mean(self) -> Decimal:
        """The mean amount, to four digits."""
        return (self.total / self.orders).quantize(Decimal("0.0001")) if self.orders else Decimal(0)


@dataclass(frozen=True, kw_only=True)
class NullCount:
    """How many cells of one column are null.

    Attributes:
        column: Its name.
        nulls: Null cells.
        personal: Whether the catalogue marks the column as personal.
    """

    column: str
    nulls: int
    personal: bool


@dataclass(frozen=True, kw_only=True)
class TableNulls:
    """The columns of one table.

    Attributes:
        table: Its name.
        rows: Its rows.
        columns: Those that were written, in their order.
    """

    table: str
    rows: int
    columns: tuple[NullCount, ...]


@dataclass(frozen=True, kw_only=True)
class DataFigures:
    """What the page shows of the data; None stands for columns that were not written.

    Attributes:
        orders: Order rows.
        by_day: Orders by the UTC day on which they were placed.
        undated: Orders without such a day.
        by_status: Orders by status code, the most frequent first.
        totals: Amounts by currency, the most frequent first.
        by_items: Number of items to number of orders with that many.
        nulls: Nulls of each table.
    """

    orders: int
    by_day: dict[date, int] | None
    undated: int
    by_status: dict[str, int] | None
    totals: tuple[CurrencyTotal, ...] | None
    by_items: dict[int, int]
    nulls: tuple[TableNulls, ...]


def data_figures(dataset: Path, tables: Mapping[str, TableFiles]) -> DataFigures:
    """Gather the figures of a dataset.

    Args:
        dataset: Its folder.
        tables: Its tables, as the manifest names them.

    Raises:
        StorageError: A file is missing or damaged.
    """
    readers = {
        name: TableReader(dataset, tables.get(name, TableFiles(rows=0, files=[])))
        for name in ("orders", "order_items")
    }
    orders, items = readers["orders"], readers["order_items"]
    tally = _read_orders(orders)
    days = _days(tally.days)
    return DataFigures(
        orders=orders.rows,
        by_day=days if "date_placed" in tally.columns else None,
        undated=orders.rows - sum(days.values()),
        by_status=dict(tally.statuses.most_common()) if "status" in tally.columns else None,
        totals=tally.totals() if {"currency", "amount"} <= tally.columns else None,
        by_items=_by_items(orders.rows, _item_places(items)),
        nulls=tuple(_nulls(name, reader) for name, reader in readers.items()),
    )


class _OrderTally:
    """Counts over the batches of `orders`.

    Args:
        columns: Which of `_TO_READ` were written.
    """

    def __init__(self, columns: set[str]) -> None:
        self.columns = columns
        self.days: Counter[int | None] = Counter()
        self.statuses: Counter[str] = Counter()
        self._amounts: Counter[str] = Counter()
        self._sums: dict[str, Decimal] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        if "date_placed" in self.columns:
            self.days.update(_counts(batch["date_placed"].cast(pa.date32()).cast(pa.int32())))
        if "status" in self.columns:
            for status, count in _counts(batch["status"]).items():
                _count(self.statuses, _code(status), count)
        if {"currency", "amount"} <= self.columns:
            self._add_amounts(batch)

    def _add_amounts(self, batch: pa.RecordBatch) -> None:
        table = pa.table([batch["currency"], batch["amount"]], names=["currency", "amount"])
        # Arrow sums decimals exactly, at the largest precision.
        groups = table.group_by("currency").aggregate([("amount", "sum"), ("amount", "count")])
        for group in groups.to_pylist():
            currency = _count(self._amounts, _code(group["currency"]), group["amount_count"])
            self._sums[currency] = self._sums.get(currency, Decimal(0)) + (group["amount_sum"] or 0)

    def totals(self) -> tuple[CurrencyTotal, ...]:
        return tuple(
            CurrencyTotal(currency=currency, orders=orders, total=self._sums[currency])
            for currency, orders in self._amounts.most_common()
        )


def _read_orders(orders: TableReader) -> _OrderTally:
    written = set(orders.columns())
    columns = [name for name in _TO_READ if name in written]
    tally = _OrderTally(set(columns))
    if columns:
        for batch in orders.batches(columns):
            tally.add(batch)
    return tally


def _counts(column: pa.Array) -> dict[Any, int]:
    """Count the values of one batch; null is one of them."""
    pairs = pc.value_counts(column)
    return dict(zip(pairs.field(0).to_pylist(), pairs.field(1).to_pylist(), strict=True))


def _code(value: object) -> str:
    if value is None or value == "":
        return NO_CODE
    return str(value) if _CODE.fullmatch(str(value)) else NOT_A_CODE


def _count(counts: Counter[str], code: str, count: int) -> str:
    """Count a code under its own name, or as text once there are too many: memory stays bounded."""
    key = code if code in counts or len(counts) < _MOST_CODES else NOT_A_CODE
    counts[key] += count
    return key


def _days(counts: Mapping[int | None, int]) -> dict[date, int]:
    days: dict[date, int] = {}
    for number in sorted(key for key in counts if key is not None):
        try:
            days[_EPOCH + timedelta(days=number)] = counts[number]
        except OverflowError:  # Arrow's years go further than Python's
            continue
    return days


def _item_places(items: TableReader) -> Counter[int]:
    """Count the items at each place of their order: `item_index` is always written."""
    places: Counter[int] = Counter()
    for batch in items.batches(["item_index"]):
        places.update(_counts(batch["item_index"]))
    return places


def _by_items(orders: int, places: Mapping[int, int]) -> dict[int, int]:
    """Return how many orders have how many items.

    An order with an item at place n has more than n items, so no order number needs to be remembered.

    >>> _by_items(3, {0: 2, 1: 1})
    {0: 1, 1: 1, 2: 1}
    """
    with_more = [orders, *(count for _, count in sorted(places.items())), 0]
    return {
        items: with_more[items] - with_more[items + 1]
        for items in range(len(with_more) - 1)
        if with_more[items] != with_more[items + 1]
    }


def _nulls(name: str, reader: TableReader) -> TableNulls:
    counts = reader.nulls()
    columns = (
        NullCount(column=column, nulls=counts[column], personal=(name, column) in _PERSONAL)
        for column in reader.columns()
    )
    return TableNulls(table=name, rows=reader.rows, columns=tuple(columns))

"""What the page shows of the data, gathered in one pass over a few columns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from exporter.dataset.table_reading import part_reader
from exporter.model.catalog import TABLES
from exporter.model.errors import StorageError
from exporter.model.manifest import Manifest, TableFiles
from exporter.model.order_statuses import NO_SALE
from exporter.system import durable

#: Stands for a code that is null, and for text that is no code: it could be anything, even a name.
NO_CODE, NOT_A_CODE = "", "(text)"
#: Stands for the cities past the most that are counted one by one.
OTHERS = "(others)"
_CODE = re.compile(r"[\w.\-]{1,32}")
_MOST = 1000
_EPOCH = date(1970, 1, 1)
_PERSONAL = {
    (table, column.name) for table, columns in TABLES.items() for column in columns if column.personal
}
_DATE, _STATUS, _CITY = "date_placed", "status", "shipping_address_city_name"
_MONEY = ("currency", "amount")
_REFUND = "refund_amount"


class Money(NamedTuple):
    """Exact sums over orders of one currency.

    Attributes:
        orders: Orders with an amount.
        gross: The sum of `amount`.
        refunds: The sum of `refund_amount`.
        net: `amount` less `refund_amount` of the orders that are sales.
    """

    orders: int = 0
    gross: Decimal = Decimal(0)
    refunds: Decimal = Decimal(0)
    net: Decimal = Decimal(0)

    def plus(self, other: Money) -> Money:
        """Return both together."""
        return Money(
            self.orders + other.orders,
            self.gross + other.gross,
            self.refunds + other.refunds,
            self.net + other.net,
        )


@dataclass(frozen=True, kw_only=True)
class TableNulls:
    """How many cells of each column of one table are null.

    Attributes:
        table: Its name.
        rows: Its rows.
        nulls: By column, in their order.
        personal: The columns that the catalogue marks as personal.
    """

    table: str
    rows: int
    nulls: dict[str, int]
    personal: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class DataFigures:
    """What the page shows of the data; None stands for columns that were not written.

    Attributes:
        readable: Whether a table was written in a format that can be read here.
        timezone: The zone of days and months.
        orders: Orders.
        by_day: Orders by the day on which they were placed.
        undated: Orders without such a day.
        by_status: Orders by status code, the most frequent first.
        by_currency: Sums by currency, the most frequent first.
        by_month: Sums by currency and first day of the month.
        by_city: Sums by currency and city of delivery.
        of_status: Sums by currency and status code.
        by_items: Number of items to number of orders with that many; None where items were not written.
        nulls: Nulls of each table.
    """

    readable: bool
    timezone: str
    orders: int
    by_day: dict[date, int] | None
    undated: int
    by_status: dict[str, int] | None
    by_currency: dict[str, Money] | None
    by_month: dict[tuple[str, date], Money] | None
    by_city: dict[tuple[str, str], Money] | None
    of_status: dict[tuple[str, str], Money] | None
    by_items: dict[int, int] | None
    nulls: tuple[TableNulls, ...]


def data_figures(dataset: Path, manifest: Manifest) -> DataFigures:
    """Gather the figures of a dataset.

    Args:
        dataset: Its folder.
        manifest: Its manifest.

    Raises:
        StorageError: A file is missing or damaged.
    """
    tables = {
        name: _Table(name, dataset, files, manifest.timezone)
        for name, files in manifest.tables.items()
        if _readable(files)
    }
    orders = tables.get("orders") or tables.get("order_lines")
    items = tables.get("order_items") or tables.get("order_lines")
    tally = _OrderTally(set(orders.columns) if orders else set())
    if orders and tally.columns:
        for batch in orders.orders(tally.columns):
            tally.add(batch)
    return DataFigures(
        readable=bool(tables),
        timezone=manifest.timezone,
        orders=manifest.counts.exported,
        by_day=tally.by_day() if _DATE in tally.columns else None,
        undated=manifest.counts.exported - sum(tally.by_day().values()),
        by_status=dict(tally.statuses.most_common()) if _STATUS in tally.columns else None,
        by_currency=tally.by_currency(),
        by_month=tally.sums.get(_DATE),
        by_city=tally.sums.get(_CITY),
        of_status=tally.sums.get(_STATUS),
        by_items=_by_items(manifest.counts.exported, items.item_places()) if items else None,
        nulls=tuple(table.null_counts() for table in tables.values()),
    )


def _readable(files: TableFiles) -> list[str]:
    """Return the files of the first format that can be read here, Parquet before CSV."""
    for ending in (".parquet", ".csv"):
        if paths := [part.path for part in files.files if part.path.endswith(ending)]:
            return paths
    return []


class _Table:
    """One table of the dataset, over all of its files."""

    def __init__(self, name: str, dataset: Path, files: TableFiles, timezone: str) -> None:
        self._name = name
        self._rows = files.rows
        self._paths = [dataset / path for path in _readable(files)]
        self._timezone = timezone
        with _read_errors(self._paths[0]):
            self.columns = part_reader(self._paths[0], timezone).columns()

    def orders(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield a row for each order: of `order_lines` the first line of each."""
        lines = "item_index" in self.columns
        for batch in self._batches([*columns, *(["item_index"] if lines else [])]):
            index = batch["item_index"] if lines else None
            yield (
                batch if index is None else batch.filter(pc.or_kleene(pc.is_null(index), pc.equal(index, 0)))
            )

    def item_places(self) -> Counter[int]:
        """Count the items at each place of their order: `item_index` is always written."""
        places: Counter[int] = Counter()
        for batch in self._batches(["item_index"]):
            places.update(_counts(batch["item_index"].drop_null()))
        return places

    def null_counts(self) -> TableNulls:
        counts: Counter[str] = Counter()
        for path in self._paths:
            with _read_errors(path):
                counts.update(part_reader(path, self._timezone).nulls())
        return TableNulls(
            table=self._name,
            rows=self._rows,
            nulls={name: counts[name] for name in self.columns},
            personal=frozenset(name for name in self.columns if (self._name, name) in _PERSONAL),
        )

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for path in self._paths:
            with _read_errors(path):
                yield from part_reader(path, self._timezone).batches(columns)


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    with durable.storage_errors("reading the dataset", path):
        try:
            yield
        except pa.ArrowException as error:
            raise StorageError(
                f"{path}: it cannot be read: {str(error).splitlines()[0]}.", "Run: exporter verify."
            ) from error


class _OrderTally:
    """Counts and sums over the orders.

    Args:
        written: The columns that were written.
    """

    def __init__(self, written: set[str]) -> None:
        self.columns = [name for name in (_DATE, _STATUS, *_MONEY, _REFUND, _CITY) if name in written]
        self.statuses: Counter[str] = Counter()
        self._days: Counter[int | None] = Counter()
        self._currencies: dict[tuple[str, str], Money] = {}
        money = {*_MONEY} <= written
        self.sums: dict[str, dict[tuple[str, Any], Money]] = {
            name: {} for name in (_DATE, _STATUS, _CITY) if money and name in written
        }
        self._money = money

    def add(self, batch: pa.RecordBatch) -> None:
        days = _days(batch[_DATE]) if _DATE in self.columns else None
        if days is not None:
            self._days.update(_counts(days.cast(pa.int32())))
        if _STATUS in self.columns:
            for status, count in _counts(batch[_STATUS]).items():
                self.statuses[_known(_code(status), self.statuses, NOT_A_CODE)] += count
        if self._money:
            self._add_money(batch, days)

    def _add_money(self, batch: pa.RecordBatch, days: pa.Array | None) -> None:
        gross = batch["amount"]
        refunds = batch[_REFUND] if _REFUND in self.columns else pa.nulls(len(gross), gross.type)
        refunds = pc.if_else(
            pc.is_valid(gross), pc.coalesce(refunds, pa.scalar(Decimal(0), gross.type)), None
        )
        net = pc.subtract(gross, refunds)
        if _STATUS in self.columns:
            unsold = pc.is_in(batch[_STATUS], pa.array(NO_SALE))
            net = pc.if_else(unsold, pa.scalar(Decimal(0), net.type), net)
        sums = pa.table({"currency": batch["currency"], "gross": gross, "refunds": refunds, "net": net})
        _add_groups(self._currencies, sums, None, lambda _: "")
        for name, groups in self.sums.items():
            if name == _DATE:
                assert days is not None
                months = pc.subtract(pc.multiply(pc.year(days), 12), 12)
                _add_groups(groups, sums, pc.add(months, pc.subtract(pc.month(days), 1)), _month)
            elif name == _STATUS:
                _add_groups(groups, sums, batch[name], _code)
            else:
                _add_groups(groups, sums, batch[name], lambda city: city or NO_CODE)

    def by_day(self) -> dict[date, int]:
        """Return the orders by day; the days that Python's calendar lacks are left out."""
        days: dict[date, int] = {}
        for number in sorted(key for key in self._days if key is not None):
            try:
                days[_EPOCH + timedelta(days=number)] = self._days[number]
            except OverflowError:  # Arrow's years go further than Python's
                continue
        return days

    def by_currency(self) -> dict[str, Money] | None:
        if not self._money:
            return None
        found = sorted(self._currencies.items(), key=lambda item: -item[1].orders)
        return {currency: money for (currency, _), money in found}


def _days(moments: pa.Array) -> pa.Array:
    """Return the days, in the zone that the column carries."""
    return (pc.local_timestamp(moments) if moments.type.tz else moments).cast(pa.date32())


def _month(number: int | None) -> date | None:
    """Return the first day of a month, counted from the year 1; None for what Python's calendar lacks."""
    return (
        date(number // 12 + 1, number % 12 + 1, 1) if number is not None and 0 <= number < 12 * 9999 else None
    )


def _add_groups(
    groups: dict[tuple[str, Any], Money], sums: pa.Table, key: pa.Array | None, name: Callable[[Any], Any]
) -> None:
    """Add the sums of one batch by currency and key; Arrow adds decimals exactly, at the largest precision."""
    by = ["currency"] if key is None else ["currency", "key"]
    table = sums if key is None else sums.append_column("key", key)
    wanted = [("gross", "count"), ("gross", "sum"), ("refunds", "sum"), ("net", "sum")]
    for row in table.group_by(by).aggregate(wanted).to_pylist():
        place = _place(groups, _code(row["currency"]), name(row.get("key")))
        more = (row[f"{name}_sum"] or Decimal(0) for name in ("gross", "refunds", "net"))
        groups[place] = groups.get(place, Money()).plus(Money(row["gross_count"], *more))


def _place(groups: Mapping[tuple[str, Any], Money], currency: str, key: Any) -> tuple[str, Any]:
    """Return the group's place; past the most groups, that of all others: memory stays bounded."""
    if (currency, key) in groups or len(groups) < _MOST:
        return currency, key
    return (currency if len(groups) < 2 * _MOST else NOT_A_CODE), OTHERS if isinstance(key, str) else None


def _known(code: str, counts: Mapping[str, int], other: str) -> str:
    """Return a code, or the word for all others once there are too many: memory stays bounded."""
    return code if code in counts or len(counts) < _MOST else other


def _counts(column: pa.Array) -> dict[Any, int]:
    """Count the values of one batch; null is one of them."""
    pairs = pc.value_counts(column)
    return dict(zip(pairs.field(0).to_pylist(), pairs.field(1).to_pylist(), strict=True))


def _code(value: object) -> str:
    if value is None or value == "":
        return NO_CODE
    return str(value) if _CODE.fullmatch(str(value)) else NOT_A_CODE


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

"""What the page shows of the data, gathered in one pass over a few columns."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from exporter.dataset.table_reading import CsvPart, ParquetPart, part_reader, readable
from exporter.model.catalog import TABLES
from exporter.model.errors import StorageError
from exporter.model.manifest import Manifest
from exporter.model.order_statuses import NO_SALE
from exporter.system import durable

#: Stands for a code that is null, and for text that is no code: it could be anything, even a name.
NO_CODE, NOT_A_CODE = "", "(text)"
_CODE = r"^[\pL\pN_.\-]*$"  # {0,32} would cost 65 ms a batch: RE2 repeats the class
_WANTED = ("date_placed", "status", "currency", "amount", "refund_amount", "shipping_address_city_name")
#: What orders are grouped by beside their currency, how many groups there may be, and the name of all others.
_KEYS = {"day": (100_000, None), "status": (1000, "(others)"), "city": (1000, "(others)")}
_AMOUNT, _SUM = pa.decimal128(20, 4), pa.decimal128(38, 4)
T = TypeVar("T")


class Money(NamedTuple):
    """Exact sums over orders: those with an amount, `amount`, `refund_amount`, and what sales leave of them."""

    orders: int
    gross: Decimal
    refunds: Decimal
    net: Decimal


class Nulls(NamedTuple):
    """How many cells of a column are null, and whether the catalogue marks it as personal."""

    name: str
    personal: bool
    nulls: int


_SUMS = ("rows", *Money._fields)


@dataclass(frozen=True, kw_only=True)
class DataFigures:
    """What the page shows of the data: orders counted, and their money added up, the most frequent first."""

    written: frozenset[str]  # of the columns that are looked at; amounts only beside currencies
    by_day: dict[date, int]  # on which they were placed, in its order
    by_status: dict[str, int]
    by_currency: dict[str, Money]
    by_month: dict[tuple[str, date | None], Money]  # by currency and the month's first day
    by_city: dict[tuple[str, str], Money]  # of delivery
    of_status: dict[tuple[str, str], Money]
    by_items: dict[int, int] | None  # how many orders have so many items; None where items were not written
    nulls: dict[str, list[Nulls]]  # of each table that can be read

    @property
    def currency(self) -> str:
        """The most frequent currency."""
        return next(iter(self.by_currency), NO_CODE)

    def without(self, *columns: str) -> str:
        """Say that a column of these was not written; the empty text where they were."""
        verb = "was not selected" if len(columns) == 1 else "were not both selected"
        missing = f"The dataset was written without this: {' and '.join(columns)} {verb}."
        return "" if self.written.issuperset(columns) else missing


def data_figures(dataset: Path, manifest: Manifest) -> DataFigures:
    """Gather the figures of the dataset in a folder; a `StorageError` where a file is missing or damaged."""
    found = ((name, [dataset / path for path in readable(each)]) for name, each in manifest.tables.items())
    tables = {name: _Table(name, paths, manifest.timezone) for name, paths in found if paths}
    orders, items = (tables.get(name) or tables.get("order_lines") for name in ("orders", "order_items"))
    columns = orders.columns if orders else []
    without = () if {"currency", "amount"} <= set(columns) else ("currency", "amount")
    written = [name for name in _WANTED if name in columns and name not in without]
    groups = _groups(orders.orders(written) if orders and written else ())
    days, statuses = groups["day"], groups["status"]
    month = pc.floor_temporal(days["day"], unit="month")
    by_currency = {currency: money for (currency,), money in _money(days, "currency").items()}
    return DataFigures(
        written=frozenset(written),
        by_day=dict(sorted((day, count) for day, count in _counts(days, "day").items() if day)),
        by_status=falling(_counts(statuses, "status"), int),
        by_currency=falling(by_currency, lambda money: money.orders) if "amount" in written else {},
        by_month=_money(days.append_column("month", month), "currency", "month"),
        by_city=_money(groups["city"], "currency", "city"),
        of_status=_money(statuses, "currency", "status"),
        by_items=_by_items(manifest.counts.exported, items.item_places()) if items else None,
        nulls={name: table.nulls() for name, table in tables.items()},
    )


class _Table:
    """One table of the dataset, over all of its files."""

    def __init__(self, name: str, paths: list[Path], timezone: str) -> None:
        self._name, self._paths, self._timezone = name, paths, timezone
        self.columns = list(dict.fromkeys(self._read(lambda part: part.columns())))

    def orders(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        # Of `order_lines` the first line of each order.
        if "item_index" not in self.columns:
            yield from self._read(lambda part: part.batches(columns))
        else:
            for batch in self._read(lambda part: part.batches([*columns, "item_index"])):
                yield batch.filter(pc.equal(pc.fill_null(batch["item_index"], 0), 0))

    def item_places(self) -> Counter[int]:
        places: Counter[int] = Counter()
        for batch in self._read(lambda part: part.batches(["item_index"])):
            counts = pc.value_counts(batch["item_index"].drop_null()).to_pylist()
            places.update({each["values"]: each["counts"] for each in counts})
        return places

    def nulls(self) -> list[Nulls]:
        personal = {column.name for column in TABLES.get(self._name, ()) if column.personal}
        counts: Counter[str] = Counter()
        for found in self._read(lambda part: [part.nulls()]):
            counts.update(found)
        return [Nulls(name, name in personal, counts[name]) for name in self.columns]

    def _read(self, what: Callable[[ParquetPart | CsvPart], Iterable[T]]) -> Iterator[T]:
        for path in self._paths:
            with durable.storage_errors("reading the dataset", path):
                try:
                    yield from what(part_reader(path, self._timezone))
                except pa.ArrowException as error:
                    told = f"{path}: it cannot be read: {str(error).splitlines()[0]}."
                    raise StorageError(told, "Run: exporter verify.") from error


def _groups(batches: Iterable[pa.RecordBatch]) -> dict[str, pa.Table]:
    """Add the orders up by currency and each of the keys."""
    nothing = _rows(pa.record_batch({}))
    groups = {key: nothing.select(["currency", key, *_SUMS]) for key in _KEYS}
    for batch in batches:
        rows = _rows(batch)
        for key, (most, others) in _KEYS.items():
            more = pa.concat_tables([groups[key], rows.select(groups[key].column_names)])
            groups[key] = _bounded(_added(more, "currency", key), key, most, others)
    return groups


def _rows(batch: pa.RecordBatch) -> pa.Table:
    """Return the keys and the addends of orders; a column that was not written is null."""

    def column(name: str, kind: pa.DataType) -> pa.Array:
        return batch[name] if name in batch.schema.names else pa.nulls(len(batch), kind)

    amount, status = column("amount", _AMOUNT), column("status", pa.string())
    zero = pa.scalar(Decimal(0), _AMOUNT)
    gross, counted = pc.coalesce(amount, zero), pc.is_valid(amount)
    refunds = pc.if_else(counted, pc.coalesce(column("refund_amount", _AMOUNT), zero), zero)
    net = pc.if_else(pc.is_in(status, pa.array(NO_SALE)), zero, pc.subtract(gross, refunds))
    return pa.table(
        {
            "currency": _codes(column("currency", pa.string())),
            "day": _days(column("date_placed", pa.timestamp("us"))),
            "status": _codes(status),
            "city": pc.coalesce(column("shipping_address_city_name", pa.string()), NO_CODE),
            "rows": pa.repeat(1, len(batch)),
            "orders": counted.cast(pa.int64()),
            # Decimals are added exactly, at the largest precision.
            **{name: sums.cast(_SUM) for name, sums in zip(_SUMS[2:], (gross, refunds, net), strict=True)},
        }
    )


def _codes(texts: pa.Array) -> pa.Array:
    texts = pc.coalesce(texts, NO_CODE)
    known = pc.and_(pc.match_substring_regex(texts, _CODE), pc.less_equal(pc.utf8_length(texts), 32))
    return pc.if_else(known, texts, NOT_A_CODE)


def _days(moments: pa.Array) -> pa.Array:
    """Return the days in the zone that the column carries; null for those that Python's calendar lacks."""
    days = (pc.local_timestamp(moments) if moments.type.tz else moments).cast(pa.date32())
    known = pc.and_(pc.greater_equal(days, pa.scalar(date.min)), pc.less_equal(days, pa.scalar(date.max)))
    return pc.if_else(known, days, None)


def _added(groups: pa.Table, *by: str) -> pa.Table:
    sums = groups.group_by(list(by), use_threads=False).aggregate([(name, "sum") for name in _SUMS])
    return sums.rename_columns([*by, *_SUMS])


def _bounded(groups: pa.Table, key: str, most: int, others: str | None) -> pa.Table:
    """Put the groups past the most together, at last those of all currencies: memory stays bounded."""
    for place, name, other, limit in ((1, key, others, most), (0, "currency", NOT_A_CODE, 2 * most)):
        if len(groups) > limit:
            groups = groups.sort_by([("rows", "descending")])
            rest = groups.slice(limit)
            same = pa.repeat(pa.scalar(other, groups.schema.field(name).type), len(rest))
            groups = pa.concat_tables([groups.slice(0, limit), rest.set_column(place, name, same)])
            groups = _added(groups, "currency", key)
    return groups


def _counts(groups: pa.Table, key: str) -> dict[Any, int]:
    added = _added(groups, key)
    return dict(zip(added[key].to_pylist(), added["rows"].to_pylist(), strict=True))


def _money(groups: pa.Table, *by: str) -> dict[Any, Money]:
    rows = _added(groups, *by).to_pylist()
    return {tuple(row[name] for name in by): Money(*(row[name] for name in Money._fields)) for row in rows}


def falling(counts: Mapping[str, T], size: Callable[[T], int]) -> dict[str, T]:
    """Return what has a size, the largest first."""
    return dict(sorted(counts.items(), key=lambda item: (-size(item[1]), item[0])))


def _by_items(orders: int, places: Mapping[int, int]) -> dict[int, int]:
    # An order with an item at place n has more than n items, so no order number needs to be remembered.
    with_more = [orders, *(count for _, count in sorted(places.items())), 0]
    exactly = enumerate(more - fewer for more, fewer in pairwise(with_more))
    return {items: count for items, count in exactly if count}

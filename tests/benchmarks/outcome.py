"""What a contender left in its folder: rows, whole or not, and of what type its money is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Two tables as a reader finds them.

    Attributes:
        orders: Rows of the orders table.
        distinct: Different order numbers in it.
        items: Rows of the items table.
        money: Type of the column `amount`.
        broken: Files or lines that cannot be read.
    """

    orders: int
    distinct: int
    items: int
    money: str
    broken: int = 0

    def against(self, whole: Outcome) -> str:
        """Say what is missing or double, measured by a whole outcome."""
        lost, doubled = whole.distinct - self.distinct, self.orders - self.distinct
        items = self.items - whole.items
        flaws = [
            f"{lost:,} orders lost" if lost else "",
            f"{doubled:,} orders double" if doubled else "",
            f"{abs(items):,} items {'lost' if items < 0 else 'too many'}" if items else "",
            f"{self.broken:,} broken" if self.broken else "",
        ]
        return ", ".join(filter(None, flaws)) or "whole"


NOTHING = Outcome(orders=0, distinct=0, items=0, money="")


def of_parquet(folder: Path, orders: str, items: str) -> Outcome:
    """Read Parquet files.

    Args:
        folder: Where the contender wrote.
        orders: Glob of the orders table's files.
        items: Glob of the items table's files.
    """
    numbers: set[str] = set()
    rows = broken = 0
    money = ""
    for path in sorted(folder.glob(orders)):
        try:
            table = pq.read_table(path, columns=["number", "amount"])
        except (pa.ArrowException, OSError):
            broken += 1
            continue
        rows += table.num_rows
        numbers.update(table["number"].to_pylist())
        money = _kind(table.schema.field("amount").type)
    item_rows, broken_items = _parquet_rows(folder, items)
    return Outcome(
        orders=rows, distinct=len(numbers), items=item_rows, money=money, broken=broken + broken_items
    )


def of_json_lines(folder: Path, orders: str, items: str) -> Outcome:
    """Read JSON lines; see `of_parquet`."""
    order_rows, item_rows = list(_lines(folder / orders)), list(_lines(folder / items))
    good = [row for row in order_rows if row is not None]
    return Outcome(
        orders=len(good),
        distinct=len({row["number"] for row in good}),
        items=sum(row is not None for row in item_rows),
        money=_json_kind(good[0]["amount"]) if good else "",
        broken=order_rows.count(None) + item_rows.count(None),
    )


def _parquet_rows(folder: Path, pattern: str) -> tuple[int, int]:
    rows = broken = 0
    for path in folder.glob(pattern):
        try:
            rows += pq.read_metadata(path).num_rows
        except (pa.ArrowException, OSError):
            broken += 1
    return rows, broken


def _lines(path: Path) -> Iterator[dict[str, Any] | None]:
    """Yield each line's object, None for one that is cut."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                yield None


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return "exact decimal"
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(kind)


def _json_kind(value: object) -> str:
    return "text" if isinstance(value, str) else type(value).__name__

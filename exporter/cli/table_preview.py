"""A few rows of a dataset, for the eyes: short enough for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from exporter.model.outside_text import visible

_ROWS = 5
_LONGEST_TEXT = 22
_SHOWN = {
    "orders": ("number", "status", "date_placed", "shipping_address_city_name", "amount", "currency"),
    "order_items": ("order_number", "item_index", "product_sku", "price", "tax_rate", "status"),
}
_HEADINGS = {"shipping_address_city_name": "…_city_name"}


def dataset_lines(out: str) -> Iterator[str]:
    """Yield the first rows of both tables of a Parquet dataset, as a person would write them down."""
    import pyarrow.parquet as pq

    for name, columns in _SHOWN.items():
        with pq.ParquetFile(Path(out) / f"{name}.parquet") as file:
            batch = next(file.iter_batches(_ROWS, columns=list(columns)), None)
            rows = batch.to_pylist() if batch else []
            yield ""
            yield f"{name}.parquet: {file.metadata.num_rows:,} rows, {file.metadata.num_columns} columns; the first:"
        yield from _table(columns, rows)


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> Iterator[str]:
    cells = [tuple(_HEADINGS.get(column, column) for column in columns)]
    cells += [tuple(_text(row[column]) for column in columns) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [any(isinstance(row[column], Decimal | int) for row in rows) for column in columns]
    for line in cells:
        aligned = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        yield ("  " + "  ".join(aligned)).rstrip()


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, Decimal):
        return f"{value:.2f}" if value == round(value, 2) else f"{value.normalize():f}"
    text = visible(str(value))
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"

"""A few rows of a dataset, for the eyes."""

from __future__ import annotations

from pathlib import Path

_ROWS = 5
_SHOWN = {
    "orders": ("number", "status", "date_placed", "shipping_address_city_name", "amount", "currency"),
    "order_items": ("order_number", "item_index", "product_sku", "price", "tax_rate", "status"),
}


def show_dataset(out: str) -> None:
    """Print the first rows of both tables of a Parquet dataset."""
    import pyarrow.parquet as pq
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for name, columns in _SHOWN.items():
        rows = pq.read_table(Path(out) / f"{name}.parquet", columns=list(columns)).slice(0, _ROWS).to_pylist()
        table = Table(title=name, title_justify="left")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*("" if value is None else str(value) for value in row.values()))
        console.print(table)

"""The Arrow schemas of both tables, made from the catalogue."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from exporter.model.catalog import ORDER_ITEMS, ORDERS, Column, Kind

JSON_TYPE: Final = pa.json_(pa.string())
ARROW_TYPES: Final = {
    Kind.TEXT: pa.string(),
    Kind.INTEGER: pa.int64(),
    Kind.DECIMAL: pa.decimal128(20, 4),
    Kind.TIMESTAMP: pa.timestamp("us", "UTC"),
    Kind.BOOLEAN: pa.bool_(),
    Kind.JSON: JSON_TYPE,
}


def _field(column: Column) -> pa.Field:
    metadata = {
        "description": column.meaning,
        "path": ".".join(column.path),
        "personal": "true" if column.personal else "false",
        "source": column.source,
    }
    return pa.field(column.name, ARROW_TYPES[column.kind], metadata=metadata)


ORDERS_SCHEMA: Final = pa.schema([_field(column) for column in ORDERS])
ORDER_ITEMS_SCHEMA: Final = pa.schema([_field(column) for column in ORDER_ITEMS])

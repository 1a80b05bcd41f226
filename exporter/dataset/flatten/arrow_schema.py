"""The Arrow schemas of every table, made from the catalogue."""

from typing import Final

import pyarrow as pa

from exporter.model.catalog import TABLES, Column, Kind

ARROW_TYPES: Final = {
    Kind.TEXT: pa.string(),
    Kind.INTEGER: pa.int64(),
    Kind.DECIMAL: pa.decimal128(20, 4),
    Kind.TIMESTAMP: pa.timestamp("us", "UTC"),
    Kind.BOOLEAN: pa.bool_(),
    Kind.JSON: pa.string(),
}


def _field(column: Column) -> pa.Field:
    metadata = {
        "description": column.meaning,
        "kind": column.kind.value,
        "path": ".".join(column.path),
        "personal": "true" if column.personal else "false",
        "source": column.source,
    }
    return pa.field(column.name, ARROW_TYPES[column.kind], column.nullable, metadata=metadata)


SCHEMAS: Final = {name: pa.schema(list(map(_field, columns))) for name, columns in TABLES.items()}
ORDERS_SCHEMA: Final = SCHEMAS["orders"]
ORDER_ITEMS_SCHEMA: Final = SCHEMAS["order_items"]

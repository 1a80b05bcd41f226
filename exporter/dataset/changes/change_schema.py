"""The columns of the table `changes`, and the SQL by which two rows become rows of it."""

from typing import Final

import pyarrow as pa

from exporter.model.catalog import CHANGE_KINDS, TABLES

_AMOUNT: Final = pa.decimal128(20, 4)
_MOMENT: Final = pa.timestamp("us", "UTC")
_COLUMNS: Final = {
    "order_number": (pa.string(), "Order number"),
    "item_id": (pa.int64(), "Id of the item; null where the order itself changed"),
    "kind": (pa.string(), f"Of what kind the change is: {', '.join(CHANGE_KINDS)} or other"),
    "change": (pa.string(), "new, changed, gone, returned, item_added or item_removed"),
    "column": (
        pa.string(),
        "Of the item where item_id is there, else of the order (order_items[0].status: of an item without an id)",
    ),
    "old": (pa.string(), "What it was, as text; times in UTC"),
    "new": (pa.string(), "What it is"),
    "old_amount": (_AMOUNT, "What an amount was; of a gone order or a removed item its amount or price"),
    "new_amount": (_AMOUNT, "What an amount is; of a new order or an added item its amount or price"),
    "delta": (pa.decimal128(21, 4), "new_amount less old_amount; null where the currency changed"),
    "currency": (pa.string(), "Currency of the amounts"),
    "seen_before": (_MOMENT, "When the older dataset's orders were requested, at the earliest"),
    "seen_after": (_MOMENT, "When the newer one's were, at the latest: the change lies between"),
}
CHANGES_SCHEMA: Final = pa.schema(
    pa.field(name, kind, name not in ("order_number", "kind", "change"), {"description": meaning})
    for name, (kind, meaning) in _COLUMNS.items()
)
CHANGE_TYPE: Final = pa.field(
    "_change_type", pa.string(), False, {"description": "insert, update_preimage, update_postimage or delete"}
)
_KNOWN: Final = {(table, column.name): column for table, columns in TABLES.items() for column in columns}

#: What the table of changes is gathered in; `part`, `seq`, `item` and `place` put the rows in order.
GATHERED: Final = """
    CREATE TEMP TABLE gathered (
        part TINYINT, seq BIGINT, item BIGINT, place INTEGER, order_number VARCHAR, item_id BIGINT, kind VARCHAR,
        change VARCHAR, "column" VARCHAR, old VARCHAR, new VARCHAR, old_amount DECIMAL(20, 4),
        new_amount DECIMAL(20, 4), old_currency VARCHAR, currency VARCHAR
    )"""
SELECT_CHANGES: Final = """
    SELECT order_number, item_id, kind, change, "column", old, new, old_amount, new_amount,
        CASE WHEN coalesce(old_amount, new_amount) IS NOT NULL
            AND (change <> 'changed' OR old_currency IS NOT DISTINCT FROM currency)
            THEN coalesce(new_amount, 0)::DECIMAL(20, 4) - coalesce(old_amount, 0)::DECIMAL(20, 4) END AS delta,
        currency, part, seq, item, place
    FROM gathered"""


def quoted(name: str) -> str:
    """Return a name as an identifier of SQL.

    >>> quoted('a"b')
    '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as a literal of SQL.

    >>> literal("Ali's")
    "'Ali''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def column_changes(table: str, place: int, name: str, kind: str, currency: str | None) -> str:
    """Return the SELECT of one column's changes from `joined`, which has the columns of both sides.

    `place` is the column's in the table, `kind` DuckDB's name of its type, `currency` its currency's column.
    """
    old, new, known = quoted(f"old.{name}"), quoted(f"new.{name}"), _KNOWN.get((table, name))
    amounts = f"{old}, {new}" if known and known.money else "NULL, NULL"
    of_item = "CASE WHEN item_id IS NULL THEN format('order_items[{}].', item) ELSE '' END || "
    shown = (of_item if table == "order_items" else "") + literal(name)
    currencies = ", ".join(quoted(f"{side}.{currency}") if currency else "NULL" for side in ("old", "new"))
    return f"""
        SELECT 0, seq, item, {place}, order_number, item_id, {literal(known.change_kind if known else "other")},
            'changed', {shown}, {_text_of(old, kind)}, {_text_of(new, kind)}, {amounts}, {currencies}
        FROM joined WHERE {old} IS DISTINCT FROM {new}"""


def _text_of(column: str, kind: str) -> str:
    """Return the SQL of a column's text, as the CSV has it."""
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"strftime(make_timestamp(epoch_us({column})), '%Y-%m-%d %H:%M:%S.%fZ')"
    return f"{column}::VARCHAR"

"""The catalogue as text: for eyes, for the docs, for programs and for databases."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

from exporter.model.catalog import ITEMS_KEY, TABLES, Column, Kind

Format = Literal["text", "markdown", "json", "sql"]

_ARROW: Final = {
    Kind.TEXT: "string",
    Kind.INTEGER: "int64",
    Kind.DECIMAL: "decimal128(20, 4)",
    Kind.TIMESTAMP: "timestamp[us, UTC]",
    Kind.BOOLEAN: "bool",
    Kind.JSON: "string",
}
_SQL: Final = {
    Kind.TEXT: "TEXT",
    Kind.INTEGER: "BIGINT",
    Kind.DECIMAL: "DECIMAL(20, 4)",
    Kind.TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
    Kind.BOOLEAN: "BOOLEAN",
    Kind.JSON: "JSON",
}
_WIDTH = 80
_PREFIXES = {"orders": "", "order_items": f"{ITEMS_KEY}[].", "order_lines": ""}


def render(form: Format) -> str:
    """Describe every table: for a terminal of 80 columns, as a data dictionary, for programs, or as `CREATE TABLE`."""
    return _FORMS[form]()


def _text() -> str:
    parts = [f"{name}: {len(columns)} columns\n\n" + _text_table(columns) for name, columns in TABLES.items()]
    return "\n".join([*parts, "* personal: null with --pii drop, a keyed hash with --pii hash\n"])


def _text_table(columns: tuple[Column, ...]) -> str:
    name_width = max(len(column.name) for column in columns)
    indent = " " * (name_width + 15)
    lines = [
        textwrap.fill(
            column.meaning,
            _WIDTH,
            initial_indent=f"  {column.name:<{name_width}} {column.kind.value:<9} {'*' if column.personal else ' '}".ljust(
                len(indent)
            ),
            subsequent_indent=indent,
        )
        for column in columns
    ]
    return "\n".join(lines) + "\n"


def _markdown_table(name: str, columns: tuple[Column, ...]) -> str:
    lines = [
        f"## `{name}`",
        "",
        "| Column | Type | Path in the API | Personal | Meaning | Source |",
        "|---|---|---|---|---|---|",
        *map(_markdown_row, columns),
    ]
    return "\n".join(lines) + "\n"


def _markdown_row(column: Column) -> str:
    kind = f"{_ARROW[column.kind]} (JSON)" if column.kind is Kind.JSON else _ARROW[column.kind]
    path = _api_path(column)
    cells = (f"`{column.name}`", kind, f"`{path}`" if path else "", "yes" if column.personal else "")
    return f"| {' | '.join((*cells, column.meaning, column.source))} |"


def _api_path(column: Column) -> str | None:
    return _PREFIXES[column.table] + ".".join(column.path) if column.path else None


def _json() -> str:
    tables = {
        name: [
            {
                "name": column.name,
                "type": _ARROW[column.kind],
                "kind": column.kind.value,
                "path": _api_path(column),
                "personal": column.personal,
                "meaning": column.meaning,
                "source": column.source,
            }
            for column in columns
        ]
        for name, columns in TABLES.items()
    }
    return json.dumps({"tables": tables}, indent=2, ensure_ascii=False) + "\n"


def _sql_table(name: str, columns: tuple[Column, ...]) -> str:
    # No keys and no NOT NULL: a load must take whatever the dataset holds.
    body = ",\n".join(f"  {column.name} {_SQL[column.kind]}" for column in columns)
    comments = "\n".join(
        f"COMMENT ON COLUMN {name}.{column.name} IS {_sql_string(column.meaning)};" for column in columns
    )
    return f"CREATE TABLE {name} (\n{body}\n);\n{comments}\n"


def _sql_string(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _each(table: Callable[[str, tuple[Column, ...]], str]) -> str:
    return "\n".join(table(name, columns) for name, columns in TABLES.items())


_FORMS: Final[dict[Format, Callable[[], str]]] = {
    "text": _text,
    "markdown": partial(_each, _markdown_table),
    "json": _json,
    "sql": partial(_each, _sql_table),
}

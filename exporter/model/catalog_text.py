"""The catalogue as text: for eyes, for the docs, for programs and for databases."""

import json
import textwrap
from typing import Final, Literal

from exporter.model.catalog import ITEMS_KEY, TABLES, Column, Kind

Format = Literal["text", "markdown", "json", "sql"]

#: The types of each kind in Arrow and in SQL.
_TYPES: Final = {
    Kind.TEXT: ("string", "TEXT"),
    Kind.INTEGER: ("int64", "BIGINT"),
    Kind.DECIMAL: ("decimal128(20, 4)", "DECIMAL(20, 4)"),
    Kind.TIMESTAMP: ("timestamp[us, UTC]", "TIMESTAMP WITH TIME ZONE"),
    Kind.BOOLEAN: ("bool", "BOOLEAN"),
    Kind.JSON: ("string", "JSON"),
}
_WIDTH = 80
_PREFIXES = {"orders": "", "order_items": f"{ITEMS_KEY}[].", "order_lines": ""}


def render(form: Format) -> str:
    """Describe every table: for a terminal of 80 columns, as a data dictionary, for programs, or as `CREATE TABLE`."""
    if form == "json":
        tables = {name: list(map(_json_column, columns)) for name, columns in TABLES.items()}
        return json.dumps({"tables": tables}, indent=2, ensure_ascii=False) + "\n"
    described = {"text": _text, "markdown": _markdown, "sql": _sql}[form]
    parts = [described(name, columns) for name, columns in TABLES.items()]
    if form == "text":
        parts.append("* personal: null with --pii drop, a keyed hash with --pii hash\n")
    return "\n".join(parts)


def _text(name: str, columns: tuple[Column, ...]) -> str:
    width = max(len(column.name) for column in columns)
    rows = "".join(f"{_text_row(column, width)}\n" for column in columns)
    return f"{name}: {len(columns)} columns\n\n{rows}"


def _text_row(column: Column, width: int) -> str:
    indent = width + 15
    facts = f"  {column.name:<{width}} {column.kind.value:<9} {'*' if column.personal else ' '}".ljust(indent)
    return textwrap.fill(column.meaning, _WIDTH, initial_indent=facts, subsequent_indent=" " * indent)


def _markdown(name: str, columns: tuple[Column, ...]) -> str:
    head = f"## `{name}`\n\n| Column | Type | Path in the API | Personal | Meaning | Source |\n|---|---|---|---|---|---|\n"
    return head + "".join(f"| {' | '.join(_markdown_cells(column))} |\n" for column in columns)


def _markdown_cells(column: Column) -> tuple[str, ...]:
    kind = _TYPES[column.kind][0] + (" (JSON)" if column.kind is Kind.JSON else "")
    path = f"`{_api_path(column)}`" if column.path else ""
    return f"`{column.name}`", kind, path, "yes" if column.personal else "", column.meaning, column.source


def _api_path(column: Column) -> str | None:
    return _PREFIXES[column.table] + ".".join(column.path) if column.path else None


def _json_column(column: Column) -> dict[str, object]:
    return {
        "name": column.name,
        "type": _TYPES[column.kind][0],
        "kind": column.kind.value,
        "path": _api_path(column),
        "personal": column.personal,
        "meaning": column.meaning,
        "source": column.source,
    }


def _sql(name: str, columns: tuple[Column, ...]) -> str:
    # No keys and no NOT NULL: a load must take whatever the dataset holds.
    body = ",\n".join(f"  {column.name} {_TYPES[column.kind][1]}" for column in columns)
    quoted = ((column.name, column.meaning.replace("'", "''")) for column in columns)
    comments = "".join(f"COMMENT ON COLUMN {name}.{column} IS '{meaning}';\n" for column, meaning in quoted)
    return f"CREATE TABLE {name} (\n{body}\n);\n{comments}"

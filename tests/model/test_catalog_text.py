"""`exporter schema` tells the catalogue in every form, and databases take its SQL."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from exporter.dataset.flatten import ORDER_ITEMS_SCHEMA, ORDERS_SCHEMA, Flattener
from exporter.dataset.flatten.arrow_schema import ARROW_TYPES
from exporter.model.catalog import ORDER_ITEMS, ORDER_LINES, ORDERS, TABLES
from exporter.model.catalog_text import _TYPES, Format, render
from tests.support.postgres import single_user_postgres
from tests.support.wild_json import SAMPLE

fast = pytest.mark.fast
_NUMBER = "bf7b66149236455"
_ALL = [*ORDERS, *ORDER_ITEMS, *ORDER_LINES]


@fast
@pytest.mark.parametrize("form", ["text", "markdown", "json", "sql"])
def test_every_column_and_its_meaning_is_told(form: Format) -> None:
    """No form leaves out a column, or ends without a newline."""
    text = " ".join(render(form).replace("''", "'").split())
    for column in _ALL:
        assert column.name in text
        assert column.meaning in text
    assert render(form).endswith("\n")


@fast
def test_text_fits_80_columns() -> None:
    """The text form can be read in a terminal of 80 columns."""
    assert max(map(len, render("text").splitlines())) <= 80


@fast
def test_json_gives_types_paths_and_marks() -> None:
    """The JSON form is the catalogue, for programs."""
    tables = json.loads(render("json"))["tables"]
    assert [column["name"] for column in tables["orders"]] == ORDERS_SCHEMA.names
    price = next(column for column in tables["order_items"] if column["name"] == "price")
    assert price["type"] == "decimal128(20, 4)"
    assert price["path"] == "orderitem_set[].price"
    assert [column["personal"] for column in tables["orders"]] == [column.personal for column in ORDERS]


@fast
def test_type_names_are_arrows() -> None:
    """The types told are those that the files have."""
    for kind, arrow_type in ARROW_TYPES.items():
        assert _TYPES[kind][0] in str(arrow_type).replace("tz=", "").replace("extension<arrow.json>", "json")


@fast
def test_markdown_is_one_table_for_each_table() -> None:
    """Each row of the data dictionary has as many cells as its header."""
    rows = [line for line in render("markdown").splitlines() if line.startswith("|")]
    assert len(rows) == len(_ALL) + 2 * len(TABLES)
    assert {row.count("|") for row in rows} == {7}


def _write_sample(folder: Path) -> dict[str, Path]:
    tables = zip(("orders", "order_items"), Flattener().flatten([(_NUMBER, SAMPLE)]), strict=True)
    files = {}
    for name, table in tables:
        files[name] = folder / f"{name}.parquet"
        pq.write_table(table, files[name])
    return files


@fast
def test_duckdb_takes_the_sql_and_the_data(tmp_path: Path) -> None:
    """The statements run in DuckDB, and a dataset can be inserted as it is."""
    with duckdb.connect() as database:
        database.execute(render("sql"))
        for name, file in _write_sample(tmp_path).items():
            database.execute(f"INSERT INTO {name} SELECT * FROM read_parquet('{file}')")
        found = database.execute(
            "SELECT amount, date_placed IS NOT NULL, shipping_address_city_name FROM orders"
        )
        assert [str(value) for value in found.fetchall()[0]] == ["16.4000", "True", "Afyon"]
        comment = (
            "SELECT comment FROM duckdb_columns() WHERE table_name = 'orders' AND column_name = 'number'"
        )
        assert database.execute(comment).fetchall() == [("Order number, unique within its sales channel",)]
        assert database.execute("SELECT count(*) FROM order_items").fetchall() == [(1,)]


@pytest.fixture
def postgres() -> Iterator[list[str]]:
    """Give the command that runs SQL from standard input in a database of its own."""
    with single_user_postgres() as (command, _):
        yield command


def test_postgres_takes_the_sql(postgres: list[str]) -> None:
    """The statements run in PostgreSQL, and the types are the ones meant."""
    probe = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'order_items'"
    statements = [statement + ";" for statement in render("sql").split(";\n") if statement.strip()]
    script = "\n\n".join([*statements, probe + ";", ""])
    done = subprocess.run(
        postgres, input=script, capture_output=True, text=True, check=True, cwd="/", timeout=60
    )
    assert "ERROR" not in done.stderr
    for name, data_type in (
        ("price", "numeric"),
        ("invoice_date", "timestamp with time zone"),
        ("id", "bigint"),
    ):
        assert f'column_name = "{name}"' in done.stdout
        assert f'data_type = "{data_type}"' in done.stdout
    assert f'data_type = "{"json"}"' in done.stdout
    assert done.stdout.count("column_name = ") == len(ORDER_ITEMS_SCHEMA)

"""Every reader that people use reads every kind of dataset, and finds the same in it; docs/readers.md says how."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import datafusion
import deltalake
import duckdb
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.memory import InMemoryCatalog

from exporter.model.catalog_text import render
from tests.support.datasets import Dataset, demo_payloads
from tests.support.postgres import single_user_postgres

#: A folder with the oldest Polars that pyproject.toml allows; `.ci/run` installs it.
OLDEST_POLARS = os.environ.get("EXPORTER_TEST_OLDEST_POLARS")

_NASTY = {
    "number": "00123",
    "amount": "-9999999999999999.9999",
    "date_placed": "0001-01-01T00:00:00Z",
    "invoice_date": "9999-12-31T23:59:59.999999Z",
    "gift_box_note": 'NULL; "quoted", \\N\r\nnext line\ttab 😀 \\ ; "',
    "remote_addr": "",
    "tracking_number": "\0",
    "extra_field": {"a": ["\0", "\ud800", 1e300, None]},
    "shipping_address": {"line": "ş" * 100_000, "postcode": "01000"},
    "odd": {"deep": [1]},
    "orderitem_set": [None, {"price": "0.0001", "attributes": []}],
}


def _drifted() -> list[dict[str, Any]]:
    payloads = demo_payloads(12)
    for at in (2, 3, 9):
        payloads[at] |= {"loyalty": {"points": at}, "amount": "12,50"}
    return payloads


KINDS = {
    "plain": Dataset(payloads=demo_payloads(12), formats=("parquet", "csv")),
    "parts": Dataset(payloads=demo_payloads(12), formats=("parquet", "csv"), rows_per_file=5),
    "drift": Dataset(payloads=_drifted(), formats=("parquet", "csv")),
    "empty": Dataset(payloads=[], formats=("parquet", "csv")),
    "nasty": Dataset(payloads=[*demo_payloads(2), _NASTY], formats=("parquet", "csv")),
}
Found = tuple[list[str], Decimal]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: made.write(tmp_path_factory.mktemp("readers") / kind) for kind, made in KINDS.items()}


@pytest.fixture(params=KINDS)
def dataset(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


def expected(dataset: Path) -> Found:
    """What pyarrow reads, which writes it."""
    return _of_arrow(pq.read_table(dataset / "orders.parquet"))


def _of_arrow(table: pa.Table) -> Found:
    return table["number"].to_pylist(), pc.sum(table["amount"]).as_py() or Decimal(0)


def _glob(path: Path) -> str:
    return f"{path}/*{path.suffix}" if path.is_dir() else str(path)


def by_pandas(path: Path, _: Path) -> Found:
    frame = pd.read_parquet(path)
    return list(frame["number"]), sum(frame["amount"].dropna(), Decimal(0))


def by_pandas_with_arrow_types(path: Path, _: Path) -> Found:
    frame = pd.read_parquet(path, dtype_backend="pyarrow")
    assert len(frame.drop_duplicates()) == len(frame)
    assert frame.groupby("extra_field", dropna=False)["id"].size().sum() == len(frame)
    return list(frame["number"]), sum(frame["amount"].dropna(), Decimal(0))


def by_polars(path: Path, _: Path) -> Found:
    frame = pl.read_parquet(path)
    assert frame.unique().height == frame.height
    return frame["number"].to_list(), sum(frame["amount"].drop_nulls(), Decimal(0))


def by_duckdb(path: Path, _: Path) -> Found:
    with duckdb.connect() as connection:
        rows = connection.execute(f"SELECT number, amount FROM '{_glob(path)}'").fetchall()
    return [number for number, _ in rows], sum((amount for _, amount in rows if amount), Decimal(0))


def by_pyiceberg(path: Path, scratch: Path) -> Found:
    whole = pq.read_table(path)
    catalog = InMemoryCatalog("test", warehouse=scratch.as_uri())
    catalog.create_namespace("shop")
    table = catalog.create_table("shop.orders", whole.schema)
    table.append(whole)
    return _of_arrow(table.scan().to_arrow())


def by_deltalake(path: Path, scratch: Path) -> Found:
    deltalake.write_deltalake(scratch, pq.read_table(path))
    return _of_arrow(
        pa.table(
            deltalake.QueryBuilder()
            .register("t", deltalake.DeltaTable(scratch))
            .execute("SELECT number, amount FROM t")
            .read_all()
        )
    )


def by_datafusion(path: Path, _: Path) -> Found:
    context = datafusion.SessionContext()
    context.register_parquet("orders", str(path))
    return _of_arrow(context.sql("SELECT number, amount FROM orders").to_arrow_table())


READERS: dict[str, Callable[[Path, Path], Found]] = {
    "pandas": by_pandas,
    "pandas with Arrow types": by_pandas_with_arrow_types,
    "Polars": by_polars,
    "DuckDB": by_duckdb,
    "PyIceberg": by_pyiceberg,
    "Delta Lake": by_deltalake,
    "DataFusion": by_datafusion,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_finds_every_order_and_every_amount(dataset: Path, reader: str, tmp_path: Path) -> None:
    """Each kind of dataset, read as docs/readers.md says."""
    found = READERS[reader](dataset / "orders.parquet", tmp_path)
    assert (sorted(found[0]), found[1]) == (sorted(expected(dataset)[0]), expected(dataset)[1])


@pytest.mark.skipif(OLDEST_POLARS is None, reason="EXPORTER_TEST_OLDEST_POLARS names no folder")
def test_the_oldest_polars_reads_it(dataset: Path) -> None:
    """As does the newest; with Parquet's JSON type it panicked."""
    code = "import polars, sys; f = polars.read_parquet(sys.argv[1]); print(f.unique().height, f['amount'].sum())"
    done = subprocess.run(
        [sys.executable, "-c", code, str(dataset / "orders.parquet")],
        env=os.environ | {"PYTHONPATH": str(OLDEST_POLARS)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    numbers, amount = expected(dataset)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == str(len(numbers))
    assert Decimal(done.stdout.split()[1]) == amount


def test_duckdb_reads_csv(dataset: Path) -> None:
    """With `allow_quoted_nulls` off an empty text and null stay apart."""
    types = {
        "number": "VARCHAR",
        "amount": "DECIMAL(20, 4)",
        "remote_addr": "VARCHAR",
        "tracking_number": "VARCHAR",
    }
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT number, amount, remote_addr IS NULL FROM read_csv('{_glob(dataset / 'orders.csv')}', "
            f"header = true, types = {types}, allow_quoted_nulls = false, max_line_size = 10_000_000)"
        ).fetchall()
    numbers, amount = expected(dataset)
    assert sorted(row[0] for row in rows) == sorted(numbers)
    assert sum((row[1] for row in rows if row[1]), Decimal(0)) == amount
    nulls = pq.read_table(dataset / "orders.parquet")["remote_addr"].null_count
    assert sum(row[2] for row in rows) == nulls


def test_postgres_copies_csv(folders: dict[str, Path]) -> None:
    """`COPY … WITH (FORMAT csv, HEADER)` into the tables of `exporter schema --format sql`."""
    with single_user_postgres() as (command, shared):
        statements = [statement + ";" for statement in render("sql").split(";\n") if statement.strip()]
        for kind, folder in folders.items():
            for path in sorted(folder.glob("orders.csv")) + sorted(folder.glob("order_items.csv")):
                for part in sorted(path.iterdir()) if path.is_dir() else [path]:
                    copy = shared / f"{kind}-{path.stem}-{part.name}"
                    copy.write_bytes(part.read_bytes())
                    statements.append(f"COPY {path.stem} FROM '{copy}' WITH (FORMAT csv, HEADER);")
        statements.append("SELECT count(*) AS orders, sum(amount) AS total FROM orders;")
        statements.append("SELECT count(*) AS items FROM order_items;")
        done = subprocess.run(
            command,
            check=False,
            input="\n\n".join([*statements, ""]),
            capture_output=True,
            text=True,
            cwd="/",
            timeout=60,
        )
    assert "ERROR" not in done.stderr
    found = [expected(folder) for folder in folders.values()]
    assert f'orders = "{sum(len(numbers) for numbers, _ in found)}"' in done.stdout
    assert f'total = "{sum((amount for _, amount in found), Decimal(0))}"' in done.stdout

"""The shapes that people ask for, as whole runs: flat tables, workbooks, local times, chosen columns."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import openpyxl  # type: ignore[import-untyped]  # ships no types
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.support.processes import Exporter
from tests.support.standing import contents, manifest_of

TABLES = ("orders", "order_items", "order_lines")
ZONE = ZoneInfo("Europe/Istanbul")


def csv_rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    parts = sorted(path.iterdir()) if path.is_dir() else [path]
    rows = []
    for part in parts:
        with part.open(encoding="utf-8-sig", newline="") as file:
            rows += list(csv.DictReader(file, delimiter=delimiter))
    return rows


def sheet_rows(path: Path, sheet: str) -> list[tuple[Any, ...]]:
    books = sorted(path.iterdir()) if path.is_dir() else [path]
    found = [list(openpyxl.load_workbook(book)[sheet].iter_rows(values_only=True)) for book in books]
    return found[0][:1] + [row for rows in found for row in rows[1:]]


@pytest.mark.parametrize(
    "words", [(), ("--rows-per-file", 7), ("--dask", "local:2")], ids=["plain", "parts", "cluster"]
)
def test_every_table_in_every_format_holds_the_same(exporter: Exporter, words: tuple[object, ...]) -> None:
    """Three tables in three formats, in the zone asked for; manifest, `verify` and `status` know them."""
    ended = exporter.run(
        "--tables", ",".join(TABLES), "--format", "parquet,csv,xlsx", "--timezone", "Europe/Istanbul", *words
    )
    assert ended.code == 0, ended.err
    manifest = manifest_of(exporter.cwd / "out")
    assert list(manifest["tables"]) == list(TABLES)
    assert manifest["timezone"] == "Europe/Istanbul"
    for name in TABLES:
        whole = pq.read_table(exporter.cwd / "out" / f"{name}.parquet")
        assert manifest["tables"][name]["rows"] == whole.num_rows
        texts = csv_rows(exporter.cwd / "out" / f"{name}.csv")
        cells = sheet_rows(exporter.cwd / "out" / "orders.xlsx", name)
        assert list(texts[0]) == list(cells[0]) == whole.schema.names
        assert len(texts) == len(cells) - 1 == whole.num_rows
        key = whole.schema.names.index("order_number" if name == "order_items" else "number")
        keys = whole[key].to_pylist()
        assert [row[key] for row in cells[1:]] == keys == [list(row.values())[key] for row in texts]
    orders = pq.read_table(exporter.cwd / "out" / "orders.parquet")
    assert orders.schema.field("date_placed").type == pa.timestamp("us", "Europe/Istanbul")
    placed = orders["date_placed"].cast(pa.timestamp("us", "UTC")).to_pylist()
    local = [time.astimezone(ZONE) for time in placed]
    assert [
        dt.datetime.fromisoformat(row["date_placed"]) for row in csv_rows(exporter.cwd / "out" / "orders.csv")
    ] == placed
    assert csv_rows(exporter.cwd / "out" / "orders.csv")[0]["date_placed"] == local[0].isoformat(
        " ", "microseconds"
    )
    at = orders.schema.names.index("date_placed")
    shown = [row[at] for row in sheet_rows(exporter.cwd / "out" / "orders.xlsx", "orders")[1:]]
    off = [abs(cell.replace(tzinfo=ZONE) - time) for cell, time in zip(shown, local, strict=True)]
    assert max(off) < dt.timedelta(milliseconds=1)
    lines = pq.read_table(exporter.cwd / "out" / "order_lines.parquet")
    assert pc.sum(lines["amount"]) == pc.sum(orders["amount"])
    assert exporter("verify", exporter.cwd / "out").code == 0
    assert "order_lines" in exporter("status", exporter.cwd / "out").out


def test_one_table_alone_is_a_dataset_too(exporter: Exporter) -> None:
    """Only what is asked for is written; the counts are those of all orders; the same run gives the same bytes."""
    first = exporter.run("--tables", "order_lines")
    assert first.code == 0, first.err
    manifest = manifest_of(exporter.cwd / "out")
    assert list(manifest["tables"]) == ["order_lines"]
    assert manifest["counts"]["exported"] == manifest["counts"]["requested"]
    assert {path.name for path in (exporter.cwd / "out").iterdir()} == {
        "order_lines.parquet",
        "rejects.jsonl",
        "manifest.json",
    }
    assert exporter("verify", exporter.cwd / "out").code == 0
    before = contents(exporter.cwd / "out")["order_lines.parquet"]
    assert exporter.run("--tables", "order_lines", "--overwrite").code == 0
    assert contents(exporter.cwd / "out")["order_lines.parquet"] == before


def test_a_damaged_flat_table_is_told(exporter: Exporter) -> None:
    """A line that is gone is missed, also where the manifest agrees with the file."""
    assert exporter.run("--tables", "order_lines", "--format", "csv").code == 0
    path = exporter.cwd / "out" / "order_lines.csv"
    rows = path.read_bytes().split(b"\r\n")
    twice = next(
        at for at, row in enumerate(rows) if at > 1 and rows[at - 1].split(b",")[:2] == row.split(b",")[:2]
    )
    path.write_bytes(b"\r\n".join(rows[: twice - 1] + rows[twice:]))

    made = manifest_of(exporter.cwd / "out")

    data = path.read_bytes()
    part = made["tables"]["order_lines"]["files"][0]
    part |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "rows": part["rows"] - 1}
    made["tables"]["order_lines"]["rows"] -= 1
    (exporter.cwd / "out" / "manifest.json").write_text(json.dumps(made))
    ended = exporter("verify", exporter.cwd / "out")
    assert ended.code != 0
    assert "expected item_index 0 to" in ended.out + ended.err
    assert "items, got" in ended.out + ended.err


def test_columns_come_in_the_order_given(exporter: Exporter) -> None:
    """By name or glob, of every table or of one; keys that are not named come first or after the key before."""
    ended = exporter.run(
        "--tables", "orders,order_items,order_lines", "--format", "csv",
        "--select", "orders.status,amount,number,item_price", "--select", "order_items.price*",
        "--drop", "order_items.price_list",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    header = {name: list(csv_rows(exporter.cwd / "out" / f"{name}.csv")[0]) for name in TABLES}
    assert header == {
        "orders": ["status", "amount", "number"],
        "order_items": ["order_number", "item_index", "price_currency", "price"],
        "order_lines": ["amount", "number", "item_index", "item_price"],
    }


def test_the_excel_dialect_writes_local_dates(exporter: Exporter) -> None:
    """A date that a spreadsheet takes as one, in the zone asked for; the report reads it."""
    ended = exporter.run(
        "--format", "csv,parquet", "--csv-dialect", "excel", "--timezone", "Europe/Istanbul", "--report"
    )
    assert ended.code == 0, ended.err
    placed = pq.read_table(exporter.cwd / "out" / "orders.parquet")["date_placed"].to_pylist()
    shown = [row["date_placed"] for row in csv_rows(exporter.cwd / "out" / "orders.csv", ";")]
    assert shown == [f"{time:%Y-%m-%d %H:%M:%S}" for time in placed]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--csv-dialect", "excel"), ("--csv-dialect", "--format csv")),
        (("--timezone", "Mars/Base"), ("--timezone", "Europe/Istanbul")),
        (("--tables", "orders,lines"), ("--tables", "order_lines")),
        (("--format", "parquet,xml"), ("--format", "xlsx")),
        (("--select", "orders.statu"), ("no column fits", "orders.status")),
        (("--tables", "orders", "--select", "price"), ("no column fits 'price'",)),
        (("--drop", "order_lines.number", "--tables", "order_lines"), ("--drop", "always written")),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused(
    exporter: Exporter, words: tuple[str, ...], told: tuple[str, ...]
) -> None:
    """Exit 2, one sentence that names the option, and nothing is made."""
    ended = exporter.run(*words)
    ended.said(2, *told)
    assert not (exporter.cwd / "out").exists()


def test_the_name_of_a_workbook_as_out_is_understood(exporter: Exporter) -> None:
    """OUT is a directory; the error says what was meant."""
    ended = exporter.run(out=Path("orders.xlsx"))
    ended.said(2, "OUT is a directory", "--format xlsx --out orders")

"""Workbooks: a sheet for each table, cells that are what they look like, opened by a real spreadsheet."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import openpyxl  # type: ignore[import-untyped]  # ships no types
import pyarrow as pa
import pytest
from openpyxl.utils.escape import unescape  # type: ignore[import-untyped]  # ships no types

from exporter.dataset import workbook_files
from exporter.dataset.dataset_writer import DatasetWriter, schemas_of
from exporter.dataset.flatten import Flattener, make_lines
from exporter.dataset.workbook_files import workbook_writer
from exporter.model.errors import StorageError
from exporter.model.options import Pii, TableOptions
from exporter.model.records import PartFile
from tests.support.datasets import demo_payloads

SOFFICE = shutil.which("soffice") or shutil.which("libreoffice")
LOCAL = dt.datetime(2025, 3, 23, 5, 16, 59)  # noqa: DTZ001 # a cell has no zone
PLACED = dt.datetime(2025, 3, 23, 2, 16, 59, tzinfo=dt.UTC)
SCHEMA = pa.schema(
    [
        pa.field("number", pa.string(), metadata={"description": "Order number", "path": "number"}),
        pa.field("email", pa.string(), metadata={"personal": "true"}),
        pa.field("amount", pa.decimal128(20, 4)),
        pa.field("id", pa.int64()),
        pa.field("placed", pa.timestamp("us", "Europe/Istanbul")),
        pa.field("sent", pa.bool_()),
    ]
)
ROWS = [
    ("00123", "=1+1", Decimal("16.4"), 27, PLACED, True),
    ("1e5", "https://example.com", Decimal("99999999999.9999"), 10**15 - 1, PLACED, False),
    ("_x0041_", "a\nb\x01", Decimal("100000000000.0001"), 10**15, PLACED.replace(year=1850), None),
    ("19 Mayıs", None, None, None, None, None),
]
SHOWN = [
    ("00123", "=1+1", 16.4, 27, LOCAL, True),
    ("1e5", "https://example.com", 99999999999.9999, 10**15 - 1, LOCAL, False),
    ("_x0041_", "a\nb\x01", "100000000000.0001", "1000000000000000", "1850-03-23 04:12:51.000000", None),
    ("19 Mayıs", None, None, None, None, None),
]


def table_of(rows: list[tuple[Any, ...]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA)


def written(folder: Path, *batches: Mapping[str, pa.Table], **options: Any) -> dict[str, list[PartFile]]:
    folder.mkdir(exist_ok=True)
    schemas = {name: table.schema for name, table in batches[0].items()}
    settings: dict[str, Any] = {"rows_per_file": None, "about": {"Source": "https://shop"}} | options
    writer = workbook_writer(folder, schemas, **settings)
    for batch in batches:
        writer.write(batch)
    return writer.close({"Orders": "4"})


def cells(path: Path, sheet: str = "orders") -> list[tuple[Any, ...]]:
    book = openpyxl.load_workbook(path)
    # openpyxl leaves `_x0001_` as it is; spreadsheets show the character.
    return [
        tuple(unescape(cell.value) if isinstance(cell.value, str) else cell.value for cell in row)
        for row in book[sheet].iter_rows()
    ]


def test_cells_are_what_they_look_like(tmp_path: Path) -> None:
    """Texts stay texts, money, ids and times are numbers and dates, what Excel would round is text."""
    written(tmp_path, {"orders": table_of(ROWS)})
    found = cells(tmp_path / "orders.xlsx")
    assert found[0] == tuple(SCHEMA.names)
    assert found[1:] == SHOWN
    sheet = openpyxl.load_workbook(tmp_path / "orders.xlsx")["orders"]
    assert [cell.data_type for cell in sheet[2]] == ["s", "s", "n", "n", "d", "b"]
    assert (sheet.freeze_panes, sheet.auto_filter.ref) == ("A2", "A1:F5")
    assert sheet.column_dimensions["E"].width > len("2025-03-23 05:16:59")
    assert not sheet._hyperlinks


@pytest.mark.extra
def test_a_sheet_explains(tmp_path: Path) -> None:
    """Source, counts and columns, with what is personal."""
    written(tmp_path, {"orders": table_of(ROWS)})
    rows = cells(tmp_path / "orders.xlsx", "About")
    assert [row[:2] for row in rows[:3]] == [
        ("Source", "https://shop"),
        ("Orders", "4"),
        ("Rows of orders here", "4"),
    ]
    assert ("orders", "number", "Order number", None, "number") in [tuple(v or None for v in r) for r in rows]
    assert ("orders", "email", None, "yes", None) in [tuple(v or None for v in r) for r in rows]


def test_a_text_longer_than_a_cell_is_cut_and_said(tmp_path: Path) -> None:
    """Excel calls a file damaged whose cell has more than 32,767 UTF-16 units."""
    long = "😀" * 20_000
    written(
        tmp_path,
        {"orders": table_of([("1", long, None, None, None, None), ("2", "ş" * 32_767, *[None] * 4)])},
    )
    found = cells(tmp_path / "orders.xlsx")
    assert found[1][1].startswith("😀" * 16_000)
    assert found[1][1].endswith("(cut: a cell holds no more)")
    assert len(found[1][1].encode("utf-16-le")) <= 2 * 32_767
    assert found[2][1] == "ş" * 32_767
    assert "Texts cut" in [row[0] for row in cells(tmp_path / "orders.xlsx", "About")]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    """However they were chunked inside."""
    whole = table_of(ROWS * 300)
    chunked = pa.concat_tables([whole.slice(start, 7) for start in range(0, 1200, 7)])
    one = written(tmp_path / "one", {"orders": whole})["orders"][0]
    other = written(tmp_path / "other", {"orders": chunked})["orders"][0]
    assert one == other


def test_rows_beyond_a_sheet_go_to_further_workbooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables stay together where they fit; each row is in exactly one workbook, in order."""
    monkeypatch.setattr(workbook_files, "MOST_ROWS", 10)
    rows = [(str(at), *ROWS[0][1:]) for at in range(30)]
    batches = [
        {"orders": table_of(rows[at : at + 3]), "order_items": table_of(rows[at : at + 3] * 2)}
        for at in range(0, 30, 3)
    ]
    files = written(tmp_path, *batches)
    assert [part.path for part in files["orders"]] == [
        "orders.xlsx",
        *(f"orders-{n}.xlsx" for n in range(2, 11)),
    ]
    assert [part.rows for part in files["order_items"]] == [6] * 10
    single = written(tmp_path / "single", {"orders": table_of(rows[:3])}, {"orders": table_of(rows[3:])})
    assert [part.rows for part in single["orders"]] == [10, 10, 10]
    parts = written(tmp_path / "parts", *batches, rows_per_file=4)
    assert [part.path for part in parts["orders"]][:2] == [
        "orders.xlsx/part-00000.xlsx",
        "orders.xlsx/part-00001.xlsx",
    ]
    for found, folder in ((files, tmp_path), (single, tmp_path / "single"), (parts, tmp_path / "parts")):
        read = [row[0] for part in found["orders"] for row in cells(folder / part.path)[1:]]
        assert read == [str(at) for at in range(30)]
        assert {path.name for path in folder.rglob("*scratch*")} == set()


def test_a_vanished_folder_is_named(tmp_path: Path) -> None:
    """A workbook that cannot be made is a storage error with its place, and nothing is left."""
    with pytest.raises(StorageError, match="writing the workbook failed"):
        workbook_writer(tmp_path / "gone", {"orders": SCHEMA}, rows_per_file=None, about={}).close({})


def published(folder: Path, pii: Pii = "keep", **options: Any) -> Path:
    """A workbook of all three tables, by the code of a publish."""
    payloads = demo_payloads(40)
    payloads[3]["orderitem_set"] = []
    numbers = [payload["number"] for payload in payloads]
    batch = [(number, json.dumps(p).encode()) for number, p in zip(numbers, payloads, strict=True)]
    orders, items = Flattener(pii=pii).flatten(batch)
    wanted = TableOptions(
        formats=("xlsx",),
        tables=("orders", "order_items", "order_lines"),
        timezone="Europe/Istanbul",
        pii=pii,
        **options,
    )
    with DatasetWriter(folder, schemas_of(wanted), wanted, {}) as writer:
        writer.add(
            {"orders": orders, "order_items": items, "order_lines": make_lines(numbers, orders, items)}
        )
        writer.end_row_group()
        writer.close({})
    return folder / "orders.xlsx"


def test_personal_columns_are_hidden_in_workbooks(tmp_path: Path) -> None:
    """`--pii drop` holds for every sheet."""
    book = published(tmp_path, "drop")
    text = str([cells(book, sheet) for sheet in ("orders", "order_items", "order_lines")])
    assert demo_payloads(1)[0]["customer"]["email"] not in text
    assert "@example.com" not in text


@pytest.mark.skipif(SOFFICE is None, reason="LibreOffice is not installed")
@pytest.mark.parametrize("language", ["tr", "en-US"])
def test_a_spreadsheet_opens_it(tmp_path: Path, language: str) -> None:
    """LibreOffice, in Turkish and in English: numbers add up, dates are dates, order numbers keep their zeros."""
    book = published(tmp_path)
    sheet = openpyxl.load_workbook(book)
    total = sum(row[0].value or 0 for row in sheet["orders"].iter_rows(min_row=2, min_col=55, max_col=55))
    assert sheet["orders"].cell(1, 55).value == "amount"
    assert total > 0
    profile = tmp_path / "profile"
    language_of_ui = f'<item oor:path="/org.openoffice.Setup/L10N"><prop oor:name="ooSetupSystemLocale" oor:op="fuse"><value>{language}</value></prop></item>'
    (profile / "user").mkdir(parents=True)
    (profile / "user" / "registrymodifications.xcu").write_text(
        '<?xml version="1.0" encoding="UTF-8"?><oor:items xmlns:oor="http://openoffice.org/2001/registry" '
        'xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f"{language_of_ui}</oor:items>"
    )
    assert SOFFICE is not None
    subprocess.run(
        [SOFFICE, f"-env:UserInstallation={profile.as_uri()}", "--headless", "--convert-to",
         "csv:Text - txt - csv (StarCalc):59,34,UTF8,1,,0,false,true,false,false,false,-1",
         "--outdir", str(tmp_path / "out"), str(book)],
        check=True, capture_output=True, timeout=100,
    )  # fmt: skip
    lines = (tmp_path / "out" / "orders-orders.csv").read_text("utf-8").splitlines()
    assert len(lines) == 41
    first = dict(zip(lines[0].split(";"), lines[1].split(";"), strict=False))
    payload = demo_payloads(1)[0]
    assert first["number"].strip('"') == payload["number"]
    placed = dt.datetime.fromisoformat(payload["date_placed"]).astimezone(ZoneInfo("Europe/Istanbul"))
    assert first["date_placed"] == f"{placed:%Y-%m-%d %H:%M:%S}"
    amount = format(Decimal(payload["amount"]).normalize(), "f")
    assert first["amount"] == (amount.replace(".", ",") if language == "tr" else amount)
    assert (tmp_path / "out" / "orders-About.csv").exists()

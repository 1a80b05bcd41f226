"""The `excel` dialect opens right in a real spreadsheet: LibreOffice, in Turkish and in English."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from exporter.dataset.table_files import table_writer
from exporter.model.options import TableOptions

calamine = pytest.importorskip("python_calamine", reason="reads the spreadsheet back; extra xlsx")

SOFFICE = shutil.which("soffice") or shutil.which("libreoffice")
pytestmark = pytest.mark.skipif(
    SOFFICE is None, reason="LibreOffice Calc is not installed (Debian, Ubuntu: libreoffice-calc-nogui)"
)

TURKISH, ENGLISH = "1055", "1033"  # https://learn.microsoft.com/openspecs/windows_protocols/ms-lcid

# Each would be a number, a date, a time or a truth value in one of the two languages.
TAKEN_FOR_VALUES = [
    "00123", "0", "454360", "2672881047887", "12345678901234567890", "9" * 128,
    "1E5", "7661492e3645", "1e-3", "16.40", "16,40", "1.234.567", "1,234", ".5", "5.", "5%", "₺5", "1 2/3",
    "1-", "10-12", "1/2", "30.01", "1.2.2024", "2026-11-23", "10:30", "5 PM", "1:30 am",
    "19 Mayıs", "23 NİSAN", "1 EKİM 2024", "Ocak 2024", "5 OCA", "MAR1", "Jan 5", "29-Ekim",
    "TRUE", "false", "Doğru", "YANLIŞ",
    "+905321112233", "-5", "+1+1", "85.12.3.4",
]  # fmt: skip
PLAIN_TEXT = [
    "Çiğdem Şahin", "İĞÜŞÖÇ ığüşöç", "İstanbul; Kadıköy, \"Moda\"", "line\nbreak", "a;=1+1", "a\n=1+1", "",
    "bf7b66149236455", "0 (198) 895-4431", "12. Sokak No:5", "Kasım Mart", "NULL",
    '{"a":[1,-2]}', "x" * 30_000,
]  # fmt: skip
FORMULAS = [
    "=1+1", "@SUM(1)", "-1+cmd|' /C calc'!A0", "+HYPERLINK(\"http://example.com\")", "\t=1+1", " =1+1",
    "=HYPERLINK(\"http://example.com\";\"click\")", "\u200b=1+1", "＝1+1", '="00123"', "-", "=\"\"&A1",
]  # fmt: skip
TEXTS = TAKEN_FOR_VALUES + PLAIN_TEXT + FORMULAS

AMOUNTS = [
    Decimal(text) for text in ("16.4000", "12.2000", "-7.9000", "0.0001", "1234.5000", "30.0100", "0.0000")
]
PLACED = dt.datetime(2017, 1, 30, 8, 28, 26, 158165, tzinfo=dt.UTC)
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("amount", pa.decimal128(20, 4)),
        ("id", pa.int64()),
        ("placed", pa.timestamp("us", tz="UTC")),
        ("extra", pa.string()),
    ]
)


def opened(folder: Path, language: str) -> list[list[Any]]:
    """Let LibreOffice open the file as somebody with that language does, and read the cells it made."""
    assert SOFFICE is not None
    subprocess.run(
        [
            SOFFICE,
            f"-env:UserInstallation={(folder / 'profile').as_uri()}",
            "--headless",
            f"--infilter=CSV:59,34,UTF8,1,,{language},false,true",
            "--convert-to",
            "xlsx",
            "--outdir",
            str(folder),
            str(folder / "orders.csv"),
        ],
        check=True,
        capture_output=True,
        timeout=100,
    )
    sheet = calamine.CalamineWorkbook.from_path(folder / "orders.xlsx").get_sheet_by_index(0)
    rows: list[list[Any]] = sheet.to_python(skip_empty_area=False)
    return rows


@pytest.fixture(scope="module", params=[TURKISH, ENGLISH], ids=["Turkish", "English"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory, language: str) -> list[list[Any]]:
    folder = tmp_path_factory.mktemp("excel")
    count = len(TEXTS)
    columns = {
        "text": TEXTS,
        "amount": [AMOUNTS[index % len(AMOUNTS)] for index in range(count)],
        "id": [27 if index else 9_007_199_254_740_993 for index in range(count)],
        "placed": [PLACED] * count,
        "extra": ['{"a": "ş"}'] * count,
    }
    plain = pa.schema([field.with_type(getattr(field.type, "storage_type", field.type)) for field in SCHEMA])
    with table_writer(folder, "orders", "csv", SCHEMA, TableOptions(csv_dialect="excel")) as writer:
        writer.write({"orders": pa.table(columns, schema=plain).cast(SCHEMA)})
        writer.close()
    return opened(folder, language)


def test_every_cell_is_in_its_column(sheet: list[list[Any]]) -> None:
    """The header is plain names without the BOM, and no text breaks into more cells or rows."""
    assert sheet[0] == SCHEMA.names
    assert [len(row) for row in sheet] == [len(SCHEMA)] * (len(TEXTS) + 1)


def test_text_is_intact(sheet: list[list[Any]]) -> None:
    """Turkish letters, leading zeros, long digits, and what looks like dates are the text that they were."""
    found = [_as_text(row[0]) for row in sheet[1:]]
    intact = TAKEN_FOR_VALUES + PLAIN_TEXT
    assert dict(zip(intact, found, strict=False)) == {text: text for text in intact}


def test_formulas_are_shown_not_run(sheet: list[list[Any]]) -> None:
    """What begins like a formula is text with an apostrophe before it."""
    found = [row[0] for row in sheet[-len(FORMULAS) :]]
    assert found == [f"'{text}" for text in FORMULAS]


def test_amounts_are_numbers_where_the_comma_is_the_decimal_sign(
    sheet: list[list[Any]], language: str
) -> None:
    """A Turkish spreadsheet can add the amounts up; an English one shows text, never a wrong number."""
    found = [row[1] for row in sheet[1 : len(AMOUNTS) + 1]]
    if language == TURKISH:
        assert found == [float(amount) for amount in AMOUNTS]
    else:
        assert found == [str(amount).replace(".", ",") for amount in AMOUNTS]


def test_ids_times_and_json_are_whole(sheet: list[list[Any]]) -> None:
    """Ids are numbers unless a spreadsheet would round them; times and JSON are text."""
    assert [row[2] for row in sheet[1:3]] == ["9007199254740993", 27]
    assert {row[3] for row in sheet[1:]} == {PLACED.replace(microsecond=0, tzinfo=None)}
    assert {row[4] for row in sheet[1:]} == {'{"a": "ş"}'}


def _as_text(cell: object) -> str:
    """Short whole numbers stay numbers in the sheet and show the same digits."""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)

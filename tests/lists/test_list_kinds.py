"""Lists as people have them: each kind is read as its owner means it, or refused before anything is asked for."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather, orc

from exporter import lists
from exporter.lists.how_read import Reading, sentence
from exporter.model.errors import InputError
from exporter.model.options import AskOptions

pytestmark = pytest.mark.fast

NUMBERS = ["1001", "1002", "1003"]
TABLE = "id;Sipariş No;toplam\n7;1001;1,5\n8;1002;2,5\n9;1003;3,5\n"


def read(content: bytes | str, name: str = "list.txt", **choice: str) -> tuple[list[str], list[int], Reading]:
    """Return the numbers, the invalid lines, and how the list was read."""
    data = content.encode() if isinstance(content, str) else content
    reading = Reading()
    options = AskOptions(**choice)  # type: ignore[arg-type] # texts alone
    batches = list(lists.read(io.BytesIO(data), name=name, choice=options, reading=reading))
    numbers = [number for batch in batches for number in batch.order_numbers]
    return numbers, [bad.line for batch in batches for bad in batch.invalid], reading


def arrow(write: Callable[[pa.Table, io.BytesIO], object], name: str = "order_number") -> bytes:
    buffer = io.BytesIO()
    write(pa.table({"x": [1, 2, 3], name: NUMBERS}), buffer)
    return buffer.getvalue()


def zipped(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def sheets(**rows: Any) -> bytes:
    """Write a workbook; a sheet whose name begins with `hidden` is hidden."""
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True}) as book:
        for name, cells in rows.items():
            sheet = book.add_worksheet(name)
            for at, row in enumerate(cells):
                sheet.write_row(at, 0, row)
            if name.startswith("hidden"):
                sheet.hide()
            else:
                sheet.activate()
    return buffer.getvalue()


def shown_as(code: str) -> bytes:
    """Write numbers that a number format shows in another way."""
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True}) as book:
        sheet, form = book.add_worksheet(), book.add_format({"num_format": code})
        sheet.write(0, 0, "Order No")
        sheet.write(1, 0, 123, form)
    return buffer.getvalue()


def tarred(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content.encode())
            archive.addfile(info, io.BytesIO(content.encode()))
    return buffer.getvalue()


def database(*tables: str) -> bytes:
    """Write an SQLite database whose tables have the numbers in a column `number`."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for name in tables:
            connection.execute(f'CREATE TABLE "{name}" (id integer, number text)')
            connection.executemany(f'INSERT INTO "{name}" VALUES (1, ?)', [(n,) for n in NUMBERS])
        connection.commit()
        return connection.serialize()


def html(*names: str) -> str:
    """Write a page with a table for each name of a column; many pages leave out the end tags."""
    rows = "".join(f"<tr><td><a href=x>{n}</a></td><td>x &amp; y" for n in NUMBERS)
    tables = (f"<table><thead><tr><th>{name}<th>Note</thead>{rows}</table>" for name in names)
    return f"<html><style>td {{}}</style><table><tr><td>Menu</table>{''.join(tables)}</html>"


def flat_document(value: str = "") -> str:
    """Write what LibreOffice saves as .fods; a `value` stands where the last number should."""
    shown = [*NUMBERS[:-1], value or NUMBERS[-1]]
    rows = "".join(
        f'<table:table-row><table:table-cell office:value-type="float" office:value="{n}"><text:p>{text}</text:p>'
        '</table:table-cell><table:table-cell table:number-columns-repeated="9"/></table:table-row>'
        for n, text in zip(NUMBERS, shown, strict=True)
    )
    head = "<table:table-row><table:table-cell><text:p>Order No</text:p></table:table-cell></table:table-row>"
    sheet = f'<table:table table:name="S">{head}{rows}<table:table-row table:number-rows-repeated="1048535"/>'
    return f'<?xml version="1.0"?><office:document>{sheet}</table:table></office:document>'


def messages(*streams: str) -> str:
    """Write what a tap of Singer does."""
    lines: list[dict[str, object]] = [{"type": "SCHEMA", "stream": "orders", "schema": {}}]
    for stream in streams:
        lines += [{"type": "RECORD", "stream": stream, "record": {"number": n}} for n in NUMBERS]
    return "\n".join(map(json.dumps, [*lines, {"type": "STATE", "value": {}}]))


def formulas(*codes: str) -> bytes:
    """Write formulas whose values no program has put down."""
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        sheet.write(0, 0, "Order No")
        for row, code in enumerate(codes, 1):
            sheet.write_formula(row, 0, code, None, "")
    return buffer.getvalue()


READ: dict[str, tuple[bytes | str, str]] = {
    "CR alone": ("1001\r1002\r1003\r", "list.txt"),
    "line ends mixed": ("1001\r\n1002\r1003\n", "list.txt"),
    "Ctrl-Z and NUL at the end": ("1001\n1002\n1003\n\x1a\0\0\0", "list.txt"),
    "two marks": ("\ufeff\ufeff1001\n\ufeff1002\n1003", "list.txt"),
    "UTF-16": ("1001\n1002\n1003\n".encode("utf-16"), "list.txt"),
    "UTF-16 of a table": (TABLE.replace(";", "\t").encode("utf-16"), "list.txt"),
    "Windows-1254": (TABLE.encode("cp1254"), "list.csv"),
    "invisible around": ("\u200b1001\n1002\u00a0\n\u202a1003\u202c\n", "list.txt"),
    "on one line": ("1001, 1002, 1003", "list.txt"),
    "SQL": ("('1001',\n'1002',\n'1003')\n", "list.txt"),
    "SQL on one line": ("WHERE number IN ('1001', '1002', '1003');", "list.txt"),
    "trailing commas": ("1001,\n1002,\n1003,\n", "list.txt"),
    "quoted": ('"1001"\n"1002"\n"1003"\n', "list.txt"),
    "text formula": ('="1001"\n="1002"\n="1003"\n', "list.txt"),
    "apostrophe": ("'1001\n'1002\n'1003\n", "list.txt"),
    "header in a text": ("Order Number\n1001\n1002\n1003\n", "list.txt"),
    "floats": ("number\n1001.0\n1002.0\n1003.0\n", "list.csv"),
    "psql": (" number \n--------\n 1001\n 1002\n 1003\n(3 rows)\n", "list.txt"),
    "Turkish": (TABLE, "list.csv"),
    "table without its ending": (TABLE, "list"),
    "sep line": ("sep=;\n" + TABLE, "list.csv"),
    "title above": ("Kasım siparişleri;;\n;;\n" + TABLE, "list.csv"),
    "header on two lines": (TABLE.replace("Sipariş No", '"Sipariş\nNo"'), "list.csv"),
    "pipes": (TABLE.replace(";", "|"), "list.csv"),
    "quote inside": (TABLE.replace("7;", '7"x;'), "list.csv"),
    "a megabyte in a cell": (TABLE.replace("1,5", "x" * 1_000_000), "list.csv"),
    "twice the same": ("number,number\n1001,1001\n1002,1002\n1003,1003\n", "list.csv"),
    "JSON array": (json.dumps([{"number": n} for n in NUMBERS]), "list.json"),
    "JSON of texts": (json.dumps(NUMBERS), "list.json"),
    "JSON page": (json.dumps({"count": 3, "results": [{"number": n} for n in NUMBERS]}), "list.json"),
    "JSON pretty": (json.dumps([{"orderNumber": n} for n in NUMBERS], indent=2), "list.txt"),
    "Parquet": (arrow(pq.write_table), "list.csv"),
    "Feather": (arrow(feather.write_feather), "list.parquet"),
    "ORC": (arrow(orc.write_table), "list.orc"),
    "bz2": (bz2.compress(TABLE.encode()), "list.csv.bz2"),
    "xz": (lzma.compress(TABLE.encode()), "list"),
    "zst": (zstandard.compress(TABLE.encode()), "list.csv.zst"),
    "gzip in gzip": (gzip.compress(gzip.compress(TABLE.encode())), "list.gz"),
    "tar of one": (gzip.compress(tarred(inside=TABLE)), "list.tar.gz"),
    "tar of macOS": (tarred(**{"._inside": "x", "inside": TABLE}), "list.tar"),
    "SQLite": (database("orders"), "list.db"),
    "SQLite of a shop": (database("customers", "Orders"), "list.db"),
    "a sheet without a header": (sheets(a=[[int(n), 9.5, True] for n in NUMBERS]), "list.xlsx"),
    "HTML": (html("Order No"), "list.xls"),
    "HTML of a program": ("<META charset=utf-8>" + html("Sipariş No"), "list.xls"),
    "flat ODS": (flat_document(), "list.fods"),
    "Singer": (messages("orders"), "list.jsonl"),
    "Airbyte": (
        "\n".join(
            json.dumps({"type": "RECORD", "record": {"stream": "orders", "data": {"number": n}}})
            for n in NUMBERS
        ),
        "list.jsonl",
    ),
    "JSON rows": ("".join(f'["{n}", 9.5, null]\n' for n in NUMBERS), "list.jsonl"),
    "JSON rows of integers": (json.dumps([[int(n), {"a": 1}] for n in NUMBERS]), "list.json"),
    "JSON rows with a header": ('["id", "order no"]\n[1, 1001]\n[2, 1002]\n[3, 1003]\n', "list.jsonl"),
    "brackets": ("[1001]\n[1002]\n[1003]\n", "list.txt"),
    "a list of Python": ("['1001', '1002', '1003']", "list.txt"),
    "quotes in TSV": ('order no\tsize\n1001\t"12 inch\n1002\tx\n1003\t18 inch"\n', "list.tsv"),
    "cp857": (TABLE.replace("toplam", "Şişli").encode("cp857"), "list.csv"),
    "formulas of texts": (formulas('="10"&"01"', '="1002"', '="100" & 3'), "list.xlsx"),
    "zip of one": (zipped(inside=TABLE), "list.zip"),
    "workbook": (sheets(Sheet1=[["Order No"], *([int(n)] for n in NUMBERS)]), "list.csv"),
    "one sheet of two": (
        sheets(notes=[["a", "b"], [1, 2]], b=[["Order No", "x"], *([n, 1] for n in NUMBERS)]),
        "a",
    ),
    "hidden sheet": (
        sheets(hidden1=[["Order No"], ["9"]], b=[["Order No"], *([n] for n in NUMBERS)]),
        "a.xlsx",
    ),
}


@pytest.mark.parametrize("kind", READ)
def test_lists_are_read_as_they_are_meant(kind: str) -> None:
    """What leaves one reading only is read, whatever its name, and how is said in a line."""
    numbers, invalid, reading = read(*READ[kind])
    assert (numbers, invalid) == (NUMBERS, [])
    assert f"first '{NUMBERS[0]}', last '{NUMBERS[-1]}'" in sentence(reading.as_dict())


REFUSED: dict[str, tuple[bytes | str, str, str]] = {
    "scientific": ("number\n1.23457E+15\n", "list.csv", "format the column as text"),
    "thousands": ("number;x\n1,234,567;1\n", "list.csv", "format the column as text"),
    "two columns": ("order no;sipariş no\n1;2\n", "list.csv", "--column 'order no' or --column 'sipariş no'"),
    "twice and different": ("number,number\n1001,2\n", "list.csv", "--column 1 or --column 2"),
    "no known column": ("code,total\n1,2\n", "list.csv", "--column code"),
    "an unclosed quote": ('number,note\n1001,"a\n1002,b\n1003,c"\n1004,d\n1005,e\n', "list.csv", "quote"),
    "other bytes in a number": (b"1001\n10\xfe2\n", "list.txt", "--encoding windows-1254"),
    "PDF": (b"%PDF-1.7\n", "list.txt", "pdftotext -layout list.txt list.txt"),
    "a web page": ("<!DOCTYPE html><html>", "list.xls", "soffice --headless --convert-to csv list.xls"),
    "XML on one line": ("<orders><order>1001</order></orders>", "list.txt", "soffice --headless"),
    "SQLite": (b"SQLite format 3\0", "list.db", "sqlite3 -csv -header list.db"),
    "a damaged database": (database("orders")[:5000], "list.db", "sqlite3 -csv -header list.db"),
    "two tables": (database("orders", "old orders"), "list.db", "--sheet orders or --sheet 'old orders'"),
    "two tables of a page": (html("Order No", "order number"), "list.xls", "--sheet 2 or --sheet 3"),
    "a page without order numbers": (
        html("code"),
        "list.xls",
        "soffice --headless --convert-to csv list.xls",
    ),
    "a page that hides": (html("Order No").replace("<tr>", "<tr hidden>"), "list.xls", "soffice"),
    "the number of something else": (
        database("customers", "items"),
        "list.db",
        "sqlite3 -csv -header list.db",
    ),
    "a sheet of codes and amounts": (sheets(a=[["Code", "Sum"], ["A1", 9.5]]), "list.xlsx", "--column Code"),
    "a cut page": (html("Order No")[:-20], "list.xls", "Log in and download it again"),
    "two streams": (messages("orders", "items"), "list.jsonl", "select(.stream ="),
    "two columns in JSON rows": ('["1001", 9]\n["1002", 8.5]\n', "list.jsonl", "--column 1"),
    "tar of two": (tarred(a="1", b="2"), "list.tar", "tar -xf list.tar"),
    "a cut tar": (tarred(a="1\n" * 900)[:1536], "list.tar", "Copy the file again"),
    "zip of two": (zipped(a="1", b="2"), "list.zip", "unzip list.zip"),
    "two sheets": (
        sheets(Jan=[["Order No"], [1]], Feb=[["Order No"], [2]]),
        "list.xlsx",
        "--sheet Jan or --sheet Feb",
    ),
    "16 digits in a cell": (
        sheets(a=[["Order No"], [1234567890123456]]),
        "list.xlsx",
        "Format the column as text",
    ),
    "a format that shows something else": (shown_as("0.00E+00"), "list.xlsx", "format the column as 0"),
    "floats and others": ("number\n1001.0\nA2\n", "list.csv", "make the column text"),
    "damaged workbook": (sheets(a=[["Order No"], [1]])[:-90], "list.xlsx", "Copy the file again"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_certain_is_refused_with_the_fix(kind: str) -> None:
    """What may be meant in two ways, or has lost something, is refused, and the hint says what to do."""
    content, name, fix = REFUSED[kind]
    with pytest.raises(InputError) as caught:
        read(content, name)
    assert fix in caught.value.flag_hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("word", ["NULL", "nan", "\\N", "-", "Total", "Toplam", "<NA>", "#N/A"])
def test_words_for_a_missing_number_are_invalid(word: str) -> None:
    """What stands where a number is missing is no order number."""
    assert read(f"number\n1001\n{word}\n", "list.csv")[:2] == (["1001"], [3])


@pytest.mark.parametrize("shown", ["10.03", "M1003", "1003,00", "#N/A"])
def test_numbers_that_a_flat_document_shows_otherwise_are_invalid(shown: str) -> None:
    """Which of the two is meant, what a cell holds or what it shows, nobody can know."""
    assert read(flat_document(shown), "list.fods")[:2] == (["1001", "1002"], [4])


@pytest.mark.parametrize("code", ["=B1&1", "=1+1", '=TEXT(7,"000")'])
def test_formulas_without_a_value_are_invalid(code: str) -> None:
    """A formula that has to be computed gives no order number."""
    assert read(formulas('="A"&"1"', code), "list.xlsx")[:2] == (["A1"], [3])


@pytest.mark.parametrize(
    ("code", "shown"), [("000000", "000123"), ('"SIP-"0', "SIP-123"), ("#,##0", "123"), ("0", "123")]
)
def test_numbers_are_read_as_their_format_shows_them(code: str, shown: str) -> None:
    """The zeros and the prefix that a number format shows are part of the number."""
    assert read(shown_as(code), "list.xlsx")[0] == [shown]


def test_the_user_decides() -> None:
    """Each option decides what the list leaves open; a column by name in any spelling, letter or position."""
    for column in ("Sıparıs_no", "B", "2"):
        assert read(TABLE, "list.csv", column=column)[0] == NUMBERS
    both = sheets(Jan=[["Order No"], ["1"]], Feb=[["Order No"], ["2"]])
    assert [read(both, sheet=sheet)[0] for sheet in ("feb", "2", "Jan")] == [["2"], ["2"], ["1"]]
    assert read("ŞIK-1\n".encode("cp857"), encoding="cp857")[0] == ["ŞIK-1"]
    assert read("[1001]\n", input_format="text")[0] == ["1001"]


def test_a_short_record_is_invalid() -> None:
    """A record that lacks cells may have shifted ones; it is invalid, and the rest is read."""
    assert read("a,number,c,d\n1,1001,2,3\n1002,1\n1,1003,2,3\n", "list.csv")[:2] == (["1001", "1003"], [3])


def test_a_workbook_that_fills_the_memory_is_refused() -> None:
    """A stray cell in the last row and column does not fill the memory, and does not end the run."""
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["Order No"])
        sheet.write(1_048_575, 16_383, "x")
    with pytest.raises(InputError, match="workbook that can be read"):
        read(buffer.getvalue(), "list.xlsx")


@pytest.mark.parametrize("options", [{"in_memory": True}, {"constant_memory": True}])
@pytest.mark.parametrize("place", [(1_048_575, 16_383), (1_048_575, 1), (3, 16_383)])
def test_a_stray_cell_that_shows_nothing_is_left_out(
    place: tuple[int, int], options: dict[str, bool]
) -> None:
    """A space in the last row or column, shared or not, hides nothing: the list above it is read."""
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, options) as book:
        sheet, bold = book.add_worksheet(), book.add_format({"bold": True})
        for row, text in enumerate(["Order No", *NUMBERS[:-1], int(NUMBERS[-1])]):
            sheet.write(row, 0, text)
        sheet.write_blank(3, 1, None, bold)
        sheet.write(*place, " ")
    assert read(buffer.getvalue(), "list.xlsx")[:2] == (NUMBERS, [])


def test_a_reader_that_dies_on_the_way_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches without what is told at their end are not the whole list, and are not read twice."""
    batch = json.dumps({"lines": [2], "order_numbers": ["1001"], "invalid": [], "blank": 0})
    script = f"print({batch!r})"
    start = subprocess.Popen
    monkeypatch.setattr(
        "exporter.lists.workbook_list.subprocess.Popen",
        lambda command, **more: start([command[0], "-c", script], **more),
    )
    with pytest.raises(InputError, match="needs too much memory"):
        read(sheets(a=[["Order No"], ["1001"], ["1002"]]), "list.xlsx")


_PIECES = st.sampled_from(
    [
        "number",
        "order no",
        "1001",
        "1002.0",
        ",",
        ";",
        "\t",
        "\n",
        "\r",
        '"',
        "'",
        "=",
        "{",
        "}",
        "[",
        "]",
        ":",
        " ",
    ]
) | st.text(max_size=4)


@given(
    st.lists(_PIECES).map("".join).map(str.encode) | st.binary(),
    st.sampled_from(["l.txt", "l.csv", "l.json", "l"]),
)
def test_whatever_bytes_are_read_or_refused(content: bytes, name: str) -> None:
    """No bytes end in anything but order numbers that are some, or one sentence and what to do."""
    try:
        numbers, _, _ = read(content, name)
    except InputError as error:
        refused = error
    else:
        assert all(number.isprintable() and " " not in number for number in numbers)
        return
    assert "\n" not in refused.what
    assert refused.hint


def test_damaged_workbooks_are_read_or_refused() -> None:
    """Of some hundred damaged workbooks each is read or refused, within 300 MiB."""
    script = "tests.benchmarks.workbook_mutants"
    told = subprocess.run([sys.executable, "-m", script, "300", "7"], capture_output=True, check=True).stdout
    outcomes = json.loads(told)
    assert outcomes.pop("most MiB") < 300
    assert outcomes.keys() <= {"reading", "error"}
    assert sum(outcomes.values()) == 300

"""Tables become files that every reader understands alike, and nothing that looks finished but is not."""

from __future__ import annotations

import csv
import datetime as dt
import gc
import hashlib
import io
import os
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import duckdb
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.dataset.table_files import table_writer
from exporter.model.errors import StorageError
from exporter.model.options import Compression, FileFormat, TableOptions
from exporter.model.records import PartFile
from tests.support.thorough import examples

pytestmark = pytest.mark.fast

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), metadata={"description": "Order id"}),
        pa.field("number", pa.string(), metadata={"description": "Order code"}),
        pa.field("city", pa.string()),
        pa.field("amount", pa.decimal128(20, 4)),
        pa.field("placed", pa.timestamp("us", tz="UTC")),
        pa.field("sent", pa.bool_()),
        pa.field("extra", pa.string(), metadata={"kind": "json"}),
    ]
)
PLACED = dt.datetime(2017, 1, 30, 8, 28, 26, 158165, tzinfo=dt.UTC)
ROWS: list[dict[str, Any]] = [
    dict(zip(SCHEMA.names, values, strict=True))
    for values in (
        (27, "00123", "Afyon", Decimal("16.4000"), PLACED, True, '{"a": "İğne, \\"iplik\\""}'),
        (-1, "", 'Şanlı "urfa"', Decimal("0.0001"), PLACED.replace(microsecond=0), False, "[]"),
        (2**63 - 1, "a,b;c", "line\nbreak\r\nand\ttab", Decimal("-9999999999999999.9999"), None, None, None),
        (None, None, None, None, None, None, None),
        (0, "NULL", "nan", Decimal("0.0000"), PLACED, True, "null"),
    )
]


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def many_rows(count: int) -> pa.Table:
    return table_of(
        [
            {
                **ROWS[0],
                "id": index,
                "number": hashlib.sha256(b"%d" % index).hexdigest(),
                "city": f"c{index % 7}",
            }
            for index in range(count)
        ]
    )


def sql(query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


def written(
    folder: Path, tables: list[pa.Table], file_format: FileFormat = "parquet", **options: Any
) -> list[PartFile]:
    with table_writer(folder, "orders", file_format, SCHEMA, TableOptions(**options)) as writer:
        for table in tables:
            writer.write({"orders": table})
        return writer.close()["orders"]


# --- files ---


@pytest.mark.parametrize("file_format", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("rows", "names", "counts"),
    [
        (0, ["orders.{}/part-00000.{}"], [0]),
        (3, ["orders.{}/part-00000.{}"], [3]),
        (4, ["orders.{}/part-00000.{}", "orders.{}/part-00001.{}"], [3, 1]),
        (9, [f"orders.{{}}/part-0000{index}.{{}}" for index in range(3)], [3, 3, 3]),
    ],
)
def test_with_rows_per_file_a_table_is_a_folder(
    tmp_path: Path, file_format: FileFormat, rows: int, names: list[str], counts: list[int]
) -> None:
    """Also where one part is enough; parts hold N rows, and each is named with its true digest."""
    files = written(tmp_path, [many_rows(rows)], file_format, rows_per_file=3)
    assert [file.path for file in files] == [name.format(file_format, file_format) for name in names]
    assert [file.rows for file in files] == counts
    for file in files:
        data = (tmp_path / file.path).read_bytes()
        assert (file.bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    on_disk = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert on_disk == {file.path for file in files}


def test_parts_cut_across_the_tables_given(tmp_path: Path) -> None:
    """Part files hold N rows whatever the sizes of the tables given, and together all rows in order."""
    whole = many_rows(20)
    files = written(tmp_path, [whole.slice(0, 7), whole.slice(7, 1), whole.slice(8)], rows_per_file=6)
    assert [file.rows for file in files] == [6, 6, 6, 2]
    assert pa.concat_tables(pq.read_table(tmp_path / file.path) for file in files).equals(whole)
    assert pq.read_table(tmp_path / "orders.parquet").equals(whole)


@pytest.mark.parametrize("file_format", ["parquet", "csv"])
def test_finished_files_are_on_the_disk(
    tmp_path: Path, file_format: FileFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file of a table has been synced when `close` returns, after its last byte."""
    synced: dict[int, int] = {}
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        fsync(descriptor)
        synced[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size

    monkeypatch.setattr(os, "fsync", spy)
    for file in written(tmp_path, [many_rows(5)], file_format, rows_per_file=2):
        assert synced[(tmp_path / file.path).stat().st_ino] == file.bytes


@pytest.mark.parametrize(
    ("file_format", "options"), [("parquet", {}), ("csv", {}), ("csv", {"csv_dialect": "excel"})]
)
def test_the_chunks_of_a_table_do_not_show_in_the_bytes(
    tmp_path: Path, file_format: FileFormat, options: dict[str, Any]
) -> None:
    """The same rows give the same bytes, however they were gathered."""
    whole = many_rows(5000).combine_chunks()
    chunked = pa.concat_tables([whole.slice(start, 37) for start in range(0, 5000, 37)])
    digests = set()
    for name, table in (("one", whole), ("many", chunked)):
        (tmp_path / name).mkdir()
        digests.add(written(tmp_path / name, [table], file_format, **options)[0].sha256)
    assert len(digests) == 1


def write_and_fail(folder: Path, file_format: FileFormat) -> None:
    with table_writer(folder, "orders", file_format, SCHEMA, TableOptions(rows_per_file=3)) as writer:
        writer.write({"orders": many_rows(8)})
        raise ZeroDivisionError


@pytest.mark.parametrize("file_format", ["parquet", "csv"])
def test_an_exception_leaves_no_file(tmp_path: Path, file_format: FileFormat) -> None:
    """pyarrow would finish a short file that looks whole; after an error there is none, also later."""
    with pytest.raises(ZeroDivisionError):
        write_and_fail(tmp_path, file_format)
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_abort_after_close_keeps_the_files(tmp_path: Path) -> None:
    """A finished table is not taken back by the end of its block."""
    with table_writer(tmp_path, "orders", "parquet", SCHEMA, TableOptions()) as writer:
        files = writer.close()["orders"]
    writer.abort()
    assert (tmp_path / files[0].path).exists()


@pytest.mark.parametrize(
    ("file_format", "dialect"), [("parquet", "standard"), ("csv", "standard"), ("csv", "excel")]
)
def test_a_vanished_folder_is_named(tmp_path: Path, file_format: FileFormat, dialect: Any) -> None:
    """A file that cannot be created is a storage error with its place."""
    with pytest.raises(StorageError, match=r"gone.*writing the table failed: it is not there"):
        written(tmp_path / "gone", [many_rows(1)], file_format, csv_dialect=dialect)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("file_format", ["parquet", "csv"])
def test_a_full_disk_is_named(tmp_path: Path, file_format: FileFormat) -> None:
    """A disk that fills up while a table is written is exit code 7, not a traceback, and leaves no file."""
    (tmp_path / f"orders.{file_format}").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="the disk is full"):
        written(tmp_path, [many_rows(2000)], file_format)
    gc.collect()
    assert list(tmp_path.iterdir()) == []


# --- Parquet ---


def test_each_table_given_is_a_row_group(tmp_path: Path) -> None:
    """The caller's groups of orders are the file's row groups."""
    written(tmp_path, [many_rows(5), many_rows(2)])
    metadata = pq.read_metadata(tmp_path / "orders.parquet")
    assert [metadata.row_group(index).num_rows for index in range(2)] == [5, 2]


@pytest.mark.parametrize("rows", [0, 5])
def test_the_parquet_schema_carries_types_and_descriptions(tmp_path: Path, rows: int) -> None:
    """Types, the JSON logical type and the descriptions arrive, also in an empty table."""
    written(tmp_path, [table_of(ROWS[:rows])])
    path = tmp_path / "orders.parquet"
    written_schema = pq.read_schema(path)
    assert written_schema.metadata == {b"org.apache.spark.version": b"3.5.0"}
    assert written_schema.remove_metadata().equals(SCHEMA, check_metadata=True)
    logical = dict(sql(f"SELECT name, logical_type FROM parquet_schema('{path}')"))
    assert logical["extra"] == "StringType()"
    assert logical["amount"] == "DecimalType(scale=4, precision=20)"
    assert logical["placed"].startswith("TimestampType(isAdjustedToUTC=1")


def test_json_columns_can_be_of_parquets_json_type(tmp_path: Path) -> None:
    """`--json-type json` gives the JSON logical type, the same text, and the same mark."""
    written(tmp_path, [table_of(ROWS)], json_type="json")
    path = tmp_path / "orders.parquet"
    assert pq.read_schema(path).field("extra").type == pa.json_(pa.string())
    assert pq.read_schema(path).field("extra").metadata == {b"kind": b"json"}
    assert dict(sql(f"SELECT name, logical_type FROM parquet_schema('{path}')"))["extra"] == "JsonType()"
    assert pq.read_table(path)["extra"].to_pylist() == [row["extra"] for row in ROWS]


@pytest.mark.parametrize("compression", get_args(Compression))
def test_every_compression_is_what_it_says(tmp_path: Path, compression: str) -> None:
    """`--compression` names what is in the file, and every reader reads it."""
    written(tmp_path, [many_rows(10)], compression=compression)
    path = tmp_path / "orders.parquet"
    column = pq.read_metadata(path).row_group(0).column(0)
    assert column.compression == {"none": "UNCOMPRESSED"}.get(compression, compression.upper())
    assert len(pd.read_parquet(path)) == pl.read_parquet(path).height == 10
    assert sql(f"SELECT count(*) FROM '{path}'") == [(10,)]


def test_a_dictionary_stands_only_where_it_pays(tmp_path: Path) -> None:
    """Few cities make a dictionary; unique order numbers give it up early; statistics are kept for both."""
    written(tmp_path, [many_rows(10_000)])
    group = pq.read_metadata(tmp_path / "orders.parquet").row_group(0)
    number, city = group.column(1), group.column(2)
    assert city.total_compressed_size < 10_000
    # 64 letters and a length for each; a dictionary kept to the end would add two bytes of index.
    assert number.total_uncompressed_size < 10_000 * (64 + 4) * 1.01
    assert (city.statistics.min, city.statistics.max) == ("c0", "c6")
    assert group.column(0).statistics.max == 9_999


def test_readers_find_the_same_values_in_parquet(tmp_path: Path) -> None:
    """pyarrow, pandas, Polars and DuckDB read what was written: money exact, times in UTC."""
    table = table_of(ROWS)
    written(tmp_path, [table])
    path = tmp_path / "orders.parquet"
    assert pq.read_table(path).equals(table)
    assert pl.read_parquet(path)["amount"].to_list() == table["amount"].to_pylist()
    assert pl.read_parquet(path)["placed"].to_list() == table["placed"].to_pylist()
    by_pandas = pd.read_parquet(path, dtype_backend="pyarrow")
    assert by_pandas["id"].array.__arrow_array__().to_pylist() == table["id"].to_pylist()
    assert by_pandas["amount"].array.__arrow_array__().to_pylist() == table["amount"].to_pylist()
    found = sql(f"SELECT id, number, city, amount, epoch_us(placed), sent, extra FROM '{path}'")
    assert [row[3] for row in found] == table["amount"].to_pylist()
    assert found[0][4] == 1485764906158165
    assert [row[6] for row in found] == [row["extra"] for row in ROWS]
    assert sql(f"SELECT extra->>'a' FROM '{path}' LIMIT 1") == [('İğne, "iplik"',)]


# --- CSV ---


def test_the_standard_dialect_byte_by_byte(tmp_path: Path) -> None:
    """RFC 4180: a header, CRLF, doubled quotes; null is nothing and empty text `""`; decimals plain."""
    written(tmp_path, [table_of(ROWS)], "csv")
    assert (tmp_path / "orders.csv").read_bytes().decode() == (
        '"id","number","city","amount","placed","sent","extra"\r\n'
        '27,"00123","Afyon",16.4000,2017-01-30 08:28:26.158165Z,true,"{""a"": ""İğne, \\""iplik\\""""}"\r\n'
        '-1,"","Şanlı ""urfa""",0.0001,2017-01-30 08:28:26.000000Z,false,"[]"\r\n'
        '9223372036854775807,"a,b;c","line\nbreak\r\nand\ttab",-9999999999999999.9999,,,\r\n'
        ",,,,,,\r\n"
        '0,"NULL","nan",0.0000,2017-01-30 08:28:26.158165Z,true,"null"\r\n'
    )


def test_an_empty_csv_has_its_header(tmp_path: Path) -> None:
    """A night without orders gives the same columns as any other."""
    written(tmp_path, [], "csv")
    assert (tmp_path / "orders.csv").read_text() == '"id","number","city","amount","placed","sent","extra"\n'


def test_readers_find_the_same_values_in_csv(tmp_path: Path) -> None:
    """pandas, Polars and DuckDB read the table back; DuckDB and Polars tell null from empty text."""
    table = table_of(ROWS)
    written(tmp_path, [table], "csv")
    path = tmp_path / "orders.csv"
    text = [[row["number"] for row in ROWS], [row["city"] for row in ROWS], [row["extra"] for row in ROWS]]

    kinds = {"id": "BIGINT", "amount": "DECIMAL(20,4)", "placed": "TIMESTAMPTZ", "sent": "BOOLEAN"}
    columns = {name: kinds.get(name, "VARCHAR") for name in SCHEMA.names}
    options = "header=true, delim=',', quote='\"', escape='\"', allow_quoted_nulls=false"
    read = f"read_csv('{path}', {options}, columns={columns})"
    found = sql(f"SELECT * REPLACE (epoch_us(placed) AS placed) FROM {read}")
    assert [list(column) for column in zip(*found, strict=True)][1:3] == text[:2]
    assert [row[3] for row in found] == table["amount"].to_pylist()
    assert [row[0] for row in found] == table["id"].to_pylist()
    assert found[0][4] == 1485764906158165

    by_polars = pl.read_csv(path, schema_overrides={"amount": pl.Decimal(20, 4), "number": pl.String})
    assert by_polars["amount"].to_list() == table["amount"].to_pylist()
    assert by_polars["city"].to_list() == text[1]
    assert by_polars["extra"].to_list() == text[2]

    by_pandas = pd.read_csv(path, dtype="string", keep_default_na=False)
    assert by_pandas["number"].to_list() == [row or "" for row in text[0]]
    assert by_pandas["city"].to_list() == [row or "" for row in text[1]]
    assert [Decimal(amount) for amount in by_pandas["amount"] if amount] == [
        row["amount"] for row in ROWS if row["amount"] is not None
    ]
    assert pd.to_datetime(by_pandas["placed"])[0].to_pydatetime() == PLACED


TEXT = pa.schema([("a", pa.string()), ("b", pa.string())])


def cells_of(folder: Path, texts: list[str], **options: Any) -> list[list[str]]:
    with table_writer(folder, "t", "csv", TEXT, TableOptions(**options)) as writer:
        writer.write({"t": pa.table({"a": texts, "b": texts}, schema=TEXT)})
        writer.close()
    text = (folder / "t.csv").read_bytes().decode("utf-8-sig")
    delimiter = ";" if options else ","
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))


@settings(max_examples=examples(50))
@given(texts=st.lists(st.text(), min_size=1, max_size=20))
def test_any_text_survives_csv(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    """Quotes, separators, line ends and control characters inside a cell come back as they were."""
    rows = cells_of(tmp_path_factory.mktemp("csv"), texts)
    assert rows == [["a", "b"], *([text, text] for text in texts)]


# --- CSV for spreadsheets; tests/test_csv_excel.py opens it with one ---

NEARLY_A_FORMULA = st.text(alphabet=st.sampled_from("=+-@|;\"'\t\r\n 019.,eE/:%\u200b＝İa"), max_size=12)


@settings(max_examples=examples(100))
@given(texts=st.lists(st.text() | NEARLY_A_FORMULA, min_size=1, max_size=20))
def test_no_text_is_a_formula_and_none_is_lost(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    """A cell begins with a formula's sign only as the constant `="…"`, and undoing that gives the text."""
    rows = cells_of(tmp_path_factory.mktemp("csv"), texts, csv_dialect="excel")
    for text, (first, second) in zip(texts, rows[1:], strict=True):
        assert first == second
        if first != text and first.startswith("="):
            assert first == f'="{text}"'
            assert '"' not in text
        elif first != text:
            assert first == f"'{text}"
        assert first.startswith('="') or first.lstrip()[:1] not in set("=+-@＝＋－＠")


def test_the_excel_dialect_byte_by_byte(tmp_path: Path) -> None:
    """BOM, `;`, decimal comma; null and empty text still differ; long integers are text."""
    written(tmp_path, [table_of(ROWS)], "csv", csv_dialect="excel")
    assert (tmp_path / "orders.csv").read_bytes().decode() == (
        '\ufeff"id";"number";"city";"amount";"placed";"sent";"extra"\r\n'
        '"27";"=""00123""";"Afyon";"16,4000";2017-01-30 08:28:26;true;'
        '"{""a"": ""İğne, \\""iplik\\""""}"\r\n'
        '"-1";"";"Şanlı ""urfa""";"0,0001";2017-01-30 08:28:26;false;"[]"\r\n'
        '"=""9223372036854775807""";"a,b;c";"line\nbreak\r\nand\ttab";"-9999999999999999,9999";;;\r\n'
        ";;;;;;\r\n"
        '"0";"NULL";"nan";"0,0000";2017-01-30 08:28:26;true;"null"\r\n'
    )

"""Tables into part files, Parquet or CSV, written by Arrow's native code into a folder of staged files."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from exporter.model.manifest import part_name
from exporter.model.options import FileFormat, TableOptions
from exporter.model.records import PartFile
from exporter.system import durable

_WITHOUT_END = 2**62


class TableWriter(AbstractContextManager["TableWriter"]):
    """One table on its way into one file, or with `rows_per_file` always into a folder of part files.

    The same tables give the same bytes, however each is chunked inside. As a context manager, it aborts what was
    not closed: pyarrow's own writers finish a short file even when an exception ends their block. What the disk
    refuses is a `StorageError`; the writer can only be aborted then.
    """

    def __init__(
        self, folder: Path, name: str, file_format: FileFormat, schema: pa.Schema, options: TableOptions
    ) -> None:
        self._folder, self._path = folder, folder / f"{name}.{file_format}"
        self._rows_per_file = options.rows_per_file
        kind = _ParquetFile if file_format == "parquet" else _CsvFile
        self._open: Callable[[Path], _ParquetFile | _CsvFile] = lambda path: kind(path, schema, options)
        self._finished: list[PartFile] = []
        self._file: _ParquetFile | _CsvFile | None = None
        self._rows = 0
        self._closed = False

    def write(self, table: pa.Table) -> None:
        """Append rows with the writer's schema; for Parquet they make one row group of their own."""
        with durable.storage_errors("writing the table", self._path):
            while table.num_rows:
                if self._file is not None and self._rows == self._rows_per_file:
                    self._finish(self._file)
                file = self._file or self._begin()
                piece = table.slice(0, (self._rows_per_file or _WITHOUT_END) - self._rows)
                file.write(piece)
                self._rows += piece.num_rows
                table = table.slice(piece.num_rows)

    def close(self) -> list[PartFile]:
        """Finish the last file; return all in the order of their rows. An empty table has one too."""
        with durable.storage_errors("writing the table", self._path):
            self._finish(self._file or self._begin())
        self._closed = True
        return self._finished

    def abort(self) -> None:
        """Remove every file of this table, finished or not; nothing happens after `close`."""
        if not self._closed:
            self._closed = True
            if self._file is not None:
                with suppress(OSError):  # the disk's complaint has been heard, or nobody needs it
                    self._file.close()
            with durable.storage_errors("removing the unfinished table", self._path):
                durable.remove_tree(self._path)

    def __exit__(self, *_: object) -> None:
        self.abort()

    def _begin(self) -> _ParquetFile | _CsvFile:
        path = self._path
        if self._rows_per_file is not None:
            path.mkdir(exist_ok=True)
            path /= part_name(len(self._finished), path.suffix)
        self._file, self._rows = self._open(path), 0
        return self._file

    def _finish(self, file: _ParquetFile | _CsvFile) -> None:
        file.close()
        self._finished.append(finished_part(file.path, self._rows, self._folder))
        self._file = None


def finished_part(path: Path, rows: int, directory: Path) -> PartFile:
    """Return the record of a file that was written whole, when it is on the disk."""
    durable.sync_file(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    return PartFile(path.relative_to(directory).as_posix(), rows, size, digest)


# --- Parquet ---

# Measured 2026-11-24, pyarrow 26, 84 + 28 columns, row groups of 10,000 orders: a dictionary given up
# at 16 KiB costs 5.2 µs and 229 bytes an order, at pyarrow's 1 MiB 6.0 µs and 275, none at all 5.3 µs
# and 247 and a third slower to group by: so each column finds out by itself whether one pays.
# Level 3 of zstd is 13 % slower and not smaller.
_DICTIONARY_BYTES = 16 * 1024
_ZSTD_LEVEL = 1
# A look-up by order number skips 19 of 20 row groups that lack it: 2.4 ms instead of 7.1 for DuckDB, for 1 % more
# bytes; as many numbers as a row group has orders. Four times larger row groups save DuckDB 15 % of a load and cost
# the publishing process four times the memory (measured 2026-11-25, 60,000 orders).
_LOOKED_UP = ("number", "order_number")
_BLOOM: Final = {"ndv": 15_000, "fpp": 0.05}
#: Spark then takes dates before 1900 as they are (its calendar changed in 3.0), instead of refusing the file.
_FOOTER: Final = {"org.apache.spark.version": "3.5.0"}


class _ParquetFile:
    """Format 2.6, pages of version 1 and plain encodings, which every reader knows."""

    def __init__(self, path: Path, schema: pa.Schema, options: TableOptions) -> None:
        self.path = path
        fields = map(_as_json_type, schema) if options.json_type == "json" else schema
        self._schema = pa.schema(fields, metadata=_FOOTER)
        self._writer = pq.ParquetWriter(
            str(path),
            self._schema,
            version="2.6",
            compression=options.compression,
            compression_level=_ZSTD_LEVEL if options.compression == "zstd" else None,
            dictionary_pagesize_limit=_DICTIONARY_BYTES,
            bloom_filter_options={name: _BLOOM for name in _LOOKED_UP if name in schema.names},
        )
        self.close = self._writer.close

    def write(self, table: pa.Table) -> None:
        # Pages end where chunks end: without this the chunking would show in the bytes.
        whole = table.combine_chunks().cast(self._schema)
        self._writer.write_table(whole, row_group_size=table.num_rows)


def _as_json_type(field: pa.Field) -> pa.Field:
    is_json = (field.metadata or {}).get(b"kind") == b"json"
    return field.with_type(pa.json_(pa.string())) if is_json else field


# --- CSV ---

_ROWS_AT_ONCE = 2_500  # text of every column is held twice; each call compiles its patterns anew


class _CsvFile:
    """RFC 4180, or for a spreadsheet whose locale writes `16,40` and therefore separates cells by `;`.

    Text is always quoted, so null is an empty cell and the empty text is `""`.
    """

    def __init__(self, path: Path, schema: pa.Schema, options: TableOptions) -> None:
        self.path = path
        excel = options.csv_dialect == "excel"
        self._convert = _column_for_spreadsheet if excel else _column_for_programs
        self._file = pa.OSFile(str(path), "wb")
        if excel:
            self._file.write(codecs.BOM_UTF8)
        dialect = pa_csv.WriteOptions(delimiter=";" if excel else ",", eol="\r\n")
        schema = self._converted(schema.empty_table()).schema
        self._writer = pa_csv.CSVWriter(self._file, schema, write_options=dialect)

    def write(self, table: pa.Table) -> None:
        for start in range(0, table.num_rows, _ROWS_AT_ONCE):
            piece = table.slice(start, _ROWS_AT_ONCE).combine_chunks()
            self._writer.write_table(self._converted(piece))

    def close(self) -> None:
        self._writer.close()
        self._file.close()

    def _converted(self, table: pa.Table) -> pa.Table:
        return pa.table([self._convert(column) for column in table.columns], names=table.column_names)


_YEAR_1_US, _AFTER_YEAR_9999_US = -62_135_596_800_000_000, 253_402_300_800_000_000


def _column_for_programs(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Give times of another zone than UTC with their offset, as `2026-11-23 21:30:00.000000+03:00`."""
    if not pa.types.is_timestamp(column.type) or column.type.tz == "UTC":
        return column
    local, instant = pc.local_timestamp(column).cast(pa.int64()), column.cast(pa.int64())
    offset = pc.subtract(local, instant)
    whole_minutes = pc.equal(pc.multiply(pc.divide(offset, 60_000_000), 60_000_000), offset)
    readable = pc.and_(pc.greater_equal(local, _YEAR_1_US), pc.less(local, _AFTER_YEAR_9999_US))
    # Before time zones were agreed on, offsets had seconds, which no reader takes: those times are in UTC.
    return pc.if_else(
        pc.and_(whole_minutes, readable),
        pc.strftime(column, format="%Y-%m-%d %H:%M:%S%Ez"),
        column.cast(pa.timestamp("us", "UTC")).cast(pa.string()),
    )


# What LibreOffice and Excel, in Turkish or English, take for a number, a date, a time or a truth value.
# Spelled-out letters: `\pL` and `\pZ` cost RE2 a millisecond for each column.
_SPACE = r"\s\x{a0}\x{202f}"
_SIGNS = _SPACE + r".,:/%₺$€£eE+\-"
_MONTHS = "(oca|şub|mar|n[iİ]s|may|haz|tem|ağu|eyl|ek[iİ]|kas|ara|jan|feb|apr|jun|jul|aug|sep|oct|nov|dec)"
_MONTH = rf"{_MONTHS}[a-zçğıİöşü]*"
_TAKEN_FOR_VALUES = (
    r"0\d+",  # leading zeros
    r"\d{12,}",  # shown as 2.67E+12, and rounded from the 16th digit on
    rf"[{_SPACE}.,+\-₺$€£]+\d[\d{_SIGNS}]*",  # signs and currencies: +905321112233
    rf"\d+[{_SIGNS}][\d{_SIGNS}]*",  # 7661492e3645, 10-12, 1/2, 30.01, 10:30, 5%
    r"\d{1,2}(:\d+)*\s?[ap]m?",  # 5 PM
    rf"\d{{1,2}}[\s./\-]*{_MONTH}[\s./,\-]*\d*",  # 19 Mayıs
    rf"{_MONTH}[\s./,\-]*\d[\d\s,]*",  # MAR1, Ocak 2024
    "true|false|doğru|yanl[ıI]ş",
)
_TAKEN_FOR_VALUE = rf"^(?i:{'|'.join(_TAKEN_FOR_VALUES)})$"
_LONG_INTEGER = r"^-?\d{16,}$"  # a spreadsheet's number is a double

# https://owasp.org/www-community/attacks/CSV_Injection, and what may stand invisible before the sign.
_FORMULA = r"^(?:[\t\r\n]|[\pZ\pC]*[=+\-@＝＋－＠])"


def _column_for_spreadsheet(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Give one column as numbers stay numbers, text stays text, and no text is run as a formula.

    Text that would be taken for a value becomes the constant formula `="00123"`, the only form that a
    spreadsheet shows and computes with unchanged; it holds digits, signs and month names, never a
    quotation mark. Text that would be run gets an apostrophe before it, which shows.
    """
    kind = column.type
    if pa.types.is_decimal(kind):
        return pc.replace_substring(column.cast(pa.string()), ".", ",")
    if pa.types.is_integer(kind):
        digits = column.cast(pa.string())
        return _wrapped(digits, _LONG_INTEGER, '="', '"', otherwise=digits)
    if pa.types.is_timestamp(kind):
        # To the second and without a zone: with more, a spreadsheet takes it for text.
        return pc.floor_temporal(pc.local_timestamp(column), unit="second").cast(pa.timestamp("s"))
    if pa.types.is_string(kind):
        harmless = _wrapped(column, _FORMULA, "'", "", otherwise=column)
        return _wrapped(column, _TAKEN_FOR_VALUE, '="', '"', otherwise=harmless)
    return column


def _wrapped(
    text: pa.ChunkedArray, pattern: str, before: str, after: str, *, otherwise: pa.ChunkedArray
) -> pa.ChunkedArray:
    matches = pc.match_substring_regex(text, pattern)
    if not pc.any(matches).as_py():
        return otherwise
    return pc.if_else(matches, pc.binary_join_element_wise(before, text, after, ""), otherwise)

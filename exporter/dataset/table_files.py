"""Tables into part files, Parquet or CSV, written by Arrow's native code into a folder of staged files."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from exporter.model.manifest import part_name
from exporter.model.options import Compression, CsvDialect, FileFormat, JsonType
from exporter.model.records import PartFile
from exporter.system import durable


class TableWriter(AbstractContextManager["TableWriter"]):
    """One table on its way into one file, or into a folder of part files.

    With `rows_per_file` the table is the folder `orders.parquet` with `part-00000.parquet`,
    `part-00001.parquet` and so on, also where one is enough; without it is the file `orders.parquet`. The
    same tables give the same bytes, however each is chunked inside. Used as a context manager, what was not
    closed is aborted: pyarrow's own writers finish a short file even when an exception ends their block.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        file_format: FileFormat,
        schema: pa.Schema,
        *,
        rows_per_file: int | None = None,
        compression: Compression = "zstd",
        csv_dialect: CsvDialect = "standard",
        json_type: JsonType = "text",
    ) -> None:
        self._directory = directory
        self._path = directory / f"{name}.{file_format}"
        self._rows_per_file = rows_per_file
        self._open: Callable[[Path], _Sink]
        if file_format == "parquet":
            self._open = partial(_ParquetSink, schema=schema, compression=compression, json_type=json_type)
        else:
            self._open = partial(_CsvSink, schema=schema, dialect=csv_dialect)
        self._finished: list[PartFile] = []
        self._part: _Part | None = None
        self._closed = False

    def write(self, table: pa.Table) -> None:
        """Append rows with the writer's schema; for Parquet they make one row group of their own.

        Raises:
            StorageError: When the disk refuses; the writer can only be aborted then.
        """
        with durable.storage_errors("writing the table", self._path):
            while table.num_rows:
                part = self._part_with_room()
                room = (self._rows_per_file or part.rows + table.num_rows) - part.rows
                part.write(table.slice(0, room))
                table = table.slice(room)

    def close(self) -> list[PartFile]:
        """Finish the last file and wait until all of them are on the disk; errors as for `write`.

        Returns:
            The finished files in the order of their rows; one without rows for an empty table.
        """
        with durable.storage_errors("writing the table", self._path):
            if self._part is None:
                self._part = self._begin()
            self._finish()
        self._closed = True
        return self._finished

    def abort(self) -> None:
        """Remove every file of this table, finished or not; nothing happens after `close`."""
        if self._closed:
            return
        self._closed = True
        if self._part is not None:
            self._part.discard()
        with durable.storage_errors("removing the unfinished table", self._path):
            durable.remove_tree(self._path)

    def __exit__(self, *_: object) -> None:
        self.abort()

    def _part_with_room(self) -> _Part:
        if self._part is None:
            self._part = self._begin()
        elif self._part.rows == self._rows_per_file:
            self._finish()
            self._part = self._begin()
        return self._part

    def _begin(self) -> _Part:
        path = self._path
        if self._rows_per_file is not None:
            path.mkdir(exist_ok=True)
            path /= part_name(len(self._finished), path.suffix)
        return _Part(path, self._open(path))

    def _finish(self) -> None:
        assert self._part is not None
        self._finished.append(self._part.finish(self._directory))
        self._part = None


class _Sink(Protocol):
    """One open file of a table."""

    def write(self, table: pa.Table) -> None: ...

    def close(self) -> None: ...


class _Part:
    """One file and the rows that it holds."""

    def __init__(self, path: Path, sink: _Sink) -> None:
        self._path = path
        self._sink = sink
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        self._sink.write(table)
        self.rows += table.num_rows

    def finish(self, directory: Path) -> PartFile:
        self._sink.close()
        return finished_part(self._path, self.rows, directory)

    def discard(self) -> None:
        """Let go of the file; the disk's complaint has been heard, or nobody needs it."""
        with suppress(OSError):
            self._sink.close()


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


class _ParquetSink:
    """A Parquet file: format 2.6, pages of version 1 and plain encodings, which every reader knows."""

    def __init__(self, path: Path, schema: pa.Schema, compression: str, json_type: JsonType) -> None:
        self._schema = schema.with_metadata(_FOOTER)
        if json_type == "json":
            self._schema = pa.schema(map(_as_json_type, schema), metadata=_FOOTER)
        self._writer = pq.ParquetWriter(
            str(path),
            self._schema,
            version="2.6",
            compression=compression,
            compression_level=_ZSTD_LEVEL if compression == "zstd" else None,
            dictionary_pagesize_limit=_DICTIONARY_BYTES,
            bloom_filter_options={name: _BLOOM for name in _LOOKED_UP if name in schema.names},
        )

    def write(self, table: pa.Table) -> None:
        # Pages end where chunks end: without this the chunking would show in the bytes.
        whole = table.combine_chunks().cast(self._schema)
        self._writer.write_table(whole, row_group_size=table.num_rows)

    def close(self) -> None:
        self._writer.close()


def _as_json_type(field: pa.Field) -> pa.Field:
    is_json = (field.metadata or {}).get(b"kind") == b"json"
    return field.with_type(pa.json_(pa.string())) if is_json else field


# --- CSV ---


_ROWS_AT_ONCE = 2_500  # text of every column is held twice; each call compiles its patterns anew


class _CsvSink:
    """An RFC 4180 file, or one for a spreadsheet whose locale writes `16,40` and therefore separates cells by `;`.

    Text is always quoted, so null is an empty cell and the empty text is `""`.
    """

    def __init__(self, path: Path, schema: pa.Schema, dialect: CsvDialect) -> None:
        excel = dialect == "excel"
        self._convert = _column_for_spreadsheet if excel else _column_for_programs
        self._file = pa.OSFile(str(path), "wb")
        if excel:
            self._file.write(codecs.BOM_UTF8)
        schema = _each_column(schema.empty_table(), self._convert).schema
        options = pa_csv.WriteOptions(delimiter=";" if excel else ",", eol="\r\n")
        self._writer = pa_csv.CSVWriter(self._file, schema, write_options=options)

    def write(self, table: pa.Table) -> None:
        for start in range(0, table.num_rows, _ROWS_AT_ONCE):
            piece = table.slice(start, _ROWS_AT_ONCE).combine_chunks()
            self._writer.write_table(_each_column(piece, self._convert))

    def close(self) -> None:
        self._writer.close()
        self._file.close()


def _each_column(table: pa.Table, convert: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> pa.Table:
    return pa.table([convert(column) for column in table.columns], names=table.column_names)


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

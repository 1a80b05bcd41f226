"""Tables into files of a folder: parted where they grow too long; Parquet and CSV by Arrow's native code."""

import codecs
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from exporter.model.manifest import part_name
from exporter.model.options import FileFormat, TableOptions
from exporter.model.records import PartFile
from exporter.system import durable


class OpenFile(ABC):
    """A file on its way, and how many rows of each table it holds; it is put together when it is closed."""

    def __init__(self, path: Path, tables: Iterable[str]) -> None:
        self.path, self.rows = path, dict.fromkeys(tables, 0)

    @abstractmethod
    def write(self, name: str, table: pa.Table) -> None:
        """Append rows of a table."""

    @abstractmethod
    def close(self, facts: Mapping[str, str]) -> None:
        """Finish the file, which says these facts where it can."""

    def discard(self) -> None:
        """Free what is open."""
        with suppress(OSError):  # the disk's complaint has been heard, or nobody needs it
            self.close({})


class PartsWriter(AbstractContextManager["PartsWriter"]):
    """Tables on their way into one file, or several of `most_rows`; with `rows_per_file` into a folder of part files.

    Several tables stay together: a batch that does not fit into the file begins the next, and only a batch that fits
    into none is cut. One table fills each file. The same tables give the same bytes, however each is chunked inside.

    As a context manager, it aborts what was not closed: pyarrow's own writers finish a short file even when an
    exception ends their block. What the disk refuses is a `StorageError`; the writer can only be aborted then.
    """

    def __init__(
        self,
        place: Path,
        begin: Callable[[Path], OpenFile],
        rows_per_file: int | None,
        most_rows: int = 2**62,
    ) -> None:
        self._place, self._open, self._in_folder = place, begin, rows_per_file is not None
        self._most_rows = min(rows_per_file or most_rows, most_rows)
        self._what = "workbook" if place.suffix == ".xlsx" else "table"
        self._finished: dict[str, list[PartFile]] = {}
        self._file: OpenFile | None = None
        self._count = 0
        self._closed = False

    def write(self, tables: Mapping[str, pa.Table]) -> None:
        """Append rows of every table, by name; for Parquet they make one row group of their own."""
        with durable.storage_errors(f"writing the {self._what}", self._place):
            file = self._file or self._begin()
            sizes = {name: table.num_rows for name, table in tables.items()}
            fits = all(file.rows[name] + size <= self._most_rows for name, size in sizes.items())
            if len(tables) > 1 and not fits and max(sizes.values()) <= self._most_rows:
                file = self._next(file)
            rest = dict(tables)
            while True:
                for name, table in rest.items():
                    if (piece := table.slice(0, self._most_rows - file.rows[name])).num_rows:
                        file.write(name, piece)
                    file.rows[name] += piece.num_rows
                    rest[name] = table.slice(piece.num_rows)
                if not any(table.num_rows for table in rest.values()):
                    return
                file = self._next(file)

    def close(self, facts: Mapping[str, str] = MappingProxyType({})) -> dict[str, list[PartFile]]:
        """Finish the last file, which also says `facts`; return each table's, in the order of their rows, one at least."""
        with durable.storage_errors(f"writing the {self._what}", self._place):
            self._finish(self._file or self._begin(), facts)
        self._closed = True
        return self._finished

    def abort(self) -> None:
        """Remove what is not finished; nothing happens after `close`."""
        if not self._closed:
            self._closed = True
            with durable.storage_errors(f"removing the unfinished {self._what}", self._place):
                if self._file is not None:
                    self._file.discard()
                durable.remove_tree(self._place)

    def __exit__(self, *_: object) -> None:
        self.abort()

    def _begin(self) -> OpenFile:
        path = self._place
        if self._in_folder:
            path.mkdir(exist_ok=True)
            path /= part_name(self._count, path.suffix)
        elif self._count:
            path = path.with_stem(f"{path.stem}-{self._count + 1}")
        self._file = self._open(path)
        return self._file

    def _next(self, file: OpenFile) -> OpenFile:
        self._finish(file, {})
        return self._begin()

    def _finish(self, file: OpenFile, facts: Mapping[str, str]) -> None:
        file.close(facts)
        durable.sync_file(file.path)
        with file.path.open("rb") as whole:
            digest, size = hashlib.file_digest(whole, "sha256").hexdigest(), whole.tell()
        name = file.path.relative_to(self._place.parent).as_posix()
        for table, rows in file.rows.items():
            self._finished.setdefault(table, []).append(PartFile(name, rows, size, digest))
        self._file = None
        self._count += 1


def table_writer(
    folder: Path, name: str, file_format: FileFormat, schema: pa.Schema, options: TableOptions
) -> PartsWriter:
    """Return what writes one table as Parquet or CSV into a folder, with `rows_per_file` as part files."""
    kind = _ParquetFile if file_format == "parquet" else _CsvFile
    place = folder / f"{name}.{file_format}"
    return PartsWriter(place, lambda path: kind(path, name, schema, options), options.rows_per_file)


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


class _ParquetFile(OpenFile):
    """Format 2.6, pages of version 1 and plain encodings, which every reader knows."""

    def __init__(self, path: Path, name: str, schema: pa.Schema, options: TableOptions) -> None:
        super().__init__(path, [name])
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

    def write(self, name: str, table: pa.Table) -> None:
        # Pages end where chunks end: without this the chunking would show in the bytes.
        whole = table.combine_chunks().cast(self._schema)
        self._writer.write_table(whole, row_group_size=table.num_rows)

    def close(self, facts: Mapping[str, str]) -> None:
        self._writer.close()


def _as_json_type(field: pa.Field) -> pa.Field:
    is_json = (field.metadata or {}).get(b"kind") == b"json"
    return field.with_type(pa.json_(pa.string())) if is_json else field


_ROWS_AT_ONCE = 2_500  # text of every column is held twice; each call compiles its patterns again


class _CsvFile(OpenFile):
    """RFC 4180, or for a spreadsheet whose locale writes `16,40` and therefore separates cells by `;`.

    Text is always quoted, so null is an empty cell and the empty text is `""`.
    """

    def __init__(self, path: Path, name: str, schema: pa.Schema, options: TableOptions) -> None:
        super().__init__(path, [name])
        excel = options.csv_dialect == "excel"
        self._convert = _column_for_spreadsheet if excel else _column_for_programs
        self._file = pa.OSFile(str(path), "wb")
        if excel:
            self._file.write(codecs.BOM_UTF8)
        dialect = pa_csv.WriteOptions(delimiter=";" if excel else ",", eol="\r\n")
        schema = self._converted(schema.empty_table()).schema
        self._writer = pa_csv.CSVWriter(self._file, schema, write_options=dialect)

    def write(self, name: str, table: pa.Table) -> None:
        for start in range(0, table.num_rows, _ROWS_AT_ONCE):
            piece = table.slice(start, _ROWS_AT_ONCE).combine_chunks()
            self._writer.write_table(self._converted(piece))

    def close(self, facts: Mapping[str, str]) -> None:
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

"""The files of a finished table, Parquet or CSV, read a batch at a time: memory stays that of a few batches."""

import codecs
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from exporter.model.catalog import TABLES, Kind
from exporter.model.manifest import TableFiles, by_format

_ROWS = 16_384
# A CSV record must fit into a block. The longest payload is 32 MiB; its JSON text doubles quotation marks.
_BLOCK_BYTES = 1 * 1024 * 1024
_LARGEST_BLOCK_BYTES = 96 * 1024 * 1024


def readable(files: TableFiles) -> list[str]:
    """Return the paths of a table's files in the one format to read it from, Parquet before CSV; a workbook is none."""
    formats = by_format(files.files)
    return [part.path for part in formats.get("parquet") or formats.get("csv", [])]


class ParquetPart:
    """A Parquet file."""

    for_spreadsheets = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def columns(self) -> list[str]:
        """Return the names of the columns."""
        return list(pq.read_schema(self._path).names)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of these columns, in their order."""
        with pq.ParquetFile(self._path) as file:
            yield from file.iter_batches(batch_size=_ROWS, columns=list(columns))

    def nulls(self) -> Counter[str]:
        """Count the nulls of each column by the statistics that our writer always stores: no page is read."""
        counts: Counter[str] = Counter()
        metadata = pq.read_metadata(self._path)
        for group in (metadata.row_group(index) for index in range(metadata.num_row_groups)):
            for column in (group.column(index) for index in range(group.num_columns)):
                counts[column.path_in_schema] += column.statistics.null_count
        return counts


class CsvPart:
    """A CSV file of either dialect."""

    def __init__(self, path: Path, timezone: str) -> None:
        self._path = path
        with path.open("rb") as file:
            self.for_spreadsheets = file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
        self._delimiter, self._decimal_point = (";", ",") if self.for_spreadsheets else (",", ".")
        # The Excel dialect writes local times without a zone, to the second.
        self._moment = pa.timestamp("us", None if self.for_spreadsheets else timezone)

    def columns(self) -> list[str]:
        """Return the names of the columns."""
        with self._path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file, delimiter=self._delimiter), [])

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of these columns, in their order; ids and codes as text."""
        typed = {Kind.DECIMAL: pa.decimal128(20, 4), Kind.TIMESTAMP: self._moment}
        types = {name: typed[_KINDS[name]] if _KINDS.get(name) in typed else pa.string() for name in columns}
        if "item_index" in types:
            types["item_index"] = pa.int64()
        passed = 0  # a record that does not fit into a small block is read by the largest
        for block_bytes in (_BLOCK_BYTES, _LARGEST_BLOCK_BYTES):
            skip, passed = passed, 0
            try:
                with self._open(types, block_bytes) as reader:
                    for batch in reader:
                        yield batch.slice(max(0, skip - passed))
                        passed += batch.num_rows
                    return
            except pa.ArrowInvalid as error:
                if "block size" not in str(error) or block_bytes == _LARGEST_BLOCK_BYTES:
                    raise

    def nulls(self) -> Counter[str]:
        """Count the nulls of each column."""
        counts: Counter[str] = Counter()
        for batch in self.batches(self.columns()):
            counts.update({name: batch[name].null_count for name in batch.schema.names})
        return counts

    def _open(self, types: dict[str, pa.DataType], block_bytes: int) -> pa_csv.CSVStreamingReader:
        return pa_csv.open_csv(
            self._path,
            read_options=pa_csv.ReadOptions(block_size=block_bytes, use_threads=False),
            parse_options=pa_csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types=types,
                include_columns=list(types),
                decimal_point=self._decimal_point,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,  # null is an empty cell, the empty text is ""
            ),
        )


def part_reader(path: Path, timezone: str = "UTC") -> ParquetPart | CsvPart:
    """Return what reads one file of a table, with local times of a zone; a `pa.ArrowException` for damage."""
    return ParquetPart(path) if path.suffix == ".parquet" else CsvPart(path, timezone)


_KINDS = {column.name: column.kind for columns in TABLES.values() for column in columns}

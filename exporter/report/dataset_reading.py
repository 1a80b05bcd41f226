"""The tables of a dataset, read a batch at a time from whichever format is there.

Memory stays that of a few batches, whatever the length of the tables.
"""

from __future__ import annotations

import codecs
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from exporter.model.errors import StorageError
from exporter.model.manifest import TableFiles
from exporter.system import durable

_ROWS = 16_384
# A CSV record must fit into a block. The longest payload is 32 MiB; its JSON text doubles quotation marks.
_BLOCK_BYTES = 1 * 1024 * 1024
_LARGEST_BLOCK_BYTES = 96 * 1024 * 1024

#: The types of the columns whose values are used; of all others only the nulls are counted.
_TYPES = {
    "date_placed": pa.timestamp("us", "UTC"),
    "amount": pa.decimal128(20, 4),
    "item_index": pa.int64(),
}


class _Part(Protocol):
    """One file of a table."""

    def columns(self) -> list[str]: ...

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]: ...

    def nulls(self) -> Counter[str]: ...


class TableReader:
    """One table of a dataset, Parquet where it is there, else CSV.

    Args:
        dataset: The dataset's folder.
        table: The table's files, as the manifest names them.
    """

    def __init__(self, dataset: Path, table: TableFiles) -> None:
        paths = [part.path for part in table.files if not part.path.endswith(".xlsx")]
        parquet = [path for path in paths if path.endswith(".parquet")]
        self._paths = [dataset / path for path in parquet or paths]
        self.rows = table.rows

    def columns(self) -> list[str]:
        """Return the names of the columns that were written.

        Raises:
            StorageError: A file is missing, or is not what its name says.
        """
        for path in self._paths:
            with _read_errors(path):
                return _part(path).columns()
        return []

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows in their order.

        Args:
            columns: Which to read; all of them are there.

        Raises:
            StorageError: A file is missing, or is not what its name says.
        """
        for path in self._paths:
            with _read_errors(path):
                yield from _part(path).batches(columns)

    def nulls(self) -> Counter[str]:
        """Count the nulls of each column.

        Raises:
            StorageError: A file is missing, or is not what its name says.
        """
        counts: Counter[str] = Counter()
        for path in self._paths:
            with _read_errors(path):
                counts.update(_part(path).nulls())
        return counts


def _part(path: Path) -> _Part:
    return _ParquetPart(path) if path.suffix == ".parquet" else _CsvPart(path)


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    with durable.storage_errors("reading the dataset", path):
        try:
            yield
        except pa.ArrowException as error:
            raise StorageError(
                f"{path}: it cannot be read: {str(error).splitlines()[0]}.", "Run: exporter verify."
            ) from error


class _ParquetPart:
    def __init__(self, path: Path) -> None:
        self._path = path

    def columns(self) -> list[str]:
        return list(pq.read_schema(self._path).names)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self._path) as file:
            yield from file.iter_batches(batch_size=_ROWS, columns=list(columns))

    def nulls(self) -> Counter[str]:
        """Take them from the statistics that our writer always stores: no page is read."""
        counts: Counter[str] = Counter()
        metadata = pq.read_metadata(self._path)
        for group in (metadata.row_group(index) for index in range(metadata.num_row_groups)):
            for column in (group.column(index) for index in range(group.num_columns)):
                counts[column.path_in_schema] += column.statistics.null_count
        return counts


class _CsvPart:
    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            for_spreadsheets = file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
        self._for_spreadsheets = for_spreadsheets
        self._delimiter, self._decimal_point = (";", ",") if for_spreadsheets else (",", ".")

    def columns(self) -> list[str]:
        with self._path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file, delimiter=self._delimiter), [])

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        types = {name: _TYPES.get(name, pa.string()) for name in columns}
        if not self._for_spreadsheets:
            yield from self._read(types)
            return
        # Times without a zone: their day is the day in the dataset's.
        asked = pa.schema(types.items())
        local = {
            name: pa.timestamp("us") if pa.types.is_timestamp(kind) else kind for name, kind in types.items()
        }
        yield from (batch.cast(asked) for batch in self._read(local))

    def nulls(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for batch in self._read(dict.fromkeys(self.columns(), pa.string())):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                counts[name] += column.null_count
        return counts

    def _read(self, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        """Start with small blocks; where a record does not fit, go on with the largest."""
        passed = 0
        try:
            with self._open(types, _BLOCK_BYTES) as reader:
                for batch in reader:
                    yield batch
                    passed += batch.num_rows
        except pa.ArrowInvalid as error:
            if "block size" not in str(error):
                raise
            with self._open(types, _LARGEST_BLOCK_BYTES) as reader:
                for batch in reader:
                    yield batch.slice(passed)
                    passed = max(0, passed - batch.num_rows)

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

"""Some columns of a finished table file, a batch at a time."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

_BATCH = 10_000
# A row must fit into a block. The longest payload is 32 MiB; its JSON text doubles quotation marks.
_CSV_BLOCK = 8 * 1024 * 1024
_LARGEST_CSV_BLOCK = 96 * 1024 * 1024


class UnreadableError(Exception):
    """Raised when a file is no table, or lacks a column; says which and why."""


class FileRows:
    """The rows of one file.

    Args:
        path: A Parquet or CSV file of a dataset.
        name: How it is called in an error.
        columns: Which of its columns, in this order; `item_index` as an integer, the others as text.
    """

    def __init__(self, path: Path, name: str, columns: tuple[str, ...]) -> None:
        self._path = path
        self._name = name
        self._columns = columns

    def __iter__(self) -> Iterator[list[tuple[object, ...]]]:
        """Yield batches of rows.

        Raises:
            UnreadableError: It is no such file.
        """
        try:
            for batch in self._batches():
                yield list(zip(*(batch.column(name).to_pylist() for name in self._columns), strict=True))
        except (pa.ArrowException, KeyError) as error:
            first = str(error).splitlines()[0]
            raise UnreadableError(f"{self._name}: it cannot be read: {first}.") from None

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if self._path.suffix == ".csv":
            yield from self._csv_batches()
            return
        with pq.ParquetFile(self._path) as file:
            yield from file.iter_batches(_BATCH, columns=list(self._columns))

    def _csv_batches(self) -> Iterator[pa.RecordBatch]:
        """Start with small blocks; where a row does not fit, go on with the largest."""
        passed = 0
        try:
            for batch in self._csv_reader(_CSV_BLOCK):
                yield batch
                passed += batch.num_rows
        except pa.ArrowInvalid as error:
            if "block size" not in str(error):
                raise
            for batch in self._csv_reader(_LARGEST_CSV_BLOCK):
                yield batch.slice(passed)
                passed = max(0, passed - batch.num_rows)

    def _csv_reader(self, block_size: int) -> pa_csv.CSVStreamingReader:
        with self._path.open("rb") as file:
            for_spreadsheets = file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
        types = {name: pa.int32() if name == "item_index" else pa.string() for name in self._columns}
        return pa_csv.open_csv(
            self._path,
            read_options=pa_csv.ReadOptions(block_size=block_size, use_threads=False),
            parse_options=pa_csv.ParseOptions(
                delimiter=";" if for_spreadsheets else ",", newlines_in_values=True
            ),
            convert_options=pa_csv.ConvertOptions(
                include_columns=list(self._columns), column_types=types, strings_can_be_null=False
            ),
        )

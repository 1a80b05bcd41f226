"""Tables into part files, Parquet or CSV, written by Arrow's native code into a folder of staged files."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from exporter import durable
from exporter.records import PartFile

FileFormat = Literal["parquet", "csv"]
CsvDialect = Literal["standard", "excel"]

#: What `--compression` may say; it concerns Parquet only.
COMPRESSIONS = ("zstd", "snappy", "gzip", "lz4", "none")


class TableWriter:
    """One table on its way into one file, or into a folder of part files where it grows too long.

    Up to `rows_per_file` rows the table is the file `orders.parquet`; from the next row on it is the
    folder `orders.parquet` with `part-00000.parquet`, `part-00001.parquet` and so on. The same tables
    give the same bytes, however each is chunked inside. Used as a context manager, what was not closed
    is aborted: pyarrow's own writers finish a short file even when an exception ends their block.

    Args:
        directory: The folder of staged files; it exists.
        name: The table's name, `orders` or `order_items`.
        file_format: `parquet` or `csv`.
        schema: The columns of every table that will be written.
        rows_per_file: Most rows in one file, at least 1; None for one file whatever its length.
        compression: One of `COMPRESSIONS`; not used for CSV.
        csv_dialect: `standard` is RFC 4180 for programs, `excel` is for people with a spreadsheet.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        file_format: FileFormat,
        schema: pa.Schema,
        *,
        rows_per_file: int | None = None,
        compression: str = "zstd",
        csv_dialect: CsvDialect = "standard",
    ) -> None:
        self._directory = directory
        self._path = directory / f"{name}.{file_format}"
        self._schema = schema
        self._rows_per_file = rows_per_file
        self._compression = compression
        self._csv_dialect = csv_dialect
        self._finished: list[PartFile] = []
        self._part: _Part | None = None
        self._closed = False

    def write(self, table: pa.Table) -> None:
        """Append rows; for Parquet they make one row group of their own.

        Args:
            table: Rows with the writer's schema.

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
        """Finish the last file and wait until all of them are on the disk.

        Returns:
            The finished files in the order of their rows; one without rows for an empty table.

        Raises:
            StorageError: When the disk refuses; the writer can only be aborted then.
        """
        with durable.storage_errors("writing the table", self._path):
            if self._part is None:
                self._part = self._begin()
            self._finish()
        self._closed = True
        return self._finished

    def abort(self) -> None:
        """Remove every file of this table, finished or not; nothing happens after `close`.

        Raises:
            StorageError: When the disk refuses.
        """
        if self._closed:
            return
        self._closed = True
        if self._part is not None:
            self._part.discard()
        with durable.storage_errors("removing the unfinished table", self._path):
            durable.remove_tree(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.abort()

    def _part_with_room(self) -> _Part:
        if self._part is None:
            self._part = self._begin()
        elif self._part.rows == self._rows_per_file:
            self._finish()
            self._part = self._begin()
        return self._part

    def _begin(self) -> _Part:
        count = len(self._finished)
        if count == 1:
            self._become_folder()
        path = self._path / self._part_name(count) if count else self._path
        return _Part(path, self._open(path))

    def _finish(self) -> None:
        assert self._part is not None
        self._finished.append(self._part.finish(self._directory))
        self._part = None

    def _become_folder(self) -> None:
        """Turn the one file into the first of a folder of the same name."""
        folder = self._path.with_name(f"{self._path.name}.parts")
        first = folder / self._part_name(0)
        folder.mkdir()
        durable.rename(self._path, first)
        durable.rename(folder, self._path)
        path = (self._path / first.name).relative_to(self._directory).as_posix()
        self._finished = [replace(self._finished[0], path=path)]

    def _part_name(self, index: int) -> str:
        return f"part-{index:05}{self._path.suffix}"

    def _open(self, path: Path) -> _Sink:
        if self._path.suffix == ".parquet":
            return _ParquetSink(path, self._schema, self._compression)
        return (
            _CsvSink(path, self._schema)
            if self._csv_dialect == "standard"
            else _ExcelSink(path, self._schema)
        )


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
        durable.sync_file(self._path)
        with self._path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
        return PartFile(self._path.relative_to(directory).as_posix(), self.rows, size, digest)

    def discard(self) -> None:
        """Let go of the file; the disk's complaint has been heard, or nobody needs it."""
        try:
            self._sink.close()
        except OSError:
            pass


# --- Parquet ---


class _ParquetSink:
    def __init__(self, path: Path, schema: pa.Schema, compression: str) -> None:
        self._writer = pq.ParquetWriter(str(path), schema, compression=compression)

    def write(self, table: pa.Table) -> None:
        # Pages end where chunks end: without this the chunking shows in the bytes.
        self._writer.write_table(table.combine_chunks(), row_group_size=table.num_rows)

    def close(self) -> None:
        self._writer.close()


# --- CSV ---


class _CsvSink:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pa_csv.CSVWriter(
            str(path), _plain(schema.empty_table()).schema, write_options=pa_csv.WriteOptions(eol="\r\n")
        )

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(_plain(table))

    def close(self) -> None:
        self._writer.close()


class _ExcelSink(_CsvSink):
    pass


def _plain(table: pa.Table) -> pa.Table:
    """Give JSON columns as the text that they hold: the CSV writer knows no extension types."""
    for index, field in enumerate(table.schema):
        if isinstance(field.type, pa.BaseExtensionType):
            table = table.set_column(index, field.name, pc.cast(table.column(index), field.type.storage_type))
    return table

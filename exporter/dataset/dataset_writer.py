"""The tables of a dataset on their way into the files of every format, a batch after the other."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path

import pyarrow as pa

from exporter.dataset.flatten.arrow_schema import SCHEMAS
from exporter.dataset.table_files import PartsWriter, table_writer
from exporter.dataset.workbook_files import workbook_writer
from exporter.model.column_selection import choose_columns
from exporter.model.options import TableOptions
from exporter.model.records import PartFile

#: A row group's worth of `order_lines`, or of orders with very many items, would take twice the memory of the other
#: tables together: what has so many cells is a row group by itself. Orders and items have 1.3 million each.
_MOST_CELLS = 2_000_000


def schemas_of(options: TableOptions) -> dict[str, pa.Schema]:
    """Return the columns that are written of each table; times are in the zone asked for."""
    zone = pa.timestamp("us", options.timezone)

    def zoned(field: pa.Field) -> pa.Field:
        return field.with_type(zone) if pa.types.is_timestamp(field.type) else field

    chosen = choose_columns(options.select, options.drop, options.tables).items()
    return {table: pa.schema(map(zoned, map(SCHEMAS[table].field, names))) for table, names in chosen}


def as_written(batch: Mapping[str, pa.Table], schemas: Mapping[str, pa.Schema]) -> dict[str, pa.Table]:
    """Return what is written of a batch's tables, as their schemas have it; what is so already stays."""
    return {
        name: table if table.schema.equals(schema) else table.select(schema.names).cast(schema)
        for name, schema in schemas.items()
        for table in (batch[name],)
    }


class DatasetWriter(AbstractContextManager["DatasetWriter"]):
    """Every table in every format. As a context manager it removes what was not closed.

    `schemas` has what is written of each table, `about` what a workbook, named `book`, says of them. Each method
    raises a `StorageError` where the disk refuses.
    """

    def __init__(
        self,
        folder: Path,
        schemas: Mapping[str, pa.Schema],
        options: TableOptions,
        about: Mapping[str, str],
        book: str = "orders",
    ) -> None:
        self._schemas = schemas
        formats = [each for each in options.formats if each != "xlsx"]
        self._writers = {
            name: [table_writer(folder, name, each, schema, options) for each in formats]
            for name, schema in schemas.items()
        }
        # By column, so that each can be joined and its pieces freed before the next: half the memory.
        self._waiting: dict[str, list[list[pa.Array]]] = {
            name: [[] for _ in schema] for name, schema in schemas.items() if self._writers[name]
        }
        self._books: list[PartsWriter] = []
        if "xlsx" in options.formats:
            self._books = [workbook_writer(folder, schemas, options.rows_per_file, about, book)]

    def add(self, batch: Mapping[str, pa.Table]) -> None:
        """Append the rows of one batch; columns and tables that are not written are left out."""
        tables = as_written(batch, self._schemas)
        for book in self._books:
            book.write(tables)
        for name, columns in self._waiting.items():
            for waiting, column in zip(columns, tables[name].columns, strict=True):
                waiting.extend(column.chunks)
            if sum(map(len, columns[0])) * len(columns) >= _MOST_CELLS:
                self._write_row_group(name)

    def end_row_group(self) -> None:
        """Write what has gathered; for Parquet it makes one row group."""
        for name in self._waiting:
            self._write_row_group(name)

    def close(self, counts: Mapping[str, str]) -> dict[str, list[PartFile]]:
        """Finish every file; return those of each table, over all formats. A workbook says `counts` too."""
        files: dict[str, list[PartFile]] = {name: [] for name in self._schemas}
        for writer in self._all():
            for name, parts in writer.close(counts).items():
                files[name] += parts
        return files

    def __exit__(self, *_: object) -> None:
        for writer in self._all():
            writer.abort()

    def _all(self) -> Iterator[PartsWriter]:
        return chain(*self._writers.values(), self._books)

    def _write_row_group(self, name: str) -> None:
        if any(map(len, self._waiting[name][0])):
            columns = []
            for arrays in self._waiting[name]:
                columns.append(pa.concat_arrays(arrays))
                arrays.clear()
            table = pa.table(columns, schema=self._schemas[name])
            for writer in self._writers[name]:
                writer.write({name: table})

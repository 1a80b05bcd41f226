"""The tables of a dataset on their way into the files of every format, a batch after the other."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa

from exporter.dataset.flatten import SCHEMAS
from exporter.dataset.publishing.publish_job import PublishJob
from exporter.dataset.table_files import TableWriter
from exporter.dataset.workbook_files import WorkbookWriter
from exporter.model.column_selection import choose_columns
from exporter.model.records import PartFile

#: A row group's worth of `order_lines`, or of orders with very many items, would take twice the memory of the other
#: tables together: what has so many cells is a row group by itself. Orders and items have 1.3 million each.
_MOST_CELLS = 2_000_000


class DatasetWriter(AbstractContextManager["DatasetWriter"]):
    """Every table in every format; takes flattened batches in input order and knows nothing of payloads.

    As a context manager it removes what was not closed. Each method raises a `StorageError` where the disk refuses.
    """

    def __init__(self, job: PublishJob) -> None:
        chosen = choose_columns(job.select, job.drop, job.tables)
        self._tables = {name: _Table(name, columns, job) for name, columns in chosen.items()}
        self._book: WorkbookWriter | None = None
        if "xlsx" in job.formats:
            self._book = WorkbookWriter(
                Path(job.staged),
                {name: table.schema for name, table in self._tables.items()},
                rows_per_file=job.rows_per_file,
                about=job.about,
            )

    def add(self, batch: Mapping[str, pa.Table]) -> None:
        """Append the rows of one batch: the catalogue's tables in full; those not asked for are left out."""
        tables = {name: table.formed(batch[name]) for name, table in self._tables.items()}
        if self._book is not None:
            self._book.write(tables)
        for name, table in self._tables.items():
            table.add(tables[name])

    def end_row_group(self) -> None:
        """Write what has gathered; for Parquet it makes one row group."""
        for table in self._tables.values():
            table.write_row_group()

    def close(self, counts: Mapping[str, str]) -> dict[str, list[PartFile]]:
        """Finish every file; return those of each table, over all formats. A workbook says `counts` at its end, by label."""
        files = {name: table.close() for name, table in self._tables.items()}
        if self._book is not None:
            for name, books in self._book.close(counts).items():
                files[name] += books
        return files

    def __exit__(self, *_: object) -> None:
        for table in self._tables.values():
            table.abort()
        if self._book is not None:
            self._book.abort()


class _Table:
    """One table on its way into a file of each format but the workbook's."""

    def __init__(self, name: str, columns: list[str], job: PublishJob) -> None:
        whole = SCHEMAS[name]
        self.schema = pa.schema([_in_zone(whole.field(column), job.timezone) for column in columns])
        self._writers = [
            TableWriter(
                Path(job.staged),
                name,
                file_format,
                self.schema,
                rows_per_file=job.rows_per_file,
                compression=job.compression,
                csv_dialect=job.csv_dialect,
                json_type=job.json_type,
            )
            for file_format in job.formats
            if file_format != "xlsx"
        ]
        # By column, so that each can be joined and its pieces let go before the next: half the memory.
        self._waiting: list[list[pa.Array]] = [[] for _ in columns]
        self._rows_waiting = 0

    def formed(self, table: pa.Table) -> pa.Table:
        """Return the columns that are written; times are the same instants in the zone asked for."""
        return table.select(self.schema.names).cast(self.schema)

    def add(self, table: pa.Table) -> None:
        if not self._writers:
            return
        for waiting, column in zip(self._waiting, table.columns, strict=True):
            waiting.extend(column.chunks)
        self._rows_waiting += table.num_rows
        if self._rows_waiting * len(self._waiting) >= _MOST_CELLS:
            self.write_row_group()

    def write_row_group(self) -> None:
        if not self._rows_waiting:
            return
        table = pa.table([_joined(arrays) for arrays in self._waiting], schema=self.schema)
        self._rows_waiting = 0
        for writer in self._writers:
            writer.write(table)

    def close(self) -> list[PartFile]:
        return [part for writer in self._writers for part in writer.close()]

    def abort(self) -> None:
        for writer in self._writers:
            writer.abort()


def _in_zone(field: pa.Field, zone: str) -> pa.Field:
    return field.with_type(pa.timestamp("us", zone)) if pa.types.is_timestamp(field.type) else field


def _joined(arrays: list[pa.Array]) -> pa.Array:
    """Return one array of these, and let them go."""
    joined = pa.concat_arrays(arrays)
    arrays.clear()
    return joined

"""A comparison's tables into files: `changes`, and `changed_orders` where whole rows are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa

from exporter.dataset.changes.change_schema import CHANGES_SCHEMA
from exporter.dataset.changes.comparison import Comparison
from exporter.dataset.table_files import TableWriter
from exporter.dataset.workbook_files import WorkbookWriter
from exporter.model.manifest import Changes, TableFiles, table_of
from exporter.model.options import TableOptions
from exporter.model.records import PartFile


def write_changes(
    comparison: Comparison, folder: Path, options: TableOptions, *, full: bool = False
) -> tuple[Changes, dict[str, TableFiles]]:
    """Compare, and write what differs.

    Args:
        comparison: Two datasets.
        folder: Where the files go; it exists.
        options: Say in which formats.
        full: Write the whole rows as well.

    Returns:
        What differs in counts, and the record of each table.

    Raises:
        InputError: A dataset cannot be compared.
        StorageError: The disk refuses.
    """
    counts = comparison.run()
    tables = {"changes": _write(folder, "changes", CHANGES_SCHEMA, comparison.rows(), options)}
    if full:
        schema, rows = comparison.whole_rows()
        tables["changed_orders"] = _write(folder, "changed_orders", schema, rows, options)
    return counts, {name: table_of(files) for name, files in tables.items()}


def _write(
    folder: Path, name: str, schema: pa.Schema, rows: Iterable[pa.Table], options: TableOptions
) -> list[PartFile]:
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                TableWriter(
                    folder,
                    name,
                    file_format,
                    schema,
                    compression=options.compression,
                    csv_dialect=options.csv_dialect,
                    json_type=options.json_type,
                )
            )
            for file_format in options.formats
            if file_format != "xlsx"
        ]
        book = None
        if "xlsx" in options.formats:
            book = WorkbookWriter(folder, {name: schema}, rows_per_file=None, about={}, name=name)
            stack.callback(book.abort)
        for table in rows:
            for writer in writers:
                writer.write(table)
            if book is not None:
                book.write({name: table})
        return _closed(writers, book, name)


def _closed(writers: Sequence[TableWriter], book: WorkbookWriter | None, name: str) -> list[PartFile]:
    files = [part for writer in writers for part in writer.close()]
    return files if book is None else [*files, *book.close({})[name]]

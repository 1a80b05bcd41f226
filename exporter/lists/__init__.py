"""An input file's lines to order numbers, with line-numbered complaints.

An order number is 1 to 128 printable characters without white space inside, and not `.` or `..`;
white space around it is stripped. What is no order number is reported with its line and the rest goes
on; what cannot be read at all (binary data, a cut archive, JSON that is none) raises `InputError`, because
nobody can say how many orders would be missing.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from exporter.lists import csv_list, json_list, parquet_list, text_list, workbook_list
from exporter.lists.batch import MAX_LENGTH, Batch, InvalidLine
from exporter.model.errors import InputError

__all__ = ["MAX_LENGTH", "Batch", "InvalidLine", "read"]

_Reader = Callable[[BinaryIO, str, str | None], Iterator[Batch]]

_READERS: dict[str, _Reader] = {  # by ending; all else is text, as is a file without an ending
    ".csv": csv_list.read,
    ".tsv": csv_list.read,
    ".jsonl": json_list.read,
    ".ndjson": json_list.read,
    ".json": json_list.read,
    ".parquet": parquet_list.read,
    ".xlsx": workbook_list.read,
}


def read(stream: BinaryIO, *, name: str, column: str | None = None) -> Iterator[Batch]:
    """Read order numbers, a batch at a time, in bounded memory.

    The first batch is read when it is asked for. A line is a physical line of text, CSV (where the
    record begins) and JSON Lines, and a row, from 1, of Parquet and of a sheet. The header of a CSV or
    a sheet is no line of any batch.

    Args:
        stream: The opened input. Parquet and workbooks need `seek`; the others only `read`.
        name: The input's name as the user gave it. Its ending chooses the format, whatever its case:
            `.csv`, `.jsonl`, `.parquet`, `.xlsx`, each also with `.gz`; any other name, and `-`, is text.
        column: The column of order numbers, as written in the input; None for `order_number` or
            `number` in any case, else the only column.

    Yields:
        Batches in the order of the lines; the `line_count` of all of them is the input's number of lines.

    Raises:
        InputError: When the input cannot be read, has no such column, or holds nothing but blank lines.
        UsageError: When it is a workbook and the extra `xlsx` is not installed.
    """
    shown = "standard input" if name == "-" else name
    found = False
    try:
        for batch in _batches(stream, name, shown, column):
            found = found or batch.blank < batch.line_count
            yield batch
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(shown, error) from error
    if not found:
        raise InputError(
            f"{shown}: expected at least one order number, got none.", "Put one order number on each line."
        )


def _batches(stream: BinaryIO, name: str, shown: str, column: str | None) -> Iterator[Batch]:
    unpacked = name.lower().removesuffix(".gz")
    if unpacked != name.lower():
        stream = cast("BinaryIO", gzip.GzipFile(fileobj=stream, mode="rb"))
    dot = unpacked.rfind(".")
    return _READERS.get(unpacked[dot:], text_list.read)(stream, shown, column)


def _unreadable(shown: str, error: Exception) -> InputError:
    if isinstance(error, EOFError | gzip.BadGzipFile | zlib.error):
        return InputError(
            f"{shown}: expected whole gzip data, got {error}.",
            "Copy or compress the file again, or give it the ending of its format.",
        )
    return InputError(
        f"{shown}: expected a file that can be read, got {parquet_list.reason(error)}.",
        "Copy the file again, or check its disk.",
    )

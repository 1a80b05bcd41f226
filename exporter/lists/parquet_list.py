"""Parquet: a text or integer column, a few thousand rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from exporter.lists import column_choice
from exporter.lists.batch import Batch, sift
from exporter.model.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_BATCH_ROWS = 16_384
_BUFFER_BYTES = 1 << 20  # without it, Arrow holds a whole column chunk of a row group


def read(stream: BinaryIO, name: str, column: str | None) -> Iterator[Batch]:
    """Yield the batches of a Parquet file; rows are counted as lines, from 1. The stream must seek.

    Raises:
        InputError: When it is no Parquet, or the column is missing or neither text nor integer.
    """
    import pyarrow as pa

    try:
        yield from _batches(stream, name, column)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(
            f"{name}: expected a Parquet file, got one that cannot be read: {reason(error)}.",
            "Write the file anew, or give it the ending of its format.",
        ) from error


def _batches(stream: BinaryIO, name: str, column: str | None) -> Iterator[Batch]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
        chosen = _column(file, name, column)
        line = 1
        for rows in file.iter_batches(_BATCH_ROWS, columns=[chosen], use_threads=False):
            yield sift(range(line, line + len(rows)), _texts(rows.column(0)))
            line += len(rows)


def _column(file: pq.ParquetFile, name: str, wanted: str | None) -> str:
    field = file.schema_arrow.field(column_choice.choose(file.schema_arrow.names, wanted, name))
    if not _is_exact(field.type):
        raise InputError(
            f"{name}: expected text or integers in the column {field.name!r}, got {field.type}.",
            "Store order numbers as text.",
        )
    return str(field.name)


def _is_exact(kind: pa.DataType) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_exact(kind.value_type)
    if types.is_decimal(kind):  # warehouses write their integers so
        return bool(kind.scale == 0)
    tests = (types.is_string, types.is_large_string, types.is_string_view, types.is_integer, types.is_null)
    return any(test(kind) for test in tests)


def _texts(column: pa.Array) -> list[str]:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return [text or "" for text in column.cast(pa.string()).to_pylist()]


def reason(error: Exception) -> str:
    """Return what Arrow says to users; it adds lines for its own developers."""
    return str(error).partition("\n")[0].rstrip(".")

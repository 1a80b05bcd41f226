"""Parquet, Arrow and ORC: a column of texts or whole numbers, a few thousand rows at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from exporter.lists import column_choice
from exporter.lists.batch import Batch, Sieve
from exporter.lists.how_read import Source, first_line
from exporter.lists.table import Table

if TYPE_CHECKING:
    import pyarrow as pa

    Rows = Callable[[str], Iterator[pa.RecordBatch]]

#: Types of texts; numbers, if without a fraction (see `_texts`); and bytes, as of Impala and old Spark.
_EXACT = re.compile(
    r"(large_)?string|string_view|null|u?int\d+|halffloat|float|double|decimal.*|(large_)?binary|fixed_size_binary.*"
)
_BATCH_ROWS = 16_384
_BUFFER_BYTES = 1 << 20  # without it, Arrow holds a whole column chunk of a row group


def read(source: Source) -> Iterator[Batch]:
    """Yield the batches of a file of one of these formats; rows are counted as lines, from 1. The stream must seek."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = source.reading.format
    try:
        schema, rows = {"parquet": _parquet, "arrow": _arrow, "orc": _orc}[kind](source)
        sieve, line = Sieve(source), 1
        first, *inner = _column(source, schema)
        for batch in rows(schema.names[first]):
            column = pc.struct_field(batch.column(0), inner) if inner else batch.column(0)
            yield sieve.sift(range(line, line + len(column)), _texts(source, column))
            line += len(column)
    except (pa.ArrowException, OSError, ValueError, NotImplementedError) as error:
        what = f"expected a {kind.capitalize()} file, got one that cannot be read: {first_line(error)}."
        source.refuse(what, "Write the file again, or give it the extension of its format.")


def _parquet(source: Source) -> tuple[pa.Schema, Rows]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(source.stream, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    return file.schema_arrow, lambda name: file.iter_batches(_BATCH_ROWS, columns=[name], use_threads=False)


def _arrow(source: Source) -> tuple[pa.Schema, Rows]:
    import pyarrow as pa

    if source.head.startswith(b"ARROW1"):
        file = pa.ipc.open_file(source.stream)
        batches = (file.get_batch(i) for i in range(file.num_record_batches))
        return file.schema, lambda name: (batch.select([name]) for batch in batches)
    stream = pa.ipc.open_stream(source.stream)
    return stream.schema, lambda name: (batch.select([name]) for batch in stream)


def _orc(source: Source) -> tuple[pa.Schema, Rows]:
    from pyarrow import orc

    file = orc.ORCFile(source.stream)
    return file.schema, lambda name: (file.read_stripe(i, columns=[name]) for i in range(file.nstripes))


def _column(source: Source, schema: pa.Schema) -> list[int]:
    from pyarrow import types

    # The name of a column, its index and that of a field inside, its type.
    places: list[tuple[str, list[int], pa.DataType]] = [
        (str(field.name), [i], field.type) for i, field in enumerate(schema)
    ]
    names, wanted = list(map(str, schema.names)), source.choice.column
    if not (column_choice.named(names, wanted) if wanted else column_choice.known(names)):
        for outer, [i], kind in [place for place in places if types.is_struct(place[2])]:
            places += [(f"{outer}.{one.name}", [i, j], one.type) for j, one in enumerate(kind)]
        places = [place for place in places if not types.is_struct(place[2])]
    # As the header of a table; that its names and no values are known is why a mere `number` may be taken.
    header = [name for name, _, _ in places]
    columns = Table(source, iter([(0, header), (0, ["1"] * len(header))])).columns
    source.reading.header_line = None
    name, path, kind = places[columns[0]]
    if len(columns) > 1:
        what = f"expected one column {name!r}, got {len(columns)}."
        source.refuse(what, "Rename all but the one of order numbers.")
    bare = kind.value_type if types.is_dictionary(kind) else kind
    if not _EXACT.fullmatch(str(bare)):
        what = f"expected text or integers in the column {name!r}, got {kind}."
        source.refuse(what, "Store order numbers as text.")
    return path


def _texts(source: Source, column: pa.Array) -> list[str]:
    import pyarrow as pa
    from pyarrow import types

    column = column.dictionary_decode() if types.is_dictionary(column.type) else column
    is_float = types.is_floating(column.type)
    if is_float or (types.is_decimal(column.type) and column.type.scale):
        source.reading.note("whole numbers were stored as fractions")
        column = column.cast(pa.int64() if is_float else pa.decimal128(38, 0))
        if is_float and any(abs(value or 0) >= 2**53 for value in column.to_pylist()):
            what = "expected text or integers, got floats over 15 digits."
            source.refuse(what, "Store order numbers as text.")
    return [text or "" for text in column.cast(pa.string()).to_pylist()]

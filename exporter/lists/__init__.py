"""An input file's lines to order numbers, with line-numbered complaints.

An order number is 1 to 128 printable characters without white space inside, and not `.` or `..`; what is invisible
around it is stripped, and what spreadsheets, SQL and pandas put around it as well. What is no order number is
reported with its line and the rest continues; what cannot be read with certainty (a cut archive, digits that are lost,
two columns that may be meant) raises `InputError`, because nobody can say what would be asked for.
"""

from collections.abc import Iterator
from typing import BinaryIO

from exporter.lists.batch import MAX_LENGTH, Batch, InvalidLine
from exporter.lists.how_read import Reading, Source, first_line
from exporter.model.options import AskOptions

__all__ = ["MAX_LENGTH", "Batch", "InvalidLine", "Reading", "read"]


def read(
    stream: BinaryIO, *, name: str, choice: AskOptions | None = None, reading: Reading | None = None
) -> Iterator[Batch]:
    """Read order numbers, a batch at a time, in bounded memory.

    A line is a physical line of text, CSV (where the record begins) and JSON Lines, and a row, from 1, of everything
    else. The header of a table and what is above it are no lines of any batch. The ending of `name` counts where
    the content leaves a choice; `reading` is filled in. A stream that must seek, and cannot, is copied to the disk.
    A list of nothing but blank lines is an `InputError` too.
    """
    from exporter.lists import format_choice, packed_list

    name, found = "standard input" if name == "-" else name, False
    source = Source(stream=stream, name=name, choice=choice or AskOptions(), reading=reading or Reading())
    try:
        for batch in format_choice.batches(packed_list.unpacked(source)):
            found = found or batch.blank < batch.line_count
            yield batch
    except (OSError, *packed_list.BROKEN) as error:
        if packed := source.reading.packed:
            source.refuse(f"expected complete {packed} data, got {error}.", "Copy or pack it again.")
        what = f"expected a file that can be read, got {first_line(error)}."
        source.refuse(what, "Copy the file again, or check its disk.")
    finally:
        for file in source.files:
            file.close()
    if not found:
        source.refuse("expected at least one order number, got none.", "Put one order number on each line.")

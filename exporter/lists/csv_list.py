"""CSV: delimiter found, RFC 4180 quoting, lines counted as a text editor counts them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import BinaryIO

from exporter.lists.batch import Batch, InvalidLine, invalid_line, sift
from exporter.lists.table_header import body
from exporter.lists.text_list import blocks
from exporter.model.errors import InputError

_DELIMITERS = (",", ";", "\t")
_BATCH_RECORDS = 1_000  # ten times as many cost half as much time again, in the garbage collector

_Record = tuple[int, list[str]]  # the physical line where it begins, its cells


def read(stream: BinaryIO, name: str, column: str | None) -> Iterator[Batch]:
    """Yield the batches of a CSV; the header is not a line of any batch.

    Raises:
        InputError: When the column is missing, a quote is not closed, or the stream is not UTF-8 text.
    """
    lines = _lines(stream, name)
    blank, opening = _skip_blank(lines)
    if blank:
        yield Batch(lines=(), order_numbers=(), blank=blank)
    if opening:
        records = _records(opening, lines, blank + 1, name)
        index, width, records = body(records, name, column)
        while some := list(islice(records, _BATCH_RECORDS)):
            yield _batch(some, index, width)


def _batch(records: Sequence[_Record], index: int, width: int) -> Batch:
    if all(len(cells) == width for _, cells in records):
        return sift([line for line, _ in records], [cells[index] for _, cells in records])
    return _ragged(records, index, width)


def _ragged(records: Sequence[_Record], index: int, width: int) -> Batch:
    lines: list[int] = []
    texts: list[str] = []
    invalid: list[InvalidLine] = []
    for line, cells in records:
        if _fits(cells, index, width):
            lines.append(line)
            texts.append(cells[index] if index < len(cells) else "")
        else:
            detail = f"A record has as many cells as the header, {width}; this one has {len(cells)}."
            invalid.append(invalid_line(line, cells[index].strip() if index < len(cells) else "", detail))
    return sift(lines, texts, invalid)


def _fits(cells: list[str], index: int, width: int) -> bool:
    # Spreadsheets leave out, or add, empty cells at the end. Anything else may have shifted the columns,
    # and another column's text must not be asked for.
    blank = not any(map(str.strip, cells))
    return blank or len(cells) == width or (index < len(cells) and not any(map(str.strip, cells[width:])))


def _lines(stream: BinaryIO, name: str) -> Iterator[str]:
    # newline="\n", because only there does a physical line end; quoted cells keep theirs.
    return chain.from_iterable(io.StringIO(text + "\n", newline="\n") for _, text in blocks(stream, name))


def _skip_blank(lines: Iterator[str]) -> tuple[int, str]:
    blank = 0
    for line in lines:
        if line.strip():
            return blank, line
        blank += 1
    return blank, ""


def _delimiter(header: str) -> str:
    return max(_DELIMITERS, key=lambda delimiter: len(next(csv.reader([header], delimiter=delimiter))))


def _records(opening: str, lines: Iterable[str], line: int, name: str) -> Iterator[_Record]:
    offset = line
    try:
        reader = csv.reader(chain([opening], lines), delimiter=_delimiter(opening), strict=True)
        for cells in reader:
            yield line, cells
            line = offset + reader.line_num
    except csv.Error as error:
        raise InputError(
            f"{name}:{line}: expected a CSV record (RFC 4180), got one that cannot be read: {error}.",
            "Quote the cells that hold quotes or line breaks, and double the quotes inside.",
        ) from error

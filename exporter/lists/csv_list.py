"""CSV: dialect found by steady widths, RFC 4180 quoting or none, lines counted as a text editor counts them."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from exporter.lists import column_choice
from exporter.lists.batch import Batch, InvalidLine, Sieve, complaint, invalid_line
from exporter.lists.cell_values import is_furniture
from exporter.lists.how_read import Source
from exporter.lists.table_header import Body, body, filled
from exporter.lists.text_list import MAX_LINE_BYTES, Block

_DELIMITERS = ",;\t|^"
_BATCH_RECORDS = 1_000  # ten times as many cost half as much time again, in the garbage collector
_SAMPLE_LINES = 1_000
_SEP_LINE = re.compile(r"\s*sep=(.)\s*")
#: Other arguments of `csv.reader`, in order of trust.
_QUOTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"escapechar": "\\", "doublequote": False},
    {"quoting": csv.QUOTE_NONE},
)
_Record = tuple[int, list[str]]  # the physical line where it begins, its cells


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """How a table is written as text.

    Args:
        delimiter: Between the cells.
        quoting: Other arguments of `csv.reader`.
        score: What tells the best: whether a column's name was found, the part of the lines that are records of the
            same width above 1, that width, and how many records there are.
    """

    delimiter: str
    quoting: dict[str, Any]
    score: tuple[bool, float, int, int]

    @property
    def is_sure(self) -> bool:
        """Whether this is a table, whatever the file's name says."""
        return self.score[0] or self.score[1] >= 0.9


def dialect_of(sample: str, wanted: str | None) -> Dialect:
    """Find the dialect in which a text is a table of the steadiest width.

    Args:
        sample: The text's first lines.
        wanted: A column that is to be there, or None.
    """
    lines = sample.split("\n")[:_SAMPLE_LINES]
    said = _SEP_LINE.fullmatch(next(filter(None, lines), ""))
    sample = "\n".join(lines)
    found = [
        Dialect(delimiter=delimiter, quoting=quoting, score=_score(sample, delimiter, quoting, wanted))
        for delimiter in (said[1] if said else _DELIMITERS)
        for quoting in (_QUOTINGS if delimiter in sample else _QUOTINGS[:1])
    ]
    # The more trusted quoting first: with none at all, a cell's inner lines would count as records.
    return max(found, key=lambda one: (*one.score[:3], -_QUOTINGS.index(one.quoting), one.score[3]))


def _score(
    sample: str, delimiter: str, quoting: dict[str, Any], wanted: str | None
) -> tuple[bool, float, int, int]:
    records: list[list[str]] = []
    swallowed = 0
    reader = csv.reader(io.StringIO(sample, newline="\n"), delimiter=delimiter, strict=True, **quoting)
    try:
        records.extend([column_choice.shown(cell) for cell in record] for record in reader)
    except csv.Error:
        swallowed = sample.count("\n") + 2 - reader.line_num
    widths = Counter(width for record in records if (width := filled(record)))
    width = max((width for width in widths if width > 1), key=lambda width: widths[width], default=0)
    share = widths[width] / ((widths.total() + swallowed) or 1)
    tables = [record for record in records[:20] if len(record) > 1]
    known = any(column_choice.named(one, wanted) if wanted else column_choice.known(one) for one in tables)
    return known and share > 0.5, round(share, 2), width, widths[width]


def read(source: Source, blocks: Iterator[Block], dialect: Dialect) -> Iterator[Batch]:
    """Yield the batches of a CSV; its header and what stands above are not lines of any batch.

    Raises:
        InputError: When the column is missing, a quote is not closed, or the stream is no text.
    """
    source.reading.format = "csv"
    source.reading.delimiter = dialect.delimiter if dialect.score[1] else None
    sieve = Sieve(source)
    long: set[int] = set()
    table = body(_records(source, blocks, dialect, long), source, sieve)
    if table.blank:
        yield Batch(lines=(), order_numbers=(), blank=table.blank)
    while some := list(islice(table.records, _BATCH_RECORDS)):
        for line, cells in some if long else ():
            if line in long:
                _check_swallowed(source, line, cells, table, dialect.delimiter)
        long.clear()
        table.check_twins(source, some)
        yield _batch(some, table, sieve)


def _batch(records: Sequence[_Record], table: Body[list[str]], sieve: Sieve) -> Batch:
    index, width = table.columns[0], table.width
    if all(len(cells) == width for _, cells in records):
        return sieve.sift([line for line, _ in records], [cells[index] for _, cells in records])
    lines: list[int] = []
    texts: list[str] = []
    invalid: list[InvalidLine] = []
    for line, cells in records:
        text = cells[index] if index < len(cells) else ""
        if _fits(cells, width):
            lines.append(line)
            texts.append(text)
        else:
            detail = f"A record has as many cells as the header, {width}; this one has {len(cells)}."
            invalid.append(invalid_line(line, text.strip(), detail))
    return sieve.sift(lines, texts, invalid)


def _fits(cells: list[str], width: int) -> bool:
    # Spreadsheets leave out, or add, empty cells at the end. Anything else may have shifted the columns,
    # and another column's text must not be asked for.
    if len(cells) < width and is_furniture("".join(cells).strip()):
        cells.clear()
    return len(cells) == width or not any(map(str.strip, cells if len(cells) < width else cells[width:]))


def _check_swallowed(
    source: Source, line: int, cells: list[str], table: Body[list[str]], delimiter: str
) -> None:
    """Refuse a cell that holds records: its quote was not closed before it had swallowed them."""
    index, width = table.columns[0], table.width
    for inner in (inner for cell in cells for inner in cell.split("\n")[1:]):
        pieces = inner.split(delimiter)
        piece = pieces[index].strip(' "') if index < len(pieces) == width > 1 else ""
        if complaint(piece) is None and any(map(str.isdigit, piece)):
            source.refuse(
                f"expected a quote that is closed, got a cell that holds a record: {inner[:60]!r}.",
                "Double the quotes inside quoted cells, or quote none and separate by tabs.",
                line,
            )


def _records(source: Source, blocks: Iterator[Block], dialect: Dialect, long: set[int]) -> Iterator[_Record]:
    """Yield the records, and note in `long` the lines of those that take more than one."""
    # newline="\n", because only there does a physical line end; quoted cells keep theirs.
    lines = chain.from_iterable(io.StringIO(text + "\n", newline="\n") for _, text in blocks)
    # Of the whole process, so it is only ever raised; the lines are bounded anyway.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    line = 1
    try:
        reader = csv.reader(lines, delimiter=dialect.delimiter, strict=True, **dialect.quoting)
        for cells in reader:
            following = reader.line_num + 1
            if following - line > 1:
                long.add(line)
            yield line, cells
            line = following
    except csv.Error as error:
        source.refuse(
            f"expected a CSV record (RFC 4180), got one that cannot be read: {error}.",
            "Quote the cells that hold quotes or line breaks, and double the quotes inside.",
            line,
        )

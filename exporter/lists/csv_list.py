"""CSV: dialect found by steady widths, RFC 4180 quoting or none, lines counted as a text editor counts them."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

from exporter.lists import column_choice
from exporter.lists.batch import complaint
from exporter.lists.how_read import Source
from exporter.lists.table import Cells, Record, Table, filled
from exporter.lists.text_list import MAX_LINE_BYTES, Block

_DELIMITERS = ",;\t|^"
_SAMPLE_LINES = 1_000
_SEP_LINE = re.compile(r"\s*sep=(.)\s*")
#: Other arguments of `csv.reader`, in order of trust.
_QUOTINGS: tuple[dict[str, Any], ...]
_QUOTINGS = ({}, {"escapechar": "\\", "doublequote": False}, {"quoting": csv.QUOTE_NONE})


class Dialect(NamedTuple):
    """How a table is written as text: what is between cells, other arguments of `csv.reader`, and how well it fits."""

    delimiter: str
    quoting: dict[str, Any]
    is_known: bool  # whether a column's name was found
    share: float  # the part of the lines that are records of the same width above 1
    width: int
    records: int  # of that width


def dialect_of(sample: str, wanted: str | None) -> Dialect:
    """Find the dialect in which a text, given its first lines, is a table of the steadiest width."""
    lines = sample.split("\n")[:_SAMPLE_LINES]
    said = _SEP_LINE.fullmatch(next(filter(None, lines), ""))
    sample = "\n".join(lines)
    found = [
        _dialect(sample, delimiter, quoting, wanted)
        for delimiter in (said[1] if said else _DELIMITERS)
        for quoting in (_QUOTINGS if delimiter in sample else _QUOTINGS[:1])
    ]
    # The more trusted quoting first: with none at all, a cell's inner lines would count as records.
    best = max(found, key=lambda one: (*one[2:5], -_QUOTINGS.index(one.quoting), one.records))
    # Programs that separate by tabs mostly do not quote. Where each line is a record by itself, a quote is a quote.
    full = sum(1 for line in lines if line.strip())
    bare = (one for one in found if "quoting" in one.quoting and one.records == full > best.records)
    return next((one for one in bare if one.delimiter == best.delimiter == "\t"), best)


def _dialect(sample: str, delimiter: str, quoting: dict[str, Any], wanted: str | None) -> Dialect:
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
    rows = [record for record in records[:20] if len(record) > 1]
    known = any(column_choice.named(one, wanted) if wanted else column_choice.known(one) for one in rows)
    return Dialect(delimiter, quoting, known and share > 0.5, round(share, 2), width, widths[width])


class CsvTable(Table):
    """The table that a CSV is."""

    def __init__(self, source: Source, blocks: Iterator[Block], dialect: Dialect) -> None:
        source.reading.format = "csv"
        source.reading.delimiter = dialect.delimiter if dialect.share else None
        self._long: set[int] = set()  # the lines of records that take more than one
        self._dialect = dialect
        super().__init__(source, self._read(source, blocks))

    def check(self, records: list[Record]) -> None:
        """Refuse records that swallowed others, too."""
        for line, cells in records if self._long else ():
            if line in self._long:
                self._check_swallowed(line, cells)
        self._long.clear()
        super().check(records)

    def _check_swallowed(self, line: int, cells: Cells) -> None:
        index = self.columns[0]
        for inner in (inner for cell in cells for inner in cell.split("\n")[1:]):
            pieces = inner.split(self._dialect.delimiter)
            piece = pieces[index].strip(' "') if index < len(pieces) == self.width > 1 else ""
            if complaint(piece) is None and any(map(str.isdigit, piece)):
                what = f"expected a quote that is closed, got a cell that holds a record: {inner[:60]!r}."
                hint = "Double the quotes inside quoted cells, or quote none and separate by tabs."
                self.source.refuse(what, hint, line)

    def _read(self, source: Source, blocks: Iterator[Block]) -> Iterator[Record]:
        # newline="\n", because only there does a physical line end; quoted cells keep theirs.
        lines = chain.from_iterable(io.StringIO(text + "\n", newline="\n") for _, text in blocks)
        # Of the whole process, so it is only ever raised; the lines are bounded anyway.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
        delimiter, quoting, *_ = self._dialect
        line = 1
        try:
            reader = csv.reader(lines, delimiter=delimiter, strict=True, **quoting)
            for cells in reader:
                if reader.line_num > line:
                    self._long.add(line)
                yield line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            what = f"expected a CSV record (RFC 4180), got one that cannot be read: {error}."
            hint = "Quote the cells that hold quotes or line breaks, and double the quotes inside."
            source.refuse(what, hint, line)

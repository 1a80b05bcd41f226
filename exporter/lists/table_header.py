"""A table's header found below titles and blank rows, and with it the column of order numbers."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Generic, NoReturn, TypeVar

from exporter.lists import column_choice
from exporter.lists.batch import Sieve, complaint
from exporter.lists.cell_values import INVISIBLE, is_furniture, unwrapped
from exporter.lists.how_read import Source

Cells = TypeVar("Cells", bound=Sequence[object])

_LOOKED_AT = 100  # rows
_HIGHEST_HEADERS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Body(Generic[Cells]):
    """What stands below a header.

    Args:
        columns: The indexes of the columns of order numbers; they must agree in every row.
        width: How many columns the header names.
        blank: How many blank rows stood above.
        records: (line, cells) of each row below.
    """

    columns: list[int]
    width: int
    blank: int
    records: Iterator[tuple[int, Cells]]

    def check_twins(self, source: Source, records: Sequence[tuple[int, Cells]]) -> None:
        """Refuse records in which columns that are called alike hold different texts."""
        for line, cells in records if len(self.columns) > 1 else ():
            values = {str(cells[index]).strip() for index in self.columns if index < len(cells)}
            if len(values) > 1:
                choices = " or ".join(f"--column {index + 1}" for index in self.columns)
                got = ", ".join(map(repr, sorted(values)))
                source.refuse(
                    f"expected the same in columns that are called alike, got {got}.",
                    f"Give {choices}.",
                    line,
                )


def body(records: Iterator[tuple[int, Cells]], source: Source, sieve: Sieve) -> Body[Cells]:
    """Find the header of a table, or that it has none.

    Args:
        records: (line, cells) for each row; blank ones may be among them.
        source: The list.
        sieve: Learns what the header is called.

    Raises:
        InputError: There is no such column, or nobody can know which one it is.
    """
    top = list(islice(records, _LOOKED_AT))
    rows = [[column_choice.shown(cell) for cell in cells] for _, cells in top]
    at, columns = _Search(source, [line for line, _ in top], rows).found()
    header = rows[at] if at is not None else []
    begin = 0 if at is None else at + 1
    blank = sum(not any(row) for row in rows[:begin])
    reading = source.reading
    if at is not None:
        reading.header_line = top[at][0]
        sieve.know_header(header[columns[0]])
        for (line, _), row in zip(top[:at], rows[:at], strict=True):
            if any(row) and not is_furniture("".join(row)):
                reading.note(f"line {line}, {' '.join(filter(None, row))[:60]!r}, was taken for a title")
    reading.column = (header[columns[0]] if header else "") or str(columns[0] + 1)
    width = max((i + 1 for i, name in enumerate(header) if name), default=0) or _width(rows)
    return Body(
        columns=columns, width=max(width, columns[0] + 1), blank=blank, records=chain(top[begin:], records)
    )


def rank(rows: list[list[str]]) -> int:
    """Return how sure the best known column among the first rows is, 0 the surest."""
    ranks = (found.rank for row in rows[:_HIGHEST_HEADERS] if (found := column_choice.known(row)) is not None)
    return min(ranks, default=len(column_choice.KNOWN))


def is_header(first: str, others: Sequence[str]) -> bool:
    """Return whether the first of a column's texts is its header and no order number.

    Args:
        first: The first text that is not blank.
        others: Some of those below, blank ones left out.
    """
    if column_choice.is_known(first):
        return True
    numbers = [text for text in map(unwrapped, others) if complaint(text) is None]
    if not any(map(str.isdigit, first)):
        return True
    if first == "0":  # the name that pandas gives
        return bool(numbers) and all(len(number) > 1 for number in numbers)
    odd = complaint(unwrapped(first)) is not None and any(map(str.isalpha, first))
    return odd and bool(numbers) and len(numbers) * 2 > len(others)


class _Search:
    """The search for the header among a table's first rows."""

    def __init__(self, source: Source, lines: list[int], rows: list[list[str]]) -> None:
        self._source = source
        self._lines = lines
        self._rows = rows

    def found(self) -> tuple[int | None, list[int]]:
        """Return the header's index among the rows, None for no header, and the columns."""
        if self._source.choice.column is not None:
            return self._wanted(self._source.choice.column)
        best = rank(self._rows)
        for at, row in enumerate(self._rows[:_HIGHEST_HEADERS]):
            found = column_choice.known(row)
            if found is not None and found.rank == best:
                return at, self._sure(at, found)
        return self._only()

    def _wanted(self, wanted: str) -> tuple[int | None, list[int]]:
        for at, row in enumerate(self._rows[:_HIGHEST_HEADERS]):
            if columns := column_choice.named(row, wanted):
                return at, self._agreeing(at, columns)
        index = column_choice.position(wanted)
        if index is None or index >= _width(self._rows):
            self._missing(repr(wanted))
        at = self._first_row()
        texts = self._texts(index, at)
        is_named = bool(texts) and self._rows[at][index] != "" and is_header(texts[0], texts[1:])
        return (at if is_named or not self._rows[at][index] else None), [index]

    def _only(self) -> tuple[int | None, list[int]]:
        width = _width(self._rows)
        full = [i for i in range(width) if self._texts(i, 0)]
        if len(full) != 1:
            self._missing("of order numbers")
        at = next(at for at, row in enumerate(self._rows) if any(row))
        texts = self._texts(full[0], at)
        if not is_header(texts[0], texts[1:]):
            return None, full
        if len(texts) > 1 and not any(any(map(str.isdigit, text)) for text in texts[1:]):
            self._missing("of order numbers")
        return at, full

    def _sure(self, at: int, found: column_choice.Found) -> list[int]:
        row = self._rows[at]
        name = row[found.columns[0]]
        if found.rival is not None:
            self._doubtful(at, [name, found.rival])
        if found.rank == 1 and "id" in map(column_choice.plain, row):
            ids = self._texts([column_choice.plain(cell) for cell in row].index("id"), at + 1)
            if len(set(self._texts(found.columns[0], at + 1))) < len(set(ids)):
                self._doubtful(at, [name, "id"])
        return self._agreeing(at, found.columns)

    def _agreeing(self, at: int, columns: list[int]) -> list[int]:
        names = [self._rows[at][index] for index in columns]
        texts = [self._texts(index, at + 1) for index in columns]
        if any(other != texts[0] for other in texts):
            self._doubtful(at, names)
        return columns

    def _doubtful(self, at: int, names: list[str]) -> NoReturn:
        if len(set(names)) == 1:
            words = [str(i + 1) for i, name in enumerate(self._rows[at]) if name == names[0]]
        else:
            words = list(map(shlex.quote, names))
        choices = " or ".join(f"--column {word}" for word in words)
        self._source.refuse(
            f"expected one column of order numbers, got {' and '.join(map(repr, names))}.",
            f"Say which it is: {choices}.",
            self._lines[at],
        )

    def _missing(self, expected: str) -> NoReturn:
        at = self._first_row()
        names = self._rows[at] if self._rows else []
        named = (name for name in names if name and not any(map(str.isdigit, name)))
        example = shlex.quote(next(named, "NAME"))
        self._source.refuse(
            f"expected one column {expected}, got {column_choice.listed(names)}.",
            f"Name the column of order numbers, as in --column {example} or --column 1 for the first.",
            (self._lines[at] or None) if self._lines else None,
        )

    def _first_row(self) -> int:
        width = _width(self._rows)
        full = [at for at, row in enumerate(self._rows) if filled(row) == width]
        return next(iter(full), 0)

    def _texts(self, index: int, start: int) -> list[str]:
        """Return a column's first texts, without blank ones."""
        return [row[index] for row in self._rows[start:] if index < len(row) and row[index].strip(INVISIBLE)]


def filled(row: list[str]) -> int:
    """Return how many cells a row has up to the last one that is not blank."""
    return next((i for i in range(len(row), 0, -1) if row[i - 1]), 0)


def _width(rows: list[list[str]]) -> int:
    """Return how many columns most of the rows have, blank ones left out."""
    widths = Counter(filter(None, map(filled, rows)))
    return max(widths, key=lambda width: (widths[width], width), default=0)

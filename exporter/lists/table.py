"""A table's rows to batches: its header found below titles and blank rows, and with it the column of order numbers."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NoReturn

from exporter.lists import column_choice
from exporter.lists.batch import Batch, NoOrderNumberError, Sieve, complaint, text_of
from exporter.lists.cell_values import INVISIBLE, is_furniture, unwrapped
from exporter.lists.how_read import Source

Cells = Sequence[Any]
Record = tuple[int, Cells]
"""A row's line and its cells."""

_LOOKED_AT = 100  # rows
_HIGHEST_HEADERS = 20
_BATCH_RECORDS = 1_000  # ten times as many cost half as much time again, in the garbage collector


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
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
    records: Iterator[Record]

    def text(self, _: int, cells: Cells) -> str:
        """Return what a row has in the column of order numbers, as `Sieve.sift_each` wants it."""
        width, index = self.width, self.columns[0]
        if len(cells) < width and is_furniture("".join(map(str, cells)).strip()):
            return ""
        # Spreadsheets leave out, or add, empty cells at the end. Anything else may have shifted the columns,
        # and another column's text must not be asked for.
        beyond = cells if len(cells) < width else cells[width:]
        if any(column_choice.shown(cell) for cell in beyond):
            shown = column_choice.shown(cells[index]) if index < len(cells) else ""
            got = f"{width}; this one has {len(cells)}."
            raise NoOrderNumberError(shown, f"A record has as many cells as the header, {got}")
        return text_of(cells[index]) if index < len(cells) else ""

    def batch(self, records: list[Record], sieve: Sieve) -> Batch:
        """Return the batch of some rows."""
        lines, rows = [line for line, _ in records], [cells for _, cells in records]
        if all(len(cells) == self.width for cells in rows):
            texts = [cells[self.columns[0]] for cells in rows]
            if all(type(text) is str for text in texts):
                return sieve.sift(lines, texts)
        return sieve.sift_each(lines, rows, self.text)


def batches(
    source: Source, records: Iterator[Record], check: Callable[[Table, list[Record]], None] | None = None
) -> Iterator[Batch]:
    """Yield the batches of a table; its header and what stands above are not lines of any batch.

    Args:
        source: The list.
        records: (line, cells) for each row; blank ones may be among them.
        check: Looks at some rows before they are sifted, and may refuse them.

    Raises:
        InputError: There is no such column, or nobody can know which one it is.
    """
    sieve = Sieve(source)
    table = found(source, records, sieve)
    if table.blank:
        yield Batch(lines=(), order_numbers=(), blank=table.blank)
    while some := list(islice(table.records, _BATCH_RECORDS)):
        if check is not None:
            check(table, some)
        check_twins(source, table, some)
        yield table.batch(some, sieve)


def check_twins(source: Source, table: Table, records: list[Record]) -> None:
    """Refuse rows in which columns that are called alike hold different texts."""
    for line, cells in records if len(table.columns) > 1 else ():
        values = {str(cells[index]).strip() for index in table.columns if index < len(cells)}
        if len(values) > 1:
            choices = " or ".join(f"--column {index + 1}" for index in table.columns)
            got = ", ".join(map(repr, sorted(values)))
            source.refuse(
                f"expected the same in columns that are called alike, got {got}.", f"Give {choices}.", line
            )


def found(source: Source, records: Iterator[Record], sieve: Sieve) -> Table:
    """Find the header of a table, or that it has none; the sieve learns what it is called."""
    top = list(islice(records, _LOOKED_AT))
    rows = shown(cells for _, cells in top)
    at, columns = _Search(source, top, rows).found()
    header = rows[at] if at is not None else []
    begin = 0 if at is None else at + 1
    reading = source.reading
    if at is not None:
        reading.header_line = top[at][0]
        sieve.know_header(header[columns[0]])
        for (line, _), row in zip(top[:at], rows[:at], strict=True):
            if any(row) and not is_furniture("".join(row)):
                reading.note(f"line {line}, {' '.join(filter(None, row))[:60]!r}, was taken for a title")
    reading.column = (header[columns[0]] if header else "") or str(columns[0] + 1)
    return Table(
        columns=columns,
        width=max(filled(header) or _width(rows), columns[0] + 1),
        blank=sum(not any(row) for row in rows[:begin]),
        records=chain(top[begin:], records),
    )


def shown(rows: Iterator[Cells]) -> list[list[str]]:
    """Return the first of some rows as texts."""
    return [[column_choice.shown(cell) for cell in cells] for cells in islice(rows, _LOOKED_AT)]


def choose(
    source: Source, names: list[str], tops: Callable[[], dict[str, list[list[str]]]], *, surest: bool = False
) -> str | None:
    """Return the name of the table to read; None where none has a column of order numbers.

    Args:
        source: The list.
        names: Of all tables.
        tops: Gives the first rows of those that may be meant.
        surest: Whether a surer name of a column is enough to prefer a table, or none at all.

    Raises:
        InputError: Several may be meant, or not one is called as the user wants.
    """
    if (wanted := source.choice.sheet) is not None:
        asked = column_choice.named(names, wanted) or [i for i in range(len(names)) if str(i + 1) == wanted]
        return names[asked[0]] if len(asked) == 1 else _refuse_tables(source, names, repr(wanted))
    ranks = {name: _rank_of(rows, source.choice.column) for name, rows in tops().items()}
    bound = min(ranks.values(), default=0) if surest else len(column_choice.KNOWN) - 1
    best = [name for name, rank in ranks.items() if rank <= bound]
    if len(best) > 1:
        _refuse_tables(source, best, "with order numbers")
    if best and (others := [repr(name) for name in names if name != best[0]]):
        source.reading.note(f"other sheets were not read: {', '.join(others)}")
    return best[0] if best else None


def _refuse_tables(source: Source, names: list[str], expected: str) -> NoReturn:
    choices = " or ".join(f"--sheet {shlex.quote(name)}" for name in names[:5])
    got = ", ".join(map(repr, names[:20]))
    source.refuse(f"expected one sheet {expected}, got the sheets {got}.", f"Give {choices}.")


def _rank_of(rows: list[list[str]], wanted: str | None = None) -> int:
    """Return how sure the best known column among the first rows is, 0 the surest."""
    none = len(column_choice.KNOWN)
    if wanted is not None:
        return 0 if any(column_choice.named(row, wanted) for row in rows[:_HIGHEST_HEADERS]) else none
    found = map(column_choice.known, rows[:_HIGHEST_HEADERS])
    return min((one.rank for one in found if one is not None), default=none)


def is_header(first: str, others: Sequence[str]) -> bool:
    """Return whether the first of a column's texts is its header and no order number.

    Args:
        first: The first text that is not blank.
        others: Some of those below, blank ones left out.
    """
    if column_choice.is_known(first) or not any(map(str.isdigit, first)):
        return True
    numbers = [text for text in map(unwrapped, others) if complaint(text) is None]
    if first == "0":  # the name that pandas gives
        return bool(numbers) and all(len(number) > 1 for number in numbers)
    odd = complaint(unwrapped(first)) is not None and any(map(str.isalpha, first))
    return odd and bool(numbers) and len(numbers) * 2 > len(others)


class _Search:
    """The search for the header among a table's first rows."""

    def __init__(self, source: Source, top: list[Record], rows: list[list[str]]) -> None:
        self._source = source
        self._top = top
        self._rows = rows

    def found(self) -> tuple[int | None, list[int]]:
        """Return the header's index among the rows, None for no header, and the columns."""
        if self._source.choice.column is not None:
            return self._wanted(self._source.choice.column)
        best = _rank_of(self._rows)
        for at, row in enumerate(self._rows[:_HIGHEST_HEADERS]):
            one = column_choice.known(row)
            if one is not None and one.rank == best:
                return at, self._sure(at, one)
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
        full = [i for i in range(_width(self._rows)) if self._texts(i, 0)]
        at = next((at for at, row in enumerate(self._rows) if any(row)), 0)
        if len(full) > 1:
            full = self._possible(at, full)
        if len(full) != 1:
            self._missing("of order numbers")
        texts = self._texts(full[0], at)
        if not is_header(texts[0], texts[1:]):
            return None, full
        if len(texts) > 1 and not any(any(map(str.isdigit, text)) for text in texts[1:]):
            self._missing("of order numbers")
        return at, full

    def _possible(self, at: int, full: list[int]) -> list[int]:
        """Leave out columns that begin, without a header, with what is neither text nor integer."""
        possible = [i for i in full if i >= len(self._rows[at]) or _may_be_number(self._top[at][1][i])]
        if len(possible) == 1 < len(full):
            self._source.reading.note("the other columns hold neither texts nor integers")
        return possible

    def _sure(self, at: int, one: column_choice.Found) -> list[int]:
        row = self._rows[at]
        name = row[one.columns[0]]
        if one.rival is not None:
            self._doubtful(at, [name, one.rival])
        spelled = [column_choice.plain(cell) for cell in row]
        if one.rank == 1 and "id" in spelled:
            ids = self._texts(spelled.index("id"), at + 1)
            if len(set(self._texts(one.columns[0], at + 1))) < len(set(ids)):
                self._doubtful(at, [name, "id"])
        return self._agreeing(at, one.columns)

    def _agreeing(self, at: int, columns: list[int]) -> list[int]:
        texts = [self._texts(index, at + 1) for index in columns]
        if any(other != texts[0] for other in texts):
            self._doubtful(at, [self._rows[at][index] for index in columns])
        return columns

    def _doubtful(self, at: int, names: list[str]) -> NoReturn:
        if len(set(names)) == 1:
            words = [str(i + 1) for i, name in enumerate(self._rows[at]) if name == names[0]]
        else:
            words = list(map(shlex.quote, names))
        self._source.refuse(
            f"expected one column of order numbers, got {' and '.join(map(repr, names))}.",
            f"Say which it is: {' or '.join(f'--column {word}' for word in words)}.",
            self._top[at][0],
        )

    def _missing(self, expected: str) -> NoReturn:
        at = self._first_row()
        names = self._rows[at] if self._rows else []
        named = (name for name in names if name and not any(map(str.isdigit, name)))
        example = shlex.quote(next(named, "NAME"))
        self._source.refuse(
            f"expected one column {expected}, got {column_choice.listed(names)}.",
            f"Name the column of order numbers, as in --column {example} or --column 1 for the first.",
            (self._top[at][0] or None) if self._top else None,
        )

    def _first_row(self) -> int:
        width = _width(self._rows)
        return next((at for at, row in enumerate(self._rows) if filled(row) == width), 0)

    def _texts(self, index: int, start: int) -> list[str]:
        """Return a column's first texts, without blank ones."""
        return [row[index] for row in self._rows[start:] if index < len(row) and row[index].strip(INVISIBLE)]


def filled(row: list[str]) -> int:
    """Return how many cells a row has up to the last one that is not blank."""
    return next((i for i in range(len(row), 0, -1) if row[i - 1]), 0)


def _may_be_number(cell: object) -> bool:
    try:
        text_of(cell)
    except NoOrderNumberError:
        return False
    return True


def _width(rows: list[list[str]]) -> int:
    """Return how many columns most of the rows have, blank ones left out."""
    widths = Counter(filter(None, map(filled, rows)))
    return max(widths, key=lambda width: (widths[width], width), default=0)

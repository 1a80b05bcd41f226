"""A table's rows to batches: its header found below titles and blank rows, and with it the column of order numbers."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NoReturn

from exporter.lists import column_choice
from exporter.lists.batch import Batch, NoOrderNumberError, Sieve, complaint, text_of
from exporter.lists.cell_values import is_furniture, unwrapped
from exporter.lists.how_read import Source
from exporter.system.shell_words import shell_word

Cells = Sequence[Any]
Record = tuple[int, Cells]  # a row's line and its cells
Rows = list[list[str]]
Tables = Mapping[str, Callable[[], Iterator[Cells]]]  # the rows of each table of a file, by its name

_LOOKED_AT = 100  # rows
_HIGHEST_HEADERS = 20
_BATCH_RECORDS = 1_000  # ten times as many cost half as much time again, in the garbage collector
_UNKNOWN = len(column_choice.KNOWN)


class Table:
    """A table of records, of which some may be blank; its header and what is above are not lines of any batch."""

    def __init__(self, source: Source, records: Iterator[Record]) -> None:
        self.source = source
        self.sieve = Sieve(source)
        self._top = list(islice(records, _LOOKED_AT))
        self._rows = shown(cells for _, cells in self._top)
        at, self.columns = self._found()  # several of them must agree in every row
        header = self._rows[at] if at is not None else []
        if at is not None:
            source.reading.header_line = self._top[at][0]
            self.sieve.know_header(header[self.columns[0]])
            for (line, _), row in zip(self._top[:at], self._rows, strict=False):
                if any(row) and not is_furniture("".join(row)):
                    title = " ".join(filter(None, row))[:60]
                    source.reading.note(f"line {line}, {title!r}, was taken for a title")
        source.reading.column = (header[self.columns[0]] if header else "") or str(self.columns[0] + 1)
        self.width = max(filled(header) or self._width, self.columns[0] + 1)
        begin = 0 if at is None else at + 1
        self._blank = sum(not any(row) for row in self._rows[:begin])
        self._records = chain(self._top[begin:], records)

    def batches(self) -> Iterator[Batch]:
        """Yield the batches of the rows below the header."""
        if self._blank:
            yield Batch(lines=(), order_numbers=(), blank=self._blank)
        while some := list(islice(self._records, _BATCH_RECORDS)):
            self.check(some)
            yield self.batch([line for line, _ in some], [cells for _, cells in some])

    def check(self, records: list[Record]) -> None:
        """Refuse rows in which columns that are called alike hold different texts."""
        for line, cells in records if len(self.columns) > 1 else ():
            values = {str(cells[index]).strip() for index in self.columns if index < len(cells)}
            if len(values) > 1:
                got = ", ".join(map(repr, sorted(values)))
                what = f"expected the same in columns that are called alike, got {got}."
                self.source.refuse(what, f"Give {_choices([str(i + 1) for i in self.columns])}.", line)

    def batch(self, lines: list[int], rows: list[Cells]) -> Batch:
        """Return the batch of some rows."""
        if all(len(cells) == self.width for cells in rows):
            texts = [cells[self.columns[0]] for cells in rows]
            if all(type(text) is str for text in texts):
                return self.sieve.sift(lines, texts)
        return self.sieve.sift_each(lines, rows, self.text)

    def text(self, line: int, cells: Cells) -> str:
        """Return what a row has in the column of order numbers, as `Sieve.sift_each` wants it."""
        del line
        width, index = self.width, self.columns[0]
        text = text_of(cells[index]) if index < len(cells) else ""
        # Spreadsheets leave out, or add, empty cells at the end. Anything else may have shifted the columns,
        # and another column's text must not be asked for.
        if len(cells) == width or not any(map(column_choice.shown, cells[width * (len(cells) > width) :])):
            return text
        if len(cells) < width and is_furniture("".join(map(str, cells)).strip()):
            return ""
        detail = f"A record has as many cells as the header, {width}; this one has {len(cells)}."
        raise NoOrderNumberError(column_choice.shown(text), detail)

    def _found(self) -> tuple[int | None, list[int]]:  # the header's index among the rows, and the columns
        if self.source.choice.column is not None:
            return self._wanted(self.source.choice.column)
        best = _rank(self._rows)
        for at, row in enumerate(self._rows[:_HIGHEST_HEADERS]):
            if (one := column_choice.known(row)) is not None and one.rank == best:
                return at, self._sure(at, one)
        return self._only()

    def _wanted(self, wanted: str) -> tuple[int | None, list[int]]:
        for at, row in enumerate(self._rows[:_HIGHEST_HEADERS]):
            if columns := column_choice.named(row, wanted):
                return at, self._agreeing(at, columns)
        index = column_choice.position(wanted)
        if index is None or index >= self._width:
            self._missing(repr(wanted))
        at, name = self._first_row, self._rows[self._first_row][index]
        return (None if name and not is_header(name, self._texts(index, at)[1:]) else at), [index]

    def _only(self) -> tuple[int | None, list[int]]:
        at = next((at for at, row in enumerate(self._rows) if any(row)), 0)
        full = [i for i in range(self._width) if self._texts(i, 0)]
        # Without a header, a column that holds nothing but what is neither text nor integer is none of order numbers.
        first = [cells for _, cells in self._top]
        possible = [i for i in full if any(_may_be_number(cells[i]) for cells in first if i < len(cells))]
        if len(possible) != 1:
            self._missing("of order numbers")
        name, *texts = self._texts(possible[0], at)
        if not is_header(name, texts):
            if len(full) > 1:
                self.source.reading.note("the other columns hold neither texts nor integers")
            return None, possible
        if len(full) > 1 or (texts and not any(map(str.isdigit, "".join(texts)))):
            self._missing("of order numbers")
        return at, possible

    def _sure(self, at: int, one: column_choice.Found) -> list[int]:
        row = self._rows[at]
        spelled = [column_choice.plain(cell) for cell in row]
        rival = one.rival
        if one.rank == 1 and "id" in spelled:
            numbers, ids = (set(self._texts(i, at + 1)) for i in (one.columns[0], spelled.index("id")))
            rival = rival or ("id" if len(numbers) < len(ids) else None)
        if rival is not None:
            self._doubtful(at, [row[one.columns[0]], rival])
        return self._agreeing(at, one.columns)

    def _agreeing(self, at: int, columns: list[int]) -> list[int]:
        if len({tuple(self._texts(index, at + 1)) for index in columns}) > 1:
            self._doubtful(at, [self._rows[at][index] for index in columns])
        return columns

    def _doubtful(self, at: int, names: list[str]) -> NoReturn:
        alike = [str(i + 1) for i, name in enumerate(self._rows[at]) if name == names[0]]
        what = f"expected one column of order numbers, got {' and '.join(map(repr, names))}."
        hint = f"Say which it is: {_choices(alike if len(set(names)) == 1 else names)}."
        self.source.refuse(what, hint, self._top[at][0])

    def _missing(self, expected: str) -> NoReturn:
        names = self._rows[self._first_row] if self._rows else []
        named = (name for name in names if name and not any(map(str.isdigit, name)))
        example = shell_word(next(named, "NAME"))
        what = f"expected one column {expected}, got {column_choice.listed(names)}."
        hint = f"Name the column of order numbers, as in --column {example} or --column 1 for the first."
        self.source.refuse(what, hint, (self._top[self._first_row][0] or None) if self._top else None)

    @property
    def _width(self) -> int:
        """How many columns most of the rows have, blank ones left out."""
        widths = Counter(filter(None, map(filled, self._rows)))
        return max(widths, key=lambda width: (widths[width], width), default=0)

    @property
    def _first_row(self) -> int:
        return next((at for at, row in enumerate(self._rows) if filled(row) == self._width), 0)

    def _texts(self, index: int, start: int) -> list[str]:
        return [row[index] for row in self._rows[start:] if index < len(row) and row[index]]


def choose(source: Source, tables: Tables, visible: Sequence[str] | None = None) -> str | None:
    """Return the name of the table to read; None where none has a column of order numbers.

    Where only some are `visible`, as sheets are, the surest name of a column prefers a table, or no name at all.
    """
    names = list(tables)
    if (wanted := source.choice.sheet) is not None:
        asked = column_choice.named(names, wanted) or [i for i in range(len(names)) if str(i + 1) == wanted]
        return names[asked[0]] if len(asked) == 1 else _refuse_tables(source, names, repr(wanted))
    tops = {name: shown(tables[name]()) for name in (names if visible is None else visible)}
    ranks = {name: _rank(rows, source.choice.column) for name, rows in tops.items() if any(map(any, rows))}
    best = [name for name, rank in ranks.items() if rank == min(ranks.values())]
    if visible is None:
        # In a table beside others, a mere `number` is that of something else, unless it is one of orders.
        mere = [name for name in ranks if re.search("order|siparis", column_choice.plain(name))]
        best = [name for name in ranks if ranks[name] <= (_UNKNOWN - 1 if len(ranks) == 1 else name in mere)]
    if len(best) > 1:
        _refuse_tables(source, best, "with order numbers")
    if best and (others := [repr(name) for name in names if name != best[0]]):
        source.reading.note(f"other sheets were not read: {', '.join(others)}")
    return best[0] if best else None


def _refuse_tables(source: Source, names: list[str], expected: str) -> NoReturn:
    got = ", ".join(map(repr, names[:20]))
    hint = f"Give {_choices(names[:5], option='--sheet')}."
    source.refuse(f"expected one sheet {expected}, got the sheets {got}.", hint)


def _choices(names: Sequence[str], option: str = "--column") -> str:
    return " or ".join(f"{option} {shell_word(name)}" for name in names)


def _rank(rows: Rows, wanted: str | None = None) -> int:  # of the surest known column, 0 the best
    highest = rows[:_HIGHEST_HEADERS]
    if wanted is not None:
        return 0 if any(column_choice.named(row, wanted) for row in highest) else _UNKNOWN
    found = map(column_choice.known, highest)
    return min((one.rank for one in found if one is not None), default=_UNKNOWN)


def shown(rows: Iterator[Cells]) -> Rows:
    """Return the first of some rows as texts."""
    return [[column_choice.shown(cell) for cell in cells] for cells in islice(rows, _LOOKED_AT)]


def is_header(first: str, others: Sequence[str]) -> bool:
    """Return whether a column's first text is its header and no order number, given those below."""
    if column_choice.is_known(first) or not any(map(str.isdigit, first)):
        return True
    numbers = [text for text in map(unwrapped, others) if complaint(text) is None]
    if first == "0":  # the name that pandas gives
        return bool(numbers) and all(len(number) > 1 for number in numbers)
    odd = complaint(unwrapped(first)) is not None and any(map(str.isalpha, first))
    return odd and bool(numbers) and len(numbers) * 2 > len(others)


def filled(row: list[str]) -> int:
    """Return how many cells a row has up to the last one that is not blank."""
    return next((i for i in range(len(row), 0, -1) if row[i - 1]), 0)


def _may_be_number(cell: object) -> bool:
    try:
        return text_of(cell) != ""
    except NoOrderNumberError:
        return False

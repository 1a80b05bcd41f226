"""SQLite, and what HTML and flat OpenDocument (.fods) show: the one table that has a column of order numbers."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from html.parser import HTMLParser

from exporter.lists.batch import EXACT_BELOW, Batch, unfit
from exporter.lists.how_read import Source
from exporter.lists.table import Cells, Table, choose
from exporter.lists.text_list import Block

_ROWS = ("tr", "table:table-row")
_CELLS = ("td", "th", "table:table-cell", "table:covered-table-cell")
_TABLES = ("table", "table:table")
_UNSEEN = ("script", "style", "office:annotation")
_KINDS = {"boolean": "true or false", "date": "a date or time", "time": "a date or time", "error": "an error"}
_MOST_COPIES = 16_384
_LARGEST_DATABASE = 64 << 20  # bytes, which are held in memory
_Row = list[object]


def read_markup(source: Source, blocks: Iterator[Block]) -> Iterator[Batch] | None:
    """Return the batches of such a text; None where no whole table has a column of order numbers."""
    parser = _Tables()
    for _, text in blocks:
        parser.feed(text + "\n")
    parser.close()
    tables = parser.tables
    chosen = choose(source, {name: partial(iter, rows) for name, rows in tables.items()})
    if chosen is None or parser.open or parser.hides:
        return None
    source.reading.format = "fods" if b"office:document" in source.head else "html"
    return Table(source, enumerate(tables[chosen], 1)).batches()


def read_sqlite(source: Source, hint: str) -> Iterator[Batch]:
    """Yield the batches of a database; rows are counted as lines, from 1. The hint says how to make a list of it."""
    data = source.stream.read(_LARGEST_DATABASE + 1)
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(data[:_LARGEST_DATABASE])
            (sound,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if sound != "ok":  # as where the file is cut
                raise sqlite3.DatabaseError(str(sound))
            yield from _of_tables(source, database)
    except sqlite3.Error as error:
        source.refuse(f"expected a list of order numbers, got an SQLite database: {error}.", hint)


def _of_tables(source: Source, database: sqlite3.Connection) -> Iterator[Batch]:
    tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    names = [str(name) for (name,) in database.execute(tables)]

    def rows(name: str) -> Iterator[Cells]:
        quoted = name.replace('"', '""')
        cursor = database.execute(f'SELECT * FROM "{quoted}"')  # noqa: S608 - the name is quoted
        yield [column for column, *_ in cursor.description]
        yield from cursor

    chosen = choose(source, {name: partial(rows, name) for name in names})
    if chosen is None:
        raise sqlite3.DataError("no table in it has a column of order numbers")
    yield from Table(source, enumerate(rows(chosen))).batches()


class _Tables(HTMLParser):
    """Collects the rows of each table, by its name or its number. End tags of cells and rows may be missing."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, list[_Row]] = {}
        self.open: list[list[_Row]] = []  # a table may be in a cell of another
        self._cell: list[str] = []
        self._ends: list[dict[str, str | None]] = []  # the attributes of the cell that is open
        self._copies = 1
        self._unseen = 0
        self.hides = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = dict(attrs)
        self._unseen += tag in _UNSEEN
        self._cell.append(" ")  # what is in an element of its own may be hidden, and is never joined
        if tag not in (*_TABLES, *_ROWS, *_CELLS):
            return
        self._end_cell()
        self.hides |= "hidden" in of or "display:none" in (of.get("style") or "").replace(" ", "")
        if tag in _TABLES:
            self.open.append([])
            self.tables[of.get("table:name") or str(len(self.tables) + 1)] = self.open[-1]
        elif tag in _ROWS and self.open:
            self.open[-1].append([])
            self._copies = _count(of, "table:number-rows-repeated")
        elif self.open and self.open[-1]:
            self._ends.append(of)

    def handle_endtag(self, tag: str) -> None:
        self._unseen -= tag in _UNSEEN
        self._cell.append(" ")
        if tag in (*_TABLES, *_ROWS, *_CELLS):
            self._end_cell()
        if tag in _ROWS and self.open:
            self.open[-1] += self.open[-1][-1:] * (self._copies - 1)
        elif tag in _TABLES and self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self._cell.append(data)

    def _end_cell(self) -> None:
        text, self._cell = " ".join("".join(self._cell).split()), []
        if self._ends:
            of = self._ends.pop()
            row = self.open[-1][-1]
            row += [_value(text, of)] * _count(of, "table:number-columns-repeated")
            row += [""] * (_count(of, "colspan") - 1)


def _count(of: dict[str, str | None], name: str) -> int:
    """Return how often something is there; what is there more often than a sheet is wide is the blank rest of it."""
    count = of.get(name) or ""
    return int(count) if count.isdecimal() and 0 < int(count[:6]) < _MOST_COPIES else 1


def _value(text: str, of: dict[str, str | None]) -> object:
    kind = of.get("calcext:value-type") or of.get("office:value-type")
    if kind in _KINDS:
        return unfit(text, _KINDS[kind])
    number = of.get("office:value")
    if number is not None:
        whole = number.removesuffix(".0")
        if not whole.isdecimal() or int(whole) >= EXACT_BELOW or text.lstrip("0") != whole.lstrip("0"):
            return unfit(text, "a number that is shown otherwise, or rounded")
    return text

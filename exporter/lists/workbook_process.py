"""The process that reads a workbook: `python -m exporter.lists.workbook_process REQUEST`, the file on stdin.

Batches go out on stdout, a JSON line each; then how the list was read, or the error. Its memory is limited: a stray
cell in the last row, or a count that lies, ends it and nothing else.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from exporter.lists import column_choice
from exporter.lists.batch import Batch, InvalidLine, Sieve, invalid_line
from exporter.lists.how_read import Reading, Source
from exporter.lists.number_formats import as_shown, look
from exporter.lists.table_header import body, rank
from exporter.model.errors import ExporterError, told
from exporter.model.options import AskOptions

if TYPE_CHECKING:
    from python_calamine import CalamineWorkbook

_BATCH_ROWS = 10_000
_LOOKED_AT = 100  # rows of each sheet
_EXACT_BELOW = 10**15  # a number in a cell is a double, of which Excel keeps 15 digits
_MEMORY = 192 << 20
_MEMORY_BY_BYTE = 30  # of the file, which is compressed
_WANTED = "An order number is text or an integer, got {}."


def main(request: str) -> int:
    """Read the workbook on stdin and print what it holds; return the exit code."""
    asked = json.loads(request)
    source = Source(
        stream=os.fdopen(0, "rb"),
        name=asked["name"],
        choice=AskOptions(column=asked["column"], sheet=asked["sheet"]),
        reading=Reading(format="workbook"),
    )
    try:
        _limit_memory(os.fstat(0).st_size)
        try:
            for batch in _batches(source):
                _print(msgspec.to_builtins(batch))
        except ExporterError:
            raise
        except BaseException as error:  # the reader's panics are no `Exception`
            _refuse(source, error)
    except ExporterError as error:
        _print({"error": told(error)})
    else:
        _print({"reading": source.reading.as_dict()})
    return 0


def _print(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")


def _limit_memory(size: int) -> None:
    if sys.platform == "win32":  # it has no such limit
        return
    import resource

    with suppress(ValueError, OSError):  # nor have others
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = now + _MEMORY + size * _MEMORY_BY_BYTE
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _refuse(source: Source, error: BaseException) -> NoReturn:
    name = shlex.quote(source.name)
    hint = f"Save it anew as .xlsx, or make a CSV of it: soffice --headless --convert-to csv {name}"
    what = "got one that needs too much memory" if isinstance(error, MemoryError) else f"got {error}"
    if type(error).__name__ == "PasswordError":
        what, hint = "got one with a password", f"Take it off: msoffcrypto-tool -p PASSWORD {name} list.xlsx"
    source.refuse(f"expected a workbook that can be read, {what}.", hint)


def _batches(source: Source) -> Iterator[Batch]:
    from python_calamine import CalamineWorkbook

    workbook = CalamineWorkbook.from_filelike(source.stream)
    source.reading.sheet = sheet = _Sheets(workbook, source).chosen()
    sieve = Sieve(source)
    found = body(enumerate(workbook.get_sheet_by_name(sheet).iter_rows(), 1), source, sieve)
    if found.blank:
        yield Batch(lines=(), order_numbers=(), blank=found.blank)
    column = _Column(source, sheet, found.columns[0])
    line = 0
    while some := list(islice(found.records, _BATCH_ROWS)):
        found.check_twins(source, some)
        texts, bad = [], []
        for line, cells in some:
            text, detail = column.text(line, cells)
            if detail is None:
                texts.append((line, text))
            else:
                bad.append(invalid_line(line, text, detail))
        yield sieve.sift([line for line, _ in texts], [text for _, text in texts], bad)
    # The reader leaves out rows without a value at the end.
    yield sieve.sift(
        (), (), [bad for bad in column.hidden() if bad.line > max(line, source.reading.header_line or 0)]
    )


class _Column:
    """The column of order numbers: its cells to texts."""

    def __init__(self, source: Source, sheet: str, index: int) -> None:
        self._source = source
        self._index = index
        looked = look(source.stream, sheet, index)
        self._tells = looked is not None
        self._formats, self._hidden = looked or ({}, {})

    def hidden(self) -> list[InvalidLine]:
        """Return the lines whose cells have no value."""
        return [invalid_line(line, "", _WANTED.format(what)) for line, what in self._hidden.items()]

    def text(self, line: int, cells: Sequence[object]) -> tuple[str, str | None]:
        """Return a cell's text, and why it is no order number; None where it may be one."""
        cell = cells[self._index]
        if line in self._hidden:
            return "", _WANTED.format(self._hidden[line])
        if isinstance(cell, str):
            if not cell and not self._tells and any(map(str, cells)):
                return "", "The cell looks empty; in this format it may be an error. Save as .xlsx to know."
            return cell, None
        if isinstance(cell, int | float) and not isinstance(cell, bool):
            return self._number(line, cell)
        kind = "true or false" if isinstance(cell, bool) else "a date or time"
        assert isinstance(cell, bool | dt.date | dt.time | dt.timedelta)
        return str(cell), f"{_WANTED.format(kind)} Format the column as text, then enter it again."

    def _number(self, line: int, cell: float) -> tuple[str, str | None]:
        if abs(cell) >= _EXACT_BELOW:
            self._source.refuse(
                f"expected at most 15 digits in a number cell, got {cell:.0f}: a spreadsheet rounds the others.",
                "Format the column as text, then enter the numbers again from where they came.",
                line,
            )
        if cell != int(cell):
            return str(
                cell
            ), f"{_WANTED.format('a fraction')} Format the column as text, then enter it again."
        code = self._formats.get(line, "General")
        shown = as_shown(int(cell), code)
        if shown is None:
            self._source.refuse(
                f"expected a plain number, got {cell:.0f} in the number format {code!r}, which shows something else.",
                "Save the sheet as CSV, which writes what is shown, or format the column as 0.",
                line,
            )
        if shown != str(int(cell)):
            self._source.reading.note("numbers were read as their number format shows them")
        return shown, None


class _Sheets:
    """The choice of the sheet."""

    def __init__(self, workbook: CalamineWorkbook, source: Source) -> None:
        from python_calamine import SheetTypeEnum, SheetVisibleEnum

        self._workbook = workbook
        self._source = source
        sheets = [one for one in workbook.sheets_metadata if one.typ == SheetTypeEnum.WorkSheet]
        self._all = [one.name for one in sheets]
        self._visible = [one.name for one in sheets if one.visible == SheetVisibleEnum.Visible]

    def chosen(self) -> str:
        """Return the name of the sheet to read."""
        if (wanted := self._source.choice.sheet) is not None:
            found = column_choice.named(self._all, wanted)
            if not found and wanted.isascii() and wanted.isdecimal():
                found = [i for i in range(len(self._all)) if i + 1 == int(wanted)]
            return self._all[found[0]] if len(found) == 1 else self._refuse(self._all, repr(wanted))
        tops = {name: self._top(name) for name in self._visible}
        full = [name for name, rows in tops.items() if any(map(any, rows))]
        ranks = {name: self._rank(tops[name]) for name in full}
        best = [name for name in full if ranks[name] == min(ranks.values())]
        if len(best) > 1:
            return self._refuse(best, "with order numbers")
        chosen = (best or self._visible or self._all)[0]
        if others := [repr(name) for name in self._all if name != chosen]:
            self._source.reading.note(f"other sheets were not read: {', '.join(others)}")
        return chosen

    def _top(self, name: str) -> list[list[str]]:
        rows = islice(self._workbook.get_sheet_by_name(name).iter_rows(), _LOOKED_AT)
        return [[column_choice.shown(cell) for cell in cells] for cells in rows]

    def _rank(self, rows: list[list[str]]) -> int:
        if self._source.choice.column is None:
            return rank(rows)
        return int(not any(column_choice.named(row, self._source.choice.column) for row in rows[:20]))

    def _refuse(self, names: list[str], expected: str) -> NoReturn:
        choices = " or ".join(f"--sheet {shlex.quote(name)}" for name in names[:5])
        shown = ", ".join(map(repr, names[:20]))
        self._source.refuse(f"expected one sheet {expected}, got the sheets {shown}.", f"Give {choices}.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

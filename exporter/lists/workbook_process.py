"""The process that reads a workbook: `python -m exporter.lists.workbook_process REQUEST`, the file on stdin.

Batches go out on stdout, a JSON line each; then how the list was read, or the error. Its memory is limited: a stray
cell in the last row, or a count that lies, ends it and nothing else.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import msgspec

from exporter.lists.batch import EXACT_BELOW, Batch, NoOrderNumberError, text_of, unfit
from exporter.lists.how_read import Reading, Source
from exporter.lists.number_formats import as_shown, look
from exporter.lists.table import Cells, Record, Table, choose
from exporter.model.errors import ExporterError, told
from exporter.model.options import AskOptions
from exporter.model.shell_words import shell_word

_MEMORY = 192 << 20
_MEMORY_BY_BYTE = 30  # of the file, which is compressed
_TAG = re.compile(rb"<[^>]*>")
_CELL = re.compile(rb"<c\b[^>]*(?<!/)>.*?</c>|<c\b[^>]*/>|<dimension[^>]*>", re.DOTALL)
_SHARED = re.compile(rb"<si\b[^>]*(?<!/)>.*?</si>|<si\b[^>]*/>", re.DOTALL)
_AS_TEXT = " Format the column as text, then enter it again."


def main(request: str) -> int:
    """Read the workbook on stdin and print what it holds; return the exit code."""
    asked = json.loads(request)
    choice, reading = AskOptions(column=asked["column"], sheet=asked["sheet"]), Reading(format="workbook")
    source = Source(stream=os.fdopen(0, "rb"), name=asked["name"], choice=choice, reading=reading)
    try:
        _limit_memory(os.fstat(0).st_size)
        try:
            if asked.get("slim"):
                source = replace(source, stream=_slim(source.stream))
                source.reading.note("cells that show nothing were left out, as one far below or to the right")
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
    name = shell_word(source.name)
    hint = f"Save it again as .xlsx, or convert it to CSV: soffice --headless --convert-to csv {name}"
    what = "got one that needs too much memory" if isinstance(error, MemoryError) else f"got {error}"
    if type(error).__name__ == "PasswordError":
        what, hint = "got one with a password", f"Remove it: msoffcrypto-tool -p PASSWORD {name} list.xlsx"
    source.refuse(f"expected a workbook that can be read, {what}.", hint)


def _slim(stream: BinaryIO) -> BinaryIO:
    """Return an .xlsx without cells that show nothing: the reader makes room for all up to the last one."""
    slim = io.BytesIO()
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(slim, "w") as new:
        texts = old.read("xl/sharedStrings.xml") if "xl/sharedStrings.xml" in old.namelist() else b""
        shared = [_TAG.sub(b"", one).strip() for one in _SHARED.findall(texts)]
        blank = {str(i).encode() for i, text in enumerate(shared) if not text}

        def kept(cell: re.Match[bytes]) -> bytes:
            shown = _TAG.sub(b"", cell[0]).strip()
            is_blank = shown in blank if b't="s"' in cell[0] else not shown
            return b"" if is_blank and b"<f" not in cell[0] else cell[0]

        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, _CELL.sub(kept, data) if "worksheets/" in name else data)
    slim.seek(0)
    return slim


def _batches(source: Source) -> Iterator[Batch]:
    from python_calamine import CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum

    workbook = CalamineWorkbook.from_filelike(source.stream)
    sheets = [one for one in workbook.sheets_metadata if one.typ == SheetTypeEnum.WorkSheet]
    visible = [one.name for one in sheets if one.visible == SheetVisibleEnum.Visible]

    def rows(name: str) -> Iterator[Cells]:
        return workbook.get_sheet_by_name(name).iter_rows()

    tables = {one.name: partial(rows, one.name) for one in sheets}
    sheet = choose(source, tables, visible) or [*visible, *tables][0]
    source.reading.sheet = sheet
    return _Sheet(source, sheet, enumerate(tables[sheet](), 1)).batches()


class _Sheet(Table):
    def __init__(self, source: Source, sheet: str, records: Iterator[Record]) -> None:
        super().__init__(source, records)
        self._last = source.reading.header_line or 0
        looked = look(source.stream, sheet, self.columns[0])
        self._tells = looked is not None
        self._formats, self._hidden = looked or ({}, {})

    def batches(self) -> Iterator[Batch]:
        yield from super().batches()
        # The reader leaves out rows without a value at the end.
        rest = [row for row in self._hidden if row > self._last]
        yield self.sieve.sift_each(rest, [[""] * (self.columns[0] + 1)] * len(rest), self.text)

    def batch(self, lines: list[int], rows: list[Cells]) -> Batch:
        self._last = lines[-1]
        return self.sieve.sift_each(lines, rows, self.text)

    def text(self, line: int, cells: Cells) -> str:
        cell: Any = self._hidden.get(line, cells[self.columns[0]])
        if cell == "" and not self._tells and any(map(str, cells)):
            why = "The cell looks empty; in this format it may be an error. Save as .xlsx to know."
            raise NoOrderNumberError("", why)
        if type(cell) in (int, float):
            return self._number(line, cell)
        return text_of(cell if isinstance(cell, str | NoOrderNumberError) else unfit(cell, hint=_AS_TEXT))

    def _number(self, line: int, cell: float) -> str:
        if abs(cell) >= EXACT_BELOW:
            what = f"expected at most 15 digits in a number cell, got {cell:.0f}: a spreadsheet rounds the others."
            hint = "Format the column as text, then enter the numbers again from their source."
            self.source.refuse(what, hint, line)
        if cell != int(cell):
            raise unfit(cell, hint=_AS_TEXT)
        code = self._formats.get(line, "General")
        text = as_shown(int(cell), code)
        if text is None:
            what = f"expected a plain number, got {cell:.0f} in the number format {code!r}, which shows something else."
            hint = "Save the sheet as CSV, which writes what is shown, or format the column as 0."
            self.source.refuse(what, hint, line)
        if text != str(int(cell)):
            self.source.reading.note("numbers were read as their number format shows them")
        return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

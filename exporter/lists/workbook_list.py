"""Workbooks (.xlsx, .xls, .xlsb, .ods), read in a process of its own, as its parent sees it and as it runs.

`python -m exporter.lists.workbook_list REQUEST`, the file on stdin: batches go out on stdout, a JSON line each; then how
the list was read, or the error. Its memory is limited: a stray cell in the last row, or a count that lies, ends it and
nothing else.
"""

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, NoReturn
from xml.etree.ElementTree import Element, fromstring, iterparse

import msgspec

from exporter.lists.batch import EXACT_BELOW, Batch, NoOrderNumberError, text_of, unfit
from exporter.lists.column_choice import letters_number
from exporter.lists.how_read import Reading, Source
from exporter.lists.table import Cells, Record, Table, choose
from exporter.model.errors import ExporterError, error_of, told
from exporter.model.options import AskOptions
from exporter.system.child_process import be_deaf, python_path, signals_held
from exporter.system.extras import need_extra
from exporter.system.shell_words import shell_word

_MEMORY = 192 << 20
_MEMORY_BY_BYTE = 30  # of the file, which is compressed
_TAG = re.compile(rb"<[^>]*>")
_CELL = re.compile(rb"<c\b[^>]*(?<!/)>.*?</c>|<c\b[^>]*/>|<dimension[^>]*>", re.DOTALL)
_SHARED = re.compile(rb"<si\b[^>]*(?<!/)>.*?</si>|<si\b[^>]*/>", re.DOTALL)
_AS_TEXT = " Format the column as text, then enter it again."
_JOINED = re.compile(r'("[^"]*"|[1-9]\d{0,14})(\s*&\s*("[^"]*"|[1-9]\d{0,14}))*')
_LAST_COLUMN, _LAST_ROW = 16_384, 1_048_576
_BUILT_IN = {2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%", 11: "0.00E+00", 48: "##0.0E+0"}
_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|(?P<space>_.)|\*.|\[\$(?P<currency>[^\]-]*)[^\]]*\]'
    r"|(?P<condition>\[[<>=][^\]]*\])|\[[^\]]*\]|(?P<general>General|@)|(?P<mask>[0#?.,]+)|(?P<end>;)|(?P<other>.)",
    re.IGNORECASE | re.DOTALL,
)
_ORDER_PREFIX = re.compile(r"(#|no|sip|sipariş|siparis|ord|order|so|web)[-_/#.]?", re.IGNORECASE)
_CURRENCY = re.compile(r"[$€£₺¥\s]*")


def read(source: Source) -> Iterator[Batch]:
    """Yield the batches of a workbook's sheet, which must be a file; the header is not a line of any batch."""
    need_extra(source.name, "xlsx", "python_calamine")
    for slim in (False, True):
        last = yield from _try(source, slim)
        for name, value in last.get("reading", {}).items():
            setattr(source.reading, name, value)
        if "reading" in last:
            return
        if last:  # it died on the way, after some batches
            break
    why = "needs too much memory: a stray cell far below or to the right does that"
    hint = "Copy the used cells into a new workbook, or make a CSV: soffice --headless --convert-to csv"
    source.refuse(f"expected a workbook that can be read, got one that {why}.", f"{hint} {source.name}")


def _try(source: Source, slim: bool) -> Generator[Batch, None, dict[str, Any]]:
    """Yield the batches; return the last message, empty where the process died before its first."""
    choice = source.choice
    request = {"name": source.name, "column": choice.column, "sheet": choice.sheet, "slim": slim}
    source.stream.seek(0)
    with signals_held():
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, json.dumps(request)],
            stdin=source.stream,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": python_path(), "MALLOC_ARENA_MAX": "2"},
        )
    with process:
        try:
            message: dict[str, Any] = {}
            for message in map(json.loads, process.stdout or ()):
                if "error" in message:
                    raise error_of(*message["error"])
                if "reading" not in message:
                    yield msgspec.convert(message, Batch)
            return message
        finally:
            process.kill()


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


# --- what an .xlsx shows where its numbers look otherwise, and which of its cells hide something ---


def as_shown(number: int, code: str) -> str | None:
    """Return a whole number as a number format shows it; None where nobody can know what is meant.

    A currency, or words with spaces between, are no part of an order number.

    >>> [as_shown(123, code) for code in ("000000", '"SIP-"0', "#,##0", '0" days"', "0.00E+00", '"SD-"0')]
    ['000123', 'SIP-123', '123', '123', None, None]
    """
    before, mask, after = "", "", ""
    for token in _TOKEN.finditer(code):
        kind, text = token.lastgroup, token[token.lastgroup or 0]
        if kind == "end":
            break
        if kind == "condition" or (kind == "other" and (text.isalpha() or text in "%/")):
            return None
        if kind in ("general", "mask"):
            if mask:
                return None
            mask = "0" if kind == "general" else text
        elif kind is not None:
            literal = {"space": " ", "currency": "$"}.get(kind, text)
            before, after = (before, after + literal) if mask else (before + literal, after)
    whole = mask.partition(".")[0]
    if not mask or whole.endswith(","):
        return None
    digits = str(number).zfill(whole.count("0"))
    if _CURRENCY.fullmatch(before + after) or any(map(str.isspace, before + after)):
        return digits
    return before + digits if not after and _ORDER_PREFIX.fullmatch(before) else None


def look(stream: BinaryIO, sheet: str, column: int) -> tuple[dict[int, str], dict[int, Any]] | None:
    """Look at one column of a sheet of an .xlsx; None where it is a workbook of another format.

    Return number formats other than the usual one, and what cells are whose value is not there: the text that a
    formula gives, or why there is none; both by row. Whatever a damaged file raises is raised.
    """
    if not zipfile.is_zipfile(stream):
        return None
    formats: dict[int, str] = {}
    hidden: dict[int, Any] = {}
    with zipfile.ZipFile(stream) as archive:
        parts = {name.replace("\\", "/").lower(): name for name in archive.namelist()}
        if "xl/workbook.xml" not in parts:
            return None

        def read(path: str) -> Element:
            return fromstring(archive.read(parts[path]))  # noqa: S314 - the process's memory is limited

        sheets = {one.get("name"): one for one in read("xl/workbook.xml").iterfind("{*}sheets/*")}
        link = next(value for key, value in sheets[sheet].items() if key.endswith("}id"))
        links = {one.get("Id"): one.get("Target", "") for one in read("xl/_rels/workbook.xml.rels")}
        path = str(PurePosixPath("/xl", links[link].replace("\\", "/"))).lower().lstrip("/")
        codes = _codes(read("xl/styles.xml")) if "xl/styles.xml" in parts else []
        with archive.open(parts[path]) as content:
            for row, cell in _cells(content, column):
                kind, style, value = cell.get("t", "n"), int(cell.get("s", 0)), cell.findtext("{*}v")
                formula = cell.find("{*}f")
                if kind == "e":
                    hidden[row] = unfit("", f"the error {value}")
                elif not value and formula is not None:
                    hidden[row] = _joined(formula.text or "") or unfit("", "a formula without a value")
                elif kind == "n" and style < len(codes) and codes[style] not in ("General", "0", "@"):
                    formats[row] = codes[style]
    return formats, hidden


def _cells(content: IO[bytes], column: int) -> Iterator[tuple[int, Element]]:
    number, parents = 0, []
    for event, element in iterparse(content, ("start", "end")):  # noqa: S314 - the process's memory is limited
        if event == "start":
            parents.append(element)
            continue
        parents.pop()
        if not element.tag.endswith("}row"):
            continue
        number, at = int(element.get("r", number + 1)), 0
        for cell in element:
            at = letters_number(cell.get("r", "").rstrip("0123456789")) or at + 1
            if at > _LAST_COLUMN or number > _LAST_ROW:
                raise ValueError(f"a cell {cell.get('r')}, beyond XFD1048576")
            if at == column + 1:
                yield number, cell
        parents[-1].clear()


def _codes(styles: Element) -> list[str]:
    own = {one.get("numFmtId"): one.get("formatCode", "") for one in styles.iterfind("{*}numFmts/*")}
    ids = [one.get("numFmtId", "0") for one in styles.iterfind("{*}cellXfs/*")]
    return [own.get(one) or _BUILT_IN.get(int(one), "General") for one in ids]


def _joined(formula: str) -> str | None:
    """Return the text of a formula that joins texts and whole numbers, as `"SIP-" & 7` does; else None."""
    if not _JOINED.fullmatch(formula) or formula.isdecimal():
        return None
    return "".join(text or number for text, number in re.findall(r'"([^"]*)"|(\d+)', formula))


if __name__ == "__main__":
    be_deaf()
    sys.exit(main(sys.argv[1]))

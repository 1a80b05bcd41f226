"""Tables into Excel workbooks, a sheet for each table and one that explains, row after row onto the disk."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from exporter.dataset.table_files import OpenFile, PartsWriter
from exporter.system import durable

if TYPE_CHECKING:
    from xlsxwriter import Workbook
    from xlsxwriter.worksheet import Worksheet

MOST_ROWS = 1_048_575  # what a sheet holds below its header: 1,048,576 rows in all
_ABOUT = "About"
_ABOUT_COLUMNS = ("Sheet", "Column", "Meaning", "Personal", "Path in the API")
_LONGEST_TEXT = 32_767  # of a cell; Excel calls a file with longer ones damaged
_CUT = " … (cut: a cell holds no more)"
_WIDEST, _NARROWEST = 60, 8
_ROWS_AT_ONCE = 500
_DAY_US = 86_400_000_000
_EXCEL_EPOCH_US = -25_569 * _DAY_US  # 1899-12-30
_FIRST_DATE_US = _EXCEL_EPOCH_US + 61 * _DAY_US  # Excel believes in 29 February 1900
_AFTER_LAST_DATE_US = 253_402_300_800_000_000
_WIDE = pa.decimal256(40, 4)
_DATE, _MONEY, _WHOLE = "yyyy-mm-dd hh:mm:ss", "#,##0.00##", "0"
#: Every workbook says that it was made then: the same rows give the same bytes.
_MADE = datetime(2000, 1, 1)  # noqa: DTZ001 # the library wants it without a zone


def workbook_writer(
    folder: Path,
    schemas: Mapping[str, pa.Schema],
    rows_per_file: int | None,
    about: Mapping[str, str],
    name: str = "orders",
) -> PartsWriter:
    """Return what writes all tables into one workbook, or several; each says what is `about` it."""
    place = folder / f"{name}.xlsx"
    return PartsWriter(place, lambda path: _Book(path, schemas, about), rows_per_file, MOST_ROWS)


class _Book(OpenFile):
    """One workbook and the rows that its sheets hold; rows go to the disk as they come (`constant_memory`)."""

    def __init__(self, path: Path, schemas: Mapping[str, pa.Schema], about: Mapping[str, str]) -> None:
        import xlsxwriter

        super().__init__(path, schemas)
        self._schemas, self._about = schemas, about
        self._scratch = path.with_name(f"{path.name}.scratch")
        self._scratch.mkdir(exist_ok=True)
        how = {"constant_memory": True, "use_zip64": True, "tmpdir": str(self._scratch)}
        self._book: Workbook = xlsxwriter.Workbook(str(path), how)
        self._book.set_properties({"created": _MADE})
        self._bold = self._book.add_format({"bold": True, "text_wrap": False})
        forms = (_DATE, _MONEY, _WHOLE)
        self._formats = {text: self._book.add_format({"num_format": text}) for text in forms}
        self._sheets: dict[str, Worksheet] = {name: self._book.add_worksheet(name) for name in schemas}
        for name, sheet in self._sheets.items():
            sheet.freeze_panes(1, 0)
            sheet.write_row(0, 0, schemas[name].names, self._bold)
        self._cut = 0

    def write(self, name: str, table: pa.Table) -> None:
        sheet = self._sheets[name]
        if not self.rows[name]:
            for at, column in enumerate(table.columns):
                sheet.set_column(at, at, _width(table.column_names[at], column))
        for start in range(0, table.num_rows, _ROWS_AT_ONCE):
            self._write_rows(sheet, self.rows[name] + 1 + start, table.slice(start, _ROWS_AT_ONCE))

    def _write_rows(self, sheet: Worksheet, first: int, table: pa.Table) -> None:
        texts, columns = zip(*map(_cells, table.columns), strict=True)
        formats = [self._formats.get(text) for text in texts]
        for row, cells in enumerate(zip(*columns, strict=True), start=first):
            for at, value in enumerate(cells):
                if value is None:
                    continue
                if isinstance(value, str):
                    sheet.write_string(row, at, self._fitting(value))
                elif isinstance(value, bool):
                    sheet.write_boolean(row, at, value)
                else:
                    sheet.write_number(row, at, value, formats[at])

    def _fitting(self, text: str) -> str:
        if len(text) <= _LONGEST_TEXT // 2:  # Excel counts UTF-16 units
            return text
        units = text.encode("utf-16-le")
        if len(units) <= 2 * _LONGEST_TEXT:
            return text
        self._cut += 1
        return units[: 2 * (_LONGEST_TEXT - len(_CUT))].decode("utf-16-le", "ignore") + _CUT

    def close(self, facts: Mapping[str, str]) -> None:
        from xlsxwriter.exceptions import FileCreateError

        for name, sheet in self._sheets.items():
            sheet.autofilter(0, 0, self.rows[name], len(self._schemas[name]) - 1)
        rows = {f"Rows of {name} here": f"{rows:,}" for name, rows in self.rows.items()}
        facts = {**self._about, **facts, **rows}
        if self._cut:
            facts["Texts cut"] = f"{self._cut:,}, which a cell cannot hold; CSV and Parquet hold them whole"
        self._explain(facts)
        try:
            self._book.close()
        except FileCreateError as error:
            raise error.args[0] from None  # the disk's own complaint
        durable.remove_tree(self._scratch)

    def _explain(self, facts: Mapping[str, str]) -> None:
        sheet = self._book.add_worksheet(_ABOUT)
        for row, (what, text) in enumerate(facts.items()):
            sheet.write_string(row, 0, what, self._bold)
            sheet.write_string(row, 1, text)
        sheet.write_row(len(facts) + 1, 0, _ABOUT_COLUMNS, self._bold)
        fields = ((name, field) for name, schema in self._schemas.items() for field in schema)
        for row, (name, field) in enumerate(fields, start=len(facts) + 2):
            known = {key.decode(): text.decode() for key, text in (field.metadata or {}).items()}
            personal = "yes" if known.get("personal") == "true" else ""
            meaning = known.get("description", ""), personal, known.get("path", "")
            sheet.write_row(row, 0, (name, field.name, *meaning))
        for place, width in enumerate((24, 34, 80, 10, 40)):
            sheet.set_column(place, place, width)

    def discard(self) -> None:
        self._book.fileclosed = True
        for sheet in self._book.worksheets():
            with suppress(OSError):  # the disk's complaint has been heard, or nobody needs it
                sheet._opt_close()
        self.path.unlink(missing_ok=True)
        durable.remove_tree(self._scratch)


def _width(name: str, column: pa.ChunkedArray) -> int:
    kind = column.type
    if pa.types.is_timestamp(kind):
        longest = len("2026-11-23 18:30:00")
    else:
        longest = pc.max(pc.utf8_length(column.slice(0, _ROWS_AT_ONCE).cast(pa.string()))).as_py() or 0
    return max(_NARROWEST, min(_WIDEST, max(longest, len(name) + 2) + 1))


def _cells(column: pa.ChunkedArray) -> tuple[str, list[Any]]:
    """Give format and cells of one column: a number where Excel's double holds it exactly, else its text."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        local = pc.local_timestamp(column)
        ticks = local.cast(pa.int64())
        fits = pc.and_(pc.greater_equal(ticks, _FIRST_DATE_US), pc.less(ticks, _AFTER_LAST_DATE_US))
        days = pc.divide(pc.subtract(ticks, _EXCEL_EPOCH_US).cast(pa.float64()), float(_DAY_US))
        return _DATE, _either(fits, days, local.cast(pa.string()))
    is_money = pa.types.is_decimal(kind)
    if not is_money and not pa.types.is_integer(kind):
        return "", column.to_pylist()
    # 15 digits at most: 11 before the point of an amount with four after it, and all of a whole number.
    largest = pa.scalar(10**11 if is_money else 10**15, _WIDE)
    texts = column.cast(pa.string())
    numbers = texts.cast(pa.float64())  # the cast from decimals themselves rounds wrongly
    fits = pc.less(pc.abs(column.cast(_WIDE)), largest)
    return _MONEY if is_money else _WHOLE, _either(fits, numbers, texts)


def _either(fits: pa.ChunkedArray, values: pa.ChunkedArray, texts: pa.ChunkedArray) -> list[Any]:
    cells: list[Any] = values.to_pylist()
    for at in pc.indices_nonzero(pc.invert(pc.fill_null(fits, True))).to_pylist():
        cells[at] = texts[at].as_py()
    return cells

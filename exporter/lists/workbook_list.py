"""Excel workbooks (.xlsx): the first visible sheet, its cells as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, dropwhile, islice
from typing import BinaryIO

from exporter.lists.batch import Batch, InvalidLine, invalid_line, sift
from exporter.lists.table_header import body
from exporter.model.errors import InputError, missing_extra

_BATCH_ROWS = 10_000
_EXACT_BELOW = 10**15  # a number in a cell is a double, of which Excel keeps 15 digits

_Row = tuple[int, Sequence[object]]  # its number in the sheet, its cells


def read(stream: BinaryIO, name: str, column: str | None) -> Iterator[Batch]:
    """Yield the batches of a workbook's first visible sheet; the header is not a line of any batch.

    Raises:
        UsageError: When the extra `xlsx` is not installed.
        InputError: When it is no workbook, or the column is missing.
    """
    rows: Iterator[_Row] = dropwhile(_is_blank, enumerate(_sheet(stream, name), 1))
    if (first := next(rows, None)) is None:
        return
    if first[0] > 1:
        yield Batch(lines=(), order_numbers=(), blank=first[0] - 1)
    index, _, rows = body(chain([first], rows), name, column)
    while some := list(islice(rows, _BATCH_ROWS)):
        yield _batch(some, index)


def _sheet(stream: BinaryIO, name: str) -> Iterator[Sequence[object]]:
    try:
        from python_calamine import CalamineError, CalamineWorkbook, SheetVisibleEnum
    except ImportError as error:
        raise missing_extra(name, "xlsx") from error
    try:
        workbook = CalamineWorkbook.from_filelike(stream)
        visible = [i for i, s in enumerate(workbook.sheets_metadata) if s.visible == SheetVisibleEnum.Visible]
        return iter(workbook.get_sheet_by_index((visible or [0])[0]).iter_rows())
    except CalamineError as error:
        raise InputError(
            f"{name}: expected an Excel workbook (.xlsx), got a file that cannot be read: {error}.",
            "Save it anew as .xlsx, without a password, or as CSV.",
        ) from error


def _is_blank(row: _Row) -> bool:
    return not any(str(cell).strip() for cell in row[1])


def _batch(rows: Iterable[_Row], index: int) -> Batch:
    lines: list[int] = []
    texts: list[str] = []
    invalid: list[InvalidLine] = []
    for line, cells in rows:
        if (text := _exact(cells[index])) is not None:
            lines.append(line)
            texts.append(text)
        else:
            invalid.append(_inexact(line, cells[index]))
    return sift(lines, texts, invalid)


def _exact(cell: object) -> str | None:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return str(int(cell)) if abs(cell) < _EXACT_BELOW and cell == int(cell) else None
    return None


def _inexact(line: int, cell: object) -> InvalidLine:
    got = "a number that Excel rounds" if isinstance(cell, float) else f"a {type(cell).__name__}"
    detail = f"An order number is text or an integer of at most 15 digits, got {got}. "
    return invalid_line(line, str(cell), detail + "Format the column as text, then enter it again.")

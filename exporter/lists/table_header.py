"""Where a table's header ends and its order numbers begin; CSV and workbooks share it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeVar

from exporter.lists import column_choice

Cells = TypeVar("Cells", bound=Sequence[object])


def body(
    records: Iterator[tuple[int, Cells]], name: str, column: str | None
) -> tuple[int, int, Iterator[tuple[int, Cells]]]:
    """Read the header off a table's records.

    Args:
        records: (line, cells) for each record, the first of them not blank.
        name: The input's name, for error texts.
        column: The column asked for, or None for the usual ones.

    Returns:
        The index of the column, the number of columns, and the records that hold order numbers.

    Raises:
        InputError: When there is no such column, or more than one.
    """
    line, cells = next(records)
    header = [str(cell).strip() for cell in cells]
    index = column_choice.choose(header, column, f"{name}:{line}")
    if column is None and _is_order_number(header):
        records = chain([(line, cells)], records)
    return index, len(header), records


def _is_order_number(header: list[str]) -> bool:
    # A list without a header is common, and its first number must not be lost. A header taken for an
    # order number ("code2") is seen as a reject; the reverse would go unseen.
    return len(header) == 1 and any(character.isdigit() for character in header[0])

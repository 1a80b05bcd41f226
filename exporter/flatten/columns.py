"""One column's values to one Arrow array; what does not fit is named by its row."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from exporter.catalog import Kind
from exporter.flatten.literals import MISFIT, literal_of, respell, settle, write_text
from exporter.flatten.schema import ARROW_TYPES
from exporter.flatten.shape import Leaf

Misfits = dict[int, str]

# What JSON's own grammar lets a number be, narrowed to what decimal128(20, 4) can hold and to 38
# characters: Arrow's cast also takes "+5", ".5" and "007", and cuts longer texts silently (arrow#49817).
_DECIMAL = (
    r"^-?(?:0|[1-9][0-9]{0,15})"
    r"(?:(?:\.[0-9]{1,4}0{0,16})?|(?:\.[0-9]{1,15})?[eE][+-]?[0-9]{1,2})$"
)
_TIMESTAMP = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)$"
)
_GRAMMAR = {Kind.DECIMAL: _DECIMAL, Kind.TIMESTAMP: _TIMESTAMP}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Python's datetime, pandas and databases end where the years 1 and 9999 do; Arrow does not.
_FIRST_US = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LAST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def make_column(leaf: Leaf, values: list[Any], odd_rows: Iterable[int]) -> tuple[pa.Array, Misfits]:
    """Make a column's array.

    Args:
        leaf: The column, and whether all of its values are raw.
        values: A value for each row, typed or raw.
        odd_rows: The rows whose values are raw in any case.

    Returns:
        The array, and the JSON text of each value that does not fit, by row. The array is null there.
    """
    kind = leaf.column.kind
    if kind is Kind.JSON:
        return _objects(values)
    settled, misfits = _settle(kind, values, range(len(values)) if leaf.raw else odd_rows)
    if kind not in _GRAMMAR:
        return pa.array(settled, ARROW_TYPES[kind]), misfits
    array, refused = _cast(kind, pa.array(settled, pa.string()))
    for row in refused:
        value = values[row]
        misfits[row] = respell(literal_of(value)) if isinstance(value, msgspec.Raw) else write_text(value)
    return array, misfits


def _objects(values: list[msgspec.Raw]) -> tuple[pa.Array, Misfits]:
    texts = pa.array(list(map(bytes, values)), pa.string())
    fits = pc.or_(pc.starts_with(texts, "{"), pc.starts_with(texts, "["))
    if pc.all(fits, min_count=0).as_py():
        return texts, {}
    scalar = pc.and_(pc.invert(fits), pc.not_equal(texts, "null"))
    misfits = {row: respell(texts[row].as_py()) for row in _rows_where(scalar)}
    return pc.if_else(fits, texts, pa.scalar(None, pa.string())), misfits


def _settle(kind: Kind, values: list[Any], rows: Iterable[int]) -> tuple[list[Any], Misfits]:
    settled, misfits = values.copy(), {}
    for row in rows:
        raw = values[row]
        if isinstance(raw, msgspec.Raw):
            literal = literal_of(raw)
            value = settle(kind, literal)
            if value is MISFIT:
                misfits[row] = respell(literal)
                value = None
            settled[row] = value
    return settled, misfits


def _cast(kind: Kind, texts: pa.Array) -> tuple[pa.Array, list[int]]:
    """Cast texts exactly; give the array and the rows that were refused."""
    texts, refused = _without(texts, pc.invert(pc.match_substring_regex(texts, _GRAMMAR[kind])))
    unfit = _find_uncastable(texts, ARROW_TYPES[kind])
    if unfit:
        texts, more = _without(texts, pa.array([row in unfit for row in range(len(texts))]))
        refused += more
    array = texts.cast(ARROW_TYPES[kind])
    if kind is Kind.TIMESTAMP:
        ticks = array.cast(pa.int64())
        outside = pc.or_(pc.less(ticks, _FIRST_US), pc.greater(ticks, _LAST_US))
        array, more = _without(array, outside)
        refused += more
    return array, refused


def _without(array: pa.Array, unfit: pa.BooleanArray) -> tuple[pa.Array, list[int]]:
    """Null the rows that do not fit."""
    rows = _rows_where(unfit)
    if rows:
        array = pc.if_else(pc.fill_null(unfit, True), pa.scalar(None, array.type), array)
    return array, rows


def _rows_where(mask: pa.BooleanArray) -> list[int]:
    rows: list[int] = pc.indices_nonzero(mask).to_pylist()
    return rows


def _find_uncastable(texts: pa.Array, target: pa.DataType, first: int = 0) -> set[int]:
    """Find the rows that Arrow refuses to cast, by halving: one odd value costs a few casts of its batch."""
    try:
        texts.cast(target)
    except pa.ArrowInvalid:
        half = len(texts) // 2
        if not half:
            return {first}
        left = _find_uncastable(texts[:half], target, first)
        return left | _find_uncastable(texts[half:], target, first + half)
    return set()

"""Cells of one kind to Arrow values; what does not fit is named by its place."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from exporter.dataset.flatten.arrow_schema import ARROW_TYPES
from exporter.dataset.flatten.json_literals import (
    NULL_LITERAL,
    NUMBER_BEGINS,
    has_utf8_form,
    literals_of,
    read_text,
    respell,
    spell,
)
from exporter.model.catalog import Kind

# JSON's own grammar of numbers, narrowed to four places after the point (exponents are left to the cast):
# Arrow's cast also takes "+5", ".5" and "007", and cuts texts of more than 38 digits silently (arrow#49817).
_DECIMAL = r"^-?(?:0|[1-9][0-9]*)(?:(?:\.[0-9]{1,4}0*)?|(?:\.[0-9]+)?[eE][+-]?[0-9]{1,2})$"
# Arrow's own scalars: it would make them anew of Python's for each call.
_LONGEST = pa.scalar(38)
_NULL = pa.scalar(NULL_LITERAL)
_TIMESTAMP = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)$"
)
_GRAMMAR = {Kind.DECIMAL: _DECIMAL, Kind.TIMESTAMP: _TIMESTAMP}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Python's datetime, pandas and databases end where the years 1 and 9999 do; Arrow does not.
_FIRST_US = pa.scalar((datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1))
_LAST_US = pa.scalar((datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1))
_INTEGER = re.compile(r"-?[1-9][0-9]{0,18}|0")
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


def make_values(kind: Kind, cells: list[Any], raw_at: Sequence[int]) -> tuple[pa.Array, dict[int, str]]:
    """Make the Arrow values of many cells of one kind: typed values, or raw JSON, which JSON cells always are.

    Return the values, null where a cell does not fit, and the JSON literal of each such cell by its place. Cells
    of other kinds than JSON may be raw at `raw_at` only.
    """
    if kind is Kind.JSON:
        return _containers(cells)
    settled, misfits = _settle(kind, cells, raw_at) if raw_at else (cells, {})
    if kind in _GRAMMAR:
        array, refused = _cast(kind, pa.array(settled, pa.string()))
    else:
        array, refused = _without_nul(pa.array(settled, ARROW_TYPES[kind]))
    return array, misfits | {at: spell(cells[at]) for at in refused}


def _containers(cells: list[msgspec.Raw]) -> tuple[pa.Array, dict[int, str]]:
    texts = pa.array(literals_of(cells), pa.string())
    fits = pc.or_(pc.starts_with(texts, "{"), pc.starts_with(texts, "["))
    scalar = pc.and_(pc.invert(fits), pc.not_equal(texts, _NULL))
    misfits = {at: respell(texts[at].as_py()) for at in _where(scalar)}
    return _where_true(fits, texts), misfits


class _MisfitError(Exception):
    """Raised for a literal that does not fit its column."""


def _settle(kind: Kind, cells: list[Any], raw_at: Sequence[int]) -> tuple[list[Any], dict[int, str]]:
    settled, misfits = cells.copy(), {}
    raw_at = [at for at in raw_at if isinstance(cells[at], msgspec.Raw)]
    for at, literal in zip(raw_at, literals_of([cells[at] for at in raw_at]), strict=True):
        try:
            settled[at] = None if literal == NULL_LITERAL else _SETTLE[kind](literal)
        except _MisfitError:
            settled[at], misfits[at] = None, respell(literal)
    return settled, misfits


def _text(literal: str) -> str:
    if literal[0] in NUMBER_BEGINS:
        return literal
    if literal[0] == '"':
        text = read_text(literal)
        if "\\" not in literal or has_utf8_form(text):
            return text
    raise _MisfitError


def _integer(literal: str) -> int:
    text = "0" if literal == "-0" else _text(literal)
    if _INTEGER.fullmatch(text) and INT64_MIN <= (number := int(text)) <= INT64_MAX:
        return number
    raise _MisfitError


def _timestamp(literal: str) -> str:
    if literal[0] != '"':
        raise _MisfitError
    return _text(literal)


def _boolean(literal: str) -> bool:
    if literal not in ("true", "false"):
        raise _MisfitError
    return literal == "true"


#: How a JSON literal other than null becomes what a column is built from. Decimals and timestamps stay text:
#: Arrow casts all of them at once, and refuses what is not exact.
_SETTLE: Final[dict[Kind, Callable[[str], str | int | bool]]] = {
    Kind.TEXT: _text,
    Kind.INTEGER: _integer,
    Kind.DECIMAL: _text,
    Kind.TIMESTAMP: _timestamp,
    Kind.BOOLEAN: _boolean,
}


def _without_nul(values: pa.Array) -> tuple[pa.Array, list[int]]:
    """Give null for texts with U+0000, which PostgreSQL and DuckDB's CSV reader refuse, and where they were."""
    text = values.buffers()[2] if pa.types.is_string(values.type) else None
    if text is None or b"\0" not in text.to_pybytes():
        return values, []
    nul = pc.fill_null(pc.match_substring(values, "\0"), False)
    return _where_true(pc.invert(nul), values), _where(nul)


def _cast(kind: Kind, texts: pa.Array) -> tuple[pa.Array, list[int]]:
    """Cast texts exactly; give the values and where they were refused."""
    coded = texts.dictionary_encode()  # half of all amounts are "0.00"
    values = _cast_distinct(kind, coded.dictionary).take(coded.indices)
    if values.null_count == texts.null_count:
        return values, []
    return values, _where(pc.and_(values.is_null(), texts.is_valid()))


def _cast_distinct(kind: Kind, texts: pa.Array) -> pa.Array:
    fits = pc.match_substring_regex(texts, _GRAMMAR[kind])
    if kind is Kind.DECIMAL:
        fits = pc.and_(fits, pc.less_equal(pc.binary_length(texts), _LONGEST))
    values = _cast_or_null(_where_true(fits, texts), ARROW_TYPES[kind])
    if kind is Kind.TIMESTAMP:
        ticks = values.cast(pa.int64())
        values = _where_true(pc.and_(pc.less_equal(_FIRST_US, ticks), pc.less_equal(ticks, _LAST_US)), values)
    return values


def _cast_or_null(texts: pa.Array, target: pa.DataType) -> pa.Array:
    """Cast, with null for what Arrow refuses, found by halving: one odd value costs its batch a few casts."""
    try:
        return texts.cast(target)
    except pa.ArrowInvalid:
        half = len(texts) // 2
        if not half:
            return pa.nulls(1, target)
        return pa.concat_arrays([_cast_or_null(texts[:half], target), _cast_or_null(texts[half:], target)])


def _where_true(mask: pa.BooleanArray, values: pa.Array) -> pa.Array:
    return pc.if_else(mask, values, pa.scalar(None, values.type))


def _where(mask: pa.BooleanArray) -> list[int]:
    places: list[int] = pc.indices_nonzero(mask).to_pylist()
    return places

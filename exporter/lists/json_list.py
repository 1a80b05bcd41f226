"""JSON: lines, an array or pages of objects, texts and numbers, without a number ever becoming a float."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import NoReturn, Protocol, TypeVar, cast

import msgspec

from exporter.lists import column_choice
from exporter.lists.batch import Batch, InvalidLine, Sieve, invalid_line
from exporter.lists.cell_values import doubt
from exporter.lists.column_choice import plain
from exporter.lists.how_read import Source
from exporter.lists.table_header import body
from exporter.lists.text_list import Block

_BATCH_VALUES = 1_000
_LARGEST_DOCUMENT = 64 << 20  # characters
_LOOKED_AT = 100  # objects
T = TypeVar("T")


class _Token(str):
    """A JSON number as it is spelled."""

    __slots__ = ()


class _NoOrderNumberError(Exception):
    """Raised for a JSON value that is no order number: (the text to show, the reason)."""


class _Row(Protocol):
    value: str | int


_decode_bare: Callable[[str], str | int] = msgspec.json.Decoder(str | int).decode
# strict=False takes raw control characters inside a text, which `sift` then refuses by line.
_decoder = json.JSONDecoder(parse_int=_Token, parse_float=_Token, parse_constant=_Token, strict=False)


def read(source: Source, blocks: Iterator[Block]) -> Iterator[Batch]:
    """Yield the batches of a JSON text: of lines where its first line is whole, else of one document.

    The column is chosen by the first objects and is the same for all.

    Raises:
        InputError: When it is not JSON, the column is missing, or the stream is no text.
    """
    source.reading.format = "json"
    first = next(blocks, None)
    second = next(blocks, None)
    if first is None:
        return
    begin = first[1].lstrip()
    line, _, more = begin.partition("\n")
    whole = [first] if second is None else [first, second]
    rest = chain(whole, blocks)
    if _is_row(line) and (second is not None or more.strip() or not _is_page(line)):
        yield from _of_lines(source, rest)
    else:
        yield from _of_document(source, rest)


def _is_row(line: str) -> bool:
    try:
        _decoder.decode(line.strip().rstrip(","))
    except (ValueError, RecursionError):
        return not line.startswith(("[", "{"))
    return True


def _is_page(line: str) -> bool:
    """Return whether a text of one line holds its values inside of one."""
    value = _decoder.decode(line.strip().rstrip(",")) if line.startswith(("[", "{")) else None
    return isinstance(value, list) or (isinstance(value, dict) and _inside(value) is not None)


def _inside(page: dict[str, object]) -> list[object] | None:
    """Return the values of a page such as `{"results": [...]}`; None where it is no page."""
    arrays = [value for value in page.values() if isinstance(value, list) and value]
    return arrays[0] if len(arrays) == 1 and column_choice.known(list(page)) is None else None


def _of_lines(source: Source, blocks: Iterator[Block]) -> Iterator[Batch]:
    reader = _Reader(source)
    for first_line, text in blocks:
        yield reader.batch(range(first_line, first_line + text.count("\n") + 1), text.split("\n"))


def _of_document(source: Source, blocks: Iterator[Block]) -> Iterator[Batch]:
    parts: list[str] = []
    size = 0
    for _, part in blocks:
        parts.append(part)
        size += len(part)
        if size > _LARGEST_DOCUMENT:
            source.refuse(
                f"expected JSON of at most {_LARGEST_DOCUMENT:,} characters, or an object a line, got more.",
                f"Write one value a line: jq -c '.[]' {source.name} > list.jsonl",
            )
    source.reading.note("the values of a JSON document are counted as lines")
    values = iter(_values(source, "\n".join(parts)))
    reader = _Reader(source)
    line = 1
    while some := list(islice(values, _BATCH_VALUES)):
        yield reader.batch_of_values(range(line, line + len(some)), some)
        line += len(some)


def _values(source: Source, text: str) -> Iterator[object]:
    """Yield the values of a document, or of several that stand behind each other."""
    end = 0
    while (begin := _next(text, end)) < len(text):
        try:
            value, end = _decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            line = text.count("\n", 0, begin) + 1
            _refuse_unreadable(source, line, text[begin : begin + 100])
        inside = _inside(value) if isinstance(value, dict) else None
        yield from value if isinstance(value, list) else [value] if inside is None else inside


def _next(text: str, begin: int) -> int:
    while begin < len(text) and text[begin] in " \t\r\n,":
        begin += 1
    return begin


def _refuse_unreadable(source: Source, line: int, text: str) -> NoReturn:
    shown = text.strip()
    source.refuse(
        f"expected one JSON object, text or number, got {shown if len(shown) <= 40 else shown[:39] + '…'!r}.",
        f"Put one JSON object on each line: jq -c '.[]' {shlex.quote(source.name)} > list.jsonl",
        line,
    )


class _Reader:
    """Turns JSON values into batches, by the column that the first objects had."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._sieve = Sieve(source)
        self._column: str | None = None
        self._decode_row: Callable[[str], _Row] | None = None

    def batch(self, lines: range, texts: list[str]) -> Batch:
        """Return the batch of some lines; the usual ones are read quickly."""
        if self._column is None:
            self._choose(lines[0], [self._maybe(text) for text in texts[:_LOOKED_AT]])
        return self._batch(lines, texts, self._of_line)

    def batch_of_values(self, lines: range, values: list[object]) -> Batch:
        """Return the batch of values that are read already."""
        if self._column is None:
            self._choose(lines[0], values[:_LOOKED_AT])
        return self._batch(lines, values, self._of_value)

    def _batch(self, lines: range, values: Sequence[T], number_of: Callable[[int, T], str]) -> Batch:
        kept: list[int] = []
        numbers: list[str] = []
        invalid: list[InvalidLine] = []
        for line, value in zip(lines, values, strict=True):
            try:
                numbers.append(number_of(line, value))
                kept.append(line)
            except _NoOrderNumberError as error:
                invalid.append(invalid_line(line, *error.args))
        return self._sieve.sift(kept, numbers, invalid)

    def _of_line(self, line: int, text: str) -> str:
        try:
            if self._decode_row is not None and text.startswith("{"):
                return str(self._decode_row(text).value)
            return str(_decode_bare(text))
        except (msgspec.MsgspecError, RecursionError, ValueError):  # str() takes 4,300 digits at most
            bare = text.strip().rstrip(",\x1a\0").strip()
        if not bare:
            return ""
        try:
            value = _decoder.decode(bare)
        except (ValueError, RecursionError):
            _refuse_unreadable(self._source, line, text)
        return self._of_value(line, value)

    def _maybe(self, text: str) -> object:
        try:
            return _decoder.decode(text.strip().rstrip(","))
        except (ValueError, RecursionError):
            return None

    def _of_value(self, line: int, value: object) -> str:
        if isinstance(value, dict):
            value = self._cell(value)
        elif isinstance(value, list):
            value = self._of_array(line, value)
        elif not isinstance(value, str | None):
            _refuse_unreadable(self._source, line, json.dumps(value))
        return self._order_number(line, value)

    def _of_array(self, line: int, row: list[object]) -> object:
        index = column_choice.position(self._source.choice.column or "")
        if index is None:
            _refuse_unreadable(self._source, line, json.dumps(row))
        if index >= len(row):
            raise _NoOrderNumberError("", f"The array has no value {index + 1}.")
        return row[index]

    def _cell(self, row: dict[str, object]) -> object:
        if self._column in row:
            return row[self._column]
        row = _flat(row)
        others = column_choice.named(list(row), self._column or "")
        if len(others) != 1:
            raise _NoOrderNumberError("", f"The object has no {self._column!r}.")
        return list(row.values())[others[0]]

    def _choose(self, line: int, values: Sequence[object]) -> None:
        rows = [value for value in values if isinstance(value, dict)]
        if not rows:
            return
        # The same name in another spelling, in another object, is no other column.
        together = {plain(name): name for row in reversed(rows) for name in row}
        alike = any(len({*map(plain, row)}) < len(row) for row in rows)
        names = list(dict.fromkeys(name for row in rows for name in row)) if alike else [*together.values()]
        wanted = self._source.choice.column
        found = column_choice.named(names, wanted) if wanted else column_choice.known(names)
        if not found:
            names = list(dict.fromkeys(name for row in rows for name in _flat(row)))
        # As the header and the records of a table; a place that is not there is blank.
        table = [[_text(_flat(row).get(name)) for name in names] for row in rows]
        records = iter([(line, names), *((line, cells) for cells in table)])
        chosen = body(records, self._source, Sieve(self._source))
        self._source.reading.header_line = None
        self._column = names[chosen.columns[0]]
        try:
            row = msgspec.defstruct("Row", [("value", str | int)], rename={"value": self._column})
        except ValueError:  # msgspec takes no name with an escape; `_of_value` reads such rows
            return
        self._decode_row = msgspec.json.Decoder(cast("type[_Row]", row)).decode

    def _order_number(self, line: int, value: object) -> str:
        if isinstance(value, dict) and len(value) == 1 and next(iter(value)).startswith("$"):
            value = next(iter(value.values()))  # as MongoDB writes its types
        if value is None:
            return ""
        if isinstance(value, _Token) and not _is_whole(value):
            if doubt(value) is not None or value.rstrip("0").endswith("."):
                return str(value)  # the sieve knows what to make of it
            raise _NoOrderNumberError(
                str(value), "An order number is a text or an integer, got another number."
            )
        if isinstance(value, str):
            return str(value)
        shown = json.dumps(value)
        raise _NoOrderNumberError(shown, f"An order number is a text or an integer, got {_kind(value)}.")


def _flat(row: dict[str, object]) -> dict[str, object]:
    """Return an object with the values of the objects in it beside its own, by names with a dot."""
    inner = (
        (f"{name}.{key}", one)
        for name, value in row.items()
        if isinstance(value, dict)
        for key, one in value.items()
    )
    return {**row, **dict(inner)}


def _text(value: object) -> str:
    return "" if value is None or isinstance(value, dict | list) else str(value)


def _is_whole(token: _Token) -> bool:
    # 1e400 may be an identifier that a tool took for a number: its spelling is kept, like an integer's.
    return token.lstrip("-")[0].isdigit() and not set(".+").intersection(token) and "-" not in token[1:]


def _kind(value: object) -> str:
    return {bool: "true or false", list: "an array", dict: "an object"}[type(value)]

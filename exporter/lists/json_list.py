"""JSON: lines, an array or pages of objects, texts and numbers, without a number ever becoming a float."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Any, NoReturn

import msgspec

from exporter.lists import column_choice
from exporter.lists.batch import Batch, NoOrderNumberError, Sieve, text_of, unfit
from exporter.lists.cell_values import doubt
from exporter.lists.column_choice import plain
from exporter.lists.how_read import Source
from exporter.lists.table import Table
from exporter.lists.text_list import Block

_BATCH_VALUES = 1_000
_LARGEST_DOCUMENT = 64 << 20  # characters
_LOOKED_AT = 100  # values
_GAP = re.compile(r"[ \t\r\n,]*")
#: Messages of Singer and Airbyte that hold no record, and what they hold.
_MESSAGES = ("SCHEMA", "STATE", "ACTIVATE_VERSION", "LOG", "TRACE", "CATALOG")
_IN_MESSAGES = {"stream", "value", "state", "log", "trace", "catalog"}


class _Token(str):
    """A JSON number as it is spelled."""

    __slots__ = ()


# strict=False takes raw control characters inside a text, which `sift` then refuses by line.
_decoder = json.JSONDecoder(parse_int=_Token, parse_float=_Token, parse_constant=_Token, strict=False)


def read(source: Source, blocks: Iterator[Block]) -> Iterator[Batch]:
    """Yield the batches of a JSON text: of lines where its first line is whole, else of one document.

    The column is chosen by the first objects and is the same for all.

    Raises:
        InputError: When it is not JSON, the column is missing, or the stream is no text.
    """
    source.reading.format = "json"
    start = list(islice(blocks, 2))
    line, _, more = start[0][1].lstrip().partition("\n") if start else ("", "", "")
    is_lines = is_value(line) and (len(start) > 1 or bool(more.strip()) or not _is_page(line))
    if not is_lines and not line.startswith(("[", "{")):
        is_lines = True  # which will be refused by its line
    whole = chain(start, blocks)
    chunks = ((first, text.split("\n")) for first, text in whole) if is_lines else _document(source, whole)
    yield from _batches(source, chunks, is_lines)


def is_value(line: str) -> bool:
    """Return whether a line is a JSON value, with a comma or without."""
    return _maybe(line) is not ...


def _maybe(line: str) -> Any:
    try:
        return _decoder.decode(_bare(line))
    except (ValueError, RecursionError):
        return ...


def _bare(line: str) -> str:
    return line.strip().rstrip(",\x1a\0").strip()


def _is_page(line: str) -> bool:
    """Return whether a text of one line holds its values inside of one."""
    value = _maybe(line)
    return isinstance(value, list) or (isinstance(value, dict) and _inside(value) is not None)


def _inside(page: dict[str, object]) -> list[object] | None:
    """Return the values of a page such as `{"results": [...]}`; None where it is no page."""
    arrays = [value for value in page.values() if isinstance(value, list) and value]
    return arrays[0] if len(arrays) == 1 and column_choice.known(list(page)) is None else None


def _document(source: Source, blocks: Iterator[Block]) -> Iterator[tuple[int, list[object]]]:
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
    values, line = _values(source, "\n".join(parts)), 1
    while some := list(islice(values, _BATCH_VALUES)):
        yield line, some
        line += len(some)


def _values(source: Source, text: str) -> Iterator[object]:
    """Yield the values of a document, or of several that stand behind each other."""
    end = 0
    while (begin := end + len(_GAP.match(text, end)[0])) < len(text):  # type: ignore[index] # it may be empty
        try:
            value, end = _decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            _refuse(source, text.count("\n", 0, begin) + 1, text[begin : begin + 100])
        inside = _inside(value) if isinstance(value, dict) else None
        yield from value if isinstance(value, list) else [value] if inside is None else inside


def _refuse(source: Source, line: int, text: str) -> NoReturn:
    shown = text.strip()
    source.refuse(
        f"expected one JSON object, text or number, got {shown if len(shown) <= 40 else shown[:39] + '…'!r}.",
        f"Put one JSON object on each line: jq -c '.[]' {shlex.quote(source.name)} > list.jsonl",
        line,
    )


def _batches(source: Source, chunks: Iterator[tuple[int, list[Any]]], is_lines: bool) -> Iterator[Batch]:
    objects, sieve = _Objects(source), Sieve(source)

    def value(line: int, item: Any) -> Any:
        one = (_maybe(item) if _bare(item) else None) if is_lines else item
        if one is ...:
            _refuse(source, line, item)
        return objects.record(line, one) if isinstance(one, dict) else one

    for first, items in chunks:
        if objects.is_unread:
            top = [value(line, item) for line, item in enumerate(items[:_LOOKED_AT], first)]
            if isinstance(next((one for one in top if one is not None), None), list):
                rest = chain([(first, items)], chunks)
                rows = (
                    (line, value(line, item))
                    for first, items in rest
                    for line, item in enumerate(items, first)
                )
                yield from Table(source, ((line, _cells(source, line, row)) for line, row in rows)).batches()
                return
            objects.choose(first, [one for one in top if isinstance(one, dict)])
        lines = range(first, first + len(items))
        texts = objects.quick(items) if is_lines else None
        if texts is not None:
            yield sieve.sift(lines, texts)
        else:
            yield sieve.sift_each(lines, items, lambda line, item: objects.text(line, value(line, item)))


def _cells(source: Source, line: int, row: object) -> list[object]:
    if not isinstance(row, list | None):
        _refuse(source, line, json.dumps(row))
    return [_plain(value) for value in row or ()]


def _plain(value: object) -> object:
    """Return a value as `text_of` takes it, or why it is no order number."""
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)).startswith("$"):
        value = next(iter(value.values()))  # as MongoDB writes its types
    if not isinstance(value, _Token):
        return value
    # 1e400 may be an identifier that a tool took for a number: its spelling is kept, like an integer's.
    whole = re.fullmatch(r"-?\d[^.+-]*", value) or value.rstrip("0").endswith(".") or doubt(value)
    return str(value) if whole else unfit(value, "another number")


class _Objects:
    """The column of order numbers in objects: chosen by the first of them, the same for all."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._column: str | None = None
        self._stream: object = None
        self._decoder: msgspec.json.Decoder[Any] | None = msgspec.json.Decoder(str | int | None)

    @property
    def is_unread(self) -> bool:
        """Whether no object has been met yet."""
        return self._column is None

    def record(self, line: int, value: dict[str, Any]) -> dict[str, Any] | None:
        """Return an object, or what it holds as a message of Singer or Airbyte; None where that is no record."""
        kind, record = value.get("type"), value.get("record")
        if "." in (self._source.choice.column or "") or column_choice.known(list(value)) is not None:
            return value
        if kind in _MESSAGES and _IN_MESSAGES & value.keys():
            return None
        if kind != "RECORD" or not isinstance(record, dict):
            return value
        stream = value.get("stream", record.get("stream"))
        if self._stream not in (None, stream):
            self._source.refuse(
                f"expected records of one stream, got {self._stream!r} and {stream!r}.",
                f"Choose one: jq -c 'select(.stream == \"{stream}\")' {shlex.quote(self._source.name)} > list.jsonl",
                line,
            )
        self._stream = stream
        self._source.reading.note(f"the records of the stream {stream!r} were read")
        return record if "stream" in value else record.get("data")

    def quick(self, items: Sequence[str]) -> list[str] | None:
        """Return the texts of lines where each is as usual, in a tenth of the time; else None."""
        if self._decoder is None:
            return None
        try:
            values = self._decoder.decode_lines("\n".join(items))
            if self._column is not None:
                values = [row.value for row in values]
            texts = ["" if value is None else str(value) for value in values]
        except (msgspec.MsgspecError, RecursionError, ValueError):  # str() takes 4,300 digits at most
            return None
        return texts if len(texts) == len(items) else None

    def text(self, line: int, value: object) -> str:
        """Return what a value has in the column, as `Sieve.sift_each` wants it."""
        if isinstance(value, dict):
            value = self._cell(line, value)
        elif not isinstance(value, str | None):
            _refuse(self._source, line, json.dumps(value))
        return text_of(_plain(value))

    def _cell(self, line: int, row: dict[str, object]) -> object:
        if self._column is None:
            self.choose(line, [row])
        if self._column in row:
            return row[self._column]
        row = _flat(row)
        others = column_choice.named(list(row), self._column or "")
        if len(others) != 1:
            raise NoOrderNumberError("", f"The object has no {self._column!r}.")
        return list(row.values())[others[0]]

    def choose(self, line: int, rows: list[dict[str, object]]) -> None:
        """Choose the column as that of a table, whose header these objects have together."""
        if not rows:
            return
        # The same name in another spelling, in another object, is no other column.
        together = {plain(name): name for row in reversed(rows) for name in row}
        alike = any(len({*map(plain, row)}) < len(row) for row in rows)
        names = list(dict.fromkeys(name for row in rows for name in row)) if alike else [*together.values()]
        wanted = self._source.choice.column
        if not (column_choice.named(names, wanted) if wanted else column_choice.known(names)):
            names = list(dict.fromkeys(name for row in rows for name in _flat(row)))
        records = [(line, names), *((line, [_text(_flat(row).get(name)) for name in names]) for row in rows)]
        self._column = names[Table(self._source, iter(records)).columns[0]]
        self._source.reading.header_line = None
        self._decoder = None
        with suppress(ValueError):  # msgspec takes no name with an escape
            row = msgspec.defstruct("Row", [("value", str | int | None)], rename={"value": self._column})
            self._decoder = msgspec.json.Decoder(row)


def _flat(row: dict[str, object]) -> dict[str, object]:
    """Return an object with the values of the objects in it beside its own, by names with a dot."""
    inner = {
        f"{name}.{key}": one
        for name, value in row.items()
        if isinstance(value, dict)
        for key, one in value.items()
    }
    return {**row, **inner}


def _text(value: object) -> str:
    return "" if value is None or isinstance(value, dict | list) else str(value)

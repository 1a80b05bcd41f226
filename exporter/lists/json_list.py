"""JSON: lines, an array or pages of objects, texts and numbers, without a number ever becoming a float."""

import json
import re
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
from exporter.system.shell_words import shell_word

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
    """Yield the batches of a JSON text: of lines where its first line is whole, else of one document."""
    source.reading.format = "json"
    start = list(islice(blocks, 2))
    line, _, more = start[0][1].lstrip().partition("\n") if start else ("", "", "")
    is_cut = line.startswith(("[", "{")) and decoded(line) is ...
    is_lines = not is_cut and (len(start) > 1 or bool(more.strip()) or _inside(decoded(line)) is None)
    whole = chain(start, blocks)
    chunks = ((first, text.split("\n")) for first, text in whole) if is_lines else _document(source, whole)
    return _Reader(source, is_lines).batches(chunks)


def decoded(line: str) -> Any:
    """Return the value of a line, with a comma or without: None where it is blank, `...` where it is none."""
    bare = line.strip().rstrip(",\x1a\0").strip()
    try:
        return _decoder.decode(bare) if bare else None
    except (ValueError, RecursionError):
        return ...


def _inside(value: object) -> list[Any] | None:
    """Return the values of an array, or of a page such as `{"results": [...]}`; None where it is neither."""
    if not isinstance(value, dict) or column_choice.known(list(value)) is not None:
        return value if isinstance(value, list) else None
    arrays = [one for one in value.values() if isinstance(one, list) and one]
    return arrays[0] if len(arrays) == 1 else None


def _document(source: Source, blocks: Iterator[Block]) -> Iterator[tuple[int, list[object]]]:
    text = ""
    for _, part in blocks:
        text += f"{part}\n"
        if len(text) > _LARGEST_DOCUMENT:
            most = f"{_LARGEST_DOCUMENT:,} characters"
            what = f"expected JSON of at most {most}, or an object a line, got more."
            source.refuse(what, f"Write one value a line: {_jq(source, '.[]')}")
    source.reading.note("the values of a JSON document are counted as lines")
    values, line = _values(source, text), 1
    while some := list(islice(values, _BATCH_VALUES)):
        yield line, some
        line += len(some)


def _values(source: Source, text: str) -> Iterator[object]:
    end = 0
    while (begin := end + len(_GAP.match(text, end)[0])) < len(text):  # type: ignore[index] # it may be empty
        try:
            value, end = _decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            _refuse(source, text.count("\n", 0, begin) + 1, text[begin : begin + 100])
        inside = _inside(value)
        yield from [value] if inside is None else inside


def _refuse(source: Source, line: int, text: str) -> NoReturn:
    shown = text.strip()
    shown = shown if len(shown) <= 40 else f"{shown[:39]}…"
    what = f"expected one JSON object, text or number, got {shown!r}."
    source.refuse(what, f"Put one JSON object on each line: {_jq(source, '.[]')}", line)


def _jq(source: Source, program: str) -> str:
    return f"jq -c '{program}' {shell_word(source.name)} > list.jsonl"


def _plain(value: object) -> object:
    """Return a value as `text_of` takes it, or why it is no order number."""
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)).startswith("$"):
        value = next(iter(value.values()))  # as MongoDB writes its types
    if not isinstance(value, _Token):
        return value
    # 1e400 may be an identifier that a tool took for a number: its spelling is kept, like an integer's.
    whole = re.fullmatch(r"-?\d[^.+-]*", value) or value.rstrip("0").endswith(".") or doubt(value)
    return str(value) if whole else unfit(value, "another number")


class _Reader:
    """Reads values; the column is chosen by the first objects and is the same for all."""

    def __init__(self, source: Source, is_lines: bool) -> None:
        self._source = source
        self._is_lines = is_lines
        self._column: str | None = None
        self._stream: object = None
        self._quick: msgspec.json.Decoder[Any] | None = msgspec.json.Decoder(str | int | None)

    def batches(self, chunks: Iterator[tuple[int, list[Any]]]) -> Iterator[Batch]:
        sieve = Sieve(self._source)
        for first, items in chunks:
            if self._column is None:
                top = [self._value(line, item) for line, item in enumerate(items[:_LOOKED_AT], first)]
                if isinstance(next((one for one in top if one is not None), None), list):
                    rows = self._rows(chain([(first, items)], chunks))
                    yield from Table(self._source, rows).batches()
                    return
                self._choose(first, [one for one in top if isinstance(one, dict)])
            lines, texts = range(first, first + len(items)), self._read_quickly(items)
            yield sieve.sift_each(lines, items, self._text) if texts is None else sieve.sift(lines, texts)

    def _rows(self, chunks: Iterator[tuple[int, list[Any]]]) -> Iterator[tuple[int, list[object]]]:
        for line, item in ((line, item) for first, items in chunks for line, item in enumerate(items, first)):
            row = self._value(line, item) or []
            if not isinstance(row, list):
                _refuse(self._source, line, json.dumps(row))
            yield line, list(map(_plain, row))

    def _value(self, line: int, item: Any) -> Any:
        value = decoded(item) if self._is_lines else item
        if value is ...:
            _refuse(self._source, line, item)
        return self._record(line, value) if isinstance(value, dict) else value

    def _record(self, line: int, value: dict[str, Any]) -> dict[str, Any] | None:
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
            what = f"expected records of one stream, got {self._stream!r} and {stream!r}."
            one = f'select(.stream == "{stream}")'
            self._source.refuse(what, f"Choose one: {_jq(self._source, one)}", line)
        self._stream = stream
        self._source.reading.note(f"the records of the stream {stream!r} were read")
        return record if "stream" in value else record.get("data")

    def _read_quickly(self, items: Sequence[str]) -> list[str] | None:
        """Return the texts of lines where each is as usual, in a tenth of the time; else None."""
        if self._quick is None or not self._is_lines:
            return None
        try:
            values = self._quick.decode_lines("\n".join(items))
            values = values if self._column is None else [row.value for row in values]
            texts = ["" if value is None else str(value) for value in values]
        except (msgspec.MsgspecError, RecursionError, ValueError):  # str() takes 4,300 digits at most
            return None
        return texts if len(texts) == len(items) else None

    def _text(self, line: int, item: object) -> str:
        value = self._value(line, item)
        if isinstance(value, dict):
            value = self._cell(line, value)
        elif not isinstance(value, str | None):
            _refuse(self._source, line, json.dumps(value))
        return text_of(_plain(value))

    def _cell(self, line: int, row: dict[str, object]) -> object:
        if self._column is None:
            self._choose(line, [row])
        if self._column not in row:
            row = _flat(row)
        others = column_choice.named(list(row), self._column or "")
        if len(others) != 1:
            raise NoOrderNumberError("", f"The object has no {self._column!r}.")
        return list(row.values())[others[0]]

    def _choose(self, line: int, rows: list[dict[str, object]]) -> None:
        """Choose the column as that of a table whose header these objects have together."""
        if not rows:
            return
        # The same name in another spelling, in another object, is no other column.
        together = {plain(name): name for row in reversed(rows) for name in row}
        alike = any(len({*map(plain, row)}) < len(row) for row in rows)
        names = list(dict.fromkeys(name for row in rows for name in row)) if alike else [*together.values()]
        wanted = self._source.choice.column
        if not (column_choice.named(names, wanted) if wanted else column_choice.known(names)):
            names = list(dict.fromkeys(name for row in rows for name in _flat(row)))
        cells = ([_flat(row).get(name) for name in names] for row in rows)
        nested = ([None if isinstance(one, dict | list) else one for one in row] for row in cells)
        table = Table(self._source, chain([(line, names)], ((line, row) for row in nested)))
        self._column, self._quick = names[table.columns[0]], None
        self._source.reading.header_line = None
        with suppress(ValueError):  # msgspec takes no name with an escape
            row = msgspec.defstruct("Row", [("value", str | int | None)], rename={"value": self._column})
            self._quick = msgspec.json.Decoder(row)


def _flat(row: dict[str, object]) -> dict[str, object]:
    objects = ((name, value) for name, value in row.items() if isinstance(value, dict))
    return row | {f"{name}.{key}": one for name, value in objects for key, one in value.items()}

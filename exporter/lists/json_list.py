"""JSON Lines: objects with a column, or bare texts and numbers, without a number ever becoming a float."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol, cast

import msgspec

from exporter.lists import column_choice
from exporter.lists.batch import Batch, InvalidLine, invalid_line, sift
from exporter.lists.text_list import blocks
from exporter.model.errors import InputError


class _Token(str):
    """A JSON number as it is spelled."""

    __slots__ = ()


class _NoOrderNumberError(Exception):
    """Raised for a JSON value that is no order number: (the text to show, the reason)."""


class _Row(Protocol):
    value: str | int


_decode_bare: Callable[[str], str | int] = msgspec.json.Decoder(str | int).decode


def read(stream: BinaryIO, name: str, column: str | None) -> Iterator[Batch]:
    """Yield the batches of a JSON Lines stream.

    The column is chosen by the first object and stands for all.

    Raises:
        InputError: When a line is not JSON, the column is missing, or the stream is not UTF-8 text.
    """
    reader = _Reader(name, column)
    for first_line, text in blocks(stream, name):
        yield reader.batch(first_line, text.split("\n"))


class _Reader:
    """Turns JSON lines into batches, by the column that the first object had."""

    def __init__(self, name: str, wanted: str | None) -> None:
        self._name = name
        self._wanted = wanted
        self._column: str | None = None
        self._decode_row: Callable[[str], _Row] | None = None

    def batch(self, first_line: int, texts: list[str]) -> Batch:
        lines: list[int] = []
        numbers: list[str] = []
        invalid: list[InvalidLine] = []
        for line, text in enumerate(texts, first_line):
            try:
                number = self._plain(text)
                numbers.append(self._exact(line, text) if number is None else number)
                lines.append(line)
            except _NoOrderNumberError as error:
                invalid.append(invalid_line(line, *error.args))
        return sift(lines, numbers, invalid)

    def _plain(self, text: str) -> str | None:
        """Return a text or an integer, the usual case, quickly; None for all the rest."""
        try:
            if self._decode_row is not None and text.startswith("{"):
                return str(self._decode_row(text).value)
            return str(_decode_bare(text))
        except (msgspec.MsgspecError, RecursionError, ValueError):  # str() takes 4,300 digits at most
            return None

    def _exact(self, line: int, text: str) -> str:
        if not text.strip():
            return ""
        value = self._parsed(line, text)
        if isinstance(value, dict):
            value = self._cell(line, value)
        elif not isinstance(value, str | None):
            raise self._unreadable(line, text)
        return _order_number(value)

    def _parsed(self, line: int, text: str) -> object:
        # strict=False takes raw control characters inside a text, which `sift` then refuses by line.
        try:
            return json.loads(text, parse_int=_Token, parse_float=_Token, parse_constant=_Token, strict=False)
        except (ValueError, RecursionError) as error:
            raise self._unreadable(line, text) from error

    def _cell(self, line: int, row: dict[str, object]) -> object:
        if self._column is None:
            self._choose(list(row), line)
        if self._column not in row:
            raise _NoOrderNumberError("", f"The object has no {self._column!r}.")
        return row[self._column]

    def _choose(self, names: list[str], line: int) -> None:
        self._column = names[column_choice.choose(names, self._wanted, f"{self._name}:{line}")]
        try:
            row = msgspec.defstruct("Row", [("value", str | int)], rename={"value": self._column})
        except ValueError:  # msgspec takes no name with an escape; `_exact` reads such rows
            return
        self._decode_row = msgspec.json.Decoder(cast("type[_Row]", row)).decode

    def _unreadable(self, line: int, text: str) -> InputError:
        shown = text.strip()
        return InputError(
            f"{self._name}:{line}: expected one JSON object, text or number, "
            f"got {shown if len(shown) <= 40 else shown[:39] + '…'!r}.",
            "Put one JSON object on each line, and nothing else.",
        )


def _order_number(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, _Token) and not _is_whole(value):
        raise _NoOrderNumberError(str(value), "An order number is a text or an integer, got another number.")
    if isinstance(value, str):
        return str(value)
    shown = json.dumps(value)
    raise _NoOrderNumberError(shown, f"An order number is a text or an integer, got {_kind(value)}.")


def _is_whole(token: _Token) -> bool:
    # 1e400 may be an identifier that a tool took for a number: its spelling is kept, like an integer's.
    return "." not in token and token.lstrip("-")[0].isdigit()


def _kind(value: object) -> str:
    return {bool: "true or false", list: "an array", dict: "an object"}[type(value)]

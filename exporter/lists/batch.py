"""What an order number is, and how an input's texts are sifted by that rule."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import attrgetter
from typing import TypeVar

from exporter.lists.cell_values import (
    INVISIBLE,
    NO_NUMBERS,
    SUSPICIOUS,
    WHOLE_FLOAT,
    doubt,
    is_furniture,
    replaced,
    unwrapped,
)
from exporter.lists.how_read import Source

MAX_LENGTH = 128
"""Characters of the longest order number, as in the vendor's own connector."""

_SHOWN_LENGTH = 200  # above MAX_LENGTH, so that a cut text is still refused when rejects are read again
_PATH_DOTS = (".", "..")  # as a path segment they mean a folder (RFC 3986, 5.2.4)
_KINDS = {bool: "true or false", float: "a fraction", list: "an array", dict: "an object", bytes: "bytes"}
T = TypeVar("T")

EXACT_BELOW = 10**15
"""A number in a spreadsheet's cell is a double, of which 15 digits are kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InvalidLine:
    """A line that holds something, but no order number.

    Args:
        line: Its number, from 1.
        text: What stood there, cut after 200 characters; empty where there was nothing to show.
        detail: One sentence: why it is no order number.
    """

    line: int
    text: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Some neighbouring lines of an input, sifted.

    Args:
        lines: The line of each order number, rising.
        order_numbers: The order numbers, as many as `lines`; duplicates are still among them.
        invalid: The lines that hold no order number, rising.
        blank: How many lines were blank.
    """

    lines: Sequence[int]
    order_numbers: Sequence[str]
    invalid: Sequence[InvalidLine] = ()
    blank: int = 0

    def pairs(self) -> Iterator[tuple[int, str]]:
        """Return (line, order number) for each order number, as `executemany` takes them."""
        return zip(self.lines, self.order_numbers, strict=True)

    @property
    def line_count(self) -> int:
        """How many lines were sifted: order numbers, invalid and blank."""
        return len(self.order_numbers) + len(self.invalid) + self.blank


class NoOrderNumberError(Exception):
    """Raised for a value that is no order number: (the text to show, the reason); a cell may be one."""

    def __str__(self) -> str:
        return str(self.args[0])


def complaint(text: str) -> str | None:
    """Say why a stripped text is no order number.

    Returns:
        One sentence, or None where it is an order number.

    >>> complaint("bf7b66149236455")
    >>> complaint("a b")
    'An order number has no white space inside, got U+0020 at character 2.'
    """
    if not text:
        return "An order number has at least 1 character, got none."
    if len(text) > MAX_LENGTH:
        return f"An order number has at most {MAX_LENGTH} characters, got {len(text):,}."
    if text in _PATH_DOTS:
        return f"An order number is not {text!r}, which means a folder in a URL."
    if text.isprintable() and " " not in text:
        return None
    place, bad = next((place, c) for place, c in enumerate(text, 1) if c == " " or not c.isprintable())
    rule = "has no white space inside" if bad.isspace() else "has printable characters only"
    return f"An order number {rule}, got U+{ord(bad):04X} at character {place}."


def unfit(value: object, kind: str | None = None, hint: str = "") -> NoOrderNumberError:
    """Return the error of a value whose kind is no order number's."""
    shown = json.dumps(value) if isinstance(value, list | dict | bool) else str(value)
    kind = kind or _KINDS.get(type(value), "a date or time")
    return NoOrderNumberError(shown, f"An order number is a text or an integer, got {kind}.{hint}")


def text_of(value: object) -> str:
    """Return the text of a cell or of a JSON value, empty where it is blank.

    Raises:
        NoOrderNumberError: Values of its kind are no order numbers.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, NoOrderNumberError):
        raise value
    if type(value) is int or (type(value) is float and value % 1 == 0 and abs(value) < EXACT_BELOW):
        return str(int(value))
    raise unfit(value)


class Sieve:
    """Sifts the texts of one list, and remembers what the texts so far were like.

    Args:
        source: The list; its reading learns what is sifted.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._floats: bool | None = None  # whether all numbers so far end in `.0`
        self._closer = NO_NUMBERS  # texts that are no order numbers though they look like some
        self._header: str | None = None

    def know_header(self, text: str) -> None:
        """Take the text of the header for one where it comes again, as in files put one behind the other."""
        self._header = text
        self._closer = NO_NUMBERS | {text}

    def sift_each(self, lines: Sequence[int], values: Sequence[T], text: Callable[[int, T], str]) -> Batch:
        """Sift values that `text` makes texts of, given (line, value), or raises `NoOrderNumberError` for."""
        kept, texts, invalid = [], [], []
        for line, value in zip(lines, values, strict=True):
            try:
                texts.append(text(line, value))
                kept.append(line)
            except NoOrderNumberError as error:
                invalid.append(_invalid_line(line, *error.args))
        return self.sift(kept, texts, invalid)

    def sift(self, lines: Sequence[int], texts: Sequence[str], invalid: Sequence[InvalidLine] = ()) -> Batch:
        """Strip and unwrap texts and part them into order numbers, blanks and invalid lines.

        Args:
            lines: The line of each text, rising.
            texts: As many texts as `lines`; an empty one is a blank line.
            invalid: Lines that the format has already refused; they are not among `lines`.

        Raises:
            InputError: Nobody can know which numbers these were.
        """
        if self._all_plain(texts):
            if self._floats:
                self._refuse_mixture(lines[0], texts[0])
            self._floats = False
            batch = Batch(lines=lines, order_numbers=texts, invalid=invalid)
        else:
            batch = self._parted(lines, [self._peeled(text) for text in texts], invalid)
        self._remember(batch)
        return batch

    def _all_plain(self, texts: Sequence[str]) -> bool:
        # The whole batch at once, because asking text by text is 10 times slower.
        if not texts:
            return False
        joined = "".join(texts)
        # str.isprintable is False for all that is invisible but U+0020.
        if not (joined.isascii() and joined.isalnum()) and (
            " " in joined
            or not joined.isprintable()
            or SUSPICIOUS.search(joined)
            or self._source.reading.is_legacy
        ):
            return False
        lengths = list(map(len, texts))
        known = joined.isdecimal() or self._closer.isdisjoint(texts)
        return known and min(lengths) > 0 and max(lengths) <= MAX_LENGTH

    def _peeled(self, text: str) -> str:
        stripped = text.strip(INVISIBLE)
        if len(stripped) != len(text.strip()):
            self._source.reading.stripped += 1
        if not stripped or stripped.isalnum():
            return stripped
        if stripped == self._header or is_furniture(stripped):
            return ""
        bare = unwrapped(stripped)
        self._source.reading.unwrapped += bare != stripped
        return bare

    def _parted(self, lines: Sequence[int], texts: list[str], invalid: Sequence[InvalidLine]) -> Batch:
        lines, full = list(compress(lines, texts)), list(filter(None, texts))
        details = [complaint(text) or replaced(text) for text in full]
        valid = [detail is None for detail in details]
        refused = [
            _invalid_line(line, text, detail)
            for line, text, detail in zip(lines, full, details, strict=True)
            if detail is not None
        ]
        kept = list(compress(lines, valid))
        return Batch(
            lines=kept,
            order_numbers=self._certain(kept, list(compress(full, valid))),
            invalid=sorted([*invalid, *refused], key=attrgetter("line")),
            blank=len(texts) - len(full),
        )

    def _certain(self, lines: list[int], texts: list[str]) -> list[str]:
        """Refuse texts whose digits are in doubt; return the others, without the `.0` of floats."""
        for line, text in zip(lines, texts, strict=True):
            if (why := doubt(text)) is not None:
                self._source.refuse(f"expected an order number, got {text!r}: {why[0]}.", why[1], line)
            if self._source.reading.is_legacy and not text.isascii():
                encoding = str(self._source.reading.encoding).lower()
                hint = f"If {text!r} is right, add --encoding {encoding}; else save the file as UTF-8."
                self._source.refuse(
                    f"expected UTF-8, got an order number with other bytes: {text!r}?", hint, line
                )
        floats = [WHOLE_FLOAT.fullmatch(text) for text in texts]
        if not any(floats) and not (self._floats and texts):
            self._floats = False if texts else self._floats
            return texts
        if self._floats is False or not all(floats):
            odd = next(i for i, match in enumerate(floats) if (match is None) != (self._floats is False))
            self._refuse_mixture(lines[odd], texts[odd])
        self._floats = True
        self._source.reading.note("every number ends in .0, which was left out")
        return [match[1] for match in floats if match]

    def _refuse_mixture(self, line: int, text: str) -> None:
        self._source.refuse(
            f"expected numbers that all end in .0, or none, got {text!r} among others.",
            "In the program that wrote it, make the column text or integers.",
            line,
        )

    def _remember(self, batch: Batch) -> None:
        reading = self._source.reading
        if batch.order_numbers:
            reading.first = reading.first or batch.order_numbers[0]
            reading.last = batch.order_numbers[-1]
        if batch.invalid and reading.invalid is None:
            first = batch.invalid[0]
            reading.invalid = (first.line, first.text, first.detail)


def _invalid_line(line: int, text: str, detail: str) -> InvalidLine:
    shown = text if len(text) <= _SHOWN_LENGTH else f"{text[: _SHOWN_LENGTH - 1]}…"
    storable = shown.encode("utf-8", "replace").decode("utf-8")  # JSON may hold lone surrogates
    return InvalidLine(line=line, text=storable, detail=detail)

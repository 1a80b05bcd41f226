"""What an order number is, and how an input's texts are sifted by that rule."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeVar

from exporter.lists import cell_values
from exporter.lists.how_read import LEGACY, Source

MAX_LENGTH = 128  # characters of an order number, as in the vendor's own connector
_SHOWN_LENGTH = 200  # above MAX_LENGTH, so that a cut text is still refused when rejects are read again
_PATH_DOTS = (".", "..")  # as a path segment they mean a folder (RFC 3986, 5.2.4)
_KINDS = {bool: "true or false", float: "a fraction", list: "an array", dict: "an object", bytes: "bytes"}
EXACT_BELOW = 10**15  # a number in a spreadsheet's cell is a double, of which 15 digits are kept
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class InvalidLine:
    """A line, from 1, that holds something (cut after 200 characters), and why that is no order number."""

    line: int
    text: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Some neighbouring lines of an input, sifted; lines rise, and duplicates are still among the numbers."""

    lines: Sequence[int]
    order_numbers: Sequence[str]
    invalid: Sequence[InvalidLine] = ()
    blank: int = 0

    def pairs(self) -> Iterator[tuple[int, str]]:
        """Return (line, order number) for each order number."""
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
    """Say in a sentence why a stripped text is no order number; None where it is one.

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
    """Return the text of a cell or of a JSON value, empty where it is blank, or raise `NoOrderNumberError`."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if type(value) is int or (type(value) is float and value % 1 == 0 and abs(value) < EXACT_BELOW):
        return str(int(value))
    raise value if isinstance(value, NoOrderNumberError) else unfit(value)


class Sieve:
    """Sifts the texts of one list, and remembers in its reading what they were like."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._reading = source.reading
        self._floats: bool | None = None  # whether all numbers so far end in `.0`
        self._header: str | None = None
        self._closer = cell_values.NO_NUMBERS  # texts that are no order numbers though they look like some

    def know_header(self, text: str) -> None:
        """Take the text of the header for one where it comes again, as in files put one behind the other."""
        self._header = text
        self._closer = cell_values.NO_NUMBERS | {text}

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
        """Part rising lines into order numbers, blanks and invalid lines; `invalid` are others, already refused."""
        if self._all_plain(texts):
            self._check_floats(lines[:1], texts[:1], [False])
            batch = Batch(lines=lines, order_numbers=texts, invalid=invalid)
        else:
            batch = self._parted(lines, texts, list(invalid))
        if batch.order_numbers:
            self._reading.first = self._reading.first or batch.order_numbers[0]
            self._reading.last = batch.order_numbers[-1]
        for bad in batch.invalid[:1]:
            self._reading.invalid = self._reading.invalid or (bad.line, bad.text, bad.detail)
        return batch

    def _all_plain(self, texts: Sequence[str]) -> bool:
        # The whole batch at once, because asking text by text is 10 times slower.
        joined = "".join(texts)
        if not (joined.isascii() and joined.isalnum()):
            # str.isprintable is False for all that is invisible but U+0020.
            odd = " " in joined or not joined.isprintable() or cell_values.SUSPICIOUS.search(joined)
            if odd or self._reading.encoding in LEGACY:
                return False
        lengths = list(map(len, texts)) or [0]
        known = joined.isdecimal() or self._closer.isdisjoint(texts)
        return known and min(lengths) > 0 and max(lengths) <= MAX_LENGTH

    def _peeled(self, text: str) -> str:
        stripped = text.strip(cell_values.INVISIBLE)
        self._reading.stripped += len(stripped) != len(text.strip())
        if not stripped or stripped.isalnum():
            return stripped
        if stripped == self._header or cell_values.is_furniture(stripped):
            return ""
        bare = cell_values.unwrapped(stripped)
        self._reading.unwrapped += bare != stripped
        return bare

    def _parted(self, lines: Sequence[int], texts: Sequence[str], invalid: list[InvalidLine]) -> Batch:
        kept: list[int] = []
        numbers: list[str] = []
        blank = 0
        for line, text in zip(lines, map(self._peeled, texts), strict=True):
            if not text:
                blank += 1
            elif detail := complaint(text) or cell_values.replaced(text):
                invalid.append(_invalid_line(line, text, detail))
            else:
                self._check_certain(line, text)
                kept.append(line)
                numbers.append(text)
        floats = [cell_values.WHOLE_FLOAT.fullmatch(number) for number in numbers]
        self._check_floats(kept, numbers, list(map(bool, floats)))
        numbers = [match[1] for match in floats if match] or numbers
        invalid.sort(key=attrgetter("line"))
        return Batch(lines=kept, order_numbers=numbers, invalid=invalid, blank=blank)

    def _check_certain(self, line: int, text: str) -> None:
        if (why := cell_values.doubt(text)) is not None:
            hint = "In the program that wrote it, format the column as text (or as 0) and save again."
            self._source.refuse(f"expected an order number, got {text!r}: {why}.", hint, line)
        if self._reading.encoding in LEGACY and not text.isascii():
            encoding = str(self._reading.encoding).lower()
            hint = f"If {text!r} is right, add --encoding {encoding}; else save the file as UTF-8."
            what = f"expected UTF-8, got an order number with other bytes: {text!r}?"
            self._source.refuse(what, hint, line)

    def _check_floats(self, lines: Sequence[int], texts: Sequence[str], floats: list[bool]) -> None:
        wanted = any(floats) if self._floats is None else self._floats
        if (not wanted) in floats:
            odd = floats.index(not wanted)
            what = f"expected numbers that all end in .0, or none, got {texts[odd]!r} among others."
            hint = "In the program that wrote it, make the column text or integers."
            self._source.refuse(what, hint, lines[odd])
        self._floats = wanted if floats else self._floats
        if self._floats:
            self._reading.note("every number ends in .0, which was left out")


def _invalid_line(line: int, text: str, detail: str) -> InvalidLine:
    shown = text if len(text) <= _SHOWN_LENGTH else f"{text[: _SHOWN_LENGTH - 1]}…"
    storable = shown.encode("utf-8", "replace").decode("utf-8")  # JSON may hold lone surrogates
    return InvalidLine(line=line, text=storable, detail=detail)

"""What an order number is, and how an input's texts are sifted by that rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import attrgetter

MAX_LENGTH = 128
"""Characters of the longest order number, as in the vendor's own connector."""

_SHOWN_LENGTH = 200  # above MAX_LENGTH, so that a cut text is still refused when rejects are read again
_PATH_DOTS = (".", "..")  # as a path segment they mean a folder (RFC 3986, 5.2.4)


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
    return _character_complaint(text)


def invalid_line(line: int, text: str, detail: str) -> InvalidLine:
    """Build an `InvalidLine` whose text is short and can be stored as UTF-8."""
    shown = text if len(text) <= _SHOWN_LENGTH else f"{text[: _SHOWN_LENGTH - 1]}…"
    storable = shown.encode("utf-8", "replace").decode("utf-8")  # JSON may hold lone surrogates
    return InvalidLine(line=line, text=storable, detail=detail)


def sift(lines: Sequence[int], texts: Sequence[str], invalid: Sequence[InvalidLine] = ()) -> Batch:
    """Strip texts and part them into order numbers, blanks and invalid lines.

    Args:
        lines: The line of each text, rising.
        texts: As many texts as `lines`; an empty one is a blank line.
        invalid: Lines that the format has already refused; they are not among `lines`.
    """
    if _all_valid(texts):
        return Batch(lines=lines, order_numbers=texts, invalid=invalid)
    stripped = [text.strip() for text in texts]
    lines, full = list(compress(lines, stripped)), list(filter(None, stripped))
    blank = len(texts) - len(full)
    if _all_valid(full):
        return Batch(lines=lines, order_numbers=full, invalid=invalid, blank=blank)
    return _parted(lines, full, invalid, blank)


def _parted(lines: Sequence[int], texts: Sequence[str], invalid: Sequence[InvalidLine], blank: int) -> Batch:
    details = [complaint(text) for text in texts]
    valid = [detail is None for detail in details]
    refused = [
        invalid_line(line, text, detail)
        for line, text, detail in zip(lines, texts, details, strict=True)
        if detail is not None
    ]
    return Batch(
        lines=list(compress(lines, valid)),
        order_numbers=list(compress(texts, valid)),
        invalid=sorted([*invalid, *refused], key=attrgetter("line")),
        blank=blank,
    )


def _character_complaint(text: str) -> str | None:
    if text.isprintable() and " " not in text:
        return None
    place, bad = next((place, c) for place, c in enumerate(text, 1) if c == " " or not c.isprintable())
    rule = "has no white space inside" if bad.isspace() else "has printable characters only"
    return f"An order number {rule}, got U+{ord(bad):04X} at character {place}."


def _all_valid(texts: Sequence[str]) -> bool:
    # The whole batch at once, because asking text by text is 10 times slower.
    # str.isprintable is False for all white space but U+0020.
    if not texts:
        return False
    joined = "".join(texts)
    lengths = [len(text) for text in texts]
    return (
        joined.isprintable()
        and " " not in joined
        and min(lengths) > 0
        and max(lengths) <= MAX_LENGTH
        and not any(dots in texts for dots in _PATH_DOTS)
    )

"""How a list is to be read, and how it was read: what the log, `--dry-run` and `--json` say of it."""

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO, NoReturn

from exporter.model.errors import InputError
from exporter.model.options import AskOptions

#: Encodings that are tried where a text is not UTF-8, as they are told and as Python calls them. No order number can
#: be trusted in one that was guessed.
LEGACY = {"Windows-1254": "cp1254", "cp857": "cp857"}


@dataclass(kw_only=True, slots=True)
class Reading:
    """How one list was read, filled in while it is read; None, 0 and empty for what does not apply."""

    format: str = "text"
    packed: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None
    header_line: int | None = None
    column: str | None = None  # its name as the list spells it, or its position
    first: str | None = None
    last: str | None = None
    stripped: int = 0  # from how many lines something invisible was taken
    unwrapped: int = 0  # from how many lines quotes and the like were taken
    invalid: tuple[int, str, str] | None = None  # the first: its line, its text, and why
    notes: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Add what was guessed, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def as_dict(self) -> dict[str, Any]:
        """Return what is known, as JSON values."""
        return {name: value for name, value in asdict(self).items() if value not in (None, 0, [])}


#: How `sentence` words each thing, in this order.
_WORDS = {
    "format": "{}",
    "packed": "in {}",
    "encoding": "{}",
    "delimiter": "delimiter {!r}",
    "sheet": "sheet {!r}",
    "header_line": "header on line {}",
    "column": "column {!r}",
    "query": "query {}",
    "pages": "{:,} pages",
    "listed": "{:,} orders",
    "status": "status {}",
    "placed_from": "placed from {}",
    "placed_to": "placed to {}",
    "first": "first {!r}",
    "last": "last {!r}",
    "stripped": "{:,} with invisible characters",
    "unwrapped": "{:,} unwrapped",
    "invalid": "first invalid line {0[0]}: {0[1]!r} ({0[2]})",
}


def sentence(read: dict[str, Any]) -> str:
    """Return in one line how a list was read; `read` is what `Reading.as_dict` gave.

    >>> sentence({"format": "csv", "delimiter": ";", "column": "Sipariş No", "first": "1", "last": "9"})
    "csv, delimiter ';', column 'Sipariş No', first '1', last '9'"
    """
    words = ", ".join(form.format(read[name]) for name, form in _WORDS.items() if name in read)
    return "; ".join([words, *read.get("notes", ())])


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """An opened list, from the beginning of its bytes, and what is known of it."""

    stream: BinaryIO
    name: str  # as errors call it
    choice: AskOptions  # what the user has decided
    reading: Reading
    head: bytes = b""
    files: list[Any] = field(default_factory=list)  # what was opened on the way, to be closed in the end

    def refuse(self, what: str, hint: str, line: int | None = None) -> NoReturn:
        """Raise `InputError`: what was expected and found here, and what to do about it."""
        place = self.name if line is None else f"{self.name}:{line}"
        raise InputError(f"{place}: {what}".replace("\n", " "), hint)


class Passing(io.RawIOBase):
    """What a function reads, as a stream that cannot seek."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # what RawIOBase really hands over
        """Read into a buffer, and return how much."""
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def first_line(error: Exception) -> str:
    """Return what a library says to users; it may add lines for its own developers."""
    return str(error).partition("\n")[0].rstrip(".")

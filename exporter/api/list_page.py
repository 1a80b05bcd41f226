"""A page of the API's order list: what it holds, without whoever asks for it."""

from dataclasses import dataclass
from typing import Any

import msgspec

from exporter.model.errors import BadResponseError


class Entry(msgspec.Struct):
    """One order of the list, as far as it is needed to tell it from others and to choose by."""

    id: Any = None
    number: Any = None
    status: Any = None
    date_placed: Any = None


class _Envelope(msgspec.Struct):
    count: int
    next: str | None
    results: list[Entry]


class _RawEntries(msgspec.Struct):
    results: list[msgspec.Raw]


@dataclass(frozen=True, slots=True)
class Page:
    """The envelope, as documented, and the body that it came in."""

    count: int
    next: str | None
    results: list[Entry]
    body: bytes = b""

    @property
    def last(self) -> int:
        """The number of the last page, where all are as full as this one."""
        return -(-self.count // max(1, len(self.results)))


def decoded(body: bytes) -> Page:
    """Return the page that a body is, or raise `BadResponseError`."""
    try:
        page = msgspec.json.decode(body, type=_Envelope)
        return Page(page.count, page.next, page.results, body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadResponseError("the API answered with something else than a page of orders", 200) from None


def raw_entries(body: bytes) -> list[bytes]:
    """Return a page's entries as they came."""
    return list(map(bytes, msgspec.json.decode(body, type=_RawEntries).results))


def text_of(number: object) -> str:
    """Return an order's number as text: it is documented as a number and is text in fact."""
    if isinstance(number, str):
        return number.strip()
    return str(number) if isinstance(number, int) and not isinstance(number, bool) else ""

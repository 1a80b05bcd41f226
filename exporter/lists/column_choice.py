"""Which column of a table holds the order numbers, by what people call it."""

import re
import unicodedata
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

from exporter.lists.cell_values import INVISIBLE

#: What people call the column, spelled as `plain` does: the best first, then what is taken only without a better one.
KNOWN: tuple[tuple[str, ...], ...] = (
    (
        *("ordernumber", "orderno", "ordernr", "ordernum", "order#", "ordernumbers"),
        *("siparisno", "siparisnumarasi", "siparisnumara", "siparisnumaralari", "siparisnr", "siparis#"),
    ),
    ("number", "numara"),
    ("orderid", "siparisid"),
)
_NUMBER, _ORDER_ID = 1, 2
#: Beside one of these a mere `number` is that of a house or a telephone.
_OF_SOMEBODY = frozenset(
    ("street", "sokak", "cadde", "address", "adres", "phone", "telefon", "tel", "mobile", "city", "sehir")
)
_TURKISH = str.maketrans("ıİ", "ii")
_SHOWN_COLUMNS = 20


def plain(name: object) -> str:
    """Return a name without case, accents, white space and punctuation.

    >>> [plain(name) for name in ("Sipariş No", "ORDER_NUMBER", "order #", "SİPARİŞ NUMARASI")]
    ['siparisno', 'ordernumber', 'order#', 'siparisnumarasi']
    """
    letters = unicodedata.normalize("NFKD", str(name).translate(_TURKISH)).casefold().translate(_TURKISH)
    return re.sub(r"[^\w#]|_", "", "".join(c for c in letters if not unicodedata.combining(c)))


def is_known(name: object) -> bool:
    """Return whether this is one of the known names, in any spelling."""
    return any(plain(name) in words for words in KNOWN)


def shown(cell: object) -> str:
    """Return the name that a header's cell gives, on one line."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return "" if cell is None else " ".join(str(cell).strip(INVISIBLE).split())


class Found(NamedTuple):
    """Columns that may be meant: how sure their names are, 0 the surest; their indexes; a name that speaks against."""

    rank: int
    columns: list[int]
    rival: str | None


def known(names: Sequence[str]) -> Found | None:
    """Return the columns with the surest of the known names; None where no name is known."""
    spelled = [plain(name) for name in names]
    for rank, words in enumerate(KNOWN):
        found = [i for i, name in enumerate(spelled) if name in words]
        if found and not (rank == _NUMBER and _OF_SOMEBODY.intersection(spelled)):
            rivals = KNOWN[_ORDER_ID] if rank == _NUMBER else ()
            rival = next((name for name, word in zip(names, spelled, strict=True) if word in rivals), None)
            return Found(rank, found, rival)
    return None


def named(names: Sequence[str], wanted: str) -> list[int]:
    """Return the columns that a user's word names: as it is spelled, else in another spelling."""
    exact = [i for i, name in enumerate(names) if name == wanted]
    return exact or [i for i, name in enumerate(names) if plain(name) == plain(wanted) != ""]


def position(wanted: str) -> int | None:
    """Return the index that a position from 1 or a spreadsheet's letters mean; None where they mean none.

    >>> position("3"), position("b"), position("AA"), position("total")
    (2, 1, 26, None)
    """
    if wanted.isascii() and wanted.isdecimal():
        return int(wanted[:6]) - 1 if int(wanted[:6]) else None
    return letters_number(wanted) - 1 if re.fullmatch("[A-Za-z]{1,3}", wanted) else None


def letters_number(letters: str) -> int:
    """Return the number, from 1, of the column that a spreadsheet calls so."""
    return reduce(lambda number, letter: number * 26 + ord(letter) - 64, letters.upper(), 0)


def listed(names: Sequence[str]) -> str:
    """Return the names as an error quotes them."""
    if not names:
        return "no columns"
    more = f" and {len(names) - _SHOWN_COLUMNS:,} more" if len(names) > _SHOWN_COLUMNS else ""
    quoted = (repr(name if len(name) <= 60 else f"{name[:59]}…") for name in names[:_SHOWN_COLUMNS])
    return ("the column " if len(names) == 1 else "the columns ") + ", ".join(quoted) + more

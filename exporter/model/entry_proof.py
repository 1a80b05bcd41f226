"""What shows that an entry of the API's order list is the whole order: comparison, its own sums, its shape.

Entries are taken only in a run that has compared enough of them with their details and found no difference, and of
those only what proves itself too: its amount follows from its items, and it has the keys that compared ones have. A
lie that is consistent with itself is found by comparison alone.

A list may spell numbers otherwise than details do. A column of whole numbers takes 27 and not 27.0, so such entries are
taken with whole numbers spelt plainly.
"""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from hashlib import blake2b
from itertools import product
from typing import Any, Self

import msgspec

from exporter.model.catalog import ITEMS_KEY, ORDER_ITEMS, ORDERS, Kind

#: So many of the first listed orders are compared with their details, and then one in so many.
FIRST, ONE_IN = 20, 200
#: Entries that may fail to prove themselves, beside half of all, before the sums are known not to be this shop's.
_MOST_SUSPECTS = 50
_MOST_SHAPES = 1000
#: Free-form objects: their keys are the shop's own, and differ from order to order.
_FREE = {(*place, *column.path) for place, table in (((), ORDERS), ((ITEMS_KEY,), ORDER_ITEMS))
         for column in table if column.kind is Kind.JSON and column.path}  # fmt: skip
#: What an amount may be made of beside its items' prices; which of these it is, compared orders tell.
_AMOUNTS = {
    f"amount: {shipping}, {discount} × discount, {interest} × interest": (shipping, discount, interest)
    for shipping, discount, interest in product(("shipping_amount", "net_shipping_amount"), (0, 1), (0, 1))
}
_SUMMED = ("discount_amount", "installment_interest_amount")
_LAWS = frozenset((*_AMOUNTS, *_SUMMED, "order"))
#: A string, which may hold anything, or a number with a fraction or an exponent.
_STRING_OR_NUMBER = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?')
_MOST_DIGITS = 19  # of a number in a column of whole numbers


class EntryProof(msgspec.Struct, frozen=True, kw_only=True):
    """What one reading of the list has learnt of its entries."""

    seed: str  # it chooses what is compared, so that nobody knows it before
    seen: int = 0
    suspects: int = 0  # of those seen, that did not prove themselves
    compared: int = 0  # that equal their details
    differs: str | None = None  # where the first one did not
    laws: frozenset[str] = _LAWS  # what compared orders have in common
    shapes: frozenset[str] = frozenset()  # theirs
    respelt: bool = False  # one of them had a number that its detail spells otherwise

    @property
    def is_lost(self) -> bool:
        """Whether no entry is taken, whatever else is compared."""
        return self.differs is not None or self.suspects > _MOST_SUSPECTS + self.seen / 2

    @property
    def holds(self) -> bool:
        """Whether entries that prove themselves may be taken."""
        return not self.is_lost and self.compared >= FIRST

    def chooses(self, number: str) -> bool:
        """Return whether an order is one of those that are compared whatever they look like."""
        digest = blake2b(number.encode(errors="replace"), key=self.seed.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % ONE_IN == 0

    def suspects_of(self, entry: bytes) -> bool:
        """Return whether an entry does not prove itself."""
        facts = _facts(entry)
        return facts is None or not (self.laws <= facts[0] and facts[1] <= self.shapes)

    def with_detail(self, number: str, entry: bytes, detail: bytes) -> Self:
        """Compare an entry with its detail, and learn from one that equals it."""
        if (path := difference(entry, detail)) is not None:
            return msgspec.structs.replace(self, differs=f"order {number} at {path or 'its top'}")
        respelt = self.respelt or _spelling(entry) != _spelling(detail)
        laws, shapes = _facts(entry) or (_LAWS, frozenset())
        # An order whose amount follows no law teaches none.
        kept = self.laws & laws if laws & self.laws & _AMOUNTS.keys() else self.laws
        known = self.shapes | shapes if len(self.shapes) < _MOST_SHAPES else self.shapes
        learnt = {"laws": kept, "shapes": known, "respelt": respelt}
        return msgspec.structs.replace(self, compared=self.compared + 1, **learnt)


def digest_of(entry: bytes) -> str:
    """Return what tells an entry, as it came, from any other."""
    return blake2b(entry, digest_size=16).hexdigest()


def with_plain_integers(text: bytes) -> bytes:
    """Return a JSON text with its whole numbers spelt as such; all else stays as it is.

    >>> with_plain_integers(b'{"id": 27.0, "price": 2.50, "of": [1e3, -0.0], "name": "1.0"}')
    b'{"id": 27, "price": 2.50, "of": [1000, 0], "name": "1.0"}'
    """
    return _STRING_OR_NUMBER.sub(_plainly, text)


def _plainly(found: re.Match[bytes]) -> bytes:
    literal = found[0]
    if literal.startswith(b'"') or literal.removeprefix(b"-").isdigit():
        return literal
    try:
        number = Decimal(literal.decode())
    except ArithmeticError:
        return literal
    is_whole = number.adjusted() < _MOST_DIGITS and number == number.to_integral_value()
    return str(int(number)).encode() if is_whole else literal


def difference(entry: bytes, detail: bytes) -> str | None:
    """Return the path at which two JSON texts differ first, number spelling and key order aside; None for none.

    >>> difference(b'{"a": [1, {"b": 2.50}]}', b'{"a": [1.0, {"b": 2.5}]}')
    >>> difference(b'{"a": [1, {"b": 2.50}]}', b'{"a": [1, {"b": true}]}')
    'a[1].b'
    """
    if entry == detail:
        return None
    try:
        return next(_differences("", _read(entry), _read(detail)), None)
    except (ValueError, ArithmeticError, RecursionError):
        return ""


def _differences(path: str, one: Any, other: Any) -> Iterator[str]:
    if type(one) is not type(other):  # a bool equals a number
        yield path
    elif isinstance(one, dict):
        for key in sorted(one.keys() | other.keys()):
            below = f"{path}.{key}" if path else key
            yield from _differences(below, one.get(key, ...), other.get(key, ...))
    elif isinstance(one, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from _differences(f"{path}[{index}]", *pair)
    elif one != other:
        yield path


def _read(text: bytes) -> Any:
    return json.loads(text, parse_int=Decimal, parse_float=Decimal)


def _spelling(text: bytes) -> Any:
    """Return what a JSON text says, with its numbers as they are written."""
    return json.loads(text, parse_int=lambda literal: (literal,), parse_float=lambda literal: (literal,))


def _facts(entry: bytes) -> tuple[frozenset[str], frozenset[str]] | None:
    """Return the laws that an entry keeps and its shapes; None where it cannot be an order with items."""
    try:
        order = _read(entry)
        return (_laws_of(order, order[ITEMS_KEY]), _shapes_of(order)) if order[ITEMS_KEY] else None
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError):
        return None


def _laws_of(order: dict[str, Any], items: list[dict[str, Any]]) -> frozenset[str]:
    sums = {key: sum(_money(item, key) for item in items) for key in ("price", *_SUMMED)}
    discount, interest = (_money(order, key) for key in _SUMMED)
    beside = _money(order, "amount") - sums["price"]
    kept = {
        law
        for law, (shipping, less, more) in _AMOUNTS.items()
        if beside == _money(order, shipping) - less * discount + more * interest
    }
    kept |= {key for key in _SUMMED if _money(order, key) == sums[key]}
    is_own = all(item.get("order") == order.get("id") for item in items)
    return frozenset(kept | ({"order"} if is_own else set()))


def _money(values: dict[str, Any], key: str) -> Decimal:
    return Decimal(values.get(key) or 0)


def _shapes_of(order: dict[str, Any]) -> frozenset[str]:
    """Return digests of an order's own keys, at every depth, and of each item's."""
    parts = [((), {**order, ITEMS_KEY: None}), *(((ITEMS_KEY,), item) for item in order[ITEMS_KEY])]
    texts = (_shape(*part).encode(errors="replace") for part in parts)
    return frozenset(blake2b(text, digest_size=8).hexdigest() for text in texts)


def _shape(path: tuple[str, ...], value: Any) -> str:
    if isinstance(value, dict) and path not in _FREE:
        return f"{{{','.join(f'{key!r}{_shape((*path, key), value[key])}' for key in sorted(value))}}}"
    return f"[{','.join(sorted({_shape(path, one) for one in value}))}]" if isinstance(value, list) else ""

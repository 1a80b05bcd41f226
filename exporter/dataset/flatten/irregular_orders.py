"""Orders that the typed decoder refuses: taken apart by hand into the decoder's own Structs, and learned from.

Every leaf stays raw JSON here; the columns turn it into values one by one. Keys that nobody declared are
handed back beside the Structs. Paths that keep coming are learned, and make such an order a plain one.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from exporter.dataset.flatten.decoder_types import Place, Shape, can_learn, make_shape
from exporter.dataset.flatten.json_literals import NULL_LITERAL, elements, members
from exporter.dataset.flatten.unmapped import Path
from exporter.model.catalog import ITEMS_KEY, Kind

Undeclared = dict[Path, str]

LEARN_AFTER: Final = 4  # orders; making a decoder costs as much as flattening some 100 plain orders
LEARN_AT_MOST: Final = 256  # paths of each table; a key that differs in every order is not worth a field

_INT64_DIGITS = 18


class OddOrder(NamedTuple):
    """One order taken apart; `reasons` and `item_reasons` are paths that are worth learning."""

    body: msgspec.Struct
    undeclared: Undeclared
    item_undeclared: list[Undeclared]
    reasons: set[Path]
    item_reasons: set[Path]


def take_apart(payload: bytes, shape: Shape) -> OddOrder:
    """Take one order apart, whatever its JSON holds."""
    keys = members(payload.decode())
    items = keys.pop(ITEMS_KEY, NULL_LITERAL)
    undeclared: Undeclared = {}
    reasons: set[Path] = set()
    fields = _fields(shape.order, keys, undeclared, reasons)
    item_undeclared: list[Undeclared] = []
    item_reasons: set[Path] = set()
    entries: Any = [] if items == NULL_LITERAL else msgspec.Raw(items)
    if items.startswith("["):
        entries = []
        for literal in elements(items):
            item_undeclared.append({})
            entries.append(_held(shape.item, literal, item_undeclared[-1], item_reasons))
    fields[shape.order.fields[ITEMS_KEY]] = entries
    return OddOrder(shape.order.struct(**fields), undeclared, item_undeclared, reasons, item_reasons)


def _held(place: Place, literal: str, undeclared: Undeclared, reasons: set[Path]) -> Any:
    if literal.startswith("{"):
        return place.struct(**_fields(place, members(literal), undeclared, reasons))
    return None if literal == NULL_LITERAL else msgspec.Raw(literal)


def _fields(place: Place, keys: dict[str, str], undeclared: Undeclared, reasons: set[Path]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, literal in keys.items():
        path = (*place.path, key)
        if key in place.places:
            fields[place.fields[key]] = _held(place.places[key], literal, undeclared, reasons)
        elif key in place.fields:
            fields[place.fields[key]] = msgspec.Raw(literal)
            if key in place.leaves and not _is_native(place.leaves[key].column.kind, literal):
                reasons.add(path)
        else:
            undeclared[path] = literal
            if can_learn(key):
                reasons.add(path)
    return fields


def _is_native(kind: Kind, literal: str) -> bool:
    if literal == NULL_LITERAL or kind is Kind.JSON:
        return True
    if kind is Kind.INTEGER:
        return len(literal) <= _INT64_DIGITS and literal.lstrip("-").isdigit()
    return literal[0] in ("tf" if kind is Kind.BOOLEAN else '"')


class Learner:
    """Keep the shape up to date with the orders that it refused."""

    def __init__(self) -> None:
        self._seen: tuple[Counter[Path], Counter[Path]] = Counter(), Counter()
        self._learn: list[frozenset[Path]] = [frozenset(), frozenset()]
        self.shape = make_shape(*self._learn)

    def learn(self, refused: Iterable[OddOrder]) -> None:
        """Take the orders that a batch's decoder refused into account."""
        for order in refused:
            self._seen[0].update(order.reasons)
            self._seen[1].update(order.item_reasons)
        for table, seen in enumerate(self._seen):
            often = [path for path, times in seen.items() if times >= LEARN_AFTER]
            self._learn[table] |= frozenset(often[: LEARN_AT_MOST - len(self._learn[table])])
            if often or len(seen) > 10 * LEARN_AT_MOST:
                seen.clear()
        self.shape = make_shape(*self._learn)

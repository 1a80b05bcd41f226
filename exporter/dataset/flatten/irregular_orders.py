"""An order that the typed decoder refuses, taken apart by hand into the decoder's own Structs.

Every leaf stays raw JSON here; the columns turn it into values one by one. Keys that nobody declared are
handed back beside the Structs. `reasons` are the paths that, once learned, make such an order a plain one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from exporter.dataset.flatten.decoder_types import Place, Shape, can_learn
from exporter.dataset.flatten.json_literals import NULL_LITERAL, elements, is_number, members
from exporter.dataset.flatten.paths import Path
from exporter.model.catalog import ITEMS_KEY, Kind

Undeclared = dict[Path, str]

_NATIVE: dict[Kind, str] = {
    Kind.TEXT: '"',
    Kind.DECIMAL: '"',
    Kind.TIMESTAMP: '"',
    Kind.BOOLEAN: "tf",
    Kind.INTEGER: "-0123456789",
    Kind.JSON: "{[",
}
_INT64_DIGITS = 18


@dataclass(frozen=True, kw_only=True, slots=True)
class OddOrder:
    """One order taken apart.

    Args:
        body: The order, as the decoder would have given it, with raw leaves.
        undeclared: What stood under keys that nobody declared.
        item_undeclared: The same for each entry of `orderitem_set`.
        reasons: Paths worth learning, of the order; `item_reasons` are the items'.
    """

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
    return OddOrder(
        body=shape.order.struct(**fields),
        undeclared=undeclared,
        item_undeclared=item_undeclared,
        reasons=reasons,
        item_reasons=item_reasons,
    )


def _held(place: Place, literal: str, undeclared: Undeclared, reasons: set[Path]) -> Any:
    if literal.startswith("{"):
        return place.struct(**_fields(place, members(literal), undeclared, reasons))
    return None if literal == NULL_LITERAL else msgspec.Raw(literal)


def _fields(place: Place, keys: dict[str, str], undeclared: Undeclared, reasons: set[Path]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, literal in keys.items():
        if key in place.places:
            fields[place.fields[key]] = _held(place.places[key], literal, undeclared, reasons)
        elif key in place.fields:
            fields[place.fields[key]] = msgspec.Raw(literal)
            if key in place.leaves and not _is_native(place.leaves[key].column.kind, literal):
                reasons.add((*place.path, key))
        else:
            undeclared[*place.path, key] = literal
            if can_learn(key):
                reasons.add((*place.path, key))
    return fields


def _is_native(kind: Kind, literal: str) -> bool:
    """Tell whether the typed decoder takes a literal for a column of a kind."""
    if literal == NULL_LITERAL:
        return True
    if kind is Kind.INTEGER and is_number(literal):
        return len(literal) <= _INT64_DIGITS and literal.lstrip("-").isdigit()
    return literal[0] in _NATIVE[kind] or kind is Kind.JSON

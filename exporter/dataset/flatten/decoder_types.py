"""The typed decoder's types, made from the catalogue and from what was learned since.

A `Place` is an object in the payload: the order, its customer, an address. Each becomes a msgspec Struct
whose fields are the declared keys, so that decoding, checking and naming happen in one pass in C. A key
that nobody declared, or a declared leaf that came with an unexpected type, makes the decoder refuse the
whole order. Once learned, such a path is kept as raw JSON and refuses nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from functools import lru_cache
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from exporter.dataset.flatten.cells import INT64_MAX, INT64_MIN
from exporter.dataset.flatten.json_literals import NULL_LITERAL
from exporter.dataset.flatten.unmapped import Path
from exporter.model.catalog import ITEMS_KEY, ORDER_ITEMS, ORDERS, Column, Kind

NULL: Final = msgspec.Raw(NULL_LITERAL)

_Int64 = Annotated[int, msgspec.Meta(ge=INT64_MIN, le=INT64_MAX)]
# An id where an object belongs. Not 0: `-0` would lose its sign.
_BareId = Annotated[int, msgspec.Meta(ge=1, le=INT64_MAX)]
_TYPES: dict[Kind, Any] = {
    Kind.TEXT: str | None,
    Kind.INTEGER: _Int64 | None,
    Kind.DECIMAL: str | None,
    Kind.TIMESTAMP: str | None,
    Kind.BOOLEAN: bool | None,
}
_Typed = tuple[str, Any, Any]  # a key, its type, its default


class Leaf(NamedTuple):
    """A declared value: its column, and whether the decoder keeps it as raw JSON."""

    column: Column
    raw: bool


class Place(NamedTuple):
    """An object in the payload: its Struct, and what is under each of its keys."""

    path: Path
    struct: type[msgspec.Struct]
    empty: msgspec.Struct
    fields: dict[str, str]
    leaves: dict[str, Leaf]
    places: dict[str, Place]
    unknowns: dict[str, Path]


class Shape(NamedTuple):
    """The places of an order and of an item, and the decoder of a payload."""

    order: Place
    item: Place
    decode: Callable[[bytes], Any]


@lru_cache(maxsize=2)
def make_shape(of_orders: frozenset[Path], of_items: frozenset[Path]) -> Shape:
    """Make the decoder for the catalogue and what was learned: the paths of each table that are kept raw."""
    item = _place(ORDER_ITEMS, (), of_items)
    items: _Typed = (ITEMS_KEY, list[_holding(item)] | None, ())  # type: ignore[misc] # made at run time
    order = _place(ORDERS, (), of_orders, items)
    return Shape(order, item, msgspec.json.Decoder(order.struct).decode)


def can_learn(key: str) -> bool:
    """Tell whether msgspec takes a key as a field's name."""
    return key.isprintable() and '"' not in key and "\\" not in key


def _place(columns: Sequence[Column], path: Path, learned: Set[Path], *more: _Typed) -> Place:
    leaves, below = {}, dict[str, list[Column]]()
    for column in (column for column in columns if column.path):
        if column.path[:-1] == path:
            leaves[column.path[-1]] = Leaf(column, column.path in learned)
        else:
            below.setdefault(column.path[len(path)], []).append(column)
    places = {key: _place(deeper, (*path, key), learned) for key, deeper in below.items()}
    unknowns = {p[-1]: p for p in sorted(learned) if p[:-1] == path and p[-1] not in leaves}
    typed: list[_Typed] = [
        *((key, *_leaf_type(leaf)) for key, leaf in leaves.items()),
        *((key, _holding(place), place.empty) for key, place in places.items()),
        *((key, msgspec.Raw, None) for key in unknowns),
        *more,
    ]
    fields = {key: f"f{index}" for index, (key, _, _) in enumerate(typed)}
    struct = msgspec.defstruct(
        "_".join(("Order", *path)),
        [(fields[key], kind, default) for key, kind, default in typed],
        rename={field: key for key, field in fields.items()},
        forbid_unknown_fields=True,
        frozen=True,
        gc=False,  # 500 orders are 6,000 Structs; none holds a cycle
    )
    return Place(path, struct, struct(), fields, leaves, places, unknowns)


def _leaf_type(leaf: Leaf) -> tuple[Any, Any]:
    raw = leaf.raw or leaf.column.kind is Kind.JSON
    return (msgspec.Raw, NULL) if raw else (_TYPES[leaf.column.kind], None)


def _holding(place: Place) -> Any:
    """Give the type of what may be where a place belongs: installations put bare ids and names there."""
    return place.struct | _BareId | str | None

"""Which undeclared keys and odd types keep coming, so that the typed decoder stops refusing them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from exporter.dataset.flatten.decoder_types import Shape, make_shape
from exporter.dataset.flatten.irregular_orders import OddOrder
from exporter.dataset.flatten.paths import Path

LEARN_AFTER: Final = 4  # orders; making a decoder costs as much as flattening some 100 plain orders
LEARN_AT_MOST: Final = 256  # paths of each table; a key that differs in every order is not worth a field


class Learner:
    """Keep the shape up to date with the orders that it refused."""

    def __init__(self) -> None:
        self._orders = _Candidates()
        self._items = _Candidates()
        self.shape: Shape = make_shape(frozenset(), frozenset())

    def learn(self, refused: Iterable[OddOrder]) -> None:
        """Take the orders that a batch's decoder refused into account."""
        for order in refused:
            self._orders.count(order.reasons)
            self._items.count(order.item_reasons)
        self.shape = make_shape(self._orders.chosen(), self._items.chosen())


class _Candidates:
    def __init__(self) -> None:
        self._seen: Counter[Path] = Counter()
        self._chosen: frozenset[Path] = frozenset()

    def count(self, paths: Iterable[Path]) -> None:
        if len(self._chosen) < LEARN_AT_MOST:
            self._seen.update(paths)

    def chosen(self) -> frozenset[Path]:
        often = [path for path, times in self._seen.items() if times >= LEARN_AFTER]
        if often:
            self._chosen |= frozenset(often[: LEARN_AT_MOST - len(self._chosen)])
            self._seen.clear()
        elif len(self._seen) > 10 * LEARN_AT_MOST:
            self._seen.clear()
        return self._chosen

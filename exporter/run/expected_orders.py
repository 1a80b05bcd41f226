"""How many orders a dataset must hold to be published, so that a list cut short replaces nothing."""

from __future__ import annotations

import math

from exporter.dataset.destination import destination_of
from exporter.model.errors import TooFewOrdersError
from exporter.model.options import Options
from exporter.model.units import count_or_share
from exporter.run.retention import newest


def fewest_orders(options: Options) -> int:
    """Return the number that `expect_orders` stands for; 0 where it names a share and there is no dataset yet.

    Raises:
        StorageError: The disk or the object store refuses.
    """
    whole = 0
    if (options.expect_orders or "").endswith("%") and (place := newest(options.out)) is not None:
        standing = destination_of(place).standing()
        whole = standing.counts.exported if standing else 0
    return math.ceil(count_or_share(options.expect_orders or "0", whole, option="expect_orders"))


def refuse_fewer(options: Options, found: int, fewest: int, what: str, way_on: str) -> None:
    """Raise where `found` orders are too few to be published; `what` are they, and `way_on` is what helps.

    Raises:
        TooFewOrdersError: They are fewer than `fewest`.
    """
    if found < fewest:
        raise TooFewOrdersError(
            f"{found:,} {what} are fewer than --expect-orders {options.expect_orders} expects ({fewest:,});"
            " nothing was published.",
            f"Check the list. The same command with a lower --expect-orders {way_on}.",
        )

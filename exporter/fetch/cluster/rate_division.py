"""One rate divided among the ranges that are being asked for, so that all shares together never exceed it.

A share that is smaller is told at once; a larger one only once what it needs was given back, in the words of
whoever had it. Who loses the coordinator keeps its share, and so keeps the promise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from exporter.fetch.cluster.messages import Report

#: Shares that differ by less are left as they are.
_SAME = 0.03
# Each of n even paces may have one request more in a second than its share, and its timers' and the network's
# jitter: with the promise of `rate * 1.02 + 1` for all, few ranges share a low rate, and all of them a little less.
_RANGES_FOR_EACH_PER_S = 0.03
_PROMISED, _JITTER = 1.02, 1.015
#: A smaller part of the rate helps nobody.
_LEAST = 0.05


def shares(rate_per_s: float, wants: Sequence[float]) -> list[float]:
    """Return each range's share, in requests a second.

    The first range gets what it can use, the next one what that leaves: ranges of one size that shared evenly
    would all end at one time, and nobody would ask meanwhile. What nobody can use is the first one's.

    Each of `wants` is what a range could use, in requests a second; the rate is 0 while everybody waits.

    >>> shares(1000.0, [300, 0, 5000, 100])
    [300.0, 0.0, 700.0, 0.0]
    >>> shares(10.0, [4, 100]), shares(0.0, [math.inf])
    ([10.0, 0.0], [0.0])
    """
    if math.isinf(rate_per_s):
        return [rate_per_s if want else 0.0 for want in wants]
    given = [0.0] * len(wants)
    left, places = rate_per_s, 1 + int(_RANGES_FOR_EACH_PER_S * rate_per_s)
    for index, want in enumerate(wants):
        if want and places and left > _LEAST * rate_per_s:
            given[index] = min(float(want), left)
            left -= given[index]
            places -= 1
    first = next((index for index, share in enumerate(given) if share), None)
    if first is None:
        return given
    given[first] += left
    sharing = sum(share > 0 for share in given)
    part = min(1.0, (_PROMISED + (1 - sharing) / rate_per_s) / _JITTER)
    return [part * share for share in given]


@dataclass
class Seat:
    """One doing of a range: what it said last, and the share that it was last told."""

    report: Report
    heard_at: float
    told: float = 0.0

    @property
    def held(self) -> float:
        """What it may be using, as far as anybody can know."""
        return max(self.told, self.report.share_per_s)


def divide(rate_per_s: float, seats: Iterable[Seat]) -> bool:
    """Divide the rate anew; return whether anybody is not known to have the share that it is to be told."""
    seats = sorted(seats, key=lambda seat: seat.report.index)
    uses = [seat.report.use_per_s for seat in seats]
    wanted = shares(rate_per_s, [rate_per_s / 2 if use is None else use for use in uses])
    for seat, share in zip(seats, wanted, strict=True):
        if share < seat.told * (1 - _SAME):
            seat.told = share
    spare = rate_per_s - sum(seat.held for seat in seats)
    for seat, share in zip(seats, wanted, strict=True):
        if math.isinf(share):
            seat.told = share
        elif share > seat.told * (1 + _SAME) and (more := min(share - seat.held, spare)) > 0:
            seat.told = seat.held + more
            spare -= more
    return any(seat.told != seat.report.share_per_s for seat in seats)

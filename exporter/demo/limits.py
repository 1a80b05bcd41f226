"""How many requests the demo API lets pass, and which answers it spoils."""

from __future__ import annotations

import math
import random
from collections import deque
from enum import StrEnum


class SlidingWindow:
    """Let at most `count` requests pass in any stretch of `window_s` seconds."""

    def __init__(self, count: int, window_s: float) -> None:
        self._window_s = window_s
        self._passed: deque[float] = deque(maxlen=count)

    @classmethod
    def per_second(cls, rate: float) -> SlidingWindow:
        """Build the window for a rate: 200 is 200 in a second, 0.5 is one in two seconds."""
        count = max(1, math.floor(rate))
        return cls(count, count / rate)

    def wait_s(self, now: float) -> float:
        """Tell how long a request has to wait, in seconds; 0 lets it pass."""
        full = len(self._passed) == self._passed.maxlen
        return max(0.0, self._passed[0] + self._window_s - now) if full else 0.0

    def take(self, now: float) -> None:
        """Count a request that passed; refused ones count nothing."""
        self._passed.append(now)


class Fault(StrEnum):
    """The ways in which the demo API spoils an answer."""

    SERVER_ERROR = "500"
    BAD_GATEWAY = "502"
    RESET = "reset"
    CUT = "cut"
    SLOW = "slow"
    HTML = "html"


def draw_fault(rate: float, seed: int, path: str, nth_request: int) -> Fault | None:
    """Decide whether a request meets a fault, whatever else is asked for meanwhile.

    The same seed spoils the same requests; `nth_request` tells how often this path was asked for, from 1.
    """
    if not rate:
        return None
    dice = random.Random(f"{seed} {nth_request} {path}")  # noqa: S311 (a demo's bad luck, not a secret)
    return dice.choice(tuple(Fault)) if dice.random() < rate else None

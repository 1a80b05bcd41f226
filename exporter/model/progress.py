"""How far a run is, at one moment: what the display, the log and a caller's own code are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        phase: `fetching`, then `publishing`, then `done`.
        total: Order numbers of the plan.
        done: Those that need no more asking, earlier tries' included.
        pending_at_start: Those that this try had to ask for.
        fetched: Fetched by this try.
        rejected: Rejected by this try.
        retried: Requests of this try that asked again.
        throttled: Requests of this try that were answered 429.
        published: Order numbers of the plan that are through the tables.
        elapsed_s: Seconds since the try began.
        rate_per_s: Answers a second, lately.
        permitted_per_s: What the pace permits now; None without a limit.
        waiting: Orders that wait for another attempt.
        paused_s: Seconds until the pause's end; None while nobody waits.
        why: What set the pace, in words.
    """

    phase: Literal["fetching", "publishing", "done"]
    total: int
    done: int
    pending_at_start: int
    fetched: int
    rejected: int
    retried: int
    throttled: int
    published: int
    elapsed_s: float
    rate_per_s: float
    permitted_per_s: float | None
    waiting: int
    paused_s: float | None
    why: str

    @property
    def left_s(self) -> float | None:
        """Seconds of fetching left: at the rate of late, or at the permitted one where that tells more."""
        left = self.total - self.done
        if not left:
            return 0.0
        starts_again = self.paused_s is not None or not self.rate_per_s
        rate = self.permitted_per_s if starts_again and self.permitted_per_s else self.rate_per_s
        return left / rate + (self.paused_s or 0.0) if rate > 0 else None


ProgressCallback = Callable[[Progress], None]

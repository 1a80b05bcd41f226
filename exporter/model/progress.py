"""How far a run is, at one moment: what the display, the log and a caller's own code are told."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from exporter.model.units import duration_text

Phase = Literal["listing", "fetching", "publishing", "done"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a run is; `str` says it in one line.

    While the API's own list is read, `total`, `done` and `rate_per_s` are about orders on its pages.

    Attributes:
        phase: `listing` where the list is the API's own, `fetching`, then `publishing`, then `done`.
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
        limited: Whether the API set it, by its answers.
        down_since: Since when the API serves no order, in seconds since the epoch; None while it does.
    """

    phase: Phase
    total: int
    done: int
    pending_at_start: int = 0
    fetched: int = 0
    rejected: int = 0
    retried: int = 0
    throttled: int = 0
    published: int = 0
    elapsed_s: float
    rate_per_s: float
    permitted_per_s: float | None = None
    waiting: int = 0
    paused_s: float | None
    why: str
    limited: bool = False
    down_since: float | None = None

    @property
    def left_s(self) -> float | None:
        """Seconds of fetching left: at the rate lately, or at the permitted one where that tells more."""
        left = self.total - self.done
        if not left:
            return 0.0
        starts_again = self.paused_s is not None or not self.rate_per_s
        rate = self.permitted_per_s if starts_again and self.permitted_per_s else self.rate_per_s
        return left / rate + (self.paused_s or 0.0) if rate > 0 else None

    @property
    def rate_text(self) -> str:
        """The rate used and the rate permitted, as `9.8 of 10/s`."""
        used, permitted = _number(self.rate_per_s), self.permitted_per_s
        return f"{used}/s" if permitted is None else f"{used} of {_number(permitted)}/s"

    def __str__(self) -> str:
        rejected = f", {self.rejected:,} rejected" if self.rejected else ""
        if self.phase == "done":
            took = duration_text(self.elapsed_s)
            return f"Finished after {took}: {self.done:,} of {self.total:,} orders done{rejected}."
        if self.phase == "publishing":
            return f"Publishing: {self.published:,} of {self.total:,} orders are in the tables."
        left = f"{duration_text(self.left_s)} left"
        if self.down_since is not None:
            left += "; the API is down: checking again now and then"
        elif self.paused_s:
            left += f"; waiting for another {duration_text(self.paused_s)}: {self.why}"
        done = "of the API's list read" if self.phase == "listing" else "done"
        return f"{self.done:,} of {self.total:,} orders {done}{rejected}, {self.rate_text}, {left}."


def _number(per_s: float) -> str:
    """Write a fast rate without decimals; a slow one is nothing without them."""
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}"


ProgressCallback = Callable[[Progress], None]

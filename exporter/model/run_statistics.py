"""What the run was like, second by second: for the display, the log and the report.

Everything here is bounded: the timeline doubles its step when it grows past its length, and latencies
are counted in buckets.
"""

import bisect
import operator
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from exporter.model.errors import ThrottledError, TransientError

_LONGEST_TIMELINE = 1800
#: Upper edges of the latency buckets, in milliseconds: 1-2-5 steps, the last one is open.
LATENCY_EDGES_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 60_000)


class Figures(NamedTuple):
    """What `Statistics` counted: all but its timeline and pauses."""

    latency_counts: list[int]
    latency_sum_s: float
    statuses: dict[str, int]
    failures: dict[str, int]


class Statistics:
    """Counts what came back, and how fast; `permitted` tells the requests a second that the pace permits now."""

    def __init__(
        self, now: Callable[[], float], permitted: Callable[[], float | None] = lambda: None
    ) -> None:
        self._now = now
        self._permitted = permitted
        self._began = self._step_ends = now()
        self.step_s = 1
        self.answers: list[int] = []
        self.permitted: list[float | None] = []
        self.latency_counts = [0] * (len(LATENCY_EDGES_MS) + 1)
        self.latency_sum_s = 0.0
        self.statuses: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.pauses: list[tuple[float, float, str]] = []

    def ended(self, status: int | None, failure: BaseException | None, latency_s: float) -> None:
        """Count one request that reached the wire: its status, None without an answer, and what it meant for us."""
        self._extend()
        self.answers[-1] += 1
        self.latency_counts[bisect.bisect_left(LATENCY_EDGES_MS, latency_s * 1000)] += 1
        self.latency_sum_s += latency_s
        self.statuses["none" if status is None else str(status)] += 1
        if isinstance(failure, TransientError):
            self.failures[failure.what] += 1
        elif isinstance(failure, ThrottledError):
            self.failures["throttled"] += 1

    def paused(self, seconds: float, why: str) -> None:
        """Mark a pause of the whole run on the timeline; one that touches the last makes that one longer."""
        at = self._now() - self._began
        ends = at + seconds
        if self.pauses and at <= sum(self.pauses[-1][:2]):
            at, lasted, why = self.pauses.pop()
            ends = max(ends, at + lasted)
        if len(self.pauses) < _LONGEST_TIMELINE:
            self.pauses.append((round(at, 3), round(ends - at, 3), why))

    def take(self) -> Figures:
        """Return what was counted since it was last taken."""
        taken = Figures(self.latency_counts, self.latency_sum_s, self.statuses, self.failures)
        self.latency_counts, self.latency_sum_s = [0] * len(self.latency_counts), 0.0
        self.statuses, self.failures = Counter(), Counter()
        return taken

    def add(self, figures: Figures) -> None:
        """Count what another one has counted, as of now."""
        self._extend()
        self.answers[-1] += sum(figures.latency_counts)
        self.latency_counts = list(map(operator.add, self.latency_counts, figures.latency_counts))
        self.latency_sum_s += figures.latency_sum_s
        self.statuses.update(figures.statuses)
        self.failures.update(figures.failures)

    @property
    def mean_latency_s(self) -> float | None:
        """Seconds an answer took on average; None before the first."""
        count = sum(self.latency_counts)
        return self.latency_sum_s / count if count else None

    def _extend(self) -> None:
        now = self._now()
        if now < self._step_ends:
            return
        index = int((now - self._began) / self.step_s)
        while len(self.answers) <= index:
            self.answers.append(0)
            self.permitted.append(self._permitted())
        while len(self.answers) > _LONGEST_TIMELINE:
            self.step_s *= 2
            self.answers = [sum(self.answers[i : i + 2]) for i in range(0, len(self.answers), 2)]
            self.permitted = self.permitted[::2]
        self._step_ends = self._began + len(self.answers) * self.step_s

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON values, for the manifest and the report."""
        return {
            "step_s": self.step_s,
            "answers": self.answers,
            "permitted_per_s": self.permitted,
            "pauses": [{"at_s": at, "seconds": seconds, "why": why} for at, seconds, why in self.pauses],
            "latency_ms": {"edges": list(LATENCY_EDGES_MS), "counts": self.latency_counts},
            "statuses": dict(sorted(self.statuses.items())),
            "failures": dict(sorted(self.failures.items())),
        }

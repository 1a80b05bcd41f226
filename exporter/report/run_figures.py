"""What the page shows of the run: the manifest's `statistics`, checked and made ready."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from statistics import fmean
from typing import Annotated, Any, NamedTuple

import msgspec

from exporter.report.data_figures import falling


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which everybody waited, in seconds from the start."""

    at_s: float
    seconds: float


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Requests by how long they took: `counts[i]` of at most `edges[i]` ms, the last ones of more."""

    edges: list[float] = []
    counts: list[int] = []

    @property
    def buckets(self) -> list[tuple[float, float, int]]:
        """From, to and requests of each range, from the fastest to the slowest that there was."""
        edges = pairwise([0.0, *self.edges, math.inf])
        every = [(*edge, count) for edge, count in zip(edges, self.counts, strict=False)]
        occupied = [place for place, (*_, count) in enumerate(every) if count]
        return every[occupied[0] : occupied[-1] + 1] if occupied else []

    def quantile(self, share: float) -> float | None:
        """Estimate the latency that `share` of the requests stayed within, in milliseconds.

        Within a bucket requests are taken as spread evenly. None where there are no requests; the last
        edge where it lies in the open bucket.

        >>> Latency(edges=[10, 20], counts=[0, 4, 0]).quantile(0.5)
        15.0
        """
        left = share * sum(count for *_, count in self.buckets)
        for low, high, count in self.buckets:
            if count >= left:
                return low if math.isinf(high) else low + (high - low) * left / count
            left -= count
        return None


class Step(NamedTuple):
    """A step of the timeline: its start, answers and permitted requests a second, and its seconds in pauses."""

    at_s: float
    rate: float
    permitted: float | None
    paused_s: float


class RunFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the last try was like, as `Statistics` of `model` records it."""

    step_s: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    answers: list[int] = []  # of each step; the last one may have been cut short
    permitted_per_s: list[float | None] = []  # as many; None for no limit
    pauses: list[Pause] = []  # none touches another
    latency_ms: Latency = Latency()
    statuses: dict[str, int] = {}  # the most frequent first, `none` where no answer came
    failures: dict[str, int] = {}  # requests that had to be repeated, by what was wrong

    @property
    def mean(self) -> float:
        """Answers a second on average, of whole steps: the last one is cut short."""
        return fmean(self.answers[: self._whole]) / self.step_s

    @property
    def mean_permitted(self) -> float | None:
        """Requests a second permitted on average in the same steps; None where nothing was limited."""
        limits = [limit for limit in self.permitted_per_s[: self._whole] if limit is not None]
        return fmean(limits) if len(limits) == self._whole else None

    @property
    def used(self) -> float | None:
        """The share of the permitted requests that were answered; None where nothing was limited."""
        return self.mean / self.mean_permitted if self.mean_permitted else None

    @property
    def _whole(self) -> int:
        return max(1, len(self.answers) - 1)

    def steps(self, most: int) -> Iterator[Step]:
        """Yield the timeline in at most `most` steps, each the mean of several."""
        by = -(-len(self.answers) // most)
        for first in range(0, len(self.answers), by):
            limits = [limit for limit in self.permitted_per_s[first : first + by] if limit is not None]
            start_s, end_s = first * self.step_s, (first + by) * self.step_s
            pauses = ((pause.at_s, pause.at_s + pause.seconds) for pause in self.pauses)
            paused = (min(end_s, end) - max(start_s, start) for start, end in pauses)
            rate = fmean(self.answers[first : first + by]) / self.step_s
            yield Step(start_s, rate, fmean(limits) if limits else None, sum(max(0.0, s) for s in paused))

    @property
    def causes(self) -> dict[str, int]:
        """Requests that had to be repeated, by a short name of the cause, the most frequent first."""
        causes: Counter[str] = Counter()
        for failure, count in self.failures.items():
            causes[_cause(failure)] += count
        return falling(causes, int)


def run_figures(statistics: Mapping[str, Any]) -> RunFigures:
    """Return the figures of a run; empty ones where the manifest has none, or another version's."""
    try:
        run = msgspec.convert(dict(statistics), type=RunFigures)
    except msgspec.ValidationError:
        return RunFigures()
    return msgspec.structs.replace(run, statuses=falling(run.statuses, int))


_ANSWERED = re.compile(r"the (API|proxy) answered (\d{3})$", re.IGNORECASE)


def _cause(failure: str) -> str:
    """Return a failure as a label, as `HTTP 502` and `No complete answer within 30 s`."""
    if failure == "throttled":
        return "HTTP 429, too many requests"
    if answered := _ANSWERED.match(failure):
        return f"HTTP {answered[2]}" + (" from the proxy" if answered[1].lower() == "proxy" else "")
    text = failure.removeprefix("The API answered with ").rstrip(".")
    return text[:1].upper() + text[1:]

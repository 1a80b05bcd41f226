"""What the page shows of the run: the manifest's `statistics`, checked and made ready."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which everybody waited, in seconds from the start."""

    at_s: float
    seconds: float
    why: str = ""

    @property
    def end_s(self) -> float:
        """When it ended."""
        return self.at_s + self.seconds


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Requests by how long they took: `counts[i]` of at most `edges[i]` ms, the last ones of more."""

    edges: list[float] = []
    counts: list[int] = []

    @property
    def total(self) -> int:
        """Requests."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Estimate the latency that `share` of the requests stayed within, in milliseconds.

        Within a bucket requests are taken as spread evenly. None where there are no requests; the last
        edge where it lies in the open bucket.

        >>> Latency(edges=[10, 20], counts=[0, 4, 0]).quantile(0.5)
        15.0
        """
        wanted, below, low = share * self.total, 0, 0.0
        for high, count in zip(self.edges, self.counts, strict=False):
            if count and below + count >= wanted:
                return low + (high - low) * (wanted - below) / count
            below, low = below + count, high
        return low if self.total else None


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Answers a second over time.

    Attributes:
        step_s: Seconds of one step.
        rates: Answers a second in each step; the last step may have been cut short.
        permitted: Requests a second permitted in each step; None for no limit.
        pauses: Times without requests, none touching another.
    """

    step_s: float
    rates: tuple[float, ...]
    permitted: tuple[float | None, ...]
    pauses: tuple[Pause, ...]

    @property
    def length_s(self) -> float:
        """Seconds from the first request to the end of the last step."""
        return self.step_s * len(self.rates)

    @property
    def paused_s(self) -> float:
        """Seconds in pauses."""
        return sum(pause.seconds for pause in self.pauses)

    @property
    def mean(self) -> float:
        """Answers a second on average, of whole steps: the last one is cut short."""
        return _mean(self.rates[self._whole])

    @property
    def mean_permitted(self) -> float | None:
        """Requests a second permitted on average in the same steps; None where nothing was limited."""
        limits = self.permitted[self._whole]
        return None if None in limits else _mean_limit(limits)

    @property
    def used(self) -> float | None:
        """The share of the permitted requests that were answered; None where nothing was limited."""
        return self.mean / self.mean_permitted if self.mean_permitted else None

    @property
    def _whole(self) -> slice:
        return slice(0, max(1, len(self.rates) - 1))

    def coarser(self, most: int) -> Timeline:
        """Return the same timeline in at most `most` steps, each the mean of several."""
        by = -(-len(self.rates) // most)
        if by <= 1:
            return self
        starts = range(0, len(self.rates), by)
        return Timeline(
            step_s=self.step_s * by,
            rates=tuple(_mean(self.rates[start : start + by]) for start in starts),
            permitted=tuple(_mean_limit(self.permitted[start : start + by]) for start in starts),
            pauses=self.pauses,
        )


@dataclass(frozen=True, kw_only=True)
class RunFigures:
    """What the page shows of the run.

    Attributes:
        timeline: Answers over time; None where nothing was asked.
        latency: Requests by how long they took.
        statuses: Answers by HTTP status; `none` where no answer came.
        causes: Requests that had to be repeated, by cause, the most frequent first.
    """

    timeline: Timeline | None
    latency: Latency
    statuses: dict[str, int]
    causes: dict[str, int]


class _Recorded(msgspec.Struct, frozen=True, kw_only=True):
    step_s: float = 1.0
    answers: list[int] = []
    permitted_per_s: list[float | None] = []
    pauses: list[Pause] = []
    latency_ms: Latency = Latency()
    statuses: dict[str, int] = {}
    failures: dict[str, int] = {}


def run_figures(statistics: Mapping[str, Any]) -> RunFigures:
    """Return the figures of a run; empty ones where the manifest has none, or another version's."""
    try:
        recorded = msgspec.convert(dict(statistics), type=_Recorded)
    except msgspec.ValidationError:
        recorded = _Recorded()
    return RunFigures(
        timeline=_timeline(recorded),
        latency=recorded.latency_ms,
        statuses=dict(sorted(recorded.statuses.items(), key=_falling)),
        causes=_causes(recorded.failures),
    )


def _timeline(recorded: _Recorded) -> Timeline | None:
    if not recorded.answers or recorded.step_s <= 0:
        return None
    length = len(recorded.answers)
    limits = (recorded.permitted_per_s + [None] * length)[:length]
    return Timeline(
        step_s=recorded.step_s,
        rates=tuple(answers / recorded.step_s for answers in recorded.answers),
        permitted=tuple(limits),
        pauses=_merged(recorded.pauses),
    )


def _merged(pauses: list[Pause]) -> tuple[Pause, ...]:
    """Join pauses that touch: each of many throttled answers may have told of the same one.

    >>> [pause.seconds for pause in _merged([Pause(at_s=0, seconds=2), Pause(at_s=1, seconds=2)])]
    [3]
    """
    merged: list[Pause] = []
    for pause in sorted(pauses, key=lambda pause: pause.at_s):
        if merged and pause.at_s <= merged[-1].end_s:
            last = merged[-1]
            end_s = max(last.end_s, pause.end_s)
            merged[-1] = Pause(at_s=last.at_s, seconds=end_s - last.at_s, why=last.why)
        else:
            merged.append(pause)
    return tuple(merged)


_ANSWERED = re.compile(r"the (API|proxy) answered (\d{3})$", re.IGNORECASE)


def _causes(failures: Mapping[str, int]) -> dict[str, int]:
    """Return what made us ask again, with shorter names."""
    causes: dict[str, int] = {}
    for failure, count in sorted(failures.items(), key=_falling):
        name = _cause(failure)
        causes[name] = causes.get(name, 0) + count
    return causes


def _cause(failure: str) -> str:
    """Return a failure as a label.

    >>> _cause("the API answered 502"), _cause("throttled"), _cause("no whole answer within 30 s")
    ('HTTP 502', 'HTTP 429, too many requests', 'No whole answer within 30 s')
    """
    if failure == "throttled":
        return "HTTP 429, too many requests"
    answered = _ANSWERED.match(failure)
    if answered:
        return f"HTTP {answered[2]}" + (" from the proxy" if answered[1].lower() == "proxy" else "")
    text = failure.removeprefix("The API answered with ").rstrip(".")
    return text[:1].upper() + text[1:]


def _falling(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)


def _mean_limit(values: tuple[float | None, ...]) -> float | None:
    limits = [value for value in values if value is not None]
    return sum(limits) / len(limits) if limits else None

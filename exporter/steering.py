"""What pace the API bears, learnt from its answers: the control law of `pace`, without a clock.

Every time is a number of seconds on one monotonic clock, handed in by the caller. The law:

- A 429 makes everybody wait, for `Retry-After` or for a pause that grows while refusals go on.
- What the API bore before the refusal is its limit. The pace goes on just under it, rises to it
  flatly, stays near it for a while (the patience), then climbs ever faster: the curve of TCP CUBIC
  (RFC 9438), for the same reason. A limit met again near the same place doubles the patience.
- The length of the wait tells the quota's window: who must wait 20 seconds has a quota per minute.
- `auto` begins gently, and takes answers that grow slow for a limit as well.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass

from exporter.errors import ApiUnavailableError

LONGEST_WAIT_S = 900.0
GENTLE_PER_S = 5.0

# A quota per minute shows only once it is used up. Who has used half of it by then still has half.
_GENTLE_S = 26.0
_DOUBLING_S = 3.0

_WINDOWS_S = (1.0, 10.0, 60.0, LONGEST_WAIT_S)
_ROUNDING_S = 0.5  # Retry-After counts whole seconds
_UNDER = 0.1
_PATIENCE_S = 30.0
_LONGEST_PATIENCE_S = 600.0
_SAME_PLACE = 0.1
_SLOWEST_PER_S = 1 / 60
_FORGOTTEN = 20.0

_FIRST_PAUSE_S = 1.0
_PAUSE_GROWTH = 3.0
_LONGEST_PAUSE_S = 300.0

_TICK_S = 0.1
_LOOK_EVERY_S = 1.0
_ENOUGH_ANSWERS = 5


class Tally:
    """Counts answers in ticks of a tenth of a second, as far back as the longest window."""

    def __init__(self) -> None:
        self._ticks: deque[list[float]] = deque()

    def add(self, now: float) -> None:
        """Count one answer."""
        ticks = self._ticks
        if ticks and now - ticks[-1][0] < _TICK_S:
            ticks[-1][1] += 1
            return
        ticks.append([now, 1])
        while now - ticks[0][0] > LONGEST_WAIT_S:
            ticks.popleft()

    def count(self, now: float, window_s: float) -> float:
        """Return how many answers came in the `window_s` seconds before `now`."""
        return sum(count for at, count in self._ticks if now - window_s <= at <= now)

    def oldest(self, now: float, window_s: float) -> float:
        """Return the time of the first answer in that window, `now` where there was none."""
        return next((at for at, _ in self._ticks if at >= now - window_s), now)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A pace that the API was seen to bear, and how to come back to it."""

    per_s: float
    since: float
    patience_s: float
    why: str

    def pace(self, now: float) -> float:
        """Return the permitted pace: a tenth under the limit at first, at it after the patience."""
        progress = max(0.0, now - self.since) / self.patience_s
        return self.per_s * (1 + _UNDER * (progress - 1) ** 3)

    def near(self, other: Limit | None) -> bool:
        """Tell whether the other limit was met at nearly the same pace."""
        return other is not None and abs(self.per_s / other.per_s - 1) <= _SAME_PLACE


class Steering:
    """The permitted pace and the pause, moved by what the API answers.

    Args:
        ceiling_per_s: The pace never goes above it; may be infinite.
        auto: Begin gently and heed latency, instead of starting at the ceiling.
        now: The time of the start.
    """

    def __init__(self, *, ceiling_per_s: float, auto: bool, now: float) -> None:
        self.paused_until = now
        self.limit: Limit | None = None
        self.latency_s = 0.0
        self._ceiling_per_s = ceiling_per_s
        self._auto = auto
        self._started = now
        self._answers = Tally()
        self._streak: _Streak | None = None
        self._watch = _LatencyWatch(now)

    def pace(self, now: float) -> float:
        """Return the permitted requests a second; infinite where nothing bounds them."""
        if self.limit is not None:
            return min(self._ceiling_per_s, self.limit.pace(now))
        if not self._auto:
            return self._ceiling_per_s
        climbing_s = max(0.0, now - self._started - _GENTLE_S)
        return min(self._ceiling_per_s, GENTLE_PER_S * 2 ** min(climbing_s / _DOUBLING_S, 64))

    def throttled(self, now: float, retry_after_s: float | None) -> bool:
        """Take in a 429.

        Args:
            now: When it came.
            retry_after_s: Seconds to wait as the API asked, or None.

        Returns:
            Whether the pause is new or at least a second longer; a 429 to a request that was in
            flight when the pause began is no news.

        Raises:
            ApiUnavailableError: When the waits without an answer come to over 15 minutes.
        """
        before = self.paused_until
        if now - self.latency_s < before:
            if now < before:
                self.paused_until = max(before, now + (retry_after_s or 0.0))
        else:
            self._pause(now, retry_after_s)
        self._give_up_if_too_long()
        return self.paused_until - before >= 1 or before < now < self.paused_until

    def answered(self, now: float, latency_s: float) -> bool:
        """Take in an answer that is no 429.

        Args:
            now: When it came.
            latency_s: How long it took, in seconds.

        Returns:
            Whether the pace dropped because answers have grown slow.
        """
        self._answers.add(now)
        self.latency_s = latency_s
        if self._streak is not None and now - latency_s >= self.paused_until:
            self._streak = None
        if self.limit is not None and self.limit.pace(now) > _FORGOTTEN * self.limit.per_s:
            self.limit = None
        return self._auto and self._heed_latency(now, latency_s)

    def _pause(self, now: float, retry_after_s: float | None) -> None:
        streak = self._streak or _Streak(since=now, pace=self.pace(now), limit=self.limit)
        self._streak = streak.refused()
        self.paused_until = max(now + (retry_after_s or 0.0), self._growing_pause_end(now, retry_after_s))
        window_s = _window_s(self.paused_until - streak.since)
        self._learn(streak, window_s, since=self.paused_until, why="the API answered 429")

    def _growing_pause_end(self, now: float, retry_after_s: float | None) -> float:
        """Return when to ask again: growing, but not beyond the moment when a quota's window moves on."""
        assert self._streak is not None
        refusals, since = self._streak.refusals, self._streak.since
        if refusals == 1:
            return now + (0.0 if retry_after_s else _FIRST_PAUSE_S)
        end = now + min(_FIRST_PAUSE_S * _PAUSE_GROWTH ** (refusals - 1), _LONGEST_PAUSE_S)
        frees = (self._answers.oldest(since, window_s) + window_s + _TICK_S for window_s in _WINDOWS_S[1:])
        return min((at for at in frees if now + _FIRST_PAUSE_S < at < end), default=end)

    def _learn(self, streak: _Streak, window_s: float, *, since: float, why: str) -> None:
        limit = Limit(
            per_s=max(_SLOWEST_PER_S, self._borne(streak, window_s)),
            since=since,
            patience_s=max(_PATIENCE_S, window_s),
            why=why,
        )
        known = streak.limit
        if known is not None and limit.near(known):
            patience_s = min(_LONGEST_PATIENCE_S, 2 * known.patience_s)
            limit = Limit(per_s=limit.per_s, since=since, patience_s=patience_s, why=why)
        self.limit = limit

    def _borne(self, streak: _Streak, window_s: float) -> float:
        """Return the answers a second before the streak; a slow pace is measured over ten requests."""
        windows = (window_s, max(window_s, 10 / streak.pace))
        borne = max(self._answers.count(streak.since, 1.05 * each) / each for each in windows)
        return min(streak.pace, borne) if borne else min(streak.pace, 2.0) / 2

    def _give_up_if_too_long(self) -> None:
        since = self._streak.since if self._streak else self.paused_until
        wait_s = self.paused_until - since
        if wait_s > LONGEST_WAIT_S:
            raise ApiUnavailableError(
                f"The API answers 429 and asks for a wait of {wait_s / 60:.0f} minutes, over 15.",
                "Run the same command again later: it goes on where it stopped.",
            )

    def _heed_latency(self, now: float, latency_s: float) -> bool:
        if not self._watch.slow(now, latency_s):
            return False
        streak = _Streak(since=now, pace=self.pace(now), limit=self.limit)
        self._learn(streak, _WINDOWS_S[0], since=now, why="answers have grown slow")
        return True


@dataclass(frozen=True, kw_only=True)
class _Streak:
    """Refusals without an answer in between; pace and limit are those before the first."""

    since: float
    pace: float
    limit: Limit | None
    refusals: int = 0

    def refused(self) -> _Streak:
        return _Streak(since=self.since, pace=self.pace, limit=self.limit, refusals=self.refusals + 1)


class _LatencyWatch:
    """Compares each second's median latency with the best one seen."""

    def __init__(self, now: float) -> None:
        self._latencies: list[float] = []
        self._look_at = now + _LOOK_EVERY_S
        self._settled_at = now
        self._best_s = float("inf")
        self._slowed = False

    def slow(self, now: float, latency_s: float) -> bool:
        """Take in one answer; tell whether the pace is to drop."""
        self._latencies.append(latency_s)
        if now < self._look_at or len(self._latencies) < _ENOUGH_ANSWERS:
            return False
        median_s = statistics.median(self._latencies)
        self._latencies.clear()
        self._look_at = now + _LOOK_EVERY_S
        self._best_s = min(self._best_s, median_s)
        return now >= self._settled_at and self._judge(now, median_s)

    def _judge(self, now: float, median_s: float) -> bool:
        if median_s <= 4 * self._best_s + 0.1:
            self._slowed = False
            return False
        if self._slowed:
            # Our slowing did not help, so the queue is not ours: the API has become that slow.
            self._best_s, self._slowed = median_s, False
            return False
        # The queue drains with the tenth of the pace that was cut, or less.
        self._settled_at = now + min(30.0, max(3.0, 20 * (median_s - self._best_s)))
        self._slowed = True
        return True


def _window_s(wait_s: float) -> float:
    """Return the shortest usual window of a quota that can make us wait that long."""
    return next((each for each in _WINDOWS_S if wait_s <= each + _ROUNDING_S), LONGEST_WAIT_S)

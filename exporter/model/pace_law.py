"""What pace the API accepts, learnt from its answers: the control law of `pace`, without a clock.

Every time is a number of seconds on one monotonic clock, handed in by the caller. The law:

- A 429 makes everybody wait, for `Retry-After` or for a pause that grows while refusals continue.
- What the API accepted before the refusal is its limit. The pace continues just under it, rises to it
  flatly, stays near it for a while (the patience), then climbs ever faster: the curve of TCP CUBIC
  (RFC 9438), for the same reason. A limit met again near the same place doubles the patience.
- A refusal well under a known limit is a stray: it makes everybody wait, but proves no new limit.
- The first refusal may be a stray as well. Where its wait was short, the pace is back at the asked one
  within 20 seconds, on a curve that doubles evenly: a limit that is real is met again on the way.
- The length of the wait tells the quota's window: who must wait 20 seconds has a quota per minute.
- `auto` begins gently, and takes answers that grow slow for a limit as well.
"""

import math
import statistics
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from exporter.model.errors import ApiUnavailableError

LONGEST_WAIT_S = 900.0
GENTLE_PER_S = 5.0

# A quota per minute shows only once it is used up. Who has used half of it by then still has half.
_GENTLE_S = 26.0
_DOUBLING_S = 3.0

_WINDOWS_S = (1.0, 10.0, 60.0, LONGEST_WAIT_S)
_ROUNDING_S = 0.5  # Retry-After counts whole seconds
_UNDER = 0.1
_PATIENCE_S = 30.0
_HASTY_PATIENCE_S = 10.0  # what was cut in haste may have been cut for a whim
_LONGEST_PATIENCE_S = 600.0
_SAME_PLACE = 0.1
_ENOUGH_REQUESTS = 30
_HASTY_ANSWERS = 10
_HASTY_S = 3.0
_DOUBTED = 3
_NEAR = 0.99
_SLOWEST_PER_S = 1 / 60
_UNKNOWN_PER_S = 20.0  # refused before any answer: not much is known
_FORGOTTEN = 20.0
_TRIAL_S = 17.0  # from the first refusal to the asked pace, its wait included
_SHORTEST_TRIAL_S = 5.0
_TRIAL_FROM_PER_S = 1.0
_TRIAL_DOUBLING_S = 2.0  # where no pace is asked for
_LONGEST_TRIAL_WINDOW_S = 10.0

_FIRST_PAUSE_S = 1.0
_PAUSE_GROWTH = 3.0
_LONGEST_PAUSE_S = 300.0
_LONGEST_PROBE_S = 2.0

_TICK_S = 0.02
_NEVER = -(1 << 60)
_TICKS = int(LONGEST_WAIT_S / _TICK_S * 1.1)
_LOOK_EVERY_S = 1.0
_ENOUGH_ANSWERS = 5


class _AnswerCounts:
    """Counts answered requests by the fiftieth of a second in which they started."""

    def __init__(self) -> None:
        self._counts = array("q", [0]) * _TICKS
        self._stamps = array("q", [_NEVER]) * _TICKS

    def add(self, started: float) -> None:
        tick = int(started / _TICK_S)
        place = tick % _TICKS
        if self._stamps[place] != tick:
            self._stamps[place], self._counts[place] = tick, 0
        self._counts[place] += 1

    def count(self, now: float, window_s: float) -> int:
        """Return how many answered requests started in the `window_s` seconds before `now`."""
        return sum(self._counts[tick % _TICKS] for tick in self._busy_ticks(now, window_s))

    def oldest(self, now: float, window_s: float) -> float:
        """Return when the first of them started, `now` where there was none."""
        return next((tick * _TICK_S for tick in self._busy_ticks(now, window_s)), now)

    def _busy_ticks(self, now: float, window_s: float) -> Iterator[int]:
        first, last = int((now - window_s) / _TICK_S), int(now / _TICK_S)
        return (tick for tick in range(first, last + 1) if self._stamps[tick % _TICKS] == tick)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A pace that the API was seen to accept, and how to come back to it."""

    per_s: float
    since: float
    patience_s: float
    why: str
    strays: int = 0
    doubling_s: float | None = None  # set while it may be no limit at all

    def pace(self, now: float) -> float:
        """Return the permitted pace: a tenth under the limit at first, at it after the patience."""
        if self.doubling_s is not None:
            return (1 - _UNDER) * self.per_s * 2 ** min(max(0.0, now - self.since) / self.doubling_s, 64)
        progress = max(0.0, now - self.since) / self.patience_s
        return self.per_s * (1 + _UNDER * (progress - 1) ** 3)


@dataclass(frozen=True, kw_only=True)
class _Streak:
    """Refusals without an answer in between; pace and limit are those before the first.

    Were the limit lowered for every refusal, an API that refuses one request in a hundred by whim
    would bring the pace down to nothing. So a known limit is kept until it is refused near it or in
    haste; refusals well under it are strays, and after a few of them nearness proves nothing.
    """

    since: float
    pace: float
    limit: Limit | None
    hasty: int = 0  # streaks in a row, with this one, that began after hardly any answer
    refusals: int = 0
    blocked_s: float = 0.0  # as far as known: up to the last refusal and what it asked for
    guessed: bool = False  # the API did not say how long to wait, or not truly

    @property
    def counts(self) -> bool:
        """Whether what was accepted till then is the limit: at first, twice in haste, or three in a row."""
        return self.limit is None or self.limit.doubling_s is not None or self.hasty > 1 or self.refusals > 2

    @property
    def near_limit(self) -> bool:
        """Whether a known limit was met where it was expected."""
        if self.limit is None or self.hasty or self.limit.strays >= _DOUBTED:
            return False
        return self.pace >= _NEAR * self.limit.per_s

    def refused(self, now: float, asked_s: float) -> Self:
        refusals = self.refusals + 1
        blocked_s = max(self.blocked_s, now + asked_s - self.since)
        return replace(self, refusals=refusals, blocked_s=blocked_s, guessed=refusals > 1 or not asked_s)


class _LatencyWatch:
    """Compares each second's median latency with the best one seen."""

    def __init__(self, now: float) -> None:
        self._latencies: list[float] = []
        self._looked = self._settled_at = now
        self._best_s, self._slowed = math.inf, False

    def borne_when_slow(self, now: float, latency_s: float) -> float | None:
        """Return the answers a second when the pace is to drop, else None."""
        self._latencies.append(latency_s)
        elapsed_s = now - self._looked
        if elapsed_s < _LOOK_EVERY_S or len(self._latencies) < _ENOUGH_ANSWERS:
            return None
        median_s, borne = statistics.median(self._latencies), len(self._latencies) / elapsed_s
        self._latencies.clear()
        self._looked = now
        self._best_s = min(self._best_s, median_s)
        return borne if now >= self._settled_at and self._queues(now, median_s) else None

    def restart(self, now: float) -> None:
        # A pause says nothing about latency.
        self._latencies.clear()
        self._looked = now

    def _queues(self, now: float, median_s: float) -> bool:
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


class Steering:
    """The permitted pace and the pause, moved by what the API answers.

    The pace never goes above the ceiling, which may be infinite; `auto` begins gently and looks at latency as well.
    """

    def __init__(self, *, ceiling_per_s: float, auto: bool, now: float) -> None:
        self.paused_until = -math.inf
        self.limit: Limit | None = None
        self.latency_s = 0.0
        self.ceiling_per_s = ceiling_per_s
        self._auto = auto
        self._started = now
        self._answers = _AnswerCounts()
        self._answered_since_pause = 0
        self._hasty_streaks = 0
        self._cause = ""
        self._streak: _Streak | None = None
        self._watch = _LatencyWatch(now)

    @property
    def probe_s(self) -> float:
        """Seconds for which the first request after a pause goes alone, since the pause was a guess."""
        guessed = self._streak is not None and self._streak.guessed
        return min(1.5 * self.latency_s, _LONGEST_PROBE_S) if guessed else 0.0

    def pace(self, now: float) -> float:
        """Return the permitted requests a second; infinite where nothing bounds them."""
        if self.limit is not None:
            return min(self.ceiling_per_s, self.limit.pace(now))
        if not self._auto:
            return self.ceiling_per_s
        climbing_s = max(0.0, now - self._started - _GENTLE_S)
        return min(self.ceiling_per_s, GENTLE_PER_S * 2 ** min(climbing_s / _DOUBLING_S, 64))

    def throttled(
        self, now: float, retry_after_s: float | None, latency_s: float | None = None, cause: str = "429"
    ) -> bool:
        """Take in a 429, or what means the same; return whether the pause is new or at least a second longer.

        A 429 to a request that was in flight when the pause began is no news. `latency_s` is None for the last one's. An
        `ApiUnavailableError` when the waits without an answer come to over 15 minutes.
        """
        before = self.paused_until
        self._cause = cause
        started = now - (self.latency_s if latency_s is None else latency_s)
        if started >= before:
            self._pause(now, retry_after_s)
        elif now < before:
            self.paused_until = max(before, now + (retry_after_s or 0.0))
        wait_s = self.paused_until - (self._streak.since if self._streak else self.paused_until)
        if wait_s > LONGEST_WAIT_S:
            raise ApiUnavailableError(
                f"The API answers {cause} and asks for a wait of {wait_s / 60:.0f} minutes, over 15.",
                "Run the same command again later.",
                resumes=True,
            )
        return self.paused_until - before >= 1

    def answered(self, now: float, latency_s: float) -> bool:
        """Take in an answer that is no 429; return whether the pace dropped because answers have grown slow."""
        started = now - latency_s
        self._answers.add(started)
        self._answered_since_pause += 1
        self.latency_s = latency_s
        streak = self._streak
        if started >= self.paused_until:
            self._streak = None
        elif streak is not None and streak.counts:
            # It was in flight when the pause began, so it tells more of what was accepted till then.
            self._learn_quota(streak)
        return self._auto and self._heed_latency(now, latency_s)

    def forget(self, now: float) -> bool:
        """Drop a limit that was left far below; return whether nothing limits the pace any more."""
        if self.limit is not None and self.limit.pace(now) > _FORGOTTEN * self.limit.per_s:
            self.limit = None
        return self.limit is None

    def _pause(self, now: float, retry_after_s: float | None) -> None:
        asked_s = retry_after_s or 0.0
        streak = (self._streak or self._new_streak(now)).refused(now, asked_s)
        self._streak = streak
        self._answered_since_pause = 0
        self.paused_until = now + asked_s
        if streak.guessed:
            self.paused_until = max(self.paused_until, self._ask_again(streak, now))
        self._watch.restart(self.paused_until)
        if streak.counts or streak.near_limit:
            self._learn_quota(streak)
        elif streak.limit is not None and streak.refusals == 1:
            self.limit = replace(streak.limit, strays=streak.limit.strays + 1)

    def _new_streak(self, now: float) -> _Streak:
        hasty = self._answered_since_pause < _HASTY_ANSWERS or now - self.paused_until < _HASTY_S
        self._hasty_streaks = self._hasty_streaks + 1 if hasty else 0
        return _Streak(since=now, pace=self.pace(now), limit=self.limit, hasty=self._hasty_streaks)

    def _ask_again(self, streak: _Streak, now: float) -> float:
        """Return when to ask again: ever later, but as soon as a window of the quota has moved on."""
        pause_s = min(_FIRST_PAUSE_S * _PAUSE_GROWTH ** (streak.refusals - 1), _LONGEST_PAUSE_S)
        windows = _WINDOWS_S[1:]
        frees = (self._answers.oldest(streak.since, each) + each + _TICK_S for each in windows)
        end = now + pause_s
        return min((at for at in frees if now + _FIRST_PAUSE_S < at < end), default=end)

    def _learn_quota(self, streak: _Streak) -> None:
        # The shortest usual window of a quota that can make us wait that long.
        fitting = (each for each in _WINDOWS_S if streak.blocked_s <= each + _ROUNDING_S)
        window_s = next(fitting, LONGEST_WAIT_S)
        per_s = self._borne_per_s(streak, window_s) if streak.counts else streak.pace
        self._learn(streak, per_s, since=self.paused_until, window_s=window_s, why=self._cause)
        if streak.limit is None and self.limit and window_s <= _LONGEST_TRIAL_WINDOW_S:
            per_s = max(self.limit.per_s, min(_TRIAL_FROM_PER_S, streak.pace / 4))
            self.limit = replace(self.limit, per_s=per_s, doubling_s=self._trial_doubling_s(streak, per_s))

    def _trial_doubling_s(self, streak: _Streak, per_s: float) -> float:
        """Return in how many seconds the pace doubles on its way back from a refusal that may be a stray."""
        if math.isinf(streak.pace):
            return _TRIAL_DOUBLING_S
        doublings = max(0.1, math.log2(streak.pace / per_s / (1 - _UNDER)))
        return max(_SHORTEST_TRIAL_S, _TRIAL_S - (self.paused_until - streak.since)) / doublings

    def _borne_per_s(self, streak: _Streak, window_s: float) -> float:
        # A slow pace shows itself only over several requests.
        windows = (window_s, min(LONGEST_WAIT_S, max(window_s, _ENOUGH_REQUESTS / streak.pace)))
        borne = max(self._answers.count(streak.since, each) / each for each in windows)
        # Pauses in haste leave little to count: then at most half is given up at once.
        at_least = streak.pace / 2 if streak.hasty > 1 and streak.refusals <= 2 else 0.0
        return max(at_least, min(streak.pace, borne)) if borne else min(streak.pace / 4, _UNKNOWN_PER_S)

    def _learn(self, streak: _Streak, per_s: float, *, since: float, window_s: float, why: str) -> None:
        patience_s = max(_HASTY_PATIENCE_S if streak.hasty > 1 else _PATIENCE_S, window_s)
        limit = Limit(per_s=max(_SLOWEST_PER_S, per_s), since=since, patience_s=patience_s, why=why)
        before = streak.limit
        if before and before.doubling_s is None and abs(limit.per_s / before.per_s - 1) <= _SAME_PLACE:
            limit = replace(limit, patience_s=min(_LONGEST_PATIENCE_S, 2 * before.patience_s))
        self.limit = limit

    def _heed_latency(self, now: float, latency_s: float) -> bool:
        borne = self._watch.borne_when_slow(now, latency_s)
        if borne is None:
            return False
        known = _Streak(since=now, pace=self.pace(now), limit=self.limit)
        per_s = min(known.pace, borne)
        self._learn(known, per_s, since=now, window_s=_WINDOWS_S[0], why="answers have grown slow")
        return True

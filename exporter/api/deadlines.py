"""Ends attempts that last too long: one timer for all of them.

`asyncio.timeout` sets a timer for each; that is 28,000 instructions of the 350,000 that a whole request
takes (measured 2026-11-24).
"""

import asyncio
import math

_MOST_TICK_S = 0.25
_TICKS = 20


class Deadline:
    """When one attempt must be over; made by `Deadlines.start`."""

    __slots__ = ("_cancelling", "at", "expired", "task")

    def __init__(self, task: asyncio.Task[object], at: float) -> None:
        self.task, self.at, self.expired = task, at, False
        self._cancelling = task.cancelling()

    def is_the_cause(self) -> bool:
        """Return whether a cancellation of the attempt came from here alone, and take it back."""
        return self.expired and self.task.uncancel() <= self._cancelling

    def stop(self) -> None:
        """Let nothing end the attempt until `allow`."""
        self.at = math.inf

    def allow(self, seconds: float) -> None:
        """Give the attempt that many seconds from now on."""
        self.at = asyncio.get_running_loop().time() + seconds


class Deadlines:
    """The deadlines of all attempts in flight, which usually have `timeout_s`; for the running event loop.

    `running` are those. Seconds in which the process stood still do not count. An attempt ends at most a twentieth of its time late,
    and never more than a quarter of a second.
    """

    def __init__(self, timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._tick_s = min(_MOST_TICK_S, timeout_s / _TICKS)
        self.running: set[Deadline] = set()
        self._ticking, self._due = False, 0.0

    def start(self, seconds: float) -> Deadline:
        """Let the present task, which makes an attempt, be cancelled after that many seconds."""
        task = asyncio.current_task(self._loop)
        assert task is not None
        deadline = Deadline(task, self._loop.time() + seconds)
        self.running.add(deadline)
        if not self._ticking:
            self._tick()
        return deadline

    def end(self, deadline: Deadline) -> None:
        """Forget the deadline of an attempt that is over."""
        self.running.discard(deadline)

    def _tick(self) -> None:
        self._ticking = bool(self.running)
        if self._ticking:
            self._due = self._loop.time() + self._tick_s
            self._loop.call_at(self._due, self._sweep)

    def _sweep(self) -> None:
        now = self._loop.time()
        late_s = now - self._due
        if late_s > self._tick_s:
            # The loop or the machine stood still, and answers that came meanwhile are not yet read.
            for running in self.running:
                running.at += late_s
        for deadline in [running for running in self.running if running.at <= now]:
            self.running.discard(deadline)
            deadline.expired = True
            deadline.task.cancel()
        self._tick()

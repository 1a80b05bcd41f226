"""When a refusal counts: the law of `outage`, without a clock and without a network.

A refusal is a fact about an order only if the API is known to serve orders at that time. So it is held,
unrecorded, until an answer to a request that began after it is good. Where none comes, one order that is
known to be good is asked for, and nothing else meanwhile: its answer proves or disproves all that is held.
"""

import math
from typing import Generic, TypeVar

IN_A_ROW = 20  # so many bad answers in a row raise a doubt ...
#: ... and ten times as many the next one, where the API was found to serve orders: dead orders stop no run.
IN_A_ROW_AFTER_PROOF = 200
#: An API that never gave a good answer in this try is waited for no longer: a wrong address is told soon.
FIRST_PATIENCE_S = 20.0
FIRST_QUESTION_AGAIN_S = 0.5
LONGEST_QUESTION_AGAIN_S = 30.0
_THROTTLED_ALONE = 5

T = TypeVar("T")


class Proof(Generic[T]):
    """What is held, and how long nobody had a good answer. Times are of one steady clock.

    `in_flight` requests there are at one time, at most; an API that has answered is waited for `patience_s`.
    """

    def __init__(self, in_flight: int, patience_s: float) -> None:
        self.ever_good = False
        self.orders: set[str] = set()  # of the row of bad answers
        self.since = 0.0  # when that began
        self.all_forbidden = True  # whether each of it was a 403
        self._in_flight = in_flight
        self._patience_s = patience_s
        self._row = 0
        self._enough = IN_A_ROW
        self._held: list[tuple[T, float]] = []  # refusals, and when their answers came

    def good(self, began: float) -> list[T]:
        """Take in a good answer; return the refusals that it proves: those that came before it was asked for."""
        self.ever_good = True
        if not self._row and not self._held:
            return []
        self._end_row(IN_A_ROW)
        return self._release(began)

    def bad(self, order: str, began: float, status: int | None) -> None:
        """Take in an answer for an order that is not good, or none, to a request that began then."""
        if not self._row:
            self.since = began
        self._row += 1
        self.orders.add(order)
        self.all_forbidden = self.all_forbidden and status == 403

    def hold(self, refusal: T, now: float) -> None:
        """Keep a refusal until it is proven; `bad` has been told of it."""
        self._held.append((refusal, now))

    @property
    def is_in_doubt(self) -> bool:
        """Whether a known good order is to be asked for before anything else.

        Good answers to requests that were in flight already end a row, yet prove nothing of what was refused
        meanwhile: so what is held is bounded, too.
        """
        return self._row >= self._enough or len(self._held) >= self._enough + self._in_flight

    @property
    def is_open(self) -> bool:
        """Whether something would be left in doubt if nothing more were asked for."""
        return bool(self._held or self._row)

    @property
    def ends_at(self) -> float:
        """Until when good answers are waited for."""
        return self.since + min(self._patience_s, math.inf if self.ever_good else FIRST_PATIENCE_S)

    def served(self, asked_at: float, *, at_once: bool) -> list[T]:
        """Take in that the known good order was served; return the refusals that this proves.

        Where it was not `at_once` but refused at first, all those that are held: they mean nothing.
        """
        self.ever_good = True
        self._end_row(IN_A_ROW_AFTER_PROOF if at_once else IN_A_ROW)
        return self._release(asked_at if at_once else math.inf)

    def _end_row(self, enough: int) -> None:
        self._row, self._enough, self.all_forbidden = 0, enough, True
        self.orders.clear()

    def _release(self, before: float) -> list[T]:
        released = [refusal for refusal, at in self._held if at <= before]
        self._held = [(refusal, at) for refusal, at in self._held if at > before]
        return released


def question_again_s(failed: int) -> float:
    """Return how long to wait after so many failed questions in a row.

    >>> [question_again_s(failed) for failed in (1, 2, 3, 9)]
    [0.5, 1.0, 2.0, 30.0]
    """
    return float(min(LONGEST_QUESTION_AGAIN_S, FIRST_QUESTION_AGAIN_S * 2.0 ** (failed - 1)))


class Throttles:
    """Tells an order that is throttled alone from a limit that everybody meets.

    `good` and `throttled` count such answers so far, of all orders, this one's own included.
    """

    def __init__(self, good: int, throttled: int) -> None:
        self._good = self._good_before = good
        self._throttled_before = throttled - 1
        self._others = self._own = self._counted = 0

    def nobody_answered(self, good: int) -> bool:
        """Return whether no other order was answered since the last time that this one was throttled."""
        return self._own > 0 and good == self._good_before

    def again(self, good: int, throttled: int) -> bool:
        """Take in that it is throttled; return whether it is so alone: five times, others answered meanwhile."""
        self._own += 1
        self._good_before = good
        self._others = throttled - self._throttled_before - self._own
        enough = self._own >= _THROTTLED_ALONE and good - self._good >= IN_A_ROW
        return enough and self._others < _THROTTLED_ALONE * self._own

    @property
    def is_own_fault(self) -> bool:
        """Whether what was taken for a limit was met by hardly any other order, and again by this one."""
        return self._own > 1 and self._others <= self._own

    def attempts(self, *, but: int) -> int:
        """Return how many attempts its own fault has used up, beyond those returned before and the last `but`."""
        if self._others > self._own:
            return 0
        used, self._counted = self._own - but - self._counted, self._own
        return max(0, used)

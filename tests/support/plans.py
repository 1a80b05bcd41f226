"""Behaviours for a faulty server in a process of its own, for the tests of whole runs."""

from __future__ import annotations

from collections.abc import Iterable

from tests.support.servers import moves
from tests.support.servers.moves import Step

first_late = moves.in_turn(moves.late(6.0), moves.good)
paused_for_minutes = moves.throttled("600")
always_500 = moves.status(500)
refuses_the_token = moves.status(401)


def asked_again_after_500(number: str, nth: int) -> Iterable[Step]:
    """A tenth of the orders answer 500 at first, a tenth are not there."""
    behaviours = {"0": moves.in_turn(moves.status(500), moves.good), "1": moves.status(404)}
    return behaviours.get(number[-1], moves.good)(number, nth)


def first_dead(number: str, nth: int) -> Iterable[Step]:
    """Order a0 answers 500 for ever."""
    return (moves.status(500) if number == "a0" else moves.good)(number, nth)

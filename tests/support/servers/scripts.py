"""Plans for a faulty server in a process of its own."""

from __future__ import annotations

import random
from collections.abc import Iterable

from tests.support.servers import moves
from tests.support.servers.faulty import Plan
from tests.support.servers.moves import Behaviour, End, Step

TRANSIENT: tuple[Behaviour, ...] = (
    moves.status(500),
    moves.html(502),
    moves.status(503),
    moves.status(408),
    moves.html(),
    moves.broken_json,
    moves.end(End.RESET),
    moves.end(End.CLOSE),
    moves.cut_headers(),
    moves.cut_body(),
    moves.cut_body(End.RESET),
    moves.cut_chunked(),
    moves.close_after(moves.good),
    moves.late(0.2),
)


def tenth_faulty(number: str, nth: int) -> Iterable[Step]:
    """A tenth of the answers go wrong, in ways that another attempt heals; each run the same ones."""
    dice = random.Random(f"{number} {nth}")
    return (dice.choice(TRANSIENT) if dice.random() < 0.1 else moves.good)(number, nth)


thirty_a_second = Plan(limits=((30, 1.0),))
thirty_a_second_silent = Plan(limits=((30, 1.0),), retry_after="absent")
three_hundred_a_minute = Plan(limits=((300, 60.0),))
forty_a_second_by_latency = Plan(latency_s=0.1, workers=4)

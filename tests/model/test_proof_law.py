"""The law by which a refusal is believed: what is held, what proves it, and how long a good answer is waited for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model.proof_law import IN_A_ROW, IN_A_ROW_AFTER_PROOF, Proof, Throttles, question_again_s

pytestmark = pytest.mark.fast


def refused(law: Proof[int], count: int, at: float = 0.0, status: int = 404) -> None:
    for index in range(count):
        law.bad(f"a{index}", at, status)
        law.hold(index, at)


def test_only_an_answer_that_was_asked_for_later_proves() -> None:
    """A good answer that was in flight when the refusal came proves nothing of it."""
    law: Proof[int] = Proof(4, 600.0)
    refused(law, 3, at=10.0)
    assert law.good(9.0) == []
    assert law.is_open
    assert law.good(10.5) == [0, 1, 2]
    assert not law.is_open


def test_a_row_raises_doubt_and_a_proof_makes_the_next_one_ten_times_as_long() -> None:
    """Twenty in a row are asked about; after a proof two hundred, and after a good answer twenty again."""
    law: Proof[int] = Proof(4, 600.0)
    refused(law, IN_A_ROW - 1)
    assert not law.is_in_doubt
    refused(law, 1)
    assert law.is_in_doubt
    assert len(law.served(1.0, at_once=True)) == IN_A_ROW
    refused(law, IN_A_ROW_AFTER_PROOF - 1, at=2.0)
    assert law._row < IN_A_ROW_AFTER_PROOF
    law.good(3.0)
    refused(law, IN_A_ROW, at=4.0)
    assert law.is_in_doubt


@given(st.lists(st.sampled_from(["good", "bad"]), max_size=400), st.integers(1, 64))
def test_what_is_held_is_bounded(answers: list[str], in_flight: int) -> None:
    """Whatever comes, doubt is raised before more is held than the row and what is in flight."""
    law: Proof[int] = Proof(in_flight, 600.0)
    for at, answer in enumerate(answers):
        if answer == "bad":
            refused(law, 1, at=float(at))
        else:
            law.good(-1.0)  # asked for before all of them
        if law.is_in_doubt:
            assert len(law._held) <= IN_A_ROW + in_flight
            assert law.served(0.0, at_once=False)
    assert len(law._held) < IN_A_ROW + in_flight


def test_patience_is_short_before_the_first_good_answer() -> None:
    """Twenty seconds, or less where less is asked for; then the whole patience, from the row's first failure."""
    law: Proof[int] = Proof(4, 600.0)
    refused(law, 1, at=100.0)
    assert law.ends_at == 120.0
    law.good(101.0)
    refused(law, 1, at=200.0)
    assert law.ends_at == 800.0


def test_questions_grow_rarer() -> None:
    """Each waits twice as long as the one before, up to half a minute."""
    waits = [question_again_s(failed) for failed in range(1, 12)]
    assert waits == sorted(waits)
    assert waits[-1] == 30.0


def test_an_order_is_throttled_alone_only_while_others_are_answered() -> None:
    """Five times, with twenty good answers in between; where everybody is throttled it is no fault of its own."""
    alone, crowd = Throttles(good=0, throttled=1), Throttles(good=0, throttled=1)
    assert [alone.again(good=5 * nth, throttled=nth) for nth in range(1, 6)] == [False] * 4 + [True]
    assert not any(crowd.again(good=5 * nth, throttled=40 * nth) for nth in range(1, 9))

"""A dead API ends a run soon and loses nothing; dead orders do not.

Most tests run one refresh with less patience than the product has, so that they wait for less.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from exporter.model.errors import ApiUnavailableError
from tests.support.clients import run, serving
from tests.support.processes import exporter_for
from tests.support.refreshing import Work, numbers
from tests.support.servers import moves
from tests.support.servers.faulty import FaultyServer, Plan
from tests.support.servers.moves import Behaviour, End, Step

DEAD: dict[str, Behaviour] = {
    "503": moves.status(503),
    "html": moves.html(502),
    "reset": moves.end(End.RESET),
    "black hole": moves.end(End.STALL),
}


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """The URL of a port that nobody listens at."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize("behaviour", DEAD.values(), ids=DEAD)
def test_nothing_but_failures_is_an_outage(tmp_path: Path, behaviour: Behaviour) -> None:
    """The run ends by itself, with few requests, and the same work goes on when the API is back."""

    async def tries() -> None:
        work = Work(tmp_path, numbers(300))
        async with FaultyServer(behaviour) as server:
            with pytest.raises(ApiUnavailableError, match="orders in a row failed"):
                await work.refresh(server.url)
            assert len(server.arrivals) < 32 * 8
        async with FaultyServer() as server:
            assert await work.refresh(server.url) == {"fetched": 300}
            assert len(server.arrivals) == 300

    run(tries())


@pytest.mark.parametrize("dying", DEAD.values(), ids=DEAD)
def test_an_api_that_dies_in_mid_run(tmp_path: Path, dying: Behaviour) -> None:
    """What it answered before is kept and not asked for again."""
    work = Work(tmp_path, numbers(300))

    async def tries() -> None:
        left = iter(range(100))

        def mortal(number: str, nth: int) -> Iterable[Step]:
            return (dying if next(left, None) is None else moves.good)(number, nth)

        async with FaultyServer(mortal) as server:
            with pytest.raises(ApiUnavailableError):
                # A second an attempt: a good answer that a busy machine times out is asked for again.
                await work.refresh(server.url, timeout_s=1.0)
        async with FaultyServer() as server:
            assert await work.refresh(server.url) == {"fetched": 300}
            assert len(server.arrivals) == 200

    run(tries())


def test_an_api_that_comes_back_within_the_patience_is_waited_for(tmp_path: Path) -> None:
    """A restart of the API costs a pause, not the run."""
    work = Work(tmp_path, numbers(200))

    async def tries() -> None:
        async with FaultyServer(Plan(down_from=100, down_for_s=0.3)) as server:
            assert await work.refresh(server.url) == {"fetched": 200}

    run(tries())


def test_few_attempts_at_a_high_rate_send_no_thousands(tmp_path: Path) -> None:
    """However fast orders fail, some two hundred of them in a row end the run before its patience does."""

    async def tries() -> None:
        work = Work(tmp_path, numbers(2000))
        async with FaultyServer(moves.status(500)) as server:
            with pytest.raises(ApiUnavailableError, match="orders in a row failed"):
                await work.refresh(server.url, max_attempts=1)
            assert len(server.arrivals) <= 20 + 32 + 10

    run(tries())


@pytest.mark.parametrize("first", [0, 80, 160], ids=["start", "middle", "end"])
def test_a_stretch_of_dead_orders_is_no_outage(tmp_path: Path, first: int) -> None:
    """Forty orders that never have an answer become rejects; the others are fetched."""
    dead = {f"a{index}": moves.end(End.STALL) for index in range(first, first + 40)}
    work = Work(tmp_path, numbers(200))

    async def tries() -> None:
        async with FaultyServer(dead) as server:
            settled = await work.refresh(server.url, max_attempts=3, timeout_s=0.2)
            assert settled == {"fetched": 160, "unavailable": 40}

    run(tries())


def test_a_single_dead_order_is_no_outage(tmp_path: Path) -> None:
    """It is asked for as often as told, beside orders that are well."""
    work = Work(tmp_path, numbers(5))

    async def tries() -> None:
        async with FaultyServer({"a2": moves.status(500)}) as server:
            assert await work.refresh(server.url, max_attempts=3) == {"fetched": 4, "unavailable": 1}
            assert sum(arrival.number == "a2" for arrival in server.arrivals) == 3

    run(tries())


def test_few_orders_and_nobody_there_is_an_outage(tmp_path: Path) -> None:
    """Fewer than twenty orders never make a long row; none of them answered says the same, and why only once."""
    work = Work(tmp_path, numbers(3))

    async def tries() -> None:
        with nobody() as url, pytest.raises(ApiUnavailableError) as raised:
            await work.refresh(url, max_attempts=2)
        assert str(raised.value).count("it refuses connections") == 1
        async with FaultyServer() as server:
            assert await work.refresh(server.url) == {"fetched": 3}

    run(tries())


def test_a_resumed_run_that_has_only_dead_orders_left_ends(tmp_path: Path) -> None:
    """One question to an order that was fetched before tells that the API lives."""
    dead = {f"a{index}": moves.status(500) for index in range(3)}

    async def tries() -> None:
        work = Work(tmp_path, numbers(50))
        async with FaultyServer(dead) as server:
            first = await work.refresh(server.url, max_attempts=1)
            assert first == {"fetched": 47, "unavailable": 3}
            second = await work.refresh(server.url, max_attempts=2)
            assert second == first
            assert len(server.arrivals) == (50 + 1) + (6 + 1)

    run(tries())


def test_a_slow_pace_is_no_outage(tmp_path: Path) -> None:
    """Waiting for slots longer than the patience is nothing that the API did."""
    dead = {f"a{index}": moves.status(500) for index in range(25)}
    work = Work(tmp_path, numbers(50))

    async def tries() -> None:
        async with FaultyServer(dead) as server:
            settled = await work.refresh(server.url, rate="40/s", max_attempts=2)
            assert settled == {"fetched": 25, "unavailable": 25}

    run(tries())


def test_an_outage_at_the_defaults_ends_within_a_minute(tmp_path: Path) -> None:
    """Nobody listens, or 503 for everything: exit 6, few requests, nothing published."""
    with ExitStack() as stack:
        server = stack.enter_context(serving(moves.status(503)))
        running = [
            stack.enter_context(exporter.started("run", "numbers.txt", "--out", "out"))
            for exporter in (
                exporter_for(server.url, tmp_path / "503", numbers(1000)),
                exporter_for(stack.enter_context(nobody()), tmp_path / "nobody", numbers(1000)),
            )
        ]
        for process in running:
            process.end(60.0).said(6, "The API is not available", "the same command", "to resume")
        assert len(server.arrivals) < 350
    assert [path.name for path in tmp_path.glob("*/out")] == []

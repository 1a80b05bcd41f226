"""A dead API ends a run soon and loses nothing; dead orders do not.

Most tests run one refresh with less patience than the product has, so that they wait for less.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from exporter.api.client import open_client
from exporter.api.outage import MOST_ORDERS_IN_A_ROW
from exporter.api.pace import Pace
from exporter.fetch.refresh import Refresh, Tally, refresh
from exporter.lists import Batch
from exporter.model.errors import ApiUnavailableError
from exporter.model.options import Options
from exporter.model.rate import Rate
from exporter.model.run_statistics import Statistics
from exporter.store.order_store import Freshness, Store
from exporter.store.plan import make_plan
from exporter.system.stopping import Stop
from tests.support.clients import TOKEN, run, serving
from tests.support.processes import exporter_for
from tests.support.servers import moves
from tests.support.servers.faulty import FaultyServer, Plan
from tests.support.servers.moves import Behaviour, End, Step

PATIENCE_S = 0.6
DEAD: dict[str, Behaviour] = {
    "503": moves.status(503),
    "html": moves.html(502),
    "reset": moves.end(End.RESET),
    "black hole": moves.end(End.STALL),
}


class Work:
    """One run's store, for as many tries as a test wants."""

    def __init__(self, folder: Path, numbers: Iterable[str]) -> None:
        self.numbers = list(numbers)
        self._folder = folder
        batch = Batch(lines=range(1, len(self.numbers) + 1), order_numbers=self.numbers)
        make_plan(folder / "plan.db", [batch])

    async def refresh(
        self, url: str, patience_s: float = PATIENCE_S, **settings: Any
    ) -> dict[str | None, int]:
        """Make one try; return how many orders stand in each state."""
        defaults = {"concurrency": 32, "timeout_s": 0.3, "rate": "unlimited", "max_attempts": 6}
        options = Options(orders="-", out="out", api_url=url, token=TOKEN, **{**defaults, **settings})
        store = Store(self._folder / "store.db", "http://127.0.0.1")
        try:
            store.attach_plan(self._folder / "plan.db")
            now = time.time()
            record = store.begin_run("out", now, 3600.0)
            freshness = Freshness(run_started_at=record.started_at, try_started_at=now)
            pace, statistics = Pace(Rate.parse(options.rate)), Statistics(time.monotonic)
            async with open_client(options, pace, statistics) as client:
                await refresh(
                    Refresh(
                        options=options,
                        store=store,
                        freshness=freshness,
                        run=record,
                        client=client,
                        pace=pace,
                        statistics=statistics,
                        tally=Tally(),
                        stop=Stop(),
                        patience_s=patience_s,
                    )
                )
            return store.states(freshness)
        finally:
            store.close()


def numbers(count: int) -> list[str]:
    return [f"a{index}" for index in range(count)]


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
            with pytest.raises(ApiUnavailableError, match="orders in a row had no good answer"):
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
            with pytest.raises(ApiUnavailableError, match="orders in a row had no good answer"):
                await work.refresh(server.url, max_attempts=1, patience_s=60.0)
            assert len(server.arrivals) < MOST_ORDERS_IN_A_ROW + 2 * 32

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
        async with FaultyServer({"a2": moves.status(503)}) as server:
            assert await work.refresh(server.url, max_attempts=3) == {"fetched": 4, "unavailable": 1}
            assert sum(arrival.number == "a2" for arrival in server.arrivals) == 3

    run(tries())


def test_few_orders_and_nobody_there_is_an_outage(tmp_path: Path) -> None:
    """Fewer than twenty orders never make a long row; none of them answered says the same."""
    work = Work(tmp_path, numbers(3))

    async def tries() -> None:
        with nobody() as url, pytest.raises(ApiUnavailableError):
            await work.refresh(url, max_attempts=2)
        async with FaultyServer() as server:
            assert await work.refresh(server.url) == {"fetched": 3}

    run(tries())


def test_a_resumed_run_that_has_only_dead_orders_left_ends(tmp_path: Path) -> None:
    """One question to an order that was fetched before tells that the API lives."""
    dead = {f"a{index}": moves.status(503) for index in range(3)}

    async def tries() -> None:
        work = Work(tmp_path, numbers(50))
        async with FaultyServer(dead) as server:
            first = await work.refresh(server.url, max_attempts=1)
            assert first == {"fetched": 47, "unavailable": 3}
            second = await work.refresh(server.url, max_attempts=2)
            assert second == first
            assert len(server.arrivals) == 50 + 6 + 1

    run(tries())


def test_a_slow_pace_is_no_outage(tmp_path: Path) -> None:
    """Waiting for slots longer than the patience is nothing that the API did."""
    dead = {f"a{index}": moves.status(503) for index in range(25)}
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
            process.end(60.0).said(6, "The API is not available", "it goes on where it stopped")
        assert len(server.arrivals) < 350
    assert [path.name for path in tmp_path.glob("*/out")] == []

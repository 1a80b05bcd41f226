"""One rate for a whole cluster, counted at the server: real workers, real requests."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("distributed")

from exporter.fetch.cluster.messages import Report, Standing
from exporter.fetch.cluster.rate_division import RateDivision, shares
from exporter.fetch.cluster.worker_pace import SharePace
from tests.support.dask_cluster import DaskCluster, running_cluster
from tests.support.processes import exporter_for, wait_until
from tests.support.servers import moves
from tests.support.servers.faulty import FaultyServer, Plan
from tests.support.standing import manifest_of

NUMBERS = [f"n{index}" for index in range(600)]  # three ranges
#: Loads a worker that gives up sooner than its users would like.
_HASTY = "import exporter.fetch.cluster.worker_reports as reports; reports.PATIENCE_S = 1.5"


def most_in_any_second(starts: Iterable[float]) -> int:
    ordered = sorted(starts)
    first = most = 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


@contextmanager
def served(plan: Plan) -> Iterator[FaultyServer]:
    """Run a server in a thread of this process, so that its arrivals can be looked at."""
    loop = asyncio.new_event_loop()
    server, ended = FaultyServer(plan), asyncio.Event()

    async def serve() -> None:
        async with server:
            up.set()
            await ended.wait()

    up = threading.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert up.wait(10)
        yield server
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), workers=0) as running:
        for _ in range(2):
            running.add_worker("--preload", _HASTY)
        yield running


@pytest.mark.parametrize(
    ("rate", "latency_s"),
    [(200, 0.0), (250, 0.08)],
    ids=["one range could use it all", "no range could use it all"],
)
def test_all_workers_together_keep_the_rate_and_use_it(
    cluster: DaskCluster, tmp_path: Path, rate: int, latency_s: float
) -> None:
    """No second holds more than `rate * 1.02 + 1` requests, and next to none of the rate is wasted.

    With answers of 0.08 s the 16 requests of one range are 200/s: the other range has what that leaves.
    """
    with served(Plan(behaviour=moves.bare, latency_s=latency_s)) as server:
        ended = exporter_for(server.url, tmp_path, NUMBERS).run(
            "--dask", cluster.address, "--rate", f"{rate}/s"
        )
        assert ended.code == 0, ended.err
        starts = [arrival.at for arrival in server.arrivals]
    assert len(starts) == len(NUMBERS)
    assert most_in_any_second(starts) <= rate * 1.02 + 1
    assert (len(starts) - 1) / (max(starts) - min(starts)) >= 0.8 * rate  # this machine is not ours alone


def test_a_429_to_one_worker_makes_all_wait(cluster: DaskCluster, tmp_path: Path) -> None:
    """Soon after the 429 to one, and until `Retry-After` is over, no worker starts a request."""

    def plan(number: str, nth: int) -> Iterable[moves.Step]:
        refused = number == "n100" and nth == 1
        return (moves.throttled("1") if refused else moves.bare)(number, nth)

    with served(Plan(behaviour=plan, latency_s=0.08)) as server:
        ended = exporter_for(server.url, tmp_path, NUMBERS).run("--dask", cluster.address, "--rate", "300/s")
        assert ended.code == 0, ended.err
        arrivals = list(server.arrivals)
    refused_at = next(arrival.at for arrival in arrivals if arrival.number == "n100") + 0.08
    waited = [arrival.at - refused_at for arrival in arrivals if arrival.at > refused_at]
    assert [after for after in waited if 0.2 < after < 0.95] == []
    assert any(after >= 0.95 for after in waited)
    facts = manifest_of(tmp_path / "out")
    assert facts["requests"] == {"sent": len(arrivals), "retried": 0, "throttled": 1}
    assert len(facts["statistics"]["pauses"]) == 1


def test_a_worker_without_its_coordinator_keeps_its_share_and_ends(
    cluster: DaskCluster, tmp_path: Path
) -> None:
    """After `kill -9` of the coordinator the rate still holds, and soon nobody asks any more."""
    rate = 100
    with served(Plan(behaviour=moves.bare, latency_s=0.25)) as server:
        exporter = exporter_for(server.url, tmp_path, NUMBERS)
        with exporter.run_started("--dask", cluster.address, "--rate", f"{rate}/s") as running:
            wait_until(lambda: len(server.arrivals) > 50)
            running.kill()
        killed_at = max(arrival.at for arrival in server.arrivals)
        before = -1
        while before != len(server.arrivals):
            before = len(server.arrivals)
            assert not threading.Event().wait(1.0)
        starts = [arrival.at for arrival in server.arrivals]
        assert len(starts) < len(NUMBERS)
        assert max(starts) - killed_at < 10  # 1.5 s of patience, on a machine that is not ours alone
        assert most_in_any_second(starts) <= rate * 1.02 + 1
        ended = exporter.run("--dask", cluster.address)
        assert ended.code == 0, ended.err


def test_too_long_a_wait_ends_the_run(cluster: DaskCluster, tmp_path: Path) -> None:
    """A `Retry-After` beyond 15 minutes that one worker meets is the run's exit 6."""
    with served(Plan(behaviour=moves.throttled("1000"))) as server:
        exporter_for(server.url, tmp_path, NUMBERS).run("--dask", cluster.address).said(6, "over 15")


# --- the law, and the pace of one worker

WANTS = st.lists(st.sampled_from([0.0, 3.0, 40.0, 700.0, math.inf]), max_size=40)


@given(st.sampled_from([1 / 3600, 0.5, 8.0, 33.0, 100.0, 5000.0]), WANTS)
def test_shares_keep_the_promise_and_waste_next_to_nothing(rate: float, wants: list[float]) -> None:
    """However many share it, `rate * 1.02 + 1` holds with one request for each of them, and 97 % are given."""
    given_out = shares(rate, wants)
    sharing = sum(share > 0 for share in given_out)
    assert sum(given_out) <= rate * (1 + 1e-9)
    assert all(want or not share for want, share in zip(wants, given_out, strict=True))
    if any(wants):
        assert sum(given_out) >= 0.97 * rate
        assert sum(given_out) * 1.015 + sharing <= max(rate * 1.02 + 1, rate * 1.015 + 1) * (1 + 1e-9)


def report(seat: str, index: int, share_per_s: float, fetched: int = 0) -> Report:
    return Report(
        try_id="",
        seat=seat,
        index=index,
        worker=f"worker of {seat}",
        serial=1,
        concurrency=16,
        share_per_s=share_per_s,
        latency_s=0.001,
        standing=Standing(pending=1000, fetched=fetched),
    )


def test_a_share_is_anothers_once_it_was_given_back() -> None:
    """What one range gives up goes to the next when its own word says so, or when its worker is gone."""
    division = RateDivision()
    division.heard(report("a", 0, 0.0), now=0.0)
    division.heard(report("b", 1, 0.0), now=0.0)
    assert division.divide(100.0)
    assert division.told() == {"a": (100.0, 1), "b": (0.0, 1)}
    division.heard(report("a", 0, 100.0, fetched=1000), now=1.0)
    assert division.divide(100.0)
    assert division.told() == {"a": (0.0, 1), "b": (0.0, 1)}
    division.heard(report("a", 0, 0.0, fetched=1000), now=1.0)
    assert division.divide(100.0)
    assert division.told() == {"a": (0.0, 1), "b": (100.0, 1)}
    division.heard(report("c", 2, 0.0), now=2.0)
    division.heard(report("b", 1, 100.0), now=2.0)
    assert not division.divide(100.0)
    division.forget(lambda worker: worker == "worker of b", now=2.0)
    assert division.divide(100.0)
    assert division.told() == {"a": (0.0, 1), "c": (100.0, 1)}


def test_a_worker_alone_starts_evenly() -> None:
    """Twenty that ask at once start at the share's pace, none before the coordinator has spoken or while it says 0."""

    async def main() -> list[float]:
        pace = SharePace()
        loop = asyncio.get_running_loop()
        starts: list[float] = []

        async def ask() -> None:
            await pace.slot()
            starts.append(loop.time())

        asking = [asyncio.create_task(ask()) for _ in range(20)]
        await asyncio.sleep(0.05)
        assert starts == []
        pace.share(100.0)
        await asyncio.sleep(0.1)
        pace.share(0.0)
        waiting = len(starts)
        await asyncio.sleep(0.05)
        assert len(starts) == waiting < 20
        pace.share(100.0)
        await asyncio.gather(*asking)
        return starts

    starts = asyncio.run(main())
    assert starts[-1] - starts[0] >= 0.18

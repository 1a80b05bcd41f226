"""One pace for a whole cluster: slots over real links, a pause for all, and a share without the coordinator."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

pytest.importorskip("distributed")

from exporter.api.pace import Pace
from exporter.fetch.cluster.broker import Broker, open_broker
from exporter.fetch.cluster.link import Link, LinkLostError, open_link
from exporter.fetch.cluster.messages import Assignment, Standing
from exporter.model.errors import ApiUnavailableError
from exporter.model.freshness import Freshness
from exporter.model.rate import Rate
from exporter.model.run_statistics import Statistics

TRY = "0123456789abcdef"
#: Requests of one link that may be in flight.
CONCURRENCY = 20


def most_in_any_second(starts: list[float]) -> int:
    ordered = sorted(starts)
    first = most = 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def assignment(address: str, index: int, try_id: str = TRY) -> Assignment:
    return Assignment(
        version="",
        try_id=try_id,
        index=index,
        folder="",
        out="",
        options={},
        is_local=True,
        freshness=Freshness(0.0, 0.0),
        coordinator=address,
        concurrency=CONCURRENCY,
        good_number=None,
        key="",
    )


@asynccontextmanager
async def cluster(
    beacon: Path, rate: str, links: int = 2
) -> AsyncIterator[tuple[Broker, list[Link], Callable[[], Awaitable[None]]]]:
    """A broker and its links; the last value ends the broker."""
    await asyncio.to_thread(beacon.write_text, TRY)
    pace = Pace(Rate.parse(rate))
    async with AsyncExitStack() as members, AsyncExitStack() as alone:
        broker = await alone.enter_async_context(
            open_broker(
                lambda: Broker(pace, Statistics(time.monotonic), TRY, {"token": "t"}), "tcp://127.0.0.1", {}
            )
        )
        broker.workers = links
        opened = [
            await members.enter_async_context(open_link(assignment(broker.address, index), {}, beacon))
            for index in range(links)
        ]
        yield broker, opened, alone.aclose


async def ask(links: list[Link], seconds: float, latency_s: float = 0.0) -> list[tuple[int, float]]:
    """Start requests through each link as fast as its pace permits; return (link, start) of each."""
    starts: list[tuple[int, float]] = []

    async def work(index: int) -> None:
        while True:
            await links[index].pace.slot()
            began = time.monotonic()
            starts.append((index, began))
            await asyncio.sleep(latency_s)
            links[index].pace.answered(time.monotonic() - began)

    tasks = [asyncio.create_task(work(index)) for index in range(len(links)) for _ in range(CONCURRENCY)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return starts


def test_what_one_worker_cannot_use_goes_to_the_next(tmp_path: Path) -> None:
    """Where answers take their time every worker gets slots, and together they use the rate.

    Forty requests of 0.05 s are 800/s: a slot that was asked for only when it was needed would make that 420.
    """
    rate = 600

    async def main() -> list[tuple[int, float]]:
        async with cluster(tmp_path / "try", f"{rate}/s") as (_, links, _end):
            return await ask(links, 2.5, latency_s=0.05)

    starts = asyncio.run(main())
    assert most_in_any_second([at for _, at in starts]) <= rate * 1.02 + 1
    assert len(starts) >= 0.85 * rate * 2.4
    assert sum(index for index, _ in starts) >= 0.2 * len(starts)


@pytest.mark.parametrize(("rate", "seconds"), [(8, 2.5), (300, 2.5)])
def test_all_workers_together_keep_the_rate_and_use_it(tmp_path: Path, rate: int, seconds: float) -> None:
    """Two workers' starts hold the promise of one, `rate * 1.02 + 1` in any second, and waste next to none."""

    async def main() -> list[tuple[int, float]]:
        async with cluster(tmp_path / "try", f"{rate}/s") as (_, links, _end):
            return await ask(links, seconds)

    starts = asyncio.run(main())
    by_link = [sum(index == each for index, _ in starts) for each in (0, 1)]
    assert most_in_any_second([at for _, at in starts]) <= rate * 1.02 + 1
    assert len(starts) >= 0.9 * rate * (seconds - 0.1) - 1
    assert by_link[1] == 0  # the first can use them all; ranges that end together leave a gap


def test_who_can_use_no_slot_leaves_them_to_others(tmp_path: Path) -> None:
    """A range whose orders all wait for another attempt takes next to nothing from those after it."""

    async def main() -> int:
        async with cluster(tmp_path / "try", "100/s") as (_, links, _end):
            for link in links:
                link.standing = lambda: Standing(pending=1000)
            await ask(links[:1], 1.0, latency_s=0.05)
            await asyncio.sleep(0.5)
            return len(await ask(links[1:], 2.0))

    assert asyncio.run(main()) >= 0.9 * 100 * 1.9


def test_a_429_to_one_worker_makes_all_wait(tmp_path: Path) -> None:
    """From a twentieth of a second after the 429 until `Retry-After` is over nobody starts a request."""

    async def main() -> tuple[float, list[tuple[int, float]]]:
        async with cluster(tmp_path / "try", "200/s") as (_, links, _end):
            asking = asyncio.create_task(ask(links, 2.2))
            await asyncio.sleep(0.6)
            links[1].pace.throttled(1.0, 0.01)
            told = time.monotonic()
            return told, await asking

    told, starts = asyncio.run(main())
    waited = [at - told for _, at in starts if at > told]
    assert [after for after in waited if 0.05 < after < 1.0] == []
    assert any(after >= 1.0 for after in waited)


def test_without_a_limit_nobody_asks_for_slots(tmp_path: Path) -> None:
    """With `--rate unlimited` a slot costs no message; a 429 brings the leases, for all."""

    async def main() -> tuple[int, float, int]:
        async with cluster(tmp_path / "try", "unlimited") as (_, links, _end):
            began = time.monotonic()
            for _ in range(10_000):
                await links[0].pace.slot()
                links[0].pace.answered(0.01)
            took = time.monotonic() - began
            asked = links[0].pace.asked(None)
            links[0].pace.throttled(0.5, 0.01)
            await asyncio.sleep(0.1)
            return asked, took, len(await ask(links[1:], 0.3))

    asked, took, slots_in_the_pause = asyncio.run(main())
    assert asked == 0
    assert took < 0.5
    assert slots_in_the_pause == 0


def test_a_worker_without_its_coordinator_keeps_to_its_share(tmp_path: Path) -> None:
    """When the broker is gone, each of two workers goes on with half of the rate, not with all and not with none."""

    async def main() -> list[tuple[int, float]]:
        async with cluster(tmp_path / "try", "100/s") as (_, links, end):
            await ask(links, 0.3)
            await end()
            await asyncio.sleep(0.1)
            return await ask(links, 2.0)

    starts = asyncio.run(main())
    for link in (0, 1):
        mine = [at for index, at in starts if index == link]
        assert most_in_any_second(mine) <= 50 * 1.02 + 1
        assert len(mine) >= 80


def test_a_worker_of_a_dead_try_stops_when_another_begins(tmp_path: Path) -> None:
    """Within a second of the next try's beginning a worker that lost its coordinator stops asking."""

    async def main() -> bool:
        async with cluster(tmp_path / "try", "100/s") as (_, links, end):
            await end()
            await asyncio.sleep(0.2)
            assert not links[0].stop.asked
            (tmp_path / "try").write_text("another")
            async with asyncio.timeout(7):
                await links[0].stop.wait()
            return links[0].abandoned

    assert asyncio.run(main())


def test_a_stop_reaches_every_worker(tmp_path: Path) -> None:
    """The coordinator's stop is heard at once, with its signal."""

    async def main() -> list[int | None]:
        async with cluster(tmp_path / "try", "100/s") as (broker, links, _end):
            broker.stop(15)
            async with asyncio.timeout(1):
                for link in links:
                    await link.stop.wait()
            return [link.stop.signal_number for link in links]

    assert asyncio.run(main()) == [15, 15]


def test_too_long_a_wait_ends_the_run(tmp_path: Path) -> None:
    """A `Retry-After` beyond 15 minutes that one worker meets is the coordinator's failure."""

    async def main() -> None:
        async with cluster(tmp_path / "try", "100/s") as (broker, links, _end):
            links[0].pace.throttled(1000.0, 0.01)
            async with asyncio.timeout(2):
                await broker.failure

    with pytest.raises(ApiUnavailableError, match="over 15"):
        asyncio.run(main())


def test_a_stranger_is_not_heard(tmp_path: Path) -> None:
    """Who does not know the try's name gets no word, and no secret."""

    async def main() -> None:
        async with cluster(tmp_path / "try", "100/s") as (broker, _, _end):
            stranger = Link(assignment(broker.address, 0, "guessed"), {}, tmp_path / "try")
            await stranger.connect()

    with pytest.raises(LinkLostError):
        asyncio.run(main())


def test_what_workers_log_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A warning that both workers give reaches the coordinator's log once, as a warning."""

    async def main() -> None:
        async with cluster(tmp_path / "try", "100/s") as (_, links, _end):
            for link in links:
                logging.getLogger("exporter").removeHandler(link)  # here they share the coordinator's process
            for link in links:
                record = logging.LogRecord("exporter", logging.WARNING, "", 0, "%d in a row", (20,), None)
                link.handle(record)
            await asyncio.sleep(0.6)

    with caplog.at_level(logging.INFO, "exporter"):
        asyncio.run(main())
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said == [("WARNING", "20 in a row")]

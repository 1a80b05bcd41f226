"""One refresh in this process, with less patience than the product has, so that tests wait for less."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from exporter.fetch.fetch_job import pace_of
from exporter.fetch.refresh import Refresh, Tally, refresh
from exporter.lists import Batch
from exporter.model.options import Options
from exporter.store.order_store import Freshness, Store
from exporter.store.plan import make_plan
from exporter.system.stopping import Stop
from tests.support.clients import TOKEN

PATIENCE_S = 0.6


class Work:
    """One run's store, for as many tries as a test wants."""

    def __init__(self, folder: Path, numbers: Iterable[str]) -> None:
        self.numbers = list(numbers)
        self._folder = folder
        batch = Batch(lines=range(1, len(self.numbers) + 1), order_numbers=self.numbers)
        make_plan(folder / "plan.db", [batch])

    async def refresh(
        self, url: str, patience_s: float = PATIENCE_S, most_rejects: int | None = None, **settings: Any
    ) -> dict[str | None, int]:
        """Make one try; return how many orders stand in each state."""
        defaults = {"concurrency": 32, "timeout_s": 0.3, "rate": "unlimited", "max_attempts": 6}
        defaults |= {"patience": f"{patience_s}s"}
        options = Options(orders="-", out="out", api_url=url, token=TOKEN, **{**defaults, **settings})
        store = Store(self._folder / "store.db", "http://127.0.0.1")
        try:
            store.attach_plan(self._folder / "plan.db")
            now = time.time()
            record = store.begin_run("out", now, 3600.0)
            freshness = Freshness(run_started_at=record.started_at, try_started_at=now)
            job = Refresh(options=options, store=store, freshness=freshness, record=record, stop=Stop())
            await refresh(job, Tally(pace_of(options)), most_rejects)
            return store.states(freshness)
        finally:
            store.close()


def numbers(count: int) -> list[str]:
    return [f"a{index}" for index in range(count)]

"""Tells a dead API from dead orders, so that nobody sends thousands of hopeless requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from exporter.client import Client
from exporter.errors import ApiUnavailableError, AttemptError, PermanentError, ThrottledError
from exporter.store import Store

log = logging.getLogger("exporter")

#: So many different orders in a row without one good answer mean that the API is not there ...
ORDERS_IN_A_ROW = 20
#: ... once that has lasted so long: a restart of the API behind its proxy is waited for.
PATIENCE_S = 20.0
_PROBE_S = 10.0


class OutageWatch:
    """Watches for a row of failures that no good answer interrupts.

    Before it calls an outage it asks once more for an order that the API has answered well before, so
    that a stretch of broken orders in the input never stops a run.

    Args:
        client: For that one question.
        store: Knows such an order; used on `thread` only.
        thread: The store's own thread.
        now: Seconds on a steady clock.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        thread: ThreadPoolExecutor,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._store = store
        self._thread = thread
        self._now = now
        self._orders: set[str] = set()
        self._since = 0.0
        self._last = "no answer"
        self._asking = asyncio.Lock()

    def answered(self) -> None:
        """Note an answer that only a living API gives."""
        if self._orders:
            self._orders.clear()

    async def failed(self, order_number: str, error: AttemptError, began: float) -> None:
        """Note a failed attempt.

        Args:
            order_number: The order that it asked for.
            error: How it failed.
            began: When it began, on the steady clock: a time-out has lasted already.

        Raises:
            ApiUnavailableError: It completes an outage.
        """
        if isinstance(error, PermanentError):
            self.answered()
            return
        if not self._orders:
            self._since = began
        self._orders.add(order_number)
        self._last = error.what
        if self._is_outage():
            await self._ask_a_good_one()

    def judge_the_end(self, settled: Counter[str]) -> None:
        """Raise where nobody answered any of the few orders that this try asked for.

        Raises:
            ApiUnavailableError: Every order ended as `unavailable`, and the last ones had no good answer.
        """
        if self._orders and settled["unavailable"] == settled.total():
            raise self._outage()

    def _is_outage(self) -> bool:
        return len(self._orders) >= ORDERS_IN_A_ROW and self._now() - self._since >= PATIENCE_S

    async def _ask_a_good_one(self) -> None:
        async with self._asking:
            if not self._is_outage():
                return
            loop = asyncio.get_running_loop()
            number = await loop.run_in_executor(self._thread, self._store.a_fetched_number)
            if number is None or not await self._answers(number):
                raise self._outage()
            log.warning("%d orders in a row failed (%s), yet the API answers.", len(self._orders), self._last)
            self._orders.clear()

    async def _answers(self, number: str) -> bool:
        try:
            async with asyncio.timeout(_PROBE_S):
                await self._client.fetch(number, attempt=2)
        except (PermanentError, ThrottledError):
            return True
        except (AttemptError, TimeoutError):
            return False
        return True

    def _outage(self) -> ApiUnavailableError:
        return ApiUnavailableError(
            f"The API is not available: {len(self._orders)} orders in a row had no good answer ({self._last}).",
            "Run the same command later: it goes on where it stopped.",
        )

"""Tells a dead API from dead orders, so that nobody sends thousands of hopeless requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from exporter.api.client import Client
from exporter.model.errors import ApiUnavailableError, AttemptError, PermanentError, ThrottledError

log = logging.getLogger("exporter")

#: So many different orders in a row without one good answer mean that the API is not there ...
ORDERS_IN_A_ROW = 20
#: ... once that has lasted so long: a restart of the API behind its proxy is waited for.
PATIENCE_S = 20.0
#: So many are enough at once: at a high rate with few attempts, patience alone would let thousands go.
MOST_ORDERS_IN_A_ROW = 200
_QUESTION_S = 10.0


class OutageWatch:
    """Watches for a row of failures that no good answer interrupts.

    Before it calls an outage it asks for one order that is likely good, so that a stretch of broken
    orders in the input never stops a run.

    Args:
        client: For that one question.
        a_good_number: Returns an order number that is likely good, or None.
        timeout_s: Seconds that an attempt is given.
        patience_s: Seconds that a row of failures must have lasted.
        now: Seconds on a steady clock.
    """

    def __init__(
        self,
        client: Client,
        a_good_number: Callable[[], Awaitable[str | None]],
        *,
        timeout_s: float,
        patience_s: float = PATIENCE_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._a_good_number = a_good_number
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._now = now
        self._orders: set[str] = set()
        self._since = 0.0
        self._last = "no answer"
        self._one_question = asyncio.Lock()

    def answered(self) -> None:
        """Note an answer that only a living API gives."""
        if self._orders:
            self._orders.clear()

    async def failed(self, order_number: str, error: AttemptError, began: float) -> None:
        """Note a failed attempt.

        Args:
            order_number: The order that it asked for.
            error: How it failed.
            began: When it began, on the steady clock, or earlier when it waited for its slot.

        Raises:
            ApiUnavailableError: It completes an outage.
        """
        if isinstance(error, PermanentError):
            self.answered()
            return
        if not self._orders:
            # A time-out has lasted already; a wait for the slot says nothing of the API.
            self._since = max(began, self._now() - self._timeout_s)
        self._orders.add(order_number)
        self._last = error.what
        if self._is_suspected():
            await self._judge(self._is_suspected)

    async def judge_the_end(self, settled: Counter[str]) -> None:
        """Raise where nobody answered any of the few orders that this try asked for.

        Args:
            settled: How many orders of this try ended in each state.

        Raises:
            ApiUnavailableError: Every one ended as `unavailable`, and the API does not answer now either.
        """
        if settled["unavailable"] == settled.total():
            await self._judge(lambda: bool(self._orders))

    def _is_suspected(self) -> bool:
        failed = len(self._orders)
        lasting = self._now() - self._since >= self._patience_s
        return failed >= MOST_ORDERS_IN_A_ROW or (failed >= ORDERS_IN_A_ROW and lasting)

    async def _judge(self, still: Callable[[], bool]) -> None:
        """Ask for a good order, one worker for all; the others wait meanwhile, and send nothing."""
        async with self._one_question:
            if not still():
                return
            number = await self._a_good_number()
            if number is None or not await self._answers(number):
                raise self._outage()
            log.warning("%d orders in a row failed (%s), yet the API answers.", len(self._orders), self._last)
            self._orders.clear()

    async def _answers(self, number: str) -> bool:
        try:
            await self._client.fetch(number, attempt=2, timeout_s=min(_QUESTION_S, self._timeout_s))
        except (PermanentError, ThrottledError):
            return True
        except AttemptError:
            return False
        return True

    def _outage(self) -> ApiUnavailableError:
        return ApiUnavailableError(
            f"The API is not available: {len(self._orders)} orders in a row had no good answer ({self._last}).",
            "Run the same command later.",
            resumes=True,
        )

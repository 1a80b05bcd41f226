"""Holds refusals until they are proven, and waits, with single questions, for an API that answers nobody."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from exporter.api.aiohttp_errors import CHECK_PROXY
from exporter.api.client import Client
from exporter.api.order_list import first_number
from exporter.model import errors
from exporter.model.options import Options
from exporter.model.proof_law import Proof, question_again_s
from exporter.model.units import duration_text, local_time, seconds
from exporter.system.log import log
from exporter.system.stopping import Stop

_QUESTION_S = 10.0
_LIST = "the order list"
FIRST_OF_LIST = ""  # in place of an order number: the order that the list names first
T = TypeVar("T")

_Check = tuple[str, str]  # a question without a good answer: what was asked for, and what came instead


class OutageWatch(Generic[T]):
    """Watches one try's answers by the law of `proof_law`.

    While there is doubt the client starts nothing but questions, so at most the orders in flight and those of
    the row are wasted. `known` returns order numbers to ask for, the surest to be good first; `record` takes
    each refusal that is proven, `again` each that turned out to mean nothing.
    """

    def __init__(
        self,
        client: Client,
        known: Callable[[], Awaitable[Sequence[str]]],
        record: Callable[[T], Awaitable[None]],
        again: Callable[[T], None],
        options: Options,
        stop: Stop,
    ) -> None:
        self._client, self._known, self._record, self._again = client, known, record, again
        self._stop, self._timeout_s = stop, options.timeout_s
        #: To be told of good answers.
        self.law: Proof[T] = Proof(options.concurrency, seconds(options.patience, option="patience"))
        self._last: errors.AttemptError | None = None
        self._one_question = asyncio.Lock()
        #: Since when nobody has had a good answer, in seconds since the epoch; None while nobody doubts.
        self.down_since: float | None = None

    async def failed(
        self, order_number: str, error: errors.AttemptError, began: float, refusal: T | None = None
    ) -> None:
        """Take in a failed attempt, which `began` then on the steady clock, or later where it waited for its slot.

        `refusal` is what to record once it is proven, where the order will not be requested again. It raises an
        `ApiUnavailableError` where it completes an outage, or waiting cannot help; a `TokenRefusedError` where nothing
        but 403 has come in this try.
        """
        if refusal is not None:
            self.law.hold(refusal, time.monotonic())
        if isinstance(error, errors.HopelessError) and not self.law.ever_good:
            raise errors.ApiUnavailableError(f"{_subject(error)}: {error.what}.", _hint(error), resumes=True)
        self._last = error
        # A time-out has lasted already; a wait for the slot says nothing of the API.
        since = max(began, time.monotonic() - self._timeout_s)
        self.law.bad(order_number, since, error.http_status)
        await self._judge(lambda: self.law.is_in_doubt)

    async def settle(self) -> None:
        """Prove or disprove what is left in doubt; errors as of `failed`."""
        await self._judge(lambda: self.law.is_open)

    async def _judge(self, needed: Callable[[], bool]) -> None:
        """Ask for a good order, one worker for all; the others wait meanwhile, and send nothing."""
        if not needed():
            return
        async with self._one_question:
            if needed() and not self._stop.asked:
                self._client.door.clear()
                await self._until_served()
                # Not when that raises: those who were held would ask before they end.
                self._client.door.set()
                self.down_since = None

    async def _until_served(self) -> None:
        law, failed, met = self.law, 0, len(self.law.orders)
        while not self._stop.asked:
            asked_at = time.monotonic()
            checks = await self._question(max(1.0, law.ends_at - asked_at))
            if checks is None:
                await self._served(asked_at, at_once=not failed, met=met)
                return
            if time.monotonic() >= law.ends_at:
                raise self._outage(checks)
            failed += 1
            if failed == 1:
                self._tell_down(checks)
            await self._stop.wait(min(question_again_s(failed), max(0.05, law.ends_at - time.monotonic())))

    async def _served(self, asked_at: float, *, at_once: bool, met: int) -> None:
        refusals = self.law.served(asked_at, at_once=at_once)
        if not at_once:
            log.warning("The API serves orders again.")
            for refusal in refusals:
                self._again(refusal)
            return
        if met > 1:
            assert self._last is not None
            log.warning("%d orders in a row failed (%s), yet the API answers.", met, self._last.what)
        for refusal in refusals:
            await self._record(refusal)

    async def _question(self, within_s: float) -> list[_Check] | None:
        """Ask for a known good order; return None where it is served, else what came instead."""
        checks: list[_Check] = []
        try:
            async with asyncio.timeout(within_s):
                for number in await self._known():
                    if (check := await self._ask(number)) is None:
                        return None
                    checks.append(check)
        except TimeoutError:
            checks.append(("a known good order", "no answer in time"))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._stop.asked or (task is not None and task.cancelling()):
                raise
            # The client starts nothing any more.
            checks.append(("a known good order", "the run is stopping"))
        return checks

    async def _ask(self, number: str) -> _Check | None:
        """Ask for an order, or where it is empty for the one that the order list names first."""
        try:
            if number == FIRST_OF_LIST:
                number = await first_number(self._client)
            timeout_s = min(_QUESTION_S, self._timeout_s)
            await self._client.fetch(number, attempt=2, timeout_s=timeout_s, is_question=True)
        except errors.ThrottledError:
            self.law.since = time.monotonic()  # it lives, and says how long to wait: that is no outage
            came = "the API is throttling"
        except errors.AttemptError as error:
            came = error.detail
        else:
            return None
        return f"order {number}" if number else _LIST, came

    def _tell_down(self, checks: list[_Check]) -> None:
        now = time.monotonic()
        self.down_since = time.time() - (now - self.law.since)
        log.warning(
            "No order succeeded since %s (%s). Retrying one known order for up to %s.",
            f"{local_time(self.down_since):%H:%M:%S}",
            "; ".join(map(": ".join, checks)),
            duration_text(max(0.0, self.law.ends_at - now)),
        )

    def _outage(self, checks: list[_Check]) -> errors.ExporterError:
        assert self._last is not None
        cause = self._last.detail  # said once, where the checks failed in the same way
        others = "; ".join(asked if came == cause else f"{asked}: {came}" for asked, came in checks)
        row = f"{len(self.law.orders)} orders in a row failed ({cause})"
        what = f"{_subject(self._last)}: {row}, and so did the checks ({others})."
        forbidden = self.law.all_forbidden and not self.law.ever_good
        kind = errors.TokenRefusedError if forbidden else errors.ApiUnavailableError
        return kind(what, _hint(self._last), resumes=True)


def _subject(error: errors.AttemptError) -> str:
    return "The API cannot be reached through the proxy" if error.by_proxy else "The API is not available"


def _hint(error: errors.AttemptError) -> str:
    """Say what to check, for what came back."""
    if error.by_proxy:
        return CHECK_PROXY
    if isinstance(error, errors.HopelessError):
        check = "Check --api-url and the name server"
    elif error.http_status == 403:
        check = "Check the token's rights, and whether a firewall or a login page is in front of the API"
    elif error.page:
        check = "Check --api-url, and whether the API is under maintenance"
    elif isinstance(error, errors.PermanentError):
        check = "Check --api-url, and whether the list is of this API's orders"
    else:
        return "Run the same command later."
    return f"{check}, then run the same command again."

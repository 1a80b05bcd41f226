"""The API's order list, page by page to its proven end.

The API names no order of its list, so orders may move between pages while they are read. An end is believed
only where a page says that it is the last, and as many orders were met as the API counts: a refusal, an empty
page, or too few orders are asked about again. So is a list that has become shorter: what is gone may have been
met, and counts for one that has slipped onto a page that was read.
"""

import asyncio
import math
import random
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from exporter.api.aiohttp_errors import CHECK_PROXY
from exporter.api.client import ORDERS_PATH, Client
from exporter.api.list_page import Page, decoded, text_of
from exporter.lists.batch import complaint
from exporter.model import errors
from exporter.model.options import Options
from exporter.model.rate import backoff_s
from exporter.system.log import log

T = TypeVar("T")

# Orders that arrive meanwhile push known ones onto the next page; only an API that pages wrongly brings
# nothing but known ones again and again.
_MOST_PAGES_WITHOUT_NEWS = 5
_DISAGREE = "Two walks through the API's list disagree: they met %s orders, the first one alone %s. It changes while it is read."
#: Pages asked for at one time: at 100 orders each, eight a second are more than any pace uses.
_SIDE_BY_SIDE = 8


class OrderList:
    """One walk through the pages, whose queries all begin with `query`, encoded; it may be empty.

    `count` is the API's last count of orders, and `changes` by how many it has changed during the walk, in all;
    by `gone` it went down. Pages up to `asked` have been asked for.
    """

    def __init__(self, client: Client, options: Options, query: str) -> None:
        self._client = client
        self._max_attempts = options.max_attempts
        self._url = options.api_url + ORDERS_PATH
        self._query = query
        self._ahead: deque[asyncio.Task[Page]] = deque()
        self.changes = self.gone = 0
        self.count = self.asked = 0

    async def pages(self, first: int) -> AsyncGenerator[tuple[int, Page], None]:
        """Yield every page from `first` on, with its number; several are asked for at one time.

        Raises:
            UsageError: The API refuses the query.
            TokenRefusedError: The API refuses the token, or lets it see no list.
            ApiUnavailableError: A page that was promised does not come.
        """
        number, most = first, 0
        self.asked = first - 1
        try:
            while True:
                while self.asked < min(max(number, most), number + _SIDE_BY_SIDE - 1):
                    self.asked += 1
                    self._ahead.append(asyncio.ensure_future(self.page(self.asked)))
                page = await self._promised(number)
                if number > first:
                    self.changes += abs(page.count - self.count)
                    self.gone += max(0, self.count - page.count)
                self.count = page.count
                most = most or page.last
                yield number, page
                if page.next is None:
                    return
                number += 1
        finally:
            for task in self._ahead:
                task.cancel()
            await asyncio.gather(*self._ahead, return_exceptions=True)

    async def _promised(self, number: int) -> Page:
        """Return a page that the one before has promised; where it is not there, that one is asked again."""
        attempt = 1
        asked = self._ahead.popleft()
        while True:
            try:
                page = await asked
                if page.results or number == 1 or (page.next is None and not page.count):
                    return page
                missing = errors.BadResponseError("it is empty, and the page before promised more", 200)
            except errors.PermanentError as error:
                if number == 1:
                    raise self._given_up(error, number) from None
                missing = errors.BadResponseError(error.detail, error.http_status)
            if number > 1 and (before := await self.page(number - 1)).next is None:
                return before  # the list has become shorter meanwhile, and ends there
            if attempt >= self._max_attempts:
                raise self._given_up(missing, number)
            await _back_off(attempt)
            attempt += 1
            asked = asyncio.ensure_future(self.page(number))

    async def page(self, number: int) -> Page:
        """Ask for a page until it comes; a `PermanentError` is left to who knows what it means."""
        query = f"{self._query}&page={number}" if self._query else f"page={number}"

        async def ask(attempt: int) -> Page:
            return decoded(await self._client.page(query, attempt))

        try:
            return await patiently(ask, self._max_attempts)
        except errors.PermanentError:
            raise
        except errors.AttemptError as error:
            raise self._given_up(error, number) from None

    def _given_up(self, error: errors.AttemptError, page: int) -> errors.ExporterError:
        what = f"{self._url}: page {page}: {error.detail.rstrip('.')}."
        if page == 1 and error.http_status == 403:
            return errors.TokenRefusedError(what)
        if page == 1 and isinstance(error, errors.PermanentError) and error.reason == "client_error":
            return errors.UsageError(what, "Check --filter and --page-size.")
        return errors.ApiUnavailableError(what, CHECK_PROXY if error.by_proxy else "")


async def _back_off(attempt: int) -> None:
    await asyncio.sleep(backoff_s(attempt, random.random()))  # noqa: S311 - jitter, no secret


async def patiently(
    ask: Callable[[int], Awaitable[T]], max_attempts: int, most_throttles: float = math.inf
) -> T:
    """Return what `ask` brings, given which attempt it is, or raise the `AttemptError` that no other attempt mends."""
    attempt = 1
    while True:
        try:
            return await ask(attempt)
        except errors.ThrottledError:  # the pace makes everybody wait
            most_throttles -= 1
            if most_throttles < 0:
                raise
            continue
        except errors.PermanentError:
            raise
        except errors.AttemptError:
            if attempt >= max_attempts:
                raise
        await _back_off(attempt)
        attempt += 1


async def walk_to_the_end(
    client: Client,
    options: Options,
    query: str,
    *,
    last_read: int,
    take: Callable[[int, Page], Awaitable[tuple[bool, int]]],
) -> None:
    """Read the list once, on from the page `last_read`, 0 for none; a second time where fewer orders were met than counted.

    `take` takes a page that was read; it returns whether it brought news, and how many orders were met so far. Errors
    are those of `OrderList.pages`; also where more orders are missing than have come or gone meanwhile, or nothing but
    known ones comes, page after page.
    """
    url = options.api_url + ORDERS_PATH
    met = gone = 0
    for begin in (max(1, last_read), 1):
        walk, before, without_news = OrderList(client, options, query), met, 0
        async with aclosing(walk.pages(begin)) as pages:
            async for number, page in pages:
                news, met = await take(number, page)
                without_news = 0 if news else without_news + 1
                if without_news and met >= page.count + gone + walk.gone:
                    break  # all that the API counts is there, though it promises more of the same
                # Most of what a second walk meets is known, and so is what a killed one had read.
                is_new = not (last_read or before)
                if without_news > _MOST_PAGES_WITHOUT_NEWS and (is_new or number > page.last):
                    what = f"{url}: {without_news} pages in a row bring no new order, yet more are promised."
                    raise errors.ApiUnavailableError(what)
        if before and met > before:
            log.warning(_DISAGREE, f"{met:,}", f"{before:,}")
        gone += walk.gone
        if met >= walk.count + gone:
            return
    if walk.count - met > walk.changes:
        what = f"{url}: the API counts {walk.count:,} orders, {met:,} were listed, in two walks through all pages."
        raise errors.ApiUnavailableError(what)


async def first_number(client: Client) -> str:
    """Return the number of the order that the list names first, or raise an `AttemptError` where there is none."""
    for entry in decoded(await client.page("limit=1", 2, is_question=True)).results:
        if complaint(number := text_of(entry.number)) is None:
            return number
    raise errors.BadResponseError("it is empty", 200)

"""The API's order list, page by page to its proven end.

The API names no order of its list, so orders may move between pages while they are read. An end is believed
only where a page says that it is the last, and as many orders were met as the API counts: a refusal, an empty
page, or too few orders are asked about again.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec

from exporter.api.client import ORDERS_PATH, Client
from exporter.lists.batch import complaint
from exporter.model.errors import (
    ApiUnavailableError,
    AttemptError,
    BadResponseError,
    ExporterError,
    PermanentError,
    ThrottledError,
    TokenRefusedError,
    UsageError,
)
from exporter.model.options import Options
from exporter.model.rate import backoff_s

# Orders that arrive meanwhile push known ones onto the next page; only an API that pages wrongly brings
# nothing but known ones again and again.
_MOST_PAGES_WITHOUT_NEWS = 5
#: Pages asked for at one time: at 100 orders each, eight a second are more than any pace uses.
_SIDE_BY_SIDE = 8


class Entry(msgspec.Struct):
    """One order of the list, as far as it is needed to tell it from others and to choose by."""

    id: Any = None
    number: Any = None
    status: Any = None
    date_placed: Any = None


class Page(msgspec.Struct):
    """The envelope, as documented."""

    count: int
    next: str | None
    results: list[Entry]


@dataclass(frozen=True, kw_only=True)
class ReadPage:
    """A page that was read, in the order of the list.

    Attributes:
        number: Its place, from 1.
        count: Orders that the API counted then.
        entries: Its orders.
    """

    number: int
    count: int
    entries: Sequence[Entry]


class OrderList:
    """One walk through the pages.

    Args:
        client: The API; its pace holds for every page.
        options: The API's address and the attempts for a page.
        query: What every page's query begins with, encoded; may be empty.

    Attributes:
        changes: By how many orders the API's count has changed during the walk, in all.
        count: The API's last count.
    """

    def __init__(self, client: Client, options: Options, query: str) -> None:
        self._client = client
        self._max_attempts = options.max_attempts
        self._url = options.api_url + ORDERS_PATH
        self._query = query
        self._ahead: deque[asyncio.Task[Page]] = deque()
        self._first_size = 0
        self._has_answered = False
        self.changes = 0
        self.count = 0

    async def pages(self, first: int = 1) -> AsyncGenerator[ReadPage, None]:
        """Yield every page from `first` on; several are asked for at one time.

        Raises:
            UsageError: The API refuses the query.
            TokenRefusedError: The API refuses the token, or lets it see no list.
            ApiUnavailableError: A page that was promised does not come.
        """
        number, asked, most = first, first - 1, 0
        try:
            while True:
                while asked < min(max(number, most), number + _SIDE_BY_SIDE - 1):
                    asked += 1
                    self._ahead.append(asyncio.ensure_future(self.page(asked)))
                page = await self._promised(number)
                if number > first:
                    self.changes += abs(page.count - self.count)
                self.count = page.count
                most = most or -(-page.count // max(1, len(page.results)))
                yield ReadPage(number=number, count=page.count, entries=page.results)
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
                missing = BadResponseError("it is empty, and the page before promised more", 200)
            except PermanentError as error:
                if number == 1:
                    raise self._given_up(error, number) from None
                missing = BadResponseError(error.detail, error.http_status)
            if number > 1 and (before := await self.page(number - 1)).next is None:
                return before  # the list has become shorter meanwhile, and ends there
            if attempt >= self._max_attempts:
                raise self._given_up(missing, number)
            await asyncio.sleep(backoff_s(attempt, random.random()))  # noqa: S311 - jitter, no secret
            attempt += 1
            asked = asyncio.ensure_future(self.page(number))

    async def page(self, number: int) -> Page:
        """Ask for a page until it comes; a `PermanentError` is left to who knows what it means."""
        attempt = 1
        while True:
            try:
                return decoded(await self._client.page(self._query_of(number), attempt))
            except ThrottledError:
                continue  # the pace makes everybody wait
            except PermanentError:
                raise
            except AttemptError as error:
                if attempt >= self._max_attempts:
                    raise self._given_up(error, number) from None
            await asyncio.sleep(backoff_s(attempt, random.random()))  # noqa: S311 - jitter, no secret
            attempt += 1

    def _query_of(self, page: int) -> str:
        return f"{self._query}&page={page}" if self._query else f"page={page}"

    def _given_up(self, error: AttemptError, page: int) -> ExporterError:
        what = f"{self._url}: page {page}: {error.detail.rstrip('.')}."
        if page == 1 and error.http_status == 403:
            return TokenRefusedError(what)
        if page == 1 and isinstance(error, PermanentError) and error.reason == "client_error":
            return UsageError(what, "Check --filter and --page-size.")
        return ApiUnavailableError(what)


class Completeness:
    """Tells whether a walk has met every order that the API counts, however they moved meanwhile."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._without_news = 0

    def is_over(self, page: ReadPage, *, news: bool, met: int) -> bool:
        """Return whether all that the API counts is there, though it promises more of the same.

        Args:
            page: The last one that was read.
            news: Whether it has brought an order that was not met before.
            met: Orders met so far.

        Raises:
            ApiUnavailableError: Nothing but known orders comes, page after page.
        """
        self._without_news = 0 if news else self._without_news + 1
        if self._without_news and met >= page.count:
            return True
        if self._without_news > _MOST_PAGES_WITHOUT_NEWS:
            raise ApiUnavailableError(
                f"{self._url}: {self._without_news} pages in a row bring no new order, yet more are promised."
            )
        return False

    def check(self, walk: OrderList, met: int) -> None:
        """Raise where more orders are missing than have come or gone during the walk.

        Raises:
            ApiUnavailableError: So it is.
        """
        if walk.count - met > walk.changes:
            raise ApiUnavailableError(
                f"{self._url}: the API counts {walk.count:,} orders, {met:,} were listed, in two walks through all pages."
            )


async def walk_to_the_end(
    client: Client, options: Options, query: str, *, first: int, take: Callable[[ReadPage], tuple[bool, int]]
) -> None:
    """Read the list once; a second time where fewer orders were met than counted.

    Args:
        client: The API.
        options: See `OrderList`.
        query: See `OrderList`.
        first: The page to begin with, the first time.
        take: Takes a page that was read; returns whether it brought news, and how many orders were met so far.

    Raises:
        ExporterError: See `OrderList.pages` and `Completeness`.
    """
    for begin in (first, 1):
        walk, whole = OrderList(client, options, query), Completeness(options.api_url + ORDERS_PATH)
        met = 0
        async with aclosing(walk.pages(begin)) as pages:
            async for page in pages:
                news, met = take(page)
                if whole.is_over(page, news=news, met=met):
                    break
        if met >= walk.count:
            return
    whole.check(walk, met)


async def first_number(client: Client) -> str:
    """Return the number of the order that the list names first: one that the API is known to have.

    Raises:
        AttemptError: There is none, or no list.
    """
    for entry in decoded(await client.page("limit=1", 2, is_question=True)).results:
        if complaint(number := text_of(entry.number)) is None:
            return number
    raise BadResponseError("it is empty", 200)


def decoded(body: bytes) -> Page:
    """Return a page.

    Raises:
        BadResponseError: It is something else.
    """
    try:
        return msgspec.json.decode(body, type=Page)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadResponseError("the API answered with something else than a page of orders", 200) from None


def text_of(number: object) -> str:
    """Return an order's number as text: it is documented as a number and is text in fact."""
    if isinstance(number, str):
        return number.strip()
    return str(number) if isinstance(number, int) and not isinstance(number, bool) else ""

"""Order numbers listed from the API, page by page, into a file that `run` takes.

The API names no order of its list, so orders may move between pages while they are read: one that is met
again is written once, and where fewer were met than the API counts at the end, the log says so.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from exporter.api.client import ORDERS_PATH, Client, open_client
from exporter.api.pace import Pace
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
from exporter.model.rate import Rate
from exporter.model.retry import backoff_s, worth_another
from exporter.model.run_statistics import Statistics
from exporter.system import durable
from exporter.system.stopping import Stop

log = logging.getLogger("exporter")

_AGAIN = "Run the same command again."
_TELL_EVERY_S = 60.0
# Orders that arrive meanwhile push known ones onto the next page; only an API that pages wrongly brings
# nothing but known ones again and again.
_MOST_PAGES_WITHOUT_NEWS = 5
_OURS = {"limit": "--page-size", "page": None}
# `run` would read a file of such a name as another format than the text that is written here.
_OTHER_FORMATS = {".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".xlsx", ".gz"}


class _Entry(msgspec.Struct):
    number: Any = None


class _Page(msgspec.Struct):
    """The envelope, as documented."""

    count: int
    next: str | None
    results: list[_Entry]


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What one listing brought.

    Attributes:
        numbers: Order numbers written.
        pages: Pages read.
        left_out: Entries whose number `run` could not ask for.
    """

    numbers: int
    pages: int
    left_out: int


async def list_numbers(
    options: Options, *, filters: Sequence[tuple[str, str]] = (), page_size: int | None = None, stop: Stop
) -> Listed:
    """Write the numbers of all orders that fit the filters to the file `options.out`, one on each line.

    Args:
        options: The API, the credentials, the pace and the patience; `out` is the file, and `overwrite`
            permits to replace it. The rest is not used.
        filters: Keys and values for the API's query, passed on as they are.
        page_size: Orders on a page; the API's own choice where None.
        stop: The end may be asked for; nothing is written then.

    Raises:
        UsageError: The file is there already or cannot be, or the API refuses the filters.
        TokenRefusedError: The API refuses the token, or lets it see no list.
        ApiUnavailableError: The API does not answer, or not with pages of orders.
        InterruptedRunError: The end was asked for.
        StorageError: The file cannot be written.
    """
    file = Path(options.out)
    _check(file, overwrite=options.overwrite)
    query = _query(filters, page_size)
    pace = Pace(Rate.parse(options.rate), max_rate=Rate.parse(options.max_rate))
    async with open_client(options, pace, Statistics(time.monotonic)) as client:
        listing = _Listing(client, options, query)
        try:
            await _unless_stopped(listing.read(), stop)
        except (TokenRefusedError, ApiUnavailableError) as error:
            # Theirs speaks of a run, and here nothing is kept to go on with.
            raise type(error)(error.problem, error.advice or _AGAIN, option=error.option) from None
    with durable.storage_errors("writing the order numbers", file):
        durable.write_lines(file, (f"{number}\n".encode() for number in listing.numbers), mode=None)
    return Listed(numbers=len(listing.numbers), pages=listing.pages, left_out=listing.left_out)


def _check(file: Path, *, overwrite: bool) -> None:
    if file.suffix.lower() in _OTHER_FORMATS:
        raise UsageError(
            f"expected the name of a text file, got one that ends in {file.suffix}.",
            "Give a name that ends in .txt.",
            option="out",
            value=file,
        )
    if str(file) == "-":
        raise UsageError(
            "expected a file: it appears whole or not at all.", "Name a file.", option="out", value="-"
        )
    if file.is_dir() or not file.parent.is_dir():
        raise UsageError(
            "expected a file in a directory that is there.", "Name such a file.", option="out", value=file
        )
    if file.exists() and not overwrite:
        raise UsageError(
            "it is there already.", "Give another --out, or --overwrite.", option="out", value=file
        )


def _query(filters: Sequence[tuple[str, str]], page_size: int | None) -> str:
    for key, _ in filters:
        if key in _OURS:
            raise UsageError(
                "the pages are counted here.",
                f"Give {_OURS[key] or 'other filters'}.",
                option="filters",
                value=key,
            )
    size = [] if page_size is None else [("limit", str(page_size))]
    return urlencode([*filters, *size], quote_via=quote)


async def _unless_stopped(reading: Any, stop: Stop) -> None:
    task, stopped = asyncio.ensure_future(reading), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    if task.cancelled():
        raise stop.error("Stopped by a signal; nothing was written.", _AGAIN)
    task.result()


class _Listing:
    """One walk through the pages."""

    def __init__(self, client: Client, options: Options, query: str) -> None:
        self._client = client
        self._max_attempts = options.max_attempts
        self._url = options.api_url + ORDERS_PATH
        self._query = query
        self._seen: dict[str, None] = {}
        self._told_at = time.monotonic()
        self.pages = 0
        self._left_out: set[str] = set()

    @property
    def numbers(self) -> list[str]:
        """What `run` can ask for, each once, in the order of the list."""
        return list(self._seen)

    @property
    def left_out(self) -> int:
        """How many entries `run` could not ask for."""
        return len(self._left_out)

    async def read(self) -> None:
        """Read page after page until the list ends."""
        without_news = count = 0
        while (page := await self._ask(self.pages + 1)) is not None:
            self.pages += 1
            count = page.count
            news = self._take(page.results)
            self._tell(count)
            if page.next is None or not page.results or (not news and self._met >= count):
                break
            without_news = 0 if news else without_news + 1
            if without_news > _MOST_PAGES_WITHOUT_NEWS:
                raise ApiUnavailableError(
                    f"{self._url}: {without_news} pages in a row bring no new order, yet more are promised."
                )
        self._compare(count)

    @property
    def _met(self) -> int:
        return len(self._seen) + len(self._left_out)

    def _take(self, entries: Sequence[_Entry]) -> bool:
        before = self._met
        for entry in entries:
            number = _text(entry.number)
            wrong = complaint(number)
            if wrong is None:
                self._seen[number] = None
            elif (shown := repr(entry.number)) not in self._left_out:
                self._left_out.add(shown)
                log.warning("Page %d: an order is left out. %s", self.pages, wrong)
        return self._met > before

    def _tell(self, count: int) -> None:
        if time.monotonic() - self._told_at >= _TELL_EVERY_S:
            self._told_at = time.monotonic()
            log.info("%s of %s order numbers listed.", f"{len(self._seen):,}", f"{count:,}")

    def _compare(self, count: int) -> None:
        if self._met < count:
            log.warning(
                "The API counts %d orders, %d were listed: orders have changed meanwhile, and some may be missing."
                " List them again to be sure.",
                count,
                self._met,
            )

    async def _ask(self, page: int) -> _Page | None:
        """Ask for a page until it comes; None where the list has become shorter meanwhile."""
        attempt = 1
        while True:
            try:
                return _decoded(await self._client.page(self._query_of(page), attempt))
            except ThrottledError:
                continue  # the pace makes everybody wait
            except AttemptError as error:
                if error.http_status == 404 and page > 1:
                    return None
                if not worth_another(error, attempt, self._max_attempts):
                    raise self._given_up(error, page) from None
            await asyncio.sleep(backoff_s(attempt, random.random()))  # noqa: S311 - jitter, no secret
            attempt += 1

    def _query_of(self, page: int) -> str:
        return f"{self._query}&page={page}" if self._query else f"page={page}"

    def _given_up(self, error: AttemptError, page: int) -> ExporterError:
        what = f"{self._url}: page {page}: {error.what.rstrip('.')}."
        if error.http_status == 403:
            return TokenRefusedError(what)
        if isinstance(error, PermanentError) and error.reason == "client_error":
            return UsageError(what, "Check --filter and --page-size.")
        return ApiUnavailableError(what)


def _decoded(body: bytes) -> _Page:
    try:
        return msgspec.json.decode(body, type=_Page)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadResponseError("the API answered with something else than a page of orders", 200) from None


def _text(number: object) -> str:
    """Return an order's number as text: it is documented as a number and is text in fact."""
    if isinstance(number, str):
        return number.strip()
    return str(number) if isinstance(number, int) and not isinstance(number, bool) else ""

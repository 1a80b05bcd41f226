"""The API's own list read, resumably, and the order numbers of it written into a file that `run` takes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from exporter.api.client import Client, open_client
from exporter.api.list_page import Page, text_of
from exporter.api.order_list import OrderList, walk_to_the_end
from exporter.fetch.entry_comparison import EntryLook
from exporter.fetch.fetch_job import pace_of, tick
from exporter.fetch.work_directory import WorkDirectory, work_directory
from exporter.lists.batch import complaint
from exporter.model.entry_choice import EntryChoice
from exporter.model.errors import ApiUnavailableError, PermanentError, TokenRefusedError, UsageError
from exporter.model.options import Options
from exporter.model.progress import Progress, ProgressCallback
from exporter.model.records import Traffic
from exporter.model.run_statistics import Statistics
from exporter.store.listed_numbers import ListedNumbers, LookedAt, Met, Walk
from exporter.system import durable
from exporter.system.log import log
from exporter.system.stopping import Stop, beside_the_loop, task_group, unless_stopped

_AGAIN = "Run the same command again."
_DROPPED = "An unfinished listing of another kind, or older than --resume-within, starts over: %s of its orders are dropped."
_RESUMING = "Resuming at page %d: %s orders were listed before."
_IDLE = "--filter %s changes nothing: the API counts %s orders without it too. It ignores a key that it does not know."
_UNMET = "%s orders of the store are on no page of the API's list: each is fetched."
# `run` would read a file of such a name as another format than the text that is written here.
_OTHER_FORMATS = {".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".xlsx", ".gz"}
#: What takes a page that was read; see `walk_to_the_end`.
Take = Callable[[int, Page], Awaitable[tuple[bool, int]]]


class Wanted(Protocol):
    """What a list is read for, where that is not all that its options choose of it."""

    def of_page(self, chosen: list[Met]) -> list[Met]:
        """Return the entries of a page; those that are not wanted have no number."""

    async def read(self, walk: OrderList, first: int, met: ListedNumbers, take: Take) -> None:
        """Read pages from the `first` on, and have `take` take them, as far as they are worth it."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A listing to be made: `options` say of which API, how fast, and what is wanted; stopped, its pages are kept."""

    options: Options
    page_size: int = 100
    on_progress: ProgressCallback
    stop: Stop

    @property
    def source(self) -> str:
        """What tells it from others: the API, its query, what is wanted of the list, and what for."""
        what_for = f" {self.options.details} {self.options.from_api}" if self.options.looks_at_list else ""
        return f"{self.options.api_url} {self._query()} {self.options.choice}{what_for}"

    @property
    def about(self) -> dict[str, Any]:
        """What people are told of what is listed and wanted."""
        options = self.options
        about = {
            "format": "api",
            "query": self._query(),
            "status": ",".join(options.status),
            "placed_from": options.placed_from,
            "placed_to": options.placed_to,
        }
        return {name: word for name, word in about.items() if word}

    async def write(
        self, file: Path, work: WorkDirectory, *, spell: Callable[[str], str] = str, answered_at: float = 0.0
    ) -> tuple[int, Walk]:
        """Write the numbers of all orders that are wanted to a file, one on each line, whole or not at all.

        Return how many were written, and how the list was read. It resumes from `work`; see `ListedNumbers`
        for `answered_at`.

        Raises:
            UsageError: The API refuses the filters, or does not show what is to be chosen by.
            TokenRefusedError: The API refuses the token, or lets it see no list.
            ApiUnavailableError: The API does not answer, or not with all the pages of orders that it promises.
        """
        with self.opened(work, answered_at) as met:
            await self.read_on(met)
            write = partial(_write, file, map(spell, met.numbers()))
            numbers = await beside_the_loop(write, self.stop, "writing the order numbers", met.interrupt)
            return numbers, met.walk

    async def first_page(self) -> tuple[Page, list[Met]]:
        """Ask for the first page alone; return it, and its entries as they are chosen. Errors are those of `write`."""
        async with open_client(self.options, pace_of(self.options), Statistics(time.monotonic)) as client:
            pages = OrderList(client, self.options, self._query()).pages(1)
            async with aclosing(pages):
                _, page = await anext(pages)
        return page, list(_chosen(1, page, self.options.choice))

    def opened(self, work: WorkDirectory, answered_at: float) -> closing[ListedNumbers]:
        """Open what has been listed so far; see `ListedNumbers` for `answered_at`."""
        return closing(ListedNumbers(work.listing, self.source, self.options.resume_within_s, answered_at))

    async def read_on(self, met: ListedNumbers, wanted: Wanted | None = None) -> None:
        """Read the list to its end, or as far as `wanted` goes; errors are those of `write`."""
        if met.dropped:
            log.warning(_DROPPED, f"{met.dropped:,}")
        if met.walk.complete:
            return
        if met.walk.pages:
            log.info(_RESUMING, met.walk.page, f"{met.walk.orders:,}")
        what = "Stopped by a signal; the pages read are kept."
        try:
            reading = asyncio.create_task(self._read(met, wanted))
            await unless_stopped(reading, self.stop, what, "The same command resumes.")
        except (TokenRefusedError, ApiUnavailableError) as error:
            raise type(error)(error.problem, error.advice or _AGAIN, option=error.option) from None

    async def _read(self, met: ListedNumbers, wanted: Wanted | None) -> None:
        options = self.options
        pace = pace_of(options)
        before, counted, began = met.walk.traffic, 0, time.monotonic()

        async def take(number: int, page: Page) -> tuple[bool, int]:
            nonlocal counted
            counted = page.count
            for key, orders in without.items():
                if 0 < orders <= counted:  # fewer where some have come meanwhile
                    log.warning(_IDLE, key, f"{orders:,}")
            without.clear()
            entries = list(_chosen(number, page, options.choice))
            entries = wanted.of_page(entries) if wanted else entries
            found = await look.page(entries, page.body) if options.looks_at_list else LookedAt(entries)
            return met.take(number, found, before + client.traffic) > 0, met.walk.orders

        def progress() -> Progress:
            state, traffic = pace.snapshot(), client.traffic
            return Progress(
                phase="listing",
                total=max(counted, met.walk.orders),
                done=met.walk.orders,
                retried=traffic.retried,
                throttled=traffic.throttled,
                elapsed_s=time.monotonic() - began,
                rate_per_s=0.0,
                paused_s=state.paused_s,
                why=state.why,
            )

        async with open_client(options, pace, Statistics(time.monotonic)) as client, task_group() as group:
            ticking = group.create_task(tick(self.on_progress, progress))
            without = {} if met.walk.pages else await self._counts_without(client)
            look, query = EntryLook(client, options, met), self._query()
            if wanted is None:
                await walk_to_the_end(client, options, query, last_read=met.walk.page, take=take)
            else:
                await wanted.read(OrderList(client, options, query), max(1, met.walk.page), met, take)
            self._finish(met, before + client.traffic)
            ticking.cancel()

    def _finish(self, met: ListedNumbers, traffic: Traffic) -> None:
        """Note the list's end; an order of the kept store that is on no page may have slipped from one to another."""
        options, kept = self.options, None
        is_all = options.from_api and not (options.filters or options.status or options.choice.moments)
        if options.looks_at_list and is_all and options.store is not None:
            kept = Path(options.store)
        if unmet := met.finish(traffic, kept):
            log.warning(_UNMET, f"{unmet:,}")

    async def _counts_without(self, client: Client) -> dict[str, int]:
        """Return how many orders the API counts without each key of the filters; keys that it insists on are left out."""
        counts = {}
        for key in dict.fromkeys(text.partition("=")[0] for text in self.options.filters):
            with suppress(PermanentError):
                counts[key] = (await OrderList(client, self.options, self._query(key)).page(1)).count
        return counts

    def _query(self, without: str | None = None) -> str:
        """Return what the query of each page begins with; or of a count, without the filters of one key."""
        pairs = [text.partition("=")[::2] for text in self.options.filters]
        chosen = [pair for pair in pairs if pair[0] != without]
        return urlencode([*chosen, ("limit", str(1 if without else self.page_size))], quote_via=quote)


async def list_numbers(listing: Listing) -> tuple[int, Walk]:
    """Write the numbers to the file `options.out`, which `overwrite` permits to replace; see `Listing.write`."""
    file = Path(listing.options.out)
    _check(file, overwrite=listing.options.overwrite)
    with work_directory(listing.options.out) as work:
        written = await listing.write(file, work)
        work.remove()
    return written


def _chosen(page_number: int, page: Page, choice: EntryChoice) -> Iterator[Met]:
    for entry in page.results:
        number = text_of(entry.number)
        wrong = complaint(number)
        if wrong is not None:
            log.warning("Page %d: an order is left out. %s", page_number, wrong)
        name = f"page {page_number}: order {number!r}"
        wanted = wrong is None and choice.wants(entry.status, entry.date_placed, name)
        # A number is unique within its sales channel only.
        yield Met(f"{entry.id!r} {entry.number!r}", number if wanted else None)


def _write(file: Path, numbers: Iterator[str]) -> int:
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for count, number in enumerate(numbers, 1):  # noqa: B007 - told in the end
            yield f"{number}\n".encode()

    with durable.storage_errors("writing the order numbers", file):
        durable.write_lines(file, lines(), mode=None)
    return count


def _check(file: Path, *, overwrite: bool) -> None:
    other_format = f"expected the name of a text file, got one that ends in {file.suffix}."
    no_place = file.is_dir() or not file.parent.is_dir()
    for is_wrong, what, hint in (
        (file.suffix.lower() in _OTHER_FORMATS, other_format, "Give a name that ends in .txt."),
        (str(file) == "-", "expected a file: it appears complete or not at all.", "Name a file."),
        (no_place, "expected a file in a directory that is there.", "Create it, or give another --out."),
        (file.exists() and not overwrite, "it is there already.", "Give another --out, or --overwrite."),
    ):
        if is_wrong:
            raise UsageError(what, hint, option="out", value=file)

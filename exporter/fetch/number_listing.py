"""Order numbers listed from the API into a file that `run` takes: resumable, whole or not at all."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from exporter.api.client import open_client
from exporter.api.order_list import ReadPage, text_of, walk_to_the_end
from exporter.api.pace import Pace
from exporter.fetch.work_directory import work_directory
from exporter.lists.batch import complaint
from exporter.model.errors import ApiUnavailableError, TokenRefusedError, UsageError
from exporter.model.options import Options
from exporter.model.rate import Rate
from exporter.model.run_statistics import Statistics
from exporter.store.listed_numbers import ListedNumbers
from exporter.system import durable
from exporter.system.stopping import Stop

log = logging.getLogger("exporter")

_AGAIN = "Run the same command again."
_TELL_EVERY_S = 60.0
_OURS = {"limit": "--page-size", "page": None}
# `run` would read a file of such a name as another format than the text that is written here.
_OTHER_FORMATS = {".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".xlsx", ".gz"}


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
    options: Options, *, filters: Sequence[tuple[str, str]] = (), page_size: int = 100, stop: Stop
) -> Listed:
    """Write the numbers of all orders that fit the filters to the file `options.out`, one on each line.

    Args:
        options: The API, the credentials, the pace and the patience; `out` is the file, and `overwrite`
            permits to replace it. The rest is not used.
        filters: Keys and values for the API's query, passed on as they are.
        page_size: Orders on a page, as far as the API permits.
        stop: The end may be asked for; the pages read are kept.

    Raises:
        UsageError: The file is there already or cannot be, or the API refuses the filters.
        TokenRefusedError: The API refuses the token, or lets it see no list.
        ApiUnavailableError: The API does not answer, or not with all the pages of orders that it promises.
        LockedError: Another process lists into this file.
        InterruptedRunError: The end was asked for.
        StorageError: The file cannot be written.
    """
    file = Path(options.out)
    _check(file, overwrite=options.overwrite)
    query = _query(filters, page_size)
    with work_directory(options.out) as work:
        source = f"{options.api_url} {query}"
        with closing(ListedNumbers(work.path / "listed.db", source, options.resume_within_s)) as met:
            _tell_start(met)
            try:
                await _unless_stopped(_read(options, query, met), stop)
            except (TokenRefusedError, ApiUnavailableError) as error:
                raise type(error)(error.problem, error.advice or _AGAIN, option=error.option) from None
            listed = _write(file, met)
        work.remove()
    return listed


def _tell_start(met: ListedNumbers) -> None:
    if met.dropped:
        log.warning(
            "An unfinished listing of another kind, or older than --resume-within, is begun anew:"
            " %s of its orders are dropped.",
            f"{met.dropped:,}",
        )
    if met.pages:
        log.info("Resuming at page %d: %s orders were listed before.", met.page, f"{met.met:,}")


async def _read(options: Options, query: str, met: ListedNumbers) -> None:
    pace = Pace(Rate.parse(options.rate), max_rate=Rate.parse(options.max_rate))
    told_at = time.monotonic()

    def take(page: ReadPage) -> tuple[bool, int]:
        nonlocal told_at
        news = met.take(page.number, list(_entries(page)))
        if time.monotonic() - told_at >= _TELL_EVERY_S:
            told_at = time.monotonic()
            log.info("%s of %s order numbers listed.", f"{met.met:,}", f"{page.count:,}")
        return news > 0, met.met

    async with open_client(options, pace, Statistics(time.monotonic)) as client:
        await walk_to_the_end(client, options, query, first=max(1, met.page), take=take)


def _entries(page: ReadPage) -> Iterator[tuple[str, str | None]]:
    for entry in page.entries:
        number = text_of(entry.number)
        wrong = complaint(number)
        if wrong is not None:
            log.warning("Page %d: an order is left out. %s", page.number, wrong)
        # A number is unique within its sales channel only.
        yield f"{entry.id!r} {entry.number!r}", number if wrong is None else None


def _write(file: Path, met: ListedNumbers) -> Listed:
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for number in met.numbers():
            count += 1
            yield f"{number}\n".encode()

    with durable.storage_errors("writing the order numbers", file):
        durable.write_lines(file, lines(), mode=None)
    return Listed(numbers=count, pages=met.pages, left_out=met.left_out)


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


def _query(filters: Sequence[tuple[str, str]], page_size: int) -> str:
    for key, _ in filters:
        if key in _OURS:
            raise UsageError(
                "the pages are counted here.",
                f"Give {_OURS[key] or 'other filters'}.",
                option="filters",
                value=key,
            )
    return urlencode([*filters, ("limit", str(page_size))], quote_via=quote)


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
        raise stop.error("Stopped by a signal; the pages read are kept.", "The same command resumes.")
    task.result()

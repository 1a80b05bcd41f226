"""What a run would refuse and request, without running it: from the store, and one page of the API's list."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from exporter.api.list_page import Page, raw_entries
from exporter.fetch.work_directory import name_of
from exporter.lists.how_read import sentence
from exporter.model.entry_proof import FIRST, ONE_IN, digest_of
from exporter.model.options import Options
from exporter.run.preparation import prepared, refuse_invalid, refuse_to_replace
from exporter.run.status import UNFINISHED_RUN, Ask, Status, look
from exporter.store.listed_numbers import Met
from exporter.store.order_store import Store
from exporter.system.stopping import Stop

if TYPE_CHECKING:
    from exporter.fetch.number_listing import Listing


def dry_run(options: Options) -> Status:
    """Check what a run would check before its first request, raise what it would, and say what it would ask for."""
    options, out, destination = prepared(options, time.time())
    refuse_to_replace(destination.standing(), destination, options, out)
    status = look(out, options, orders=None if options.from_api else options.orders, may_be_new=True)
    if status.ask is not None and status.ask.input is not None:
        refuse_invalid(options, status.ask.input)
    if status.store is not None:
        with closing(Store(status.store, options.api_url, readonly=True)):
            pass  # it belongs to this API
    if not (options.from_api or options.looks_at_list):
        return status
    from exporter.fetch.number_listing import Listing  # with aiohttp, which no other look needs

    listing = Listing(options=options, on_progress=lambda _: None, stop=Stop())
    if options.from_api:
        status = _with_list(status, listing)
    if options.looks_at_list and status.ask and status.ask.of != UNFINISHED_RUN:
        ways = _ways(options, status, *asyncio.run(listing.first_page()))
        status = replace(status, ask=replace(status.ask, ways=ways))
    return status


def _ways(options: Options, status: Status, page: Page, chosen: list[Met]) -> dict[str, int]:
    """Return the requests of each way: of details alone, and with a list whose entries are complete, or are not."""
    pairs = zip(chosen, raw_entries(page.body), strict=True)
    entries = [(one.number, digest_of(raw)) for one, raw in pairs if one.number is not None]
    if options.from_api:
        return _ways_of_list(options, status, page, entries)
    pending = (status.ask and status.ask.pending) or 0
    details = (status.ask and status.ask.without_list) or 0
    if pending < 2 or page.last >= pending:  # the list is not looked at, or left after its first page
        few = pending + (pending > 1)
        return {"always": details, "auto_complete": few, "auto_partial": few}
    new = (status.ask and status.ask.new) or 0
    moved = math.ceil(max(0, pending - new - FIRST) * _on_page(options, status, entries).moved_share)
    partial = page.last + min(FIRST, pending - new) + new + moved if options.store else 1 + pending
    return {"always": details, "auto_complete": page.last + _compared(pending), "auto_partial": partial}


def _ways_of_list(
    options: Options, status: Status, page: Page, entries: list[tuple[str, str]]
) -> dict[str, int]:
    """Return the same where the list's own orders are wanted: they are as those on this page beyond the first ones."""
    orders = math.ceil(page.count * len(entries) / max(1, len(page.results)))
    others = entries[FIRST:] or entries
    first, found = entries[: -len(others)], _on_page(options, status, others)
    details = (orders - len(first)) * found.details / max(1, len(others))
    moved = (orders - min(FIRST, orders)) * found.moved / max(1, len(others))
    return {
        "always": page.last + _on_page(options, status, first).details + math.ceil(details),
        "auto_complete": page.last + _compared(orders),
        "auto_partial": page.last + min(FIRST, orders) + math.ceil(moved),
    }


def _compared(orders: int) -> int:
    return min(FIRST, orders) + max(0, orders - FIRST) // ONE_IN


class _OnPage(NamedTuple):
    """Of some entries of a page: what details alone ask for, and what is asked for where entries are not complete."""

    details: int
    moved: int  # and new
    moved_share: float  # of those that the store knows, and would have asked for


def _on_page(options: Options, status: Status, entries: list[tuple[str, str]]) -> _OnPage:
    if status.store is None:
        return _OnPage(len(entries), len(entries), 1.0)
    freshness = replace(options.freshness(status.now, status.now), from_list=False)
    whenever = replace(freshness, from_list=True).of_any_age()
    numbers = [(number, None) for number, _ in entries]
    with closing(Store(status.store, readonly=True)) as store:
        details = store.pending_of(freshness, numbers)  # without an entry, none is believed to be unmoved
        moved = store.pending_of(freshness, entries)
        known = details - store.pending_of(whenever, numbers)
    return _OnPage(len(details), len(moved), len(moved & known) / len(known) if known else 1.0)


def _with_list(status: Status, listing: Listing) -> Status:
    """Say what a run would list first: what it asks for then is known in the end."""
    name = name_of(status.out or "", kept=listing.options.store is not None)
    unfinished = status.holdings.unfinished if status.holdings else ()
    answered_at = max((run.answered_at or 0.0 for run in unfinished if run.out == name), default=0.0)
    walk, within_s = status.listing, listing.options.resume_within_s
    goes_on = walk and walk.complete and walk.may_resume(listing.source, status.now, within_s, answered_at)
    if goes_on and status.ask and status.ask.of == UNFINISHED_RUN:
        return status
    of = f"the API's list ({sentence(listing.about)}), then each selected order"
    return replace(status, ask=Ask(pending=None, orders=None, of=of, rate=listing.options.rate, seconds=None))

"""What the API's order list proves, taken into the store: so that its orders are not asked for one by one."""

from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import islice

from exporter.api.order_list import OrderList
from exporter.fetch.number_listing import Listing, Take
from exporter.fetch.work_directory import WorkDirectory
from exporter.model.entry_proof import with_plain_integers
from exporter.model.records import Outcome, RunRecord, Traffic
from exporter.store.listed_numbers import ListedNumbers, Met, Walk
from exporter.store.order_store import Freshness, Store
from exporter.system.log import log
from exporter.system.stopping import beside_the_loop

_DEARER = "The API's list has %d pages, and only %s orders are left: fetching these is cheaper."
_TAKEN = "%s orders are taken from the API's list: %s of its entries were compared with their details and equal them."
_BATCH = 1000


async def use_list(
    listing: Listing, work: WorkDirectory, store: Store, record: RunRecord, freshness: Freshness
) -> tuple[Walk, Freshness]:
    """Take into the store what the list proves of the orders that the attached plan names.

    Where the plan is of a file, the list is read first, as far as that is cheaper than asking for each order.
    Returned are how it was read, and when an order counts as settled from now on; errors are
    those of `Listing.write`.
    """
    options = listing.options
    with listing.opened(work, record.answered_at or 0.0) as met:
        await listing.read_on(met, _Pending(store, freshness, is_kept=options.store is not None))
        proof = met.walk.proof
        if proof and proof.is_lost:
            freshness = replace(freshness, from_list=False)

        def take() -> int:
            store.note_entries(work.listing)
            return _take_found(met, store, record, freshness, options.max_items)

        taken = await beside_the_loop(take, listing.stop, "taking orders from the list", store.interrupt)
        if proof and proof.holds:
            log.info(_TAKEN, f"{taken:,}", f"{proof.compared:,}")
        return met.walk, freshness


@dataclass(frozen=True)
class _Pending:
    """Orders of a file that are to be asked for: the list is read for them while that is cheaper."""

    store: Store
    freshness: Freshness
    is_kept: bool

    def of_page(self, chosen: list[Met]) -> list[Met]:
        numbers = ((one.number, None) for one in chosen if one.number is not None)
        pending = self.store.pending_of(self.freshness, numbers, of_plan=True)
        return [one if one.number in pending else one._replace(number=None) for one in chosen]

    async def read(self, walk: OrderList, first: int, met: ListedNumbers, take: Take) -> None:
        pending, most = self.store.states(self.freshness).get(None, 0), 1
        if pending < 2:
            return
        async with aclosing(walk.pages(first)) as pages:
            async for number, page in pages:
                most = max(most, len(page.results))  # the last page may have fewer
                last = -(-page.count // most)
                if number == first and self._leaves_list(last, last - number + 1, pending - met.walk.wanted):
                    return
                await take(number, page)
                if met.walk.proof and met.walk.proof.is_lost and not self.is_kept:
                    return  # what has moved since, no store can tell
                if self._leaves_list(last, last - walk.asked, pending - met.walk.wanted):
                    return

    @staticmethod
    def _leaves_list(pages: int, many: int, left: int) -> bool:
        """Tell, and log, whether so `many` of its pages, not asked for yet, cost no less than the orders that are left."""
        if 0 < left <= many:
            log.info(_DEARER, pages, f"{left:,}")
        return left <= many


def _take_found(
    met: ListedNumbers, store: Store, record: RunRecord, freshness: Freshness, max_items: int
) -> int:
    """Settle the pending orders that the list has brought; return how many of them are from entries alone."""
    is_respelt = met.walk.proof is not None and met.walk.proof.respelt

    def spelt(one: Outcome) -> Outcome:
        if one.source == "detail" or one.payload is None or not is_respelt:
            return one
        return one._replace(payload=with_plain_integers(one.payload))

    taken: Counter[str] = Counter()
    found = met.found(record.started_at, max_items)
    while batch := list(islice(found, _BATCH)):
        pending = store.pending_of(freshness, ((one.order_number, one.list_digest) for one in batch))
        outcomes = [spelt(one) for one in batch if one.order_number in pending]
        store.settle(record.run_id, outcomes, Traffic())
        taken.update(one.source for one in outcomes)
    return taken["list"]

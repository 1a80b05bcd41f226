"""Entries of the API's order list looked at while it is read: some of them are compared with their details."""

import asyncio
import os
from collections.abc import Iterable, Sequence
from logging import INFO, WARNING

import msgspec

from exporter.api.client import Client
from exporter.api.list_page import raw_entries
from exporter.api.order_list import patiently
from exporter.model.entry_proof import FIRST, EntryProof, digest_of
from exporter.model.errors import AttemptError
from exporter.model.options import Options
from exporter.store.listed_numbers import ListedNumbers, LookedAt, Met
from exporter.system.log import log
from exporter.system.stopping import task_group

_DIFFERS = "An entry of the API's list is not as its detail (%s): no order is taken from that list."
_NO_SUMS = "%d of %d entries of the API's list do not prove themselves: no order is taken from it."


class EntryLook:
    """Looks at pages of entries, one after the other; `met` has what was learnt before."""

    def __init__(self, client: Client, options: Options, met: ListedNumbers) -> None:
        self._client, self._max_attempts, self._met = client, options.max_attempts, met
        self._proof = met.walk.proof or EntryProof(seed=os.urandom(16).hex())
        self._room = asyncio.Semaphore(options.concurrency)
        self._details: dict[str, bytes] = {}

    async def page(self, entries: Sequence[Met], body: bytes) -> LookedAt:
        """Return what a page with this `body` holds; what is due is compared, and may be used where it proves itself.

        A `TokenRefusedError` where the API refuses the token; an `ApiUnavailableError` where it asks for too long a wait.
        """
        raws, was_lost = raw_entries(body), self._proof.is_lost
        known = self._met.known(entry.entry for entry in entries)
        news = {
            at: (entry.number, raws[at])
            for at, entry in enumerate(entries)
            if entry.number is not None and entry.entry not in known
        }
        self._details = {}
        first = () if self._proof.is_lost else [*news][: max(0, FIRST - self._proof.compared)]
        await self._compare(news.pop(at) for at in first)
        due = () if self._proof.is_lost else [at for at in news if self._is_due(*news[at])]
        await self._compare(news.pop(at) for at in due)
        proof = self._proof
        if proof.differs is not None and not was_lost:
            # Most lists show less than the whole order, from the first one on; one that does so later lies.
            log.log(INFO if proof.compared < FIRST else WARNING, _DIFFERS, proof.differs)
        elif proof.is_lost and not was_lost:
            log.warning(_NO_SUMS, proof.suspects, proof.seen)
        digests = list(map(digest_of, raws))
        usable = () if proof.is_lost else news
        looked_at = [
            one._replace(digest=digests[at], place=at if at in usable else None)
            for at, one in enumerate(entries)
        ]
        return LookedAt(looked_at, proof, self._details, body)

    def _is_due(self, number: str, raw: bytes) -> bool:
        suspect = self._proof.suspects_of(raw)
        counts = {"seen": self._proof.seen + 1, "suspects": self._proof.suspects + suspect}
        self._proof = msgspec.structs.replace(self._proof, **counts)
        return suspect or self._proof.chooses(number)

    async def _compare(self, entries: Iterable[tuple[str, bytes]]) -> None:
        """Ask for the details of entries, all at one time, and compare."""
        asked = list(entries)
        async with task_group() as group:
            tasks = [group.create_task(self._detail(number)) for number, _ in asked]
        for (number, raw), task in zip(asked, tasks, strict=True):
            if (detail := task.result()) is not None:
                self._details[number] = detail
                if not self._proof.is_lost:
                    self._proof = self._proof.with_detail(number, raw, detail)

    async def _detail(self, number: str) -> bytes | None:
        """Return an order's detail; None where it cannot be had, which is a matter of later."""

        async def ask(attempt: int) -> bytes:
            return (await self._client.fetch(number, attempt)).payload

        try:
            async with self._room:
                return await patiently(ask, self._max_attempts, most_throttles=self._max_attempts)
        except AttemptError:
            return None

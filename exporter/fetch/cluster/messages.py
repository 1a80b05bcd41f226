"""What travels between the coordinator and a worker, always through what Dask itself authenticates, and in files.

Nothing here holds a credential, nor a hash of one that was made without a key.
"""

from dataclasses import asdict
from typing import Any

import msgspec

from exporter.api.pace import Refusal
from exporter.dataset.publishing.publish_job import PublishResult
from exporter.fetch.refresh import Standing
from exporter.model.errors import ToldError
from exporter.model.freshness import Freshness
from exporter.model.manifest import Pii
from exporter.model.options import SECRETS, Options
from exporter.model.records import Traffic
from exporter.model.run_statistics import Figures

#: Dask's topics, on which every worker reports and every coordinator speaks. The scheduler keeps the last
#: thousand messages of each topic: with one for each try it would keep ever more.
REPORTS, WORDS = "omnitron-exporter-reports", "omnitron-exporter-words"
BEACON = "try"  # the coordinator's try, as a file beside the ranges


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker must agree with to take part in a try."""

    version: str
    folder: str  # which all workers see; a file in it holds the id of the try
    try_id: str
    options: dict[str, Any]  # without the secret ones
    pii: Pii  # of the key of `--pii hash`, what the manifest says of it
    key: str  # that a result must have to be used again


def public(options: Options) -> dict[str, Any]:
    """Return the options that go through the scheduler: of the secrets none."""
    sent = {name: value for name, value in asdict(options).items() if name not in SECRETS}
    return sent | {"orders": str(options.orders)}  # which may be a kind of text


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """One range, as a worker is asked to do it."""

    check: Check  # first of all: the worker may have come late
    index: int
    folder: str
    freshness: Freshness
    concurrency: int
    good_number: str | None  # of an order that the API is known to answer
    answered: bool  # whether the API has, this try: what goes wrong later may be an outage


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """A finished range: the files in the folder `staged` of its own, and the `traffic` of all tries."""

    key: str
    staged: str
    result: PublishResult
    traffic: Traffic
    good_number: str | None


class Ended(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a `worker` ended a range: it is `done`, or there is an `error`, or the reason to do it `again`."""

    worker: str = ""
    done: Done | None = None
    error: ToldError | None = None
    again: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a range tells the coordinator several times a second; what is counted came since the last report."""

    try_id: str
    seat: str  # names this doing of the range: it may be done again elsewhere
    index: int
    worker: str
    share_per_s: float = 0.0  # that it keeps to; infinite for no bound
    use_per_s: float | None = 0.0  # that it could use; None until it is known whether the API is reached
    answers: int = 0  # without refusals
    latency_s: float | None = None  # of one answer, lately
    refusals: list[Refusal] = []
    figures: Figures | None = None
    standing: Standing | None = None
    logs: list[tuple[int, str, str]] = []  # level, template and text of each line
    down_since: float | None = None  # see `Progress`
    over: bool = False  # whether it needs no share any more, and nothing will follow


class Word(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the coordinator tells all ranges, once a second and whenever it changes."""

    folder: str  # where ranges of other tries are to end: nobody waits for them
    try_id: str
    shares: dict[str, float] = {}  # by seat
    stop: int | None = None  # the signal to stop for

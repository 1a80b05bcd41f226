"""How many rejects a run may have, and what is told where it has more."""

from collections.abc import Iterable, Mapping
from itertools import islice

from exporter.model import units
from exporter.model.errors import TooManyRejectsError
from exporter.model.freshness import STALE
from exporter.model.manifest import Input
from exporter.model.options import Options
from exporter.model.records import FETCHED
from exporter.store.order_store import Freshness, RejectRow, Store

EXAMPLES = 3  # rejects that are named where there are too many


def allowed_rejects(options: Options, found: Input) -> int:
    """Return how many rejects a run may have, invalid lines included."""
    return units.allowed_rejects(options.max_rejects, found.requested + found.invalid)


def limit_text(max_rejects: str, allowed: int) -> str:
    """Return what a number of rejects is more than; a percentage with the count that it comes to.

    >>> limit_text("5%", 12), limit_text("12", 12)
    ('--max-rejects 5% allows (12)', '--max-rejects 12 allows')
    """
    return f"--max-rejects {max_rejects} allows{f' ({allowed})' if max_rejects.endswith('%') else ''}"


def most_new_rejects(options: Options, found: Input, states: Mapping[str | None, int]) -> int | None:
    """Return how many more rejects there may be, given the plan's `states`; None where only the publish can tell."""
    if options.stale == "ok":
        return None  # a reject may have an older payload
    standing = sum(count for state, count in states.items() if state not in (None, FETCHED, STALE))
    return allowed_rejects(options, found) - found.invalid - standing


def examples(rejects: Iterable[RejectRow]) -> str:
    """Return a sentence with the first of some rejects, and what came back for each; empty where there is none."""
    told = [
        f"line {line}, {number}: {reason}{f' ({detail})' if detail else ''}"
        for line, number, reason, _, _, detail in islice(rejects, EXAMPLES)
    ]
    return f" For example {'; '.join(told)}." if told else ""


def raise_stopped_early(store: Store, freshness: Freshness, max_rejects: str) -> None:
    """Raise a `TooManyRejectsError`: orders are pending, but it can no longer publish; nothing where all is settled."""
    states = store.states(freshness)
    pending = states.pop(None, 0)
    if not pending:
        return  # the publish tells more: it lists the rejects
    rejects = {state: count for state, count in states.items() if state not in (FETCHED, STALE)}
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in rejects.items())
    settled, told = sum(states.values()), examples(store.rejects(freshness))
    what = f"{sum(rejects.values()):,} rejects ({reasons or 'invalid lines'})"
    raise stopped_early(what, max_rejects, settled, settled + pending, told)


def stopped_early(
    rejects: str, max_rejects: str, settled: int, orders: int, told: str = ""
) -> TooManyRejectsError:
    """Return the error of a run that stops because it can no longer publish."""
    return TooManyRejectsError(
        f"{rejects} are more than --max-rejects {max_rejects} allows: stopped after {settled:,} of {orders:,} orders;"
        f" nothing was published.{told}",
        "Check the list and --api-url. With a higher --max-rejects the same command continues from there; with"
        " --retry-rejects it also requests the rejects again.",
    )

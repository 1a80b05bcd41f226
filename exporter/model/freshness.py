"""When what the store knows of an order is good enough, so that the API is not asked again."""

import math
from dataclasses import dataclass, replace
from typing import Self

STALE = "stale"  # an order that could not be had in this run, and is published as it was when it was last had
CLOCK_SLACK_S = 300.0  # what seems to come from further in the future was settled under a wrong clock


def may_resume(started_at: float, answered_at: float | None, now: float, within_s: float) -> bool:
    """Tell whether a run's last answer is at most `within_s` old, and not from the future.

    `now` is the run's own start where it is known to be this very run.
    """
    last = max(started_at, answered_at or 0.0)
    return started_at == now or last - CLOCK_SLACK_S <= now <= last + within_s


@dataclass(frozen=True, slots=True)
class Freshness:
    """When an order number counts as settled in this run, so that it is not asked for.

    Payloads and refusals are judged apart. A payload is good for its age, whatever came after it. A refusal is
    good for the run that proved it, and `unavailable` for the try alone.

    An order whose entry in the API's list, `p.entry`, is what it was when its detail was fetched is done where that was
    within `recheck_s`, but for orders of `max_age_s_by_status`; one whose entry is another is not done.
    """

    run_started_at: float  # kept over a run's tries; seconds since the epoch, as the next
    try_started_at: float
    max_age_s: float = 0.0  # before the run's start, an order fetched since then is done
    max_age_s_by_status: tuple[tuple[str, float], ...] = ()  # beats it, by the order's status code
    retry_rejects: bool = False  # requests every reject from before this try again
    stale_ok: bool = False  # a reject with an older payload is `stale`; a proven 404 stays `not_found`
    recheck_s: float | None = None  # None: the list is not looked at
    from_list: bool = False  # without it, a payload that was taken from the list is none

    def of_any_age(self) -> Self:
        """Return the same where a payload may be as old as it likes."""
        return replace(self, max_age_s=math.inf, max_age_s_by_status=())

    def state_sql(self) -> tuple[str, dict[str, float | str]]:
        """Return an SQL expression over `orders AS o` and `plan AS p`, and its values: the state that counts as settled.

        That is `fetched`, `stale` or a reject reason; null while it is pending.
        """
        values: dict[str, float | str] = {
            "try_started": self.try_started_at,
            "rejects_since": self.try_started_at if self.retry_rejects else self.run_started_at,
            "fresh_since": self._since(self.max_age_s),
        }
        cases = ""
        for index, (status, age_s) in enumerate(self.max_age_s_by_status):
            values[f"status{index}"] = status
            values[f"since{index}"] = self._since(age_s)
            cases += f" WHEN o.order_status = :status{index} THEN :since{index}"
        reject = "o.state"
        if self.stale_ok:
            reject = f"iif(o.fetched_at IS NULL OR o.state = 'not_found', o.state, '{STALE}')"
        refused = "o.settled_at >= iif(o.state = 'unavailable', :try_started, :rejects_since)"
        fresh = f"o.fetched_at >= CASE{cases} WHEN true THEN :fresh_since END"
        if not self.from_list:
            fresh += " AND o.source <> 'list'"
        if self.recheck_s is not None:
            values |= {"run_started": self.run_started_at, "recheck_since": self._since(self.recheck_s)}
            unmoved = f"o.fetched_at >= CASE{cases} WHEN true THEN :recheck_since END AND o.state = 'fetched'"
            fresh = (
                f"{fresh} AND (o.fetched_at >= :run_started OR coalesce(o.list_digest = p.entry, true))"
                f" OR {unmoved} AND o.source = 'detail' AND o.list_digest = p.entry"
            )
        return (
            f"CASE WHEN o.state <> 'fetched' AND {refused} THEN {reject} WHEN {fresh} THEN 'fetched' END"
        ), values

    def _since(self, age_s: float) -> float:
        return self.run_started_at - age_s

"""When what the store knows of an order is good enough, so that the API is not asked again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Freshness:
    """When an order number counts as done in this run, so that it is not asked for.

    Attributes:
        run_started_at: Start of the run, kept over its tries; seconds since the epoch.
        try_started_at: Start of this process's try: `unavailable` before it is asked for again.
        max_age_s: An order settled within that many seconds before the run's start is done.
        max_age_s_by_status: The same for orders of one status code; beats `max_age_s`.
    """

    run_started_at: float
    try_started_at: float
    max_age_s: float = 0.0
    max_age_s_by_status: tuple[tuple[str, float], ...] = ()

    def done_sql(self) -> tuple[str, dict[str, float | str]]:
        """Return an SQL condition over `orders AS o`, true where the number is done, and its values."""
        values: dict[str, float | str] = {
            "try_started": self.try_started_at,
            "fresh_since": self._since(self.max_age_s),
        }
        cases = ""
        for index, (status, age_s) in enumerate(self.max_age_s_by_status):
            values[f"status{index}"] = status
            values[f"since{index}"] = self._since(age_s)
            cases += f" WHEN o.order_status = :status{index} THEN :since{index}"
        since = f"CASE{cases} ELSE :fresh_since END" if cases else ":fresh_since"
        unavailable = "CASE WHEN o.state = 'unavailable' THEN :try_started"
        return f"o.settled_at >= {unavailable} ELSE {since} END", values

    def _since(self, age_s: float) -> float:
        return self.run_started_at - age_s

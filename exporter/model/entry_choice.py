"""Which entries of the API's order list are wanted, by the status and the time that they show."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from exporter.model.errors import UsageError
from exporter.model.order_statuses import status_code


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryChoice:
    """Codes of statuses, none for any; the first moment and the one after the last, None for any."""

    statuses: tuple[str, ...]
    moments: tuple[datetime, datetime] | None

    def wants(self, status: object, placed: object, name: str) -> bool:
        """Return whether an entry is wanted; a `UsageError` names one that does not show what is looked for."""
        code = status_code(status) if self.statuses else ""
        moment = _moment(placed) if self.moments else None
        if code is None:
            raise _not_shown(name, "a status", status, "--status")
        if self.moments and moment is None:
            raise _not_shown(name, "a date_placed with its zone", placed, "--placed-from and --placed-to")
        placed_then = self.moments is None or moment is None or self.moments[0] <= moment < self.moments[1]
        return placed_then and (not self.statuses or code in self.statuses)


def _moment(shown: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(shown) if isinstance(shown, str) else None
    except ValueError:
        return None
    return moment if moment and moment.tzinfo else None


def _not_shown(name: str, what: str, shown: object, options: str) -> UsageError:
    return UsageError(
        f"{name}: expected {what}, got {shown!r:.60}: {options} cannot be checked.",
        "Leave that out, and choose from the dataset.",
    )


def entry_choice(
    statuses: tuple[str, ...], placed_from: str | None, placed_to: str | None, timezone: str
) -> EntryChoice:
    """Return the choice that options make: days are those of `timezone`, the last one is included."""
    earliest, latest = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    first = _midnight("placed_from", placed_from, 0, timezone) if placed_from else earliest
    end = _midnight("placed_to", placed_to, 1, timezone) if placed_to else latest
    if first >= end:
        what = f"expected {placed_from} or a later day, got {placed_to}."
        raise UsageError(what, "Give a later day, or an earlier --placed-from.", option="placed_to")
    moments = (first, end) if placed_from or placed_to else None
    return EntryChoice(statuses=tuple(sorted(set(statuses))), moments=moments)


def _midnight(option: str, day: str, later: int, timezone: str) -> datetime:
    try:
        midnight = datetime.combine(date.fromisoformat(day), time(), ZoneInfo(timezone))
        return (midnight + timedelta(days=later)).astimezone(UTC)
    except (ValueError, OverflowError):
        what = f"expected a day, got {day!r}."
        raise UsageError(what, "Write for example 2026-11-01.", option=option) from None

"""How far a run is, in words."""

from __future__ import annotations

from exporter.model.progress import Progress
from exporter.model.units import duration_text


def sentence(progress: Progress) -> str:
    """Return how far the run is, in one line."""
    rejected = f", {progress.rejected:,} rejected" if progress.rejected else ""
    if progress.phase == "done":
        took = duration_text(progress.elapsed_s)
        return f"Finished after {took}: {progress.done:,} of {progress.total:,} orders done{rejected}."
    if progress.phase == "publishing":
        return f"Publishing: {progress.published:,} of {progress.total:,} orders are in the tables."
    return (
        f"{progress.done:,} of {progress.total:,} orders done{rejected},"
        f" {rate_text(progress)}, {duration_text(progress.left_s)} left{_pause(progress)}."
    )


def rate_text(progress: Progress) -> str:
    """Return the rate used and the rate permitted.

    A fast one needs no decimals; a slow one is nothing without them.
    """
    used = _number(progress.rate_per_s)
    permitted = progress.permitted_per_s
    return f"{used}/s" if permitted is None else f"{used} of {_number(permitted)}/s"


def _number(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}"


def _pause(progress: Progress) -> str:
    if not progress.paused_s:
        return ""
    return f"; waiting for another {duration_text(progress.paused_s)}: {progress.why}"

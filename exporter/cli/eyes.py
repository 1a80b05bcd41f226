"""What a person sees of a run: a live display at a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click

from exporter.cli.logs import set_up_logging
from exporter.progress import Progress, ProgressCallback
from exporter.summary import Summary

log = logging.getLogger("exporter")
_EVERY_S = 60.0


@contextmanager
def watching(*, quiet: bool, log_format: str) -> Iterator[ProgressCallback]:
    """Show the run to whoever is there: eyes at a terminal, or a log file.

    Args:
        quiet: Errors only.
        log_format: `text` or `json`.

    Yields:
        What the run calls with its progress.
    """
    set_up_logging(quiet=quiet, log_format=log_format)
    yield _Lines()


class _Lines:
    """One plain line each minute."""

    def __init__(self) -> None:
        self._told_at = 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.elapsed_s - self._told_at < _EVERY_S:
            return
        self._told_at = progress.elapsed_s
        log.info(
            "%d of %d orders done, %d rejected, %.3g/s, %s left.",
            progress.done,
            progress.total,
            progress.rejected,
            progress.rate_per_s,
            duration(progress.left_s),
        )


def duration(seconds: float | None) -> str:
    """Return seconds as people say them.

    >>> duration(3725), duration(59), duration(None)
    ('1 h 02 min', '59 s', 'unknown')
    """
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def print_summary(summary: Summary, *, as_json: bool, quiet: bool) -> None:
    """Print what the run brought: one JSON object, a short table, or nothing when quiet."""
    if as_json:
        click.echo(json.dumps(asdict(summary) | {"exit_code": summary.exit_code}, ensure_ascii=False))
        return
    if quiet:
        return
    click.echo(
        f"Exported {summary.exported} orders with {summary.order_items} items to {summary.out}"
        f" in {duration(summary.duration_s)}, {summary.requests['sent']} requests."
    )
    for reason, count in summary.rejects_by_reason.items():
        click.echo(f"  rejected, {reason}: {count}")
    for part in summary.files:
        click.echo(f"  {part.path}: {part.rows} rows, {part.bytes} bytes")


__all__ = ["duration", "print_summary", "watching"]

"""A task group that raises one plain error: the most telling of those that ended it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from exporter.model.errors import ExporterError


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Open an `asyncio.TaskGroup` whose end raises one of ours before any other error."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise _most_telling(errors) from None


def _most_telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
    errors = list(_flat(group))
    ours = [error for error in errors if isinstance(error, ExporterError)]
    return (ours or errors)[0]


def _flat(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_flat(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found

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
        telling: BaseException = errors.subgroup(ExporterError) or errors
        while isinstance(telling, BaseExceptionGroup):
            telling = telling.exceptions[0]
        raise telling from None

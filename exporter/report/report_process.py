"""The reporting process as its parent sees it: pyarrow never enters the fetching one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from exporter.model import errors
from exporter.system.child_process import python_path


async def write_report_apart(dataset: Path) -> None:
    """Write `report.html` into a dataset in a process of its own, which does not outlive this call.

    Args:
        dataset: See `exporter.report.write_report`.

    Raises:
        UsageError: See `exporter.report.write_report`.
        StorageError: As there, or the process was killed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "exporter.report",
        str(dataset),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=_environment(),
        start_new_session=True,  # Ctrl-C signals the whole group: the parent decides when this ends
    )
    try:
        told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise _error(told, process.returncode)


def _environment() -> dict[str, str]:
    """Return our environment without what the process has no use for, and with the way to this package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EXPORTER_")}
    return kept | {"PYTHONPATH": python_path()}


def _error(told: bytes, code: int) -> errors.ExporterError:
    if not told.startswith(b"["):
        return errors.StorageError(
            f"The reporting process ended early (exit status {code}).",
            "See what it printed above; if it was killed, memory may be short. Run: exporter report.",
        )
    return errors.error_of(*json.loads(told))

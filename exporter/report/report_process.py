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
    """Call `write_report` in a process of its own, which does not outlive this call.

    It raises what that raises, and a `StorageError` where the process was killed.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith("EXPORTER_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "exporter.report", str(dataset)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=ours | {"PYTHONPATH": python_path()},
        start_new_session=True,  # Ctrl-C signals the whole group: the parent decides when this ends
    )
    try:
        told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if told.startswith(b"["):
        raise errors.error_of(*json.loads(told))
    if process.returncode:
        what = f"The reporting process ended early (exit status {process.returncode})."
        hint = "See what it printed above; if it was killed, memory may be short. Run: exporter report."
        raise errors.StorageError(what, hint)

"""The report in a process of its own, as its parent sees it and as it runs: pyarrow never enters the fetching one.

`python -m exporter.report.report_process FOLDER`; a failure is told as one JSON line on stdout.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from exporter.model import errors
from exporter.system.child_process import be_deaf, be_lean, python_path
from exporter.system.crash_place import crash_text


async def write_report_apart(dataset: Path) -> None:
    """Call `write_report` in a process that ends with this call; a `StorageError` also where it was killed."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("EXPORTER_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", __name__, str(dataset)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=ours | {"PYTHONPATH": python_path()},
        start_new_session=True,  # so that it is not asked to end before it is deaf
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


def main(folder: str) -> int:
    """Write the report of a folder; return the exit code."""
    be_deaf()
    be_lean()
    from exporter.report.page import write_report  # pyarrow, once the process is lean

    try:
        write_report(Path(folder))
    except errors.ExporterError as error:
        sys.stdout.write(f"{json.dumps(errors.told(error))}\n")
        return error.exit_code
    except Exception as error:
        sys.stderr.write(f"The reporting process broke: {crash_text(error)}.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

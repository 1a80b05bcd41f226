"""The report in a process of its own: `python -m exporter.report FOLDER`.

A failure is told as one JSON line on stdout: [type name, exit code, what, hint].
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from exporter.model.errors import ExporterError, told
from exporter.system.child_process import be_lean
from exporter.system.crash_place import crash_text


def main(folder: str) -> int:
    """Write the report of a folder; return the exit code."""
    be_lean()
    from exporter.report.page import write_report  # pyarrow, once the process is lean

    try:
        write_report(Path(folder))
    except ExporterError as error:
        sys.stdout.write(f"{json.dumps(told(error))}\n")
        return error.exit_code
    except Exception as error:
        sys.stderr.write(f"The reporting process broke: {crash_text(error)}.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""Export from Python: python export_sync.py NUMBERS OUT, with the API in the environment."""

from __future__ import annotations

import os
import sys

from exporter import ExporterError, Options, export


def main(numbers: str, out: str) -> int:
    """Export, and print the result."""
    options = Options(
        orders=numbers,
        out=out,
        api_url=os.environ["EXPORTER_API_URL"],
        token=os.environ["EXPORTER_API_TOKEN"],
        rate="200/s",
    )
    try:
        summary = export(options)
    except ExporterError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{summary.exported} orders and {summary.items} items in {summary.out}")
    return summary.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

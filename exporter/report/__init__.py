"""One page about one dataset, `report.html`: what the data looks like, and how the run went.

The page is one file that runs no script and asks the network for nothing; its Content-Security-Policy
forbids both. It holds counts, sums, codes, currencies, cities, days and column names, never a person's data.
Charts are HTML that the style sheet draws: they fit every width and both colour schemes, and a screen
reader gets a title, a summary in words and a table of figures for each.
"""

from __future__ import annotations

from pathlib import Path

from exporter.model.manifest import REPORT_FILE

__all__ = ["REPORT_FILE", "write_report"]


def write_report(dataset: Path) -> None:
    """Write `report.html` into a dataset, from its manifest and its tables alone.

    Args:
        dataset: A folder with `manifest.json` and the files that it names. A report there is replaced.

    Raises:
        InputError: The folder holds no dataset of ours.
        StorageError: A file of the dataset cannot be read, or the report cannot be written.
    """
    from exporter.report.write_report import write

    write(dataset)

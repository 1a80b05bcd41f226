"""One page about one dataset, `report.html`: what the data looks like, and how the run went.

The page is one file that runs no script and asks the network for nothing; its Content-Security-Policy
forbids both. It holds counts, sums, codes, currencies, cities, days and column names, never a person's data.
Charts are HTML that the style sheet draws: they fit every width and both colour schemes, and a screen
reader gets a title, a summary in words and a table of figures for each.
"""

from __future__ import annotations

from pathlib import Path

from exporter.model.errors import InputError
from exporter.model.manifest import MANIFEST_FILE, REPORT_FILE, Manifest, decode
from exporter.system.durable import storage_errors, write_bytes

__all__ = ["REPORT_FILE", "write_report"]


def write_report(dataset: Path) -> None:
    """Write `report.html` into a dataset, from its manifest and its tables alone.

    Args:
        dataset: A folder with `manifest.json` and the files that it names. A report there is replaced.

    Raises:
        InputError: The folder holds no dataset of ours.
        StorageError: A file of the dataset cannot be read, or the report cannot be written.
    """
    # The fetching process imports this package, but nothing that brings pyarrow.
    from exporter.report.data_figures import data_figures
    from exporter.report.page import page
    from exporter.report.run_figures import run_figures

    manifest = _manifest(dataset)
    html = page(manifest, run_figures(manifest.statistics), data_figures(dataset, manifest))
    report = dataset / REPORT_FILE
    with storage_errors("writing the report", report):
        write_bytes(report, html, mode=None)


def _manifest(dataset: Path) -> Manifest:
    path = dataset / MANIFEST_FILE
    with storage_errors("reading the manifest", path):
        if not path.is_file():
            raise InputError(
                f"{dataset}: expected a finished dataset with its {MANIFEST_FILE}, got none.",
                "Give the folder that `exporter run` was given as --out.",
            )
        return decode(path.read_bytes(), str(path))

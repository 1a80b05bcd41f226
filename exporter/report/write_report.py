"""From a dataset's folder to `report.html` in it, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from exporter.model.errors import InputError
from exporter.model.manifest import MANIFEST_FILE, REPORT_FILE, Manifest, decode
from exporter.report.data_figures import data_figures
from exporter.report.page import page
from exporter.report.run_figures import run_figures
from exporter.system import durable


def write(dataset: Path) -> None:
    """See `exporter.report.write_report`."""
    manifest = _manifest(dataset)
    html = page(manifest, run_figures(manifest.statistics), data_figures(dataset, manifest))
    report = dataset / REPORT_FILE
    with durable.storage_errors("writing the report", report):
        durable.write_bytes(report, html, mode=None)


def _manifest(dataset: Path) -> Manifest:
    path = dataset / MANIFEST_FILE
    with durable.storage_errors("reading the manifest", path):
        if not path.is_file():
            raise InputError(
                f"{dataset}: expected a finished dataset with its {MANIFEST_FILE}, got none.",
                "Give the folder that `exporter run` was given as --out.",
            )
        return decode(path.read_bytes(), str(path))

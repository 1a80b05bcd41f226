"""The page, written into a dataset: `page.html` filled with figures, by the names of the functions that tell them."""

from inspect import isfunction
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined

from exporter.model import units
from exporter.model.errors import InputError
from exporter.model.manifest import CHANGE_COUNTS, MANIFEST_FILE, REPORT_FILE, decode
from exporter.model.order_statuses import NO_SALE
from exporter.report import bars, figure_texts
from exporter.report.data_figures import data_figures
from exporter.report.run_figures import run_figures
from exporter.system.durable import storage_errors, write_bytes


def write_report(dataset: Path) -> None:
    """Write `report.html` into a dataset, from its manifest and its tables alone; one that is there is replaced."""
    path, report = dataset / MANIFEST_FILE, dataset / REPORT_FILE
    with storage_errors("reading the manifest", path):
        if not path.is_file():
            what = f"{dataset}: expected a finished dataset with its {MANIFEST_FILE}, got none."
            raise InputError(what, "Give the folder that `exporter run` was given as --out.")
        manifest = decode(path.read_bytes(), str(path))
    environment = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    named = vars(units) | vars(figure_texts) | vars(bars)
    functions = {name: each for name, each in named.items() if isfunction(each)}
    environment.filters |= functions
    environment.globals |= functions
    html = environment.get_template("page.html").render(
        manifest=manifest,
        run=run_figures(manifest.statistics),
        data=data_figures(dataset, manifest),
        host=urlsplit(manifest.api_url).netloc.rpartition("@")[2],
        NO_SALE=NO_SALE,
        CHANGE_COUNTS=CHANGE_COUNTS,
    )
    with storage_errors("writing the report", report):
        write_bytes(report, f"{html}\n".encode("utf-8", "replace"), mode=None)

"""The page: what `page.html` is filled with."""

from __future__ import annotations

from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined

from exporter.model.manifest import Manifest
from exporter.model.order_statuses import NO_SALE
from exporter.model.outside_text import visible
from exporter.report import bars, figure_texts, table_rows
from exporter.report.data_figures import DataFigures
from exporter.report.date_steps import steps
from exporter.report.run_figures import RunFigures


def page(manifest: Manifest, run: RunFigures, data: DataFigures) -> bytes:
    """Return the page about one dataset, as HTML; whatever is put into it is escaped."""
    environment = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"steps": steps, "visible": visible}
    for module in (bars, figure_texts, table_rows):
        environment.filters |= {name: getattr(module, name) for name in module.__all__}
    environment.globals |= {
        "month": figure_texts.month,
        "status_name": figure_texts.status_name,
        "city_name": figure_texts.city_name,
    }
    host = urlsplit(manifest.api_url).netloc.rpartition("@")[2]
    template = environment.get_template("page.html")
    html = template.render(manifest=manifest, run=run, data=data, host=host, NO_SALE=NO_SALE)
    return f"{html}\n".encode("utf-8", "replace")

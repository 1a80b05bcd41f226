"""One page about one dataset, `report.html`: how the run went, and what the data looks like.

The page is one file that runs no script and asks the network for nothing; its Content-Security-Policy
forbids both. It holds counts, sums, codes, currencies, days and column names, never a person's data.

Charts are Matplotlib's, as SVG inside the page. Weighed on 2026-11-24: Plotly would put 4 MB of script
into every page and need JavaScript to show anything; Altair's `vl-convert` is a 33 MB wheel that starts
a V8 engine; Matplotlib is a 10 MB wheel, long kept by many people, draws without a display, and writes
text as text. So a page is about 150 KB, its charts take their colours from the style sheet (light, dark
and forced colours) and their font from the system, and a chart is drawn once for each width at which it
is shown. A screen reader gets a title, a summary in words and a table of figures for each chart.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from exporter.model.errors import missing_extra
from exporter.model.manifest import REPORT_FILE

__all__ = ["REPORT_FILE", "check_extra", "write_report"]


def check_extra() -> None:
    """Check, without importing it, that the plotting library is there.

    Raises:
        UsageError: The extra `report` is not installed.
    """
    if find_spec("matplotlib") is None:
        raise missing_extra("The report", "report")


def write_report(dataset: Path) -> None:
    """Write `report.html` into a dataset, from its manifest and its tables alone.

    Args:
        dataset: A folder with `manifest.json` and the files that it names. A report there is replaced.

    Raises:
        UsageError: The folder holds no dataset of ours, or the extra `report` is not installed.
        StorageError: A file of the dataset cannot be read, or the report cannot be written.
    """
    check_extra()
    from exporter.report.write_report import write

    write(dataset)

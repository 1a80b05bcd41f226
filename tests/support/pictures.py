"""Make the pictures of the README from the real thing: `python -m tests.support.pictures`.

The display is drawn from a demo export in mid-run, the report is Chromium's view of that export's page.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, DIMMED_MONOKAI

from exporter import Options, Progress, export
from exporter.cli.live_display import picture
from tests.support.processes import ROOT, TOKEN, demo_api

IMAGES = ROOT / "docs" / "images"
_WIDTH = 76
_TITLE = "exporter run orders.csv --out november --rate 200/s"
_THEMES = {"light": DEFAULT_TERMINAL_THEME, "dark": DIMMED_MONOKAI}
_DRIVER = """
import sys
from playwright.sync_api import sync_playwright
page_file, chromium, *images = sys.argv[1:]
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    for image in images:
        scheme = "dark" if "dark" in image else "light"
        page = browser.new_page(color_scheme=scheme, viewport={"width": 1100, "height": 760})
        page.goto(page_file)
        page.screenshot(path=image)
    browser.close()
"""


@contextmanager
def exported(orders: int = 500) -> Iterator[tuple[Path, list[Progress]]]:
    """Export the demo's orders; yield the dataset with its report, and what the run told of its progress."""
    told: list[Progress] = []
    with demo_api(orders=orders) as api, tempfile.TemporaryDirectory() as folder:
        numbers = Path(folder) / "numbers.txt"
        numbers.write_text("\n".join(api.numbers))
        out = Path(folder) / "november"
        options = Options(
            orders=str(numbers), out=str(out), api_url=api.url, token=TOKEN, rate="200/s", report=True
        )
        export(options, on_progress=told.append)
        yield out, told


def display(progress: Progress, image: Path) -> None:
    """Draw one moment of a run as the terminal shows it."""
    console = Console(record=True, width=_WIDTH, file=StringIO(), force_terminal=True)
    console.print(picture(progress, _WIDTH))
    theme = _THEMES["dark" if "dark" in image.name else "light"]
    drawn = console.export_svg(title=_TITLE, theme=theme, unique_id="display")
    # The system's own font: the picture asks the network for nothing.
    image.write_text(re.sub(r"@font-face \{.*?\}|<!--.*?-->", "", drawn, flags=re.DOTALL), "utf-8")


def report(dataset: Path, images: list[Path]) -> None:
    """Take a picture of the report's first screen; Chromium runs apart, its driver keeps a loop running."""
    chromium = shutil.which("chromium") or sys.exit("Chromium is not installed (Debian: chromium)")
    page = (dataset / "report.html").as_uri()
    subprocess.run([sys.executable, "-c", _DRIVER, page, chromium, *map(str, images)], check=True)


def main() -> None:
    """Write every picture."""
    IMAGES.mkdir(exist_ok=True)
    with exported() as (dataset, told):
        for theme in _THEMES:
            display(half_way(told), IMAGES / f"display-{theme}.svg")
        report(dataset, [IMAGES / f"report-{theme}.png" for theme in _THEMES])


def half_way(told: list[Progress]) -> Progress:
    """Return the last moment before two thirds of the orders were done."""
    return [one for one in told if one.phase == "fetching" and one.done < one.total * 2 / 3][-1]


if __name__ == "__main__":
    main()

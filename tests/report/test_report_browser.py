"""The report in a real browser: drawn, readable in both colour schemes, reached by keyboard, silent.

Chromium is the system's (Debian: chromium); nothing is downloaded, and the page is opened as a file.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from exporter.model.manifest import REPORT_FILE
from exporter.report.page import write_report
from tests.support.datasets import STATISTICS, Dataset, demo_payloads
from tests.support.processes import wait_until

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_CHARTS = {"answers", "outcomes", "latency", "retries", "http", "months", "cities", "days", "status", "items"}
_SCHEMES = ("light", "dark")
_WIDTHS = (360, 800, 1400)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with something in each of its parts."""
    payloads = [
        *demo_payloads(150),
        {**demo_payloads(1)[0], "segment": "x", "amount": "much", "status": "777"},
    ]
    dataset = Dataset(
        payloads=payloads,
        formats=("parquet", "csv"),
        rejects={"not_found": 3, "unavailable": 1},
        statistics=STATISTICS,
    ).write(tmp_path_factory.mktemp("report") / "out")
    write_report(dataset)
    return dataset / REPORT_FILE


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium with a new profile. Not longer than this module: its driver keeps an event loop running."""
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        yield chromium
        chromium.close()


@contextmanager
def opened(
    browser: Any, report: Path, *, scheme: str = "light", width: int = 1400, **settings: Any
) -> Iterator[Any]:
    """Open the report; fail where the page says anything on the console or asks for anything but itself."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, **settings)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url))
    page.goto(report.as_uri())
    yield page
    context.close()
    assert said == [report.as_uri()]


_TEXTS = """plot => {
    const texts = [...plot.querySelectorAll('.label, .amount, .scale span, .ticks span, .mark span')];
    return texts.filter(text => text.getBoundingClientRect().width);
}"""


@pytest.mark.parametrize("width", _WIDTHS)
def test_every_chart_is_drawn_and_fits(browser: Any, report: Path, width: int) -> None:
    """At each width each chart lies inside the page, with bars to see and every label inside its card."""
    with opened(browser, report, width=width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        charts = page.evaluate(
            f"""() => [...document.querySelectorAll('.plot')].map(plot => {{
                const box = plot.getBoundingClientRect(), card = plot.closest('.card').getBoundingClientRect();
                const texts = ({_TEXTS})(plot);
                const inside = text => {{
                    const at = text.getBoundingClientRect();
                    return at.left >= card.left && at.right <= card.right && at.top >= card.top && at.bottom <= card.bottom;
                }};
                return {{
                    card: plot.closest('.card').id, width: box.width, height: box.height, right: box.right,
                    bars: [...plot.querySelectorAll('.track span, .column b')].filter(bar => {{
                        const at = bar.getBoundingClientRect(); return at.width * at.height > 0;
                    }}).length,
                    font: Math.min(...texts.map(text => text.getBoundingClientRect().height)),
                    cut: texts.filter(text => !inside(text)).map(text => text.textContent),
                }};
            }})"""
        )
    assert sorted(chart["card"] for chart in charts) == sorted(_CHARTS)
    for chart in charts:
        assert chart["width"] > 200, chart
        assert chart["height"] > 80, chart
        assert chart["right"] <= width, chart
        assert chart["bars"] > 1, chart
        assert chart["font"] >= 10, chart
        assert chart["cut"] == [], chart


@pytest.mark.parametrize("width", _WIDTHS)
def test_labels_of_a_chart_do_not_cover_each_other(browser: Any, report: Path, width: int) -> None:
    """No two texts of a chart overlap, whatever font the system has."""
    with opened(browser, report, width=width) as page:
        overlaps = page.evaluate(
            f"""() => [...document.querySelectorAll('.plot')].flatMap(plot => {{
                const boxes = ({_TEXTS})(plot).map(text => [text.textContent, text.getBoundingClientRect()]);
                return boxes.flatMap(([name, a], i) => boxes.slice(i + 1).filter(([_, b]) =>
                    a.left + 1 < b.right && b.left + 1 < a.right && a.top + 5 < b.bottom && b.top + 5 < a.bottom
                ).map(([other]) => plot.closest('.card').id + ': ' + name + ' / ' + other));
            }})"""
        )
    assert overlaps == []


@pytest.mark.parametrize("scheme", _SCHEMES)
@pytest.mark.parametrize("width", [360, 1400])
def test_axe_finds_nothing(browser: Any, report: Path, scheme: str, width: int) -> None:
    """axe-core's rules hold, best practices included, with every table of figures opened."""
    with opened(browser, report, scheme=scheme, width=width) as page:
        page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
        results = axe.Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("scheme", _SCHEMES)
def test_charts_have_contrast(browser: Any, report: Path, scheme: str) -> None:
    """In both colour schemes chart texts stand out by 4.5 to 1, and bars and lines by 3 to 1 (WCAG AA)."""
    with opened(browser, report, scheme=scheme) as page:
        used = page.evaluate(
            """() => {
                const card = getComputedStyle(document.querySelector('.card')).backgroundColor;
                const of = (selector, name) => [...new Set([...document.querySelectorAll(selector)]
                    .map(shape => getComputedStyle(shape)[name]))];
                return {card, texts: of('.plot .label, .plot .amount, .plot .scale span, .plot .ticks span', 'color'),
                    bars: of('.track span, .column b', 'backgroundColor'), lines: of('.limit', 'borderTopColor')};
            }"""
        )
    card = _luminance(used["card"])
    assert (card > 0.8) == (scheme == "light")
    assert [colour for colour in used["texts"] if _contrast(_luminance(colour), card) < 4.5] == []
    shapes = [*used["bars"], *used["lines"]]
    assert len(shapes) >= 4
    assert [colour for colour in shapes if _contrast(_luminance(colour), card) < 3] == []


def _luminance(colour: str) -> float:
    """Return the relative luminance of `rgb(r, g, b)`: WCAG 2.2."""
    channels = (int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_the_keyboard_reaches_everything(browser: Any, report: Path) -> None:
    """Tab goes through the skip link, the sections and every table of figures, in order and in sight."""
    with opened(browser, report) as page:
        reached: list[str] = []
        while True:
            page.keyboard.press("Tab")
            focused = page.evaluate(
                """() => {
                    const at = document.activeElement, box = at.getBoundingClientRect();
                    return at === document.body ? null : [at.tagName + ': ' + (at.getAttribute('aria-label') || at.textContent),
                        getComputedStyle(at).outlineStyle, box.width * box.height, box.top + scrollY];
                }"""
            )
            if focused is None or focused[0] in reached:
                break
            name, outline, area, _ = focused
            assert (outline, area > 0) == ("solid", True), focused
            reached.append(name)
        expected = page.evaluate(
            """() => [...document.querySelectorAll('a, summary, [tabindex="0"]')]
                .filter(at => at.checkVisibility() && at.getBoundingClientRect().height)
                .map(at => at.tagName + ': ' + (at.getAttribute('aria-label') || at.textContent))"""
        )
    assert reached == expected
    assert reached[0] == "A: Skip to the figures"
    assert sum(name.startswith("SUMMARY") for name in reached) == 12


def test_enter_opens_figures_and_skips(browser: Any, report: Path) -> None:
    """Enter opens a table of figures, which then can be scrolled; the skip link goes past the opening."""
    with opened(browser, report) as page:
        page.locator("#days-figures summary").focus()
        page.keyboard.press("Enter")
        assert page.locator("#days-figures table").is_visible()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "scroll"
        page.keyboard.press("End")
        # Not wait_for_function: it evaluates text in the page, which the policy forbids.
        wait_until(lambda: page.evaluate("document.activeElement.scrollTop") > 0)
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        page.locator(".skip").focus()
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"


def test_a_screen_reader_gets_each_chart_in_words(browser: Any, report: Path) -> None:
    """Each chart has a name, a description and a table with headings; headings go down by one; landmarks are there."""
    with opened(browser, report) as page:
        tree = page.locator("body").aria_snapshot()
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll('[aria-labelledby], [aria-describedby]')].flatMap(at =>
                ['aria-labelledby', 'aria-describedby'].map(name => at.getAttribute(name)).filter(
                    id => id && !(document.getElementById(id) || {}).textContent))"""
        )
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(at => at.id)")
        tables = page.locator("[id$='-figures'] table").count()
    for named in (
        'img "Answers a second"',
        'img "Latency"',
        'img "Orders by status"',
        "banner",
        "main",
        "contentinfo",
    ):
        assert named in tree
    assert unnamed == []
    assert len(ids) == len(set(ids))
    assert tables == len(_CHARTS)
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_words_are_found_in_the_page(browser: Any, report: Path) -> None:
    """What an analyst looks for is there, in the charts too."""
    with opened(browser, report) as page:
        assert page.title() == "151 of 155 orders exported – export report"
        for words in ("550 delivered", "777", "p95", "rejected: not found", "TRY", "segment", "orders.csv"):
            assert page.get_by_text(words).locator("visible=true").count() > 0, words


def test_motion_is_spared(browser: Any, report: Path) -> None:
    """Who asks for less motion gets no smooth scrolling."""
    with opened(browser, report, reduced_motion="reduce") as page:
        assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_the_policy_holds(browser: Any, report: Path, tmp_path: Path) -> None:
    """Were an image or a script to slip into the page, the browser would refuse to load it."""
    spoilt = tmp_path / "spoilt.html"
    slipped = '<img src="http://127.0.0.1:9/x.png"><script>document.title = "run"</script></main>'
    spoilt.write_text(report.read_text("utf-8").replace("</main>", slipped), "utf-8")
    page = browser.new_page()
    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(f"{request.url} {request.failure}"))
    page.goto(spoilt.as_uri())
    assert "exported" in page.title()
    assert failed == ["http://127.0.0.1:9/x.png csp"]
    page.close()

"""The page: its head with the key figures, its sections, its style."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import PurePath
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

from exporter.model.manifest import Manifest
from exporter.model.outside_text import visible
from exporter.model.units import size_text
from exporter.report.cards import Table, card, table_of
from exporter.report.data_figures import DataFigures
from exporter.report.data_section import data_cards
from exporter.report.figure_texts import (
    counted,
    currency_name,
    duration,
    moment,
    money,
    number,
    percent,
    short,
)
from exporter.report.html_elements import h, html
from exporter.report.run_figures import RunFigures
from exporter.report.run_section import run_cards

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def page(manifest: Manifest, run: RunFigures, data: DataFigures) -> bytes:
    """Return the page about one dataset.

    Args:
        manifest: The dataset's manifest.
        run: What the run was like.
        data: What the data looks like.
    """
    root = h("html", _head(manifest), _body(manifest, run, data), lang="en")
    return f"<!doctype html>\n{html(root)}\n".encode("utf-8", "replace")


def _head(manifest: Manifest) -> Element:
    return h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("meta", name="referrer", content="no-referrer"),
        h("title", f"{_headline(manifest)} – export report"),
        # A page without an icon of its own makes some browsers ask for one.
        h("link", rel="icon", href="data:,"),
        h("style", files(__package__).joinpath("style.css").read_text("utf-8")),
    )


def _body(manifest: Manifest, run: RunFigures, data: DataFigures) -> Element:
    sections = (
        ("data", "The data", data_cards(data, manifest.drift, manifest.changes)),
        ("run", "The run", run_cards(manifest, run)),
        ("origin", "Origin and files", [_origin_card(manifest), _files_card(manifest)]),
    )
    return h(
        "body",
        h("a", "Skip to the figures", href="#main", class_="skip"),
        h(
            "header",
            *_opening(manifest, run, data),
            _navigation((name, title) for name, title, _ in sections),
        ),
        h(
            "main",
            *(_section(name, title, cards) for name, title, cards in sections),
            id="main",
            tabindex="-1",
        ),
        h("footer", h("p", _closing(manifest))),
    )


def _section(name: str, title: str, cards: Iterable[Element]) -> Element:
    return h(
        "section",
        h("h2", title, id=f"{name}-heading"),
        h("div", *cards, class_="cards"),
        id=name,
        aria_labelledby=f"{name}-heading",
    )


# --- the opening ---


def _opening(manifest: Manifest, run: RunFigures, data: DataFigures) -> list[Element]:
    host = urlsplit(manifest.api_url).netloc.rpartition("@")[2]
    return [
        h("p", "Export report", class_="eyebrow"),
        h("h1", _headline(manifest)),
        h("p", f"From {visible(host)}, begun on {moment(manifest.started_at)}.", class_="lead"),
        h("dl", *_key_figures(manifest, run, data), class_="keys"),
    ]


def _headline(manifest: Manifest) -> str:
    counts = manifest.counts
    if counts.exported == counts.requested:
        return f"{counted(counts.exported, 'order')} exported"
    return f"{number(counts.exported)} of {counted(counts.requested, 'order')} exported"


def _key_figures(manifest: Manifest, run: RunFigures, data: DataFigures) -> Iterator[Element]:
    counts, requests = manifest.counts, manifest.requests
    share = f"{percent(counts.exported, counts.requested)} of {number(counts.requested)} requested"
    yield _key("Exported", number(counts.exported), share, "good")
    yield _key(
        "Rejected", number(manifest.rejects), _rejects(manifest), "bad" if manifest.rejects else "good"
    )
    mean = f"{counts.order_items / counts.exported:.2f} an order" if counts.exported else "no orders"
    yield _key("Items", number(counts.order_items), mean)
    yield _key("Net revenue", *_net(data))
    yield _key("Duration", duration(manifest.duration_s), "from the run's start to its end")
    yield _key("Requests", number(requests.sent), _rate_used(run))


def _rejects(manifest: Manifest) -> str:
    invalid = manifest.rejects - manifest.counts.rejected
    if invalid:
        return f"{counted(manifest.counts.rejected, 'order')}, {counted(invalid, 'invalid line')}"
    return "listed in rejects.jsonl" if manifest.rejects else "every line has its row"


def _net(data: DataFigures) -> tuple[str, str]:
    if not data.by_currency:
        return "unknown", "amounts were not written" if data.by_currency is None else "no orders"
    (currency, sums), *others = data.by_currency.items()
    more = f", {counted(len(others), 'more currency', 'more currencies')}" if others else ""
    return short(sums.net), f"{currency_name(currency)}, after {money(sums.refunds)} of refunds{more}"


def _rate_used(run: RunFigures) -> str:
    if run.timeline is None:
        return "nothing was asked"
    if run.timeline.used is None:
        return f"{number(run.timeline.mean)} answers a second, no limit"
    return f"{percent(run.timeline.used, 1)} of the permitted rate used"


def _key(name: str, value: str, note: str, mood: str = "") -> Element:
    return h(
        "div",
        h("dt", name),
        h("dd", value, class_="value"),
        h("dd", note, class_="note"),
        class_=f"key {mood}".strip(),
    )


def _navigation(sections: Iterable[tuple[str, str]]) -> Element:
    links = (h("li", h("a", title, href=f"#{name}")) for name, title in sections)
    return h("nav", h("ul", *links), aria_label="Sections")


# --- origin and files ---


def _origin_card(manifest: Manifest) -> Element:
    given = manifest.input
    # The folders above the file are the machine's own business, and may name a person.
    name = visible(PurePath(given.path.replace("\\", "/")).name or given.path)
    rows = [
        ("Lines", number(given.lines)),
        ("Blank", number(given.blank)),
        ("Invalid", number(given.invalid)),
        ("Duplicates", number(given.duplicates)),
        ("Order numbers requested", number(manifest.counts.requested)),
    ]
    table = Table(caption="lines of the input file", head=("Of the input", "Count"), rows=rows)
    return card("input", "Input", table_of(table), summary=f"Order numbers were read from {name}.")


def _files_card(manifest: Manifest) -> Element:
    rows = [
        (h("code", visible(part.path)), number(part.rows), size_text(part.bytes))
        for table in manifest.tables.values()
        for part in table.files
    ]
    table = Table(caption="files of the dataset", head=("File", "Rows", "Size"), rows=rows)
    return card(
        "files",
        "Files",
        table_of(table),
        summary="manifest.json has their digests; exporter verify checks them.",
    )


def _closing(manifest: Manifest) -> str:
    return (
        f"Run {visible(manifest.run_id)}, ended on {moment(manifest.finished_at)}, made by omnitron-exporter"
        f" {visible(manifest.exporter_version)}. This page holds counts, sums, codes and column names, no personal data."
    )

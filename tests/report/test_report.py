"""The report tells what the dataset and its manifest hold, and nothing about a person."""

from __future__ import annotations

import asyncio
import html
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from exporter.demo.orders import order_payload
from exporter.model.catalog import ORDER_ITEMS, ORDERS
from exporter.model.errors import ExporterError, InputError, StorageError
from exporter.model.manifest import MANIFEST_FILE, REPORT_FILE, decode
from exporter.model.run_statistics import Statistics
from exporter.report.bars import steps
from exporter.report.data_figures import DataFigures, data_figures
from exporter.report.page import write_report
from exporter.report.report_process import write_report_apart
from exporter.report.run_figures import Latency, run_figures
from tests.support.datasets import STATISTICS, Dataset, demo_payloads
from tests.support.processes import ROOT, Exporter

PAYLOADS = demo_payloads(120)


def figures_of(dataset: Path) -> DataFigures:
    return data_figures(dataset, decode((dataset / MANIFEST_FILE).read_bytes(), "manifest"))


def page_of(dataset: Path) -> str:
    write_report(dataset)
    return (dataset / REPORT_FILE).read_text("utf-8")


def words_of(page: str) -> str:
    """Return the page's text without its style, each run of white space as one space."""
    page = re.sub(r"<style>.*?</style>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


# --- the figures of the data ---


def test_the_figures_are_those_of_the_payloads(tmp_path: Path) -> None:
    """Days, statuses, exact sums, item counts and null shares equal what Python finds in the payloads."""
    figures = figures_of(Dataset(payloads=PAYLOADS).write(tmp_path / "out"))
    days = Counter(datetime.fromisoformat(p["date_placed"]).astimezone(UTC).date() for p in PAYLOADS)
    sums: Counter[str] = Counter()
    for payload in PAYLOADS:
        sums[payload["currency"]] += Decimal(payload["amount"])  # type: ignore[assignment]
    assert figures.by_day == dict(days)
    assert figures.by_status == dict(Counter(p["status"] for p in PAYLOADS))
    assert {currency: money.gross for currency, money in figures.by_currency.items()} == dict(sums)
    assert figures.by_items == dict(Counter(len(p["orderitem_set"]) for p in PAYLOADS))
    nulls = {column.name: column.nulls for column in figures.nulls["orders"]}
    assert nulls["tracking_number"] == sum(p["tracking_number"] is None for p in PAYLOADS)
    assert nulls["invoice_number"] == 0  # the empty text is no null


@pytest.mark.parametrize(
    "form",
    [
        {"rows_per_file": 7},
        {"formats": ("csv",)},
        {"formats": ("csv",), "csv_dialect": "excel"},
        {"formats": ("csv",), "rows_per_file": 50},
        {"formats": ("csv", "parquet")},
    ],
    ids=str,
)
def test_every_form_of_a_dataset_gives_the_same_figures(tmp_path: Path, form: dict[str, Any]) -> None:
    """Part files, CSV alone, CSV for spreadsheets and both formats tell the same as one Parquet file."""
    plain = Dataset(payloads=PAYLOADS).write(tmp_path / "plain")
    other = Dataset(payloads=PAYLOADS, **form).write(tmp_path / "other")
    assert figures_of(other) == figures_of(plain)


def test_a_cell_longer_than_a_block_is_read(tmp_path: Path) -> None:
    """A CSV record of some megabytes, amid others, is read once, whatever the size of a block."""
    long = {**PAYLOADS[0], "extra_field": {"text": "x" * 9_000_000}}
    payloads = [*PAYLOADS[:40], long, *PAYLOADS[40:]]
    figures = figures_of(Dataset(payloads=payloads, formats=("csv",)).write(tmp_path / "out"))
    assert sum(figures.by_status.values()) == len(payloads)
    assert ("id", False, 0) in figures.nulls["orders"]


def test_sums_are_exact(tmp_path: Path) -> None:
    """Amounts that no double holds are added to the last digit."""
    payloads = [{**PAYLOADS[n], "currency": "try", "amount": "1234567890123456.7891"} for n in range(7)]
    (total,) = figures_of(Dataset(payloads=payloads).write(tmp_path / "out")).by_currency.values()
    assert total.gross == Decimal("8641975230864197.5237")
    assert "8,641,975,230,864,197.5237" in words_of(page_of(tmp_path / "out"))


def test_net_leaves_out_what_is_no_sale(tmp_path: Path) -> None:
    """Cancelled, unpaid and refunded orders count for nothing; refunds are taken from the others; each by month."""
    orders = [
        ("550", "100.00", "30.00", "2026-01-31T22:30:00Z"),  # in Istanbul it is February
        ("400", "50.00", None, "2026-02-10T10:00:00Z"),
        ("100", "900.00", "0.00", "2026-02-11T10:00:00Z"),
        ("600", "70.00", "70.00", "2026-02-12T10:00:00Z"),
    ]
    keys = ("status", "amount", "refund_amount", "date_placed")
    payloads = [
        {**PAYLOADS[at], "currency": "try", **dict(zip(keys, order, strict=True))}
        for at, order in enumerate(orders)
    ]
    figures = figures_of(Dataset(payloads=payloads).write(tmp_path / "out"))
    assert figures.by_currency == {"try": (4, Decimal(1120), Decimal(100), Decimal(120))}
    assert {key: money.net for key, money in figures.by_month.items()} == {
        ("try", date(2026, 1, 1)): Decimal(70),
        ("try", date(2026, 2, 1)): Decimal(50),
    }
    assert figures.of_status["try", "100"] == (1, Decimal(900), Decimal(0), Decimal(0))
    assert "120.00" in words_of(page_of(tmp_path / "out"))


@pytest.mark.parametrize(
    "words", [(), ("--format", "csv"), ("--format", "csv", "--csv-dialect", "excel")], ids=str
)
@pytest.mark.parametrize("tables", ["orders,order_items", "order_lines"])
def test_days_are_those_of_the_zone_whatever_the_form(
    exporter: Exporter, words: tuple[str, ...], tables: str
) -> None:
    """Every format, and order lines alone, give the days of --timezone, the same sums and items an order."""
    assert exporter.run("--timezone", "Pacific/Kiritimati", "--tables", tables, *words).code == 0
    figures = figures_of(exporter.cwd / "out")
    payloads = [order_payload(number) for number in (exporter.cwd / "numbers.txt").read_text().split()]
    zone = ZoneInfo("Pacific/Kiritimati")
    assert figures.by_day == dict(
        Counter(datetime.fromisoformat(p["date_placed"]).astimezone(zone).date() for p in payloads)
    )
    assert figures.by_items == dict(Counter(len(p["orderitem_set"]) for p in payloads))
    assert figures.by_currency["try"].gross == sum(Decimal(p["amount"]) for p in payloads)
    assert "(Pacific/Kiritimati)" in words_of(page_of(exporter.cwd / "out"))


def test_a_tie_is_told_as_one(tmp_path: Path) -> None:
    """Two statuses, days or cities with the same count share the first place."""
    payloads = [{**PAYLOADS[at], "status": code} for at, code in enumerate(["550", "400", "550", "400"])]
    words = words_of(page_of(Dataset(payloads=payloads).write(tmp_path / "out")))
    assert "2 statuses; 400 approved and 550 delivered tie for the most: 50.0 % each." in words


def test_a_workbook_alone_is_said(exporter: Exporter) -> None:
    """Where no table can be read, the page says so instead of showing zeros."""
    assert exporter.run("--format", "xlsx").code == 0
    assert "The dataset has only a workbook" in words_of(page_of(exporter.cwd / "out"))


def test_codes_pass_and_text_does_not(tmp_path: Path) -> None:
    """An unknown status code is shown as it is; text that could be anything is only counted."""
    values = ["550", "777", "on_hold", "Örnekcan Uydurmaoğlu", "a@example.com", None, ""]
    payloads = [{**PAYLOADS[at], "status": value} for at, value in enumerate(values)]
    words = words_of(page_of(Dataset(payloads=payloads).write(tmp_path / "out")))
    for shown in ("550 delivered", "777", "on_hold", "no status", "text that is no code"):
        assert shown in words
    assert "Örnekcan" not in words
    assert "a@example" not in words


def test_many_codes_are_counted_in_bounded_memory(tmp_path: Path) -> None:
    """Past a thousand different codes the rest are counted together, none is lost."""
    payloads = [{**PAYLOADS[at % 120], "status": f"s{at}"} for at in range(1500)]
    figures = figures_of(Dataset(payloads=payloads).write(tmp_path / "out"))
    assert (len(figures.by_status), sum(figures.by_status.values())) == (1001, 1500)
    assert "988 others" in page_of(tmp_path / "out")


@pytest.mark.parametrize(
    ("day", "unit"),
    [("2026-03-01", "day"), ("2026-12-31", "week"), ("2030-01-01", "month"), ("9999-12-31", "year")],
)
def test_a_chart_of_any_span_has_steps_without_gaps(day: str, unit: str) -> None:
    """Days become weeks, months or years as the span grows, and every order is in one of them."""
    unit_shown, counts = steps({date(2026, 1, 15): 2, date.fromisoformat(day): 3})
    assert (unit_shown, sum(counts.values())) == (unit, 5)
    assert (next(iter(counts.values())), next(reversed(counts.values()))) == (2, 3)


def test_the_first_and_the_last_day_there_is_can_be_shown() -> None:
    """The calendar's ends break nothing."""
    for days in ((date.min, date(1, 2, 20)), (date(9999, 6, 1), date.max), (date.min, date.max)):
        assert sum(steps(dict.fromkeys(days, 1))[1].values()) == 2


# --- the figures of the run ---


def test_a_pause_is_told_once() -> None:
    """Answers that tell of one pause, or of one that touches it, make one; a later one is another."""
    now = 100.0
    statistics = Statistics(lambda: now)
    for now, seconds in ((103.1, 1.5), (103.2, 1.6), (103.3, 0.2), (104.8, 1.0), (110.0, 2.0)):  # noqa: B007 - read by the clock
        statistics.paused(seconds, "429")
    told = [(pause["at_s"], pause["seconds"]) for pause in statistics.as_dict()["pauses"]]
    assert told == [(3.1, 2.7), (10.0, 2.0)]


def test_the_rate_is_that_of_whole_steps() -> None:
    """The last step, cut short, does not count as slow."""
    timeline = run_figures(STATISTICS)
    assert timeline.used == pytest.approx(648 / 668)
    assert [timeline.mean, timeline.mean_permitted] == pytest.approx([648 / 19, 668 / 19])


@pytest.mark.parametrize("most", [1, 3, 7, 19, 20, 500])
def test_a_coarser_timeline_keeps_its_answers(most: int) -> None:
    """However few steps a chart has room for, none of the steps but the last is longer than it says."""
    timeline = run_figures(STATISTICS)
    coarse = list(timeline.steps(most))
    assert len(coarse) <= most
    length_s = max(1, -(-(timeline.step_s * len(timeline.answers)) // most))
    assert [step.at_s for step in coarse] == [place * length_s for place in range(len(coarse))]
    assert coarse[-1].at_s + length_s >= (timeline.step_s * len(timeline.answers))


def test_quantiles_lie_in_their_bucket() -> None:
    """p50, p95 and p99 are interpolated within the bucket in which that request was counted."""
    latency = Latency(edges=[10, 20, 50], counts=[10, 80, 9, 1])
    assert latency.quantile(0.5) == 15.0
    assert latency.quantile(0.95) == pytest.approx(20 + 30 * 5 / 9)
    assert latency.quantile(1.0) == 50  # in the open bucket: no more than its edge is known
    assert Latency().quantile(0.5) is None


def test_only_what_was_worth_repeating_is_a_cause_of_retries() -> None:
    """404 is a verdict, not a cause of retries; names are short."""
    assert run_figures(STATISTICS).causes == {
        "HTTP 502": 30,
        "The connection was closed before an answer came": 10,
        "HTTP 429, too many requests": 9,
    }


@pytest.mark.parametrize("statistics", [{}, {"answers": "many"}, {"latency_ms": {"edges": [1]}}])
def test_a_manifest_without_statistics_makes_a_page(tmp_path: Path, statistics: dict[str, Any]) -> None:
    """A run that asked nothing, or another version's statistics, leave a sentence instead of a chart."""
    dataset = Dataset(payloads=PAYLOADS[:3], statistics=statistics).write(tmp_path / "out")
    assert "No requests in this try: the store already had every order." in words_of(page_of(dataset))


# --- the page ---


def test_the_page_tells_the_figures_in_words(tmp_path: Path) -> None:
    """Without a single chart a reader learns what there is to know."""
    dataset = Dataset(
        payloads=PAYLOADS,
        rejects={"not_found": 3, "unavailable": 1, "invalid_order_number": 2},
        statistics=STATISTICS,
    ).write(tmp_path / "out")
    words = words_of(page_of(dataset))
    for told in (
        "120 of 124 orders exported",
        "96.8 % of 124 requested",
        "4 orders, 2 invalid lines",
        "20 s",
        "From shop.example.com, started on 23 November 2026, 18:30 UTC.",
        "1 pause of the whole run, 1.7 s in all.",
        "(p50)",
        "These are estimates",
        "40 requests repeated after a failure, 9 answered 429 (too many requests).",
        "rejected: not found",
        "550 delivered",
        "TRY",
        "orders.parquet",
        "None: every value of every order fitted its column.",
        "Order numbers were read from orders.txt.",
    ):
        assert told in words
    assert "somebody" not in words  # the folders above the input file


def test_no_person_is_in_the_page(tmp_path: Path) -> None:
    """No value of a personal column, and no order number, stands anywhere in the file."""
    page = page_of(Dataset(payloads=PAYLOADS, statistics=STATISTICS).write(tmp_path / "out"))
    personal = {value for payload in PAYLOADS for value in _personal_values(payload)}
    assert len(personal) > 300
    assert [value for value in personal if value in page] == []


def _personal_values(payload: dict[str, Any]) -> Iterator[str]:
    yield payload["number"]
    for column in ORDERS:
        value: Any = payload
        for key in column.path:
            value = (value or {}).get(key)
        if column.personal and isinstance(value, str) and len(value) > 3:
            yield value
    links = {column.path[0] for column in ORDER_ITEMS if column.personal}
    yield from (item[key] for item in payload["orderitem_set"] for key in links if item.get(key))


def test_what_comes_from_the_api_is_text(tmp_path: Path) -> None:
    """Keys of the API that look like HTML, or hide what they are, are shown as what they are."""
    keys = {
        "</style><script>alert(1)</script>": 2,
        "a.b\"'><img src=x>": 1,
        "rtl\u202eoverride\x00": 1,
        "": 4,
    }
    payloads = [{**PAYLOADS[0], "currency": "<b>", "status": "<i>x"}]
    page = page_of(Dataset(payloads=payloads, unmapped=keys, statistics=STATISTICS).write(tmp_path / "out"))
    assert "<script" not in page
    assert "<img" not in page
    assert "\u202e" not in page
    words = words_of(page)
    for shown in ("</style><script>alert(1)</script>", "rtl\\u202eoverride\\u0000", "(the item itself)"):
        assert shown in words


def test_drift_is_listed_the_most_frequent_first(tmp_path: Path) -> None:
    """Undeclared paths and values that did not fit stand with their counts; a flood of them is cut."""
    payloads = [{**PAYLOADS[at], "segment": "a", "amount": "much" if at else "5.00"} for at in range(3)]
    flood = {f"key{at}": 1 for at in range(150)}
    words = words_of(page_of(Dataset(payloads=payloads, unmapped=flood).write(tmp_path / "out")))
    assert "152 paths of the API fitted no column" in words
    assert words.index("segment it has no column 3") < words.index("amount does not fit its column's type 2")
    assert "The manifest lists all 152." in words


@pytest.mark.parametrize("formats", [("parquet",), ("csv",)])
def test_an_empty_dataset_makes_a_page(tmp_path: Path, formats: tuple[Any, ...]) -> None:
    """No order exported is a result like any other."""
    dataset = Dataset(payloads=[], formats=formats, rejects={"not_found": 2}).write(tmp_path / "out")
    words = words_of(page_of(dataset))
    assert "0 of 2 orders exported" in words
    assert words.count("There are no orders in this dataset.") == 6


@pytest.mark.parametrize("formats", [("parquet",), ("csv",)])
def test_columns_that_were_not_written_are_named(tmp_path: Path, formats: tuple[Any, ...]) -> None:
    """--select and --drop leave sections that say what is missing."""
    dataset = Dataset(payloads=PAYLOADS, formats=formats, select=("product_sku",)).write(tmp_path / "out")
    words = words_of(page_of(dataset))
    for told in (
        "date_placed was not selected",
        "status was not selected",
        "currency and amount were not both",
    ):
        assert told in words
    assert "items an order on average" in words


def test_dropped_personal_columns_are_told(tmp_path: Path) -> None:
    """--pii drop shows as what it is, not as data that is missing."""
    dataset = Dataset(payloads=PAYLOADS, pii="drop").write(tmp_path / "out")
    assert "All personal columns are empty, as --pii drop leaves them." in words_of(page_of(dataset))


def test_the_page_is_one_file_without_script(tmp_path: Path) -> None:
    """It refers to nothing outside itself, forbids the network, and stays small."""
    page = page_of(Dataset(payloads=PAYLOADS, statistics=STATISTICS).write(tmp_path / "out"))
    assert "default-src 'none'" in page
    assert re.findall(r"(?:src|href|action)=\"(?!#|data:,)[^\"]*", page) == []
    assert re.findall(r"https?:|//[a-z]|@import|url\(", page) == []
    assert "<script" not in page
    assert len(page) < 250_000


def test_the_same_dataset_gives_the_same_page(tmp_path: Path) -> None:
    """Made again it is the same, byte for byte."""
    dataset = Dataset(payloads=PAYLOADS, statistics=STATISTICS).write(tmp_path / "out")
    assert page_of(dataset) == page_of(dataset)


# --- the command ---


def test_the_report_of_a_real_run_is_made_later(exporter: Exporter) -> None:
    """`exporter report OUT` writes the page beside a real dataset, which stays what its manifest says."""
    assert exporter.run("--format", "csv").code == 0
    ended = exporter("report", "out")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"{Path('out') / REPORT_FILE}\n"
    assert "60 orders exported" in words_of((exporter.cwd / "out" / REPORT_FILE).read_text("utf-8"))
    assert exporter("verify", "out").code == 0


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    """A folder without a manifest, and no folder at all, are usage errors that say what to give."""
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match=r"expected a finished dataset with its manifest\.json"):
            write_report(folder)


@pytest.mark.parametrize("spoilt", ["removed", "cut"])
def test_a_damaged_dataset_is_a_storage_error(tmp_path: Path, spoilt: str) -> None:
    """A file that is missing or no Parquet is named, and a report that stood there stays."""
    dataset = Dataset(payloads=PAYLOADS[:5]).write(tmp_path / "out")
    before = page_of(dataset)
    file = dataset / "orders.parquet"
    file.unlink() if spoilt == "removed" else file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(StorageError, match=r"orders\.parquet"):
        write_report(dataset)
    assert (dataset / REPORT_FILE).read_text("utf-8") == before
    assert sorted(path.name for path in dataset.iterdir() if path.name.startswith(".")) == []


# --- the process of its own ---


def test_a_process_of_its_own_writes_the_same_page(tmp_path: Path) -> None:
    """The fetching process gets the page without importing pyarrow."""
    dataset = Dataset(payloads=PAYLOADS, statistics=STATISTICS).write(tmp_path / "out")
    script = (
        "import asyncio, sys; from pathlib import Path; from exporter.report.report_process import write_report_apart\n"
        "asyncio.run(write_report_apart(Path(sys.argv[1])))\n"
        "print([name for name in ('pyarrow', 'numpy') if name in sys.modules])\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        [sys.executable, "-c", script, str(dataset)], env=env, capture_output=True, text=True, check=False
    )
    assert (told.stdout, told.stderr) == ("[]\n", "")
    apart = (dataset / REPORT_FILE).read_text("utf-8")
    assert apart == page_of(dataset)


def test_an_error_crosses_from_the_process(tmp_path: Path) -> None:
    """What the process raises is raised here, as the same type with the same words."""
    with pytest.raises(InputError) as raised:
        asyncio.run(write_report_apart(tmp_path))
    with pytest.raises(ExporterError) as expected:
        write_report(tmp_path)
    assert (str(raised.value), raised.value.exit_code) == (str(expected.value), expected.value.exit_code)


def test_the_manifest_is_not_touched(tmp_path: Path) -> None:
    """The report is the only file that is new."""
    dataset = Dataset(payloads=PAYLOADS[:3]).write(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in dataset.iterdir()}
    write_report(dataset)
    after = {path.name: path.read_bytes() for path in dataset.iterdir()}
    assert after.pop(REPORT_FILE)
    assert after == before
    assert json.loads(before[MANIFEST_FILE])["run_id"] == "0123456789abcdef"

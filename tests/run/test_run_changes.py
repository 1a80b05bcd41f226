"""`run --changes`: each night's dataset says what changed since the one before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from exporter.dataset.changes.change_schema import CHANGES_SCHEMA
from tests.cli.test_metrics import metrics
from tests.support.processes import Api, Exporter


def ask_for(exporter: Exporter, numbers: list[str]) -> None:
    (exporter.cwd / "numbers.txt").write_text("".join(f"{number}\n" for number in numbers))


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
    return found


@pytest.fixture
def nights(exporter: Exporter, api: Api) -> Exporter:
    """Two nights: the second one does not ask for the first order, and asks for one more and one that is not there."""
    pattern = "nightly/{date}-{time}"
    assert exporter.run("--changes", out=pattern, TZ="UTC0").code == 0
    ask_for(exporter, [*api.numbers[1:61], "missing-1"])
    ended = exporter.run("--changes", "--json", "--metrics-file", "x.prom", out=pattern, TZ="UTC-1")
    assert ended.code == 3, ended.err
    (exporter.cwd / "summary.json").write_text(ended.out)
    return exporter


def test_status_of_a_comparison_says_what_changed(nights: Exporter) -> None:
    """It has no orders of its own, so none are counted."""
    old, new = sorted((nights.cwd / "nightly").iterdir())
    compared = nights("changes", old, new, "--out", "changes")
    assert compared.code == 0, compared.err
    said = nights("status", "changes").out
    assert "0 of 0" not in said
    assert f"Changed since {old}, of 59 orders in both" in said


def test_the_second_night_says_what_changed_since_the_first(nights: Exporter, api: Api) -> None:
    """The changes are inside the new dataset, named by its manifest; summary and metrics have the same counts."""
    first, second = sorted(
        (nights.cwd / "nightly").iterdir(), key=lambda path: manifest_of(path)["finished_at"]
    )
    table = pq.read_table(second / "changes.parquet")
    assert table.schema.equals(CHANGES_SCHEMA)
    assert table.select(["order_number", "change"]).to_pylist() == [
        {"order_number": api.numbers[60], "change": "new"}
    ]
    changes = manifest_of(second)["changes"]
    assert changes["compared_with"]["place"] == str(first)
    assert (changes["new"], changes["changed"], changes["not_compared"]) == (1, 0, 1)
    assert json.loads((nights.cwd / "summary.json").read_text())["changes"] == changes
    told = metrics(nights.cwd / "x.prom")
    assert (told["changes{new}"], told["changes{gone}"], told["changes{not_compared}"]) == (1, 0, 1)
    assert nights("verify", second).code == 0


def test_a_first_night_has_an_empty_table(exporter: Exporter) -> None:
    """No earlier dataset: an empty file of the right schema, and a word."""
    ended = exporter.run("--changes", "--format", "parquet,csv")
    assert (ended.code, "No earlier dataset to compare with" in ended.out) == (0, True)
    assert pq.read_table(exporter.cwd / "out" / "changes.parquet").equals(CHANGES_SCHEMA.empty_table())
    assert (exporter.cwd / "out" / "changes.csv").read_text().startswith('"order_number"')
    assert manifest_of(exporter.cwd / "out")["changes"]["compared_with"] is None


def test_a_fixed_name_compares_with_what_it_replaces(exporter: Exporter, api: Api) -> None:
    """`--overwrite` compares with the very dataset whose place it takes."""
    assert exporter.run("--changes").code == 0
    ask_for(exporter, list(api.numbers[:61]))
    ended = exporter.run("--changes", "--overwrite", "--json")
    assert (ended.code, ended.summary["changes"]["new"], ended.summary["changes"]["compared"]) == (0, 1, 60)


def test_a_dataset_before_that_is_damaged_keeps_no_data_from_its_readers(exporter: Exporter) -> None:
    """What cannot be compared is said; the night is published all the same."""
    assert exporter.run(out="nightly/{date}-{time}", TZ="UTC0").code == 0
    (old,) = (exporter.cwd / "nightly").iterdir()
    (old / "orders.parquet").write_bytes(b"")
    ended = exporter.run("--changes", "--json", out="nightly/{date}-{time}", TZ="UTC-1")
    assert (ended.code, ended.summary["changes"]) == (0, None)
    assert "without its changes" in ended.err

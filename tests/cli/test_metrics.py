"""`--metrics-file`: how the last run ended, for Prometheus, also when it failed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import Exporter

pytestmark = pytest.mark.fast

PREFIX = "omnitron_exporter_"


def metrics(path: Path) -> dict[str, float]:
    """Return the file's samples, as Prometheus' own parser reads them: name, or name{label's value}."""
    samples = {}
    for family in text_string_to_metric_families(path.read_text()):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            label = "".join(f"{{{value}}}" for value in sample.labels.values())
            samples[sample.name.removeprefix(PREFIX) + label] = sample.value
    return samples


def test_a_run_that_succeeds_and_then_fails(exporter: Exporter) -> None:
    """Success writes counts and times; a failure afterwards its exit code, and keeps the last success."""
    began = time.time()
    with (exporter.cwd / "numbers.txt").open("a") as file:
        file.write("missing-1\nnot one\n")
    path = exporter.cwd / "exporter.prom"
    assert exporter.run("--metrics-file", path).code == 3
    good = metrics(path)
    assert began < good["last_success_timestamp_seconds"] == good["last_run_timestamp_seconds"] < time.time()
    assert 0 < good["last_run_duration_seconds"] < 60
    assert (good["last_run_success"], good["last_run_exit_code"]) == (1, 3)
    assert (good["orders_requested"], good["orders_exported"]) == (61, 60)
    assert (good["rejects{not_found}"], good["rejects{invalid_order_number}"]) == (1, 1)
    # The last line's 404 is proven by one request for an order that is known to be good.
    assert good["requests{sent}"] == 62
    assert (good["responses{200}"], good["responses{404}"]) == (61, 1)
    assert good["dataset_bytes"] > 0
    assert path.stat().st_mode & 0o777 == 0o644

    assert exporter.run("--metrics-file", path).code == 2
    bad = metrics(path)
    assert (bad["last_run_success"], bad["last_run_exit_code"]) == (0, 2)
    assert bad["last_success_timestamp_seconds"] == good["last_success_timestamp_seconds"]
    assert bad["last_run_timestamp_seconds"] > good["last_run_timestamp_seconds"]
    assert "orders_exported" not in bad
    assert [entry.name for entry in exporter.cwd.glob(".*")] == []


def test_a_first_run_that_fails_has_no_success(exporter: Exporter) -> None:
    """Without a former file there is no last success; a foreign file in its place is replaced."""
    path = exporter.cwd / "exporter.prom"
    path.write_text("{ this is no metrics file")
    assert exporter.run("--rate", "often", "--metrics-file", path).code == 2
    assert "last_success_timestamp_seconds" not in metrics(path)


def test_a_file_that_cannot_be_written_is_told(exporter: Exporter) -> None:
    """The run's own failure is told first; after a success the file's is exit 7, and the dataset stands."""
    nowhere = exporter.cwd / "nowhere" / "exporter.prom"
    exporter.run("--rate", "often", "--metrics-file", nowhere).said(2, "--rate")
    ended = exporter.run("--metrics-file", nowhere, "--json")
    ended.said(7, str(nowhere), "writing the metrics", "The dataset stands")
    assert ended.summary["exported"] == 60  # the one object on stdout
    assert (exporter.cwd / "out" / "manifest.json").exists()


def test_a_directory_is_refused_before_anything_is_asked_for(exporter: Exporter) -> None:
    """The folder where the file should go in place of the file is exit 2, not a bug after the run."""
    exporter.run("--metrics-file", exporter.cwd).said(2, "--metrics-file", "got a directory")
    assert not (exporter.cwd / "out").exists()

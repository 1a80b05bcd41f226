"""`--metrics-file`: how the last run ended, for Prometheus, also when it failed."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.cli import metrics_file
from tests.cli.test_display import HALFWAY
from tests.support.processes import Exporter, wait_until

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
    assert bad["orders_exported"] == 60  # what a failed run cannot count keeps its last value
    assert (bad["run_in_progress"], good["run_in_progress"]) == (0, 0)
    assert good["run_orders"] == good["run_orders_done"] == 61
    assert [entry.name for entry in exporter.cwd.glob(".*")] == []


def test_a_first_run_that_fails_has_no_success(exporter: Exporter) -> None:
    """Without a former file there is no last success; a foreign file in its place is replaced."""
    path = exporter.cwd / "exporter.prom"
    path.write_text("{ this is no metrics file")
    assert exporter.run("--rate", "often", "--metrics-file", path).code == 2
    assert "last_success_timestamp_seconds" not in metrics(path)


def test_the_file_is_for_others_to_read_whatever_the_umask(exporter: Exporter) -> None:
    """The node exporter is another user."""
    path = exporter.cwd / "exporter.prom"
    before = os.umask(0o077)
    try:
        with exporter.run_started("--metrics-file", path) as running:
            assert running.end().code == 0
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_killed_run_shows(exporter: Exporter) -> None:
    """From before the first request on the file says that a run is at work, and how far; a kill leaves it so."""
    path = exporter.cwd / "exporter.prom"
    with exporter.run_started("--rate", "5/s", "--metrics-file", path) as running:
        wait_until(path.exists)
        running.kill()
    killed = metrics(path)
    assert killed["run_in_progress"] == 1
    assert killed["run_started_timestamp_seconds"] <= killed["run_heartbeat_timestamp_seconds"] < time.time()
    assert "last_run_exit_code" not in killed


def test_the_heartbeat_tells_how_far_the_run_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the run works the file is written anew with its progress."""
    monkeypatch.setattr(metrics_file, "_EVERY_S", 0.01)
    path = tmp_path / "exporter.prom"
    with metrics_file.reported(str(path)) as told:
        told.begin()
        told.progress = replace(HALFWAY, total=100, done=40)
        wait_until(lambda: metrics(path).get("run_orders_done") == 40)
        assert metrics(path)["run_in_progress"] == 1
    assert metrics(path)["run_in_progress"] == 0


def test_a_file_that_cannot_be_written_is_told(exporter: Exporter) -> None:
    """A usage error is told first; else the place is exit 7 before the first request."""
    nowhere = exporter.cwd / "nowhere" / "exporter.prom"
    exporter.run("--rate", "often", "--metrics-file", nowhere).said(2, "--rate")
    exporter.run("--metrics-file", nowhere).said(7, str(nowhere), "writing the metrics")
    assert list(exporter.cwd.glob("out*")) == []


def test_a_folder_that_goes_in_mid_run_is_told_and_the_dataset_stands(exporter: Exporter) -> None:
    """After a success the file's failure is exit 7, with the summary on stdout."""
    folder = exporter.cwd / "metrics"
    folder.mkdir()
    words = ("--rate", "60/s", "--metrics-file", folder / "exporter.prom", "--json")
    with exporter.run_started(*words) as running:
        wait_until((folder / "exporter.prom").exists)
        shutil.rmtree(folder)
        ended = running.end()
    ended.said(7, "writing the metrics", "The dataset is published")
    assert ended.summary["exported"] == 60  # the one object on stdout
    assert (exporter.cwd / "out" / "manifest.json").exists()


def test_a_directory_is_refused_before_anything_is_asked_for(exporter: Exporter) -> None:
    """The folder where the file should go in place of the file is exit 2, not a bug after the run."""
    exporter.run("--metrics-file", exporter.cwd).said(2, "--metrics-file", "got a directory")
    assert not (exporter.cwd / "out").exists()

"""The benchmarks run: what they print is for a quiet machine, that they print it is for this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.outcome import NOTHING, Outcome, of_json_lines, of_parquet
from tests.benchmarks.text_table import render
from tests.benchmarks.undone import most_in_a_second
from tests.support.processes import ROOT, clean_environment

linux_only = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


def _benchmark(name: str, *words: str) -> str:
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / name), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, env=clean_environment(), check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _cells(row: str) -> list[str]:
    return row.strip("| ").split(" | ")


def _number(cell: str) -> float:
    return float(cell.replace(",", ""))


@linux_only
def test_the_exporter_is_compared_and_killed_without_any_peer_installed() -> None:
    """Ratio, rows, resume and rate come from real runs, in a table ready for the README."""
    told = _benchmark(
        "side_by_side.py", "--only", "exporter,bare", "--orders", "200", "--rounds", "1", "--markdown"
    )
    rows = [line for line in told.splitlines() if line.startswith("|")]
    speed, undone = [row for row in rows if row.startswith("| this exporter")]
    bare = next(row for row in rows if row.startswith("| bare aiohttp"))
    ratio, rate, of_bare = (_number(cell) for cell in (_cells(speed)[1], _cells(speed)[3], _cells(bare)[3]))
    assert ratio == pytest.approx(rate / of_bare, abs=0.01)
    assert _cells(bare)[1] == "1.00"
    assert "| exact decimal | nothing that reads as finished | whole |" in undone


@linux_only
def test_a_section_of_one_machine_runs_alone_and_prints_its_ratio_beside_its_goal() -> None:
    """By name, at any scale, ratio first."""
    told = _benchmark("one_machine.py", "speed", "--rounds", "1", "--scale", "0.0005")
    heading, _, ours, bare = told.partition("speed: ")[2].splitlines()
    assert "≥ 0.80" in heading
    assert "× bare aiohttp: this exporter" in ours
    rate, of_bare = (float(line.split(", ")[1].split()[0].replace(",", "")) for line in (ours, bare))
    assert float(ours.split()[0]) == pytest.approx(rate / of_bare, abs=0.02)


def test_a_wrong_section_is_refused_before_anything_runs() -> None:
    """Nobody waits for an hour to learn of a slip."""
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / "one_machine.py"), "sped"]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), check=False)
    assert done.returncode == 2
    assert "no section sped" in done.stderr


def test_an_outcome_tells_what_is_lost_double_and_broken(tmp_path: Path) -> None:
    """A short, a doubled and a cut file are all told from a whole one."""
    whole = Outcome(orders=3, distinct=3, items=1, money="text")
    (tmp_path / "orders.jsonl").write_text('{"number": "a", "amount": "1.00"}\n' * 2 + '{"number": "b')
    (tmp_path / "items.jsonl").write_text("{}\n{}\n")
    found = of_json_lines(tmp_path, "orders.jsonl", "items.jsonl")
    assert found == Outcome(orders=2, distinct=1, items=2, money="text", broken=1)
    assert found.against(whole) == "2 orders lost, 1 orders double, 1 items too many, 1 broken"
    assert whole.against(whole) == "whole"


def test_a_cut_parquet_file_counts_as_broken_and_a_missing_one_as_nothing(tmp_path: Path) -> None:
    """What a kill leaves is found, not stumbled over."""
    assert of_parquet(tmp_path, "orders*.parquet", "items*.parquet") == NOTHING
    (tmp_path / "orders.parquet").write_bytes(b"PAR1 cut")
    assert of_parquet(tmp_path, "orders*.parquet", "items*.parquet").broken == 1


def test_the_worst_second_is_found_wherever_it_begins() -> None:
    """Four of these come within one second that begins at no whole second."""
    assert most_in_a_second([0.0, 0.6, 0.9, 1.2, 1.5, 2.0]) == 4


def test_a_table_reads_as_text_and_as_markdown() -> None:
    """Columns are aligned for the eye, or piped for a page."""
    assert render(["", "a"], [["x", "10"]], markdown=False) == "    a\nx  10"
    assert render(["", "a"], [["x", "10"]], markdown=True) == "|  | a |\n|---|---|\n| x | 10 |"

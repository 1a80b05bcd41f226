"""`--keep` removes older finished datasets of the same pattern, and never anything else."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from filelock import FileLock

from exporter.run.retention import remove_older
from tests.support.processes import Exporter


def dataset(path: Path, day: int) -> Path:
    """Make what reads as a finished dataset of ours, finished on that day of November 2026."""
    path.mkdir(parents=True)
    manifest = {
        "manifest_version": 1,
        "exporter_version": "0",
        "run_id": "r",
        "started_at": f"2026-11-{day:02}T00:00:00.000Z",
        "finished_at": f"2026-11-{day:02}T00:00:01.000Z",
        "api_url": "https://api.invalid",
        "input": {"path": "n", "sha256": "", "lines": 0, "blank": 0, "invalid": 0, "duplicates": 0},
        "counts": {"requested": 0, "exported": 0, "rejected": 0, "order_items": 0},
        "rejects_by_reason": {},
        "requests": {"sent": 0, "retried": 0, "throttled": 0},
        "tables": {
            "orders": {
                "rows": 0,
                "files": [{"path": "orders.parquet/part-00000.parquet", "rows": 0, "bytes": 1, "sha256": ""}],
            }
        },
        "drift": {"unmapped_paths": {}, "uncoerced": {}},
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    (path / "rejects.jsonl").touch()
    (path / "report.html").touch()
    (path / "orders.parquet").mkdir()
    (path / "orders.parquet" / "part-00000.parquet").touch()
    return path


@pytest.fixture
def nights(tmp_path: Path) -> list[Path]:
    """Five nights' datasets, the oldest first."""
    return [dataset(tmp_path / f"orders-2026-11-{day:02}", day) for day in range(1, 6)]


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir())


def test_the_newest_stay(tmp_path: Path, nights: list[Path]) -> None:
    """Of five nights, --keep 2 leaves the newest two, and says which it removed."""
    removed = remove_older(str(tmp_path / "orders-{date}"), str(nights[-1]), 2)
    assert removed == tuple(map(str, nights[:3]))
    assert left(tmp_path) == ["orders-2026-11-04", "orders-2026-11-05"]


def test_nothing_is_removed_while_there_are_few(tmp_path: Path, nights: list[Path]) -> None:
    """As many as may stay, stay."""
    assert remove_older(str(tmp_path / "orders-{date}"), str(nights[-1]), 5) == ()
    assert len(left(tmp_path)) == 5


def test_the_one_just_made_stays_whatever_its_name(tmp_path: Path, nights: list[Path]) -> None:
    """A dataset that was just finished stays, also under an older date than the others."""
    remove_older(str(tmp_path / "orders-{date}"), str(nights[0]), 1)
    assert left(tmp_path) == ["orders-2026-11-01"]


def test_a_relative_out_is_found(tmp_path: Path, nights: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """`--out orders-{date}` in the current directory works like an absolute one."""
    monkeypatch.chdir(tmp_path)
    assert len(remove_older("orders-{date}", nights[-1].name, 1)) == 4


def test_a_date_in_a_folder_above_works(tmp_path: Path) -> None:
    """`--out {date}/orders` is a pattern as well; the folders of the removed ones stay."""
    nights = [dataset(tmp_path / f"2026-11-{day:02}" / "orders", day) for day in (1, 2)]
    assert remove_older(str(tmp_path / "{date}" / "orders"), str(nights[1]), 1) == (str(nights[0]),)


def test_a_link_on_the_way_is_not_followed(tmp_path: Path) -> None:
    """A dated folder that is a link leads nowhere, nor does one below it."""
    far = dataset(tmp_path / "far" / "kept" / "orders", 1)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "2026-11-01").symlink_to(tmp_path / "far")
    (tmp_path / "in" / "2026-11-02").mkdir()
    (tmp_path / "in" / "2026-11-02" / "kept").symlink_to(tmp_path / "far" / "kept")
    mine = dataset(tmp_path / "in" / "2026-11-03" / "kept" / "orders", 3)
    assert remove_older(str(tmp_path / "in" / "{date}" / "kept" / "orders"), str(mine), 1) == ()
    assert far.exists()


def test_nothing_else_is_ever_removed(tmp_path: Path, nights: list[Path]) -> None:
    """Other names, other people's folders, links, unfinished runs and touched datasets stay."""
    elsewhere = dataset(tmp_path.parent / f"{tmp_path.name}-elsewhere" / "linked", 1)
    stay = [
        dataset(tmp_path / "orders-2026-11-01-copy", 1),
        dataset(tmp_path / "orders-latest", 1),
        dataset(tmp_path / "other-2026-11-01", 1),
        tmp_path / "orders-2026-10-01",  # no manifest
        tmp_path / "orders-2026-10-02",  # somebody else's manifest
        tmp_path / "orders-2026-10-03",  # a link to a dataset
        tmp_path / "orders-2026-10-04",  # a file
        dataset(tmp_path / "orders-2026-10-05", 1),  # a run is at work on it
        tmp_path / "orders-2026-10-05.partial",
        dataset(tmp_path / "orders-2026-10-06", 1),  # somebody's notes in it
        dataset(tmp_path / "orders-2026-10-07", 1),  # its manifest is a link
        dataset(tmp_path / "orders-2026-10-08", 1),  # an empty folder in it
    ]
    (tmp_path / "orders-2026-10-01").mkdir()
    (tmp_path / "orders-2026-10-02").mkdir()
    (tmp_path / "orders-2026-10-02" / "manifest.json").write_text('{"files": []}')
    (tmp_path / "orders-2026-10-03").symlink_to(elsewhere)
    (tmp_path / "orders-2026-10-04").write_text("mine")
    (tmp_path / "orders-2026-10-05.partial").mkdir()
    (tmp_path / "orders-2026-10-06" / "notes.txt").write_text("mine")
    (tmp_path / "orders-2026-10-07" / "manifest.json").unlink()
    (tmp_path / "orders-2026-10-07" / "manifest.json").symlink_to(elsewhere / "manifest.json")
    (tmp_path / "orders-2026-10-08" / "mine").mkdir()
    before = sorted(path for path in tmp_path.rglob("*") if not path.is_relative_to(nights[0]))
    removed = remove_older(str(tmp_path / "orders-{date}"), str(nights[-1]), 4)
    assert removed == (str(nights[0]),)
    assert sorted(tmp_path.rglob("*")) == before
    assert elsewhere.is_dir()
    assert all(path.exists() for path in stay)


def test_what_a_kill_left_half_removed_goes_with_the_next_run(tmp_path: Path, nights: list[Path]) -> None:
    """A dataset on its way out has a hidden name of ours; what its manifest names of it is removed."""
    half = dataset(tmp_path / ".orders-2026-10-30.removed", 30)
    (half / "orders.parquet" / "part-00000.parquet").unlink()
    (half / "rejects.jsonl").unlink()
    emptied = tmp_path / ".orders-2026-10-29.removed"
    emptied.mkdir()
    (tmp_path / ".orders-mine.removed").mkdir()
    remove_older(str(tmp_path / "orders-{date}"), str(nights[-1]), 5)
    assert not half.exists()
    assert not emptied.exists()
    assert (tmp_path / ".orders-mine.removed").exists()


def test_signs_in_the_name_are_no_pattern(tmp_path: Path) -> None:
    """A dot, star or bracket in --out stands for itself."""
    keep = dataset(tmp_path / "aXb-2026-11-01", 1)
    mine = dataset(tmp_path / "a.b-2026-11-02", 2)
    assert remove_older(str(tmp_path / "a.b-{date}"), str(mine), 1) == ()
    assert keep.exists()


def test_two_runs_keep_one(exporter: Exporter) -> None:
    """`--out o-{date}-{time} --keep 1`: after the second run only its dataset stands, and the end says so."""
    older = dataset(exporter.cwd / "o-2026-01-01-120000", 1)
    ended = exporter.run("--keep", 1, out="o-{date}-{time}")
    assert ended.code == 0, ended.err
    assert f"Removed, older than --keep allows: {older}" in ended.out
    assert len([path for path in exporter.cwd.iterdir() if path.is_dir()]) == 1


def unfinished(path: Path, age_days: float) -> Path:
    path.mkdir()
    (path / "lock").touch(mode=0o600)
    long_ago = time.time() - age_days * 86400
    for entry in (path / "lock", path):
        os.utime(entry, (long_ago, long_ago))
    return path


def test_unfinished_runs_are_named_and_go_with_the_datasets(exporter: Exporter) -> None:
    """A work directory of the same pattern is named each night, and removed once it is older than all that is kept."""
    old = unfinished(exporter.cwd / "night-2026-01-01-000000.partial", 300)
    foreign = unfinished(exporter.cwd / "other-2026-01-01-000000.partial", 300)
    pattern = "night-{date}-{time}"
    first = exporter.run(out=pattern)
    assert (first.code, f"{old}: an unfinished run" in first.err) == (0, True), first.err
    assert old.exists()
    young = unfinished(exporter.cwd / "night-2030-01-01-000000.partial", -1)
    second = exporter.run("--keep", 3, out=pattern, TZ="UTC-1")  # another {time}, however quick the first was
    assert (second.code, str(old) in second.err, str(young) in second.err) == (0, True, True)
    assert (old.exists(), young.exists(), foreign.exists()) == (False, True, True)


def test_an_unfinished_run_that_is_at_work_or_not_ours_stays(exporter: Exporter) -> None:
    """A lock that is held, and a folder that others may write to, are said; the run has succeeded all the same."""
    held = unfinished(exporter.cwd / "night-2026-01-01-000000.partial", 300)
    with FileLock(held / "lock"):
        ended = exporter.run("--keep", 1, out="night-{date}-{time}")
        assert (ended.code, held.exists(), "in use" in ended.err) == (0, True, True), ended.err
    held.chmod(0o777)
    assert exporter.run("--keep", 1, out="night-{date}-{time}x").code == 0
    ended = exporter.run("--keep", 1, out="night-{date}-{time}", TZ="UTC-1")
    assert (ended.code, held.exists(), "others" in ended.err) == (0, True, True), ended.err

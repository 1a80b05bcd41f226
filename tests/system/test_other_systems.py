"""What other systems and file systems do otherwise, as far as Linux can be made to do it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import ROOT, Api, Exporter, wait_until


@pytest.fixture(scope="session")
def refuse_open(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that refuses to remove or rename a file that its process has open."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler is here; Debian: gcc libc6-dev")
    library = tmp_path_factory.mktemp("library") / "refuse_open.so"
    source = ROOT / "tests" / "support" / "refuse_open.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@pytest.mark.parametrize("words", [(), ("--store", "kept.db"), ("--csv-dialect", "excel", "--format", "csv")])
def test_a_system_that_removes_no_open_file(
    exporter: Exporter, refuse_open: Path, words: tuple[str, ...]
) -> None:
    """As on Windows: the run ends with 0, its work directory is gone, and it can be replaced."""
    for more in ((), ("--overwrite",)):
        with exporter.run_started(*words, *more, LD_PRELOAD=str(refuse_open)) as running:
            ended = running.end()
        assert ended.code == 0, ended.err
        assert not (exporter.cwd / "out.partial").exists()
    assert exporter("verify", "out").code == 0


@pytest.mark.parametrize("kept", [True, False])
def test_one_place_has_many_spellings(api: Api, exporter: Exporter, kept: bool) -> None:
    """`sp`, `./sp`, `sp/`, `..` in it, a linked folder, the whole path: a run that was stopped resumes by any of them."""
    words = ("--store", "kept.db") if kept else ()
    (exporter.cwd / "sub").mkdir()
    (exporter.cwd / "link").symlink_to(".")
    spellings = ["sp", "./sp", "sp/", "sub/../sp", "link/sp", str(exporter.cwd / "sp")]
    asked = api.asked()
    with exporter.run_started(*words, "--rate", "20/s", out="sp") as running:
        wait_until(lambda: api.asked() > asked + 10)
        wait_until(lambda: _pending(exporter, *words, "sp") < 60)
        running.kill()
    assert len({_pending(exporter, *words, out) for out in spellings}) == 1
    assert exporter.run(*words, out=spellings[-1]).code == 0
    assert api.asked() - asked < 60 + 20


def _pending(exporter: Exporter, *words: str) -> int:
    ask = json.loads(exporter("status", *words, "--json").out)["ask"]
    assert ask["of"] == "the unfinished run"
    return int(ask["pending"])


def test_sql_names_no_place_by_number() -> None:
    """Python 3.12.1 warns of `?1` with a sequence."""
    sources = {path: path.read_text() for path in (ROOT / "exporter").rglob("*.py")}
    assert [str(path) for path, text in sources.items() if re.search(r"[(= ]\?\d", text)] == []

"""Every file in `examples/` runs, or is checked by the program that it is for."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import nbformat
import pytest

from exporter.model.manifest import MANIFEST_FILE, decode
from exporter.report.data_figures import data_figures
from tests.support.datasets import Dataset, demo_payloads
from tests.support.processes import ROOT, Api, Exporter, clean_environment, wait_until
from tests.support.standing import manifest_of

EXAMPLES = ROOT / "examples"
UNITS = ("omnitron-export.service", "omnitron-export.timer")
PAYLOADS = demo_payloads(60)

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here; Debian: systemd"
)
needs_shellcheck = pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="shellcheck is not here; Debian: shellcheck"
)

needs_flock = pytest.mark.skipif(
    shutil.which("flock") is None, reason="flock is not here; Debian: util-linux"
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Dataset(payloads=PAYLOADS).write(tmp_path_factory.mktemp("examples") / "demo" / "dataset")


def run_script(name: str, *words: object, exporter: Exporter | None = None) -> str:
    """Run an example with warnings as errors, and return what it printed."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name, *map(str, words)],
        env=dict(exporter.env) if exporter else clean_environment(),
        cwd=exporter.cwd if exporter else None,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_every_example_is_listed() -> None:
    """The folder's README names each file, and nothing that is not there."""
    named = set(re.findall(r"\]\(([^)]+)\)", (EXAMPLES / "README.md").read_text("utf-8")))
    there = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    assert there == named | {"README.md"}


# --- the data ---


def revenue_by_city() -> dict[str, Decimal]:
    """What the payloads themselves say."""
    revenue: dict[str, Decimal] = {}
    for payload in SALES:
        city = payload["shipping_address"]["city"]["name"]
        revenue[city] = revenue.get(city, Decimal(0)) + net(payload)
    return revenue


SALES = [payload for payload in PAYLOADS if payload["status"] not in ("50", "100", "300", "546", "600")]


def net(payload: Mapping[str, Any]) -> Decimal:
    return Decimal(payload["amount"]) - Decimal(payload["refund_amount"] or 0)


@pytest.mark.parametrize("name", ["pandas_report.py", "polars_report.py"])
def test_reports_by_city(name: str, dataset: Path) -> None:
    """The pandas and the Polars script print each city's exact revenue."""
    printed = run_script(name, dataset)
    for city, revenue in revenue_by_city().items():
        assert re.search(rf"{city}\W.*\b{revenue:.4f}\b", printed), printed


def in_duckdb(name: str, dataset: Path) -> list[tuple[object, ...]]:
    with duckdb.connect(config={"file_search_path": str(dataset)}) as connection:
        return connection.execute((EXAMPLES / name).read_text("utf-8")).fetchall()


def test_revenue_net(dataset: Path) -> None:
    """The query adds up what sales brought, as the report does: its page has the same sum."""
    rows = in_duckdb("revenue_net.sql", dataset)
    assert sum(Decimal(str(row[5])) for row in rows) == sum(map(net, SALES))
    assert rows == sorted(rows)
    manifest = decode((dataset / MANIFEST_FILE).read_bytes(), "manifest")
    sums = data_figures(dataset, manifest).by_currency.values()
    assert sum(money.net for money in sums) == sum(map(net, SALES))


def test_items_without_order(dataset: Path, tmp_path: Path) -> None:
    """The query finds no item in a whole dataset, and those of an order that somebody took out."""
    assert in_duckdb("items_without_order.sql", dataset) == []
    broken = Dataset(payloads=PAYLOADS[1:]).write(tmp_path / "broken")
    shutil.copy(dataset / "order_items.parquet", broken)
    found = in_duckdb("items_without_order.sql", broken)
    assert [row[0] for row in found] == [PAYLOADS[0]["number"]] * len(PAYLOADS[0]["orderitem_set"])


def test_notebook(dataset: Path) -> None:
    """The notebook is valid, and its cells run from top to bottom."""
    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)  # type: ignore[no-untyped-call] # nbformat has no types
    nbformat.validate(notebook)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(cells)],
        cwd=dataset.parents[1],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


# --- the Python API ---


def test_export_sync(exporter: Exporter) -> None:
    """The script exports, and says how much."""
    assert run_script("export_sync.py", "numbers.txt", "out", exporter=exporter).startswith("60 orders and ")


def test_export_async(exporter: Exporter) -> None:
    """The script exports two files at once, and tells how far each is."""
    numbers = (exporter.cwd / "numbers.txt").read_text().splitlines()
    for name, part in (("a.txt", numbers[:20]), ("b.txt", numbers[20:50])):
        (exporter.cwd / name).write_text("\n".join(part))
    printed = run_script("export_async.py", "a.txt", "b.txt", exporter=exporter)
    assert "a.txt-exported: 20 of 20 orders\nb.txt-exported: 30 of 30 orders\n" in printed
    assert "a.txt: done, 20 of 20\n" in printed


# --- cron ---


@needs_shellcheck
def test_nightly_is_clean() -> None:
    """shellcheck finds nothing in the wrapper."""
    subprocess.run(["shellcheck", EXAMPLES / "nightly.sh"], check=True)


@dataclass(frozen=True, kw_only=True)
class Night:
    """A folder as the wrapper needs it, and a `mail` that writes instead of sending."""

    folder: Path
    env: dict[str, str]

    def pass_by(self) -> int:
        """Run the wrapper once and return its exit code."""
        command = ["sh", str(EXAMPLES / "nightly.sh"), str(self.folder), "ops@example.com"]
        return subprocess.run(command, env=self.env, check=False, capture_output=True).returncode

    @property
    def mails(self) -> str:
        """All mails, each as its arguments and its text."""
        path = self.folder / "mails"
        return path.read_text("utf-8") if path.exists() else ""

    def set_token(self, token: str) -> None:
        """Write the wrapper's environment file."""
        (self.folder / "exporter.env").write_text(f"EXPORTER_API_TOKEN={token}\n")


@pytest.fixture
def night(api: Api, tmp_path: Path) -> Night:
    settings = (EXAMPLES / "exporter.toml").read_text("utf-8")
    settings = settings.replace("https://oms.example.com", api.url).replace("10/s", "unlimited")
    (tmp_path / "exporter.toml").write_text(settings, "utf-8")
    programs = tmp_path / "bin"
    programs.mkdir()
    script(programs / "mail", f'{{ echo "$@"; cat; }} >> {tmp_path}/mails')
    script(programs / "exporter", f'exec {shlex.quote(sys.executable)} -m exporter "$@"')
    # An environment that is active may have an exporter of its own.
    others = [one for one in os.environ["PATH"].split(os.pathsep) if not Path(one, "exporter").exists()]
    path = os.pathsep.join([str(programs), *others])
    return Night(folder=tmp_path, env=clean_environment({"PATH": path}))


def script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


@needs_flock
def test_nightly_mails_only_when_needed(night: Night) -> None:
    """A refused token is told by mail; a good night, and a call after it, are not."""
    night.set_token("wrong")
    assert night.pass_by() == 5
    assert re.search(
        r"^-s Order export on \S+: the API refused the token ops@example.com$", night.mails, re.MULTILINE
    )
    assert "Error: " in night.mails
    (night.folder / "mails").unlink()
    night.set_token("demo-token")
    assert (night.pass_by(), night.mails) == (0, "")
    finished = night.folder / "nightly" / f"{datetime.now(UTC).astimezone():%Y-%m-%d}" / "manifest.json"
    before = finished.stat()
    assert (night.pass_by(), night.mails) == (0, "")
    assert finished.stat() == before


@needs_flock
@pytest.mark.parametrize(
    ("prepare", "code", "told"),
    [
        pytest.param("rm exporter.env", 2, "exporter.env: expected readable lines", id="no-env"),
        pytest.param("echo 'TOKEN=s3cret word' > exporter.env", 2, "exporter.env: expected", id="broken-env"),
        pytest.param("echo 'TOKEN=\"s3cret' > exporter.env", 2, "exporter.env: expected", id="open-quote"),
        pytest.param("rm exporter.toml", 2, "Error: ", id="no-settings"),
        pytest.param("mkdir nightly.lock", 2, "nightly.lock cannot be written", id="no-lock"),
        pytest.param("rm bin/exporter", 127, "exporter", id="no-program"),
        pytest.param("printf '#!/bin/sh\nkill -9 $$' > bin/exporter", 137, "it failed", id="killed"),
    ],
)
def test_nightly_mails_whatever_fails(night: Night, prepare: str, code: int, told: str) -> None:
    """Each failure before, between and in the commands is told in one mail, without a word of the token."""
    night.set_token("demo-token")
    subprocess.run(["sh", "-ec", prepare], cwd=night.folder, check=True)
    assert night.pass_by() == code
    assert night.mails.count("Order export on") == 1
    assert told in night.mails
    assert "s3cret" not in night.mails
    assert "word" not in night.mails


@pytest.mark.parametrize("words", [["missing", "ops@example.com"], ["missing"], []])
def test_nightly_mails_without_a_folder(night: Night, words: list[str]) -> None:
    """No such folder, no address, no argument at all: root, or whoever is named, is told."""
    command = ["sh", str(EXAMPLES / "nightly.sh"), *words]
    ended = subprocess.run(command, env=night.env, cwd=night.folder, check=False, capture_output=True)
    assert ended.returncode == 2
    assert ("missing: expected a folder" if words else "usage: nightly.sh") in night.mails
    assert (words[1] if len(words) > 1 else "root") in night.mails


@needs_flock
def test_nightly_says_it_elsewhere_without_mail(night: Night) -> None:
    """Where mail fails, what it would have said is on stderr."""
    script(night.folder / "bin" / "mail", "cat > /dev/null; exit 1")
    command = ["sh", str(EXAMPLES / "nightly.sh"), str(night.folder), "ops@example.com"]
    ended = subprocess.run(command, env=night.env, check=False, capture_output=True, text=True)
    assert (ended.returncode, "exporter.env: expected" in ended.stderr) == (2, True)


@needs_flock
def test_nightly_needs_no_temporary_folder(night: Night) -> None:
    """A TMPDIR that is not there changes nothing."""
    night.set_token("demo-token")
    night.env["TMPDIR"] = str(night.folder / "missing")
    assert (night.pass_by(), night.mails) == (0, "")


@needs_flock
def test_nightly_overlapping_itself_asks_nothing(night: Night) -> None:
    """While one call works, also while it lists, another one asks the API for nothing and says so."""
    night.set_token("demo-token")
    ready = night.folder / "ready"
    script(night.folder / "bin" / "exporter", f'echo "$1" >> {ready}; exec sleep 60')
    command = ["sh", str(EXAMPLES / "nightly.sh"), str(night.folder), "ops@example.com"]
    with subprocess.Popen(command, env=night.env, start_new_session=True) as first:
        wait_until(ready.exists)
        assert night.pass_by() == 8
        assert "another run is still at work" in night.mails
        (night.folder / "mails").unlink()
        os.killpg(first.pid, signal.SIGTERM)
        assert first.wait(30) == 143
    assert (ready.read_text(), night.mails) == ("numbers\n", "")


# --- systemd ---


def installed_units(folder: Path) -> list[Path]:
    """Write the units with a program that is there in the place of the one in /opt."""
    program = folder / "exporter"
    script(program, "exit 0")
    for name in UNITS:
        text = (EXAMPLES / name).read_text("utf-8")
        (folder / name).write_text(text.replace("/opt/omnitron-exporter/bin/exporter", str(program)))
    return [folder / name for name in UNITS]


@needs_systemd
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """systemd finds nothing to say about the service and its timer."""
    ended = subprocess.run(
        ["systemd-analyze", "verify", *installed_units(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@needs_systemd
def test_the_service_is_locked_in(tmp_path: Path) -> None:
    """systemd counts the service's exposure as at most 2.0 of 10."""
    command = ["systemd-analyze", "security", "--no-pager", "--offline=yes", "--threshold=20"]
    command.append(str(installed_units(tmp_path)[0]))
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_the_service_runs_commands_of_the_program(exporter: Exporter) -> None:
    """Both commands of the service are ones that the program takes, with the variables that it sets."""
    lines = re.findall(r"^ExecStart=(.*)$", (EXAMPLES / UNITS[0]).read_text("utf-8"), re.MULTILINE)
    commands = [shlex.split(line)[1:] for line in lines]
    assert [command[0] for command in commands] == ["numbers", "run"]
    (exporter.cwd / "token").write_text("demo-token")
    (exporter.cwd / "token").chmod(0o600)
    (exporter.cwd / "exporter.toml").write_text('out = "nightly/{date}"\nrate = "unlimited"\n')
    for command in commands:
        env = {"EXPORTER_TOKEN_FILE": "token", "EXPORTER_CONFIG": "exporter.toml", "EXPORTER_API_TOKEN": ""}
        assert exporter(*command, **env).code == 0


# --- Airflow and Docker ---


def airflow_tree() -> ast.Module:
    return ast.parse((EXAMPLES / "airflow_dag.py").read_text("utf-8"))


def test_the_dag_uses_our_names() -> None:
    """The DAG compiles; what it imports from the exporter is there, and so is each option that it gives."""
    import exporter as package

    compile(airflow_tree(), "airflow_dag.py", "exec")
    nodes = list(ast.walk(airflow_tree()))
    imported = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "exporter"]
    assert [alias.name for node in imported for alias in node.names if not hasattr(package, alias.name)] == []
    [options] = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "Options"]
    assert {keyword.arg for keyword in options.keywords} <= set(package.Options.__dataclass_fields__)


def test_the_dag_uses_airflow_3() -> None:
    """What the DAG imports from Airflow are names of its task SDK alone, and it makes one DAG."""
    tree = airflow_tree()
    imports = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("airflow")
        for alias in node.names
    }
    # Loaded by Airflow 3.3 (task SDK 1.3.2) on 2026-11-24.
    assert imports == {"airflow.sdk.dag", "airflow.sdk.task", "airflow.sdk.exceptions.AirflowFailException"}
    assert ast.unparse(tree.body[-1]) == "omnitron_export()"


#: What the DAG asks of Airflow, without a scheduler: its task is called as the function that it is.
DAG_WITHOUT_AIRFLOW = """
import logging, sys, types

class AirflowFailException(Exception):
    pass

logging.basicConfig(format="%(levelname)s %(message)s")
sdk, errors = types.ModuleType("airflow.sdk"), types.ModuleType("airflow.sdk.exceptions")
sdk.task = lambda **options: lambda function: function
sdk.dag = lambda **options: lambda function: lambda: None
errors.AirflowFailException = AirflowFailException
sys.modules |= {"airflow": types.ModuleType("airflow"), "airflow.sdk": sdk, "airflow.sdk.exceptions": errors}
source, folder, fails = sys.argv[1:]
dag = {"__name__": "airflow_dag"}
exec(open(source).read(), dag)
dag |= {"FOLDER": folder, "FAIL_ON_REJECTS": fails == "fails"}
print(dag["export_orders"]("numbers.txt", "2026-11-30"))
"""


@pytest.mark.parametrize("fails", ["fails", "warns"])
def test_the_dag_tells_of_rejects(fails: str, exporter: Exporter) -> None:
    """With `FAIL_ON_REJECTS` the task fails for good, without it warns; the dataset is there either way."""
    with (exporter.cwd / "numbers.txt").open("a") as numbers:
        numbers.write("no-such-order\n")
    ended = subprocess.run(
        [sys.executable, "-c", DAG_WITHOUT_AIRFLOW, EXAMPLES / "airflow_dag.py", exporter.cwd, fails],
        env=dict(exporter.env),
        cwd=exporter.cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    dataset = exporter.cwd / "2026-11-30"
    rejects = f"1 rejected orders: {dataset}/rejects.jsonl"
    assert manifest_of(dataset)["counts"]["exported"] == 60
    if fails == "fails":
        assert (ended.returncode, ended.stderr.splitlines()[-1]) == (1, f"AirflowFailException: {rejects}")
    else:
        assert (ended.returncode, ended.stdout) == (0, f"{dataset}\n")
        assert f"WARNING {rejects}" in ended.stderr


def docker_instructions() -> list[tuple[str, str]]:
    text = (EXAMPLES / "Dockerfile").read_text("utf-8")
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_is_made_of_what_is_here() -> None:
    """Each instruction is one of Docker's, and what is copied from the repository is there."""
    known = {"FROM", "COPY", "RUN", "ENV", "STOPSIGNAL", "USER", "WORKDIR", "VOLUME", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in docker_instructions()} <= known
    copied = [rest.split()[:-1] for word, rest in docker_instructions() if word == "COPY"]
    from_here = [source for sources in copied if "--from" not in sources[0] for source in sources]
    assert from_here
    assert [source for source in from_here if not (ROOT / source).exists()] == []


def test_the_image_runs_the_program_as_nobody() -> None:
    """The image does not run as root, stops by SIGTERM, and gets signals without a shell between."""
    last = dict(docker_instructions())
    assert last["USER"].split(":")[0].isdigit()
    assert last["USER"].split(":")[0] != "0"
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(last["ENTRYPOINT"]) == ["exporter"]

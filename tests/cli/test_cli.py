"""The command line: help, errors and last words, and what stdout holds."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import exporter.cli.commands.run
from exporter import __version__
from exporter.cli import COMMANDS
from tests.support.offline import Offline, offline_in
from tests.support.processes import ROOT, Exporter, clean_environment

TOKEN = "0123456789abcdef-very-secret"
PERSON = "ayse@example.com"


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Offline:
    """The exporter in an empty directory, without any setting from outside."""
    return offline_in(tmp_path, monkeypatch, capsys)


# --- help and start-up ---


@pytest.mark.parametrize(
    "words", [[], *([name] for name in COMMANDS), ["store", "prune"], ["store", "backup"]], ids=" ".join
)
def test_every_help_fits_80_columns_and_ends_with_an_example(offline: Offline, words: list[str]) -> None:
    """`--help` of every command fits 80 columns, and its last line is a command to try."""
    ended = offline(*words, "--help")
    lines = ended.out.rstrip().splitlines()
    assert (ended.code, ended.err) == (0, "")
    assert max(map(len, lines)) <= 80
    assert re.search(rf"Example: .*exporter {' '.join(words)}", lines[-1])


def test_every_command_is_listed_with_its_purpose(offline: Offline) -> None:
    """`exporter` alone shows the help; each command in it exists and has a purpose."""
    ended = offline()
    assert ended.code == 2
    for name, (_, purpose) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(purpose)}$", ended.err, re.MULTILINE)


@pytest.mark.parametrize("program", [[sys.executable, "-m", "exporter"], ["exporter"]])
def test_the_version_is_told_by_both_programs(program: list[str]) -> None:
    """`exporter --version` and `python -m exporter --version` say the same."""
    path = shutil.which(program[0], path=str(Path(sys.executable).parent))
    assert path
    done = subprocess.run(
        [path, *program[1:], "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"exporter {__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    """`exporter --help` and completion import click and little else: no Arrow, no aiohttp, nothing POSIX-only."""
    code = (
        "import sys; from exporter.cli import main; main(['--help']); main(['run', '--help']);"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    heavy = {"pyarrow", "aiohttp", "rich", "asyncio", "sqlite3", "msgspec", "prometheus_client", "logging"}
    posix_only = {"fcntl", "termios", "tty", "pwd", "grp", "resource"}
    assert "click" in loaded
    assert loaded & (heavy | posix_only) == set()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells no processor time of children")
def test_help_is_as_quick_as_click() -> None:
    """`exporter --help` costs at most 2.5 times the processor time of `import click`."""

    def cpu_s(*words: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, check=True)
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])  # of children, by user and system

    ours = min(cpu_s("-m", "exporter", "--help") for _ in range(5))
    clicks = min(cpu_s("-c", "import click") for _ in range(5))
    assert ours <= 2.5 * clicks


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_that_shell(offline: Offline, shell: str, tmp_path: Path) -> None:
    """The printed script is free of syntax errors, where that shell is there to say so."""
    ended = offline("completion", shell)
    assert "_EXPORTER_COMPLETE" in ended.out
    if shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(ended.out)
        subprocess.run([shell, "-n", str(script)], check=True)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("exporter ve", "plain,verify"),
        ("exporter run --max-re", "plain,--max-rejects"),
        ("exporter run --pii h", "plain,hash"),
        ("exporter run num", "file,num"),
        ("exporter run --out num", "file,num"),
    ],
)
def test_completion_offers_what_fits(typed: str, offered: str) -> None:
    """The shell is offered commands, options and their values, and its own files where a path belongs."""
    words = typed.split()
    env = clean_environment(
        {"_EXPORTER_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    )
    done = subprocess.run(
        [sys.executable, "-m", "exporter"], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert offered in done.stdout.splitlines()


# --- usage errors ---


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("rnu n.txt", ["no such command 'rnu'", "Did you mean run?"]),
        ("run n.txt --out o --max-reject 3", ["no such option --max-reject", "Did you mean --max-rejects?"]),
        ("run", ["ORDERS is missing", "Example: exporter run"]),
        ("run n.txt", ["--out is missing", "Example: exporter run"]),
        ("run n.txt --out", ["--out"]),
        ("run n.txt --out o --concurrency many", ["--concurrency: 'many' is not a valid integer"]),
        ("run n.txt --out o --format xml", ["--format: 'xml' is not one of 'parquet', 'csv'"]),
        ("run a b --out o", ["exporter run:", "unexpected extra argument"]),
        ("run n.txt --out o --rate 10", ["--rate:", "10/s"]),
        ("run n.txt --out o --keep 3", ["--keep:", "{date}"]),
        ("run n.txt --out o-{day}", ["--out:", "{day}", "{date}"]),
        ("run n.txt --out s3://b/{date} --keep 3", ["--keep:"]),
        ("run n.txt --out o-{date} --keep 0", ["--keep: expected 1 or more"]),
        ("run nothing.txt --out o", ["nothing.txt: cannot be read"]),
        ("verify nothing", ["nothing:"]),
        ("status nothing", ["nothing:"]),
        ("completion tcsh", ["'tcsh'"]),
    ],
)
def test_a_slip_is_two_sentences_and_exit_2(offline: Offline, words: str, said: list[str]) -> None:
    """A typing slip is one sentence what is wrong and one what to do; nothing is made."""
    env = {"EXPORTER_API_URL": "https://api.invalid", "EXPORTER_API_TOKEN": TOKEN}
    ended = offline(*words.split(), **env)
    ended.said(2, *said)
    assert len(ended.err.splitlines()) == 2
    assert ended.out == ""
    assert list(offline.cwd.iterdir()) == []


# --- a bug of ours ---


def test_a_bug_is_one_sentence_and_a_file_without_secrets(
    offline: Offline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception is exit 1, says what is kept and how to report it, and lets nothing through."""

    def fail(*_: object, **__: object) -> None:
        try:
            raise KeyError(f"Authorization: Token {TOKEN}")
        except KeyError as error:
            raise ValueError(f"payload of {PERSON}, {TOKEN}") from error

    monkeypatch.setattr(exporter.cli.commands.run, "_export", fail)
    env = {"EXPORTER_API_URL": "https://api.invalid", "EXPORTER_API_TOKEN": TOKEN}
    ended = offline("run", "n.txt", "--out", "o", **env)
    ended.said(1, "bug", "ValueError", "kept", "Report it", "exporter run n.txt --out o")
    (report,) = (offline.cwd / "state" / "omnitron-exporter").iterdir()
    text = report.read_text()
    assert "builtins.KeyError" in text
    assert "in fail" in text
    for secret in (TOKEN, PERSON):
        assert secret not in ended.err + ended.out
        assert secret not in text
    assert report.stat().st_mode & 0o077 == 0


def test_a_bug_is_told_where_no_report_can_be_written(
    offline: Offline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a home to write to, the sentence alone is told."""
    (offline.cwd / "state").write_text("a file where a folder should be")
    monkeypatch.setattr(exporter.cli.commands.run, "_export", lambda *_, **__: 1 / 0)
    env = {"EXPORTER_API_URL": "https://api.invalid", "EXPORTER_API_TOKEN": TOKEN}
    offline("run", "n.txt", "--out", "o", **env).said(1, "ZeroDivisionError")


# --- the end of a run ---


def test_json_is_one_object_a_line_and_all_of_stdout(exporter: Exporter) -> None:
    """`--json` prints one object and nothing else; `--log-format json` one a line, with documented keys."""
    ended = exporter.run("--json", "--log-format", "json")
    summary = ended.summary
    assert summary["exit_code"] == 0
    assert summary["exported"] == summary["requested"] == 60
    assert summary["out"] == "out"
    assert summary["requests"] == {"sent": 60, "retried": 0, "throttled": 0}
    assert summary["statuses"] == {"200": 60}
    assert summary["resumed"] is False
    assert [part["path"] for part in summary["files"]] == ["orders.parquet", "order_items.parquet"]
    lines = [json.loads(line) for line in ended.err.splitlines()]
    assert all({"time", "level", "event", "message"} <= line.keys() for line in lines)
    assert lines[-1]["event"] == "progress"
    assert lines[-1]["done"] == lines[-1]["total"] == 60


def test_a_failure_in_the_json_log_has_documented_keys(offline: Offline) -> None:
    """The error that ends a run is a line of the JSON log as well."""
    env = {"EXPORTER_API_URL": "https://api.invalid", "EXPORTER_API_TOKEN": TOKEN}
    ended = offline("run", "nothing.txt", "--out", "o", "--log-format", "json", **env)
    (line,) = [json.loads(line) for line in ended.err.splitlines()]
    assert line.keys() == {"time", "level", "event", "message", "hint", "exit_code", "command"}
    assert (line["level"], line["event"], line["exit_code"]) == ("error", "failed", 2)


def test_the_table_tells_what_came_and_how_to_go_on(exporter: Exporter) -> None:
    """With rejects the end says how many and why, and the command that it gives works as it stands."""
    with (exporter.cwd / "numbers.txt").open("a") as file:
        file.write("missing-1\nmissing-2\nnot one\n")
    ended = exporter.run("--max-rejects", "3", "--max-age", "0s")
    assert ended.code == 3
    assert "Exported 60 of 62 orders to out" in ended.out
    assert re.search(r"rejected +3 +not_found 2 · invalid_order_number 1", ended.out)
    assert max(map(len, ended.out.splitlines()[:-1])) <= 80
    assert "To request them again (and all others, since there is no --store):" in ended.out
    again = exporter(*shlex.split(ended.out.splitlines()[-1])[1:])
    assert again.code == 3, again.err
    assert "Exported 60 of 62 orders to out\n" in again.out
    assert again.out.splitlines()[-1] == ended.out.splitlines()[-1]
    assert sorted(path.name for path in exporter.cwd.glob("out*")) == ["out"]


@pytest.mark.parametrize("settings", ["", 'store = "s.db"', 'store = "s.db"\nmax-age = "12h"'])
def test_each_printed_command_works_beside_the_nightly_settings(exporter: Exporter, settings: str) -> None:
    """With `keep`, `store` and `max-age` in the file, rejects are asked for again by the command that is printed."""
    (exporter.cwd / "exporter.toml").write_text(f'out = "nightly/{{date}}"\nkeep = 14\n{settings}\n')
    with (exporter.cwd / "numbers.txt").open("a") as file:
        file.write("missing-1\nmissing-2\n")
    refused = exporter("run", "numbers.txt", "--max-rejects", "1", "--rate", "unlimited")
    refused.said(4, "2 rejects")
    ended = exporter(*shlex.split(refused.err.splitlines()[-1])[1:])
    assert ended.code == 3, ended.err
    again = exporter(*shlex.split(ended.out.splitlines()[-1])[1:])
    assert again.code == 3, again.err
    assert "Exported 60 of 62 orders" in again.out
    (dataset,) = (exporter.cwd / "nightly").iterdir()
    sent = json.loads((dataset / "manifest.json").read_text())["requests"]["sent"]
    assert sent <= 4 if settings else sent >= 62  # two numbers and one proof of each


def test_no_command_asks_again_for_what_is_no_order_number(exporter: Exporter) -> None:
    """Where all rejects are invalid lines, the end does not send the user to ask for them again."""
    with (exporter.cwd / "numbers.txt").open("a") as file:
        file.write("not one\n")
    ended = exporter.run("--max-rejects", "1")
    assert ended.code == 3
    assert "out/rejects.jsonl says which were rejected" in ended.out
    assert "request them again" not in ended.out


def test_too_many_rejects_gives_the_command_that_publishes(exporter: Exporter) -> None:
    """After exit 4 the last line is the same command with the --max-rejects that it takes."""
    with (exporter.cwd / "numbers.txt").open("a") as file:
        file.write("missing-1\nmissing-2\n")
    ended = exporter.run("--max-rejects", "1")
    ended.said(4, "2 rejects", "not_found", "nothing was published")
    assert "Published" not in ended.err
    command = shlex.split(ended.err.splitlines()[-1])
    assert command[command.index("--max-rejects") + 1] == "2"
    assert exporter(*command[1:]).code == 3


def test_the_command_that_goes_on_names_the_place_where_it_began(exporter: Exporter) -> None:
    """With `{time}` in --out, the command given after a failure goes on with that run, at any later time."""
    ended = exporter.run("--keep", 2, out="out-{time}", EXPORTER_API_TOKEN="wrong")
    (partial,) = exporter.cwd.glob("out-*.partial")
    ended.said(5, f"--out {partial.stem} ")
    assert exporter(*shlex.split(ended.err.splitlines()[-1])[1:]).code == 0
    assert [path.name for path in exporter.cwd.glob("out-*")] == [partial.stem]


def test_quiet_says_nothing_but_errors(exporter: Exporter) -> None:
    """`--quiet` prints nothing on success, and on failure the error."""
    done = exporter.run("--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    ended = exporter.run("--quiet")
    ended.said(2, "finished dataset")
    assert len(ended.err.splitlines()) == 2


def _in_a_shell(exporter: Exporter, line: str, *words: object, out: str) -> subprocess.CompletedProcess[str]:
    """Run `line` in a shell; `$@` in it is the command of `run`."""
    return subprocess.run(
        [
            *("bash", "-o", "pipefail", "-c", line, "bash", sys.executable, "-m", "exporter"),
            *map(str, exporter.run_words(*words, out=out)),
        ],
        cwd=exporter.cwd,
        env=exporter.env,
        capture_output=True,
        text=True,
        check=False,
    )


needs_bash = pytest.mark.skipif(
    not (Path("/dev/full").exists() and shutil.which("bash")), reason="needs bash and /dev/full"
)


@needs_bash
def test_a_full_disk_under_stdout_is_told(exporter: Exporter) -> None:
    """A summary that cannot be printed is exit 7, in a sentence that says where the dataset stands."""
    done = _in_a_shell(exporter, '"$@" >/dev/full', out="out")
    assert done.returncode == 7
    assert "Error: standard output: printing the summary failed: the disk is full." in done.stderr
    assert "The dataset is at out" in done.stderr.splitlines()[-1]
    assert (exporter.cwd / "out" / "manifest.json").exists()


@needs_bash
@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&-", ">&- 2>&- <&-", "2>/dev/full", "2>&1 | :"])
def test_streams_that_are_closed_or_full_change_no_exit_code(exporter: Exporter, streams: str) -> None:
    """Under a cron that closes them, with a full log disk, before a reader who left: the run ends as ever."""
    with (exporter.cwd / "numbers.txt").open("a") as file:
        file.write("missing-1\n")
    done = _in_a_shell(exporter, f'"$@" {streams}', out="out")
    assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr
    assert (exporter.cwd / "out" / "manifest.json").exists()


@needs_bash
def test_a_closed_standard_input_holds_no_order_number(exporter: Exporter) -> None:
    """`exporter run -` whose standard input is closed is exit 2, not a bug."""
    line = f'"{sys.executable}" -m exporter run - --out out <&-'
    done = _in_a_shell(exporter, line, out="out")
    assert done.returncode == 2
    assert "Error: standard input: expected at least one order number" in done.stderr


def test_another_encoding_than_utf_8_breaks_nothing(exporter: Exporter) -> None:
    """In a locale that lacks some letters the end is told all the same."""
    (exporter.cwd / "numbers.txt").write_text("missing-1\n")
    words = exporter.run_words("--max-rejects", "1", out="sipariş-日")
    done = subprocess.run(
        [sys.executable, "-m", "exporter", *map(str, words)],
        cwd=exporter.cwd,
        env={**exporter.env, "PYTHONIOENCODING": "iso8859-9:strict"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "to sipariş-\\u65e5" in done.stdout.decode("iso8859-9")


def test_the_demo_reads_well_in_80_columns(tmp_path: Path) -> None:
    """`exporter demo` shows its tables without a wrapped cell, in 80 columns."""
    demo = Exporter(cwd=tmp_path, env=clean_environment({"COLUMNS": "80"}))
    ended = demo("demo", "--orders", "40")
    assert ended.code == 0
    assert max(map(len, ended.out.splitlines())) <= 80
    assert re.search(r"number +status +date_placed +…_city_name +amount +currency", ended.out)
    assert len(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d ", ended.out)) == 5


def test_the_schema_is_printed_in_each_form(offline: Offline) -> None:
    """`exporter schema` prints text for 80 columns, and other forms on request."""
    assert max(map(len, offline("schema").out.splitlines())) <= 80
    assert json.loads(offline("schema", "--format", "json").out)
    assert offline("schema", "--format", "sql").out.startswith("CREATE TABLE")
    assert "|" in offline("schema", "--format", "markdown").out


def test_the_help_of_run_shows_what_most_people_need(offline: Offline) -> None:
    """`run --help` shows twelve options, `--help-all` every one that the command takes."""
    few, every = offline("run", "--help").out, offline("run", "--help-all").out
    shown = re.findall(r"^  (--[a-z-]+)", few, re.MULTILINE)
    assert len(set(shown) - {"--help", "--help-all"}) == 12
    taken = {max(option.opts, key=len) for option in exporter.cli.commands.run.run.params} - {"orders"}
    assert set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", every, re.MULTILINE)) == taken | {"--help"}

"""What the pages say is so: every command runs, every output is real, every name exists."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import duckdb
import pytest

from exporter.model.manifest import Manifest
from exporter.model.options import ENVIRONMENT_ONLY
from exporter.model.progress import Progress
from tests.support import generated_pages, pictures
from tests.support.datasets import Dataset, demo_payloads
from tests.support.pages import Block, blocks, followed, pages, prose, reader_of
from tests.support.processes import ROOT, Exporter

#: Languages that are run, parsed or compared; `text` alone is an illustration.
CHECKED = {"sh", "python", "sql", "toml", "crontab", "yaml", "text", "powershell", "mermaid"}
#: Options of other programs that the pages name.
FOREIGN_OPTIONS = {"--scale", "--foreground", "--signal", "--quiet", "--inplace"}
INSTALL = ".venv/bin/pip install --quiet"


def by_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def all_blocks(language: str) -> list[Block]:
    return [block for page in pages() for block in blocks(page) if block.language == language]


def option_names() -> set[str]:
    return {
        name
        for command in generated_pages.commands().values()
        for option in command.params
        for name in option.opts
    }


@pytest.mark.parametrize("page", pages(), ids=by_name)
def test_commands_do_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    """Every command of a page runs, in the page's order, and prints what stands below it."""
    if not any(block.language in ("sh", "python") for block in blocks(page)):
        return
    with reader_of(page, tmp_path) as reader:
        assert followed(page, reader) == page.read_text("utf-8")


@pytest.mark.parametrize("name", ["options.md", "data-dictionary.md", "house.md"])
def test_generated_pages_are_fresh(name: str, tmp_path: Path) -> None:
    """`python -m tests.support.generated_pages` would change nothing."""
    generated_pages.main(tmp_path)
    assert (tmp_path / name).read_text("utf-8") == (ROOT / "docs" / name).read_text("utf-8")


def test_no_block_is_of_a_kind_that_nothing_checks() -> None:
    """Every fenced block names its language, one that these tests look at."""
    assert {block.language for page in pages() for block in blocks(page)} <= CHECKED


def test_the_two_commands_of_the_readme() -> None:
    """The README's first command is the demo; CI finds the second one below its marker, on one line."""
    first, second = [block for block in blocks(ROOT / "README.md") if INSTALL in block.text]
    assert first.text == f"python3 -m venv .venv && {INSTALL} . && .venv/bin/exporter demo\n"
    assert second.note == "test command"
    assert second.text == f"python3 -m venv .venv && {INSTALL} -e '.[test]' && .venv/bin/pytest -q\n"


@pytest.mark.parametrize("page", pages(), ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of this repository, and to a heading in it, has its target."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", prose(page)):
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not heading or heading in headings(file), target


def test_the_index_lists_every_page() -> None:
    """Each page of the folder can be found from its index."""
    text = (ROOT / "docs" / "index.md").read_text("utf-8")
    names = {page.name for page in pages() if page.parent.name == "docs"} - {"index.md"}
    assert [name for name in sorted(names) if f"]({name})" not in text] == []


def headings(page: Path) -> set[str]:
    """Return the anchors of the page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", pages(), ids=by_name)
def test_options_and_variables_exist(page: Path) -> None:
    """No page names an option or an environment variable that the program does not have."""
    text = page.read_text("utf-8")
    options = set(re.findall(r"(?<![\w.-])--[a-z][a-z-]+[a-z]", prose(page)))
    assert options - option_names() - {"--help", "--version"} - FOREIGN_OPTIONS == set()
    variables = {str(one.envvar) for command in generated_pages.commands().values() for one in command.params}
    named = set(re.findall(r"\bEXPORTER_[A-Z_]+[A-Z]\b", text))
    assert named - variables - set(ENVIRONMENT_ONLY.values()) - {"EXPORTER_CONFIG"} == set()


def crontab_lines() -> list[str]:
    texts = [block.text for block in all_blocks("crontab")]
    texts.append((ROOT / "examples" / "crontab").read_text("utf-8"))
    return [line for text in texts for line in text.splitlines() if re.match(r"[\d*@]", line)]


@pytest.mark.parametrize("line", crontab_lines())
def test_crontab_lines_are_lines_that_cron_takes(line: str) -> None:
    """Five fields, a command without a bare `%`, and options that the program has."""
    *fields, command = line.split(maxsplit=5)
    assert all(re.fullmatch(r"(\*|\d+)([,/-]\d+)*", field) for field in fields), fields
    assert "%" not in command.replace(r"\%", "")
    words = shlex.split(command)
    if "run" in words:
        arguments = words[words.index("run") + 1 :]
        generated_pages.commands()["run"].make_context("exporter run", arguments)


def test_toml_is_toml() -> None:
    """Every TOML block can be read; the ones that are run are read by the program as well."""
    assert [tomllib.loads(block.text) for block in all_blocks("toml")]


def test_sql_runs_on_a_dataset(tmp_path: Path) -> None:
    """Every SQL block runs in DuckDB on a dataset, and finds what fits no column."""
    payloads = demo_payloads(20)
    payloads[3]["customer"]["segment"] = "gold"
    dataset = Dataset(payloads=payloads).write(tmp_path / "dataset")
    with duckdb.connect(config={"file_search_path": str(dataset)}) as connection:
        for block in all_blocks("sql"):
            rows = connection.execute(block.text).fetchall()
            assert rows == [(payloads[3]["number"], "gold")], block.place


def test_log_keys_are_documented(exporter: Exporter) -> None:
    """Every key of the JSON log stands on the log's page, and no other does."""
    keys = set(Progress.__dataclass_fields__)
    for words in (["run", "numbers.txt", "--out", "out"], ["run", "missing.txt", "--out", "out"]):
        for line in exporter(*words, "--log-format", "json", "--rate", "unlimited").err.splitlines():
            keys |= json.loads(line).keys()
    table = re.findall(r"^\|([^|]*)\|", prose(ROOT / "docs" / "log.md"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(table))) == keys


def test_manifest_keys_are_documented() -> None:
    """Every key at the manifest's top stands on the page about it."""
    text = prose(ROOT / "docs" / "how-it-works.md")
    assert [key for key in Manifest.__struct_fields__ if f"`{key}`" not in text] == []


def test_metrics_in_the_alerts_exist(exporter: Exporter) -> None:
    """The alert rules ask for metrics that the program writes."""
    exporter("run", "numbers.txt", "--out", "out", "--rate", "unlimited", "--metrics-file", "x.prom")
    text = (exporter.cwd / "x.prom").read_text("utf-8")
    rules = " ".join(block.text for block in all_blocks("yaml"))
    assert set(re.findall(r"omnitron_exporter_\w+", rules)) <= set(
        re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)
    )


def test_exit_codes_are_all_explained() -> None:
    """The table of exit codes has every one that the errors carry."""
    readme = prose(ROOT / "docs" / "troubleshooting.md")
    codes = {str(code) for code in generated_pages.exit_codes() if code != 141}
    rows = re.findall(r"^\| ([\d ·]+) \|", readme, re.MULTILINE)
    assert set(" · ".join(rows).split(" · ")) == codes


def test_dependencies_have_their_reasons() -> None:
    """Every dependency and every extra is on its page, with why it is there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = {re.split(r"[>=;\[ ]", one)[0] for one in project["dependencies"]}
    extras = project["optional-dependencies"].keys() - {"test", "check"}
    readme = prose(ROOT / "docs" / "dependencies.md")
    assert [name for name in names if f"[{name}]" not in readme] == []
    assert [name for name in extras if f"`{name}`" not in readme] == []


def test_the_readme_is_short() -> None:
    """A stranger reads it in a few minutes: under 900 words."""
    assert len((ROOT / "README.md").read_text("utf-8").split()) < 900


def test_what_came_nearer_is_named_with_what_it_does_better() -> None:
    """In the README, and at more length in the comparison."""
    readme = prose(ROOT / "README.md")
    comparison = prose(ROOT / "docs" / "comparison.md").partition("What came nearer")[2]
    for tool in ("sling", "ingestr", "DuckLake", "datacompy"):
        assert re.search(rf"better.*{tool}[^(]*\(", readme, re.DOTALL), tool
        assert re.search(rf"\*\*{tool}\*\*.*?Better: ", comparison, re.DOTALL), tool
    assert "table_changes" in readme
    assert "table_changes" in comparison


def test_pictures_are_there_and_show_the_program(tmp_path: Path) -> None:
    """Each picture that a page shows exists; the display's is what the program draws in mid-run."""
    shown = {
        name
        for page in pages()
        for name in re.findall(r"(?:src|srcset)=\"([^\"]+)\"", page.read_text("utf-8"))
    }
    assert shown
    assert [name for name in shown if not (ROOT / name).is_file()] == []
    with pictures.exported(orders=120) as (_, told):
        for name in ("display-dark.svg", "display-light.svg"):
            pictures.display(pictures.half_way(told), tmp_path / name)
            words = [
                re.findall(r">(?:&#160;)*([A-Za-z]+)", (folder / name).read_text("utf-8"))
                for folder in (tmp_path, pictures.IMAGES)
            ]
            assert words[0] == words[1]


@pytest.mark.parametrize("page", pages(), ids=by_name)
def test_a_page_opens_with_one_sentence(page: Path) -> None:
    """After its title a page says in one sentence what it is for."""
    title, _, opening = page.read_text("utf-8").partition("\n\n")
    assert title.startswith("# ")
    assert opening.split("\n\n")[0].rstrip("*\n").endswith((".", ":"))


def test_tests_that_pages_name_exist() -> None:
    """What "shown by" says is a test; a name without its file is of the file named before it."""
    wanting = []
    for page in ("promises.md", "security.md"):
        file = ""
        for named, name in re.findall(
            r"`(?:(test_\w+\.py)(?:::)?)?(test_\w+)?`", (ROOT / "docs" / page).read_text()
        ):
            file = named or file
            texts = [path.read_text("utf-8") for path in (ROOT / "tests").rglob(file or "-")]
            if not any(f"def {name}" in text for text in texts):
                wanting.append(f"{page}: {file}::{name}")
    assert wanting == []

"""The house stands on its folders: imports run one way, in no circle, and the pure folders are pure."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

PACKAGE = Path(__file__).parents[2] / "exporter"

#: The folders, lowest first: each may import those before it, never those after it.
FOLDERS = ["model", "system", "lists", "api", "store", "dataset", "report", "fetch", "run", "demo", "cli"]
#: Folders without a clock, randomness, files or an event loop.
PURE = ["model", "dataset/flatten"]
IMPURE_MODULES = {"asyncio", "aiohttp", "time", "random", "secrets", "socket", "subprocess", "threading"}
IMPURE_CALLS = {"open", "print", "input"}
IMPURE_METHODS = {"read_text", "read_bytes", "write_text", "write_bytes", "now", "today"}

#: A module named in a string, as fork servers, child processes and lazy imports name it.
_NAMED = re.compile(r"exporter(\.[a-z_]+)+\.?")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py")) if "__pycache__" not in path.parts}


def module_in(name: str) -> str:
    """Return the module that a dotted name lies in: `exporter.model.errors.UsageError` is in `….errors`."""
    while name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def names_imported(path: Path) -> Iterator[str]:
    """Yield the full names that a file imports, wherever it does so, and the modules that its strings name."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _NAMED.fullmatch(node.value):
            yield from {node.value.rstrip(".")} & MODULES.keys()


@cache
def imports(module: str) -> set[str]:
    names = {name for name in names_imported(MODULES[module]) if name.split(".")[0] == "exporter"}
    return {module_in(name) for name in names} - {module}


def folder_of(module: str) -> int:
    """Return the place of a module's folder; the root's own files stand above all."""
    parts = module.split(".")
    return FOLDERS.index(parts[1]) if len(parts) > 1 and parts[1] in FOLDERS else len(FOLDERS)


def test_the_package_is_its_folders() -> None:
    """The root holds the folders named here and nothing else but the public face."""
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert entries - {"__init__.py", "__main__.py", "py.typed"} == set(FOLDERS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downwards(module: str) -> None:
    """No file imports from a folder above its own: in functions, for types or by a string as little as elsewhere."""
    above = {other for other in imports(module) if folder_of(other) > folder_of(module)}
    assert above == set()


def test_no_file_imports_itself_however_far_round() -> None:
    """There is no circle of files."""
    try:
        TopologicalSorter({module: imports(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize(
    "path",
    [path for folder in PURE for path in sorted((PACKAGE / folder).rglob("*.py"))],
    ids=lambda path: path.relative_to(PACKAGE).as_posix(),
)
def test_the_pure_folders_are_pure(path: Path) -> None:
    """No clock, no randomness, no files and no event loop."""
    tree = ast.parse(path.read_text("utf-8"))
    modules = {name.split(".")[0] for name in names_imported(path)}
    calls = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    methods = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert modules & IMPURE_MODULES == set()
    assert calls & IMPURE_CALLS == set()
    assert methods & IMPURE_METHODS == set()


def test_the_check_sees_every_kind_of_import(tmp_path: Path) -> None:
    """An import in a function, one for types and a module in a string are all seen."""
    file = tmp_path / "seen.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from exporter.run.export import export\n"
        "def f():\n    import exporter.api.pace\n"
        "CHILD = ['-m', 'exporter.cli']\n"
        "LAZY = f'exporter.cli.commands.{CHILD}'\n",
        "utf-8",
    )
    assert {name for name in names_imported(file) if name.startswith("exporter")} == {
        "exporter.run.export.export",
        "exporter.api.pace",
        "exporter.cli",
        "exporter.cli.commands",
    }

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
#: Folders without a clock, randomness, files, an environment or an event loop.
PURE = ["model", "dataset/flatten"]
#: All that they may import beside this package; from a module with more, these names alone.
PURE_MODULES = [
    "__future__",
    "array",
    "bisect",
    "collections",
    "dataclasses",
    "datetime",
    "decimal",
    "difflib",
    "email.utils",
    "enum",
    "fnmatch",
    "functools",
    "hashlib",
    "hmac",
    "html",
    "ipaddress",
    "itertools",
    "json",
    "math",
    "msgspec",
    "operator",
    "os.PathLike",
    "os.fspath",
    "pyarrow",
    "re",
    "shlex",
    "statistics",
    "textwrap",
    "types",
    "typing",
    "urllib.parse",
    "zoneinfo",
]
IMPURE_CALLS = {"open", "print", "input", "__import__", "eval", "exec"}
IMPURE_METHODS = {
    *(
        "now",
        "today",
        "utcnow",
        "open",
        "unlink",
        "mkdir",
        "read_text",
        "read_bytes",
        "write_text",
        "write_bytes",
    ),
    *("read_table", "write_table", "memory_map", "OSFile"),
}

#: A module named in a string, as fork servers, child processes and lazy imports name it; one that ends in a dot
#: begins the name of any module below.
_NAMED = re.compile(r"\bexporter(?:\.[a-z_]+)+\.?")


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
    tree = ast.parse(path.read_text("utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            for name in _NAMED.findall(node.value):
                below = (
                    {other for other in MODULES if other.startswith(name)} if name.endswith(".") else {name}
                )
                yield from below & MODULES.keys()


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
    """No clock, no randomness, no files, no environment and no event loop."""
    tree = ast.parse(path.read_text("utf-8"))
    known = tuple(f"{name}." for name in ("exporter", *PURE_MODULES))
    impure = {name for name in names_imported(path) if not f"{name}.".startswith(known)}
    calls = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    methods = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert impure == set()
    assert calls & IMPURE_CALLS == set()
    assert methods & IMPURE_METHODS == set()


@pytest.mark.parametrize(
    "path",
    [path for path in sorted((PACKAGE.parent / "tests").rglob("*.py")) if "benchmarks" not in path.parts],
    ids=lambda path: path.relative_to(PACKAGE.parent).as_posix(),
)
def test_every_test_file_can_be_imported_on_windows(path: Path) -> None:
    """What only POSIX has is imported where it is used: collecting the fast tests imports every file."""
    top = {
        alias.name
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    top |= {
        node.module
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.module
    }
    assert top & {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"} == set()


def test_the_check_sees_every_kind_of_import(tmp_path: Path) -> None:
    """An import in a function, one for types and a module in a string are all seen."""
    file = tmp_path / "seen.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from exporter.run.export import export\n"
        "def f():\n    import exporter.api.pace\n"
        "CHILD = ['-m', 'exporter.cli']\n"
        "LAZY = f'exporter.system.{CHILD}'\n"
        "CODE = 'from exporter.cli import main; main()'\n",
        "utf-8",
    )
    assert {name for name in names_imported(file) if name.startswith("exporter")} == {
        "exporter.run.export.export",
        "exporter.api.pace",
        "exporter.cli",
        *(name for name in MODULES if name.startswith("exporter.system.")),
    }


@pytest.mark.parametrize(
    "impurity",
    [
        "from os import environ",
        "import os",
        "import uuid",
        "import sqlite3",
        "import tempfile",
        "from pathlib import Path",
        "def f(p): p.unlink()",
        "def f(d): return d.utcnow()",
        "def f(): return open('x')",
    ],
)
def test_the_check_sees_what_is_not_pure(impurity: str, tmp_path: Path) -> None:
    """A file that reaches for the world outside is seen, by whatever way."""
    file = tmp_path / "impure.py"
    file.write_text(f"{impurity}\n", "utf-8")
    with pytest.raises(AssertionError):
        test_the_pure_folders_are_pure(file)

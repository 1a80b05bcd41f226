"""The public face: what `import exporter` promises to programs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import exporter
from exporter.model.errors import AttemptError, ExporterError
from tests.support.processes import ROOT

pytestmark = pytest.mark.fast


def _names_for_type_checkers() -> Iterator[tuple[str, str]]:
    tree = ast.parse(Path(exporter.__file__).read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    for found in block.body:
        assert isinstance(found, ast.ImportFrom)
        yield from ((alias.name, str(found.module)) for alias in found.names)


def _family(error: type[ExporterError]) -> set[type[ExporterError]]:
    return {error}.union(*map(_family, error.__subclasses__()))


def test_programs_type_checkers_and_star_imports_see_the_same_names() -> None:
    """What is served lazily is what type checkers read in the source, and all that `__all__` promises."""
    names: dict[str, object] = {}
    exec("from exporter import *", names)
    assert set(names) - {"__builtins__"} == set(exporter.__all__) >= set(exporter._HOMES)
    assert dict(_names_for_type_checkers()) == exporter._HOMES
    assert exporter.__all__ == sorted(exporter.__all__)


def test_the_docs_name_every_public_name() -> None:
    """A name comes or goes together with the words that promise it to programs."""
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    assert [name for name in exporter.__all__ if not re.search(rf"\b{name}\b", page)] == []


def test_an_error_that_ends_a_run_is_public() -> None:
    """Whoever calls `export` can catch by name whatever it raises on purpose."""
    ends = {error.__name__ for error in _family(ExporterError) if not issubclass(error, AttemptError)}
    assert ends - set(exporter.__all__) == set()


def test_every_public_name_is_there() -> None:
    """Each public name can be had, and describes itself."""
    for name in exporter.__all__:
        thing = getattr(exporter, name)
        assert thing.__doc__
        assert isinstance(thing, str) or thing.__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The lazy imports do not hide a typing slip."""
    assert not hasattr(exporter, "exports")

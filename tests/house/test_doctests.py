"""The examples in the docstrings do what they say."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

PACKAGE = Path(__file__).parents[2] / "exporter"


def with_examples() -> list[str]:
    paths = sorted(path for path in PACKAGE.rglob("*.py") if "    >>> " in path.read_text("utf-8"))
    return [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths]


@pytest.mark.parametrize("name", with_examples())
def test_examples_hold(name: str) -> None:
    """Each module's examples give what stands below them, and none was overlooked."""
    module = import_module(name.removesuffix(".__init__"))
    assert doctest.testmod(module).failed == 0
    assert doctest.testmod(module).attempted > 0

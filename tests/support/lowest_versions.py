"""The lowest releases that pyproject.toml allows, as a constraints file for pip.

    python -m tests.support.lowest_versions > lowest.txt
    pip install -c lowest.txt -e '.[test]' && pytest -q -m fast

What only the tests need is left out: no user installs it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

_TESTS_ALONE = {"test", "check"}
_BOUND = re.compile(r"(?P<name>[\w.-]+)>=(?P<lowest>[\d.]+)[^;]*(?P<marker>;.*)?")


def constraints(pyproject: str) -> Iterator[str]:
    """Yield a line for each dependency and each of the extras'.

    >>> list(constraints('''
    ... project.dependencies = ["click>=8.2,<9; python_version < '4'"]
    ... project.optional-dependencies = {s3 = ["boto3>=1.36"], test = ["pytest>=8"]}
    ... '''))
    ["click==8.2; python_version < '4'", 'boto3==1.36']
    """
    project = tomllib.loads(pyproject)["project"]
    extras = project["optional-dependencies"]
    users = (wanted for extra, wanted in extras.items() if extra not in _TESTS_ALONE)
    for requirement in [*project["dependencies"], *(one for wanted in users for one in wanted)]:
        bound = _BOUND.fullmatch(requirement)
        assert bound is not None, f"pyproject.toml: {requirement!r} has no lower bound"
        yield f"{bound['name']}=={bound['lowest']}{bound['marker'] or ''}"


if __name__ == "__main__":
    print("\n".join(constraints((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))))

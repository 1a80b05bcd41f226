"""Fixtures that several test files share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from exporter.api.transport import FORCED
from tests.support.processes import Api, Exporter, demo_api

# How long one example takes tells of the machine's other work, not of ours.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def api() -> Iterator[Api]:
    """A demo API of 400 orders without limit or faults, shared: compare `asked()` before and after."""
    with demo_api() as running:
        yield running


@pytest.fixture
def exporter(api: Api, tmp_path: Path) -> Exporter:
    """The exporter in an empty directory with a `numbers.txt` of the first 60 orders."""
    return api.exporter(tmp_path, api.numbers[:60])


@pytest.fixture(params=["lean", "session"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each transport in turn, here and in the exporters that the test starts."""
    kind: str = request.param
    monkeypatch.setenv(FORCED, kind)
    return kind


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that skipped a test where none may be: the check installs what tests need."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("EXPORTER_TEST_NO_SKIPS") and reporter and reporter.stats.get("skipped"):
        reporter.write_line("Tests were skipped, and EXPORTER_TEST_NO_SKIPS is set.", red=True)
        session.exitstatus = 1

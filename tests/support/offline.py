"""The exporter inside the tests' own process, for what sends nothing: a process for each would be slow."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from exporter.cli import main
from tests.support.processes import Ended


@dataclass(frozen=True, kw_only=True)
class Offline:
    """Runs command lines.

    Args:
        cwd: The current directory.
        call: Takes the words and more environment.
    """

    cwd: Path
    call: Callable[[tuple[object, ...], dict[str, str]], Ended]

    def __call__(self, *words: object, **env: str) -> Ended:
        """Run it to its end; keywords are more environment."""
        return self.call(words, env)


def offline_in(cwd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Offline:
    """Return the exporter in the directory `cwd`, without any setting from outside."""
    monkeypatch.chdir(cwd)
    for name in [name for name in os.environ if name.startswith("EXPORTER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(cwd / "state"))

    def call(words: tuple[object, ...], env: dict[str, str]) -> Ended:
        with monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Ended(code=code, out=out, err=err, took_s=0.0)

    return Offline(cwd=cwd, call=call)

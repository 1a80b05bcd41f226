"""The exporter in processes forked from one that has imported it: the same program, started sooner.

A sweep over every durable step starts the program some hundred times; half of what a start costs is
importing. Each line on stdin is a run, each line on stdout its process's end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ROOT, clean_environment


@dataclass(frozen=True, kw_only=True)
class Preloaded:
    """A process that forks an exporter for each run."""

    process: subprocess.Popen[str]

    def run(self, *words: object, env: Mapping[str, str], cwd: Path) -> tuple[int, str]:
        """Run the exporter to its end; return its exit code (negative for a signal) and its stderr."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        log = cwd / "stderr.txt"
        order = {"words": [str(word) for word in words], "env": dict(env), "cwd": str(cwd), "log": str(log)}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline()), log.read_text()


@contextmanager
def preloaded() -> Iterator[Preloaded]:
    """Start the forking process for the length of the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.preloaded"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=clean_environment(),
    ) as process:
        try:
            yield Preloaded(process=process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def _main() -> None:
    import exporter.cli.run
    import exporter.cli.signals
    import exporter.run  # noqa: F401 - so that no fork has to

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(order: dict[str, object]) -> None:
    from exporter.cli import main

    os.chdir(str(order["cwd"]))
    os.environ.clear()
    os.environ.update(order["env"])  # type: ignore[call-overload] # a JSON object of texts
    log = os.open(str(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_RDWR)
    for source, target in ((null, 0), (null, 1), (log, 2)):
        os.dup2(source, target)
    code = main([str(word) for word in order["words"]])  # type: ignore[attr-defined] # a JSON list
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _main()

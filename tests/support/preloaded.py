"""The exporter in processes forked from one that has imported it: the same program, started sooner.

A sweep over every durable step starts the program some hundred times; half of what a start costs is
importing. Each line on stdin is a run, each line on stdout its process's end.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.processes import ROOT, Ended, clean_environment


@dataclass(frozen=True, kw_only=True)
class Preloaded:
    """A process that forks an exporter for each run, one at a time."""

    process: subprocess.Popen[str]

    def run(self, *words: object, env: Mapping[str, str], cwd: Path) -> Ended:
        """Run the exporter to its end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        began = time.monotonic()
        with TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            order = {
                "words": [str(word) for word in words],
                "env": dict(env),
                "cwd": str(cwd),
                "out": str(out),
                "err": str(err),
            }
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            code = int(self.process.stdout.readline())
            took_s = time.monotonic() - began
            return Ended(code=code, out=out.read_text(), err=err.read_text(), took_s=took_s)


def start() -> Preloaded:
    """Start the forking process; it ends when its standard input does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.preloaded"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=clean_environment(),
    )
    atexit.register(_end, process)
    return Preloaded(process=process)


def _end(process: subprocess.Popen[str]) -> None:
    with process:
        assert process.stdin is not None
        process.stdin.close()


#: What a run imports; the packages that its other processes need, such as pyarrow, never enter this one.
_IMPORTED = (
    "aiohttp",
    "exporter.cli.commands.status_and_store",
    "exporter.cli.commands.run",
    "exporter.cli.watching",
    "exporter.fetch.fetch_job",
    "exporter.fetch.number_listing",
    "exporter.run.export",
)


def _main() -> None:
    for name in _IMPORTED:
        import_module(name)
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
    if hasattr(time, "tzset"):
        time.tzset()
    ahead_s = float(os.environ.get("TEST_CLOCK_AHEAD_S", "0"))
    machine_time = time.time
    time.time = lambda: machine_time() + ahead_s
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    for name, target in (("out", 1), ("err", 2)):
        os.dup2(os.open(str(order[name]), os.O_WRONLY | os.O_CREAT), target)
    code = main([str(word) for word in order["words"]])  # type: ignore[attr-defined] # a JSON list
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _main()

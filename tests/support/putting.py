"""Datasets put into their place by processes of their own: killed on the way, or measured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.dataset.destination import destination_of
from tests.support.processes import ROOT, clean_environment

_END = "end"


def put(out: str, staged: Path, retired: Path) -> None:
    """Do what a run does with its destination.

    Args:
        out: The destination.
        staged: The dataset.
        retired: Where what it replaces, or a note of that, waits.
    """
    destination = destination_of(out)
    destination.repair(retired)
    destination.standing()
    destination.put(staged, retired)


@contextmanager
def putting() -> Iterator[Callable[[int, str, Path, Path], str | None]]:
    """Give a function that does the same in a process that is killed after a durable step.

    It takes the step's number and what `put` takes, and returns the step's name, or None where the
    process had ended before.
    """
    command = [sys.executable, "-m", "tests.support.putting"]
    with subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = process.stdout

        def killed_after(step: int, out: str, staged: Path, retired: Path) -> str | None:
            print(step, out, staged, retired, file=process.stdin, flush=True)
            text = "".join(iter(said.readline, f"{_END}\n"))
            assert "Traceback" not in text, text
            found = re.search(r"killed after step \d+: (\w+)", text)
            return found and found[1]

        yield killed_after
        process.stdin.close()


def peak_bytes(out: str, staged: Path, retired: Path, **env: str) -> int:
    """Put a dataset into its place in a process of its own; return the most memory that it took (Linux)."""
    command: list[str | Path] = [sys.executable, "-m", "tests.support.putting", out, staged, retired]
    ended = subprocess.run(
        command, cwd=ROOT, env=clean_environment(env), capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout) * 1024


def _main() -> None:
    if len(sys.argv) > 1:
        import resource

        put(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    import boto3  # type: ignore[import-untyped] # noqa: F401 - so that no fork has to

    os.dup2(1, 2)
    for line in sys.stdin:
        step, out, staged, retired = line.split()
        pid = os.fork()
        if pid == 0:
            os.environ["EXPORTER_TEST_KILL_AT"] = step
            _put_and_end(out, Path(staged), Path(retired))
        os.waitpid(pid, 0)
        print(_END, flush=True)


def _put_and_end(out: str, staged: Path, retired: Path) -> None:
    try:
        put(out, staged, retired)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


if __name__ == "__main__":
    _main()

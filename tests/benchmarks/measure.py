"""What a command costs: seconds, CPU and memory, of it and of every process that it starts (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import math
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.request import urlopen

HERE = Path(__file__).parent
_SAMPLE_S = 0.05
_SAMPLES_A_LOOK = 5  # how often to look for new processes: that takes longer than a sample
_PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_ORPHANS_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one command took.

    Attributes:
        began: On the machine's monotonic clock, seconds; so is `ended`.
        ended: When its first process had ended.
        cpu_s: User and system time of the whole process tree.
        peak_mib: The peaks of all processes that were there at one time, added; what they share counts
            once. NaN where nobody looked.
        largest_mib: Peak resident memory of the largest process; NaN where nobody looked.
    """

    began: float
    ended: float
    cpu_s: float
    peak_mib: float
    largest_mib: float

    @property
    def wall_s(self) -> float:
        """Seconds from start to end."""
        return self.ended - self.began


@dataclass(frozen=True, kw_only=True)
class Server:
    """A benchmark server in a process of its own.

    Attributes:
        url: Its base URL.
        pid: Its process's id.
        loop: `C`, or `uvloop` or `asyncio` where this machine cannot compile or has no uvloop.
    """

    url: str
    pid: int
    loop: str

    @property
    def cpu_s(self) -> float:
        """User and system time that it has used."""
        user, system = _stat(self.pid)[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def count(self) -> int:
        """Return how many requests it got, if it is a recorder."""
        return int(self._ask("_count"))

    def arrivals(self) -> list[float]:
        """Return when each request came, on the machine's monotonic clock, if it is a recorder."""
        times: list[float] = self._ask("_arrivals")
        return times

    def _ask(self, path: str) -> Any:
        with urlopen(f"{self.url}/{path}", timeout=60) as response:
            return json.load(response)


@contextmanager
def serving(script: str, python: str | None = None) -> Iterator[Server]:
    """Run a server of this folder for the length of the block.

    Args:
        script: Its file's name.
        python: The interpreter, by default this one; one that has uvloop serves faster.
    """
    python = python if python and not importlib.util.find_spec("uvloop") else sys.executable
    command = [python, str(HERE / script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            assert process.stdout is not None
            url, loop = process.stdout.readline().strip(), process.stdout.readline().strip()
            yield Server(url=url, pid=process.pid, loop=loop)
        finally:
            process.terminate()


def environment() -> dict[str, str]:
    """Return this process's environment, with a token and without the exporter's other settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EXPORTER_")}
    return kept | {"PYTHONPATH": str(HERE.parents[1]), "EXPORTER_API_TOKEN": "benchmark", "NO_COLOR": "1"}


def write_numbers(path: Path, count: int) -> Path:
    """Write that many random order numbers, the same ones each time, one a line."""
    rng = random.Random(7)
    with path.open("w", encoding="ascii") as file:
        file.writelines(f"{rng.getrandbits(60):015x}\n" for _ in range(count))
    return path


def run(command: Sequence[str], cwd: Path, *, memory: bool = True) -> Cost:
    """Run a command to its end and return what it cost; one that fails ends the benchmark.

    Args:
        command: Its words.
        cwd: Where it runs.
        memory: Whether to look at its memory: looking slows down a command of many processes.
    """
    _adopt_orphans()
    with tempfile.TemporaryFile("w+") as said, started(command, cwd, said.fileno()) as process:
        began = time.monotonic()
        with MemoryWatch(process.pid) if memory else contextlib.nullcontext() as watch:
            _, status, usage = os.wait4(process.pid, 0)
        ended = time.monotonic()
        process.returncode = os.waitstatus_to_exitcode(status)
        cpu_s = usage.ru_utime + usage.ru_stime + _cpu_of_orphans(process.pid)
        if process.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{said.read()[-3000:]}")
    return Cost(
        began=began,
        ended=ended,
        cpu_s=cpu_s,
        peak_mib=watch.peak_kib / 1024 if watch else math.nan,
        largest_mib=watch.largest_kib / 1024 if watch else math.nan,
    )


def _adopt_orphans() -> None:
    """Become the parent of what a command leaves behind, so that its CPU is counted: a fork server's workers."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _cpu_of_orphans(session: int) -> float:
    """Wait for what is left of a session, and return its seconds of CPU."""
    cpu_s, deadline = 0.0, time.monotonic() + _ORPHANS_S
    while left := list(_session_members(session)):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(session, signal.SIGKILL)
        for pid in left:
            with contextlib.suppress(ChildProcessError):  # another's child, and its to wait for
                _, _, usage = os.wait4(pid, os.WNOHANG)
                cpu_s += usage.ru_utime + usage.ru_stime
        time.sleep(_SAMPLE_S)
    return cpu_s


@contextmanager
def started(command: Sequence[str], cwd: Path, output: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command in a session of its own; what is left of that dies with the block."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a started command and its children with SIGKILL."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(kw_only=True)
class _Peaks:
    peak_kib: int = 0
    largest_kib: int = 0
    #: By process: what it shares with others, beyond its own share.
    shared_kib: dict[int, int] = field(default_factory=dict)


class MemoryWatch:
    """Samples the memory of a session's processes; what they share is counted once.

    Args:
        session: The id of its first process.
    """

    def __init__(self, session: int) -> None:
        self._session = session
        self._peaks = _Peaks()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def peak_kib(self) -> int:
        """The peaks of all processes that were there at one time, added."""
        return max(self._peaks.peak_kib, self._peaks.largest_kib)  # it may have peaked between samples

    @property
    def largest_kib(self) -> int:
        """Peak of the largest process."""
        return self._peaks.largest_kib

    def _watch(self) -> None:
        looks = 0
        while not self._over.wait(_SAMPLE_S):
            if looks % _SAMPLES_A_LOOK == 0:
                members = list(_session_members(self._session))
                self._peaks.shared_kib = {pid: _shared_kib(pid) for pid in members}
            looks += 1
            self._sample()

    def _sample(self) -> None:
        shared = self._peaks.shared_kib
        peaks = {pid: peak_kib(pid) for pid in shared}
        # Not what they hold at this moment: the longer a run, the more moments, the higher the highest.
        now = sum(max(0, peak - shared[pid]) for pid, peak in peaks.items())
        self._peaks.peak_kib = max(self._peaks.peak_kib, now)
        self._peaks.largest_kib = max(self._peaks.largest_kib, *peaks.values(), 0)


def _session_members(session: int) -> Iterator[int]:
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(_stat(int(folder.name))[3]) == session:
                yield int(folder.name)


def _stat(pid: int) -> list[str]:
    """Return the fields of a process's `stat` from its state on (proc(5))."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def peak_kib(pid: int) -> int:
    """Return a process's resident memory at its peak; 0 when it has ended."""
    return _sizes_kib(pid, "status", "VmHWM")[0]


def _shared_kib(pid: int) -> int:
    """Return by how much a process's resident memory is more than its share of it (Pss in proc(5))."""
    resident, share = _sizes_kib(pid, "smaps_rollup", "Rss", "Pss")
    return resident - share


def _sizes_kib(pid: int, file: str, *names: str) -> list[int]:
    """Read sizes from one of a process's files; zeros when it has ended."""
    found = dict.fromkeys(names, 0)
    with contextlib.suppress(OSError):
        for line in (_PROC / str(pid) / file).read_text().splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[0])
    return list(found.values())


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(list(values))


def machine() -> str:
    """Describe the machine in one line: a figure means little without it."""
    models = [
        line.partition(":")[2].strip()
        for line in (_PROC / "cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.release().split('-')[0]}, "
        f"{os.cpu_count()} cores ({models[0] if models else platform.machine()}), "
        f"Python {platform.python_version()}, load before {os.getloadavg()[0]:.1f}"
    )


def note(text: str) -> None:
    """Say how far the benchmark is, beside its results."""
    print(text, file=sys.stderr, flush=True)

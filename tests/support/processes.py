"""The exporter and the demo API as processes of their own, as cron and a shell start them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.demo.orders import order_numbers
from tests.support.servers.process import stats

if TYPE_CHECKING:
    from tests.support.preloaded import Preloaded

ROOT = Path(__file__).parents[2]
TOKEN = "demo-token"
#: What aiohttp makes its own context of when it is imported.
_READ_AT_IMPORT = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A process that has ended.

    Args:
        code: Its exit code; negative for the signal that killed it.
        out: What it wrote on stdout.
        err: What it wrote on stderr.
        took_s: Seconds from its start to its end.
    """

    code: int
    out: str
    err: str
    took_s: float

    @property
    def summary(self) -> dict[str, Any]:
        """The JSON object of `--json`."""
        summary: dict[str, Any] = json.loads(self.out)
        return summary

    def said(self, code: int, *words: str) -> None:
        """Assert the exit code, an `Error:` sentence with these words, and no traceback."""
        assert (self.code, "Traceback" in self.err) == (code, False), f"exit {self.code}:\n{self.err}"
        errors = [line for line in self.err.splitlines() if line.startswith("Error: ")]
        assert len(errors) == 1, self.err
        for word in words:
            assert word in self.err


class Running:
    """A process that may still run.

    Args:
        process: With stdout and stderr as text pipes, or files.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.began = time.monotonic()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def signal_group(self, number: int) -> None:
        """Send a signal to it and its children, as systemd and a terminal do."""
        os.killpg(self.process.pid, number)

    def end(self, timeout_s: float = 60.0) -> Ended:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=timeout_s)
        took_s = time.monotonic() - self.began
        return Ended(code=self.process.returncode, out=out, err=err, took_s=took_s)

    def kill(self) -> Ended:
        """Kill it with SIGKILL and wait for its end."""
        self.process.kill()
        return self.end()

    def family(self) -> dict[int, str]:
        """Return the command line of every process of its session, by id; also once it has ended itself (Linux)."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                session = (folder / "stat").read_text().rpartition(")")[2].split()[3]
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if int(session) == self.pid and command:  # one that has ended and is not waited for has none
                    found[int(folder.name)] = command
        return found

    def publishers(self) -> list[int]:
        """Return the ids of its publishing processes that have begun (Linux)."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            # Before its exec a child is its parent's image, and one that shares the parent's memory.
            begun = [
                pid
                for pid in children
                if b"exporter.dataset.publishing.publisher_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
            ]
        except OSError:
            return []
        return [int(pid) for pid in begun]


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without the exporter's own variables, but for the forced transport."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("EXPORTER_") or name == "EXPORTER_TEST_TRANSPORT"
    }
    return kept | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", **(extra or {})}


@contextmanager
def exporter_process(
    *words: object, env: Mapping[str, str], cwd: Path, prefix: Sequence[str] = ()
) -> Iterator[Running]:
    """Start the exporter as the leader of a process group; what is left of it dies with the block.

    Args:
        words: Its command line, from the command's name on.
        env: The whole environment.
        cwd: Its current directory.
        prefix: A program to start it through, such as `setpriv`.
    """
    command = [*prefix, sys.executable, "-m", "exporter", *map(str, words)]
    with subprocess.Popen(
        command,
        env=dict(env),
        cwd=cwd,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        running = Running(process)
        try:
            yield running
        finally:
            with contextlib.suppress(ProcessLookupError):
                running.signal_group(signal.SIGKILL)
            process.communicate()


@cache
def _forks() -> Preloaded:
    """Start, once for all tests, what starts exporters sooner; it ends when these tests' process does."""
    from tests.support.preloaded import start

    return start()


@dataclass(frozen=True, kw_only=True)
class Exporter:
    """Runs the exporter against one API.

    Args:
        cwd: Its current directory.
        env: Its whole environment.
        prefix: A program to start it through.
    """

    cwd: Path
    env: Mapping[str, str]
    prefix: Sequence[str] = ()

    def __call__(self, *words: object, **env: str) -> Ended:
        """Run it to its end; keywords are more environment."""
        environment = {**self.env, **env}
        as_imported = all(environment.get(name) == os.environ.get(name) for name in _READ_AT_IMPORT)
        if as_imported and not self.prefix:
            return _forks().run(*words, env=environment, cwd=self.cwd)
        with self.started(*words, **env) as running:
            return running.end()

    def started(self, *words: object, **env: str) -> contextlib.AbstractContextManager[Running]:
        """Start it; keywords are more environment."""
        return exporter_process(*words, env={**self.env, **env}, cwd=self.cwd, prefix=self.prefix)

    def run(self, *words: object, out: object = "out", **env: str) -> Ended:
        """`exporter run numbers.txt --out OUT --rate unlimited` and more words, to its end."""
        return self(*self.run_words(*words, out=out), **env)

    def run_started(
        self, *words: object, out: object = "out", **env: str
    ) -> contextlib.AbstractContextManager[Running]:
        """The same, started."""
        return self.started(*self.run_words(*words, out=out), **env)

    @staticmethod
    def run_words(*words: object, out: object = "out") -> list[object]:
        """Return the command line of `run`; words that come later beat the defaults."""
        return ["run", "numbers.txt", "--out", out, "--rate", "unlimited", *words]


@dataclass(frozen=True, kw_only=True)
class Api:
    """A demo API in a process of its own.

    Args:
        url: Its base URL.
        numbers: The order numbers that it knows.
    """

    url: str
    numbers: tuple[str, ...]

    def stats(self) -> dict[str, Any]:
        """Return what it was asked so far."""
        return stats(self.url)

    def asked(self) -> int:
        """Return how many requests it got so far."""
        return int(self.stats()["requests"])

    def exporter(self, cwd: Path, numbers: Sequence[str] | None = None, **env: str) -> Exporter:
        """Return an exporter for this API, with a `numbers.txt` in its current directory."""
        return exporter_for(self.url, cwd, self.numbers if numbers is None else numbers, **env)


def exporter_for(url: str, cwd: Path, numbers: Sequence[str], **env: str) -> Exporter:
    """Return an exporter for the API at `url`, with a `numbers.txt` in its current directory `cwd`."""
    cwd.mkdir(exist_ok=True)
    (cwd / "numbers.txt").write_text("".join(f"{number}\n" for number in numbers), "utf-8")
    credentials = {"EXPORTER_API_URL": url, "EXPORTER_API_TOKEN": TOKEN}
    return Exporter(cwd=cwd, env=clean_environment(credentials | env))


@contextmanager
def demo_api(*words: object, orders: int = 400) -> Iterator[Api]:
    """Run `exporter serve` for the length of the block.

    Args:
        words: More of its options, such as `"--latency", 0.01`.
        orders: How many orders it knows.
    """
    command = ["serve", "--port", 0, "--orders", orders, *words]
    with exporter_process(*command, env=clean_environment(), cwd=ROOT) as running:
        assert running.process.stdout is not None
        url = running.process.stdout.readline().strip()
        assert url.startswith("http"), running.end().err
        yield Api(url=url, numbers=tuple(order_numbers(orders)))


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait for a condition, looking every few milliseconds; fail after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)

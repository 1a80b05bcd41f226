"""The Markdown pages of this repository, and the commands in them, run as a reader would.

A fenced block may have a note above it, an HTML comment that readers do not see:

- `exit 3`: the block ends with that exit code.
- `server`: the block starts the demo API; the test starts it, with these options, at a free port.
- `file NAME`: the block is that file's content.
- `output`, `output like`: what the block before it printed; with `like`, numbers may differ.
- `test command`: `.ci/run` reads it, and runs it itself.
- `not run: why`.

`python -m tests.support.pages [PAGE]...` puts what the commands print now into the pages.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.support.processes import ROOT, TOKEN, Api, clean_environment, demo_api

#: What stands in the pages for the reader's own API and token.
EXAMPLE_URL = "https://oms.example.com"
EXAMPLE_TOKEN = "0123456789abcdef"
SERVED_URL = "http://127.0.0.1:8000"
HOME = "/home/you"
#: What is replaced in a page's commands, so that they take seconds, and on a busy machine do what they do on another.
REPLACED = {
    "capacity.md": {"20000": "300"},
    "cookbook.md": {"50/s": "1000/s"},
    "tutorial.md": {"--signal=KILL 4": "--signal=KILL 8"},
}

_FENCE = re.compile(
    r"(?:^<!-- (?P<note>[^\n]+?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_INSTALL = re.compile(r"^python3 -m venv .*? && .*?pip install .*? && \S*/bin/", re.MULTILINE)
# What differs from run to run, and from machine to machine.
_VARYING = (
    (re.compile(r"http://127\.0\.0\.1:\d+"), "URL"),
    (re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d:\d\d[.\dZ]*)?"), "DATE"),
    (re.compile(r"\d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"\b[\d.]+ (s|min|ms)\b"), "DURATION"),
    (re.compile(r"\b[\d.]+ [KM]?i?B\b"), "SIZE"),
    (re.compile(r"\b[0-9a-f]{32,64}\b"), "HASH"),
    (re.compile(r"process \d+"), "PROCESS"),
)
# What is said only where this machine has too much other work for the page's rate.
_OF_A_BUSY_MACHINE = re.compile(r"WARNING --concurrency \d+ is what limits")


def pages() -> list[Path]:
    """Return every page that a person reads."""
    return [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
        (ROOT / "docs").glob("*.md")
    )


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block.

    Args:
        page: Its page's name.
        line: Where it begins.
        language: The word after the fence.
        note: The comment above it.
        text: What is between the fences.
    """

    page: str
    line: int
    language: str
    note: str
    text: str

    @property
    def place(self) -> str:
        """Where it is, for a failed assertion."""
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Yield the page's fenced blocks."""
    return map(partial(_block, page), _FENCE.finditer(page.read_text("utf-8")))


def _block(page: Path, found: re.Match[str]) -> Block:
    return Block(
        page=page.name,
        line=found.string.count("\n", 0, found.start("text")),
        language=found["language"],
        note=found["note"] or "",
        text=found["text"],
    )


def prose(page: Path) -> str:
    """Return the page without its fenced blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def followed(page: Path, reader: Reader) -> str:
    """Do what a page says, and return it with what was printed where that differs from what it shows."""

    def follow(found: re.Match[str]) -> str:
        block = _block(page, found)
        if not block.note.startswith("output"):
            reader.do(block)
            return found[0]
        at = found.start("text") - found.start()
        return found[0][:at] + reader.shown(block) + found[0][at + len(block.text) :]

    return _FENCE.sub(follow, page.read_text("utf-8"))


@dataclass(kw_only=True)
class Reader:
    """Somebody who does what a page says, block after block, in one folder.

    Args:
        folder: Where.
        api: The demo API that stands for the reader's own.
        served: The one that the page starts; the same where it starts none.
        replacing: More of what is to be replaced in commands, to make them short.
    """

    folder: Path
    api: Api
    served: Api
    replacing: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        rows = [f"{number},1\n" for number in self.api.numbers[:40]]
        (self.folder / "orders.csv").write_text("".join(["order_number,shop\n", *rows]), "utf-8")
        self._state = self.folder.with_suffix(".environment")
        self._state.write_text("")
        self._printed = ""

    def do(self, block: Block) -> None:
        """Do what the block says."""
        if block.note.startswith(("not run: ", "server", "test command")):
            return
        if block.note.startswith("file "):
            path = self.folder / block.note.removeprefix("file ")
            path.write_text(self._here(block.text), "utf-8")
            path.chmod(0o600)
        elif block.language in ("sh", "python"):
            self._run(block)

    def shown(self, block: Block) -> str:
        """Return the output block's text, or what was printed where that is something else."""
        like = block.note == "output like"
        same = _steady(block.text, like=like) == _steady(self._printed, like=like)
        return block.text if same else self._printed

    def _here(self, text: str) -> str:
        replacing = {
            EXAMPLE_URL: self.api.url,
            SERVED_URL: self.served.url,
            EXAMPLE_TOKEN: TOKEN,
            **self.replacing,
        }
        for old, new in replacing.items():
            text = text.replace(old, new)
        return _INSTALL.sub("", text)

    def _run(self, block: Block) -> None:
        text = self._here(block.text)
        if block.language == "python":
            script = self.folder.with_suffix(".py")
            script.write_text(text, "utf-8")
            text = f"python -W error {script}"
        ended = self._bash(text)
        expected = int(block.note.removeprefix("exit ")) if block.note.startswith("exit ") else 0
        assert ended.returncode == expected, f"{block.place}: {ended.stdout}"
        here = ended.stdout.replace(str(self.folder.resolve()), HOME).replace(str(self.folder), HOME)
        self._printed = here.replace(self.api.url, EXAMPLE_URL).replace(self.served.url, SERVED_URL)

    def _bash(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run commands with what earlier ones have exported."""
        keep = f"trap 'export -p > {self._state}' EXIT\nset -eo pipefail\nsource {self._state}\n"
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return subprocess.run(
            ["bash", "-c", keep + text],
            cwd=self.folder,
            env=clean_environment({"PATH": path}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )


def _steady(text: str, *, like: bool) -> list[str]:
    """Return the lines without what varies: times, sizes, and the width of columns that hold them."""
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    if like:
        text = re.sub(r"[\d,.]*\d", "N", text)
    told = (line for line in text.splitlines() if not _OF_A_BUSY_MACHINE.search(line))
    lines = (re.sub(r"[ ─━-]+", " ", line).strip() for line in told)
    return [line for line in lines if line]


@contextmanager
def reader_of(page: Path, folder: Path) -> Iterator[Reader]:
    """Yield a reader of the page, with the demo API that it starts, or another one."""
    replacing = REPLACED.get(page.name, {})
    commands = [shlex.split(block.text) for block in blocks(page) if block.note == "server"]
    words = [replacing.get(word, word) for command in commands for word in command[2:]]
    with ExitStack() as stack:
        served = stack.enter_context(demo_api(*words, orders=500))
        api = stack.enter_context(demo_api(orders=500)) if commands else served
        yield Reader(folder=folder / page.stem, api=api, served=served, replacing=replacing)


def main() -> None:
    """Put what the commands print now into the pages named, or into every page."""
    for page in [Path(name).resolve() for name in sys.argv[1:]] or pages():
        with tempfile.TemporaryDirectory() as folder, reader_of(page, Path(folder)) as reader:
            page.write_text(followed(page, reader), "utf-8")


if __name__ == "__main__":
    main()

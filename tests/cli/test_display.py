"""What is seen while a run runs: a live display at a real terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exporter.cli.live_display import picture
from exporter.cli.watching import Lines
from exporter.model.progress import Progress
from tests.support.processes import Api, Exporter, demo_api

pty = pytest.importorskip("pty")

HALFWAY = Progress(
    phase="fetching",
    total=20_000,
    done=12_345,
    pending_at_start=20_000,
    fetched=12_300,
    rejected=45,
    retried=12,
    throttled=3,
    published=11_000,
    elapsed_s=1234.0,
    rate_per_s=9.8,
    permitted_per_s=10.0,
    waiting=0,
    paused_s=None,
    why="rate 10/s",
)


def changed(**values: object) -> Progress:
    fields = {name: getattr(HALFWAY, name) for name in Progress.__slots__}
    return Progress(**(fields | values))


# --- the picture ---


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize(
    "progress",
    [
        HALFWAY,
        changed(paused_s=20.0, why="the API answered 429"),
        changed(waiting=7),
        changed(phase="publishing"),
        changed(phase="listing"),
        changed(total=0, done=0, published=0),
        changed(permitted_per_s=None, rate_per_s=0.0),
        changed(total=10_000_000, done=9_999_999),
    ],
)
def test_the_picture_fits_the_terminal(progress: Progress, width: int) -> None:
    """Whatever the run does, no line is wider than the terminal."""
    assert max(map(len, picture(progress, width).plain.splitlines())) <= width


def test_the_picture_tells_all_there_is() -> None:
    """Orders done of all, rate used and permitted, time left, fetched, rejected, retried."""
    text = picture(HALFWAY, 80).plain
    for words in ("61 %  12,345 of 20,000", "9.8 of 10/s", "13 min", "12,300", "45", "12 and 3 × 429"):
        assert words in text
    assert "Waiting" not in text


def test_the_picture_tells_who_waits_why_and_until_when() -> None:
    """A pause is told with its end and its cause; failures that wait for another attempt with their number."""
    text = picture(changed(paused_s=20.0, why="the API answered 429"), 80).plain
    assert re.search(r"Waiting +the API answered 429, until \d\d:\d\d:\d\d", text)
    slowed = changed(limited=True, why="503", permitted_per_s=12.0)
    assert "503, slowing to 12/s" in picture(slowed, 80).plain
    assert re.search(
        r"API down since \d\d:\d\d:\d\d, checking again", picture(changed(down_since=9e8), 80).plain
    )
    assert "7 for another attempt" in picture(changed(waiting=7), 80).plain


def test_a_narrow_terminal_tells_what_matters() -> None:
    """On 40 columns nothing is cut off: what is done, how much of it, how fast, who waits, and for how long."""
    paused = picture(changed(paused_s=20.0, why="the API answered 429"), 40).plain
    for words in ("Fetching", "61 %  12,345 of 20,000", "Rate       9.8 of 10/s", "Left       13 min"):
        assert words in paused
    assert re.search(r"Waiting +the API answered 429, until\n +\d\d:\d\d:\d\d$", paused)
    listing = picture(changed(phase="listing", total=10_000_000, done=9_999_999), 40).plain
    assert "Listing" in listing
    assert "99 %  9,999,999 of 10,000,000" in listing


def test_publishing_is_told() -> None:
    """When nothing is left to ask for, the bar tells how far the tables are."""
    assert "Publishing" in picture(changed(phase="publishing"), 80).plain
    assert "11,000 of 20,000" in picture(changed(phase="publishing"), 80).plain


def test_another_encoding_gets_a_bar_of_its_own() -> None:
    """A terminal without box-drawing letters gets a bar of plain ones."""
    assert picture(HALFWAY, 80, ascii_only=True).plain.isascii() is False  # the sign for `times` is Latin-1
    assert "####" in picture(HALFWAY, 80, ascii_only=True).plain
    picture(HALFWAY, 80, ascii_only=True).plain.encode("iso8859-9")


def test_all_is_100_percent_and_nothing_else_is() -> None:
    """One order less than all is 99 %."""
    assert "99 %" in picture(changed(total=10_000_000, done=9_999_999), 80).plain
    assert "100 %" in picture(changed(done=20_000), 80).plain


@pytest.mark.parametrize(
    ("values", "left_s"),
    [
        ({}, 7655 / 9.8),
        ({"done": 20_000}, 0.0),
        ({"rate_per_s": 0.0}, 765.5),
        ({"rate_per_s": 0.0, "permitted_per_s": None}, None),
        ({"rate_per_s": 0.1, "paused_s": 20.0}, 765.5 + 20.0),
    ],
)
def test_the_time_left(values: dict[str, object], left_s: float | None) -> None:
    """By the rate of late; at the start and in a pause by the permitted rate, the pause included."""
    assert changed(**values).left_s == (pytest.approx(left_s) if left_s is not None else None)


# --- plain lines ---


def test_a_line_a_minute_and_one_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """Elsewhere than at a terminal a run says how far it is each minute, and that it is done."""
    caplog.set_level("INFO", logger="exporter")
    lines = Lines()
    for tenth in range(1500):
        lines(changed(elapsed_s=tenth / 10))
    lines(changed(phase="done", elapsed_s=150.0, done=20_000))
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "12,345 of 20,000 orders done, 45 rejected, 9.8 of 10/s, 13 min left.",
        "12,345 of 20,000 orders done, 45 rejected, 9.8 of 10/s, 13 min left.",
        "Finished after 2 min",
    ]


def test_a_line_tells_a_pause_and_the_publishing() -> None:
    """A pause is told with its cause; publishing by how far the tables are."""
    assert "waiting for another 20 s: the API answered 429" in str(
        changed(paused_s=20.0, why="the API answered 429")
    )
    assert str(changed(phase="publishing")).startswith("Publishing: 11,000 of 20,000")


def test_without_a_terminal_nothing_moves(exporter: Exporter) -> None:
    """A pipe or a file gets plain lines, without a single escape code: two at the start, one at the end."""
    ended = exporter.run()
    lines = ended.err.splitlines()
    assert "\x1b" not in ended.err
    assert "\r" not in ended.err
    assert len(lines) == 3
    assert "read as text" in lines[0]
    assert "60 order numbers" in lines[1]
    assert "Finished" in lines[2]


# --- a real terminal ---


class Terminal:
    """A pseudo-terminal of 80 columns with a process on it."""

    def __init__(self, pid: int, fd: int) -> None:
        self.pid = pid
        self.fd = fd
        self.seen = ""

    def read_until(self, pattern: str, timeout_s: float = 30.0) -> str:
        """Read until the pattern is seen; return all that was seen."""
        deadline = time.monotonic() + timeout_s
        while not re.search(pattern, self.seen):
            assert time.monotonic() < deadline, self.seen
            if not self._read():
                break
        assert re.search(pattern, self.seen), self.seen
        return self.seen

    def end(self) -> int:
        """Read to the end; return the exit code."""
        while self._read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self) -> bool:
        try:
            if select.select([self.fd], [], [], 1.0)[0]:
                data = os.read(self.fd, 65536)
                self.seen += data.decode("utf-8", "replace")
                return bool(data)
        except OSError:  # Linux' way to say that the other side is closed
            return False
        return True


@contextmanager
def at_a_terminal(exporter: Exporter, *words: object, **env: str) -> Iterator[Terminal]:
    """Run the exporter on a pseudo-terminal."""
    command = [sys.executable, "-m", "exporter", *map(str, words)]
    environment = {**exporter.env, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", **env}
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(exporter.cwd)
        os.execve(command[0], command, environment)
    try:
        yield Terminal(pid, fd)
    finally:
        os.close(fd)


@pytest.fixture(scope="module")
def slow_api() -> Iterator[Api]:
    """Faults and a limit, so that there is something to see."""
    with demo_api("--rate-limit", 60, "--fault-rate", 0.05, orders=120) as api:
        yield api


def test_a_terminal_shows_a_live_display_and_the_log_above_it(slow_api: Api, tmp_path: Path) -> None:
    """At a terminal the display moves, pauses show, and at the end the table stands alone."""
    exporter = slow_api.exporter(tmp_path)
    with at_a_terminal(exporter, *exporter.run_words("--rate", "100/s", out="out")) as terminal:
        terminal.read_until(r"Fetching")
        terminal.read_until(r"Waiting +429, until \d\d:\d\d:\d\d")
        assert terminal.end() == 0
    seen = terminal.seen
    assert "120 order numbers" in seen
    assert "The API answered 429" in seen
    assert re.search(r"\d+ of 100/s", seen)
    assert "\x1b[?25l" not in seen  # the cursor is never hidden, so no kill can leave it so
    end = seen[seen.rindex("Exported 120 of 120 orders") :]
    assert "Fetching" not in end
    assert re.search(r"orders +120", end)


def test_the_reading_of_the_list_is_shown(slow_api: Api, tmp_path: Path) -> None:
    """`numbers` and `run --from-api` show how much of the API's list was read, then the run goes on below it."""
    exporter = slow_api.exporter(tmp_path)
    words = ["numbers", "--out", "listed.txt", "--page-size", 10, "--rate", "10/s"]
    with at_a_terminal(exporter, *words) as terminal:
        terminal.read_until(r"Listing .*\d+ of 120")
        assert terminal.end() == 0
    assert "120 order numbers from 12 pages" in terminal.seen
    with at_a_terminal(exporter, "run", "--from-api", "--out", "out", "--rate", "100/s") as terminal:
        terminal.read_until(r"Listing")
        terminal.read_until(r"Fetching")
        assert terminal.end() == 0


def test_quiet_and_json_show_no_display(slow_api: Api, tmp_path: Path) -> None:
    """--quiet leaves the terminal alone; --log-format json writes plain objects there."""
    exporter = slow_api.exporter(tmp_path, slow_api.numbers[:5])
    with at_a_terminal(exporter, *exporter.run_words("--quiet")) as terminal:
        assert terminal.end() == 0
    assert terminal.seen == ""
    words = exporter.run_words("--log-format", "json", "--json", out="other")
    with at_a_terminal(exporter, *words) as terminal:
        assert terminal.end() == 0
    assert "\x1b" not in terminal.seen


def test_a_dumb_terminal_gets_plain_lines(slow_api: Api, tmp_path: Path) -> None:
    """Where the terminal knows no escape codes, none are sent."""
    exporter = slow_api.exporter(tmp_path, slow_api.numbers[:5])
    with at_a_terminal(exporter, *exporter.run_words(), TERM="dumb") as terminal:
        assert terminal.end() == 0
    assert "\x1b" not in terminal.seen
    assert "Finished after" in terminal.seen


def test_ctrl_c_at_a_terminal_ends_in_a_str(slow_api: Api, tmp_path: Path) -> None:
    """Ctrl-C takes the display away and leaves one sentence, how to go on, and exit 130."""
    exporter = slow_api.exporter(tmp_path)
    with at_a_terminal(exporter, *exporter.run_words("--rate", "5/s")) as terminal:
        terminal.read_until(r"Fetched +[1-9]")
        os.write(terminal.fd, b"\x03")
        assert terminal.end() == 130, terminal.seen
    assert "Traceback" not in terminal.seen
    end = terminal.seen[terminal.seen.rindex("Error: ") :]
    assert "exporter run numbers.txt --out out --rate 5/s" in end
    assert "Fetching" not in end


def test_drawing_is_cheap() -> None:
    """A picture costs the event loop less than 5 ms even here: at 4 a second, under 2 % of it."""
    began = time.process_time()
    for _ in range(100):
        picture(HALFWAY, 80)
    assert (time.process_time() - began) / 100 < 0.005

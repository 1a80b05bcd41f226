"""The exporter as a library: `export`, `export_async`, a progress callback, and nobody else disturbed."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

import exporter
from exporter import Options, Progress, Summary
from tests.support.processes import TOKEN, Api


def options(api: Api, folder: Path, name: str, first: int, last: int) -> Options:
    """Return the options of an export of some of the API's orders."""
    numbers = folder / f"{name}.txt"
    numbers.write_text("".join(f"{number}\n" for number in api.numbers[first:last]))
    return Options(
        orders=str(numbers), out=str(folder / name), api_url=api.url, token=TOKEN, rate="unlimited"
    )


def test_export_returns_what_was_exported(api: Api, tmp_path: Path) -> None:
    """`export` needs no event loop, and returns the summary of the dataset that stands."""
    summary = exporter.export(options(api, tmp_path, "one", 0, 20))
    assert isinstance(summary, Summary)
    assert (summary.requested, summary.exported, summary.rejected) == (20, 20, 0)
    assert (summary.exit_code, summary.rejects_by_reason) == (0, {})
    assert summary.started_at < summary.finished_at
    assert {part.path for part in summary.files} == {"orders.parquet", "order_items.parquet"}
    assert (tmp_path / "one" / "manifest.json").is_file()


def test_two_exports_at_once_are_two_exports(api: Api, tmp_path: Path) -> None:
    """Two exports in one event loop share nothing: each has its own dataset, numbers and progress."""
    told: dict[str, list[Progress]] = {"one": [], "two": []}

    async def both() -> list[Summary]:
        one, two = options(api, tmp_path, "one", 0, 20), options(api, tmp_path, "two", 20, 70)
        return list(
            await asyncio.gather(
                exporter.export_async(one, on_progress=told["one"].append),
                exporter.export_async(two, on_progress=told["two"].append),
            )
        )

    one, two = asyncio.run(both())
    assert (one.exported, two.exported) == (20, 50)
    assert {progress.total for progress in told["one"]} == {20}
    assert {progress.total for progress in told["two"]} == {50}
    if sys.platform != "win32":
        held = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert not held & {signal.SIGINT, signal.SIGTERM}, "the caller's Ctrl-C is still held back"


def test_exports_in_threads_are_exports(api: Api, tmp_path: Path) -> None:
    """`export` works beside the main thread, two at once: no signal handler, no global state."""

    async def both() -> list[Summary]:
        jobs = [options(api, tmp_path, "one", 0, 20), options(api, tmp_path, "two", 20, 70)]
        return await asyncio.gather(*(asyncio.to_thread(exporter.export, job) for job in jobs))

    assert [summary.exported for summary in asyncio.run(both())] == [20, 50]


def test_two_exports_into_one_place_are_refused(api: Api, tmp_path: Path) -> None:
    """The lock holds inside a process as well: the second export of a dataset raises LockedError."""

    async def both() -> list[Summary | BaseException]:
        job = options(api, tmp_path, "one", 0, 20)
        exports = [exporter.export_async(job), exporter.export_async(job)]
        return list(await asyncio.gather(*exports, return_exceptions=True))

    done = asyncio.run(both())
    assert sorted(type(result).__name__ for result in done) == ["LockedError", "Summary"]


def test_progress_is_told_to_the_end(api: Api, tmp_path: Path) -> None:
    """The callback hears of fetching first and of the end last, with counts that only grow."""
    told: list[Progress] = []
    exporter.export(options(api, tmp_path, "one", 0, 60), on_progress=told.append)
    assert told[0].phase == "fetching"
    assert told[-1].phase == "done"
    assert (told[-1].done, told[-1].fetched, told[-1].left_s) == (60, 60, 0.0)
    for before, after in pairwise(told):
        assert before.done <= after.done
        assert before.elapsed_s <= after.elapsed_s


def test_a_callers_logging_is_left_alone(
    api: Api, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A library adds no handler and sets no level; its records go where the caller's logging sends them."""
    loggers = [logging.getLogger(), logging.getLogger("exporter")]
    before = [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    with caplog.at_level("INFO"):
        exporter.export(options(api, tmp_path, "one", 0, 5))
    after = [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    assert after == before
    assert any("5 order numbers" in record.getMessage() for record in caplog.records)
    assert capfd.readouterr() == ("", "")


def test_the_command_line_leaves_logging_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    """What the command line sets up for the log is undone at its end, also when the run fails."""
    from exporter.cli.watching import watching

    logger = logging.getLogger("exporter")
    before = (list(logger.handlers), logger.level, logger.propagate)

    def fail() -> None:
        with watching(quiet=False, log_format="json"):
            logger.info("told")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (list(logger.handlers), logger.level, logger.propagate) == before
    assert "told" in capfd.readouterr().err


def test_errors_are_ours(api: Api, tmp_path: Path) -> None:
    """What cannot work is one of the public errors, with its exit code and what to do."""
    with pytest.raises(exporter.UsageError) as usage:
        Options(orders="n.txt", out="o", api_url=api.url, token=TOKEN, formats=("xml",))  # type: ignore[arg-type]
    assert (usage.value.exit_code, usage.value.what) == (
        2,
        "formats: expected one of parquet, csv, xlsx, got 'xml'.",
    )
    job = replace(options(api, tmp_path, "one", 0, 5), token="wrong")
    with pytest.raises(exporter.TokenRefusedError) as refused:
        exporter.export(job)
    assert refused.value.exit_code == 5
    assert "wrong" not in str(refused.value)
    assert "wrong" not in repr(job)


def test_what_the_callback_raises_ends_the_run(api: Api, tmp_path: Path) -> None:
    """A callback may end the run by an exception of its own; it comes out as it is."""

    class EnoughError(Exception):
        pass

    def stop(_: Progress) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        exporter.export(options(api, tmp_path, "one", 0, 5), on_progress=stop)
    assert not (tmp_path / "one").exists()


def test_orders_may_be_given_themselves(api: Api, tmp_path: Path) -> None:
    """An iterable of texts and integers is a list of its own: nothing of it is taken for a header or a path."""
    given = Options(
        orders=(number for number in [*api.numbers[:3], 404404]),  # type: ignore[arg-type] # as people write it
        out=tmp_path / "given",  # type: ignore[arg-type]
        api_url=api.url,
        token=TOKEN,
        rate=1000,  # type: ignore[arg-type]
        max_age=timedelta(days=1),  # type: ignore[arg-type]
        max_rejects=0.5,  # type: ignore[arg-type]
        formats="parquet",  # type: ignore[arg-type]
    )
    assert (given.rate, given.max_age, given.max_rejects) == ("1000/s", "86400.0s", "50.0000000000%")
    summary = exporter.export(replace(given, concurrency=2))
    assert (summary.exported, summary.lines["lines"]) == (3, 4)
    assert summary.orders().column("number").to_pylist() == list(api.numbers[:3])
    assert summary.order_items().num_rows == summary.items
    assert repr(summary).startswith(f"Summary(out='{tmp_path}/given', exported=3, items=")
    assert "<th>not_found</th><td>1</td>" in summary._repr_html_()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("orders", 7),
        ("orders", [1.5]),
        ("orders", [None]),
        ("out", 7),
        ("store", b"s.db"),
        ("rate", True),
        ("rate", None),
        ("rate", "fast"),
        ("max_rejects", [5]),
        ("max_age", 7),
        ("formats", [1]),
        ("formats", None),
        ("formats", "pdf"),
        ("compression", 1),
        ("overwrite", "yes"),
        ("concurrency", "32"),
        ("concurrency", 1.5),
        ("concurrency", True),
        ("timeout_s", "30"),
        ("rows_per_file", "7"),
        ("select", 7),
        ("input_format", "pdf"),
        ("csv_dialect", "excel"),
        ("keep", 3),
        ("proxy", 8080),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(name: str, value: object) -> None:
    """An argument that does not fit is our error, which names it as Python spells it and no flag."""
    fitting = {"orders": "o.txt", "out": "out", "api_url": "http://127.0.0.1", "token": TOKEN}
    with pytest.raises(exporter.UsageError) as caught:
        Options(**{**fitting, name: value})  # type: ignore[arg-type]
    assert caught.value.option == name
    assert caught.value.what.startswith(f"{name}")
    assert "--" not in str(caught.value)


def test_export_where_a_loop_runs_says_what_to_write(api: Api, tmp_path: Path) -> None:
    """In a notebook, `export` says in one line what works there."""

    async def notebook() -> None:
        exporter.export(options(api, tmp_path, "one", 0, 20))

    with pytest.raises(exporter.UsageError, match=r"Write: await export_async\(…\)$"):
        asyncio.run(notebook())

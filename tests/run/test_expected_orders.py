"""`--expect-orders`: a list cut short, or a shop that hides its orders, replaces no dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.processes import Api, Exporter


def listed(exporter: Exporter, count: int, api: Api) -> None:
    (exporter.cwd / "numbers.txt").write_text("".join(f"{number}\n" for number in api.numbers[:count]))


def test_a_short_list_is_refused_before_the_first_request(exporter: Exporter, api: Api) -> None:
    """Fewer numbers than a share of the newest dataset's orders are exit 4; what stood there stands."""
    words = ("--expect-orders", "90%")
    assert exporter.run(*words, out="night-{date}-{time}").code == 0  # there is none to compare with
    (first,) = exporter.cwd.glob("night-*")
    listed(exporter, 53, api)
    asked = api.asked()
    ended = exporter.run(*words, out="night-{date}-{time}x")
    assert ended.code == 0  # another pattern
    ended = exporter.run(*words, "--overwrite", out=first.name)
    ended.said(4, "53 order numbers", "--expect-orders 90%", "(54)")
    assert api.asked() == asked + 53
    listed(exporter, 54, api)
    assert exporter.run(*words, "--overwrite", out=first.name).code == 0


def test_rejects_count_as_missing(exporter: Exporter, api: Api) -> None:
    """What counts in the end is the exported orders; a lower number publishes without another request."""
    with (exporter.cwd / "numbers.txt").open("a") as file:
        file.write("missing-1\nmissing-2\n")
    exporter.run("--expect-orders", "61").said(4, "60 exported orders", "(61)", "lower --expect-orders")
    asked = api.asked()
    assert exporter.run("--expect-orders", "60").code == 3
    assert api.asked() == asked
    assert (exporter.cwd / "out" / "manifest.json").exists()


@pytest.mark.parametrize("text", ["many", "-1", "101%"])
def test_what_is_no_number_is_refused(exporter: Exporter, text: str) -> None:
    """With the option's name."""
    exporter.run("--expect-orders", text).said(2, "--expect-orders", text)


def test_rejects_are_told_even_quietly(exporter: Exporter) -> None:
    """Exit 3 has one line on stderr with --quiet, and none is there when all was exported."""
    assert exporter.run("--quiet", out="all").err == ""
    with (exporter.cwd / "numbers.txt").open("a") as file:
        file.write("missing-1\n")
    ended = exporter.run("--quiet")
    assert (ended.code, ended.out) == (3, "")
    (line,) = ended.err.splitlines()
    assert "1 reject:" in line
    assert str(Path("out", "rejects.jsonl")) in line

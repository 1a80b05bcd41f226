"""`exporter numbers`: order numbers listed from the API, over real sockets."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

import pytest

from exporter.cli import main
from exporter.demo.orders import order_numbers
from tests.support.clients import serving
from tests.support.processes import Api, Ended, Exporter, demo_api, exporter_for, wait_until
from tests.support.servers import moves
from tests.support.servers.faulty import FaultyServer, Plan
from tests.support.servers.moves import Behaviour, Step


def page(numbers: Iterable[object], *, count: int, more: bool) -> Behaviour:
    """One page of the list, in the documented envelope."""
    return moves.answer(
        json.dumps(
            {
                "count": count,
                "next": "http://elsewhere.invalid/?page=2" if more else None,
                "previous": None,
                "results": [{"id": 1, "number": number, "channel": {}} for number in numbers],
            }
        ).encode()
    )


def pages(*contents: Behaviour) -> Behaviour:
    """The pages of a list, by the number asked for; the API answers 404 to others, as Django does."""

    def steps(target: str, nth: int) -> Iterable[Step]:
        number = int(dict(parse_qsl(urlsplit(target).query))["page"])
        behaviour = contents[number - 1] if number <= len(contents) else moves.status(404)
        return behaviour(target, nth)

    return steps


def called(exporter: Exporter, *words: object) -> Ended:
    """Run the command inside this process: what it starts slowly is here already."""
    out, err, began = io.StringIO(), io.StringIO(), time.monotonic()
    with (
        contextlib.chdir(exporter.cwd),
        mock.patch.dict(os.environ, exporter.env, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(["numbers", *map(str, words)])
    return Ended(code=code, out=out.getvalue(), err=err.getvalue(), took_s=time.monotonic() - began)


def listed(
    folder: Path, plan: Plan | Behaviour, *words: object, file: str = "listed.txt"
) -> tuple[Ended, list[str], FaultyServer]:
    """Run the command; return how it ended, the lines of its file, and the server."""
    with serving(plan) as server:
        ended = called(exporter_for(server.url, folder, []), "--out", file, "--rate", "unlimited", *words)
    path = folder / file
    return ended, path.read_text().splitlines() if path.is_file() else [], server


def test_every_order_is_listed_and_the_file_is_input_for_run(tmp_path: Path, api: Api) -> None:
    """All pages, in the API's order; `run` takes the file as it is."""
    exporter = api.exporter(tmp_path)
    words = ["--rate", "unlimited", "--page-size", 100]
    ended = exporter("numbers", "--out", "listed.txt", *words)
    assert ended.code == 0, ended.err
    assert "400 order numbers from 4 pages: listed.txt" in ended.out
    assert (tmp_path / "listed.txt").read_text().splitlines() == list(order_numbers(400))
    assert exporter("run", "listed.txt", "--out", "out", "--rate", "unlimited").code == 0


def test_filters_are_passed_on_as_given(tmp_path: Path) -> None:
    """Any key, any value, twice as well; pages of 100 unless told otherwise."""
    filters = ["--filter", "status=500", "--filter", "status=550", "--filter", "q=a b&c=ü/?"]
    ended, lines, server = listed(tmp_path, pages(page(["a1"], count=1, more=False)), *filters)
    assert (ended.code, lines) == (0, ["a1"])
    (arrival,) = (one for one in server.arrivals if "limit=100" in one.target)
    assert len(server.arrivals) == 1 + 2, "a count without each of the two keys"
    query = parse_qsl(urlsplit(arrival.target).query)
    assert query == [
        ("status", "500"),
        ("status", "550"),
        ("q", "a b&c=ü/?"),
        ("limit", "100"),
        ("page", "1"),
    ]
    assert urlsplit(arrival.target).path == "/api/i1/orders/"
    assert arrival.headers["authorization"] == "Token demo-token"


def test_the_page_size_is_asked_for_and_a_smaller_one_borne(tmp_path: Path) -> None:
    """An API that cuts the page size without a word is read to its end all the same."""
    plan = pages(*(page([f"a{index}"], count=3, more=index < 3) for index in (1, 2, 3)))
    ended, lines, server = listed(tmp_path, plan, "--page-size", 500)
    assert (ended.code, lines) == (0, ["a1", "a2", "a3"])
    assert all("limit=500" in arrival.target for arrival in server.arrivals)


def test_orders_that_move_between_pages_are_written_once(tmp_path: Path) -> None:
    """New orders push known ones to the next page."""
    plan = pages(
        page(["a1", "a2"], count=5, more=True),
        page(["a2", "a3"], count=5, more=True),
        page(["a2", "a3"], count=5, more=True),
        page(["a4", 5], count=5, more=False),
    )
    ended, lines, _ = listed(tmp_path, plan)
    assert (ended.code, lines) == (0, ["a1", "a2", "a3", "a4", "5"])
    assert "may be missing" not in ended.err


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (page([], count=9, more=True), "page 2: it is empty"),
        (moves.status(404), "page 2: the API answered 404"),
        (moves.status(403), "page 2: the API answered 403"),
        (moves.html(), "page 2: the API answered with something else"),
        (page(["a3"], count=9, more=False), "counts 9 orders, 3 were listed"),
    ],
    ids=["empty", "404", "403", "html", "too few"],
)
def test_an_end_that_is_none_makes_no_list(tmp_path: Path, last: Behaviour, told: str) -> None:
    """Exit 6 and no file; and once the API is well, the same command resumes and lists everything."""
    plan = pages(page(["a1", "a2"], count=9, more=True), last)
    ended, lines, _ = listed(tmp_path, plan, "--max-attempts", 2)
    ended.said(6, told)
    assert lines == []
    rest = page([f"a{index}" for index in range(3, 10)], count=9, more=False)
    ended, lines, _ = listed(tmp_path, pages(page(["a1", "a2"], count=9, more=True), rest))
    assert (ended.code, lines) == (0, [f"a{index}" for index in range(1, 10)]), ended.err


@pytest.mark.parametrize(
    "hiccup", [moves.status(404), moves.html(), moves.status(502), page([], count=6, more=True)]
)
def test_a_hiccup_in_mid_listing_is_asked_again(tmp_path: Path, hiccup: Behaviour) -> None:
    """One wrong answer for a page in the middle costs a request or two, and no order."""
    plan = pages(
        page(["a1", "a2"], count=6, more=True),
        moves.in_turn(hiccup, page(["a3", "a4"], count=6, more=True)),
        page(["a5", "a6"], count=6, more=False),
    )
    ended, lines, server = listed(tmp_path, plan)
    assert (ended.code, lines) == (0, [f"a{index}" for index in range(1, 7)]), ended.err
    assert len(server.arrivals) <= 5


def test_a_list_that_shrinks_meanwhile_ends_where_it_does(tmp_path: Path) -> None:
    """A page that was promised is gone, and the one before says now that it is the last."""
    shorter = moves.in_turn(page(["a1", "a2"], count=3, more=True), page(["a1", "a2"], count=2, more=False))
    ended, lines, _ = listed(tmp_path, pages(shorter))
    assert (ended.code, lines) == (0, ["a1", "a2"]), ended.err


def test_what_moved_away_is_found_in_a_second_walk(tmp_path: Path) -> None:
    """An order that left the first page pulls one of the second onto it, which the first walk has passed by."""
    plan = pages(
        moves.in_turn(page(["a1", "a2"], count=4, more=True), page(["a2", "a3"], count=3, more=True)),
        page(["a4"], count=4, more=False),
    )
    ended, lines, _ = listed(tmp_path, plan)
    assert (ended.code, sorted(lines)) == (0, ["a1", "a2", "a3", "a4"]), ended.err


def moving(*, shrinks: bool, broken_page: int = 0) -> Behaviour:
    """Twelve pages of two orders each; while the ninth is read for the first time, `a1` goes to the end, or is gone.

    So `a17` slips onto the eighth page, which was read. A `broken_page` fails when it is read for the second time.
    """
    before = [f"a{index}" for index in range(1, 25)]
    after = before[1:] if shrinks else [*before[1:], "a1"]

    def of_page(number: int) -> Behaviour:
        def shown(orders: list[str]) -> Behaviour:
            return page(orders[number * 2 - 2 : number * 2], count=len(orders), more=number < 12)

        again = [moves.status(500)] if number == broken_page else []
        return moves.in_turn(shown(before if number < 9 else after), *again, shown(after))

    return pages(*map(of_page, range(1, 13)))


@pytest.mark.parametrize("shrinks", [False, True])
def test_a_second_walk_goes_through_a_long_list(tmp_path: Path, shrinks: bool) -> None:
    """It meets known orders for many pages; what is gone does not stand for what was missed."""
    ended, lines, _ = listed(tmp_path, moving(shrinks=shrinks))
    assert ended.code == 0, ended.err
    assert sorted(lines) == sorted(f"a{index}" for index in range(1, 25))
    assert (
        "Two walks through the API's list disagree: they met 24 orders, the first one alone 23" in ended.err
    )


def test_a_second_walk_resumes(tmp_path: Path) -> None:
    """Ended in the middle of it, the same command goes on, through pages that it knows."""
    with serving(moving(shrinks=False, broken_page=2)) as server:
        words = ("--out", "listed.txt", "--rate", "unlimited", "--max-attempts", 1)
        exporter = exporter_for(server.url, tmp_path, [])
        called(exporter, *words).said(6, "page 2")
        ended = called(exporter, *words)
    assert ended.code == 0, ended.err
    assert "Resuming at page 1" in ended.err
    assert sorted((tmp_path / "listed.txt").read_text().split()) == sorted(
        f"a{index}" for index in range(1, 25)
    )


def test_numbers_that_two_channels_share_are_no_missing_orders(tmp_path: Path) -> None:
    """An order number is unique within its channel only: two orders, one line."""
    body = {"count": 2, "next": None, "results": [{"id": 1, "number": "a1"}, {"id": 2, "number": "a1"}]}
    ended, lines, server = listed(tmp_path, moves.answer(json.dumps(body).encode()))
    assert (ended.code, lines, len(server.arrivals)) == (0, ["a1"], 1)


def test_pages_are_read_side_by_side(tmp_path: Path) -> None:
    """Twenty pages that take 0.1 s each take a fraction of two seconds, and stand in the list's order."""
    contents = (page([f"a{index}"], count=20, more=index < 19) for index in range(20))
    ended, lines, server = listed(tmp_path, Plan(behaviour=pages(*contents), latency_s=0.1))
    assert (ended.code, lines) == (0, [f"a{index}" for index in range(20)])
    assert len(server.arrivals) == 20
    assert len({arrival.connection for arrival in server.arrivals}) > 1


def test_a_listing_resumes_where_it_was_killed(tmp_path: Path) -> None:
    """Killed in the middle, the same command asks for the last page again and those beyond it; no other list is made."""
    with demo_api(orders=400) as api:
        exporter = api.exporter(tmp_path)
        words = ("numbers", "--out", "listed.txt", "--page-size", 5)
        with exporter.started(*words, "--rate", "8/s") as running:
            wait_until(lambda: api.asked() >= 18)
            exporter(*words).said(8, "listed.txt.partial is in use by process")
            running.kill()
        before = api.asked()
        assert not (tmp_path / "listed.txt").exists()
        ended = exporter(*words, "--rate", "40/s")
        assert ended.code == 0, ended.err
        assert "Resuming at page" in ended.err
        assert api.asked() - before < 80 - 10
    assert (tmp_path / "listed.txt").read_text().splitlines() == list(order_numbers(400))
    assert not list(tmp_path.glob("*.partial"))


def test_another_list_is_begun_anew(tmp_path: Path) -> None:
    """What was listed with other filters, or longer ago than --resume-within, is dropped, and that is said."""
    plan = pages(page(["a1", "a2"], count=3, more=True), moves.status(500))
    listed(tmp_path, plan, "--max-attempts", 1)[0].said(6)
    whole = pages(page(["b1"], count=1, more=False))
    ended, lines, _ = listed(tmp_path, whole, "--filter", "status=500")
    assert (ended.code, lines) == (0, ["b1"])
    assert "2 of its orders are dropped" in ended.err


def test_the_same_page_for_ever_is_an_error(tmp_path: Path) -> None:
    """An API that does not count pages cannot make the listing endless, nor pass for complete."""
    ended, lines, server = listed(tmp_path, page(["a1", "a2"], count=1000, more=True))
    ended.said(6, "bring no new order", "Run the same command again.")
    assert lines == []
    assert len(server.arrivals) < 20


def test_one_page_for_ever_that_holds_everything_is_the_list(tmp_path: Path) -> None:
    """When all that the API counts is there, a promise of more is not believed twice."""
    ended, lines, server = listed(tmp_path, page(["a1", "a2"], count=2, more=True))
    assert (ended.code, lines, len(server.arrivals)) == (0, ["a1", "a2"], 2)


@pytest.mark.parametrize(
    "broken",
    [
        moves.html(),
        moves.answer(b"[]"),
        moves.answer(b'{"count": 1, "results": [{"number": "a1"}]}'),
        moves.answer(b'{"count": 1, "next": null, "results": ["a1"]}'),
        moves.status(503),
    ],
    ids=["html", "a list", "no next", "no orders", "503"],
)
def test_what_is_no_page_is_asked_again_and_then_given_up(tmp_path: Path, broken: Behaviour) -> None:
    """As often as told, then exit 6 with the page; what heals is read."""
    ended, lines, server = listed(tmp_path, broken, "--max-attempts", 2)
    ended.said(6, "page 1: ", "Run the same command again.")
    assert (lines, len(server.arrivals)) == ([], 2)
    healing = moves.in_turn(broken, page(["a1"], count=1, more=False))
    ended, lines, server = listed(tmp_path, healing)
    assert (ended.code, lines, len(server.arrivals)) == (0, ["a1"], 2)


@pytest.mark.parametrize(
    ("code", "exit_code", "word"),
    [
        (400, 2, "--filter"),
        (401, 5, "Check it, then run the same command again."),
        (403, 5, "403"),
        (404, 6, "404"),
    ],
)
def test_a_refused_list_is_asked_for_once(tmp_path: Path, code: int, exit_code: int, word: str) -> None:
    """Each refusal has its exit code and its hint, and no file appears."""
    ended, _, server = listed(tmp_path, moves.status(code))
    ended.said(exit_code, word)
    assert "to resume" not in ended.err
    assert len(server.arrivals) == 1
    assert not (tmp_path / "listed.txt").exists()


def test_a_429_is_waited_for(tmp_path: Path) -> None:
    """It is no attempt."""
    throttled = moves.in_turn(moves.throttled("1"), page(["a1"], count=1, more=False))
    ended, lines, _ = listed(tmp_path, throttled, "--max-attempts", 1)
    assert (ended.code, lines) == (0, ["a1"])


def test_pages_keep_the_pace(tmp_path: Path) -> None:
    """Ten pages at 20 a second take half a second at the server."""
    plan = pages(*(page([f"a{index}"], count=10, more=index < 9) for index in range(10)))
    _, lines, server = listed(tmp_path, plan, "--rate", "20/s")
    assert len(lines) == 10
    assert server.arrivals[-1].at - server.arrivals[0].at > 0.4


def test_numbers_that_are_none_are_left_out_and_told(tmp_path: Path) -> None:
    """A line break in a number would make two of it; nothing is left out in silence."""
    bad = ["a\nb", None, 1.5, True, "", "x" * 129]
    ended, lines, _ = listed(tmp_path, pages(page(["a1", *bad], count=7, more=False)))
    assert (ended.code, lines) == (0, ["a1"])
    assert ended.err.count("an order is left out") == len(bad)


def test_no_orders_make_an_empty_file(tmp_path: Path) -> None:
    """Nothing fits the filter: that is an answer."""
    ended, lines, _ = listed(tmp_path, pages(page([], count=0, more=False)))
    assert (ended.code, lines) == (0, [])
    assert (tmp_path / "listed.txt").read_bytes() == b""


def test_a_file_that_stands_is_kept(tmp_path: Path) -> None:
    """Unless told otherwise, and nobody is asked before."""
    (tmp_path / "listed.txt").write_text("old\n")
    plan = pages(page(["a1"], count=1, more=False))
    ended, lines, server = listed(tmp_path, plan)
    ended.said(2, "listed.txt: it is there already", "--overwrite")
    assert (lines, server.arrivals) == (["old"], [])
    ended, lines, _ = listed(tmp_path, plan, "--overwrite")
    assert (ended.code, lines) == (0, ["a1"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--out", "listed.csv"], "ends in .csv"),
        (["--out", "-"], "expected a file"),
        (["--out", "no/such/folder.txt"], "a directory that is there"),
        (["--filter", "status"], "expected KEY=VALUE"),
        (["--filter", "page=3"], "sets page and limit itself"),
        (["--filter", "limit=3"], "sets page and limit itself"),
        (["--page-size", "0"], "--page-size"),
    ],
)
def test_what_cannot_work_is_refused_before_asking(tmp_path: Path, words: list[str], told: str) -> None:
    """Exit 2, and the API is not bothered."""
    ended, _, server = listed(tmp_path, moves.status(500), *words)
    ended.said(2, told)
    assert server.arrivals == []


def test_a_failed_listing_leaves_no_file(tmp_path: Path) -> None:
    """The file appears whole or not at all: not after the first of two pages either; what was read is kept."""
    plan = pages(page(["a1"], count=2, more=True), moves.status(500))
    ended, _, _ = listed(tmp_path, plan, "--max-attempts", 1)
    ended.said(6, "page 2: the API answered 500")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["listed.txt.partial", "numbers.txt"]


def test_the_configuration_file_of_run_does_not_name_the_file(tmp_path: Path) -> None:
    """Its `out` is a dataset's, never the place of a list."""
    (tmp_path / "exporter.toml").write_text('out = "orders-{date}"\noverwrite = true\nrate = "unlimited"\n')
    with serving(pages(page(["a1"], count=1, more=False))) as server:
        exporter = exporter_for(server.url, tmp_path, [])
        exporter("numbers", EXPORTER_OUT="x").said(2, "--out is missing")
        assert exporter("numbers", "--out", "listed.txt").code == 0
        exporter("numbers", "--out", "listed.txt").said(2, "it is there already")


def test_filters_work_at_the_demo_api(tmp_path: Path) -> None:
    """Fewer orders with a filter than without, and each of them has the status asked for."""
    with demo_api(orders=60) as api:
        exporter = api.exporter(tmp_path)
        assert (
            exporter("numbers", "--out", "some.txt", "--rate", "unlimited", "--filter", "status=550").code
            == 0
        )
    some = (tmp_path / "some.txt").read_text().splitlines()
    assert 0 < len(some) < 60
    assert {json.loads(moves.order_body(number))["status"] for number in some} == {"550"}

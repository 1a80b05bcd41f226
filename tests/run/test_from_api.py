"""`exporter run --from-api`: the API's own list read, chosen from and exported by one command, over real sockets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
import pytest

from exporter import Options, Progress, export
from exporter.demo.orders import order_payload
from exporter.model.errors import UsageError
from tests.support.clients import serving
from tests.support.processes import TOKEN, Api, Ended, Exporter, demo_api, exporter_for, wait_until
from tests.support.servers import moves
from tests.support.servers.faulty import FaultyServer
from tests.support.servers.moves import Behaviour, Step


def run(exporter: Exporter, *words: object, out: str = "out") -> Ended:
    return exporter("run", "--from-api", "--out", out, "--rate", "unlimited", *words)


def exported(folder: Path, out: str = "out") -> list[str]:
    numbers: list[str] = pq.read_table(folder / out / "orders.parquet", columns=["number"])[
        "number"
    ].to_pylist()
    return numbers


def read(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "out" / "manifest.json").read_bytes())
    return manifest


def listing(
    entries: Sequence[dict[str, Any]], size: int = 2, counts: dict[str, int] | None = None
) -> Behaviour:
    """An API whose list shows these entries, whatever filter it is given, and whose orders are all there.

    Args:
        entries: What the list shows.
        size: The most entries on a page.
        counts: What the API counts where a query has such a text in it.
    """

    def steps(target: str, nth: int) -> Iterable[Step]:
        if "?" not in target:
            return moves.good(target, nth)
        page = int(dict(parse_qsl(urlsplit(target).query))["page"])
        told = [count for text, count in (counts or {}).items() if text in target]
        body = {
            "count": told[0] if told else len(entries),
            "next": "more" if page * size < len(entries) else None,
            "results": entries[(page - 1) * size : page * size],
        }
        return moves.answer(json.dumps(body).encode())(target, nth)

    return steps


def of_list(entries: Sequence[dict[str, Any]], folder: Path, *words: object) -> tuple[Ended, FaultyServer]:
    with serving(listing(entries)) as server:
        return run(exporter_for(server.url, folder, []), *words), server


def entry(number: str, **shown: object) -> dict[str, Any]:
    return {"id": 1, "number": number, "status": "400", "date_placed": "2026-11-15T12:00:00Z"} | shown


# --- the whole way ---


@pytest.mark.parametrize("words", [[], ["--whole-list"]], ids=["slim", "whole"])
def test_a_month_by_status_is_one_command(tmp_path: Path, words: list[str]) -> None:
    """Exactly the orders that fit, in the list's order, for the list's pages and a request for each of them."""
    with demo_api(*words, orders=400) as api:
        payloads = {number: order_payload(number) for number in api.numbers}
        zone = ZoneInfo("Europe/Istanbul")
        wanted = [
            number
            for number, order in payloads.items()
            if order["status"] in ("400", "550")
            and datetime.fromisoformat(order["date_placed"]).astimezone(zone).year == 2022
        ]
        choice = ["--status", "400,delivered", "--placed-from", "2022-01-01", "--placed-to", "2022-12-31"]
        ended = run(api.exporter(tmp_path), *choice, "--timezone", zone, "--json")
        assert ended.code == 0, ended.err
        assert api.asked() == 4 + len(wanted)
    assert 0 < len(wanted) < 100
    assert exported(tmp_path) == wanted
    manifest = read(tmp_path)
    assert manifest["requests"]["sent"] == 4 + len(wanted)
    assert manifest["counts"]["requested"] == len(wanted)
    about = manifest["input"]["read"]
    assert ended.summary["read"] == about
    told = {"format": "api", "status": "400,550", "placed_from": "2022-01-01", "placed_to": "2022-12-31"}
    assert about | told == about
    assert (about["query"], about["pages"], about["listed"]) == ("limit=100", 4, 400)
    assert "the API's order list: read as api" in ended.err
    assert not list(tmp_path.glob("*.partial"))


def test_numbers_takes_the_same_options(tmp_path: Path, api: Api) -> None:
    """The file has what `run --from-api` would export."""
    choice = ["--status", "400,550", "--placed-from", "2022-01-01", "--timezone", "Europe/Istanbul"]
    exporter = api.exporter(tmp_path)
    assert run(exporter, *choice).code == 0
    ended = exporter("numbers", "--out", "listed.txt", "--rate", "unlimited", *choice)
    assert ended.code == 0, ended.err
    assert (tmp_path / "listed.txt").read_text().split() == exported(tmp_path)


def test_python_has_the_same_options_and_is_told_of_the_listing(tmp_path: Path, api: Api) -> None:
    """A `date` is a day; the first progress is about the list, and says how much of it was read."""
    told: list[Progress] = []
    summary = export(
        Options(
            from_api=True,
            status=("400", "550"),
            placed_from=date(2022, 1, 1),  # type: ignore[arg-type] # Python may give what the command line cannot
            out=str(tmp_path / "out"),
            api_url=api.url,
            token=TOKEN,
            rate="unlimited",
        ),
        on_progress=told.append,
    )
    assert summary.read["status"] == "400,550"
    assert summary.read["placed_from"] == "2022-01-01"
    assert summary.exported == len(exported(tmp_path)) > 0
    assert (told[0].phase, told[-1].phase) == ("listing", "done")
    assert "of the API's list read" in str(told[0])


def test_a_cluster_exports_the_same(tmp_path: Path, api: Api) -> None:
    """`--dask` begins where the list ends."""
    pytest.importorskip("distributed")
    exporter = api.exporter(tmp_path)
    assert run(exporter, "--status", "550").code == 0
    before = api.asked()
    ended = run(exporter, "--status", "550", "--dask", "local:1", out="spread")
    assert ended.code == 0, ended.err
    assert exported(tmp_path, "spread") == exported(tmp_path)
    assert api.asked() - before == 4 + len(exported(tmp_path))


def test_the_list_and_the_orders_keep_one_rate(tmp_path: Path) -> None:
    """Pages and orders, and the step from the one to the other, stay within the rate in every second."""
    entries = [entry(f"a{index}") for index in range(20)]
    with serving(listing(entries)) as server:
        ended = exporter_for(server.url, tmp_path, [])("run", "--from-api", "--out", "out", "--rate", "10/s")
    assert ended.code == 0, ended.err
    at = [arrival.at for arrival in server.arrivals]
    assert len(at) == 10 + 20
    assert max(sum(start <= moment < start + 1.0 for moment in at) for start in at) <= 11
    assert server.arrivals[9].target.startswith("/api/i1/orders/?")


# --- what entries show ---


def test_our_side_chooses_where_the_api_ignores_the_filter(tmp_path: Path) -> None:
    """The API answers with everything; what was asked for is exported, and nothing else is asked for."""
    entries = [entry("a1"), entry("a2", status="550"), entry("a3"), entry("a4", status="100")]
    ended, server = of_list(entries, tmp_path, "--status", "400", "--filter", "status=400")
    assert ended.code == 0, ended.err
    assert exported(tmp_path) == ["a1", "a3"]
    assert {arrival.number for arrival in server.arrivals if "?" not in arrival.target} == {"a1", "a3"}
    assert "--filter status changes nothing: the API counts 4 orders without it too" in ended.err


@pytest.mark.parametrize(
    "shown",
    ["550", 550, "delivered", "Delivered", {"value": "550", "label": "Teslim"}, {"value": 550}],
    ids=str,
)
def test_a_status_may_be_spelt_in_many_ways(tmp_path: Path, shown: object) -> None:
    """A code, a number, a documented name, an object around one; unknown codes are codes too."""
    entries = [entry("a1", status=shown), entry("a2", status="551"), entry("a3", status="55")]
    assert of_list(entries, tmp_path, "--status", "550,999")[0].code == 0
    assert exported(tmp_path) == ["a1"]


def test_days_are_those_of_the_zone_and_the_last_is_included(tmp_path: Path) -> None:
    """Both midnights of a month in Istanbul, to the microsecond, whatever offset the API writes."""
    entries = [
        entry("before", date_placed="2026-10-31T20:59:59.999999Z"),
        entry("first", date_placed="2026-11-01T00:00:00+03:00"),
        entry("last", date_placed="2026-11-30T20:59:59.999999Z"),
        entry("after", date_placed="2026-11-30T18:00:00-03:00"),
    ]
    month = ["--placed-from", "2026-11-01", "--placed-to", "2026-11-30"]
    assert of_list(entries, tmp_path, *month, "--timezone", "Europe/Istanbul")[0].code == 0
    assert exported(tmp_path) == ["first", "last"]
    assert of_list(entries, tmp_path / "utc", *month)[0].code == 0
    assert exported(tmp_path / "utc") == ["last", "after"]
    assert of_list(entries, tmp_path / "one", "--placed-to", "2026-10-31")[0].code == 0
    assert exported(tmp_path / "one") == ["before", "first"]


@pytest.mark.parametrize(
    ("shown", "words", "told"),
    [
        ({"status": None}, ["--status", "400"], "order 'a3': expected a status, got None: --status"),
        ({"status": {"label": "x"}}, ["--status", "400"], "expected a status"),
        ({"date_placed": None}, ["--placed-to", "2026-11-30"], "order 'a3': expected a date_placed"),
        ({"date_placed": "2026-11-15T12:00:00"}, ["--placed-from", "2026-11-01"], "with its zone"),
        ({"date_placed": "soon"}, ["--placed-from", "2026-11-01"], "got 'soon'"),
        ({"date_placed": 1767225600}, ["--placed-from", "2026-11-01"], "got 1767225600"),
    ],
)
@pytest.mark.parametrize("gone", [False, True])
def test_an_entry_that_does_not_show_it_is_an_error(
    tmp_path: Path, shown: dict[str, object], words: list[str], told: str, gone: bool
) -> None:
    """Exit 2 that names the page and the order, before any order is asked for; nothing is left there."""
    odd = entry("a3", **shown)
    if gone:
        odd, told = {key: odd[key] for key in odd.keys() - shown.keys()}, "got None"
    ended, server = of_list([entry("a1"), entry("a2"), odd], tmp_path, *words)
    ended.said(2, "page 2: order 'a3': expected", told, "cannot be checked")
    assert all("?" in arrival.target for arrival in server.arrivals)
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.txt"]
    assert of_list([entry("a1"), entry("a2"), odd], tmp_path)[0].code == 0


def test_a_filter_that_filters_is_not_warned_about(tmp_path: Path) -> None:
    """One more request for each key tells which of them changes nothing; values of one key count together."""
    counts = {"status=550&limit=1&": 2, "colour=red&limit=1&": 4}
    with serving(listing([entry("a1"), entry("a2")], counts=counts)) as server:
        words = ["--filter", "status=400", "--filter", "status=550", "--filter", "colour=red"]
        ended = run(exporter_for(server.url, tmp_path, []), *words)
    assert ended.code == 0, ended.err
    assert ended.err.count("changes nothing") == 1
    assert "--filter colour changes nothing: the API counts 2 orders" in ended.err
    asked = [urlsplit(arrival.target).query for arrival in server.arrivals if "?" in arrival.target]
    assert sorted(asked) == [
        "colour=red&limit=1&page=1",
        "status=400&status=550&colour=red&limit=100&page=1",
        "status=400&status=550&limit=1&page=1",
    ]
    assert read(tmp_path)["input"]["read"]["query"] == "status=400&status=550&colour=red&limit=100"
    assert read(tmp_path)["requests"]["sent"] == len(server.arrivals) == 5


def test_nothing_that_is_wanted_is_nothing_to_export(tmp_path: Path) -> None:
    """Exit 2 with the count of the list; what stood there stands, and the next try reads the list anew."""
    ended, server = of_list([entry("a1"), entry("a2"), entry("a3")], tmp_path, "--status", "9")
    ended.said(2, "none of its 3 orders is selected", "--status")
    assert (len(server.arrivals), list(tmp_path.glob("out*"))) == (2, [])


# --- stopped, killed, and looked at ---


def test_a_killed_listing_resumes_and_the_list_of_a_killed_run_stays(tmp_path: Path) -> None:
    """Killed in mid-list: it goes on there. Killed in mid-fetch: the list is not read again."""
    with demo_api(orders=2000) as api:
        exporter = api.exporter(tmp_path)
        words = ("run", "--from-api", "--status", "550", "--out", "out")

        def listed() -> int:
            stats = api.stats()
            return int(stats["requests"] - sum(stats["by_order"].values()))

        with exporter.started(*words, "--rate", "8/s") as running:
            wait_until(lambda: listed() >= 10)
            running.kill()
        before = listed()
        assert before < 20
        dry = exporter(*words, "--dry-run")
        assert "the API's list (api, query limit=100, status 550)" in " ".join(dry.out.split()), dry.out
        told = exporter("status", "out").out
        assert "API's list  read to page" in told
        assert "next run" not in told, "what it asks for is not known yet"

        wanted = [number for number in api.numbers if order_payload(number)["status"] == "550"]
        with exporter.started(*words, "--rate", "60/s") as running:
            wait_until(lambda: len(api.stats()["by_order"]) > len(wanted) // 4)
            ended = running.kill()
        assert "Resuming at page" in ended.err
        assert listed() - before <= 20 - before + 10
        before = listed()
        pending = exporter(*words, "--dry-run", "--json").summary["ask"]
        assert (pending["of"], pending["orders"]) == ("the unfinished run", len(wanted))
        assert f"read to its end: {len(wanted)} of 2,000 orders are selected" in exporter("status", "out").out

        ended = exporter(*words, "--rate", "unlimited")
        assert ended.code == 0, ended.err
        assert listed() == before
        assert sum(api.stats()["by_order"].values()) < len(wanted) + 80
    assert exported(tmp_path) == wanted


def test_a_list_of_another_choice_is_read_anew(tmp_path: Path) -> None:
    """What an unfinished run has listed for other options is dropped, and said."""
    broken = moves.by_number({"a2": moves.status(401)}, listing([entry("a1"), entry("a2", status="550")]))
    with serving(broken) as server:
        exporter = exporter_for(server.url, tmp_path, [])
        run(exporter).said(5, "exporter run --out out --from-api --rate unlimited")
        ended = run(exporter, "--status", "400")
    assert ended.code == 0, ended.err
    assert "2 of its orders are dropped" in ended.err
    assert exported(tmp_path) == ["a1"]


def test_a_list_that_is_too_old_is_read_anew(tmp_path: Path) -> None:
    """Older than --resume-within, by the last answer of the run: as the run itself."""
    broken = moves.by_number({"a2": moves.in_turn(moves.status(401), moves.good)}, listing([entry("a2")]))
    with serving(broken) as server:
        exporter = exporter_for(server.url, tmp_path, [])
        run(exporter).said(5)
        time.sleep(1.1)
        ended = run(exporter, "--resume-within", "1s")
    assert ended.code == 0, ended.err
    assert "starts over" in ended.err
    assert sum("?" in arrival.target for arrival in server.arrivals) == 2


def test_a_stopped_listing_prints_the_command_that_resumes(tmp_path: Path) -> None:
    """With every option that chooses."""
    with serving(moves.status(500)) as server:
        words = ["--status", "400,550", "--filter", "a=b", "--max-attempts", 1]
        run(exporter_for(server.url, tmp_path, []), *words).said(
            6, "page 1", "--status 400,550", "--filter a=b", "--from-api"
        )


def test_a_dry_run_asks_for_nothing(tmp_path: Path) -> None:
    """It says what would be listed; how many orders that is, nobody knows before."""
    with serving(listing([entry("a1")])) as server:
        exporter = exporter_for(server.url, tmp_path, [])
        ended = run(exporter, "--placed-from", "2026-11-01", "--dry-run")
        ask = run(exporter, "--dry-run", "--json").summary["ask"]
    assert (ended.code, server.arrivals) == (0, [])
    assert "the API's list (api, query limit=100, placed from 2026-11-01)" in " ".join(ended.out.split())
    assert (ask["pending"], ask["orders"]) == (None, None)
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.txt"]


# --- what cannot be ---


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["numbers.txt", "--from-api"], "ORDERS: expected a list of order numbers or --from-api, got both"),
        (["numbers.txt", "--status", "400"], "--status: expected --from-api with it"),
        (["numbers.txt", "--filter", "a=b"], "--filter: expected --from-api with it"),
        (["--from-api", "--column", "x"], "--column: expected a list of order numbers with it"),
        (["--from-api", "--placed-from", "November"], "--placed-from: expected a day, got 'November'"),
        (["--from-api", "--placed-to", "9999-12-31"], "--placed-to: expected a day"),
        (["--from-api", "--filter", "page=2"], "--filter: expected KEY=VALUE, got 'page=2'; the exporter"),
        (
            ["--from-api", "--placed-from", "2026-12-01", "--placed-to", "2026-11-30"],
            "--placed-to: expected 2026-12-01 or a later day, got 2026-11-30",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, words: list[str], told: str) -> None:
    """Exit 2 before the first request."""
    exporter = exporter_for("http://127.0.0.1:9", tmp_path, ["a1"])
    exporter("run", "--out", "out", *words).said(2, told)


def test_what_the_file_says_of_the_list_rests_beside_orders(tmp_path: Path) -> None:
    """One file serves both ways; the command line decides which."""
    (tmp_path / "exporter.toml").write_text('from-api = true\nstatus = ["400"]\ncolumn = "number"\n')
    with serving(listing([entry("a1"), entry("a2", status="550")])) as server:
        exporter = exporter_for(server.url, tmp_path, ["a2"])
        assert exporter("run", "--out", "out").code == 0
        assert exported(tmp_path) == ["a1"]
        ended = exporter("run", "numbers.txt", "--input-format", "csv", "--column", "1", "--out", "two")
        assert ended.code == 0, ended.err
    assert exported(tmp_path, "two") == ["a2"]


def test_python_names_its_own_words() -> None:
    """What is refused is called as the argument is."""
    with pytest.raises(UsageError, match=r"status: expected `from_api` with it"):
        Options(orders="n.txt", status=("400",), out="out", api_url="https://x.example", token=TOKEN)
    with pytest.raises(UsageError, match=r"orders: expected a list of order numbers or `from_api`, got none"):
        Options(out="out", api_url="https://x.example", token=TOKEN)

"""`--details auto`: what the API's own list proves is not asked for again, over real sockets."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from exporter.demo.orders import order_numbers, order_payload
from exporter.store.order_store import Store
from tests.support.clients import serving
from tests.support.processes import Ended, Exporter, demo_api, exporter_for, wait_until
from tests.support.servers import moves
from tests.support.servers.faulty import FaultyServer
from tests.support.servers.moves import Step
from tests.support.standing import contents, manifest_of

Order = dict[str, Any]
AUTO = ("--details", "auto", "--rate", "unlimited")
SLIM = ("id", "number", "status", "date_placed", "amount")


class Shop:
    """An API whose details are `orders`, and whose list shows an entry of each.

    Args:
        orders: How many there are.
        entry: What the list shows of an order; the whole of it by default.
    """

    def __init__(self, orders: int, entry: Callable[[Order], Order | None] = lambda order: order) -> None:
        self.orders = {number: order_payload(number) for number in order_numbers(orders)}
        self.entry = entry
        self.pages = 0
        self.asked: list[str] = []
        self.on_page: Callable[[int], None] = lambda _: None

    @property
    def requests(self) -> int:
        return self.pages + len(self.asked)

    def tonight(self) -> None:
        """Count anew."""
        self.pages, self.asked = 0, []

    def change(self, number: str) -> None:
        """Let an order move on, so that its entry shows it too."""
        order = self.orders[number]
        order["status"] = "550" if order["status"] == "600" else "600"

    def __call__(self, target: str, nth: int) -> Iterable[Step]:
        if "?" in target:
            self.pages += 1
            return moves.answer(self._page(target))(target, nth)
        self.asked.append(target)
        order = self.orders.get(target)
        return moves.status(404)(target, nth) if order is None else moves.answer(_json(order))(target, nth)

    def _page(self, target: str) -> bytes:
        query = dict(parse_qsl(urlsplit(target).query))
        page, limit = int(query.get("page", 1)), int(query["limit"])
        self.on_page(page)
        entries = [shown for order in self.orders.values() if (shown := self.entry(order)) is not None]
        end = page * limit
        following = "more" if end < len(entries) else None
        return _json({"count": len(entries), "next": following, "results": entries[end - limit : end]})


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def slim(order: Order) -> Order:
    return {key: order[key] for key in SLIM}


@contextmanager
def open_shop(shop: Shop, folder: Path) -> Iterator[Exporter]:
    with serving(shop) as server:
        yield exporter_for(server.url, folder, list(shop.orders))


def run(exporter: Exporter, *words: object, out: str = "out", code: int = 0) -> Ended:
    ended = exporter("run", "--from-api", "--out", out, "--overwrite", *AUTO, *words)
    assert ended.code == code, ended.err
    return ended


def of_details(shop: Shop, exporter: Exporter) -> dict[str, str]:
    """What the dataset is where every detail is asked for."""
    shop.entry = lambda order: order
    ended = exporter("run", "--from-api", "--out", "truth", "--overwrite", "--rate", "unlimited")
    assert ended.code == 0, ended.err
    return contents(exporter.cwd / "truth")


def sources(store: Path) -> dict[str, str]:
    with closing(sqlite3.connect(store)) as connection:
        return dict(connection.execute("SELECT number, source FROM orders"))


# --- entries that are whole ---


def test_a_whole_list_takes_two_requests_for_a_hundred_orders(tmp_path: Path) -> None:
    """Pages, twenty details and one in two hundred: at most 0.02 requests an order; manifest and summary say so."""
    with demo_api("--whole-list", orders=10_000) as api:
        ended = run(api.exporter(tmp_path, []), "--json")
        asked = api.asked()
    assert 100 + 20 + 10 < asked <= 0.02 * 10_000
    manifest = manifest_of(tmp_path / "out")
    assert manifest["requests"]["sent"] == asked
    assert manifest["counts"]["exported"] == 10_000
    assert manifest["sources"] == {"detail": asked - 100, "list": 10_100 - asked}
    assert ended.summary["sources"] == manifest["sources"]
    assert (
        f"{10_100 - asked:,} orders are taken from the API's list: {asked - 100} of its entries" in ended.err
    )


def test_what_the_list_shows_gives_the_same_dataset(tmp_path: Path) -> None:
    """Byte for byte; the store says of each order where it came from, and `status` how many came from the list."""
    shop = Shop(300)
    with open_shop(shop, tmp_path) as exporter:
        run(exporter, "--store", "kept.db")
        taken = set(shop.orders) - set(shop.asked)
        assert len(taken) > 250
        assert sources(tmp_path / "kept.db") == {
            number: "list" if number in taken else "detail" for number in shop.orders
        }
        told = " ".join(exporter("status", "kept.db").out.split())
        assert f"from the API's list {len(taken)}" in told
        found = contents(tmp_path / "out")
        assert found == of_details(shop, exporter)


def test_number_spelling_and_key_order_are_no_difference(tmp_path: Path) -> None:
    """An entry is compared as JSON; what is taken gives the same dataset: 27.0 is the whole number 27."""

    def spelt(value: Any) -> Any:
        if isinstance(value, dict):
            # Free-form objects are kept as texts, in the order in which they came.
            return {key: spelt(value[key]) for key in sorted(value, reverse="number" in value)}
        if isinstance(value, list):
            return list(map(spelt, value))
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    shop = Shop(60, spelt)
    for order in shop.orders.values():
        for item in order["orderitem_set"]:
            item["attributes"] = {key: item["attributes"][key] for key in sorted(item["attributes"])}
    with open_shop(shop, tmp_path) as exporter:
        run(exporter)
        assert len(shop.asked) < 30
        assert contents(tmp_path / "out") == of_details(shop, exporter)


def test_details_are_compared_wherever_the_list_has_them(tmp_path: Path) -> None:
    """What is compared after the first twenty differs from run to run: nobody can know it before."""
    chosen = []
    shop = Shop(1500)
    with open_shop(shop, tmp_path) as exporter:
        for _ in range(2):
            shop.tonight()
            run(exporter)
            chosen.append(set(shop.asked))
    assert all(set(list(shop.orders)[:20]) <= each for each in chosen)
    assert chosen[0] != chosen[1]


def test_the_first_difference_ends_it(tmp_path: Path) -> None:
    """A lie that is consistent with itself, where it is compared: all is fetched, and the log says at which path."""
    shop = Shop(
        700, lambda order: order | {"shipping_address": order["shipping_address"] | {"line": "elsewhere"}}
    )
    with open_shop(shop, tmp_path) as exporter:
        ended = run(exporter)
        assert f"order {next(iter(shop.orders))} at shipping_address.line" in ended.err
        assert sorted(shop.asked) == sorted(shop.orders), "each once"
        assert manifest_of(tmp_path / "out")["sources"] == {"detail": 700}
        assert contents(tmp_path / "out") == of_details(shop, exporter)


def test_a_lie_found_late_ends_it_too(tmp_path: Path) -> None:
    """An order without one of its items, far down the list: what was read before is not believed either."""
    shop = Shop(500)
    liar = [number for number, order in shop.orders.items() if len(order["orderitem_set"]) > 1][-1]

    def entry(order: Order) -> Order:
        return order | {"orderitem_set": order["orderitem_set"][:-1]} if order["number"] == liar else order

    shop.entry = entry
    with open_shop(shop, tmp_path) as exporter:
        ended = run(exporter)
        assert "WARNING An entry of the API's list is not as its detail" in ended.err
        assert f"order {liar} at orderitem_set" in ended.err
        assert sorted(shop.asked) == sorted(shop.orders), "each once"
        assert contents(tmp_path / "out") == of_details(shop, exporter)


@pytest.mark.parametrize("seed", range(12))
def test_a_list_that_lies_in_one_order_of_500_spoils_no_cell(tmp_path: Path, seed: int) -> None:
    """Another amount or a missing item, anywhere, in each of many lists: the dataset is that of the details."""
    order = list(order_numbers(500))[seed * 41 + 3]
    shop = Shop(500)
    price = shop.orders[order]["orderitem_set"][0]["price"]

    def entry(shown: Order) -> Order:
        if shown["number"] != order:
            return shown
        lie = deepcopy(shown)
        if seed % 3 == 0:
            lie["amount"] = f"{float(lie['amount']) + 0.01:.2f}"
        elif seed % 3 == 1:
            del lie["orderitem_set"][0]
        else:
            lie |= {"refund_amount": price, "orderitem_set": []}
        return lie

    shop.entry = entry
    with open_shop(shop, tmp_path) as exporter:
        run(exporter)
        assert contents(tmp_path / "out") == of_details(shop, exporter)


def test_the_demo_lies_as_it_is_told_to(tmp_path: Path) -> None:
    """`serve --lies 50` has entries whose detail differs, and the dataset has none of them."""
    with demo_api("--whole-list", "--lies", 50, orders=400) as api:
        exporter = api.exporter(tmp_path)
        ended = run(exporter)
        assert exporter.run(out="truth").code == 0
    assert "is not" in ended.err
    assert contents(tmp_path / "out") == contents(tmp_path / "truth")


def test_entries_that_do_not_add_up_are_fetched_and_are_no_lie(tmp_path: Path) -> None:
    """One order in ten follows another law, in list and detail: those are asked for, the others taken."""
    shop = Shop(400)
    odd = list(shop.orders)[25::10]
    for number in odd:
        shop.orders[number]["amount"] = "1.00"
    with open_shop(shop, tmp_path) as exporter:
        run(exporter)
        assert set(odd) <= set(shop.asked)
        assert len(shop.asked) < 20 + len(odd) + 15
        assert contents(tmp_path / "out") == of_details(shop, exporter)


def test_a_shop_whose_amounts_follow_no_known_law_is_fetched_as_ever(tmp_path: Path) -> None:
    """Nothing is taken that cannot prove itself; each order is asked for once."""
    shop = Shop(400)
    for order in shop.orders.values():
        order["amount"] = "1.00"
    with open_shop(shop, tmp_path) as exporter:
        assert "do not prove themselves" in run(exporter).err
        assert sorted(shop.asked) == sorted(shop.orders)


def test_an_entry_without_a_key_that_others_have_is_fetched(tmp_path: Path) -> None:
    """The keys, at every depth, are those of orders that were compared."""
    shop = Shop(200)
    lacking = list(shop.orders)[150]

    def entry(order: Order) -> Order:
        shown = deepcopy(order)
        if order["number"] == lacking:
            del shown["shipping_address"]["city"]["name"]
        return shown

    shop.entry = entry
    with open_shop(shop, tmp_path) as exporter:
        assert f"order {lacking} at billing_address.city.name" in run(exporter).err
        assert contents(tmp_path / "out") == of_details(shop, exporter)


def test_an_entry_passes_the_checks_of_a_detail(tmp_path: Path) -> None:
    """One of more items than --max-items is a reject, wherever it was shown; the others are taken from the list."""
    shop = Shop(60)
    shop.orders = dict(sorted(shop.orders.items(), key=lambda pair: len(pair[1]["orderitem_set"])))
    crowds = [number for number, order in shop.orders.items() if len(order["orderitem_set"]) > 4]
    with open_shop(shop, tmp_path) as exporter:
        run(exporter, "--max-items", 4, "--max-rejects", "100%", code=3)
    assert crowds
    manifest = manifest_of(tmp_path / "out")
    assert manifest["rejects_by_reason"] == {"bad_response": len(crowds)}
    assert manifest["sources"]["list"] > 20


def test_two_entries_of_one_number_say_nothing(tmp_path: Path) -> None:
    """A number is unique within its sales channel only: its detail decides."""
    shop = Shop(200)
    twice = list(shop.orders)[120]
    shop.orders["other"] = shop.orders[twice] | {"id": 7, "number": "other"}

    def entry(order: Order) -> Order:
        return order | {"number": twice} if order["number"] == "other" else order

    shop.entry = entry
    with open_shop(shop, tmp_path) as exporter:
        run(exporter)
    assert shop.asked.count(twice) == 1
    assert manifest_of(tmp_path / "out")["counts"]["exported"] == 200


# --- entries that are not whole ---


def test_a_second_night_asks_for_what_has_moved(tmp_path: Path) -> None:
    """1 % changed, entries not whole: at most 0.03 requests an order, and the dataset is that of the details."""
    shop = Shop(3000, slim)
    with open_shop(shop, tmp_path) as exporter:
        run(exporter, "--store", "kept.db")
        assert len(shop.asked) == 3000
        changed = list(shop.orders)[7::100]
        for number in changed:
            shop.change(number)
        shop.tonight()
        run(exporter, "--store", "kept.db")
        assert set(changed) <= set(shop.asked)
        assert shop.requests <= 0.03 * 3000
        assert manifest_of(tmp_path / "out")["requests"]["sent"] == shop.requests
        assert contents(tmp_path / "out") == of_details(shop, exporter)


def test_a_new_order_is_asked_for_and_an_old_answer_is_rechecked(tmp_path: Path) -> None:
    """--recheck bounds how long an unchanged entry is believed; --max-age and --refresh-status mean what they do."""
    shop = Shop(120, slim)
    words = ("--store", "kept.db")
    with open_shop(shop, tmp_path) as exporter:
        run(exporter, *words)
        shop.orders["new"] = order_payload("new")
        shop.tonight()
        run(exporter, *words)
        assert set(shop.asked) == {*list(shop.orders)[:20], "new"}
        for more, asked in (
            (["--recheck", "0s"], 121),
            (["--recheck", "0s", "--max-age", "1h"], 20),
            (["--refresh-status", ",".join(statuses(shop)) + "=0s"], 121),
            (["--details", "always"], 121),
        ):
            shop.tonight()
            run(exporter, *words, *more)
            assert len(shop.asked) == asked, more


def statuses(shop: Shop) -> set[str]:
    return {order["status"] for order in shop.orders.values()}


def test_a_change_that_the_list_shows_beats_an_age(tmp_path: Path) -> None:
    """Within --max-age, an order whose entry has changed is asked for."""
    shop = Shop(120, slim)
    words = ("--store", "kept.db", "--max-age", "1d")
    with open_shop(shop, tmp_path) as exporter:
        run(exporter, *words)
        moved = list(shop.orders)[60]
        shop.change(moved)
        shop.tonight()
        run(exporter, *words)
        assert shop.asked.count(moved) == 1
        assert contents(tmp_path / "out") == of_details(shop, exporter)


def test_what_the_list_brought_is_not_believed_once_it_lies(tmp_path: Path) -> None:
    """Nor is it where every detail is wanted: a payload from the list of last night is fetched."""
    for more in (["--details", "always"], []):
        shop = Shop(200)
        words = ("--store", f"kept{len(more)}.db", "--max-age", "1d")
        with open_shop(shop, tmp_path) as exporter:
            run(exporter, *words)
            shop.tonight()
            shop.entry = lambda order: order | {"currency": "eur"}
            run(exporter, *words, *more)
            assert manifest_of(tmp_path / "out")["sources"] == {"detail": 200}
            assert set(sources(tmp_path / words[1]).values()) == {"detail"}
            assert contents(tmp_path / "out") == of_details(shop, exporter)


# --- a list that moves ---


def test_an_order_of_the_store_that_is_on_no_page_is_asked_for(tmp_path: Path) -> None:
    """It is not believed gone: its detail says, and only once."""
    shop = Shop(150, slim)
    words = ("--store", "kept.db")
    with open_shop(shop, tmp_path) as exporter:
        run(exporter, *words)
        hidden, gone = list(shop.orders)[50:52]
        shop.entry = lambda order: None if order["number"] in (hidden, gone) else slim(order)
        kept = shop.orders.pop(gone)
        shop.tonight()
        ended = run(exporter, *words, code=3)
        assert "2 orders of the store are on no page" in ended.err
        assert {hidden, gone} <= set(shop.asked)
        manifest = manifest_of(tmp_path / "out")
        assert (manifest["counts"]["exported"], manifest["rejects_by_reason"]) == (149, {"not_found": 1})
        shop.tonight()
        run(exporter, *words)
        assert gone not in shop.asked
        shop.orders[gone] = kept
        shop.entry = slim
        run(exporter, *words)
        assert manifest_of(tmp_path / "out")["counts"]["exported"] == 150


def test_an_order_that_could_not_be_had_is_not_believed_gone_either(tmp_path: Path) -> None:
    """It was unavailable last night and is on no page tonight: only a 404 says that it is gone."""
    shop = Shop(150, slim)
    ill = list(shop.orders)[60]

    def plan(target: str, nth: int) -> Iterable[Step]:
        return (moves.status(500) if target == ill and shop.entry is slim else shop)(target, nth)

    words = ("--store", "kept.db", "--max-attempts", 1)
    with serving(plan) as server:
        exporter = exporter_for(server.url, tmp_path, [])
        run(exporter, *words, code=3)
        assert manifest_of(tmp_path / "out")["rejects_by_reason"] == {"unavailable": 1}
        shop.entry = lambda order: None if order["number"] == ill else slim(order)
        assert "1 orders of the store are on no page" in run(exporter, *words).err
        assert shop.asked.count(ill) == 1
        assert manifest_of(tmp_path / "out")["counts"]["exported"] == 150


def test_two_walks_that_disagree_are_said(tmp_path: Path) -> None:
    """Orders that slip from one page to another while it is read: a second walk has them, and the log tells."""
    shop = Shop(350, slim)

    def slip(page: int) -> None:
        if page == 2 and "late" not in shop.orders:
            first = next(iter(shop.orders))
            shop.orders["late"] = order_payload("late")
            shop.orders[first] = shop.orders.pop(first)

    shop.on_page = slip
    with open_shop(shop, tmp_path) as exporter:
        ended = run(exporter)
        assert "Two walks through the API's list disagree" in ended.err
        assert manifest_of(tmp_path / "out")["counts"]["exported"] == 351


# --- a file of order numbers ---


def test_the_list_serves_a_file_while_it_is_cheaper(tmp_path: Path) -> None:
    """Whole entries are taken for the numbers of the file; one page tells that a long list is not worth it."""
    shop = Shop(500)
    numbers = list(shop.orders)
    with open_shop(shop, tmp_path) as exporter:
        (tmp_path / "numbers.txt").write_text("\n".join([*numbers[100:400], "unknown"]))
        ended = exporter.run(*AUTO, "--max-rejects", "1")
        assert ended.code == 3, ended.err
        assert shop.pages == 5
        assert "unknown" in shop.asked
        assert 21 <= len(shop.asked) < 40
        assert manifest_of(tmp_path / "out")["requests"]["sent"] == shop.requests
        shop.tonight()
        (tmp_path / "numbers.txt").write_text("\n".join(numbers[:4]))
        ended = exporter.run(*AUTO, out="few")
        assert (ended.code, shop.pages, len(shop.asked)) == (0, 1, 4)
        assert "The API's list has 5 pages" in ended.err


@pytest.mark.parametrize("orders", [201, 401])
def test_a_short_last_page_serves_a_file_too(tmp_path: Path, orders: int) -> None:
    """It was asked for with the others; that it is short does not make the list a long one."""
    shop = Shop(orders)
    with open_shop(shop, tmp_path) as exporter:
        ended = exporter.run(*AUTO)
        assert ended.code == 0, ended.err
        assert "is cheaper" not in ended.err
        assert list(shop.orders)[-1] not in shop.asked
        assert shop.pages == (orders + 99) // 100


def test_a_long_list_is_left_once_it_has_shown_all_of_a_file(tmp_path: Path) -> None:
    """What was asked for ahead is in vain, and no more is asked for; a few that are left are fetched."""
    shop = Shop(2000)
    numbers = list(shop.orders)
    with open_shop(shop, tmp_path) as exporter:
        for further, asked in ([], 0), (numbers[-3:], 3):
            shop.tonight()
            (tmp_path / "numbers.txt").write_text("\n".join([*numbers[:150], *further]))
            ended = exporter.run(*AUTO, "--overwrite")
            assert ended.code == 0, ended.err
            assert shop.pages <= 1 + 8
            assert set(further) <= set(shop.asked)
            assert len(shop.asked) < 30
            assert (f"only {asked} orders are left" in ended.err) == bool(asked)


def test_a_file_and_a_list_that_is_not_whole(tmp_path: Path) -> None:
    """Without a store the list is of no use, and left; with one it tells what has moved."""
    shop = Shop(500, slim)
    with open_shop(shop, tmp_path) as exporter:
        assert exporter.run(*AUTO).code == 0
        assert (shop.pages, len(shop.asked)) == (1, 500)
        for asked in (500, 20, 21):
            shop.tonight()
            assert exporter.run(*AUTO, "--store", "kept.db", "--overwrite").code == 0
            assert (shop.pages, len(shop.asked)) == (5, asked)
            if asked == 20:
                shop.change(list(shop.orders)[300])
        assert contents(tmp_path / "out") == of_details(shop, exporter)


# --- killed, refused, looked at ---


def test_a_killed_run_believes_nothing_unproven(tmp_path: Path) -> None:
    """Killed again and again, on a list with a lie: the dataset is that of the details, hardly any is asked twice."""
    shop = Shop(800)
    liar = list(shop.orders)[750]

    def entry(order: Order) -> Order:
        return order | {"amount": "0.01"} if order["number"] == liar else order

    shop.entry = entry
    words = ("run", "--from-api", "--details", "auto", "--out", "out")
    with open_shop(shop, tmp_path) as exporter:
        for at in (25, 150, 400, 700):
            with exporter.started(*words, "--rate", "400/s") as running:
                wait_until(lambda at=at: shop.requests >= at)  # type: ignore[misc]
                running.kill()
        run(exporter)
        assert len(shop.asked) <= 800 + 4 * 160
        assert contents(tmp_path / "out") == of_details(shop, exporter)


def test_a_run_killed_while_it_takes_the_list_resumes_without_asking(tmp_path: Path) -> None:
    """The list is proven and read: the same command goes on from it."""
    with demo_api("--whole-list", orders=4000) as api:
        exporter = api.exporter(tmp_path, [])
        words = ("run", "--from-api", "--out", "out", *AUTO)
        store = tmp_path / "out.partial" / "store.db"

        def taken() -> bool:
            with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
                return bool(connection.execute("SELECT count(*) FROM orders").fetchone()[0])

        with exporter.started(*words) as running:
            wait_until(store.is_file)
            wait_until(lambda: (tmp_path / "out.partial" / "plan.db").exists() and taken())
            running.kill()
        before = api.asked()
        run(exporter)
        assert api.asked() - before <= 1
    assert manifest_of(tmp_path / "out")["counts"]["exported"] == 4000


@pytest.mark.parametrize(("code", "exit_code"), [(401, 5), (403, 5), (500, 6)])
def test_a_refusal_of_the_list_stops_the_run(tmp_path: Path, code: int, exit_code: int) -> None:
    """With a file too; the same command resumes."""

    def plan(target: str, nth: int) -> Iterable[Step]:
        return (moves.status(code) if "?" in target else moves.good)(target, nth)

    with serving(plan) as server:
        exporter = exporter_for(server.url, tmp_path, ["a1", "a2", "a3"])
        exporter.run(*AUTO, "--max-attempts", 1).said(exit_code, "page 1" if code != 401 else "token")


def test_all_requests_keep_one_rate(tmp_path: Path) -> None:
    """Pages, the details that they are compared with, and what is asked for after them."""
    shop = Shop(60, slim)
    with serving(shop) as server:
        ended = exporter_for(server.url, tmp_path, [])(
            "run", "--from-api", "--out", "out", "--details", "auto", "--rate", "30/s"
        )
        assert ended.code == 0, ended.err
        assert most_in_a_second(server) <= 32


def most_in_a_second(server: FaultyServer) -> int:
    at = [arrival.at for arrival in server.arrivals]
    return max(sum(start <= moment < start + 1.0 for moment in at) for start in at)


def test_a_cluster_has_no_part_in_it(tmp_path: Path) -> None:
    """Exit 2, before the first request."""
    exporter = exporter_for("http://127.0.0.1:9", tmp_path, ["a1"])
    exporter.run("--details", "auto", "--dask", "local").said(2, "--details: auto", "--dask")
    exporter.run("--details", "auto", "--recheck", "soon").said(2, "--recheck")


def test_a_store_without_digests_gets_them(tmp_path: Path) -> None:
    """A store that other runs have filled serves as well: once asked again, it knows the entries."""
    shop = Shop(100, slim)
    with open_shop(shop, tmp_path) as exporter:
        assert exporter.run("--store", "kept.db").code == 0
        for asked in (100, 20):
            shop.tonight()
            run(exporter, "--store", "kept.db")
            assert len(shop.asked) == asked
    with closing(Store(tmp_path / "kept.db", readonly=True)) as store:
        assert store.a_fetched_number() is not None


def test_a_dry_run_says_what_each_way_takes(tmp_path: Path) -> None:
    """From the store and one page of the list, which is all that it asks for."""
    shop = Shop(450, slim)
    dry = ("--dry-run", "--json", *AUTO, "--store", "kept.db")
    with open_shop(shop, tmp_path) as exporter:
        first = exporter("run", "--from-api", "--out", "dry", *dry)
        assert first.summary["ask"]["ways"] == {
            "always": 5 + 450,
            "auto_complete": 5 + 20 + 2,
            "auto_partial": 5 + 450,
        }
        assert (shop.pages, shop.asked) == (1, [])
        run(exporter, "--store", "kept.db")
        for number in list(shop.orders)[:100:4]:
            shop.change(number)
        ways = exporter("run", "--from-api", "--out", "dry", *dry).summary["ask"]["ways"]
        assert ways == {"always": 455, "auto_complete": 27, "auto_partial": 5 + 20 + 108}
        ways = exporter("run", "numbers.txt", "--out", "dry", *dry).summary["ask"]["ways"]
        assert ways == {"always": 450, "auto_complete": 27, "auto_partial": 5 + 20 + 108}
        (tmp_path / "few.txt").write_text("\n".join(list(shop.orders)[:3]))
        ended = exporter("run", "few.txt", "--out", "dry", *dry[:1], *dry[2:])
        assert "--details always: 3; auto: about 4 if the list's entries are complete, 4 if" in " ".join(
            ended.out.split()
        )


@pytest.mark.parametrize(
    ("source", "more"),
    [
        ("--from-api", []),
        ("--from-api", ["--max-age", "1d"]),
        ("--from-api", ["--status", "100,200,300,350,400,450"]),
        ("numbers.txt", []),
        ("numbers.txt", ["--max-age", "1d"]),
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_what_a_dry_run_says_is_what_a_run_asks_for(
    tmp_path: Path, complete: bool, source: str, more: list[str]
) -> None:
    """With nothing in the store, and again where 4 % have moved: pages, choice, ages, and what a page taught."""
    shop = Shop(400, (lambda order: order) if complete else slim)
    words = [source, *more, "--overwrite"]
    way = "auto_complete" if complete else "auto_partial"

    def asked(exporter: Exporter, *how: object) -> int:
        shop.tonight()
        ended = exporter("run", *words, "--rate", "unlimited", *how)
        assert ended.code == 0, ended.err
        return shop.requests

    with open_shop(shop, tmp_path) as exporter:
        (tmp_path / "numbers.txt").write_text("\n".join(list(shop.orders)[::2]))
        for copy in ("first.db", "second.db"):
            dry = exporter("run", *words, "--out", "dry", *AUTO, "--store", "kept.db", "--dry-run", "--json")
            if (tmp_path / "kept.db").exists():
                (tmp_path / copy).write_bytes((tmp_path / "kept.db").read_bytes())
            ways = dry.summary["ask"]["ways"]
            always = asked(exporter, "--out", "always", "--store", copy)
            auto = asked(exporter, "--out", "auto", "--details", "auto", "--store", "kept.db")
            assert ways["always"] == pytest.approx(always, rel=0.1)
            assert ways[way] == pytest.approx(auto, abs=12 if complete else 0.1 * auto)
            for number in list(shop.orders)[10::25]:
                shop.change(number)


@pytest.mark.parametrize("more", [[], ["--max-age", "1d"]])
def test_a_dry_run_counts_orders_that_the_store_has_never_had(tmp_path: Path, more: list[str]) -> None:
    """The page that it looks at may have none of them."""
    shop = Shop(400, slim)
    words = [*AUTO, "--store", "kept.db", *more]
    with open_shop(shop, tmp_path) as exporter:
        (tmp_path / "few.txt").write_text("\n".join(list(shop.orders)[:100]))
        assert exporter("run", "few.txt", "--out", "few", "--rate", "unlimited", *words).code == 0
        dry = exporter("run", "numbers.txt", "--out", "dry", *words, "--dry-run", "--json")
        shop.tonight()
        assert exporter.run(*words).code == 0
        assert dry.summary["ask"]["ways"]["auto_partial"] == pytest.approx(shop.requests, abs=1)


def test_a_dry_run_reads_a_pipe_once(tmp_path: Path) -> None:
    """Payloads from the list are young enough for auto, and none for details alone."""
    shop = Shop(200)
    words = (
        "run",
        "-",
        "--out",
        "dry",
        "--dry-run",
        "--json",
        *AUTO,
        "--store",
        "kept.db",
        "--max-age",
        "1d",
    )
    with open_shop(shop, tmp_path) as exporter:
        run(exporter, "--store", "kept.db")
        taken = list(sources(tmp_path / "kept.db").values()).count("list")
        ended = subprocess.run(
            [sys.executable, "-m", "exporter", *words],
            input="\n".join(shop.orders).encode(),
            cwd=tmp_path,
            env=exporter.env,
            capture_output=True,
            check=True,
        )
    assert json.loads(ended.stdout)["ask"]["ways"] == {"always": taken, "auto_complete": 0, "auto_partial": 0}

"""What the API can do to us: one export of orders that each meet another fault, and what came of each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from exporter.api.transport import FORCED
from tests.support.clients import serving
from tests.support.processes import Ended, exporter_for
from tests.support.servers import moves
from tests.support.servers.faulty import FaultyServer, Plan
from tests.support.servers.moves import Behaviour, End, Step, in_turn

MAX_ATTEMPTS = 3
TOO_LARGE = 40 * moves.MIB


def stalled_body(number: str, _nth: int) -> Iterable[Step]:
    body = moves.order_body(number)
    return moves.head(length=len(body)), body[:100], End.STALL


def healing(behaviour: Behaviour) -> Behaviour:
    return in_turn(behaviour, moves.good)


# Faults that may be gone next time, and the reason of an order whose attempts they use up.
TRANSIENT: dict[str, tuple[Behaviour, str]] = {
    "html": (moves.html(), "bad_response"),
    "cut-json": (moves.broken_json, "bad_response"),
    "not-utf8": (moves.not_utf8, "bad_response"),
    "204": (moves.status(204), "bad_response"),
    "header-flood": (moves.header_flood(2_000), "bad_response"),
    "408": (moves.status(408), "unavailable"),
    "500": (moves.html(500), "unavailable"),
    "502": (moves.html(502), "unavailable"),
    "503": (moves.status(503), "unavailable"),
    "504": (moves.status(504), "unavailable"),
    "reset": (moves.end(End.RESET), "unavailable"),
    "close": (moves.end(End.CLOSE), "unavailable"),
    "cut-headers": (moves.cut_headers(), "unavailable"),
    "cut-body": (moves.cut_body(), "unavailable"),
    "reset-body": (moves.cut_body(End.RESET), "unavailable"),
    "cut-chunked": (moves.cut_chunked(), "unavailable"),
    "not-gzip": (moves.not_gzip, "unavailable"),
    "stall": (moves.end(End.STALL), "unavailable"),
    "stall-in-body": (stalled_body, "unavailable"),
    "drip": (moves.drip(0.05), "unavailable"),
}
# Faults that asking again cannot mend, with reason and status.
PERMANENT: dict[str, tuple[Behaviour, str, int]] = {
    "another-number": (moves.another_number, "bad_response", 200),
    "a-list": (moves.a_list, "bad_response", 200),
    "too-large": (moves.flood(TOO_LARGE), "bad_response", 200),
    "bomb": (moves.gzip_bomb(TOO_LARGE), "bad_response", 200),
    "giant-length": (moves.giant_length(), "bad_response", 200),
    "nested": (moves.nested(100_000), "bad_response", 200),
    "404": (moves.status(404), "not_found", 404),
    "403": (moves.status(403), "forbidden", 403),
    **{
        str(code): (moves.status(code), "client_error", code)
        for code in (400, 402, 405, 406, 409, 410, 418, 422, 451)
    },
    **{
        f"redirect-{code}": (moves.redirect("https://elsewhere.invalid/x/", code), "client_error", code)
        for code in (301, 302, 303, 307, 308)
    },
    "redirect-nowhere": (moves.redirect("http://[bad"), "client_error", 301),
}
HARMLESS: dict[str, Behaviour] = {
    "good": moves.good,
    "bare": moves.bare,
    "content-type": moves.wrong_content_type,
    "late": moves.late(0.2),
    "close-after": moves.close_after(moves.good),
}

PLAN = {
    **{name: behaviour for name, (behaviour, _) in TRANSIENT.items()},
    **{f"healing-{name}": healing(behaviour) for name, (behaviour, _) in TRANSIENT.items()},
    **{name: behaviour for name, (behaviour, _, _) in PERMANENT.items()},
    **HARMLESS,
}
NUMBERS = list(PLAN)


@dataclass(frozen=True)
class Export:
    """What the one run left behind."""

    ended: Ended
    asked: Counter[str]
    exported: list[str]
    rejects: dict[str, dict[str, Any]]
    manifest: dict[str, Any]

    @property
    def unread(self) -> int:
        """Requests that met the end of their connection on the way: sent, yet never read by the server.

        `close-after` alone hangs up after a whole answer, when its connection may be used for the next request.
        """
        sent: int = self.manifest["requests"]["sent"]
        return sent - self.asked.total()


@pytest.fixture(scope="module", params=["lean", "session"])
def export(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder: Path = tmp_path_factory.mktemp("faults")
    with serving(PLAN) as server:
        exporter = exporter_for(server.url, folder, NUMBERS)
        limits = ["--max-attempts", MAX_ATTEMPTS, "--timeout", 2, "--max-rejects", "100%"]
        ended = exporter.run(*limits, "--concurrency", 64, **{FORCED: request.param})
        asked = Counter(arrival.number for arrival in server.arrivals)
    assert ended.code == 3, ended.err
    out = folder / "out"
    rejects = [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]
    return Export(
        ended=ended,
        asked=asked,
        exported=pq.read_table(out / "orders.parquet")["number"].to_pylist(),
        rejects={reject["order_number"]: reject for reject in rejects},
        manifest=json.loads((out / "manifest.json").read_text()),
    )


@pytest.mark.parametrize("name", TRANSIENT)
def test_a_lasting_fault_is_asked_as_often_as_told(export: Export, name: str) -> None:
    """`--max-attempts` is exact at the server, and the reject says how it ended."""
    reject = export.rejects[name]
    # A bare 503 may be a limit: the first one may be no attempt.
    most = MAX_ATTEMPTS + (1 if name == "503" else 0)
    assert MAX_ATTEMPTS - export.unread <= export.asked[name] <= most
    assert (reject["reason"], reject["attempts"]) == (TRANSIENT[name][1], MAX_ATTEMPTS)
    assert reject["detail"]


@pytest.mark.parametrize("name", TRANSIENT)
def test_a_fault_that_heals_costs_one_more_request(export: Export, name: str) -> None:
    """The order is exported, asked for twice."""
    assert f"healing-{name}" in export.exported
    assert export.asked[f"healing-{name}"] >= 2


@pytest.mark.parametrize("name", PERMANENT)
def test_what_asking_again_cannot_mend_is_asked_once(export: Export, name: str) -> None:
    """One request, and a reject with its reason and status."""
    reject = export.rejects[name]
    assert export.asked[name] == 1
    assert (reject["reason"], reject["http_status"], reject["attempts"]) == (*PERMANENT[name][1:], 1)


@pytest.mark.parametrize("name", HARMLESS)
def test_odd_but_good_is_kept(export: Export, name: str) -> None:
    """One request, one order."""
    assert name in export.exported
    assert export.asked[name] >= 1


def test_few_questions_prove_the_refusals(export: Export) -> None:
    """Orders that were fetched are asked for again a few times, to tell that the API still serves orders."""
    expected = dict.fromkeys(HARMLESS, 1) | {f"healing-{name}": 2 for name in TRANSIENT}
    assert sum(export.asked[name] - count for name, count in expected.items()) <= 5


def test_every_number_ends_in_exactly_one_place(export: Export) -> None:
    """Exported or rejected, in the order of the input, none lost or doubled."""
    assert [number for number in NUMBERS if number not in export.rejects] == export.exported
    assert set(export.rejects) == {*TRANSIENT, *PERMANENT}


def test_the_manifest_counts_what_the_server_counted(export: Export) -> None:
    """`sent` is the server's own count and what it could not read; first attempts and the rest add up to it."""
    requests = export.manifest["requests"]
    assert 0 <= export.unread <= export.asked["close-after"]
    assert requests["retried"] + requests["throttled"] == requests["sent"] - len(NUMBERS)
    assert requests["throttled"] <= MAX_ATTEMPTS  # 503s while others are answered


def test_the_log_and_the_rejects_quote_no_body(export: Export) -> None:
    """No personal data from a broken answer, and no traceback."""
    told = export.ended.err + json.dumps(export.rejects, ensure_ascii=False)
    assert "Traceback" not in told
    assert "shipping_address" not in told
    assert "Bakımdayız" not in told


# ---- whole runs that meet one fault


def counted(server: FaultyServer) -> Counter[str]:
    return Counter(arrival.target for arrival in server.arrivals)


def requests_of(folder: Path) -> dict[str, int]:
    requests: dict[str, int] = json.loads((folder / "out" / "manifest.json").read_text())["requests"]
    return requests


@pytest.mark.usefixtures("transport")
def test_a_slash_redirect_is_paid_for_once(tmp_path: Path) -> None:
    """At most the requests in flight are asked twice, and `sent` still is the server's count."""
    with serving(Plan(slash=True, latency_s=0.05)) as server:
        exporter = exporter_for(server.url, tmp_path, [f"a{index}" for index in range(60)])
        assert exporter.run("--concurrency", 4).code == 0
    redirected = [arrival for arrival in server.arrivals if not arrival.target.endswith("/")]
    assert 1 <= len(redirected) <= 4
    assert max(counted(server).values()) == 1
    requests = requests_of(tmp_path)
    assert requests["sent"] == len(server.arrivals)


@pytest.mark.usefixtures("transport")
def test_dropped_keep_alive_connections_are_counted_attempts(tmp_path: Path) -> None:
    """Each drop costs one request, which the manifest tells."""
    with serving(Plan(answers_per_connection=3)) as server:
        exporter = exporter_for(server.url, tmp_path, [f"a{index}" for index in range(60)])
        ended = exporter.run("--concurrency", 8, "--max-attempts", 20)
        assert ended.code == 0, ended.err
    requests = requests_of(tmp_path)
    assert requests == requests | {"sent": len(server.arrivals), "retried": len(server.arrivals) - 60}
    assert len(server.arrivals) > 60


@pytest.mark.usefixtures("transport")
def test_401_ends_the_run_and_is_asked_once(tmp_path: Path) -> None:
    """Exit 5, each order in flight asked once; a good token goes on from there."""
    with serving(moves.status(401)) as server:
        exporter = exporter_for(server.url, tmp_path, [f"a{index}" for index in range(100)])
        ended = exporter.run("--concurrency", 4)
    asked = counted(server)
    ended.said(5, "refused the token (401)", "to resume")
    assert 1 <= asked.total() <= 4
    assert set(asked.values()) == {1}
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("transport")
def test_429_is_not_counted_as_an_attempt(tmp_path: Path) -> None:
    """With one attempt for each order, an API that bears 20 a second still gives them all."""
    with serving(Plan(limits=((20, 1.0),))) as server:
        exporter = exporter_for(server.url, tmp_path, [f"a{index}" for index in range(50)])
        ended = exporter.run("--max-attempts", 1, "--rate", "100/s")
        assert ended.code == 0, ended.err
    requests = requests_of(tmp_path)
    assert requests == requests | {
        "sent": len(server.arrivals),
        "throttled": len(server.arrivals) - 50,
        "retried": 0,
    }
    assert requests["throttled"] >= 1


@pytest.mark.usefixtures("transport")
def test_a_first_answer_that_takes_seconds(tmp_path: Path) -> None:
    """Whoever publishes has long been waiting for it by then."""
    with serving(moves.late(2.0)) as server:
        ended = exporter_for(server.url, tmp_path, ["a1", "a2"]).run()
        assert ended.code == 0, ended.err

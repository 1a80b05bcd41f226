"""Who we are to the API, and that nobody else learns it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from exporter.model.errors import TokenRefusedError, TransientError
from tests.support.clients import client_of, run, serving
from tests.support.processes import ROOT, Exporter, clean_environment, exporter_for, wait_until
from tests.support.servers import moves
from tests.support.servers.faulty import FaultyServer, Plan
from tests.support.servers.moves import LOGIN, MIB, Behaviour, Step

pytestmark = pytest.mark.usefixtures("transport")

TOKEN = "s3cret-t0ken-of-the-shop"
USERNAME, PASSWORD = "exporting-user", "s3cret-passw0rd"
LOGGED_IN = {"token": None, "username": USERNAME, "password": PASSWORD}
WITHOUT_TOKEN = {"EXPORTER_API_TOKEN": ""}
WITH_LOGIN = {**WITHOUT_TOKEN, "EXPORTER_API_USERNAME": USERNAME, "EXPORTER_API_PASSWORD": PASSWORD}


class Gate:
    """A server that knows which token a request carries, and answers 401 to those that are spent.

    Args:
        lives: How many orders each token opens, in the order of the logins; the last one stays.
        login: What a login is answered.
    """

    def __init__(self, *lives: int, login: Behaviour = moves.good) -> None:
        self._lives = {f"Token token-{nth}": count for nth, count in enumerate(lives, 1)}
        self._login = login
        self.server = FaultyServer(Plan(behaviour=self._answer))

    @property
    def logins(self) -> int:
        return sum(arrival.number == LOGIN for arrival in self.server.arrivals)

    def _answer(self, number: str, nth: int) -> Iterable[Step]:
        if number == LOGIN:
            return self._login(number, nth)
        return (moves.good if self._opens(number, nth) else moves.status(401))(number, nth)

    def _opens(self, number: str, nth: int) -> bool:
        arrival = next(
            each for each in reversed(self.server.arrivals) if (each.number, each.nth) == (number, nth)
        )
        token = arrival.headers["authorization"]
        self._lives[token] = self._lives.get(token, 0) - 1
        return self._lives[token] >= 0


# ---- logins


def test_a_login_brings_the_token(tmp_path: Path) -> None:
    """One POST with user name and password, then the key as the token of every request."""

    async def ask() -> None:
        gate = Gate(1000)
        async with gate.server as server, client_of(server.url, **LOGGED_IN) as client:
            for index in range(3):
                await client.fetch(f"a{index}", 1)
            login, *orders = server.arrivals
            assert (login.method, login.target) == ("POST", LOGIN)
            assert json.loads(login.body) == {"username": USERNAME, "password": PASSWORD}
            assert "authorization" not in login.headers
            assert {order.headers["authorization"] for order in orders} == {"Token token-1"}

    run(ask())


def test_a_token_that_expires_in_mid_run_is_renewed_once(tmp_path: Path) -> None:
    """All workers share the one new login, every order is exported, and the manifest still adds up."""
    gate = Gate(40, 1000)
    with serving(gate.server) as server:
        exporter = exporter_for(server.url, tmp_path, [f"a{index}" for index in range(100)])
        ended = exporter.run("--concurrency", 8, **WITH_LOGIN)
        assert ended.code == 0, ended.err
    requests = json.loads((tmp_path / "out" / "manifest.json").read_text())["requests"]
    assert gate.logins == 2
    assert requests["sent"] == len(server.arrivals) - gate.logins
    assert requests["retried"] == requests["sent"] - 100


def test_a_new_token_that_is_refused_ends_the_run(tmp_path: Path) -> None:
    """Exit 5 after the second login; the same command goes on."""
    gate = Gate(40, 0)
    with serving(gate.server) as server:
        exporter = exporter_for(server.url, tmp_path, [f"a{index}" for index in range(100)])
        exporter.run("--concurrency", 4, **WITH_LOGIN).said(5, "refused the login")
    assert gate.logins == 2


def test_an_order_that_always_gets_401_costs_one_login() -> None:
    """Other orders prove the new token, yet nobody logs in again and again for this one."""
    plan = moves.by_number({"a1": moves.status(401)})

    async def ask() -> None:
        async with FaultyServer(plan) as server, client_of(server.url, **LOGGED_IN) as client:
            await client.fetch("a0", 1)
            with pytest.raises(TokenRefusedError):
                await client.fetch("a1", 1)
            assert sum(arrival.number == LOGIN for arrival in server.arrivals) == 2

    run(ask())


@pytest.mark.parametrize("code", [400, 401, 403, 404])
def test_a_refused_login_ends_the_run(tmp_path: Path, code: int) -> None:
    """Exit 5, asked once, and no order is asked for."""
    with serving({LOGIN: moves.status(code)}) as server:
        exporter = exporter_for(server.url, tmp_path, ["a1", "a2"])
        exporter.run(**WITH_LOGIN).said(5, f"refused the login ({code})")
        assert [arrival.number for arrival in server.arrivals] == [LOGIN]


@pytest.mark.parametrize(
    "answer",
    [
        moves.html(),
        moves.answer(b"{}"),
        moves.answer(b'{"key": ""}'),
        moves.answer(b'{"key": "a\\r\\nX-Injected: yes"}'),
        moves.flood(40 * MIB),
        moves.gzip_bomb(40 * MIB),
        moves.nested(100_000),
    ],
    ids=["html", "no key", "empty", "injected header", "flood", "bomb", "nested"],
)
def test_a_login_without_a_token_is_refused(answer: Behaviour) -> None:
    """Whatever its 200 holds, and without reading far."""

    async def ask() -> None:
        async with FaultyServer({LOGIN: answer}) as server, client_of(server.url, **LOGGED_IN) as client:
            with pytest.raises(TokenRefusedError):
                await client.fetch("a1", 1)
            assert [arrival.number for arrival in server.arrivals] == [LOGIN]

    run(ask())


@pytest.mark.parametrize("answer", [moves.status(503), moves.end(moves.End.RESET), moves.status(408)])
def test_a_login_that_fails_is_tried_again(answer: Behaviour) -> None:
    """It is a failed attempt like any other."""

    async def ask() -> None:
        plan = {LOGIN: moves.in_turn(answer, moves.good)}
        async with FaultyServer(plan) as server, client_of(server.url, **LOGGED_IN) as client:
            with pytest.raises(TransientError):
                await client.fetch("a1", 1)
            await client.fetch("a1", 2)

    run(ask())


def test_a_login_is_never_redirected() -> None:
    """The password goes to the one address that was given."""

    async def ask() -> None:
        async with FaultyServer() as other:
            plan = {LOGIN: moves.redirect(f"{other.url}{LOGIN}", 307)}
            async with FaultyServer(plan) as server, client_of(server.url, **LOGGED_IN) as client:
                with pytest.raises(TokenRefusedError):
                    await client.fetch("a1", 1)
            assert other.arrivals == []

    run(ask())


# ---- tokens


def test_a_static_token_that_is_refused_in_mid_run_ends_it(tmp_path: Path) -> None:
    """Exit 5, no login is tried, and what was fetched is kept: a good token asks for the rest alone."""
    gate = Gate()
    gate._lives[f"Token {TOKEN}"] = 30
    with serving(gate.server) as server:
        exporter = exporter_for(
            server.url, tmp_path, [f"a{index}" for index in range(60)], EXPORTER_API_TOKEN=TOKEN
        )
        exporter.run("--concurrency", 4).said(5, "refused the token (401)")
        assert gate.logins == 0
        gate._lives["Token another"] = 30
        assert exporter.run(EXPORTER_API_TOKEN="another").code == 0


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """Exit 2 with the command that mends it, and nobody is asked."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(mode)
    with serving(moves.good) as server:
        exporter = exporter_for(server.url, tmp_path, ["a1"])
        exporter.run("--token-file", file, **WITHOUT_TOKEN).said(2, "others can read it", f"chmod 600 {file}")
        assert server.arrivals == []
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize(
    "content", ["", "two tokens", "tök", "a\nb"], ids=["empty", "two", "not ASCII", "two lines"]
)
def test_a_token_file_holds_one_token(tmp_path: Path, content: str) -> None:
    """What is no token is refused without being quoted."""
    file = tmp_path / "token"
    file.write_text(content, "utf-8")
    file.chmod(0o600)
    exporter = exporter_for("http://127.0.0.1:9", tmp_path, ["a1"])
    ended = exporter.run("--token-file", file, **WITHOUT_TOKEN)
    ended.said(2, f"--token-file {file}")
    assert not content or content not in ended.err


@pytest.mark.parametrize("variable", ["", "another-token"])
def test_a_token_file_is_enough(variable: str, tmp_path: Path) -> None:
    """Its owner's eyes only, a line end at its end: that is a token, whatever `EXPORTER_API_TOKEN` holds."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    with serving(moves.good) as server:
        exporter = exporter_for(server.url, tmp_path, ["a1"])
        assert exporter.run("--token-file", file, EXPORTER_API_TOKEN=variable).code == 0
        assert server.arrivals[0].headers["authorization"] == f"Token {TOKEN}"


# ---- nobody else learns it


def leaks(folder: Path, *told: str) -> list[str]:
    """Return where a secret stands in what a run said and left behind."""
    found = [
        f"told: {text}" for text in told if any(secret in text for secret in (TOKEN, PASSWORD, "token-1"))
    ]
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "the-token":
            data = path.read_bytes()
            found += [str(path) for secret in (TOKEN, PASSWORD, "token-1") if secret.encode() in data]
    return found


FATES: dict[str, tuple[Behaviour, int]] = {
    "exported": (moves.good, 0),
    "rejected": (moves.status(404), 6),
    "refused": (moves.status(401), 5),
    "broken": (moves.end(moves.End.RESET), 6),
    "not HTTP": (moves.header_flood(500), 6),
    "redirected": (moves.redirect("http://127.0.0.1:9/"), 6),
}


@pytest.mark.parametrize(
    ("fate", "log_format"), [(fate, ("text", "json")[index % 2]) for index, fate in enumerate(FATES)]
)
def test_a_run_leaves_no_secret_behind(tmp_path: Path, fate: str, log_format: str) -> None:
    """Neither log nor error, store, manifest, reject, report or state, however it ends and we came in."""
    behaviour, code = FATES[fate]
    logged_in = log_format == "json"
    credentials = WITH_LOGIN if logged_in else {"EXPORTER_API_TOKEN": TOKEN}
    with serving(moves.by_number({LOGIN: moves.good}, behaviour)) as server:
        exporter = exporter_for(server.url, tmp_path, ["a1", "a2"], XDG_STATE_HOME=str(tmp_path / "state"))
        ended = exporter.run(
            *("--max-attempts", 1, "--max-rejects", "100%", "--log-format", log_format, "--store", "kept.db"),
            *("--patience", "1s"),
            **credentials,
        )
        sent = "Token token-1" if logged_in else f"Token {TOKEN}"
        assert {arrival.headers.get("authorization") for arrival in server.arrivals[logged_in:]} == {sent}
    assert ended.code == code, ended.err
    assert leaks(tmp_path, ended.out, ended.err) == []


_PLANTED = """
import sys
import aiohttp
import exporter.api.client
from exporter.cli import main

def planted(payload, order_number, max_items):
    secret = sys._getframe(1).f_locals["this"].header
    raise RuntimeError(f"a bug that quotes {secret}")

exporter.api.client.check = planted
sys.exit(main(sys.argv[1:]))
"""


def test_a_bug_tells_no_secret(tmp_path: Path) -> None:
    """A traceback's message that quotes the token is in no file and on no screen; the place of the bug is."""
    with serving(moves.good) as server:
        exporter = exporter_for(
            server.url, tmp_path, ["a1"], EXPORTER_API_TOKEN=TOKEN, XDG_STATE_HOME=str(tmp_path / "state")
        )
        ended = subprocess.run(
            [sys.executable, "-c", _PLANTED, *map(str, Exporter.run_words())],
            env=dict(exporter.env),
            cwd=tmp_path,
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 1
    assert "RuntimeError" in ended.stderr
    assert leaks(tmp_path, ended.stdout, ended.stderr) == []


def seen_by_ps(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_no_secret_is_seen_by_ps_nor_given_to_the_child(tmp_path: Path) -> None:
    """Neither command line holds one, and the publishing process does not even inherit it."""
    file = tmp_path / "the-token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    release = threading.Event()

    def held(number: str, nth: int) -> Iterable[Step]:
        while not release.wait(0.01):
            yield moves.Pause(0.05)
        yield from moves.good(number, nth)

    with serving(held) as server:
        exporter = exporter_for(
            server.url, tmp_path, ["a1"], EXPORTER_API_PASSWORD=PASSWORD, EXPORTER_API_TOKEN=TOKEN
        )
        with exporter.run_started("--token-file", file) as running:
            try:
                wait_until(lambda: bool(running.publishers()) and bool(server.arrivals))
                [child] = running.publishers()
                seen = seen_by_ps(running.pid) + seen_by_ps(child) + environment_of(child)
            finally:
                release.set()
    assert TOKEN.encode() not in seen
    assert PASSWORD.encode() not in seen
    assert b"PATH=" in seen


def test_the_options_do_not_show_their_secrets() -> None:
    """Whoever prints them, or a traceback that does, prints none."""
    code = (
        "from exporter import Options;"
        f"print(Options(orders='x', out='y', api_url='https://a.test', token={TOKEN!r}, username='u',"
        f" password={PASSWORD!r}, proxy='http://u:{PASSWORD}@proxy.test', pii_key={TOKEN * 3!r}))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(),
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    assert "https://a.test" in shown
    assert leaks(Path("/nonexistent"), shown) == []

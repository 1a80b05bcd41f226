"""The faulty server misbehaves as told: seen by a client that reads raw bytes."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import zlib
from collections.abc import Coroutine
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import aiohttp
import pytest
import trustme

from tests.support.servers import moves
from tests.support.servers.faulty import FaultyServer, Plan
from tests.support.servers.moves import Behaviour, End
from tests.support.servers.process import faulty_process, stats
from tests.support.servers.proxy import Proxy

_T = TypeVar("_T")


@dataclass
class Client:
    """One connection that hides nothing."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def ask(self, number: str, method: str = "GET", body: bytes = b"") -> None:
        target = number if number.startswith("/") else f"/api/i1/orders/{number}"
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nX-Mark: yes\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)

    async def answer(self) -> tuple[str, bytes]:
        """Read one answer with a Content-Length."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
        return head, await self.reader.readexactly(length)

    async def everything(self) -> bytes:
        """Read until the server hangs up."""
        return await self.reader.read()


class Bench(FaultyServer):
    """A faulty server that closes its clients."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.clients: list[Client] = []

    async def connect(self, tls: ssl.SSLContext | None = None) -> Client:
        streams = await asyncio.open_connection("127.0.0.1", self.port, ssl=tls, limit=2**24)
        self.clients.append(Client(*streams))
        return self.clients[-1]

    async def __aexit__(self, *error: Any) -> None:
        for client in self.clients:
            client.writer.close()
        await super().__aexit__(*error)


def run(test: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run(asyncio.wait_for(test, 10))


def raw(behaviour: Behaviour, number: str = "a1") -> bytes:
    """What a lone request for one order gets until the connection ends."""

    async def ask() -> bytes:
        async with Bench(moves.close_after(behaviour)) as server:
            client = await server.connect()
            client.ask(number)
            return await client.everything()

    return run(ask())


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def unchunk(body: bytes) -> bytes:
    data = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        data, body = data + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return data


def test_good_answer_is_the_demo_order_and_the_connection_goes_on() -> None:
    """Requests on one connection, pipelined too, each get their own order."""

    async def ask() -> None:
        async with Bench() as server:
            client = await server.connect()
            for number in ("a1", "b%20%C3%BC"):
                client.ask(number)
            first, second = await client.answer(), await client.answer()
            assert json.loads(first[1])["number"] == "a1"
            assert json.loads(second[1])["number"] == "b ü"
            assert [arrival.connection for arrival in server.arrivals] == [1, 1]

    run(ask())


def test_arrivals_tell_time_number_count_headers_and_body() -> None:
    """A test can check all that a client sent, and when."""

    async def ask() -> None:
        before = time.monotonic()
        async with Bench() as server:
            client = await server.connect()
            client.ask("a1")
            client.ask("a1")
            client.ask(moves.LOGIN, "POST", b"{}")
            for _ in range(3):
                last = await client.answer()
            assert json.loads(last[1]) == {"key": "token-1"}
            first, second, login = server.arrivals
            assert before < first.at <= second.at < time.monotonic()
            assert (first.number, first.nth, second.nth) == ("a1", 1, 2)
            assert first.headers["x-mark"] == "yes"
            assert (login.method, login.body) == ("POST", "{}")

    run(ask())


@pytest.mark.parametrize(
    "behaviour",
    [
        moves.end(End.RESET),
        moves.cut_headers(End.RESET),
        moves.cut_body(End.RESET),
        moves.cut_chunked(End.RESET),
    ],
)
def test_reset_is_a_reset(behaviour: Behaviour) -> None:
    """The client's socket sees RST, not an orderly end, at each stage of the answer."""
    with pytest.raises(ConnectionResetError):
        raw(behaviour)


def test_closing_without_an_answer() -> None:
    """The client reads an orderly end and nothing else."""
    assert raw(moves.end(End.CLOSE)) == b""


def test_cut_body_promises_more_than_it_sends() -> None:
    """Content-Length is the whole order's, the bytes are half of it."""
    answer = raw(moves.cut_body())
    whole = len(moves.order_body("a1"))
    assert f"Content-Length: {whole}".encode() in answer
    assert len(body_of(answer)) == whole // 2


def test_cut_chunked_body_lacks_its_last_chunk() -> None:
    """All of the order is there, the end of the body is not."""
    answer = raw(moves.cut_chunked())
    assert body_of(answer) == moves.chunk(moves.order_body("a1"))


def test_cut_headers_stop_in_the_middle() -> None:
    """The head never ends."""
    answer = raw(moves.cut_headers())
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"\r\n\r\n" not in answer


@pytest.mark.parametrize(
    ("behaviour", "sent"),
    [(moves.end(End.STALL), 0), (lambda _number, _nth: (b"half", End.STALL), 4)],
    ids=["at once", "in mid-answer"],
)
def test_stall_keeps_the_connection_open_in_silence(behaviour: Behaviour, sent: int) -> None:
    """Nothing comes, no end either, and the server ends all the same."""

    async def ask() -> None:
        async with Bench(behaviour) as server:
            client = await server.connect()
            client.ask("a1")
            await client.reader.readexactly(sent)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.read(1), 0.2)

    run(ask())


def test_drip_sends_one_byte_at_a_time() -> None:
    """The whole answer comes, not faster than the delay allows."""
    begin = time.monotonic()
    answer = raw(moves.drip(0.001, moves.status(404)))
    assert body_of(answer) == b'{"detail": "Told to."}'
    assert time.monotonic() - begin > 0.001 * len(answer)


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_redirect_goes_where_told(code: int) -> None:
    """Any status, any location."""
    answer = raw(moves.redirect("https://elsewhere.test/x", code))
    assert answer.startswith(f"HTTP/1.1 {code} ".encode())
    assert b"Location: https://elsewhere.test/x\r\n" in answer


def test_slash_redirect_is_for_the_form_without_slash_alone() -> None:
    """The slashless form gets a 301 to the other, which gets the order as its first request."""

    async def ask() -> None:
        async with Bench(Plan(slash=True)) as server:
            client = await server.connect()
            client.ask("a1")
            head, _ = await client.answer()
            assert head.startswith("HTTP/1.1 301")
            assert "Location: /api/i1/orders/a1/" in head
            client.ask("a1/")
            assert json.loads((await client.answer())[1])["number"] == "a1"
            assert (server.arrivals[1].number, server.arrivals[1].nth) == ("a1", 1)

    run(ask())


def test_lies() -> None:
    """Each lie is the one it is named for."""
    order = moves.order_body("a1")
    assert json.loads(body_of(raw(moves.another_number)))["number"] == "not-a1"
    assert json.loads(body_of(raw(moves.a_list)))[0]["number"] == "a1"
    assert b"Content-Type: text/plain" in raw(moves.wrong_content_type)
    assert raw(moves.html()).startswith(b"HTTP/1.1 200")
    assert b"<html>" in raw(moves.html(502))
    assert body_of(raw(moves.with_bom)) == b"\xef\xbb\xbf" + order
    with pytest.raises(UnicodeDecodeError):
        body_of(raw(moves.not_utf8)).decode()
    with pytest.raises(json.JSONDecodeError):
        json.loads(body_of(raw(moves.broken_json)))
    with pytest.raises(RecursionError):
        json.loads(body_of(raw(moves.nested(100_000))))
    with pytest.raises(zlib.error):
        zlib.decompress(body_of(raw(moves.not_gzip)), 31)


def test_flood_and_bomb_hold_what_they_say() -> None:
    """Both decode to an order with a text of exactly that size; the bomb is small on the wire."""
    size = 8 * moves.MIB + 5
    flood, bomb = raw(moves.flood(size)), raw(moves.gzip_bomb(size))
    for body in (unchunk(body_of(flood)), zlib.decompress(unchunk(body_of(bomb)), 31)):
        assert json.loads(body) == {"number": "a1", "notes": " " * size}
    assert len(bomb) < size / 500


def test_header_flood_and_giant_length() -> None:
    """A hundred headers for each hundred told; a length that no disk holds."""
    assert raw(moves.header_flood(1_000)).count(b"X-Flood-") == 1_000
    assert b"Content-Length: 1000000000000000\r\n" in moves.head(length=10**15)


def test_behaviours_in_turn_and_by_number() -> None:
    """Each number has its own script, and its own count in it."""

    async def ask() -> list[str]:
        plan = {
            "a1": moves.in_turn(moves.status(500), moves.status(503), moves.good),
            "c1": moves.status(403),
        }
        async with Bench(plan) as server:
            client = await server.connect()
            for number in ("a1", "b1", "a1", "c1", "a1", "a1"):
                client.ask(number)
            return [(await client.answer())[0].split()[1] for _ in range(6)]

    assert run(ask()) == ["500", "200", "503", "403", "200", "200"]


def test_connection_is_dropped_just_as_the_next_request_arrives() -> None:
    """The request reaches the server, is recorded, and gets an orderly end for an answer."""

    async def ask() -> None:
        async with Bench(Plan(answers_per_connection=2)) as server:
            client = await server.connect()
            for number in ("a1", "a2"):
                client.ask(number)
                await client.answer()
            client.ask("a3")
            assert await client.everything() == b""
            assert [arrival.number for arrival in server.arrivals] == ["a1", "a2", "a3"]

    run(ask())


def test_connection_ends_right_after_its_last_answer() -> None:
    """The answer says keep-alive, the connection ends."""

    async def ask() -> None:
        async with Bench(Plan(answers_per_connection=1, ends="answered")) as server:
            client = await server.connect()
            client.ask("a1")
            head, _ = await client.answer()
            assert "close" not in head
            assert await client.everything() == b""

    run(ask())


@pytest.mark.parametrize("retry_after", ["seconds", "date", "absent"])
def test_limit_answers_429_and_says_when(retry_after: Any) -> None:
    """The fourth request within the window is refused, in each of the three ways."""

    async def ask() -> list[str]:
        async with Bench(Plan(limits=((3, 60.0), (100, 1.0)), retry_after=retry_after)) as server:
            client = await server.connect()
            for number in range(4):
                client.ask(f"a{number}")
            return [(await client.answer())[0] for _ in range(4)]

    heads = run(ask())
    assert [head.split()[1] for head in heads] == ["200", "200", "200", "429"]
    told = dict(line.split(": ", 1) for line in heads[3].splitlines()[1:] if line)
    if retry_after == "absent":
        assert "Retry-After" not in told
    elif retry_after == "seconds":
        assert int(told["Retry-After"]) == 60
    else:
        assert 55 < parsedate_to_datetime(told["Retry-After"]).timestamp() - time.time() <= 62


def test_latency_grows_when_workers_are_busy() -> None:
    """Two workers of 50 ms answer six requests at once in three rounds."""

    async def ask() -> float:
        async with Bench(Plan(latency_s=0.05, workers=2)) as server:
            clients = [await server.connect() for _ in range(6)]
            begin = time.monotonic()
            for client in clients:
                client.ask("a1")
            await asyncio.gather(*(client.answer() for client in clients))
            return time.monotonic() - begin

    assert run(ask()) >= 0.15


def test_server_goes_down_and_comes_back() -> None:
    """The request that it breaks at gets a reset, new connections are refused, later ones served."""

    async def ask() -> None:
        async with Bench(Plan(down_from=2, down_for_s=0.3)) as server:
            client, idle = await server.connect(), await server.connect()
            client.ask("a1")
            await client.answer()
            client.ask("a2")
            for each in (client, idle):
                with pytest.raises(ConnectionResetError):
                    await each.everything()
            with pytest.raises(ConnectionRefusedError):
                await server.connect()
            await asyncio.sleep(0.4)
            client = await server.connect()
            client.ask("a2")
            assert (await client.answer())[0].startswith("HTTP/1.1 200")

    run(ask())


def throw_away_tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context, and that of a client that trusts it."""
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    return server_side, client_side


def test_tls() -> None:
    """A client that trusts the throw-away CA is served, at an https URL."""
    server_side, client_side = throw_away_tls()

    async def ask() -> None:
        async with Bench(tls=server_side) as server:
            assert server.url.startswith("https://")
            client = await server.connect(client_side)
            client.ask("a1")
            assert (await client.answer())[0].startswith("HTTP/1.1 200")

    run(ask())


def test_process_serves_a_named_script_and_ends_with_its_block() -> None:
    """The URL is its first line; `/_stats` tells the arrivals and is none itself."""
    with faulty_process("tests.support.servers.scripts:tenth_faulty") as url:
        assert url.startswith("http://127.0.0.1:")
        assert stats(url) == {"arrivals": []}
        assert stats(url) == {"arrivals": []}


@pytest.mark.parametrize("tls", [False, True])
def test_proxy_forwards_http_and_tunnels_https(tls: bool) -> None:
    """The order comes through, and the proxy knows what it was asked for."""
    server_side, client_side = throw_away_tls()

    async def ask() -> None:
        async with (
            Proxy() as proxy,
            FaultyServer(tls=server_side if tls else None) as server,
            aiohttp.ClientSession(proxy=proxy.url) as session,
        ):
            url = f"{server.url}/api/i1/orders/a1"
            for _ in range(2):
                async with session.get(url, ssl=client_side) as response:
                    assert (await response.json())["number"] == "a1"
            assert len(server.arrivals) == 2
            tunnel = f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"
            assert proxy.request_lines == ([tunnel] if tls else [f"GET {url} HTTP/1.1"] * 2)

    run(ask())

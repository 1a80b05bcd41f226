"""Transport: certificates are checked, http is for this machine, proxies tunnel."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from exporter.api.client import Client
from exporter.model.errors import ApiUnavailableError, UsageError
from tests.support.clients import TOKEN, client_of, run, serving
from tests.support.processes import exporter_for
from tests.support.servers import moves
from tests.support.servers.faulty import FaultyServer, Plan
from tests.support.servers.proxy import Proxy
from tests.support.standing import manifest_of

pytestmark = pytest.mark.usefixtures("transport")


@dataclass(frozen=True)
class Authority:
    """A throw-away certificate authority."""

    ca: trustme.CA
    pem: str

    def certificate(self, host: str) -> ssl.SSLContext:
        """Return a server's side with a certificate for this host."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(host).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return Authority(ca, str(path))


async def refused(client: Client) -> ApiUnavailableError:
    with pytest.raises(ApiUnavailableError) as caught:
        await client.fetch("a1", 1)
    return caught.value


def test_a_trusted_authority_is_enough(authority: Authority) -> None:
    """With `--ca-file` the API is asked over TLS."""

    async def ask() -> None:
        async with (
            FaultyServer(tls=authority.certificate("127.0.0.1")) as server,
            client_of(server.url, ca_file=authority.pem) as client,
        ):
            assert server.url.startswith("https://")
            await client.fetch("a1", 1)

    run(ask())


def test_nothing_is_left_open(authority: Authority) -> None:
    """Connections that wait for a request are closed with the client, those over TLS as well."""

    async def ask() -> None:
        async with FaultyServer(tls=authority.certificate("127.0.0.1")) as server:
            async with client_of(server.url, ca_file=authority.pem) as client:
                await asyncio.gather(*(client.fetch(f"a{number}", 1) for number in range(5)))
            while server._connections:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.001)

    run(ask())


def test_an_unknown_authority_ends_the_run_at_once(authority: Authority, tmp_path: Path) -> None:
    """Exit 6 with the option that mends it, without a request, a retry or a wait."""
    with serving(moves.good, authority.certificate("127.0.0.1")) as server:
        exporter = exporter_for(server.url, tmp_path, ["a1", "a2"])
        ended = exporter.run()
        ended.said(6, "its certificate is refused", "unable to get local issuer", "--ca-file")
        assert ended.took_s < 10
        assert server.arrivals == []
        assert exporter.run("--ca-file", authority.pem).code == 0


def test_a_certificate_that_goes_bad_in_mid_run_is_waited_out(authority: Authority, tmp_path: Path) -> None:
    """What was trusted before is an outage: the run gives nothing away, waits, and misses nothing."""
    good = authority.certificate("127.0.0.1")
    bad = Authority(trustme.CA(), "").certificate("127.0.0.1")
    shown: list[ssl.SSLContext] = []

    def choose(handshake: ssl.SSLObject, _name: str, _context: ssl.SSLContext) -> None:
        handshake.context = bad if len(server.arrivals) > 20 and len(shown) < 8 else good
        if handshake.context is bad:
            shown.append(bad)

    good.sni_callback = choose
    server = FaultyServer(Plan(behaviour=moves.bare, answers_per_connection=5), good)
    with serving(server):
        numbers = [f"a{number}" for number in range(100)]
        ended = exporter_for(server.url, tmp_path, numbers).run("--ca-file", authority.pem, "--rate", "50/s")
    assert ended.code == 0, ended.err
    assert len(shown) == 8
    assert manifest_of(tmp_path / "out")["requests"]["sent"] == len(server.arrivals)


def test_a_certificate_for_another_host_is_refused(authority: Authority) -> None:
    """A trusted authority does not make it the right host, and the hint does not say so."""

    async def ask() -> None:
        async with (
            FaultyServer(tls=authority.certificate("api.example.com")) as server,
            client_of(server.url, ca_file=authority.pem) as client,
        ):
            error = await refused(client)
            assert "127.0.0.1" in error.what
            assert "`api_url`" in error.hint
            assert server.arrivals == []

    run(ask())


def test_a_login_meets_the_same_door(authority: Authority) -> None:
    """The password is not sent to a host without a trusted certificate either."""

    async def ask() -> None:
        login = {"token": None, "username": "u", "password": "p"}
        async with (
            FaultyServer(tls=authority.certificate("127.0.0.1")) as server,
            client_of(server.url, **login) as client,
        ):
            assert "`ca_file`" in (await refused(client)).hint
            assert server.arrivals == []

    run(ask())


@pytest.mark.parametrize("content", ["", "no PEM", None], ids=["empty", "text", "missing"])
def test_a_ca_file_that_is_none_is_refused(tmp_path: Path, content: str | None) -> None:
    """Exit 2, not a run that trusts whom it should not."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)

    async def ask() -> None:
        with pytest.raises(UsageError, match="ca_file"):
            async with client_of("https://127.0.0.1:9", ca_file=str(file)):
                pass

    run(ask())


def test_http_is_for_this_machine(tmp_path: Path) -> None:
    """The token does not travel in clear text, unless one insists."""
    exporter = exporter_for("http://api.invalid", tmp_path, ["a1"])
    exporter.run().said(2, "expected https", "--allow-http")
    assert not (tmp_path / "out.partial").exists()

    async def ask() -> None:
        async with client_of("http://api.invalid", allow_http=True):
            pass

    run(ask())


# ---- proxies


def test_a_proxy_tunnels_https(authority: Authority) -> None:
    """It is asked to CONNECT, once for each connection, and sees nothing of what goes through."""

    async def ask() -> None:
        async with (
            Proxy() as proxy,
            FaultyServer(tls=authority.certificate("127.0.0.1")) as server,
            client_of(server.url, ca_file=authority.pem, proxy=proxy.url) as client,
        ):
            await client.fetch("a1", 1)
            await client.fetch("a2", 1)
            assert proxy.request_lines == [f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"]
            assert {arrival.connection for arrival in server.arrivals} == {1}
            assert server.arrivals[0].headers["authorization"] == f"Token {TOKEN}"
            assert not any(name.startswith("proxy") for name in server.arrivals[0].headers)

    run(ask())


def test_a_tunnel_does_not_weaken_the_check_of_the_certificate(authority: Authority) -> None:
    """What the proxy leads to must be the host that was asked for."""

    async def ask() -> None:
        async with (
            Proxy() as proxy,
            FaultyServer(tls=authority.certificate("api.example.com")) as server,
            client_of(server.url, ca_file=authority.pem, proxy=proxy.url) as client,
        ):
            assert "`api_url`" in (await refused(client)).hint

    run(ask())


def test_a_proxy_forwards_http() -> None:
    """In absolute form, as a forward proxy wants it."""

    async def ask() -> None:
        async with Proxy() as proxy, FaultyServer() as server:
            async with client_of(server.url, proxy=proxy.url) as client:
                await client.fetch("a1", 1)
            assert proxy.request_lines == [f"GET {server.url}/api/i1/orders/a1 HTTP/1.1"]

    run(ask())


@pytest.mark.parametrize("code", [403, 407])
def test_a_proxy_that_refuses_ends_the_run(code: int) -> None:
    """At once, with the option to look at; its password is not told."""

    async def ask() -> None:
        async with FaultyServer(moves.status(code)) as proxy:
            address = f"http://user:proxy-password@127.0.0.1:{proxy.port}"
            async with client_of("https://api.invalid", proxy=address) as client:
                error = await refused(client)
            assert f"The proxy answered {code}" in error.what
            assert "`proxy`" in error.hint
            assert "proxy-password" not in str(error)
            assert "authorization" not in proxy.arrivals[0].headers
            assert client.traffic.sent == 0

    run(ask())


def test_the_environment_names_no_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A netrc file has no say: only the token that was given to us. This machine needs no proxy."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\ndefault login some password body\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    async def ask() -> None:
        async with FaultyServer() as server, client_of(server.url) as client:
            await client.fetch("a1", 1)
        assert [arrival.headers["authorization"] for arrival in server.arrivals] == [f"Token {TOKEN}"]

    run(ask())

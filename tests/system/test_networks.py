"""Other networks: proxies by convention, certificates from both sides, addresses that move, causes in words."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from exporter import export
from exporter.api.order_list import OrderList
from exporter.model.errors import ApiUnavailableError, AttemptError, ExporterError, UsageError
from exporter.model.options import Options
from tests.support.clients import TOKEN, client_of, run, serving
from tests.support.daemons import daemon, haproxy, needs, nginx, squid, tinyproxy
from tests.support.processes import Exporter, exporter_for
from tests.support.refreshing import Work
from tests.support.servers import moves
from tests.support.servers.faulty import FaultyServer
from tests.support.servers.proxy import Proxy

PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
#: This machine by a name that no rule knows: what goes there may take a proxy.
ELSEWHERE = "0.0.0.0"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXY_VARIABLES, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class Authority:
    """A certificate authority, with files of what it signs."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.folder = folder
        self.pem = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.pem)

    def file(self, name: str = "127.0.0.1", mode: int = 0o600) -> Path:
        """Write a key and its certificate."""
        path = self.folder / f"{name}.pem"
        self.ca.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(str(path))
        path.chmod(mode)
        return path

    def certificate(self) -> ssl.SSLContext:
        """Return a server's side for this machine."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert("127.0.0.1").configure_cert(context)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def elsewhere(url: str) -> str:
    return url.replace("127.0.0.1", ELSEWHERE)


async def failure(url: str, **settings: Any) -> ExporterError:
    async with client_of(url, **settings) as client:
        with pytest.raises(ExporterError) as caught:
            await client.fetch("a1", 1)
    return caught.value


async def failed_listing(url: str, **settings: Any) -> ExporterError:
    options = Options(orders="", from_api=True, out="o", api_url=url, token=TOKEN, **settings)
    async with client_of(url, **settings) as client:
        with pytest.raises(ExporterError) as caught:
            await OrderList(client, options, "").page(1)
    return caught.value


def test_the_choice_of_transport_is_told_once(transport: str, caplog: pytest.LogCaptureFixture) -> None:
    """At debug level, however many requests follow."""

    async def ask() -> None:
        async with FaultyServer() as server:
            await good(server.url)

    with caplog.at_level("DEBUG", logger="exporter"):
        run(ask())
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    sentence = f"Requests go through the {transport} transport over aiohttp {aiohttp.__version__}."
    assert told == [("DEBUG", sentence)]


# ---- --proxy


@pytest.mark.fast
@pytest.mark.parametrize(
    ("given", "known"),
    [
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("user:pass@proxy.example:3128", "http://user:pass@proxy.example:3128"),
        ("http://proxy.example", "http://proxy.example"),
        ("HTTPS://[::1]:3128/", "HTTPS://[::1]:3128/"),
        ("none", "none"),
    ],
)
def test_a_proxy_is_named_as_for_curl(given: str, known: str) -> None:
    """`host:port` is enough."""
    assert Options(orders="n", out="o", api_url="https://x.example", token="t", proxy=given).proxy == known


@pytest.mark.fast
@pytest.mark.parametrize(
    ("given", "got"),
    [
        ("", "'http://'"),
        ("http://", "'http://'"),
        ("http://host:99999", "(hidden)"),
        ("http://host:x", "(hidden)"),
        ("http://us er:secret@host:1", "host:1"),
        ("http://u:secret/x@host:1", "(hidden)"),
        ("socks5://u:secret@host:1080", "socks5://"),
        ("ftp://host", "ftp://host"),
    ],
)
def test_what_is_no_http_proxy_is_refused_at_the_start(given: str, got: str) -> None:
    """With the reason, and without the password."""
    with pytest.raises(UsageError, match="expected http://HOST:PORT") as caught:
        Options(orders="n", out="o", api_url="https://x.example", token="t", proxy=given)
    assert got in caught.value.what
    assert caught.value.option == "proxy"
    assert "secret" not in str(caught.value)


# ---- the environment


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_environment_names_the_proxy(variable: str, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """As for curl and pip, and the log says so."""

    async def ask() -> None:
        async with Proxy() as proxy, FaultyServer() as server:
            monkeypatch.setenv(variable, f"http://user:s3cret@{proxy.url.removeprefix('http://')}")
            with caplog.at_level("INFO", logger="exporter"):
                async with client_of(elsewhere(server.url), allow_http=True) as client:
                    await client.fetch("a1", 1)
            assert proxy.request_lines == [f"GET {elsewhere(server.url)}/api/i1/orders/a1 HTTP/1.1"]
            assert f"go through the proxy {proxy.url.removeprefix('http://')} ({variable})" in caplog.text
            assert "s3cret" not in caplog.text

    run(ask())


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize(
    "case",
    [
        {"NO_PROXY": "0.0.0.0, other.example"},
        {"NO_PROXY": "*"},
        {"url": "127.0.0.1"},
        {"proxy": "none"},
        {"HTTP_PROXY": "", "HTTPS_PROXY": "http://127.0.0.1:9"},
    ],
    ids=["name", "all", "loopback", "option", "other scheme"],
)
def test_the_proxy_of_the_environment_is_not_for_everything(
    case: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_PROXY, this machine and `--proxy none` are asked directly."""
    for name in {"HTTP_PROXY": "http://127.0.0.1:9"} | {n: v for n, v in case.items() if n.isupper()}:
        monkeypatch.setenv(name, case.get(name, "http://127.0.0.1:9"))

    async def ask() -> None:
        async with FaultyServer() as server:
            url = server.url if "url" in case else elsewhere(server.url)
            async with client_of(url, allow_http=True, proxy=case.get("proxy")) as client:
                await client.fetch("a1", 1)

    run(ask())


def test_a_variable_that_names_no_http_proxy_is_refused(tmp_path: Path) -> None:
    """By its name: exit 2, not a run that goes past it."""
    exporter = exporter_for("https://api.invalid", tmp_path, ["a1"])
    ended = exporter.run(ALL_PROXY="socks5://user:s3cret@127.0.0.1:1080")
    ended.said(2, "ALL_PROXY: expected http://HOST:PORT", "socks5://", "--proxy none")
    assert "s3cret" not in ended.err


# ---- real proxies


@needs("tinyproxy")
@pytest.mark.usefixtures("transport")
def test_tinyproxy_wants_a_password(tmp_path: Path, authority: Authority) -> None:
    """407 is the proxy's word, whether it opens a tunnel or forwards; with the password it does both."""
    with tinyproxy(tmp_path / "proxy", "BasicAuth user s3cret") as port:
        for tls in (None, authority.certificate()):
            settings = {"ca_file": authority.pem, "allow_http": True}
            with serving(moves.good, tls) as server:
                error = run(failure(server.url, proxy=f"127.0.0.1:{port}", **settings))
                assert isinstance(error, ApiUnavailableError)
                assert error.what == "The proxy answered 407."
                assert "password" in error.hint
                run(good(server.url, proxy=f"user:s3cret@127.0.0.1:{port}", **settings))
                assert {arrival.headers["authorization"] for arrival in server.arrivals} == {f"Token {TOKEN}"}


async def good(url: str, **settings: Any) -> None:
    async with client_of(url, **settings) as client:
        await client.fetch("a1", 1)
        await client.fetch("a2", 1)


@needs("tinyproxy")
@pytest.mark.usefixtures("transport")
def test_tinyproxy_names_itself_where_it_refuses(tmp_path: Path) -> None:
    """Its 403 and its 500 are not the API's."""
    with tinyproxy(tmp_path / "proxy", "ConnectPort 443") as port:
        error = run(failure("https://127.0.0.1:9", proxy=f"127.0.0.1:{port}"))
        assert (type(error), error.what) == (ApiUnavailableError, "The proxy answered 403.")
        for scheme, target in (("http", 9), ("https", 443)):
            error = run(failure(f"{scheme}://127.0.0.1:{target}", proxy=f"127.0.0.1:{port}"))
            assert isinstance(error, AttemptError)
            assert error.what == "the proxy answered 500"


@pytest.mark.usefixtures("transport")
@needs("squid")
@pytest.mark.parametrize(("access", "status"), [("deny", 403), ("allow", 503)])
def test_squid_names_itself_where_it_refuses(tmp_path: Path, access: str, status: int) -> None:
    """Its own pages are told from the API's also where it forwards."""
    with squid(tmp_path / "proxy", access) as port:
        for scheme in ("http", "https"):
            error = run(failure(f"{scheme}://127.0.0.1:9", proxy=f"127.0.0.1:{port}"))
            assert f"he proxy answered {status}" in error.what
        if access == "allow":
            with serving(moves.status(500)) as server:
                error = run(failure(server.url, proxy=f"127.0.0.1:{port}"))
                assert error.what == "the API answered 500"


@needs("squid")
@pytest.mark.usefixtures("transport")
def test_an_outage_that_is_the_proxys_is_told_as_its(tmp_path: Path) -> None:
    """With a hint to the proxy: its own page, a refused tunnel, nobody at its address, a name that does not exist."""
    (tmp_path / "work").mkdir()
    work = Work(tmp_path / "work", ["a1"])
    with squid(tmp_path / "proxy", "allow") as port:
        for proxy, url, words in (
            (f"127.0.0.1:{port}", "http://127.0.0.1:9", "the proxy answered 503 (text/html, titled 'ERROR: "),
            (f"127.0.0.1:{port}", "https://127.0.0.1:9", "(the proxy answered 503)"),
            (
                "127.0.0.1:9",
                "https://api.invalid",
                "no connection to the proxy 127.0.0.1:9: it refuses connections",
            ),
            ("proxy.invalid:3128", "https://api.invalid", "the proxy proxy.invalid: no such host."),
        ):
            with pytest.raises(ApiUnavailableError) as caught:
                run(work.refresh(url, proxy=proxy, allow_http=True, max_attempts=1))
            assert caught.value.what.startswith("The API cannot be reached through the proxy: ")
            assert words in caught.value.what
            assert caught.value.what.count(words) == 1
            hint = "Check the proxy (--proxy, or the variable that names it), then run the same command again to resume."
            assert caught.value.flag_hint == hint
            listed = run(failed_listing(url, proxy=proxy, allow_http=True, max_attempts=1))
            assert "--proxy, or the variable" in listed.flag_hint


@needs("squid")
@pytest.mark.usefixtures("transport")
def test_a_login_that_the_proxy_refuses_is_not_refused_by_the_api(tmp_path: Path) -> None:
    """Its 403 says nothing of user name and password."""
    with squid(tmp_path / "proxy", "deny") as port:
        login = {"token": None, "username": "user", "password": "pass"}
        error = run(failure("http://127.0.0.1:9", proxy=f"127.0.0.1:{port}", **login))
        assert (type(error), error.what) == (ApiUnavailableError, "The proxy answered 403.")


# ---- certificates


def nothing_is_settled(exporter: Exporter) -> bool:
    """Tell whether nothing was published, and the unfinished run holds neither an order nor a reject."""
    told = json.loads(exporter("status", "out", "--json").out)
    return told["dataset"] is None and told["holdings"]["held"] == []


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_of_the_environment_is_trusted(tmp_path: Path, authority: Authority, variable: str) -> None:
    """As for requests, curl and OpenSSL; and what `--ca-file` names is trusted besides."""
    with serving(moves.good, authority.certificate()) as server:
        exporter = exporter_for(server.url, tmp_path, ["a1"], **{variable: authority.pem})
        # A new process: OpenSSL reads its variable while aiohttp is imported.
        with exporter.run_started() as running:
            assert running.end().code == 0
        (tmp_path / "other").mkdir()
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "other/ca.crt"))
        (tmp_path / "other/README").write_text("not one")
        assert exporter.run("--ca-file", "other", out="again").code == 0


def test_a_bundle_that_is_none_is_refused_by_its_name(tmp_path: Path) -> None:
    """Exit 2."""
    exporter = exporter_for("https://127.0.0.1:9", tmp_path, ["a1"], REQUESTS_CA_BUNDLE="nowhere.pem")
    exporter.run().said(2, "REQUESTS_CA_BUNDLE: nowhere.pem: cannot be read: No such file")
    exporter.run("--ca-file", ".", REQUESTS_CA_BUNDLE="").said(2, "--ca-file .: expected PEM certificates")


def test_a_ca_file_that_is_missing_is_refused_before_the_list_is_read(tmp_path: Path) -> None:
    """Exit 2; `numbers.txt` is not read for it."""
    ended = exporter_for("https://127.0.0.1:9", tmp_path, ["a1"]).run("--ca-file", "nowhere.pem")
    ended.said(2, "--ca-file nowhere.pem: cannot be read: No such file or directory.")
    assert "numbers.txt" not in ended.err


@needs("nginx")
@pytest.mark.usefixtures("transport")
def test_nginx_wants_a_client_certificate(tmp_path: Path, authority: Authority) -> None:
    """Shown with `--client-cert`; without it, the 400 is told; a key that others can read is refused."""
    server = f"""
        listen 127.0.0.1:PORT ssl;
        ssl_certificate {authority.file()}; ssl_certificate_key {authority.file()};
        ssl_client_certificate {authority.pem}; ssl_verify_client on;
        location / {{ return 404; }}
        """
    with nginx(tmp_path / "nginx", server) as port:
        url, own = f"https://127.0.0.1:{port}", authority.file("client.example")
        known = run(failure(url, ca_file=authority.pem, client_cert=str(own)))
        assert (known.what, getattr(known, "http_status", None)) == ("the API answered 404", 404)
        exporter = exporter_for(url, tmp_path, ["a1"])
        ended = exporter.run("--ca-file", authority.pem, "--patience", "1s")
        ended.said(6, "400", "No required SSL certificate was sent")
        assert nothing_is_settled(exporter)
        exporter.run("--client-cert", authority.file("open.example", 0o644), out="refused").said(
            2, "others can read it"
        )
        exporter.run("--client-key", own, out="refused").said(2, "--client-key", "--client-cert")
        own.write_text(Path(authority.pem).read_text())
        exporter.run("--client-cert", own, out="refused").said(2, "--client-cert", "its key")


@pytest.mark.usefixtures("transport")
@needs("nginx")
@pytest.mark.parametrize(
    ("answer", "code"), [("302 https://login.example/", 6), ("403 '<h1>Forbidden</h1>'", 5)]
)
def test_answers_that_are_wrong_for_everyone_publish_nothing(tmp_path: Path, answer: str, code: int) -> None:
    """A redirect to a login, and a gateway's refusal: told with the status, and no order is rejected for it."""
    with nginx(tmp_path / "nginx", f"listen 127.0.0.1:PORT; location / {{ return {answer}; }}") as port:
        exporter = exporter_for(f"http://127.0.0.1:{port}", tmp_path, [f"a{n}" for n in range(60)])
        exporter.run("--patience", "1s").said(code, f"the API answered {answer.partition(' ')[0]}")
    assert nothing_is_settled(exporter)


# ---- causes


@pytest.mark.usefixtures("transport")
@needs("nginx")
@needs("haproxy")
@needs("openssl")
def test_causes_have_their_own_words(tmp_path: Path, authority: Authority) -> None:
    """What is wrong on the way is named: TLS, HTTP/2, a client's certificate, names, ports."""
    crt = f"ssl crt {authority.file()}"
    told = {}
    openssl = ("s_server", "-quiet", "-alpn", "h2", "-cert", str(authority.file()), "-accept")
    with daemon(tmp_path / "h2", "openssl", "", *openssl) as port:
        told["does not speak HTTP/1.1"] = f"https://127.0.0.1:{port}"
        with haproxy(tmp_path / "mtls", f"{crt} ca-file {authority.pem} verify required") as other:
            told["client certificate"] = f"https://127.0.0.1:{other}"
            with nginx(tmp_path / "plain", "listen 127.0.0.1:PORT;") as plain:
                told["does not speak TLS"] = f"https://127.0.0.1:{plain}"
                told["no such host"] = "https://no-such-host.invalid"
                told["it refuses connections"] = "https://127.0.0.1:9"
                for words, url in told.items():
                    error = run(failure(url, ca_file=authority.pem))
                    assert words in error.what, (words, error.what)
    exporter = exporter_for("https://api.invalid", tmp_path, ["a1"])
    ended = exporter.run("--proxy", "127.0.0.1:9", "--patience", "1s", "--json")
    ended.said(6, "The API cannot be reached through the proxy")
    assert "the proxy 127.0.0.1:9: it refuses connections" in ended.summary["error"]
    error = run(failure("https://api.invalid", proxy="127.0.0.1:9"))
    assert error.what == "no connection to the proxy 127.0.0.1:9: it refuses connections"


@pytest.mark.usefixtures("transport")
def test_http_2_and_a_reset_are_named() -> None:
    """What comes instead of an answer is told: HTTP/2's first frame, or a reset."""

    async def settings(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes.fromhex("000006040000000000000300000080"))  # RFC 9113, section 6.5
        writer.close()

    async def ask() -> None:
        async with await asyncio.start_server(settings, "127.0.0.1", 0) as server:
            error = await failure(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            assert error.what == "the answer is HTTP/2, not HTTP/1.1"
        async with FaultyServer(moves.end(moves.End.RESET)) as reset:
            assert (await failure(reset.url)).what == "the connection was reset"

    run(ask())


@pytest.mark.usefixtures("transport")
def test_an_expired_certificate_has_its_own_hint(authority: Authority) -> None:
    """Another authority would not mend it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.ca.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC)).configure_cert(context)
    with serving(moves.good, context) as server:
        error = run(failure(server.url, ca_file=authority.pem))
    assert "certificate has expired" in error.what
    assert "renewed" in error.hint


# ---- addresses that move


@pytest.mark.usefixtures("transport")
def test_an_address_that_moves_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One failed connection is enough to ask the resolver again."""
    real = socket.getaddrinfo
    where: dict[str, int] = {}

    def resolve(host: Any, port: Any, *more: Any, **kinds: Any) -> Any:
        return (
            real("127.0.0.1", where["port"], *more, **kinds)
            if host == "moves.test"
            else real(host, port, *more, **kinds)
        )

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    async def ask() -> None:
        async with contextlib.AsyncExitStack() as opened:
            async with FaultyServer() as first:
                where["port"] = first.port
                client = await opened.enter_async_context(client_of("http://moves.test:80", allow_http=True))
                await client.fetch("a1", 1)
            async with FaultyServer() as second:
                where["port"] = second.port
                failed = 0
                for attempt in range(1, 4):
                    try:
                        await client.fetch("a2", attempt)
                    except AttemptError:
                        failed += 1
                assert failed <= 1
                assert len(second.arrivals) >= 2

    run(ask())


# ---- clocks


@pytest.mark.usefixtures("transport")
def test_a_clock_that_is_turned_back_bends_no_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`finished_at` is never before `started_at`, and tells how long the run took."""
    (tmp_path / "numbers.txt").write_text("a1\n")
    real = time.time
    with serving(moves.good) as server:
        monkeypatch.setattr(time, "time", lambda: real() - (7200 if server.arrivals else 0))
        summary = export(
            Options(
                orders=str(tmp_path / "numbers.txt"),
                out=str(tmp_path / "out"),
                api_url=server.url,
                token=TOKEN,
            )
        )
    assert summary.started_at <= summary.finished_at
    assert 0 <= summary.duration_s < 600

"""What one export is asked to do: one frozen value, checked when built.

What the docstrings say of each option is also its help on the command line, with flags in place of `names`.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from exporter.model import units
from exporter.model.argument_kinds import API_LIST, fit, words
from exporter.model.entry_choice import EntryChoice, entry_choice
from exporter.model.errors import UsageError
from exporter.model.freshness import Freshness
from exporter.model.order_statuses import status_code
from exporter.model.rate import Rate

FileFormat = Literal["parquet", "csv", "xlsx"]
Compression = Literal["zstd", "snappy", "gzip", "lz4", "none"]
Pii = Literal["keep", "drop", "hash"]
CsvDialect = Literal["standard", "excel"]
JsonType = Literal["text", "json"]
Table = Literal["orders", "order_items", "order_lines"]
OnDrift = Literal["warn", "fail"]
InputFormat = Literal["text", "csv", "json", "parquet", "arrow", "orc", "workbook"]
Stale = Literal["reject", "ok"]
Details = Literal["always", "auto"]

#: What is written in `out` for the run's start, in the machine's own time zone: `2026-11-23`, `183000`.
PLACEHOLDERS = ("{date}", "{time}")
HIDDEN = "(hidden)"  # what is shown in place of a secret
_SHORTEST_PII_KEY = 32
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")  # NUL, and bytes that are not UTF-8
_KNOWN_PATH = re.compile(r"(?<=[^/])/api(?:/i1(?:/orders)?)?$")
MIB = 1024 * 1024
MAX_PAYLOAD_BYTES = 32 * MIB  # a payload over this many decoded bytes is no order
#: An order with more items is none, unless `max_items` says so: a few MB of JSON could take all memory.
MAX_ITEMS = 10_000
PRUNE_AGE = "90d"  # an order that no list names goes from a kept store once its last answer is older


def _secret(variable: str, *, is_word: bool = False) -> Any:
    """Return the field of an option that nothing shows, and that each process finds in its own environment.

    `is_word` tells that it may be on the command line, too.
    """
    return field(default=None, repr=False, metadata={"variable": variable, "is_word": is_word})


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Say what the tables hold and how they are written.

    Args:
        formats: Formats of the tables, with commas; xlsx is one workbook.
        tables: Tables to write, with commas; order_lines has each item beside its order.
        rows_per_file: Each table is a directory of part files of so many rows.
        compression: Compression of the Parquet files.
        json_type: Type of JSON columns in Parquet; json is Parquet's own, which many readers refuse.
        timezone: Zone of times in CSV, workbook and report, and of days as `placed_from`, such as Europe/Istanbul.
        csv_dialect: excel is for spreadsheets: BOM, `;`, decimal comma, dates without zone, harmless formulas.
        pii: Personal columns: keep, leave null, or HMAC-SHA256 by `pii_key`.
        pii_key: Key of the hash, at least 32 bytes.
        select: Only these columns, in this order: names or globs, of one table such as orders.status.
        drop: Without these columns (as for `select`).
    """

    formats: tuple[FileFormat, ...] = ("parquet",)
    tables: tuple[Table, ...] = ("orders", "order_items")
    rows_per_file: int | None = None
    compression: Compression = "zstd"
    json_type: JsonType = "text"
    timezone: str = "UTC"
    csv_dialect: CsvDialect = "standard"
    pii: Pii = "keep"
    pii_key: str | None = _secret("EXPORTER_PII_KEY")
    select: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AskOptions:
    """Say which orders are asked for, and how fast.

    Args:
        column: The input's column of order numbers: its name, letter or position.  [default: found]
        sheet: Sheet of a workbook: its name or position.  [default: found]
        encoding: Encoding of a text, such as windows-1254.  [default: found]
        input_format: What `orders` is.  [default: found by its content]
        from_api: Instead of `orders`: all orders that the API lists, or those that the options below select.
        status: Only orders with one of these statuses, such as 400,550.
        placed_from: Only orders of that day, in `timezone` (UTC), or later.
        placed_to: Only orders of that day or earlier, such as 2026-11-30.
        filters: Sent to the API as it is; may be given again.
        store: Keep fetched orders in this file between runs.
        max_age: Do not re-fetch orders in the store that are younger, such as 12h or 7d.
        refresh_status: Another `max_age` for orders of these statuses, such as 550,600=30d; may be given again.
        details: auto takes orders from the API's own list where that proves to show them complete, and does not re-fetch
            those whose entry there is unchanged (not with `dask`).
        recheck: With auto, re-fetch also orders whose entry is unchanged if they are older.
        retry_rejects: Request again what was rejected before, whatever the reason.
        stale: ok publishes an order that cannot be fetched now as it is in the store, and lists it as stale.
        resume_within: If an unfinished run's last answer is older, start over.
        rate: Requests permitted: N/s, N/m, N/h, auto (finds what the API accepts) or unlimited.
        max_rate: The highest rate that `rate` auto may reach.
    """

    column: str | None = None
    sheet: str | None = None
    encoding: str | None = None
    input_format: InputFormat | None = None
    from_api: bool = False
    status: tuple[str, ...] = ()
    placed_from: str | None = None
    placed_to: str | None = None
    filters: tuple[str, ...] = ()
    store: str | None = None
    max_age: str = "0s"
    refresh_status: tuple[str, ...] = ()
    details: Details = "always"
    recheck: str = "7d"
    retry_rejects: bool = False
    stale: Stale = "reject"
    resume_within: str = "24h"
    rate: str = "10/s"
    max_rate: str = "50/s"

    @property
    def looks_at_list(self) -> bool:
        """Whether what the API's list shows may stand for an order's detail, or spare it."""
        return self.details == "auto"

    @property
    def resume_within_s(self) -> float:
        """`resume_within` in seconds."""
        return units.seconds(self.resume_within, option="resume_within")

    def freshness(self, run_started_at: float, now: float) -> Freshness:
        """Return what counts as done in a try that begins now, of a run that began at `run_started_at`."""
        return Freshness(
            run_started_at=run_started_at,
            try_started_at=now,
            max_age_s=units.seconds(self.max_age, option="max_age"),
            max_age_s_by_status=units.ages_by_status(self.refresh_status),
            retry_rejects=self.retry_rejects,
            stale_ok=self.stale == "ok" and self.store is not None,
            recheck_s=units.seconds(self.recheck, option="recheck") if self.looks_at_list else None,
            from_list=self.looks_at_list,
        )


#: Options that say how a file of order numbers is read, and those that choose from the API's own list.
OF_A_FILE = ("column", "sheet", "encoding", "input_format")
OF_THE_LIST = ("status", "placed_from", "placed_to", "filters")


def part_of(options: TableOptions | AskOptions, kind: type[TableOptions | AskOptions]) -> dict[str, Any]:
    """Return the fields of one kind of options, to build another value of that kind from."""
    return {one.name: getattr(options, one.name) for one in fields(kind)}


@dataclass(frozen=True, kw_only=True)
class Options(TableOptions, AskOptions):
    """Say what one export is asked to do; `TableOptions` and `AskOptions` have the rest of the arguments.

    Texts are written as on the command line (`rate="10/s"`, `max_age="7d"`, `max_rejects="5%"`). A rate may be a
    number a second, an age a `timedelta`, `max_rejects` an int or a share such as 0.05, a path a `Path`; one text
    stands for a tuple of it. `out` may be `s3://bucket/prefix`, `load` is `postgresql://…`, `duckdb:FILE` or
    `sqlite:FILE`, without a password.

    Args:
        orders: Path of the list of order numbers, `-` for standard input; or the numbers themselves, as texts
            and integers. Not with `from_api`.
        out: Directory of the dataset; {date} and {time} are replaced by the run's start.
        api_url: Base URL of the API, such as https://api.example.com.
        token: The API token. One of `token`, `token_file`, or `username` and `password` is needed.
        token_file: File with the token, readable only by its owner. Without it: `token`, or a login with `username` and
            `password`.
        username: For a login instead of a token.
        password: For a login instead of a token.
        overwrite: Replace a finished dataset at `out`.
        allow_http: Permit http to hosts that are not loopback.
        ca_file: Certificate authorities to trust besides the system's: a PEM file, or a directory of them.
        client_cert: Client certificate (PEM) that the API requires.
        client_key: Its key (PEM), readable only by its owner.
        proxy: HTTP proxy to go through, or none. Without it: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.
        concurrency: Requests in flight, at most.
        timeout_s: Seconds for one attempt, at most.
        max_attempts: Attempts for one order, at most.
        patience: How long to wait for an API that no longer serves orders, such as 90s or 10m.
        max_items: An order with more items is rejected as bad_response.
        max_rejects: A count, or a percentage of the lines; with more the run stops, and nothing is published.
        expect_orders: With fewer orders (N% of the newest dataset that fits `out`), nothing is published.
        on_drift: What to do about fields and values that fit no column.
        keep: Keep the N newest datasets whose names fit an `out` with {date} or {time}; remove older ones.
        report: Write report.html into the dataset: the run and the data, to look at.
        changes: Compare with the newest dataset of the same `out`; write changes into the new one.
        load: After publishing, load the dataset into a database, as exporter load does.
        prune: After publishing, remove orders from the store that are not in `orders` and are over 90 days old.
        notify: Post how the run ended as JSON, for Slack and the like.
        dask: Spread the run over a Dask cluster: a scheduler's address, local, or local:N workers.
        dask_insecure: Permit a cluster without TLS: anyone who can reach it can take the token and run code on it.

    Raises:
        UsageError: A value, or a combination of values, cannot work.
    """

    orders: str = ""
    out: str
    api_url: str
    token: str | None = _secret("EXPORTER_API_TOKEN")
    token_file: str | None = None
    username: str | None = _secret("EXPORTER_API_USERNAME")
    password: str | None = _secret("EXPORTER_API_PASSWORD")
    overwrite: bool = False
    allow_http: bool = False
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    proxy: str | None = _secret("EXPORTER_PROXY", is_word=True)  # whose URL may hold a password
    concurrency: int = 32
    timeout_s: float = 30
    max_attempts: int = 6
    max_items: int = MAX_ITEMS
    patience: str = "10m"
    max_rejects: str = "5%"
    expect_orders: str | None = None
    on_drift: OnDrift = "warn"
    keep: int | None = None
    report: bool = False
    changes: bool = False
    load: str | None = None
    prune: bool = False
    notify: str | None = _secret("EXPORTER_NOTIFY", is_word=True)  # whose path is a chat's key
    dask: str | None = None
    dask_insecure: bool = False

    @property
    def choice(self) -> EntryChoice:
        """What is wanted of the API's own list."""
        return entry_choice(self.status, self.placed_from, self.placed_to, self.timezone)

    def __post_init__(self) -> None:
        fit(self)
        lists_itself = self.from_api and self.orders in ("", API_LIST)
        made = {
            "api_url": checked_api_url(self.api_url, allow_http=self.allow_http),
            "proxy": None if self.proxy is None else checked_proxy(self.proxy),
            "status": tuple(status_code(word) or "" for word in words(self.status)),
            "orders": API_LIST if lists_itself else self.orders,
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)
        _refuse_unreadable(self)
        for wrong, option, what, hint in _checks(self):
            if wrong:
                raise UsageError(what, hint, option=option)
        _ = self.choice


_MARKED = {one.name: one.metadata for one in fields(Options) if one.metadata}
#: The secrets, and the environment variable of each; and those of them that are never a word on the command line.
SECRETS = {name: str(marks["variable"]) for name, marks in _MARKED.items()}
ENVIRONMENT_ONLY = {name: variable for name, variable in SECRETS.items() if not _MARKED[name]["is_word"]}


def secrets_in(
    environment: Mapping[str, str], token_file: str | None, names: Mapping[str, str] = ENVIRONMENT_ONLY
) -> dict[str, Any]:
    """Return the options that only an environment holds, so that `ps` shows none; a token file comes before its token."""
    secrets = {name: environment.get(variable) or None for name, variable in names.items()}
    return secrets | {"token": None} if token_file else secrets


#: Whether something is wrong, of which option, what to say of it, and what to do.
_Check = tuple[object, str | None, str, str]


def _refuse_unreadable(options: Options) -> None:
    """Raise where a text is not of its form."""
    for option in ("rate", "max_rate"):
        Rate.parse(getattr(options, option), option)
    for option in ("max_age", "recheck", "resume_within", "patience"):
        units.seconds(getattr(options, option), option=option)
    units.ages_by_status(options.refresh_status)
    units.allowed_rejects(options.max_rejects, 0)
    units.count_or_share(options.expect_orders or "0", 0, option="expect_orders")
    try:
        ZoneInfo(options.timezone)
    except (KeyError, ValueError, OSError):
        what = f"expected a time zone, got {options.timezone!r}."
        raise UsageError(what, "Give for example Europe/Istanbul.", option="timezone") from None


def _checks(o: Options) -> Iterator[_Check]:
    excel = f"excel: expected --format csv, got --format {','.join(o.formats)}."
    hint = "Give --format csv with it, or --format xlsx alone for a workbook."
    yield o.csv_dialect == "excel" and "csv" not in o.formats, "csv_dialect", excel, hint
    is_auto = Rate.parse(o.max_rate).kind == "auto"
    yield is_auto, "max_rate", "expected a rate such as 50/s, got auto.", "Give for example 50/s."
    alone = "auto: expected a run on this machine, got --dask."
    yield o.looks_at_list and o.dask, "details", alone, "Leave one of them out."
    is_url = urlsplit(o.notify or "https://none").scheme in ("http", "https")
    yield not is_url, "notify", "expected a URL.", "Give https://…"
    yield o.prune and o.store is None, "prune", "expected a kept store.", "Give --store PATH with it."
    filtered = o.prune and any(getattr(o, name) for name in OF_THE_LIST)
    too_much = "would also remove the orders that the filters leave out."
    yield filtered, "prune", too_much, "Leave out one of them."
    yield not o.out, "out", "expected a directory or s3://…, got nothing.", "Give --out OUT."
    for option in ("orders", "out", "store"):
        name = getattr(o, option) or ""
        # Neither the manifest nor SQLite can hold them.
        yield _UNWRITABLE.search(name), option, f"expected a name in UTF-8, got {name!a}.", "Rename it."
    for option in ("concurrency", "max_attempts", "max_items", "rows_per_file", "keep"):
        number = getattr(o, option)
        too_few = number is not None and number < 1
        yield too_few, option, f"expected 1 or more, got {number}.", "Give 1 or more."
    seconds = f"expected seconds above 0, got {o.timeout_s}."
    yield not 0 < o.timeout_s < float("inf"), "timeout_s", seconds, "Give for example 30."
    yield from _checks_of_credentials(o)
    if o.pii == "hash" and len((o.pii_key or "").encode()) < _SHORTEST_PII_KEY:
        key = f"expected a key of at least {_SHORTEST_PII_KEY} bytes."
        hint = "Set EXPORTER_PII_KEY, for example to what `openssl rand -hex 32` prints."
        raise UsageError(key, hint, option="pii", value="hash")
    yield from _checks_of_place_and_source(o)


def _checks_of_credentials(o: Options) -> Iterator[_Check]:
    token, login = o.token is not None or o.token_file is not None, (o.username, o.password)
    hint = "Set EXPORTER_API_TOKEN, or give --token-file, or set EXPORTER_API_USERNAME and EXPORTER_API_PASSWORD."
    yield not token and login == (None, None), None, "No API token was given.", hint
    no_certificate = o.client_key and not o.client_cert
    yield no_certificate, "client_key", "needs --client-cert too.", "Give --client-cert FILE."
    hint = "Set EXPORTER_API_USERNAME and EXPORTER_API_PASSWORD."
    yield not token and not all(login), None, "A login needs both a user name and a password.", hint
    what = "The API token is empty or holds spaces or control characters."
    hint = 'Set EXPORTER_API_TOKEN to the token alone, without "Token" before it.'
    yield o.token is not None and not is_token(o.token), None, what, hint


def _checks_of_place_and_source(o: Options) -> Iterator[_Check]:
    unknown = next((one for one in re.findall(r"\{\w*\}", o.out) if one not in PLACEHOLDERS), None)
    yield unknown is not None, "out", f"unknown placeholder {unknown}.", "Use {date} and {time}."
    if o.keep is not None:
        is_url, has_place = "://" in o.out, any(place in o.out for place in PLACEHOLDERS)
        yield is_url, "keep", f"{o.out} is no directory; only those are removed.", "Leave --keep out."
        no_older = f"{o.out} has no {{date}} or {{time}}, so there are no older datasets to remove."
        yield not has_place, "keep", no_older, "Put {date} into --out."
    got = "both" if o.from_api else "none"
    what = f"expected a list of order numbers or --from-api, got {got}."
    yield not o.orders or (o.from_api and o.orders != API_LIST), "orders", what, "Give one of the two."
    with_it = "a list of order numbers" if o.from_api else "--from-api"
    for name in OF_A_FILE if o.from_api else OF_THE_LIST:
        yield getattr(o, name), name, f"expected {with_it} with it.", f"Give {with_it}, or leave this out."
    for text in o.filters:
        what = f"expected KEY=VALUE, got {text!r}; the exporter sets page and limit itself."
        hint = "Write for example status=400."
        yield not re.match("(?!(page|limit)=)[^=]+=", text), "filters", what, hint


def checked_api_url(url: str, *, allow_http: bool) -> str:
    """Return the API's base URL without a trailing slash, and without the path of what is asked for below it.

    A `UsageError` where it is no https URL, or carries a user, a query or a fragment.
    """
    refused = partial(UsageError, option="api_url")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise refused(f"expected https://HOST, got {without_user(url)!r}: {error}.") from None
    host = parts.hostname or ""
    if not url:
        raise refused("expected the API's address, got none.", "Set EXPORTER_API_URL or give --api-url.")
    if parts.scheme not in ("http", "https") or not host:
        raise refused(f"expected https://HOST, got {without_user(url)!r}.", "Give the API's base URL.")
    if parts.username or parts.password or parts.query or parts.fragment:
        what = "expected a base URL without user, password, query or fragment."
        raise refused(what, "Give the token in EXPORTER_API_TOKEN.")
    if parts.scheme == "http" and not is_loopback(host) and not allow_http:
        what = f"expected https, got http for {host}; the token would travel in clear text."
        raise refused(what, "Give an https URL, or --allow-http if this network is yours.")
    return without_known_path(url)


def without_known_path(url: str) -> str:
    """Return a base URL without the path of what is asked for below it, as a page of the API may show it.

    >>> without_known_path("https://shop.example/api/i1/orders/")
    'https://shop.example'
    """
    return _KNOWN_PATH.sub("", url.rstrip("/"))


def checked_proxy(text: str, variable: str | None = None) -> str:
    """Return a proxy's URL, also where a text without scheme names it, as for curl; `none` as it is.

    A `UsageError` where it is no HTTP proxy's; `variable` is where it came from, None for `--proxy`.
    """
    if text == "none":
        return text
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        is_http = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        is_whole = is_http and not (parts.path.strip("/") or parts.query or parts.fragment)
    except ValueError:
        is_whole = False
    if is_whole and url.isprintable() and " " not in url:
        return url
    raise UsageError(
        f"{variable + ': ' if variable else ''}expected http://HOST:PORT, got {without_user(url)!r}.",
        "Give for example http://proxy.example:3128, or --proxy none. In a user's name and password write @, / and"
        " : as %40, %2F and %3A.",
        option=None if variable else "proxy",
    )


def is_loopback(host: str) -> bool:
    """Return whether this host name means this machine, whatever a name server says.

    >>> is_loopback("127.8.0.1"), is_loopback("127.evil.example")
    (True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def without_user(url: str) -> str:
    """Return a URL with its user and password hidden, or nothing of one that cannot be parsed and may hold some.

    >>> without_user("http://me:secret@proxy:3128"), without_user("me:secret@proxy:3128")
    ('http://(hidden)@proxy:3128', '(hidden)')
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return HIDDEN
    _, at, place = parts.netloc.rpartition("@")
    shown = parts._replace(netloc=f"{HIDDEN}@{place}").geturl() if at else url
    return shown if shown.count("@") == len(at) else HIDDEN


def shown(option: str, value: str) -> str:
    """Return an option's value without what is secret in it: a proxy's password, the path of a chat's webhook.

    >>> shown("notify", "https://hooks.chat.example/services/T0/s3cret")
    'https://hooks.chat.example/(hidden)'
    """
    if option == "notify" and "://" in value:
        return f"{value.partition('://')[0]}://{urlsplit(value).hostname}/{HIDDEN}"
    return without_user(value) if option == "proxy" or "://" in value else value


def is_token(text: str) -> bool:
    """Return whether a text can be the token of a header: visible ASCII characters alone."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text

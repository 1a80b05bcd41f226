"""What one export is asked to do: one frozen value, checked when built."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo

from exporter.model import units
from exporter.model.argument_kinds import API_LIST, fit
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

#: Options that are never a word on the command line, and the environment variable of each.
SECRETS = {
    "token": "EXPORTER_API_TOKEN",
    "username": "EXPORTER_API_USERNAME",
    "password": "EXPORTER_API_PASSWORD",
    "pii_key": "EXPORTER_PII_KEY",
}
#: What stands in `out` for the run's start, in the machine's own time zone: `2026-11-23`, `183000`.
PLACES = ("{date}", "{time}")
_HIDDEN = "(hidden)"
_SHORTEST_PII_KEY = 32
_KNOWN_PATH = re.compile(r"(?<=[^/])/api(?:/i1(?:/orders)?)?$")
MIB = 1024 * 1024
#: A payload over this many decoded bytes is no order.
MAX_PAYLOAD_BYTES = 32 * MIB
_PROXY_SCHEMES = ("http", "https")
#: An order with more items is none, unless `max_items` says so: a few MB of JSON could take all memory.
MAX_ITEMS = 10_000
#: An order that no list names goes from a kept store once its last answer is older.
PRUNE_AGE = "90d"


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Say what the tables hold and how they are written.

    Args:
        formats: `parquet`, `csv`, `xlsx`, or several of them.
        tables: `orders`, `order_items`, `order_lines`, or several of them.
        rows_per_file: Each table is a directory of part files that hold so many rows; None for one file.
        json_type: Of JSON columns in Parquet: plain `text`, or Parquet's own type `json`.
        timezone: Of times in CSV, workbooks and the report, such as `Europe/Istanbul`.
        compression: Of the Parquet files.
        csv_dialect: `standard`, or `excel` for spreadsheets.
        pii: Keep personal columns, leave them null, or hash them.
        pii_key: Key of the hash, at least 32 bytes.
        select: Names or globs of the only columns to write.
        drop: Names or globs of columns not to write.
    """

    formats: tuple[FileFormat, ...] = ("parquet",)
    tables: tuple[Table, ...] = ("orders", "order_items")
    rows_per_file: int | None = None
    compression: Compression = "zstd"
    json_type: JsonType = "text"
    timezone: str = "UTC"
    csv_dialect: CsvDialect = "standard"
    pii: Pii = "keep"
    pii_key: str | None = field(default=None, repr=False)
    select: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AskOptions:
    """Say which orders are asked for, and how fast.

    Args:
        column: The input's column of order numbers: its name, its letter or its position.
        sheet: The workbook's sheet: its name or its position.
        encoding: Of an input that is text, as `windows-1254`.
        input_format: What the input is, where its content leaves a choice.
        from_api: The API's own list, in place of `orders`.
        status: Codes or names of the only statuses, looked for in the entries of that list.
        placed_from: The first day of `date_placed`, as `2026-11-01` or a `date`; a day of `timezone`.
        placed_to: The last day, included.
        filters: `KEY=VALUE`, passed on to the API as they are.
        store: A store that is kept between runs.
        max_age: An order fetched within that age is not asked for again.
        refresh_status: Other ages for orders of some statuses, such as `100,550,600=30d`.
        retry_rejects: Rejects of the store or the work directory are asked for again.
        stale: What becomes of an order that could not be had, but is in the store: a `reject`, or `ok`: published as
            it last was.
        resume_within: An unfinished run whose last answer is older is begun anew.
        rate: `N/s`, `N/m`, `N/h`, `auto` or `unlimited`.
        max_rate: What `auto` may reach.
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
    retry_rejects: bool = False
    stale: Stale = "reject"
    resume_within: str = "24h"
    rate: str = "10/s"
    max_rate: str = "50/s"

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
    stands for a tuple of it.

    Args:
        orders: Path of the list of order numbers, `-` for standard input; or the numbers themselves, as texts
            and integers. Not with `from_api`.
        out: Where the dataset will stand: a directory, or `s3://bucket/prefix`.
        api_url: Base URL of the API, such as `https://api.example.com`.
        token: The API token. One of `token`, `token_file`, or `username` and `password` is needed.
        token_file: A file that holds the token and that only its owner can read.
        username: For a login instead of a token.
        password: For a login instead of a token.
        overwrite: Replace a finished dataset that stands at `out`.
        allow_http: Permit http to hosts that are not loopback.
        ca_file: PEM file, or a directory of them, with certificate authorities to trust besides the system's.
        client_cert: PEM file with the certificate that the API wants to see.
        client_key: PEM file with its key, which only its owner can read; None where `client_cert` holds it.
        proxy: `http://HOST:PORT` of the proxy to go through, or `none`; without it, `HTTPS_PROXY` and its like.
        concurrency: Requests in flight, at most.
        timeout_s: Seconds for one attempt.
        max_attempts: Attempts for one order; the last one is made after all others have been asked for.
        patience: How long an API that answered in this try, and then serves no order, is waited for.
        max_items: Items of one order, at most; one with more is rejected as `bad_response`.
        max_rejects: A count, or a percentage of all distinct lines.
        expect_orders: A count, or a percentage of the orders in the newest dataset whose name fits `out`; with
            fewer orders nothing is published.
        on_drift: What fields and values that fit no column do: `warn`, or `fail` the run.
        keep: Finished datasets to keep, this one included, of those whose names fit `out`; older ones are
            removed after success. `out` then holds `{date}` or `{time}`.
        report: Write `report.html` into the dataset.
        changes: Compare with the newest dataset whose name fits `out`, and write `changes` into the new one.
        load: The database to load the dataset into after publishing: `postgresql://…`, `duckdb:FILE` or
            `sqlite:FILE`, without a password.
        prune: Then remove from the store what `exporter store prune` removes by default.
        notify: The URL that the run's end is posted to.
        dask: Address of a Dask scheduler, or `local`.
        dask_insecure: Permit a cluster without TLS that is not on this machine.

    Raises:
        UsageError: A value, or a combination of values, cannot work.
    """

    orders: str = ""
    out: str
    api_url: str
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    overwrite: bool = False
    allow_http: bool = False
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    proxy: str | None = field(default=None, repr=False)
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
    notify: str | None = field(default=None, repr=False)
    dask: str | None = None
    dask_insecure: bool = False

    @property
    def patience_s(self) -> float:
        """`patience` in seconds."""
        return units.seconds(self.patience, option="patience")

    @property
    def choice(self) -> EntryChoice:
        """What is wanted of the API's own list."""
        return entry_choice(self.status, self.placed_from, self.placed_to, self.timezone)

    def __post_init__(self) -> None:
        fit(self)
        object.__setattr__(self, "api_url", checked_api_url(self.api_url, allow_http=self.allow_http))
        if self.proxy is not None:
            object.__setattr__(self, "proxy", checked_proxy(self.proxy))
        object.__setattr__(self, "formats", _words(self.formats))
        object.__setattr__(self, "tables", _words(self.tables))
        object.__setattr__(self, "status", tuple(status_code(word) or "" for word in _words(self.status)))
        _check_words(self)
        _check_form(self)
        _check_texts(self)
        _check_numbers(self)
        _check_credentials(self)
        _check_pii(self)
        _check_keep(self)
        _check_source(self)


def checked_api_url(url: str, *, allow_http: bool) -> str:
    """Return the API's base URL without a trailing slash, and without the path of what is asked for below it.

    Args:
        url: As the user gave it.
        allow_http: Permit http to hosts that are not loopback.

    Raises:
        UsageError: It is no https URL, or it carries a user, a query or a fragment.
    """
    if not url:
        raise UsageError(
            "expected the API's address, got none.",
            "Set EXPORTER_API_URL or give --api-url.",
            option="api_url",
        )
    parts = _split(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"expected https://HOST, got {_without_user(url)!r}.",
            "Give the API's base URL.",
            option="api_url",
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            "expected a base URL without user, password, query or fragment.",
            "Give the token in EXPORTER_API_TOKEN.",
            option="api_url",
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname) and not allow_http:
        raise UsageError(
            f"expected https, got http for {parts.hostname}; the token would travel in clear text.",
            "Give an https URL, or --allow-http if this network is yours.",
            option="api_url",
        )
    return without_known_path(url)


def without_known_path(url: str) -> str:
    """Return a base URL without the path of what is asked for below it, as a page of the API may show it.

    >>> without_known_path("https://shop.example/api/i1/orders/")
    'https://shop.example'
    """
    return _KNOWN_PATH.sub("", url.rstrip("/"))


def checked_proxy(text: str, variable: str | None = None) -> str:
    """Return a proxy's URL, also where a text without scheme names it, as for curl; `none` as it is.

    Args:
        text: As the user gave it.
        variable: Where it came from, for the error; None for `--proxy`.

    Raises:
        UsageError: It is not the URL of an HTTP proxy.
    """
    if text == "none":
        return text
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        whole = parts.scheme in _PROXY_SCHEMES and parts.hostname and parts.port != 0
    except ValueError:
        whole = False
    if (
        whole
        and not (parts.path.strip("/") or parts.query or parts.fragment or " " in url)
        and url.isprintable()
    ):
        return url
    raise UsageError(
        f"{variable + ': ' if variable else ''}expected {_PROXY_SCHEMES[0]}://HOST:PORT, got {without_user(url)!r}.",
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
        return _HIDDEN
    _, at, place = parts.netloc.rpartition("@")
    shown = parts._replace(netloc=f"{_HIDDEN}@{place}").geturl() if at else url
    return shown if shown.count("@") == len(at) else _HIDDEN


def shown(option: str, value: str) -> str:
    """Return an option's value without what is secret in it: a proxy's password, the path of a chat's webhook.

    >>> shown("notify", "https://hooks.chat.example/services/T0/s3cret")
    'https://hooks.chat.example/(hidden)'
    """
    if option == "notify" and "://" in value:
        return f"{value.partition('://')[0]}://{urlsplit(value).hostname}/{_HIDDEN}"
    return without_user(value) if option == "proxy" or "://" in value else value


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise UsageError(
            f"expected https://HOST, got {_without_user(url)!r}: {error}.", option="api_url"
        ) from None
    return parts


def _without_user(url: str) -> str:
    scheme, separator, rest = url.rpartition("@")
    return rest if separator and scheme else url


def _words(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return each word once; one text may hold several, with commas between them."""
    return tuple(dict.fromkeys(word.strip() for text in texts for word in text.split(",")))


def _check_words(options: Options) -> None:
    chosen = [
        *(("formats", word, FileFormat) for word in options.formats or ("nothing",)),
        *(("tables", word, Table) for word in options.tables or ("nothing",)),
        ("compression", options.compression, Compression),
        ("pii", options.pii, Pii),
        ("csv_dialect", options.csv_dialect, CsvDialect),
        ("json_type", options.json_type, JsonType),
        ("on_drift", options.on_drift, OnDrift),
        ("stale", options.stale, Stale),
        *([("input_format", options.input_format, InputFormat)] if options.input_format is not None else ()),
    ]
    for option, word, known in chosen:
        if word not in get_args(known):
            words = ", ".join(get_args(known))
            raise UsageError(f"expected one of {words}, got {word!r}.", "Give one of them.", option=option)


def _check_form(options: Options) -> None:
    if options.csv_dialect == "excel" and "csv" not in options.formats:
        raise UsageError(
            f"excel: expected --format csv, got --format {','.join(options.formats)}.",
            "Give --format csv with it, or --format xlsx alone for a workbook.",
            option="csv_dialect",
        )
    try:
        ZoneInfo(options.timezone)
    except (KeyError, ValueError, OSError):
        raise UsageError(
            f"expected a time zone, got {options.timezone!r}.",
            "Give for example Europe/Istanbul.",
            option="timezone",
        ) from None


def _check_texts(options: Options) -> None:
    _check_rate("rate", options.rate)
    if _check_rate("max_rate", options.max_rate).kind == "auto":
        raise UsageError("expected the bound of auto, got auto.", "Give for example 50/s.", option="max_rate")
    units.seconds(options.max_age, option="max_age")
    units.seconds(options.resume_within, option="resume_within")
    units.seconds(options.patience, option="patience")
    units.ages_by_status(options.refresh_status)
    units.allowed_rejects(options.max_rejects, 0)
    units.count_or_share(options.expect_orders or "0", 0, option="expect_orders")
    if urlsplit(options.notify or "https://none").scheme not in ("http", "https"):
        raise UsageError("expected a URL.", "Give https://…", option="notify")
    if options.prune and options.store is None:
        raise UsageError("expected a kept store.", "Give --store PATH with it.", option="prune")
    if options.prune and any(getattr(options, name) for name in OF_THE_LIST):
        raise UsageError(
            "the orders that the filters leave out would go.", "Leave out one of them.", option="prune"
        )
    if not options.out:
        raise UsageError("expected a directory or s3://…, got nothing.", "Give --out OUT.", option="out")
    _check_names(options)


def _check_names(options: Options) -> None:
    """Refuse names that neither the manifest nor SQLite can hold: bytes that are not UTF-8, and NUL."""
    names = {"orders": options.orders, "out": options.out, "store": options.store or ""}
    for option, name in names.items():
        if "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
            raise UsageError(f"expected a name in UTF-8, got {name!a}.", "Rename it.", option=option)


def _check_rate(option: str, text: str) -> Rate:
    try:
        return Rate.parse(text)
    except UsageError as error:
        raise UsageError(error.problem, error.flag_hint, option=option) from None


def _check_numbers(options: Options) -> None:
    names = ("concurrency", "max_attempts", "max_items")
    smallest: dict[str, int] = {name: getattr(options, name) for name in names}
    if options.rows_per_file is not None:
        smallest["rows_per_file"] = options.rows_per_file
    if options.keep is not None:
        smallest["keep"] = options.keep
    for option, value in smallest.items():
        if value < 1:
            raise UsageError(f"expected 1 or more, got {value}.", "Give 1 or more.", option=option)
    if not 0 < options.timeout_s < float("inf"):
        raise UsageError(
            f"expected seconds above 0, got {options.timeout_s}.", "Give for example 30.", option="timeout_s"
        )


def _check_credentials(options: Options) -> None:
    login = options.username is not None or options.password is not None
    given = [options.token is not None, options.token_file is not None, login]
    if not any(given):
        raise UsageError(
            "No API token was given.",
            "Set EXPORTER_API_TOKEN, or give --token-file, or set"
            " EXPORTER_API_USERNAME and EXPORTER_API_PASSWORD.",
        )
    if options.client_key and not options.client_cert:
        raise UsageError("expected its certificate too.", "Give --client-cert FILE.", option="client_key")
    if login and not (options.username and options.password) and not any(given[:2]):
        raise UsageError(
            "A login needs both a user name and a password.",
            "Set EXPORTER_API_USERNAME and EXPORTER_API_PASSWORD.",
        )
    if options.token is not None and not is_token(options.token):
        raise UsageError(
            "The API token is empty or holds spaces or control characters.",
            'Set EXPORTER_API_TOKEN to the token alone, without "Token" before it.',
        )


def is_token(text: str) -> bool:
    """Return whether a text can be the token of a header: visible ASCII characters alone."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _check_pii(options: Options) -> None:
    if options.pii == "hash" and len((options.pii_key or "").encode()) < _SHORTEST_PII_KEY:
        raise UsageError(
            f"expected a key of at least {_SHORTEST_PII_KEY} bytes.",
            "Set EXPORTER_PII_KEY to one.",
            option="pii",
            value="hash",
        )


def _check_keep(options: Options) -> None:
    if options.keep is None:
        return
    if "://" in options.out:
        raise UsageError(
            f"{options.out} is no directory; only those are removed.", "Leave --keep out.", option="keep"
        )
    if not any(place in options.out for place in PLACES):
        raise UsageError(
            f"{options.out} names one dataset, so none is older.", "Put {date} into --out.", option="keep"
        )


def _check_source(options: Options) -> None:
    if options.from_api and options.orders in ("", API_LIST):
        object.__setattr__(options, "orders", API_LIST)
    elif options.from_api or not options.orders:
        what = (
            f"expected a list of order numbers or --from-api, got {'both' if options.from_api else 'none'}."
        )
        raise UsageError(what, "Give one.", option="orders")
    for name in OF_A_FILE if options.from_api else OF_THE_LIST:
        if getattr(options, name):
            with_it = "a list of order numbers" if options.from_api else "--from-api"
            raise UsageError(f"expected {with_it} with it.", "Leave one of them out.", option=name)
    for text in options.filters:
        if not re.match("(?!(page|limit)=)[^=]+=", text):
            what = f"expected KEY=VALUE, got {text!r}; the pages are counted here."
            raise UsageError(what, "Give another; exporter numbers has --page-size.", option="filters")
    _ = options.choice

"""What is settled and checked before anything is made, by a run and by its dry run."""

import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from exporter.api.credentials import token_of, trust_of
from exporter.dataset.destination import Destination, destination_of
from exporter.dataset.loading.target import kind_of
from exporter.fetch.reject_limit import allowed_rejects, limit_text
from exporter.fetch.work_directory import place_of
from exporter.model.column_selection import choose_columns
from exporter.model.errors import InputError, TooManyRejectsError, UsageError
from exporter.model.manifest import Input, Manifest
from exporter.model.options import Options
from exporter.system.extras import need_extra
from exporter.system.open_files import make_room_for


def prepared(options: Options, now: float) -> tuple[Options, str, Destination]:
    """Refuse what cannot work before anything is made; return the options of a run that begins now, its `out`, and that place."""
    make_room_for(options.concurrency)
    choose_columns(options.select, options.drop, options.tables)
    # Once: a token file may be a pipe, and a link to a store may change. Workers on other machines read their
    # token file, of the same name.
    token = token_of(options)
    if options.dask is None:  # else its workers need the files, perhaps on other machines
        trust_of(options)
    if "xlsx" in options.formats:
        need_extra("--format xlsx", "xlsx", "xlsxwriter")
    if options.dask is not None:
        need_extra("--dask", "dask", "distributed", "cryptography")
    if options.changes:
        need_extra("--changes", "duckdb", "duckdb")
    if options.load is not None:
        kind_of(options.load)
    out = resolve_out(options.out, datetime.fromtimestamp(now))  # noqa: DTZ006 - the machine's own; it knows `fold`
    destination = destination_of(out, "none" if options.proxy == "none" else None)
    _refuse_passing_store(options.store, out)
    return replace(options, token=token, store=real_store(options.store)), out, destination


def resolve_out(out: str, now: datetime) -> str:
    """Return `out` with the run's start, in the machine's own time zone, for `{date}` and `{time}`.

    >>> resolve_out("orders-{date}", datetime(2026, 11, 23, 18, 30))
    'orders-2026-11-23'
    >>> resolve_out("{time}", datetime(2026, 10, 25, 2, 30, fold=1))
    '023000b'
    """
    again = "b" if now.fold else ""  # the hour that comes twice when summer time ends
    return out.replace("{date}", f"{now:%Y-%m-%d}").replace("{time}", f"{now:%H%M%S}{again}")


def refuse_to_replace(
    standing: Manifest | None, destination: Destination, options: Options, out: str
) -> None:
    """Raise a `UsageError` where there is a finished dataset that may not be replaced."""
    if standing is None:
        return
    if not options.overwrite:
        what = f"a finished dataset of {standing.finished_at} is there."
        raise UsageError(what, "Give another --out, or --overwrite to replace it.", option="out", value=out)
    destination.refuse_strangers(standing)


def refuse_invalid(options: Options, found: Input) -> None:
    """Raise before the first request where the input's invalid lines alone forbid publishing."""
    allowed = allowed_rejects(options, found)
    if not found.invalid:
        return
    line, text, detail = found.read["invalid"]
    first = f"The first is line {line}, {text!r}: {detail}"
    if not found.requested:
        what = f"{options.orders}: expected order numbers, got only invalid lines ({found.invalid}). {first}"
        raise InputError(what, "Correct the list.")
    if found.invalid > allowed:
        raise TooManyRejectsError(
            f"{options.orders}: {found.invalid} invalid lines are more than {limit_text(options.max_rejects, allowed)};"
            f" nothing was requested. {first}",
            "Correct the list. The same command with a higher --max-rejects leaves these lines out.",
            str(found.invalid),
        )


def real_store(store: str | None) -> str | None:
    """Return where a store really is: its lock and what SQLite keeps are beside it, not beside a link to it."""
    return os.path.realpath(store) if store is not None and Path(store).is_symlink() else store


def _refuse_passing_store(store: str | None, out: str) -> None:
    """Raise a `UsageError` where a store that is to be kept would go with the dataset or the work directory."""
    folders = [place_of(out)] if "://" in out else [place_of(out), Path(out).absolute()]
    for folder in folders:
        if store is not None and Path(store).resolve().is_relative_to(folder.resolve()):
            what = f"expected a file outside of {folder}, which a run replaces or removes."
            raise UsageError(what, "Give another --store.", option="store", value=store)

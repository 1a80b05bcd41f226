"""`exporter changes`, `history`, `load`, `verify` and `report`: what is done with finished datasets."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import click

from exporter.cli.option_kinds import PATH, Command, Words, show
from exporter.model.errors import UsageError
from exporter.model.options import FileFormat


@click.command(cls=Command, epilog="Example: exporter changes orders-2026-11-23 orders-2026-11-24 --out new")
@click.argument("old", type=PATH, metavar="OLD")
@click.argument("new", type=PATH, metavar="NEW")
@click.option("--out", type=PATH, required=True, metavar="DIR", help="Directory, or s3://…, of the result.")
@click.option("--overwrite", is_flag=True, help="Replace a finished comparison at DIR.")
@click.option(
    "--full", is_flag=True, help="Also changed_orders: complete rows, before and after, ready for a MERGE."
)
@click.option(
    "--format",
    "formats",
    type=Words(get_args(FileFormat)),
    default="parquet",
    help="Formats of the tables, with commas.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object on stdout.")
def changes(old: str, new: str, out: str, overwrite: bool, full: bool, formats: str, as_json: bool) -> None:
    """Compare the datasets OLD and NEW, and write what changed into DIR, one row for each changed field.

    Items are matched by their id. An order that NEW did not request, or could not get, is not compared; it is
    gone only where the API answered 404. It needs the extra `duckdb`.
    """
    import msgspec

    from exporter.cli.outcome_text import change_lines, file_lines
    from exporter.dataset.summary import files_of
    from exporter.model.manifest import Changes
    from exporter.model.options import TableOptions
    from exporter.run.compare import compare

    chosen: tuple[FileFormat, ...] = tuple(dict.fromkeys(formats.split(",")))  # type: ignore[arg-type] # checked by click
    finished = compare(old, new, out, TableOptions(formats=chosen), full=full, overwrite=overwrite)
    files = files_of(finished)
    told = {"out": out, "exit_code": 0, **msgspec.to_builtins(finished.changes)}
    told["files"] = msgspec.to_builtins(files)
    show(told, [*change_lines(finished.changes or Changes()), "", *file_lines(files)], as_json=as_json)


@click.command(cls=Command, epilog="Example: exporter history 65a81ab6771eacb 'nightly/*'")
@click.argument("number", metavar="NUMBER")
@click.argument("datasets", metavar="DATASET...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def history(number: str, datasets: tuple[str, ...], as_json: bool) -> None:
    """Show what each finished DATASET says about the order NUMBER, oldest first, and what changed in between.

    A name with * means all datasets that fit. It needs the extra `duckdb`.
    """
    from exporter.run import compare

    moments = list(compare.history(number, datasets))
    show({"order_number": number, "history": moments}, _history_lines(number, moments), as_json=as_json)


def _history_lines(number: str, moments: list[dict[str, Any]]) -> Iterator[str]:
    yield f"Order {number} in {len(moments)} datasets"
    for moment in moments:
        order = moment["order"] or {}
        amount, currency = order.get("amount"), order.get("currency") or ""
        money = "" if amount is None else f"  {amount} {currency}"
        yield ""
        yield f"{moment['finished_at'][:16].replace('T', ' ')}  {moment['state']}{money}  {moment['dataset']}"
        for row in moment["changes"]:
            yield f"  {_change(row)}"


def _change(row: dict[str, Any]) -> str:
    of = f"item {row['item_id']}  " if row["item_id"] is not None else ""
    if row["change"] != "changed":
        return f"{of}{row['change'].replace('_', ' ')}"
    old, new = ("–" if row[side] is None else row[side] for side in ("old", "new"))
    return f"{of}{row['column']}  {old} → {new}"


@click.command(cls=Command, epilog="Example: exporter load orders-2026-11-24 postgresql://shop@db/shop")
@click.argument("dataset", type=PATH, metavar="DATASET")
@click.argument("target", metavar="TARGET")
@click.option("--schema", metavar="NAME", help="Schema of the tables; created if it is missing.")
@click.option("--prefix", default="", show_default=False, metavar="TEXT", help="Prefix of the tables' names.")
@click.option("--replace", is_flag=True, help="Remove the orders that DATASET lacks.")
@click.option(
    "--mark-gone", is_flag=True, help="Record in _gone_at which orders the API no longer has (404)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object on stdout.")
def load(dataset: str, target: str, as_json: bool, **settings: Any) -> None:
    """Load the finished DATASET into TARGET: postgresql://…, duckdb:FILE or sqlite:FILE.

    All or nothing, in one transaction: orders replace those of the same number, with all their items. The same
    dataset twice does nothing. Put no password into TARGET: PostgreSQL's come from PGPASSWORD or ~/.pgpass.
    """
    from exporter.run.load_dataset import load_place

    loaded = load_place(dataset, target, **settings)
    show({**vars(loaded), "exit_code": 0}, [str(loaded)], as_json=as_json)


@click.command(cls=Command, epilog="Example: exporter verify orders-2026-11-23")
@click.argument("outs", type=PATH, metavar="OUT...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each OUT on stdout.")
def verify(outs: tuple[str, ...], as_json: bool) -> int:
    """Check each dataset OUT against its manifest, byte by byte and row by row.

    Every file is there with its rows, its size and its SHA-256, and no other; the counts add up; order
    numbers are unique; every item has its order, and its place in it. A dataset at s3://… is copied to a temporary
    folder first. Exit code 0, or 1 with what differs.
    """
    code = 0
    for out in outs:
        differences = _differences_at(out)
        lines = [f"{out}: {line}" for line in differences] if len(outs) > 1 else differences
        facts = {"out": out, "ok": not differences, "differences": differences}
        show(facts, lines or [f"{out} matches its manifest."], as_json=as_json)
        code |= bool(differences)
    return code


def _differences_at(out: str) -> list[str]:
    from exporter.dataset import verification
    from exporter.dataset.object_store import object_store

    if "://" in out:
        with TemporaryDirectory(prefix="exporter-") as folder:
            object_store(out).download(Path(folder), whatever=True)
            return list(verification.verify(Path(folder)))
    if not Path(out).is_dir():
        raise UsageError(f"{out}: expected the directory of a dataset, got none.", "Give the --out of a run.")
    return list(verification.verify(Path(out)))


@click.command(cls=Command, epilog="Example: exporter report orders-2026-11-23")
@click.argument("out", metavar="OUT")
def report(out: str) -> None:
    """Write report.html into the dataset at OUT, from its manifest and its tables alone.

    One page that needs no network: what the data looks like, and how the run went, in counts and sums. A
    report that is there is replaced.
    """
    from exporter.model.manifest import REPORT_FILE
    from exporter.report.page import write_report

    write_report(Path(out))
    click.echo(str(Path(out) / REPORT_FILE))

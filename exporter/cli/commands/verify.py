"""`exporter verify`: is the dataset what its manifest says?"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from exporter.cli.option_kinds import PATH, Command, show
from exporter.model.errors import UsageError


@click.command("verify", cls=Command, epilog="Example: exporter verify orders-2026-11-23")
@click.argument("out", type=PATH, metavar="OUT")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object on stdout.")
def command(out: str, as_json: bool) -> int:
    """Check the dataset at OUT against its manifest, byte by byte and row by row.

    Every file is there with its rows, its size and its SHA-256, and no other; the counts add up; order
    numbers are unique; every item has its order, and its place in it. A dataset at s3://… is copied to a temporary
    folder first. Exit code 0, or 1 with what differs.
    """
    differences = _differences_at(out)
    facts = {"out": out, "ok": not differences, "differences": differences}
    show(facts, differences or [f"{out} is what its manifest says."], as_json=as_json)
    return 1 if differences else 0


def _differences_at(out: str) -> list[str]:
    from exporter.dataset.object_store import object_store
    from exporter.dataset.verification import verify

    if "://" in out:
        with TemporaryDirectory(prefix="exporter-") as folder:
            object_store(out).download(Path(folder), whatever=True)
            return list(verify(Path(folder)))
    if not Path(out).is_dir():
        raise UsageError(f"{out}: expected the directory of a dataset, got none.", "Give the --out of a run.")
    return list(verify(Path(out)))

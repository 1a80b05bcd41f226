"""`exporter history`: one order's life, as the datasets of several nights have seen it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from exporter.cli.option_kinds import Command, show


@click.command("history", cls=Command, epilog="Example: exporter history 65a81ab6771eacb 'nightly/*'")
@click.argument("number", metavar="NUMBER")
@click.argument("datasets", metavar="DATASET...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(number: str, datasets: tuple[str, ...], as_json: bool) -> int:
    """Show what each finished DATASET says of the order NUMBER, oldest first, and what changed in between.

    A name with * stands for all datasets that fit. It needs the extra `duckdb`.
    """
    from exporter.run.compare import history

    moments = list(history(number, datasets))
    show({"order_number": number, "history": moments}, _lines(number, moments), as_json=as_json)
    return 0


def _lines(number: str, moments: list[dict[str, Any]]) -> Iterator[str]:
    yield f"Order {number} in {len(moments)} datasets"
    for moment in moments:
        order = moment["order"] or {}
        amount = (
            f"  {order['amount']} {order.get('currency') or ''}" if order.get("amount") is not None else ""
        )
        yield ""
        yield f"{moment['finished_at'][:16].replace('T', ' ')}  {moment['state']}{amount}  {moment['dataset']}"
        for row in moment["changes"]:
            yield f"  {_change(row)}"


def _change(row: dict[str, Any]) -> str:
    of = f"item {row['item_id']}  " if row["item_id"] is not None else ""
    if row["change"] != "changed":
        return f"{of}{row['change'].replace('_', ' ')}"
    old, new = ("–" if row[side] is None else row[side] for side in ("old", "new"))
    return f"{of}{row['column']}  {old} → {new}"

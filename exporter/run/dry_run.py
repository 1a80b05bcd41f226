"""What a run with these options would ask for, found out without a request and without a file made."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime

from exporter.api.credentials import token_of
from exporter.dataset.destination import destination_of
from exporter.model.column_selection import choose_columns
from exporter.model.options import AskOptions, Options, part_of
from exporter.run.export import refuse_passing_store, refuse_to_replace, resolve_out
from exporter.run.place_status import Question, Status, look
from exporter.store.order_store import Store


def dry_run(options: Options) -> Status:
    """Check what a run would check before its first request, and say what it would ask for.

    Args:
        options: As for the run.

    Returns:
        What stands at `out` and in the store, and what a run would ask for.

    Raises:
        ExporterError: What the run would raise before its first request.
    """
    choose_columns(options.select, options.drop, options.tables)
    token_of(options)
    out = resolve_out(options.out, datetime.now().astimezone())
    destination = destination_of(out)
    refuse_passing_store(options.store, out)
    refuse_to_replace(destination.standing(), destination, options, out)
    status = look(Question(place=out, may_be_new=True, orders=options.orders, **part_of(options, AskOptions)))
    if status.store is not None:
        with closing(Store(status.store, options.api_url, readonly=True)):
            pass  # it belongs to this API
    return status

"""Export last night's orders with Airflow 3; a retried task resumes.

The worker's environment holds EXPORTER_API_URL and EXPORTER_API_TOKEN, or an Airflow secrets backend
does. A pool of one slot keeps two days' runs from sharing the API's rate.
"""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException

FOLDER = "/srv/orders"
FAIL_ON_REJECTS = False


@task(retries=5, retry_delay=timedelta(minutes=15), pool="omnitron_api")
def export_orders(numbers: str, day: str) -> str:
    """Export the orders of a file of order numbers; return the dataset's place."""
    from exporter import ApiUnavailableError, ExporterError, Options, StorageError, export

    options = Options(
        orders=numbers,
        out=f"{FOLDER}/{day}",
        api_url=os.environ["EXPORTER_API_URL"],
        token=os.environ["EXPORTER_API_TOKEN"],
        store=f"{FOLDER}/store.db",
        max_age="12h",
    )
    try:
        summary = export(options)
    except (ApiUnavailableError, StorageError):
        raise  # worth another try
    except ExporterError as error:
        raise AirflowFailException(str(error)) from error
    if summary.rejected:
        rejects = f"{summary.rejected} rejected orders: {summary.out}/rejects.jsonl"
        if FAIL_ON_REJECTS:
            raise AirflowFailException(rejects)
        logging.getLogger(__name__).warning(rejects)
    return summary.out


@dag(schedule="30 1 * * *", start_date=datetime(2026, 11, 1, tzinfo=UTC), catchup=False, max_active_runs=1)
def omnitron_export() -> None:
    """Export once a day."""
    export_orders(f"{FOLDER}/numbers.txt", "{{ ds }}")


omnitron_export()

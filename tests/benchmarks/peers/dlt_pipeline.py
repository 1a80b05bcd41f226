"""What both ways of dlt share: pages of order numbers in, Parquet files in a local folder out.

Pages, parallel items and normalising processes follow dlt's page on performance.
"""

# mypy: ignore-errors
# Its libraries live in the peers' own environment.

import os
import sys
from pathlib import Path

os.environ |= {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "EXTRACT__WORKERS": "8",  # threads; 16 were slower: the GIL is what they wait for
    "EXTRACT__MAX_PARALLEL_ITEMS": "32",
    "NORMALIZE__WORKERS": str(os.cpu_count()),
    "DATA_WRITER__FILE_MAX_ITEMS": "5000",  # one file could not be shared among the normalising processes
}

import dlt

PAGE = 100
HEADERS = {"Authorization": "Token benchmark"}


def pages(numbers):
    texts = numbers.read_text("utf-8").split()
    for start in range(0, len(texts), PAGE):
        yield texts[start : start + PAGE]


def run(orders_at):
    """Run `URL NUMBERS_FILE OUT` through `orders_at(url)`, a transformer of pages into orders."""
    url, numbers, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    pipeline = dlt.pipeline(
        "orders",
        pipelines_dir=str(out.resolve() / "pipelines"),
        destination=dlt.destinations.filesystem(bucket_url=out.resolve().as_uri()),
        dataset_name="dataset",
    )
    data = dlt.resource(pages(numbers), name="pages") | orders_at(url)
    pipeline.run(data, loader_file_format="parquet").raise_on_failed_jobs()

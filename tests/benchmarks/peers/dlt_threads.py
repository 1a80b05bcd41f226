"""The same export with dlt, a parallelised transformer in threads: `dlt_threads.py URL NUMBERS_FILE OUT`."""

# mypy: ignore-errors
# Its libraries live in the peers' own environment.

import dlt
import dlt_pipeline as shared
from dlt.sources.helpers import requests  # keeps a session, and so a connection, for each thread


def orders_at(url):
    @dlt.transformer(parallelized=True, name="orders", write_disposition="replace")
    def orders(page):
        yield [
            requests.get(f"{url}/api/i1/orders/{number}", headers=shared.HEADERS).json() for number in page
        ]

    return orders


if __name__ == "__main__":
    shared.run(orders_at)

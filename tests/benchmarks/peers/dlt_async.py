"""The same export with dlt, an async transformer over aiohttp: `dlt_async.py URL NUMBERS_FILE OUT`."""

# mypy: ignore-errors
# Its libraries live in the peers' own environment.

import aiohttp
import dlt
import dlt_pipeline as shared


def orders_at(url):
    # dlt awaits as many pages at a time as it may have parallel items, so that is what is in flight.
    @dlt.transformer(name="orders", write_disposition="replace")
    async def orders(page):
        fetched = []
        async with aiohttp.ClientSession(headers=shared.HEADERS, raise_for_status=True) as session:
            for number in page:
                async with session.get(f"{url}/api/i1/orders/{number}") as response:
                    fetched.append(await response.json())
        return fetched

    return orders


if __name__ == "__main__":
    shared.run(orders_at)

"""The same export with Scrapy: one spider, a JSON lines feed for each table.

`scrapy_feeds.py URL NUMBERS_FILE OUT [--rate PER_SECOND] [--jobdir FOLDER]`
"""

# mypy: ignore-errors
# Its libraries live in the peers' own environment.

import argparse
from pathlib import Path

import scrapy
from scrapy.crawler import CrawlerProcess


class OrderRow(dict):
    pass


class ItemRow(dict):
    pass


def flatten(value, prefix=""):
    row = {}
    for key, inner in value.items():
        if isinstance(inner, dict):
            row |= flatten(inner, f"{prefix}{key}_")
        else:
            row[prefix + key] = inner
    return row


class Orders(scrapy.Spider):
    name = "orders"

    async def start(self):
        with self.numbers.open() as lines:
            for line in lines:
                yield scrapy.Request(
                    f"{self.url}/api/i1/orders/{line.strip()}",
                    headers={"Authorization": "Token benchmark"},
                    dont_filter=not self.resumable,
                )

    def parse(self, response):
        order = response.json()
        items = order.pop("orderitem_set")
        yield OrderRow(flatten(order))
        for index, item in enumerate(items):
            yield ItemRow({"order_number": order["number"], "item_index": index} | flatten(item))


def settings(arguments):
    feed = {"format": "jsonlines", "encoding": "utf8", "overwrite": not arguments.jobdir}
    chosen = {
        "FEEDS": {
            arguments.out / "orders.jsonl": feed | {"item_classes": [OrderRow]},
            arguments.out / "order_items.jsonl": feed | {"item_classes": [ItemRow]},
        },
        "CONCURRENT_REQUESTS": 32,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 32,
        "CONCURRENT_ITEMS": 4,  # tasks made for each response; 100, the default, take half of the time
        "COOKIES_ENABLED": False,
        "ROBOTSTXT_OBEY": False,
        "TELNETCONSOLE_ENABLED": False,
        "LOG_LEVEL": "WARNING",  # at DEBUG, the default, each row is a line
    }
    if arguments.rate:
        chosen |= {"DOWNLOAD_DELAY": 1 / arguments.rate, "RANDOMIZE_DOWNLOAD_DELAY": False}
    if arguments.jobdir:
        chosen["JOBDIR"] = str(arguments.jobdir)
    return chosen


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("numbers", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--jobdir", type=Path)
    arguments = parser.parse_args()
    process = CrawlerProcess(settings(arguments))
    process.crawl(
        Orders, url=arguments.url, numbers=arguments.numbers, resumable=arguments.jobdir is not None
    )
    process.start()


if __name__ == "__main__":
    main()

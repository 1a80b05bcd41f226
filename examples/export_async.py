"""Export two files at once in an asyncio program: python export_async.py NUMBERS NUMBERS.

Each export has its own rate: two at 50/s send an API up to 100 requests a second.
"""

from __future__ import annotations

import asyncio
import os
import sys

from exporter import Options, Progress, Summary, export_async


async def export_one(numbers: str) -> Summary:
    """Export one file beside itself, and print its progress a few times a second."""

    def tell(progress: Progress) -> None:
        print(f"{numbers}: {progress.phase}, {progress.done} of {progress.total}")

    options = Options(
        orders=numbers,
        out=f"{numbers}-exported",
        api_url=os.environ["EXPORTER_API_URL"],
        token=os.environ["EXPORTER_API_TOKEN"],
        rate="50/s",
    )
    return await export_async(options, on_progress=tell)


async def main(files: list[str]) -> None:
    """Export all files at once; if one fails, the others are stopped and can be resumed."""
    async with asyncio.TaskGroup() as group:
        exports = [group.create_task(export_one(numbers)) for numbers in files]
    for done in exports:
        summary = done.result()
        print(f"{summary.out}: {summary.exported} of {summary.requested} orders")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))

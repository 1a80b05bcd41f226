"""A stranger who tries to run code through Dask: `python -m tests.support.intruder PROOF HOST:PORT ...`.

At each place it speaks in the clear and over TLS with a certificate of its own, to a scheduler and to a
worker; where it is obeyed, the file `PROOF` appears.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import distributed as _untyped

_dask: Any = _untyped
_PATIENCE_S = 3.0


async def through_a_scheduler(address: str, proof: Path, security: Any) -> None:
    async with _dask.Client(address, asynchronous=True, timeout=_PATIENCE_S, security=security) as client:
        await client.submit(proof.write_text, "it ran")


async def through_a_worker(address: str, proof: Path, security: Any) -> None:
    arguments = security.get_connection_args("client")
    wire = await _dask.comm.connect(address, timeout=_PATIENCE_S, **arguments)
    pickled = _dask.protocol.pickle.dumps
    await wire.write(
        {"op": "run", "function": pickled(proof.write_text), "args": pickled(("it ran",)), "reply": True}
    )
    await wire.read()


async def attempt(way: Any, *how: Any) -> None:
    with suppress(Exception):
        async with asyncio.timeout(_PATIENCE_S):
            await way(*how)


async def main(proof: Path, places: list[str]) -> None:
    async with asyncio.TaskGroup() as group:
        for place in places:
            for scheme, security in (("tcp", _dask.Security()), ("tls", _dask.Security.temporary())):
                for way in (through_a_scheduler, through_a_worker):
                    group.create_task(attempt(way, f"{scheme}://{place}", proof, security))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))

"""Engines that spread a run over more than one process; each is imported only when it is used."""

import re

_LOCAL = re.compile(r"local(?::([1-9][0-9]{0,2}))?")
_LOCAL_WORKERS = 2


def local_workers(address: str) -> int | None:
    """Return how many workers of this machine `--dask` asks for; None where it names a scheduler.

    >>> local_workers("local"), local_workers("local:8"), local_workers("tcp://scheduler:8786")
    (2, 8, None)
    """
    local = _LOCAL.fullmatch(address)
    return None if local is None else int(local[1] or _LOCAL_WORKERS)

"""What keeps a process that flattens small and quick: for the publishing process and for local workers."""

from __future__ import annotations

import gc
import sys

#: Its environment. Arrow's own allocators keep 40 MiB more of what was let go (measured 2026-11-24).
MEMORY = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
#: Where it fetches nothing, what a row group needs is mapped for itself, or its holes in the heap grow from group
#: to group. asyncio takes 256 KiB for each read: to map those costs 5 µs a request.
PUBLISHING_MEMORY = MEMORY | {"MALLOC_MMAP_THRESHOLD_": "32768"}


def be_lean() -> None:
    """Spare this process what it does not need; call it before pyarrow is imported."""
    without_numpy()
    # Where it is not there, pyarrow looks for it again with each array of times: 1.5 µs an order.
    sys.modules.setdefault("dateutil", None)  # type: ignore[arg-type] # Python's own way to say so
    # A batch is many small objects and no cycles: looking for cycles so often cost 8 % (measured 2026-11-24).
    gc.set_threshold(50_000, 50, 50)


def without_numpy() -> None:
    """Spare this process numpy; where that is there, pyarrow's first `pa.array` imports pandas: 0.3 s and 60 MiB."""
    sys.modules.setdefault("numpy", None)  # type: ignore[arg-type] # importing it fails in this process

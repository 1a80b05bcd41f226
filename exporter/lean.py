"""What keeps a process that flattens small and quick: for the publishing process and for local workers."""

from __future__ import annotations

import gc
import sys

#: Its environment. Arrow's own allocators keep 40 MiB more of what was let go; and what a row group needs is
#: mapped for itself, or its holes in the heap grow from group to group (measured 2026-11-24).
MEMORY = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "32768",
}


def be_lean() -> None:
    """Spare this process what it does not need; call it before pyarrow is imported."""
    # Where numpy is there, pyarrow's first `pa.array` imports pandas: 0.3 s and 60 MiB for nothing. In a Dask
    # worker this comes too late: Dask itself imports numpy.
    sys.modules.setdefault("numpy", None)  # type: ignore[arg-type] # makes `import numpy` fail in this process
    # A batch is many small objects and no cycles: looking for cycles so often cost 8 % (measured 2026-11-24).
    gc.set_threshold(50_000, 50, 50)

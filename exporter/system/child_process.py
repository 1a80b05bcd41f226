"""What the processes that we start have in common: this very package, no ear for signals, little memory."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: What asks for the end. On Windows, Ctrl-Break is what ends a process of another group.
END_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)
)
#: The environment of one that flattens. Arrow's own allocators keep 40 MiB more of what was freed (measured 2026-11-24).
MEMORY = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
#: Where it fetches nothing, what a row group needs is mapped for itself, or its holes in the heap grow from group
#: to group. asyncio takes 256 KiB for each read: to map those costs 5 µs a request.
PUBLISHING_MEMORY = MEMORY | {"MALLOC_MMAP_THRESHOLD_": "32768"}


def python_path() -> str:
    """Return the PYTHONPATH by which a new process finds this very package.

    Start it with `-P` or PYTHONSAFEPATH: a file named exporter.py in the user's folder must not take our place.
    """
    package_root = str(Path(__file__).parents[2])
    return os.pathsep.join([package_root, *filter(None, [os.environ.get("PYTHONPATH")])])


def be_deaf() -> None:
    """Ignore what asks for the end: a terminal and systemd ask the whole group, and the parent decides when we end."""
    for number in END_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold back what asks for the end, for us until the end of the block, for a process started in it for ever.

    It may come in whatever moment: also while the new process does not yet ignore it by itself; see `be_deaf`.
    """
    if sys.platform == "win32":
        yield
        return
    held = set(END_SIGNALS)
    # Another export of this thread may hold them already: only who began to hold them lets them go.
    held -= signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)


def be_lean() -> None:
    """Spare a process that flattens what it does not need; call it before pyarrow is imported."""
    without_numpy()
    # Where it is not there, pyarrow looks for it again with each array of times: 1.5 µs an order.
    sys.modules.setdefault("dateutil", None)  # type: ignore[arg-type] # Python's own way to say so
    # A batch is many small objects and no cycles: looking for cycles so often cost 8 % (measured 2026-11-24).
    gc.set_threshold(50_000, 50, 50)


def without_numpy() -> None:
    """Spare this process numpy; where that is there, pyarrow's first `pa.array` imports pandas: 0.3 s and 60 MiB."""
    sys.modules.setdefault("numpy", None)  # type: ignore[arg-type] # importing it fails in this process

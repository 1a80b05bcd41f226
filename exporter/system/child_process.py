"""What the processes that we start have in common: this very package, and no ear for signals."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def python_path() -> str:
    """Return the PYTHONPATH by which a new process finds this very package.

    Start it with `-P` or PYTHONSAFEPATH: a file named exporter.py in the user's folder must not take our place.
    """
    package_root = str(Path(__file__).parents[2])
    return os.pathsep.join([package_root, *filter(None, [os.environ.get("PYTHONPATH")])])


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back, for us until the end of the block, for a process started in it for ever.

    A terminal and systemd signal the whole group, in whatever moment: also while the new process does not
    yet ignore them by itself.
    """
    if sys.platform == "win32":
        yield
        return
    held = {signal.SIGINT, signal.SIGTERM}
    # Another export of this thread may hold them already: only who began to hold them lets them go.
    held -= signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)

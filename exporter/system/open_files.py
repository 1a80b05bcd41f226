"""How many files this process may have open: a connection is one, too."""

import sys
from contextlib import suppress

from exporter.model.errors import StorageError

#: What a run has open beside its connections: the store, the plan, staged files, pipes, Python's own.
_BESIDE = 40


def make_room_for(connections: int) -> None:
    """Let this process have enough files open for a run; a `StorageError` where the system permits too few."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _BESIDE
    if resource.RLIM_INFINITY != soft < needed:
        with suppress(ValueError, OSError):  # over the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
            return
        raise StorageError(
            f"This process may have {soft} files open, and --concurrency {connections} needs {needed}.",
            "Raise the limit of open files (ulimit -n), or give a lower --concurrency.",
        )

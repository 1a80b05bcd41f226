"""Is this file or folder ours alone? Asked before anything is trusted that somebody else could have made.

A folder of our name in /tmp, a link, a second name of a file (a hard link), a file that others may write to:
whoever made it could read customers' data there, or have us obey him. What is ours alone stays so: nobody
else can exchange it, unless the folder around it lets everybody remove what is in it.

A file system without owners or modes (exFAT, a Windows share) cannot tell. That is said once in the log, and
nothing is refused there.
"""

import os
import stat
import sys
from pathlib import Path

from exporter.model.errors import StorageError, UsageError
from exporter.system.log import log

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
OTHERS_READ = stat.S_IRWXG | stat.S_IRWXO
ROOT = 0
_said: set[int] = set()  # devices; a second word about one tells nothing
#: Fails where there is a link, also one to nowhere. Windows has no such flag, and no such links.
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


def claim(path: Path) -> None:
    """See to it that an empty file is there, or one that was already: a `StorageError` where it is not ours alone."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o600))
    except FileExistsError:
        refuse_foreign(path)


def refuse_foreign(path: Path, *, forbidden: int = OTHERS_WRITE) -> None:
    """Raise a `StorageError` where something is at `path` that is not ours alone, as `fault_of` says; nothing is fine."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if fault := fault_of(found, path, forbidden=forbidden):
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "file"
        what = f"{path}: expected a {kind} of this user alone, but {fault}. Somebody else could read or change it."
        raise StorageError(what, "Check who created it. Then remove it, or give another place.")


def fault_of(
    found: os.stat_result, path: Path, *, forbidden: int = OTHERS_WRITE, owners: frozenset[int] = frozenset()
) -> str | None:
    """Say why something is not ours alone, by what `stat` says of it, best of the open file; None where it is.

    Others must not be permitted what is `forbidden`, bits of its mode; `owners` may own it beside this user.
    """
    if sys.platform == "win32":
        return None
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return "it is a link or a special file"
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        return f"it has {found.st_nlink} names (hard links)"
    if found.st_uid not in {os.geteuid(), *owners}:
        fault = f"it belongs to user {found.st_uid}"
    elif found.st_mode & forbidden:
        fault = f"others may use it (mode {stat.S_IMODE(found.st_mode):04o})"
    else:
        return None
    return None if _keeps_no_owners(path.parent, found.st_dev) else fault


def _keeps_no_owners(folder: Path, device: int) -> bool:
    """Tell, by a file made for it, whether the file system forgets who made a file and with which mode."""
    if sys.platform == "win32":
        return True
    probe = folder / f".exporter-{os.urandom(8).hex()}.partial"
    try:
        descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o600)
    except OSError:
        return False
    try:
        made = os.fstat(descriptor)
    finally:
        os.close(descriptor)
        probe.unlink(missing_ok=True)
    if made.st_dev != device or (made.st_uid == os.geteuid() and not made.st_mode & OTHERS_READ):
        return False
    if device not in _said:
        _said.add(device)
        what = "%s is on a file system without owners or modes: anyone who can reach it can read it."
        log.warning(what, folder)
    return True


def state_folder() -> Path:
    """Return the folder of what the program keeps for itself; a `UsageError` where this user has no home."""
    home = os.environ.get("XDG_STATE_HOME")
    try:
        return Path(home or Path.home() / ".local" / "state") / "omnitron-exporter"
    except RuntimeError:
        what = "This user has no home: neither HOME is set nor does the system know one."
        raise UsageError(what, "Set XDG_STATE_HOME to a folder of this user.") from None

"""A file appears whole or not at all, and what the disk refuses becomes a `StorageError`.

The rules of the room: write beside, fsync, rename, fsync the folder. Nothing else in the package opens
a file for writing, but SQLite in `store` and pyarrow's native writers in `tables`, which call `sync_file`.

Every action that a power cut or `kill -9` may fall behind is announced to `step`. That is a product of
the promise "killed at any moment, nothing is lost": the fault tests set `EXPORTER_TEST_KILL_AT=N`, and
the process dies after its N-th step, for every N there is; `run:N` and `publisher:N` mean one of a run's
two processes. Unset, `step` does nothing.
"""

import errno
import itertools
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from exporter.model.errors import StorageError
from exporter.system.private_files import NO_FOLLOW

if sys.platform == "darwin":
    import fcntl

_IN_USE_S = 2.0
process_role = "run"  # whose steps these are, for the fault tests: each kind of process names itself
_steps = itertools.count(1)


def step(name: str) -> None:
    """Announce a durable step, such as `fsync`, `rename` or `commit`; in the fault tests, die after the chosen one."""
    role, _, number = os.environ.get("EXPORTER_TEST_KILL_AT", "").rpartition(":")
    if number and role in ("", process_role) and next(_steps) == int(number):
        os.write(2, f"killed after step {number}: {name}\n".encode())
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))  # on Windows as hard as SIGKILL


def write_bytes(path: Path, data: bytes, *, mode: int | None = 0o600) -> None:
    """Write a whole file of these bytes, as `write_lines` does."""
    write_lines(path, (data,), mode=mode)


def write_lines(path: Path, lines: Iterable[bytes], *, mode: int | None = 0o600) -> None:
    """Write a whole file that is on the disk when this returns, or leave what stood there and raise the `OSError`.

    Its folder exists, each line has its own end; None as `mode` gives the permissions that the umask gives.
    """
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}.partial")
    try:
        with open(
            beside, "xb", opener=lambda name, flags: os.open(name, flags | NO_FOLLOW, mode or 0o666)
        ) as file:
            file.writelines(lines)
            file.flush()
            with suppress(OSError):  # where the file system has no modes
                if mode is not None:
                    beside.chmod(mode)  # the umask took some of it away
            _full_sync(file.fileno())
        step("fsync")
        rename(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def rename(source: Path, target: Path) -> None:
    """Rename within one file system, replacing a file, and make both folders remember it."""
    deadline = time.monotonic() + _IN_USE_S
    while True:
        try:
            source.replace(target)
            break
        except OSError as error:
            in_use = error.errno == errno.EBUSY or (sys.platform == "win32" and error.errno == errno.EACCES)
            if not in_use or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    step("rename")
    _sync_parents(source, target)


def sync_file(path: Path) -> None:
    """Wait until a file that another library has written and closed is on the disk."""
    _sync(path, os.O_RDWR)  # Windows flushes only what is open for writing


def sync_folder(path: Path) -> None:
    """Wait until a folder's names are on the disk, where the system can do that (Windows cannot)."""
    if sys.platform == "win32":
        return
    try:
        _sync(path, os.O_RDONLY)
    except OSError as error:
        # A folder that may be written but not read, and file systems without fsync for folders.
        if error.errno not in {errno.EACCES, errno.EINVAL, errno.ENOTSUP}:
            raise


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        _full_sync(descriptor)
    finally:
        os.close(descriptor)
    step("fsync")


def _full_sync(descriptor: int) -> None:
    """Wait until a file is on the disk itself: on macOS fsync alone leaves it in the disk's own cache."""
    if sys.platform == "darwin":
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError:
            pass  # a network's file system
    os.fsync(descriptor)


def _sync_parents(first: Path, second: Path) -> None:
    for folder in sorted({first.parent, second.parent}):
        sync_folder(folder)


def remove_tree(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link, never what it points to; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        path.unlink()
    else:
        return
    step("remove")
    sync_folder(path.parent)


def put_in_place(staged_dir: Path, out_dir: Path, retired: Path) -> Path | None:
    """Make a staged dataset the one that readers see; return where the old one is now, None where there was none.

    Old and new are exchanged in one step on Linux. Where the system cannot do that, the old one is renamed
    to `retired` first; a kill between the two renames leaves no dataset at `out_dir` until `repair` puts
    the old one back. It is never lost. After an `OSError`, `out_dir` is as it was.

    All three are on one file system, the staged files are synced, and `out_dir` is not a link.
    """
    for folder, _, _ in os.walk(staged_dir, topdown=False):
        sync_folder(Path(folder))
    if not out_dir.exists():
        rename(staged_dir, out_dir)
        return None
    if _exchange(staged_dir, out_dir):
        return staged_dir
    remove_tree(retired)
    rename(out_dir, retired)
    try:
        rename(staged_dir, out_dir)
    except OSError:
        repair(out_dir, retired)
        raise
    return retired


def repair(out_dir: Path, retired: Path) -> bool:
    """Put the old dataset back where a kill came between the two renames of `put_in_place`; tell whether it had to be."""
    if out_dir.exists() or not retired.exists():
        return False
    rename(retired, out_dir)
    return True


_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux; macOS has the same number for RENAME_SWAP
# Kernels, file systems and sandboxes without the exchange; a true lack of permission shows in the rename.
_CANNOT_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM}


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names in one step: renameat2(2), or renamex_np(2) on macOS. False where the system cannot."""
    if sys.platform == "win32":
        return False
    import ctypes  # needed only here, once a run

    library = ctypes.CDLL(None, use_errno=True)
    names, flag = (os.fsencode(first), os.fsencode(second)), ctypes.c_uint(_RENAME_EXCHANGE)
    if (renameat2 := getattr(library, "renameat2", None)) is not None:
        result = renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], flag)
    elif (renamex_np := getattr(library, "renamex_np", None)) is not None:
        result = renamex_np(*names, flag)
    else:
        return False  # an old musl
    if result == 0:
        step("exchange")
        _sync_parents(first, second)
        return True
    code = ctypes.get_errno()
    if code in _CANNOT_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(second))


_ROOM = "Make room, then run the same command again to resume."
_PERMISSION = "Give this user permission to write there, or give another place."
_HARDWARE = "Check the disk and the system's log, then run the same command again."
_GONE = "Check that the folder exists and is mounted, then run the same command again."
_PLACE = "Give another place."
_CLOSE = "Close that program, then run the same command again."
_AGAIN = "Remove the cause, then run the same command again to resume."
BROKEN = "Restore a copy of it, or remove it: the next run then fetches its orders again."
_NO_STORE = "If it is your own file, give another place; if it was a store, restore a copy of it."

#: What this process, and the whole machine, says where no more files can be opened.
TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)
RAISE_FILES = "Raise the limit of open files (ulimit -n), then run the same command again to resume."

_OS_FAULTS = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    errno.EDQUOT: ("the disk quota is used up", _ROOM),
    errno.EFBIG: ("the file would be larger than allowed", _ROOM),
    errno.EACCES: ("permission denied", _PERMISSION),
    errno.EPERM: ("permission denied", _PERMISSION),
    errno.EBUSY: ("a program has it open", _CLOSE),
    errno.EROFS: ("the file system is read-only", _PERMISSION),
    errno.EIO: ("the disk reports an input/output error", _HARDWARE),
    errno.ENOENT: ("it is not there", _GONE),
    errno.ENOTDIR: ("a part of the path is not a folder", _PLACE),
    errno.ESTALE: ("the network file system lost it", _GONE),
    errno.EEXIST: ("something else is there", _PLACE),
    errno.ENOTEMPTY: ("something else is there", _PLACE),
    errno.EXDEV: ("it is on another file system", _PLACE),
    errno.ENAMETOOLONG: ("the name is too long", _PLACE),
    **dict.fromkeys(TOO_MANY_FILES, ("too many files are open", RAISE_FILES)),
}

# https://www.sqlite.org/rescode.html: extended codes that say more than their primary one, then those.
_SQLITE_FAULTS = {
    sqlite3.SQLITE_IOERR_SHMSIZE: ("the disk is full", _ROOM),  # no room for the -shm file beside it
    sqlite3.SQLITE_READONLY_DBMOVED: ("the store was moved or removed", _GONE),
    sqlite3.SQLITE_FULL: ("the disk is full", _ROOM),
    sqlite3.SQLITE_IOERR: ("the disk reports an input/output error", _HARDWARE),
    sqlite3.SQLITE_READONLY: ("the store is read-only", _PERMISSION),
    sqlite3.SQLITE_PERM: ("permission denied", _PERMISSION),
    sqlite3.SQLITE_CANTOPEN: ("the store cannot be opened", _GONE),
    sqlite3.SQLITE_CORRUPT: ("the store is corrupt", BROKEN),
    sqlite3.SQLITE_NOTADB: ("it is not a store", _NO_STORE),
    sqlite3.SQLITE_BUSY: ("another program holds the store", _CLOSE),
    sqlite3.SQLITE_LOCKED: ("another program holds the store", _CLOSE),
}
# What comes without a code of its own: text that is no UTF-8 (Python's own error, or a `UnicodeDecodeError`
# where it is in SQLite's complaint itself), a header's unknown format.
_SIGNS_OF_ROT = ("decode to UTF-8", "unsupported file format")


@contextmanager
def storage_errors(doing: str, path: Path) -> Iterator[None]:
    """Turn what the disk or SQLite refuses while the block is `doing` something to a path into a `StorageError`.

    Timeouts and connection errors, which Python counts among the `OSError`s, and SQLite errors that are mistakes
    of ours pass as they are.
    """
    try:
        yield
    except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
        if isinstance(error, TimeoutError | ConnectionError) or (fault := _fault(error)) is None:
            raise
        raise StorageError(f"{path}: {doing} failed: {fault[0]}.", fault[1]) from error


def _fault(error: OSError | sqlite3.Error | UnicodeDecodeError) -> tuple[str, str] | None:
    """Say what a foreign error means and what to do, or None where storage is not to blame."""
    if isinstance(error, UnicodeDecodeError) or any(words in str(error) for words in _SIGNS_OF_ROT):
        return _SQLITE_FAULTS[sqlite3.SQLITE_CORRUPT]
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0)
        return _SQLITE_FAULTS.get(code) or _SQLITE_FAULTS.get(code & 0xFF)  # the primary code
    unknown = (error.strerror or str(error)).rstrip("."), _AGAIN
    return _OS_FAULTS.get(error.errno or 0, unknown)

"""A file appears whole or not at all; a dataset is old or new; what the disk refuses is named."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exporter.model.errors import StorageError
from exporter.system import durable


def dataset(folder: Path, text: str) -> Path:
    (folder / "orders.parquet").mkdir(parents=True)
    (folder / "manifest.json").write_text(text)
    (folder / "orders.parquet" / "part-00000.parquet").write_text(text)
    return folder


def content(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


OLD = {"manifest.json": "old", "orders.parquet/part-00000.parquet": "old"}
NEW = {"manifest.json": "new", "orders.parquet/part-00000.parquet": "new"}


def run_killed_at(step: int, code: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own that dies after its given durable step."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, "EXPORTER_TEST_KILL_AT": str(step)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


# --- files ---


def test_a_written_file_is_private_whole_and_alone(tmp_path: Path) -> None:
    """The bytes are there, only the owner may read them, and no temporary file is left."""
    durable.write_bytes(tmp_path / "a.json", b"{}")
    assert (tmp_path / "a.json").read_bytes() == b"{}"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    if sys.platform != "win32":
        assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
def test_without_a_mode_the_umask_decides(tmp_path: Path) -> None:
    """A metrics file that another user's collector reads gets the permissions of any new file."""
    before = os.umask(0o027)
    try:
        durable.write_bytes(tmp_path / "a.prom", b"x", mode=None)
    finally:
        os.umask(before)
    assert (tmp_path / "a.prom").stat().st_mode & 0o777 == 0o640


def test_a_failed_write_leaves_what_stood_there_and_nothing_else(tmp_path: Path) -> None:
    """A write that cannot be finished changes nothing."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").write_text("old")
    with pytest.raises(OSError, match="taken"):
        durable.write_bytes(tmp_path / "taken", b"new")
    assert content(tmp_path) == {"taken/inside": "old"}


def test_a_file_written_by_lines_is_as_whole_when_a_line_fails(tmp_path: Path) -> None:
    """A file of any length is all of its lines, or what stood there if one of them cannot be had."""
    path = tmp_path / "rejects.jsonl"
    durable.write_lines(path, (b"%d\n" % number for number in range(3)))
    with pytest.raises(ZeroDivisionError):
        durable.write_lines(path, (b"%d" % (1 // number) for number in (1, 0)))
    assert content(tmp_path) == {"rejects.jsonl": "0\n1\n2\n"}


WRITE = """
    import sys
    from pathlib import Path
    from exporter.system.durable import write_bytes
    write_bytes(Path(sys.argv[1]), b"new")
"""


def test_a_kill_after_any_step_of_a_write_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """After each single durable step the name holds all of the old bytes or all of the new ones."""
    path = tmp_path / "manifest.json"
    seen = []
    for step in range(1, 20):
        path.write_bytes(b"old")
        done = run_killed_at(step, WRITE, path)
        if done.returncode == 0:
            break
        assert done.stderr.startswith(f"killed after step {step}: ")
        seen.append(path.read_bytes())
    assert seen == [b"old", b"new", b"new"]  # fsync of the file, rename, fsync of the folder


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was synced, by name, and the renames between, in their order."""
    taken: list[str] = []
    fsync = os.fsync

    def spy_fsync(descriptor: int) -> None:
        fsync(descriptor)
        taken.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(durable, "step", lambda name: taken.append(f"<{name}>") if name != "fsync" else None)
    return taken


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc, renameat2 and tmpfs are Linux's")


@on_linux
def test_a_file_is_synced_before_its_name_and_the_name_after(tmp_path: Path, steps: list[str]) -> None:
    """A power cut finds the name on whole bytes: data first, then the name, then the folder."""
    durable.write_bytes(tmp_path / "a.json", b"{}")
    assert steps[0].startswith(".a.json.")
    assert steps[1:] == ["<rename>", tmp_path.name]


@on_linux
@pytest.mark.parametrize(("two_renames"), [False, True])
def test_a_dataset_is_synced_before_it_is_seen_and_the_names_after(
    tmp_path: Path, steps: list[str], monkeypatch: pytest.MonkeyPatch, two_renames: bool
) -> None:
    """A power cut finds at OUT a dataset whose folders are whole, and the change of names is on the disk."""
    if two_renames:
        monkeypatch.setattr(durable, "_exchange", lambda _first, _second: False)
    out, staged = dataset(tmp_path / "out", "old"), dataset(tmp_path / "work" / "staged", "new")
    durable.put_in_place(staged, out, tmp_path / "work" / "retired")
    change = ["<rename>", tmp_path.name, "work"]
    assert steps == [
        "orders.parquet",
        "staged",
        *(change * 2 if two_renames else ["<exchange>", *change[1:]]),
    ]


def test_what_is_not_there_is_removed_without_complaint(tmp_path: Path) -> None:
    """A file, a folder, a link and nothing can all be removed; a link's target stays."""
    dataset(tmp_path / "folder", "x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name in ("folder", "file", "link", "nothing"):
        durable.remove_tree(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


# --- a dataset into place ---


def test_a_first_dataset_is_put_in_place(tmp_path: Path) -> None:
    """A staged dataset becomes OUT where nothing stood, and nothing stays behind."""
    staged = dataset(tmp_path / "work" / "staged", "new")
    assert durable.put_in_place(staged, tmp_path / "out", tmp_path / "r") is None
    assert content(tmp_path / "out") == NEW
    assert not staged.exists()


@pytest.fixture(params=["one exchange", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "two renames":
        monkeypatch.setattr(durable, "_exchange", lambda _first, _second: False)
    elif sys.platform != "linux":
        pytest.skip("renameat2 is a system call of Linux")
    return str(request.param)


def test_an_old_dataset_is_replaced_and_handed_back(tmp_path: Path, way: str) -> None:
    """OUT is the new dataset, and the old one is whole where the call says."""
    out = dataset(tmp_path / "out", "old")
    staged = dataset(tmp_path / "work" / "staged", "new")
    retired = tmp_path / "work" / "retired"
    dataset(retired, "left by an earlier run")
    old = durable.put_in_place(staged, out, retired)
    assert old == (staged if way == "one exchange" else retired)
    assert content(out) == NEW
    assert content(old) == OLD


def test_a_failed_second_rename_puts_the_old_dataset_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the new dataset cannot take the name, the old one keeps it."""
    monkeypatch.setattr(durable, "_exchange", lambda _first, _second: False)
    out = dataset(tmp_path / "out", "old")
    with pytest.raises(FileNotFoundError):
        durable.put_in_place(tmp_path / "nothing", out, tmp_path / "retired")
    assert content(out) == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


PUBLISH = """
    import sys
    from pathlib import Path
    from exporter.system import durable
    staged, out, retired, two_renames = map(Path, sys.argv[1:])
    if two_renames.name == "yes":
        durable._exchange = lambda first, second: False
    durable.put_in_place(staged, out, retired)
"""


@pytest.mark.parametrize("two_renames", ["no", "yes"])
def test_a_kill_after_any_step_of_publishing_loses_no_dataset(tmp_path: Path, two_renames: str) -> None:
    """After each single durable step and a repair, OUT is the old dataset or the new one, whole."""
    seen = []
    for step in range(1, 40):
        room = tmp_path / str(step)
        out, retired = dataset(room / "out", "old"), room / "work" / "retired"
        staged = dataset(room / "work" / "staged", "new")
        done = run_killed_at(step, PUBLISH, staged, out, retired, Path(two_renames))
        standing = out.exists()
        if done.returncode == 0:
            break
        assert durable.repair(out, retired) is not standing
        assert standing or two_renames == "yes" or sys.platform != "linux", done.stderr
        seen.append(content(out))
    assert seen.count(OLD) + seen.count(NEW) == len(seen)
    assert seen[0] == OLD
    assert seen[-1] == NEW


@on_linux
def test_a_reader_always_finds_a_dataset(tmp_path: Path) -> None:
    """While datasets are exchanged hundreds of times, OUT is never missing and never mixed."""
    out, staged = dataset(tmp_path / "out", "a"), dataset(tmp_path / "staged", "b")
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "reading\n"
    for _ in range(200):
        durable.put_in_place(staged, out, tmp_path / "retired")
    answer, _ = reader.communicate("stop\n", timeout=30)
    reads, mixed = map(int, answer.split())
    assert reads > 20
    assert mixed == 0


# Holds the folder, as a reader that opens a dataset does, and compares what it finds inside.
READER = """
import os, select, sys
print("reading", flush=True)
reads = mixed = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    folder = os.open(sys.argv[1], os.O_RDONLY)
    def text(name):
        with open(name, opener=lambda path, flags: os.open(path, flags, dir_fd=folder)) as file:
            return file.read()
    mixed += text("manifest.json") != text("orders.parquet/part-00000.parquet")
    os.close(folder)
    reads += 1
print(reads, mixed)
"""


# --- what the disk refuses ---


@pytest.mark.parametrize(
    ("code", "what"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "input/output error"),
        (errno.ENOENT, "not there"),
        (errno.EXDEV, "another file system"),
    ],
)
def test_what_the_system_refuses_is_said_with_place_and_remedy(code: int, what: str) -> None:
    """Each refusal is one sentence with what and where, and one with what to do; exit code 7."""
    with (
        pytest.raises(StorageError) as caught,
        durable.storage_errors("writing the manifest", Path("/data/o")),
    ):
        raise OSError(code, os.strerror(code))
    assert caught.value.what.startswith("/data/o: writing the manifest failed: ")
    assert what in caught.value.what
    assert caught.value.hint.endswith(".")
    assert caught.value.exit_code == 7


def test_an_unknown_refusal_keeps_its_own_words() -> None:
    """An error number without a sentence of ours is told in the system's words."""
    with pytest.raises(StorageError) as caught, durable.storage_errors("writing", Path("o")):
        raise OSError(errno.EBADMSG, "Bad message")
    assert caught.value.what == "o: writing failed: Bad message."
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("error", [TimeoutError("slow"), ConnectionResetError("reset"), ValueError("a bug")])
def test_what_is_not_storage_passes(error: Exception) -> None:
    """Timeouts, broken connections and mistakes of ours are not blamed on the disk."""
    with pytest.raises(type(error)), durable.storage_errors("asking", Path("o")):
        raise error


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    connection.execute("CREATE TABLE kept (payload BLOB)")
    yield connection
    connection.close()


def test_a_full_store_is_named(store: sqlite3.Connection, tmp_path: Path) -> None:
    """SQLite's own 'full' is a full disk to us."""
    store.execute("PRAGMA max_page_count = 2")
    with pytest.raises(StorageError, match="disk is full"), durable.storage_errors("committing", tmp_path):
        store.execute("INSERT INTO kept VALUES (zeroblob(100000))")


def test_a_read_only_store_is_named(store: sqlite3.Connection, tmp_path: Path) -> None:
    """A store that may not be written says so."""
    store.execute("PRAGMA query_only = 1")
    with pytest.raises(StorageError, match="read-only"), durable.storage_errors("committing", tmp_path):
        store.execute("INSERT INTO kept VALUES (NULL)")


def test_a_store_that_vanished_is_named(store: sqlite3.Connection, tmp_path: Path) -> None:
    """A store whose file was removed meanwhile is not said to be read-only."""
    (tmp_path / "store.db").unlink()
    with (
        pytest.raises(StorageError, match="moved or removed"),
        durable.storage_errors("committing", tmp_path),
    ):
        store.execute("INSERT INTO kept VALUES (NULL)")


def test_another_programs_file_is_no_store(tmp_path: Path) -> None:
    """A file that SQLite did not write is refused by name."""
    path = tmp_path / "store.db"
    path.write_bytes(b"order_number\n" * 1000)
    connection = sqlite3.connect(path)
    with pytest.raises(StorageError, match="not a store"), durable.storage_errors("opening the store", path):
        connection.execute("SELECT * FROM sqlite_master")
    connection.close()


def test_a_store_in_a_vanished_folder_is_named(tmp_path: Path) -> None:
    """A store that cannot be opened says so."""
    path = tmp_path / "gone" / "store.db"
    with pytest.raises(StorageError, match="cannot be opened"), durable.storage_errors("opening", path):
        sqlite3.connect(path)


def test_a_corrupt_store_is_named(store: sqlite3.Connection, tmp_path: Path) -> None:
    """Overwritten pages are recognised, never half-used."""
    store.execute("INSERT INTO kept VALUES (zeroblob(50000))")
    store.close()
    path = tmp_path / "store.db"
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 40000)
    again = sqlite3.connect(path)
    with pytest.raises(StorageError, match="corrupt"), durable.storage_errors("reading the store", path):
        again.execute("SELECT * FROM kept").fetchall()
    again.close()


def test_any_kind_of_input_output_error_is_the_disks(tmp_path: Path) -> None:
    """SQLite's extended codes, such as a failed fsync, are understood by their primary code."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    with pytest.raises(StorageError, match="input/output"), durable.storage_errors("committing", tmp_path):
        raise error


def test_a_mistake_in_our_sql_is_a_bug_not_a_disk(store: sqlite3.Connection, tmp_path: Path) -> None:
    """A missing table is no fault of the disk's."""
    with pytest.raises(sqlite3.OperationalError), durable.storage_errors("reading", tmp_path):
        store.execute("SELECT * FROM nowhere")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@on_linux
def test_a_full_disk_is_named_and_leaves_what_stood_there(small_disk: Path) -> None:
    """On a disk that really is full, our own writes, pyarrow's and SQLite's say so, and nothing is torn."""
    path = small_disk / "manifest.json"
    path.write_bytes(b"old")
    with pytest.raises(StorageError, match="disk is full"), durable.storage_errors("writing", path):
        durable.write_bytes(path, bytes(1_000_000))
    with pytest.raises(StorageError, match="disk is full"), durable.storage_errors("writing", small_disk):
        pq.write_table(pa.table({"a": [os.urandom(1_000_000)]}), small_disk / "orders.parquet")
    for left in (0, 16_384, 100_000):  # no room for the store, for its -shm, for its -wal
        with pytest.raises(StorageError, match="disk is full"), durable.storage_errors("opening", small_disk):
            fill_a_store(small_disk, left)
    assert path.read_bytes() == b"old"
    assert not list(small_disk.glob("*.partial")) + list(small_disk.glob("*.parquet"))


def fill_a_store(disk: Path, left: int) -> None:
    for old in disk.glob("store.db*"):
        old.unlink()
    (disk / "filler").unlink(missing_ok=True)
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - left))
    connection = sqlite3.connect(disk / "store.db", isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE kept AS SELECT zeroblob(200000) AS payload")
    finally:
        connection.close()

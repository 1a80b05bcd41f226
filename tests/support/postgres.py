"""A PostgreSQL database for one test, by the system's own programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _find_postgres() -> Path | None:
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path("/usr/local/bin")]
    on_path = shutil.which("initdb")
    folders += [Path(on_path).parent] if on_path else []
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def _as_plain_user(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.name == "posix" and os.geteuid() == 0:
        return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    return command


@contextmanager
def single_user_postgres() -> Iterator[tuple[list[str], Path]]:
    """Give the command that runs SQL from standard input in a database without a server, and a folder that it reads."""
    binaries = _find_postgres()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: no initdb in /usr/lib/postgresql, /usr/local/bin or PATH")
    folder = Path(tempfile.mkdtemp(prefix="exporter-pg-"))
    folder.chmod(0o777)  # the plain user writes here, and cannot look into pytest's own folders
    data = folder / "data"
    init = [
        str(binaries / "initdb"),
        "-D",
        str(data),
        "-E",
        "UTF8",
        "--locale=C",
        "-U",
        "postgres",
        "--no-sync",
    ]
    try:
        subprocess.run(_as_plain_user(init), check=True, capture_output=True, cwd=folder, timeout=60)
        yield (
            _as_plain_user([str(binaries / "postgres"), "--single", "-j", "-D", str(data), "postgres"]),
            folder,
        )
    finally:
        shutil.rmtree(folder)


@contextmanager
def running_postgres() -> Iterator[str]:
    """Give the address of a server of its own, on a socket in a temporary folder."""
    binaries = _find_postgres()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: no initdb in /usr/lib/postgresql, /usr/local/bin or PATH")
    folder = Path(tempfile.mkdtemp(prefix="exporter-pg-"))
    folder.chmod(0o777)
    data = str(folder / "data")
    init = [str(binaries / "initdb"), "-D", data, "-E", "UTF8", "--locale=C", "-U", "postgres", "--no-sync"]
    control = [str(binaries / "pg_ctl"), "-D", data, "-w", "-t", "60"]
    options = (
        f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c full_page_writes=off"
    )

    def run(command: list[str]) -> None:
        subprocess.run(_as_plain_user(command), check=True, capture_output=True, cwd=folder, timeout=90)

    try:
        run(init)
        run([*control, "-o", options, "-l", str(folder / "log"), "start"])
        try:
            yield f"postgresql:///postgres?host={folder}&user=postgres"
        finally:
            run([*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder)

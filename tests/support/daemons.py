"""Programs of the system that serve on a port: proxies and web servers, each for the length of a block."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import wait_until

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_names = itertools.count()


def needs(program: str) -> pytest.MarkDecorator:
    """Skip a test where a program is not installed."""
    return pytest.mark.skipif(
        shutil.which(program, path=_SBIN) is None, reason=f"{program} is not here; Debian: {program}"
    )


@contextmanager
def daemon(folder: Path, program: str, config: str, *words: str) -> Iterator[int]:
    """Run a program and yield the port that it serves on.

    Args:
        folder: For its configuration.
        program: Its name.
        config: Its configuration, with `PORT` and `FOLDER` in it.
        words: Its command line, before the file with the configuration.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    folder.mkdir(exist_ok=True)
    file = folder / f"{program}.conf"
    file.write_text(config.replace("PORT", str(port)).replace("FOLDER", str(folder)))
    path = shutil.which(program, path=_SBIN)
    assert path is not None
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([path, *words, file if config else str(port)], stdout=log, stderr=log) as process,
    ):
        try:
            wait_until(lambda: _serves(port) or process.poll() is not None)
            assert process.poll() is None, (folder / "log").read_text()
            yield port
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _serves(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def tinyproxy(folder: Path, more: str = "") -> contextlib.AbstractContextManager[int]:
    """Run a forward proxy that asks nobody for anything but what `more` says."""
    return daemon(folder, "tinyproxy", f"Port PORT\nListen 127.0.0.1\nMaxClients 50\n{more}\n", "-d", "-c")


def squid(folder: Path, access: str) -> contextlib.AbstractContextManager[int]:
    """Run a forward proxy with one line of `http_access`."""
    config = f"""
        http_port 127.0.0.1:PORT
        http_access {access} all
        cache deny all
        cache_log /dev/null
        access_log none
        pid_filename none
        netdb_filename none
        pinger_enable off
        shutdown_lifetime 0 seconds
        coredump_dir none
        """
    name = f"tests{next(_names)}of{os.getpid()}"  # of what it shares between its processes
    return daemon(folder, "squid", config, "-N", "-n", name, "-f")


def nginx(folder: Path, server: str) -> contextlib.AbstractContextManager[int]:
    """Run a web server with one `server`, which listens on `PORT`."""
    config = f"""
        daemon off; master_process off; pid FOLDER/pid; error_log stderr;
        events {{}}
        http {{
            access_log off;
            client_body_temp_path FOLDER; proxy_temp_path FOLDER; fastcgi_temp_path FOLDER;
            uwsgi_temp_path FOLDER; scgi_temp_path FOLDER;
            server {{ {server} }}
        }}
        """
    return daemon(folder, "nginx", config, "-e", "stderr", "-c")


def haproxy(folder: Path, bind: str) -> contextlib.AbstractContextManager[int]:
    """Run a load balancer with one `bind` line, which has nobody behind it."""
    config = f"""
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend one
    bind 127.0.0.1:PORT {bind}
    http-request return status 503
"""
    return daemon(folder, "haproxy", config, "-db", "-f")

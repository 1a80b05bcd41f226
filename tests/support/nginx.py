"""nginx before a server, with `limit_req` as its manual shows it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_CONF = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 256; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  limit_req_zone $binary_remote_addr zone=api:1m rate={per_s}r/s;
  server {{
    listen 127.0.0.1:{port};
    location / {{ limit_req zone=api burst={burst} nodelay; proxy_pass {url}; proxy_http_version 1.1; }}
  }}
}}
"""


@contextmanager
def nginx_before(url: str, folder: Path, *, per_s: int, burst: int) -> Iterator[tuple[str, Path]]:
    """Run nginx for the length of the block; give its URL and its access log, a line for each request."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not here; Debian: nginx")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    conf = folder / "nginx.conf"
    conf.write_text(_CONF.format(folder=folder, port=port, url=url, per_s=per_s, burst=burst))
    # As root it would serve as another user, who cannot write here.
    told = ["-g", "user root;"] if Path("/proc/self").owner() == "root" else []
    with subprocess.Popen([program, "-c", str(conf), *told], stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 20
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert process.poll() is None
                assert time.monotonic() < deadline, "nginx did not start"
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}", folder / "access.log"
        finally:
            process.terminate()

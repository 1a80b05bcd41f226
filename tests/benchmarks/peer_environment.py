"""The peers' own virtual environment: made once, in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

from tests.benchmarks.measure import HERE, note

_REQUIREMENTS = HERE / "peers" / "requirements.txt"
_SHOWN = ("aiohttp", "dlt", "pandas", "pyarrow", "pycurl", "requests", "Scrapy")


def python() -> str | None:
    """Return the peers' interpreter if their environment is there, else None."""
    return str(_python(_folder())) if _mark(_folder()).exists() else None


def make() -> str:
    """Make the environment where it is not there yet, and return its interpreter."""
    folder = _folder()
    if not _mark(folder).exists():
        note(f"Installing the peers into {folder} (once; about a minute) ...")
        venv.create(folder, clear=True, with_pip=True)
        command = [str(_python(folder)), "-m", "pip", "install", "--quiet", "-r", str(_REQUIREMENTS)]
        subprocess.run(command, check=True)
        _mark(folder).touch()
    return str(_python(folder))


def versions(interpreter: str) -> dict[str, str]:
    """Return the version of each peer's package."""
    program = (
        "import json, sys; from importlib.metadata import version;"
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    told = subprocess.run([interpreter, "-c", program, *_SHOWN], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(told.stdout)
    return found


def _folder() -> Path:
    """Return the folder, another one for other requirements or another Python."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(_REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    return cache / "omnitron-exporter" / f"peers-{key}"


def _mark(folder: Path) -> Path:
    return folder / "complete"


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

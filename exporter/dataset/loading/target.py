"""What a load's target names: `postgresql://…`, `duckdb:FILE` or `sqlite:FILE`, never with a password in it."""

import re
from urllib.parse import unquote

from exporter.model.errors import UsageError
from exporter.system.extras import need_extra

#: The module that each kind needs, and the extra that brings it.
_NEEDED = {
    "postgresql": ("adbc_driver_postgresql", "postgres"),
    "postgres": ("adbc_driver_postgresql", "postgres"),
    "duckdb": ("duckdb", "duckdb"),
    "sqlite": ("sqlite3", ""),
}


def kind_of(target: str) -> str:
    """Return the target's kind: `postgresql`, `duckdb` or `sqlite`.

    A `UsageError` where it names no database, has a password in it, or needs an extra.
    """
    kind, _, rest = target.partition(":")
    is_postgres = kind.startswith("postgres")
    if kind not in _NEEDED or not rest or (is_postgres and not rest.startswith("//")):
        got = kind if rest and kind.isalnum() else "something else"
        what = f"expected postgresql://…, duckdb:FILE or sqlite:FILE as the target of a load, got {got}."
        raise UsageError(what, "Write for example sqlite:shop.db.")
    place, _, query = target.partition("?")
    if is_postgres and (re.search(r"//[^@]*:.*@", place) or "password" in unquote(query).lower()):
        what = "the target of the load has a password in it, where logs and other users of this machine can see it."
        raise UsageError(what, "Leave it out: set PGPASSWORD, or use ~/.pgpass or a service file.")
    module, extra = _NEEDED[kind]
    need_extra(f"{kind}:…", extra, module)
    return "postgresql" if is_postgres else kind

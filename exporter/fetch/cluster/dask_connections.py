"""Dask's own connections as the rest of the engine sees them: messages of bytes, with types."""

from __future__ import annotations

from typing import Any, Protocol

import distributed.comm as _untyped

_comm: Any = _untyped
#: Raised, as every `OSError`, where the other side has gone.
CommClosedError: type[OSError] = _comm.CommClosedError


class Wire(Protocol):
    """One open connection."""

    async def read(self) -> bytes:
        """Return the next message; cancelled in the middle of one, the connection is of no more use."""

    async def write(self, message: bytes) -> int:
        """Send a message."""

    async def close(self) -> None:
        """Send what is left, then close."""

    def abort(self) -> None:
        """Close at once."""

    def closed(self) -> bool:
        """Return whether it is closed."""


async def connected(address: str, timeout_s: float, args: dict[str, Any]) -> Wire:
    """Connect.

    Args:
        address: As `tcp://10.0.0.5:8786`.
        timeout_s: Seconds to try.
        args: What Dask's security wants, for TLS.

    Raises:
        OSError: Nobody answers.
    """
    wire: Wire = await _comm.connect(address, timeout=timeout_s, deserialize=False, **args)
    return wire


def listener(address: str, serve: Any, args: dict[str, Any]) -> Any:
    """Return an async context manager that listens, with `contact_address`; `serve` gets each connection."""
    return _comm.listen(address, serve, deserialize=False, **args)


def scheme_and_host(address: str) -> tuple[str, str]:
    """Return `tcp` and `10.0.0.5` of `tcp://10.0.0.5:8786`."""
    return str(_comm.parse_address(address)[0]), str(_comm.get_address_host(address))

"""Who we are to the API: a token that was given, or one that a login brings."""

from __future__ import annotations

import asyncio
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgspec

from exporter.errors import ThrottledError, TokenRefusedError, TransientError, UsageError
from exporter.options import Options
from exporter.pace import Pace
from exporter.rate import parse_retry_after

LOGIN_PATH = "/api/i1/auth/login/"
_LOGIN_TIMEOUT_S = 30.0
_READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class _LoginAnswer(msgspec.Struct):
    key: str


class Identity:
    """The token of one export. With a login, a 401 in mid-run is answered by one new login.

    Args:
        options: Holds the token, the token file, or the user name and password.
        pace: Gives a login its slot.

    Raises:
        UsageError: The token file cannot be read, is empty, or others can read it.
    """

    def __init__(self, options: Options, pace: Pace) -> None:
        self._pace = pace
        self._login_url = options.api_url + LOGIN_PATH
        self._username, self._password = options.username, options.password
        self._header = _header(token_of(options))
        self._proven = False
        self._login = asyncio.Lock()

    async def header(self, session: aiohttp.ClientSession) -> str:
        """Return the value of the Authorization header, after a login where one is needed."""
        if self._header is None:
            await self._log_in(session, refused=None)
        assert self._header is not None
        return self._header

    def accepted(self, header: str) -> None:
        """Note that the API took this token, so that a later 401 means that it has expired."""
        if not self._proven and header == self._header:
            self._proven = True

    async def renewed(self, session: aiohttp.ClientSession, *, refused: str) -> str:
        """Return another token than the refused one.

        Raises:
            TokenRefusedError: There is no login, or its fresh token was refused too.
        """
        await self._log_in(session, refused=refused)
        assert self._header is not None
        return self._header

    async def _log_in(self, session: aiohttp.ClientSession, *, refused: str | None) -> None:
        async with self._login:
            if self._header != refused:
                return  # another worker has logged in meanwhile
            if refused is not None and not self._proven:
                raise self._refused("401")
            self._header = _header(await self._token(session))
            self._proven = False

    async def _token(self, session: aiohttp.ClientSession) -> str:
        if self._username is None:
            raise self._refused("401")
        await self._pace.slot()
        try:
            return await self._posted(session)
        except (aiohttp.ClientError, TimeoutError, OSError):
            raise TransientError("the login was not answered") from None

    async def _posted(self, session: aiohttp.ClientSession) -> str:
        async with session.post(
            self._login_url,
            json={"username": self._username, "password": self._password},
            allow_redirects=False,
            middlewares=(),
            timeout=aiohttp.ClientTimeout(total=_LOGIN_TIMEOUT_S),
        ) as response:
            if response.status == 429:
                wait_s = parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
                raise ThrottledError("the login was answered 429", wait_s)
            if response.status >= 500:
                raise TransientError(f"the login was answered {response.status}", response.status)
            if response.status != 200:
                raise self._refused(str(response.status))
            try:
                return msgspec.json.decode(await response.read(), type=_LoginAnswer).key
            except msgspec.MsgspecError:
                raise self._refused("200 without a key") from None

    def _refused(self, answer: str) -> TokenRefusedError:
        what = "the login" if self._username else "the token"
        return TokenRefusedError(
            f"{self._login_url.removesuffix(LOGIN_PATH)}: the API refused {what} ({answer}).",
            "Check it, then run the same command again: it goes on where it stopped.",
        )


def _header(token: str | None) -> str | None:
    return None if token is None else f"Token {token}"


def token_of(options: Options) -> str | None:
    """Return the token as given or as the token file has it; None where a login must bring one.

    Raises:
        UsageError: The token file cannot be read, is empty, or others can read it.
    """
    if options.token is not None or options.token_file is None:
        return options.token
    path = Path(options.token_file)
    try:
        mode = path.stat().st_mode
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeError):
        raise UsageError(
            f"--token-file {path}: it cannot be read as text.", "Give a file that holds the token."
        ) from None
    if os.name == "posix" and mode & _READABLE_BY_OTHERS:
        raise UsageError(f"--token-file {path}: others can read it.", f"Run: chmod 600 {path}")
    if not text or not text.isprintable() or " " in text:
        raise UsageError(f"--token-file {path}: expected one token.", "Write the token alone into it.")
    return text

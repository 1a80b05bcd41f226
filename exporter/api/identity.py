"""Who we are to the API: a token that was given, or one that a login brings."""

import asyncio

import msgspec

from exporter.api.aiohttp_errors import FOREIGN, limit_of, proxys_refusal, translated
from exporter.api.credentials import token_of
from exporter.api.pace import Gate
from exporter.api.transport import Response, Sending, Transport
from exporter.model.errors import ExporterError, ThrottledError, TokenRefusedError, TransientError
from exporter.model.options import Options, is_token

LOGIN_PATH = "/api/i1/auth/login/"
_LARGEST_ANSWER = 64 * 1024


class _LoginAnswer(msgspec.Struct):
    key: str


class Identity:
    """The token of one export. With a login, a 401 during the run is answered by one new login, in a slot of the pace.

    `header` is the value of the Authorization header, None until the first login. Where the API has `answered`, a
    refused certificate is an outage.
    """

    def __init__(self, options: Options, pace: Gate, *, answered: bool) -> None:
        self._pace, self._api_url, self._timeout_s = pace, options.api_url, options.timeout_s
        self._username, self._password = options.username, options.password
        token = token_of(options)
        self.header = None if token is None else f"Token {token}"
        self._proven, self.answered = False, answered
        self._one_login = asyncio.Lock()
        self._refused_with: str | None = None

    def accepted(self, header: str) -> None:
        """Note that the API took this token, so that a later 401 means that it has expired."""
        if not self._proven and header == self.header:
            self._proven = self.answered = True

    async def log_in(self, transport: Transport, *, refused: str | None) -> None:
        """Get another token than the refused one, or the first.

        Raises:
            TokenRefusedError: The API refuses the login, there is none, or the refused token never worked.
            AttemptError: The login had no answer, or one that may be another next time.
            ApiUnavailableError: The API's certificate is refused from the start, or it asks for too long a wait.
        """
        async with self._one_login:
            if self.header != refused:
                return  # another worker has logged in meanwhile
            if self._refused_with is not None:
                # Those who waited for the lock must not try the same password again: accounts get locked.
                raise self.refusal(self._refused_with)
            if self._username is None or (refused is not None and not self._proven):
                raise self.refusal("401")
            await self._pace.slot()
            self.header = f"Token {await self._token(transport)}"
            self._proven = False

    def refusal(self, answer: str) -> TokenRefusedError:
        """Return the error that says that the API took neither token nor login, but gave an `answer` such as `401`."""
        what = "the token" if self._username is None else "the login"
        return TokenRefusedError(
            f"{self._api_url}: the API refused {what} ({answer}).",
            "Check it, then run the same command again.",
            resumes=True,
        )

    async def _token(self, transport: Transport) -> str:
        login = msgspec.json.encode({"username": self._username, "password": self._password})
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await transport.exchange(transport.base_path + LOGIN_PATH, None, Sending(), login)
                try:
                    if response.status != 200:
                        raise self._verdict(response)
                    body = b""
                    while len(body) <= _LARGEST_ANSWER and (chunk := await response.body.readany()):
                        body += chunk  # `read` has no bound of its own
                    return self._key(body)
                finally:
                    response.release()
        except FOREIGN as error:
            raise translated(
                error, self._timeout_s, answered=self.answered, proxied=transport.proxied
            ) from None

    def _verdict(self, response: Response) -> ExporterError:
        if (refusal := proxys_refusal(response)) is not None:
            return refusal
        status = response.status
        if status == 429:
            _, wait_s = limit_of(response)
            self._pace.throttled(wait_s)
            return ThrottledError("the login was answered 429", wait_s)
        if status == 408 or status >= 500:
            return TransientError(f"the login was answered {status}", status)
        self._refused_with = str(status)
        return self.refusal(self._refused_with)

    def _key(self, body: bytes) -> str:
        try:
            key = msgspec.json.decode(body, type=_LoginAnswer).key
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            key = None
        if key is None or not is_token(key):
            self._refused_with = f"200 with{'out a key' if key is None else ' a key that is not a token'}"
            raise self.refusal(self._refused_with)
        return key

"""Every error that this package raises on purpose, as one tree, each with its exit code.

ExporterError
├── UsageError              2    options, configuration or input that cannot work
│   └── InputError          2    the file of order numbers cannot be read
├── TooManyRejectsError     4    nothing was published
├── TooFewOrdersError       4    fewer orders than were to be expected; nothing was published
├── DriftError              4    fields fit no column, and the run was to fail then
├── TokenRefusedError       5    the API answered 401
├── ApiUnavailableError     6    the API does not answer, or asks for too long a wait
├── StorageError            7    disk full, no permission, a corrupt store
├── LockedError             8    another run holds the work directory or the store
├── InterruptedRunError     130, 143   SIGINT or SIGTERM
└── AttemptError            one request for one order failed; never leaves `refresh`
    ├── TransientError      worth another attempt
    │   ├── BadResponseError    200 with a body that may be whole next time
    │   └── HopelessError       waiting cannot help: the host name does not exist
    ├── ThrottledError      429, or another limit: the whole pace waits, no attempt is counted
    └── PermanentError      never asked again; carries the reject reason
"""

import re

from exporter.model.outside_text import visible

_FLAG = re.compile(r"--([a-z]+(?:-[a-z]+)*)")
#: Flags whose argument is not called like them.
RENAMED = {"filter": "filters", "format": "formats", "timeout": "timeout_s"}


class ExporterError(Exception):
    """Base of every error of this package.

    `what` is one sentence: what happened and where; `hint` is another, what to do about it, with options as on the
    command line: `--out`. `option` is the one it speaks of, by its name in Python, and `value` its value where that
    tells more. `resumes` has the hint add that a run resumes; what keeps nothing builds its error without.

    Attributes:
        out: Where the dataset of the failed run was to be, with `{date}` and `{time}` filled in; None where
            that was not known yet. The same options with this `out` resume the run.
        command: The command that helps, where it is not the same one again.
    """

    exit_code = 1
    out: str | None = None
    command: str | None = None

    def __init_subclass__(cls, *, exit_code: int | None = None) -> None:
        if exit_code is not None:
            cls.exit_code = exit_code

    def __init__(
        self,
        what: str,
        hint: str = "",
        *,
        option: str | None = None,
        value: object = None,
        resumes: bool = False,
    ) -> None:
        self.problem, self.advice = what, hint = visible(what), visible(hint)
        super().__init__(what, hint)
        self.flag_hint = f"{hint.removesuffix('.')} to resume." if resumes else hint
        self.option, self.value = option, value

    @property
    def what(self) -> str:
        """What happened and where; options have their names in Python."""
        return _in_python(self.what_of(self.option))

    def what_of(self, place: str | None) -> str:
        """Return what happened, where the option it speaks of is called `place`."""
        if place is None:
            return self.problem
        value = "" if self.value is None else f" {self.value}"
        return visible(f"{place}{value}: {self.problem}")

    @property
    def hint(self) -> str:
        """What to do about it; an option has its name in Python, as `out`. `flag_hint` has its flag."""
        return _in_python(self.flag_hint)

    def __str__(self) -> str:
        return f"{self.what} {self.hint}".rstrip()


def _in_python(text: str) -> str:
    return _FLAG.sub(lambda found: f"`{RENAMED.get(found[1], found[1].replace('-', '_'))}`", text)


class UsageError(ExporterError, exit_code=2):
    """Raised when options or configuration cannot work; nothing was created."""


#: One of our errors as a process tells its parent of it: type name, exit code, problem, hint, option.
ToldError = tuple[str, int, str, str, str | None]


def told(error: ExporterError) -> ToldError:
    """Return what another process makes this error again from."""
    return type(error).__name__, error.exit_code, error.problem, error.flag_hint, error.option


def error_of(name: str, exit_code: int, problem: str, hint: str, option: str | None) -> ExporterError:
    """Return the error that another process has told of."""
    error: ExporterError = globals().get(name, ExporterError)(problem, hint)
    error.exit_code, error.option = exit_code, option
    return error


class InputError(UsageError):
    """Raised when the file of order numbers cannot be read; nothing was created."""


class TooManyRejectsError(ExporterError, exit_code=4):
    """Raised when more orders were rejected than `max_rejects` allows; nothing was published.

    With `allow` as `max_rejects`, the same command continues.
    """

    def __init__(self, what: str, hint: str = "", allow: str = "100%") -> None:
        super().__init__(what, hint)
        self.allow = allow


class TooFewOrdersError(ExporterError, exit_code=4):
    """Raised when there are fewer orders than `expect_orders` says; nothing was published."""


class DriftError(ExporterError, exit_code=4):
    """Raised when fields or values fit no column and `on_drift` is `fail`; nothing was published."""


class TokenRefusedError(ExporterError, exit_code=5):
    """Raised when the API answers 401."""


class ApiUnavailableError(ExporterError, exit_code=6):
    """Raised when the API, or the cluster, does not answer, or asks for a longer wait than we accept."""


class StorageError(ExporterError, exit_code=7):
    """Raised when the disk, its permissions or the store fail."""


class LockedError(ExporterError, exit_code=8):
    """Raised when another run holds the work directory or the store."""


class InterruptedRunError(ExporterError):
    """Raised when a signal stopped the run, SIGINT or SIGTERM; what was fetched is kept."""

    def __init__(self, signal_number: int, what: str, hint: str = "") -> None:
        super().__init__(what, hint)
        self.exit_code = 128 + signal_number


class AttemptError(ExporterError):
    """Base of the failures of one attempt; says what the API did without the token and without personal data.

    Its HTTP status is None without an answer; `page` says what kind of page came, where it was one for people.
    `by_proxy` tells that it is a proxy's failure, and says nothing of the API.
    """

    reason = "unavailable"
    page = ""

    def __init__(self, what: str, http_status: int | None = None, *, by_proxy: bool = False) -> None:
        super().__init__(what)
        self.http_status, self.by_proxy = http_status, by_proxy

    @property
    def detail(self) -> str:
        """What the API did, and the page that came."""
        return f"{self.what} ({self.page})" if self.page else self.what


class TransientError(AttemptError):
    """Raised when the same request may succeed later: 408, 5xx, reset, timeout, cut body."""


class BadResponseError(TransientError):
    """Raised for a 200 that is HTML, or cut or broken JSON."""

    reason = "bad_response"


class HopelessError(TransientError):
    """Raised where waiting cannot help, as for a host name that does not exist."""


class ThrottledError(AttemptError):
    """Raised for a 429, and for another refusal that is a limit.

    `retry_after_s` is None where the API did not say how long to wait; `is_guess` where nothing says that it is
    a limit but the good answers around it; `is_stray` where it is too rare to slow everybody.
    """

    def __init__(
        self,
        what: str,
        retry_after_s: float | None,
        http_status: int = 429,
        *,
        is_guess: bool = False,
        is_stray: bool = False,
    ) -> None:
        super().__init__(what, http_status)
        self.retry_after_s, self.is_guess, self.is_stray = retry_after_s, is_guess, is_stray


class PermanentError(AttemptError):
    """Raised when asking again cannot help; the reason is one of `REJECT_REASONS`."""

    def __init__(self, reason: str, what: str, http_status: int | None = None) -> None:
        super().__init__(what, http_status)
        self.reason = reason

"""The token, the certificate and the authorities that were given, each perhaps in a file of its own."""

import os
import ssl
from functools import partial
from pathlib import Path

from exporter.model.errors import UsageError
from exporter.model.options import Options, is_token
from exporter.system.private_files import OTHERS_READ, fault_of

#: Besides OpenSSL's own SSL_CERT_FILE and SSL_CERT_DIR; requests and curl read these, in this order.
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def token_of(options: Options) -> str | None:
    """Return the token, given or in its file, None where a login must bring one; a `UsageError` for an unfit file."""
    if options.token is not None or options.token_file is None:
        return options.token
    path = Path(options.token_file)
    refused = partial(UsageError, option="token_file", value=path)
    try:
        with path.open(encoding="ascii") as file:
            found = os.fstat(file.fileno())
            text = file.read().strip()
    except (OSError, UnicodeError):
        raise refused("it cannot be read as text.", "Give a file that holds the token.") from None
    if _others_can_read(found, path):
        raise refused("others can read it.", f"Run: chmod 600 {path}")
    if not is_token(text):
        raise refused("expected one token.", "Write the token alone into it.")
    return text


def trust_of(options: Options) -> ssl.SSLContext | bool:
    """Return what TLS connections are made with, True for what this machine trusts; a `UsageError` for unfit files."""
    variable = next((name for name in _BUNDLES if os.environ.get(name)), None)
    if not (variable or options.ca_file or options.client_cert):
        return True
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if variable:
        _add_authorities(context, os.environ[variable], variable)
    if options.ca_file:
        _add_authorities(context, options.ca_file)
    if options.client_cert:
        _add_certificate(context, options.client_cert, options.client_key)
    return context


def _add_authorities(context: ssl.SSLContext, place: str, variable: str | None = None) -> None:
    """Add those of a PEM file or a directory, given by a variable or by the option."""
    path, problem = Path(place), None
    try:
        if not path.is_dir():
            context.load_verify_locations(path)
        elif not sum([_is_added(context, file) for file in sorted(path.iterdir())]):
            problem = "expected PEM certificates: no file in it is one"
    except ssl.SSLError as error:
        problem = f"expected PEM certificates: {error}"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    if problem is not None:
        hint = "Give a readable PEM file, or a directory of them."
        if variable:
            raise UsageError(f"{variable}: {place}: {problem}.", hint)
        raise UsageError(f"{problem}.", hint, option="ca_file", value=place)


def _is_added(context: ssl.SSLContext, file: Path) -> bool:
    """Add the certificates of a file in a directory, where others may lie beside them."""
    try:
        context.load_verify_locations(file)
    except OSError:
        return False
    return True


def _add_certificate(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    option = "client_key" if key else "client_cert"
    path = Path(key or certificate)
    try:
        if _others_can_read(path.stat(), path):
            raise UsageError("others can read it.", f"Run: chmod 600 {path}", option=option, value=path)
        # Without a password, OpenSSL asks the terminal for one.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"expected a PEM certificate and its key without a password: {error}.",
            "Give readable PEM files with --client-cert and --client-key.",
            option="client_cert",
            value=certificate,
        ) from None


def _others_can_read(found: os.stat_result, path: Path) -> bool:
    """Return whether somebody else can read the file of a secret."""
    # systemd.exec(5): what it hands over may show a mode of 0440, and a list that names this user alone.
    handed_over = os.environ.get("CREDENTIALS_DIRECTORY")
    if handed_over and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(handed_over)):
        return False
    owners = frozenset({found.st_uid})  # whoever wrote it
    fault = fault_of(found, path.absolute(), forbidden=OTHERS_READ, owners=owners)
    return fault is not None and bool(found.st_mode & OTHERS_READ)

"""Whose certificate the API may show, and which one we show it."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from exporter.api.credentials import others_can_read
from exporter.model.errors import UsageError
from exporter.model.options import Options

#: Besides OpenSSL's own SSL_CERT_FILE and SSL_CERT_DIR; requests and curl read these, in this order.
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def trust_of(options: Options) -> ssl.SSLContext | bool:
    """Return what TLS connections are made with; True for what this machine trusts, and nothing else.

    Raises:
        UsageError: A file is no PEM file, or others can read the key.
    """
    variable = next((name for name in _BUNDLES if os.environ.get(name)), None)
    if not (variable or options.ca_file or options.client_cert):
        return True
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if variable:
        _add_authorities(context, os.environ[variable], f"{variable}: ", None)
    if options.ca_file:
        _add_authorities(context, options.ca_file, "", "ca_file")
    if options.client_cert:
        _show(context, options.client_cert, options.client_key)
    return context


def _add_authorities(context: ssl.SSLContext, place: str, prefix: str, option: str | None) -> None:
    path, added, problem = Path(place), 0, "no file in it is one"
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        try:
            context.load_verify_locations(file)
            added += 1
        except (OSError, ssl.SSLError) as error:  # in a directory other files may lie beside them
            problem = problem if path.is_dir() else str(error)
    if not added:
        where = "" if option else f" in {place}"
        raise UsageError(
            f"{prefix}expected PEM certificates{where}: {problem}.",
            "Give a readable PEM file, or a directory of them.",
            option=option,
            value=place if option else None,
        )


def _show(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    option = "client_key" if key else "client_cert"
    path = Path(key or certificate)
    try:
        if others_can_read(path.stat(), path):
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

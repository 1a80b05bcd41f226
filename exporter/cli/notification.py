"""The end of a run, posted to a URL: a chat's webhook, or a program of your own."""

import json
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from exporter.model.outside_text import visible
from exporter.system.log import log

_LONGEST_S = 10.0


def notify(url: str | None, text: str, facts: dict[str, Any]) -> None:
    """Post what `--json` prints, with `text` for chats that show that (as Slack does); a failure is a line in the log.

    What fitted no column is counted: its paths may be personal.
    """
    if url is None:
        return
    told = facts | ({"drift": {"*": sum(facts["drift"].values())}} if facts.get("drift") else {})
    body = json.dumps({"text": visible(text)} | told).encode()
    failures: list[str] = []
    # A thread, for the whole of it: `timeout` is for each read alone, and a name server may never answer.
    posting = Thread(target=_post, args=(url, body, failures), name="notify", daemon=True)
    posting.start()
    posting.join(_LONGEST_S)
    if posting.is_alive():
        failures.append(f"no answer within {_LONGEST_S:.0f} s")
    if failures:
        log.warning("--notify: %s: %s.", urlsplit(url).hostname, failures[0].rstrip("."))


def _post(url: str, body: bytes, failures: list[str]) -> None:
    try:
        request = Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - http or https alone
        with urlopen(request, timeout=_LONGEST_S):  # noqa: S310 - http or https alone
            pass
    except (OSError, ValueError) as error:
        failures.append(str(getattr(error, "reason", None) or error))

"""The end of a run, posted to a URL: a chat's webhook, or a program of your own."""

import json
from http.client import HTTPException
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
    from exporter.system.stopping import in_thread

    told = facts | ({"drift": {"*": sum(facts["drift"].values())}} if facts.get("drift") else {})
    body = json.dumps({"text": visible(text)} | told).encode()
    # A thread, for the whole of it: `timeout` is for each read alone, and a name server may never answer.
    try:
        failure = in_thread(lambda: _post(url, body), "notify").result(_LONGEST_S)
    except TimeoutError:
        failure = f"no answer within {_LONGEST_S:.0f} s"
    if failure:
        log.warning("--notify: %s: %s.", urlsplit(url).hostname, failure.rstrip("."))


def _post(url: str, body: bytes) -> str:
    """Return what went wrong: the error itself would keep the connection open until it is collected."""
    try:
        request = Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - http or https alone
        urlopen(request, timeout=_LONGEST_S).close()  # noqa: S310 - http or https alone
    except HTTPException:
        return "its answer is not HTTP"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", None) or error)
    return ""

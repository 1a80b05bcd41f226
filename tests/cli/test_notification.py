"""`--notify`: how the run ended, posted to a URL, success or not."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Event, Thread
from typing import Any

import pytest

from tests.support.processes import Exporter


class Hook:
    """A webhook that keeps what is posted to it, and answers with a status, or not before `answers` is set."""

    def __init__(self, status: int) -> None:
        self.posted: list[dict[str, Any]] = []
        self.status = status
        self.answers = Event()
        self.url = ""


@contextmanager
def webhook(status: int = 200, *, silent: bool = False) -> Iterator[Hook]:
    hook = Hook(status)
    if not silent:
        hook.answers.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            hook.answers.wait()
            self.send_response(hook.status)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hook.url = f"http://127.0.0.1:{server.server_port}/services/s3cret"
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield hook
        finally:
            hook.answers.set()
            server.shutdown()


def test_the_end_of_a_run_is_posted(exporter: Exporter) -> None:
    """The object of `--json` with a sentence for chats; nothing of the token."""
    with webhook() as hook:
        ended = exporter.run("--notify", hook.url, "--json")
    (posted,) = hook.posted
    assert posted.pop("text") == "Order export: 60 of 60 orders, 0 rejects, to out"
    assert posted == ended.summary
    assert exporter.env["EXPORTER_API_TOKEN"] not in json.dumps(posted)


def test_a_failure_is_posted_too(exporter: Exporter) -> None:
    """Also one before the first request; the printed command hides the webhook's path."""
    with webhook() as hook:
        exporter.run("--rate", "often", "--notify", hook.url).said(2, "--rate")
        refused = exporter.run("--notify", hook.url, EXPORTER_API_TOKEN="wrong")
    refused.said(5)
    assert [posted["exit_code"] for posted in hook.posted] == [2, 5]
    assert hook.posted[1]["text"].startswith("Order export failed: ")
    assert hook.posted[1]["error"] in refused.err
    assert "s3cret" not in refused.err + json.dumps(hook.posted)


@pytest.mark.parametrize("status", [404, 500])
def test_a_hook_that_refuses_is_a_line_in_the_log(exporter: Exporter, status: int) -> None:
    """The run has succeeded all the same; the line names the host alone."""
    with webhook(status) as hook:
        ended = exporter.run("--notify", hook.url)
    assert ended.code == 0
    (line,) = [line for line in ended.err.splitlines() if "--notify" in line]
    assert "127.0.0.1" in line
    assert "s3cret" not in ended.err


def test_a_hook_that_refuses_leaves_no_connection_open() -> None:
    """What it answered is let go of at once, and not when somebody collects garbage."""
    from exporter.cli.notification import notify

    with webhook(404) as hook:
        notify(hook.url, "text", {})
    gc.collect()  # it warns of each socket that is still open


def test_a_hook_that_is_silent_holds_nobody(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a time-out the run ends as it would have."""
    from exporter.cli import notification

    monkeypatch.setattr(notification, "_LONGEST_S", 0.2)
    with webhook(silent=True) as hook:
        notification.notify(hook.url, "text", {})
    assert hook.posted == [{"text": "text"}]


def test_an_answer_that_is_no_http_is_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A port that speaks something else, such as SSH, is a hook that failed like any other."""
    from exporter.cli.notification import notify

    with ThreadingTCPServer(("127.0.0.1", 0), _Greeter) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        notify(f"http://127.0.0.1:{server.server_address[1]}/", "text", {})
        server.shutdown()
    assert "--notify: 127.0.0.1: its answer is not HTTP." in caplog.text
    assert capsys.readouterr().err == ""


class _Greeter(BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(65_536)
        self.request.sendall(b"SSH-2.0-demo\r\n")


def test_what_fitted_no_column_is_counted_alone() -> None:
    """The name of an unknown key may be somebody's address."""
    from exporter.cli.notification import notify

    with webhook() as hook:
        notify(hook.url, "text", {"drift": {"ayse@example.com": 2, "b": 1}})
    assert hook.posted == [{"text": "text", "drift": {"*": 3}}]


def test_what_is_no_url_is_refused(exporter: Exporter) -> None:
    """Before the first request."""
    exporter.run("--notify", "file:///etc/passwd").said(2, "--notify")

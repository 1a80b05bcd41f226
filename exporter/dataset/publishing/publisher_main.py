"""The publishing process: a job comes in on stdin, progress and the result go out on stdout, a JSON line each.

The parent says `over` when nothing more will be settled. When the parent dies, stdin ends, and so does
this process: staged files that nobody waits for are left to the next run, which removes them.
"""

import os
import sys
import threading

import msgspec

from exporter.dataset.publishing.publish_job import OVER, Message, PublishJob
from exporter.model.errors import ExporterError, told
from exporter.system import durable
from exporter.system.child_process import be_deaf, be_lean
from exporter.system.crash_place import crash_text

# The fetching process goes first: it keeps the API's pace, and this one always catches up.
_NICE = 5


def main() -> int:
    """Do the job on stdin; return 0 when the result was sent."""
    durable.process_role = "publisher"
    be_deaf()
    # What passed the fetching process must pass here, whatever the stack is like.
    sys.setrecursionlimit(10 * sys.getrecursionlimit())
    if hasattr(os, "nice"):
        os.nice(_NICE)
    # With pyarrow, once what it shall not import is settled.
    from exporter.dataset.publishing.staging import publish_tables

    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=PublishJob)
    over = threading.Event()
    threading.Thread(target=_listen, args=(over,), daemon=True).start()
    try:
        result = publish_tables(job, over.wait, lambda progress: _send(Message(progress=progress)), _cores())
    except ExporterError as error:
        _send(Message(error=told(error)))
        return error.exit_code
    _send(Message(result=result))
    return 0


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _listen(over: threading.Event) -> None:
    if sys.stdin.buffer.readline() != OVER:
        os._exit(1)  # the parent is gone; nothing here is worth finishing
    over.set()
    if not sys.stdin.buffer.readline():
        os._exit(1)


def _send(message: Message) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    be_lean()
    code = 1
    try:
        code = main()
    except Exception as error:
        sys.stderr.write(f"The publishing process broke: {crash_text(error)}.\n")
    finally:
        sys.stdout.flush()
        os._exit(code)  # a thread still reads stdin, which an orderly shutdown would wait for

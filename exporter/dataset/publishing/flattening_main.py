"""A flattening process: a job and its share come in on stdin, tables go out on stdout; it ends when nobody reads them."""

import sys

import msgspec

from exporter.dataset.publishing.publish_job import PublishJob
from exporter.system.child_process import be_deaf, be_lean
from exporter.system.crash_place import crash_text


def main() -> None:
    """Flatten its share."""
    be_deaf()
    # As in the publishing process.
    sys.setrecursionlimit(10 * sys.getrecursionlimit())
    # With pyarrow, once the process is lean.
    from exporter.dataset.publishing.block_flattening import Share, serve

    serve(*msgspec.json.decode(sys.stdin.buffer.readline(), type=tuple[PublishJob, Share]))


if __name__ == "__main__":
    be_lean()
    try:
        main()
    except BrokenPipeError:
        pass  # the publishing process is gone
    except Exception as error:
        sys.exit(f"A flattening process broke: {crash_text(error)}.")

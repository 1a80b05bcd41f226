"""What Dask calls in a worker that a run starts, without Dask's own processes around it."""

import sys

from exporter.fetch.cluster.range_worker import dask_setup

if __name__ == "__main__":
    dask_setup(None)
    sys.stdin.read()

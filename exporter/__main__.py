"""`python -m exporter` is the same program as `exporter`."""

import sys

from exporter.cli import main

sys.exit(main())

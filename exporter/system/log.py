"""The log of the whole program: whoever starts it decides where it goes."""

import logging

log = logging.getLogger("exporter")

"""Engines that spread a run over more than one process; each is imported only when it is used."""

"""The public face: what `import exporter` promises to programs."""

from __future__ import annotations

import exporter


def test_the_public_names_are_these() -> None:
    """A name that programs may use neither comes nor goes unnoticed."""
    assert exporter.__all__ == [
        "ApiUnavailableError",
        "DriftError",
        "ExporterError",
        "InputError",
        "InterruptedRunError",
        "LockedError",
        "Options",
        "Progress",
        "StorageError",
        "Summary",
        "TokenRefusedError",
        "TooManyRejectsError",
        "UsageError",
        "__version__",
        "export",
        "export_async",
        "rebuild",
    ]


def test_every_public_name_is_there() -> None:
    """Each public name can be had, and describes itself."""
    for name in exporter.__all__:
        thing = getattr(exporter, name)
        assert thing.__doc__
        assert isinstance(thing, str) or thing.__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The lazy imports do not hide a typing slip."""
    assert not hasattr(exporter, "exports")

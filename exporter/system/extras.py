"""What is installed only where somebody wants it, asked for by name before anything is begun."""

from importlib.util import find_spec

from exporter.model.errors import UsageError


def need_extra(what: str, extra: str, *modules: str) -> None:
    """Raise a `UsageError` where a module that `what`, an option or a file's name, needs is not there; none is imported."""
    if any(find_spec(module) is None for module in modules):
        raise UsageError(
            f"{what}: expected the extra '{extra}', got an installation without it.",
            f"In the clone that you installed from, run: pip install '.[{extra}]'",
        )

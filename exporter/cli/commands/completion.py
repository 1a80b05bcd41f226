"""`exporter completion`: the script that completes commands and options in a shell."""

from __future__ import annotations

import click

from exporter.cli.option_kinds import Command


@click.command("completion", cls=Command, epilog='Example: eval "$(exporter completion bash)"')
@click.argument("shell", metavar="bash|zsh|fish", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the script that completes commands and options in that shell.

    For good: put the example's line into ~/.bashrc, or the same for zsh into ~/.zshrc; for fish write the
    output to ~/.config/fish/completions/exporter.fish.
    """
    from click.shell_completion import get_completion_class

    from exporter.cli import exporter

    complete = get_completion_class(shell)
    assert complete is not None
    instance = complete(exporter, {}, "exporter", "_EXPORTER_COMPLETE")
    click.echo(instance.source_template % instance.source_vars())
    return 0

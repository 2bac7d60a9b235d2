"""`derwin-db completion`."""

import click
from click.shell_completion import get_completion_class

from derwin_db.cli.output import command, json_option, show

SHELLS = ("bash", "fish", "zsh")
"""The shells that click writes a script for."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@json_option
@command
def completion(shell: str, as_json: bool) -> None:
    """Print the script that completes commands, options and names in this shell.

    In ~/.bashrc or ~/.zshrc: eval "$(derwin-db completion bash)", or zsh.

    For fish: derwin-db completion fish > ~/.config/fish/completions/derwin-db.fish
    """
    from derwin_db.cli import main

    made = get_completion_class(shell)
    assert made is not None  # one of click's own
    script = made(main, {}, "derwin-db", "_DERWIN_DB_COMPLETE").source()
    show({"shell": shell, "script": script}, script.rstrip(), as_json=as_json)

"""The command line, `derwin-db`. Every command but `psql` has `--json`.

Only `roles create` and `roles backup` print a password: the one that they made.

Exit codes: 0 done; 1 refused, or a check failed; 2 wrong usage; 3 configuration (URL, schema, extension, isolation, folder);
4 the database is not available. Commands are imported when they are called.
"""

from importlib import import_module
from keyword import iskeyword
from typing import Any

import click
from click.shell_completion import CompletionItem

from derwin_db.cli.interruption import ended_like_by_ctrl_c
from derwin_db.cli.streams import end_unwritable, prepare_streams
from derwin_db.translation.debug import show_causes

COMMANDS = {
    "completion": "Print the script that completes these commands in a shell.",
    "distribute": "Distribute the tables over a Citus cluster, by project.",
    "doctor": "Look at server, schema, logins and fences, and say what to mend.",
    "erase": "Delete one project with all its rows but the ledger, and report.",
    "explain": "Say what the error of a code means, and what to do.",
    "export": "Write one project as compressed JSON Lines.",
    "import": "Read an export back, whole or not at all.",
    "erd": "Print the entity-relationship diagram, in Mermaid.",
    "embedded": "Start, stop or look at the embedded server.",
    "hold": "Put evidence of a project under legal hold.",
    "init": "Write a .env and an example service into a folder.",
    "migrate": "Bring the database to the newest revision.",
    "projects": "List, make, change, archive and erase projects.",
    "prune": "Remove evidence whose retention has ended, in all projects.",
    "psql": "Open psql as the owner; further arguments are handed on.",
    "release": "End the legal hold of evidence.",
    "reset": "Remove all tables and data, then migrate and seed.",
    "roles": "Make the logins of a deployment; print or rotate the scope key.",
    "rollback": "Take the database back by a revision.",
    "runs": "List the runs of a project; requeue what stalled.",
    "seed": "Write the project Lifeline; --demo adds a history.",
    "spend": "Sum up what was spent, by project, model, source or day.",
    "status": "Say which revision the database has, and what is pending.",
    "studio": "Show projects, tables, tickets and spending in the browser.",
    "sweep": "Queue stalled runs again, prune evidence, compute trust scores, in all projects.",
    "trust": "Recompute trust scores.",
}


class LazyGroup(click.Group):
    """A group that knows its commands by name, and imports one when it is called."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run, on streams as they may come. Whatever fails before or behind a command is a sentence too."""
        if not kwargs.get("standalone_mode", True):
            return super().main(*args, **kwargs)
        prepare_streams()
        try:
            with ended_like_by_ctrl_c():
                return super().main(*args, **kwargs)
        except OSError as error:
            end_unwritable(error)
        except Exception as error:
            from derwin_db.cli.output import fail

            fail(error, as_json=False)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command. Its module has its name, and so has the function in it."""
        if cmd_name not in COMMANDS:
            return None
        name = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        command: click.Command = getattr(import_module(f"derwin_db.cli.{name}"), name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands without importing them."""
        named = [CompletionItem(name, help=text) for name, text in sorted(COMMANDS.items()) if name.startswith(incomplete)]
        return named + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="derwin-db", prog_name="derwin-db")
@click.option("--debug", is_flag=True, help="Show tracebacks and what the server said, values and all.")
def main(*, debug: bool) -> None:
    """Operate a database of derwin-db.

    Settings come from the environment or .env: DATABASE_URL (the service's login), ADMIN_URL, DIRECT_URL (the owner), READ_URL.
    Without any of them the embedded server is used; DERWIN_DATA_DIR is its folder.
    """
    if debug:
        show_causes()

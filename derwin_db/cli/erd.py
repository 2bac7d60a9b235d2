"""`derwin-db erd`."""

import click

from derwin_db.cli.output import command, json_option, show


@click.command()
@json_option
@command
def erd(as_json: bool) -> None:
    """Print the entity-relationship diagram in Mermaid, from the tables themselves."""
    from derwin_db.deploy.erd import diagram

    text = diagram()
    show({"mermaid": text}, text.rstrip(), as_json=as_json)

"""`derwin-db hold`."""

import click

from derwin_db import repos
from derwin_db.cli.holding import holding_command

hold: click.Command = holding_command(
    "hold",
    repos.audit_artifacts.hold,
    is_held=True,
    text="Put evidence of one project (slug or id) under legal hold: nothing removes it, not even the erasure of the project.",
)

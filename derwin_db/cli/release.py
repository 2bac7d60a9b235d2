"""`derwin-db release`."""

import click

from derwin_db import repos
from derwin_db.cli.holding import holding_command

release: click.Command = holding_command(
    "release",
    repos.audit_artifacts.release,
    is_held=False,
    text="End the legal hold of evidence of one project (slug or id). Once its retention has ended, the next sweep removes it.",
)

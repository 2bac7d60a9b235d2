"""How the service's own chain of revisions runs: beside that of derwin-db, which runs first."""

import examples.service.tables  # noqa: F401  # fills the metadata
from alembic import context
from derwin_db.migrations import run

run(context)

"""How long evidence is kept, as an expression of the database: its clock, calendar intervals, in UTC.

Shared by the recording of evidence and by the change of a project's compliance mode.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import INTERVAL

from derwin_db.models.audit_artifact import RETENTION


def retention_end(start: sa.ColumnElement[Any], mode: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return when evidence from `start` may go under the compliance mode of the column `mode`.

    A calendar interval in UTC, whatever the session's zone: 13 months after 29 February is 29 March, and a year after it is
    28 February. The searched CASE, because a distributed server refuses the simple one with RETURNING.
    """
    in_utc = sa.func.timezone("UTC", start)
    whens = []
    for name, interval in RETENTION.items():
        length: sa.ColumnElement[Any] = sa.literal_column(f"INTERVAL '{interval}'", INTERVAL())
        whens.append((mode == name, sa.func.timezone("UTC", in_utc + length)))
    return sa.case(*whens)


def raised(present: sa.ColumnElement[Any], end: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return the later of both: retention is only ever raised."""
    return sa.func.greatest(present, end)

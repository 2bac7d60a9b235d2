"""Which code runs on the schema of which revision: each revision says whether code of the one before goes on.

A step is an `expand` where it does, and a `contract` where it does not, because something goes that the code before still uses.
What follows from that is noted in the database at each revision, for programs that do not know the revision.
"""

import hashlib
from typing import Any, Literal, cast, get_args

from alembic.script import Script, ScriptDirectory

from derwin_db import sql
from derwin_db.connection.schema import Note
from derwin_db.errors import ConfigurationError

Step = Literal["expand", "contract"]

STEPS_OF_BEFORE: dict[str, Step] = {
    "a1f0c3d95b27": "contract",  # the first
    "b7e24a8c6d10": "contract",  # roles and policies
    "c3d58f0e7a42": "contract",  # another type of a column that is read
    "d92b6c41e8f5": "expand",
    "e4b1d7a93c58": "contract",  # columns take less
    "e5a1c0947b3f": "contract",  # tokens of before, after an hour
    "f7c2a90e6b14": "contract",  # what rows of logs may say
    "e41a7c93d0b6": "expand",
    "f52b8da4e1c7": "expand",
    "063c9eb5f2d8": "expand",  # an index that no search needs
    "a8d3e51c7f26": "expand",
    "f5c2e8b04d69": "contract",  # policies where the scope is plain
    "b9f4c62d8e37": "contract",  # large objects
    "c1a7e94f3b60": "expand",
    "e4a7c05b91d3": "expand",
    "f3c9a1e07b52": "contract",  # the table of the revision
}
"""The steps of revisions that landed before revisions said it themselves, in `step`."""


def step_of(script: Script) -> Step:
    """Return whether code of the revision before runs on this one.

    Errors:
        ConfigurationError for a revision that does not say it.
    """
    said = getattr(script.module, "step", None) or STEPS_OF_BEFORE.get(script.revision)
    if said not in get_args(Step):
        raise ConfigurationError(f"The revision {script.revision} does not say what it is: step = 'expand' or 'contract'.")
    return cast("Step", said)


def code_that_runs(scripts: ScriptDirectory, revision: str) -> list[str]:
    """Return the revisions whose code runs on the schema of this one, the newest first."""
    found = []
    for script in scripts.iterate_revisions(revision, "base"):
        found.append(script.revision)
        if step_of(script) == "contract":
            break
    return found


def note_at(scripts: ScriptDirectory, revision: str) -> Note:
    """Return what is noted in a database at this revision."""
    bodies = sql.function_bodies("scope_sealed") if revision == sql.HEAD_REVISION else {}
    functions = {name: hashlib.sha256(body.encode()).hexdigest() for name, body in bodies.items()}
    return Note(revision, code_that_runs(scripts, revision), functions)


def leave_note(*, ctx: Any, heads: set[str], **_: Any) -> None:
    """Note in the database which code runs on it: for Alembic's `on_version_apply`, in the transaction of the revision."""
    note = "NULL"
    if len(heads) == 1:
        note = "'" + note_at(ctx.script, next(iter(heads))).to_text().replace("'", "''") + "'"
    ctx.connection.exec_driver_sql(f"COMMENT ON TABLE public.{sql.VERSION_TABLE} IS {note}")

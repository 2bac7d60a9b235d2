"""How the schema of a database stands to this code. Start-up, health, `status`, `migrate` and `doctor` all ask here.

Code can't know a revision that is newer than itself. So whoever migrates leaves a note at the table of the revision: which code
runs on the schema, and what the functions of the seal are now. Any version of this package can read it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from derwin_db import sql
from derwin_db.errors import SchemaOutOfDate
from derwin_db.sql import revisions


class Standing(StrEnum):
    """The schema as this code sees it."""

    MISSING = "missing"
    UNCLEAR = "unclear"
    OLDER = "older"
    SAME = "same"
    COMPATIBLE = "newer, compatible"
    NEWER = "newer, not compatible"


@dataclass(frozen=True)
class Note:
    """What was left at the table of the revision by whoever migrated. It counts for that revision alone."""

    revision: str
    runs: Sequence[str]
    """The revisions whose code runs on this schema."""
    functions: Mapping[str, str] = field(default_factory=dict)
    """The SHA-256 of the functions of the seal, as that revision makes them."""

    @classmethod
    def parse(cls, text: str | None) -> "Note | None":
        """Return what the text says; None where it says nothing that can be understood."""
        try:
            read = json.loads(text or "")
            return cls(str(read["revision"]), [str(one) for one in read["runs"]], dict(read.get("functions", {})))
        except (ValueError, KeyError, TypeError):
            return None

    def to_text(self) -> str:
        """Return the form in which it is stored."""
        return json.dumps({"revision": self.revision, "runs": list(self.runs), "functions": dict(self.functions)})


@dataclass(frozen=True)
class Schema:
    """The revision of a database, and how it stands to this code."""

    revision: str | None
    standing: Standing
    functions: Mapping[str, str] = field(default_factory=dict)
    """What the functions of the seal are where they need not be those of this code."""

    @property
    def serves(self) -> bool:
        """Whether this code runs on it."""
        return self.standing in (Standing.SAME, Standing.COMPATIBLE)

    @property
    def sentence(self) -> str:
        """What is so, and what to do."""
        return _SENTENCES[self.standing].format(revision=self.revision, head=sql.HEAD_REVISION)

    def require(self) -> None:
        """Refuse what this code can't run on.

        Errors:
            SchemaOutOfDate.
        """
        if not self.serves:
            raise SchemaOutOfDate(self.sentence)


_SENTENCES = {
    Standing.MISSING: "The database has no schema of derwin-db yet. Run `derwin-db migrate`.",
    Standing.UNCLEAR: (
        "The table derwin_alembic_version has several rows: {revision}. Another program's migrations wrote there, or two "
        "branches of revisions were applied. Leave the one that is true of this database; this code expects {head}."
    ),
    Standing.OLDER: (
        "The database is at revision {revision}, older than this code, which expects {head}. Run `derwin-db migrate`."
    ),
    Standing.SAME: "The database is at revision {revision}, the newest of this code.",
    Standing.COMPATIBLE: (
        "The database is at revision {revision}, newer than this code, which expects {head} and runs on it. Deploy the newer "
        "version."
    ),
    Standing.NEWER: (
        "The database is at revision {revision}, which this code does not know, and code of {head} does not run on it. Deploy "
        "the newer version, or roll back with it first. If there was no newer version here, another program's migrations wrote "
        "to the table derwin_alembic_version: give them a version_table of their own."
    ),
}


def schema_of(revision: str | None, note: str | None) -> Schema:
    """Return how a database at this revision, with this note at its table, stands to this code."""
    if not revision:
        return Schema(None, Standing.MISSING)
    if ", " in revision:
        return Schema(revision, Standing.UNCLEAR)
    if revision == sql.HEAD_REVISION:
        return Schema(revision, Standing.SAME)
    if revision in revisions.known_revisions():
        return Schema(revision, Standing.OLDER)
    read = Note.parse(note)
    if read is None or read.revision != revision or sql.HEAD_REVISION not in read.runs:
        return Schema(revision, Standing.NEWER)
    return Schema(revision, Standing.COMPATIBLE, read.functions)

"""What the server shares among all sessions, whatever their project: what is closed, and what is open and has to be known."""

from typing import Any

from derwin_db.isolation.preamble import APP_ROLE

CLOSED = (
    "lo_creat", "lo_create", "lo_from_bytea", "lo_get", "lo_open", "lo_put", "lo_truncate", "lo_truncate64", "lo_unlink",
    "loread", "lowrite", "pg_logical_emit_message",
)  # fmt: skip
"""Functions that sessions may not call, by name: large objects, and messages in the log of changes."""

OPEN = {
    "pg_advisory_lock", "pg_advisory_lock_shared", "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared",
    "pg_try_advisory_lock", "pg_try_advisory_lock_shared", "pg_try_advisory_xact_lock", "pg_try_advisory_xact_lock_shared",
    "pg_advisory_unlock", "pg_advisory_unlock_shared", "pg_advisory_unlock_all", "pg_notify", "pg_terminate_backend",
    "pg_cancel_backend", "pg_export_snapshot",
}  # fmt: skip
"""Functions that reach other sessions, and stay open: docs/isolation.md says under "What remains" what they can do."""


async def open_stores(opened: Any, login: str) -> list[str]:
    """Return functions of stores that are closed, and that a unit of work may call all the same."""
    rows = await opened.fetch(
        """
        SELECT DISTINCT p.oid::regprocedure::text AS name FROM pg_proc p JOIN pg_roles who ON who.rolname = ANY ($1::name[])
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY ($2::name[])
        AND NOT who.rolsuper AND has_function_privilege(who.oid, p.oid, 'EXECUTE') ORDER BY 1
        """,
        [APP_ROLE, login],
        CLOSED,
    )
    return [row["name"] for row in rows]


async def large_objects(opened: Any) -> int:
    """Return how many large objects this database holds."""
    count: int = await opened.fetchval("SELECT count(*) FROM pg_largeobject_metadata")
    return count

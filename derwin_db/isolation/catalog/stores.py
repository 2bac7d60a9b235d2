"""What the server shares among all sessions, whatever their project: what is closed, and what is open and has to be known."""

from collections.abc import Sequence
from typing import Any

from derwin_db.isolation.preamble import APP_ROLE

STORES = (
    "lo_creat", "lo_create", "lo_from_bytea", "lo_get", "lo_open", "lo_put", "lo_truncate", "lo_truncate64", "lo_unlink",
    "loread", "lowrite", "pg_logical_emit_message",
)  # fmt: skip
"""Functions that sessions may not call, by name: large objects, and messages in the log of changes."""

SIGNALS = (
    "pg_terminate_backend", "pg_cancel_backend", "pg_advisory_lock", "pg_advisory_lock_shared", "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared", "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared",
)  # fmt: skip
"""Functions that sessions may not call where the scope is sealed: they end sessions of other projects, or let them wait."""

CLOSED = (*STORES, *SIGNALS)

OPEN = {"pg_advisory_unlock", "pg_advisory_unlock_shared", "pg_advisory_unlock_all", "pg_notify", "pg_export_snapshot"}
"""Functions that reach other sessions, and stay open: docs/isolation.md says under "What remains" what they can do. The first
three let go of what nobody can have."""


async def is_closable(opened: Any) -> bool:
    """Tell whether a superuser migrated, who can take the server's functions from PUBLIC."""
    query = "SELECT rolsuper FROM pg_namespace JOIN pg_roles r ON r.oid = nspowner WHERE nspname = 'derwin'"
    return bool(await opened.fetchval(query))


async def open_functions(opened: Any, login: str, names: Sequence[str] = CLOSED) -> list[str]:
    """Return those of these functions that a unit of work may call."""
    rows = await opened.fetch(
        """
        SELECT DISTINCT p.oid::regprocedure::text AS name FROM pg_proc p JOIN pg_roles who ON who.rolname = ANY ($1::name[])
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY ($2::name[])
        AND NOT who.rolsuper AND has_function_privilege(who.oid, p.oid, 'EXECUTE') ORDER BY 1
        """,
        [APP_ROLE, login],
        names,
    )
    return [row["name"] for row in rows]


async def large_objects(opened: Any) -> int:
    """Return how many large objects this database holds."""
    count: int = await opened.fetchval("SELECT count(*) FROM pg_largeobject_metadata")
    return count

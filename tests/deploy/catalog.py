"""What a catalog holds, as text that can be compared: before and after, here and there."""

from derwin_db.settings import ConnectionInfo

from .conftest import run_all

_QUERIES = {
    "columns": """
        SELECT table_schema, table_name, column_name, udt_name, is_nullable, column_default, character_maximum_length,
               numeric_precision, numeric_scale
        FROM information_schema.columns WHERE table_schema IN ('public', 'derwin') ORDER BY 1, 2, 3
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'derwin')) AND contype <> 'n'
        ORDER BY 1, 2
    """,
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname IN ('public', 'derwin') ORDER BY 1",
    "invalid indexes": "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid",
    "policies": "SELECT * FROM pg_policies ORDER BY schemaname, tablename, policyname",
    "security": """
        SELECT relname, relrowsecurity, relforcerowsecurity,
               (SELECT array_agg(a::text ORDER BY a::text) FROM aclexplode(coalesce(relacl, acldefault('r', relowner))) a)::text
        FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1
    """,
    "column grants": """
        SELECT attrelid::regclass::text, attname, attacl::text FROM pg_attribute
        WHERE attacl IS NOT NULL AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
        ORDER BY 1, 2
    """,
    "triggers": """
        SELECT tgrelid::regclass::text, tgname, tgenabled, pg_get_triggerdef(oid) FROM pg_trigger
        WHERE NOT tgisinternal ORDER BY 1, 2
    """,
    "functions": """
        SELECT oid::regprocedure::text, prosecdef, provolatile, proparallel, proconfig::text, md5(prosrc),
               (SELECT array_agg(a::text ORDER BY a::text) FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) a)::text
         FROM pg_proc
        WHERE pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'derwin'))
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = pg_proc.oid AND d.deptype = 'e') ORDER BY 1
    """,
}


def catalog(connection: ConnectionInfo) -> dict[str, list[str]]:
    """Return what the database holds of ours, by kind."""
    found = run_all(connection, *_QUERIES.values())
    return {kind: [str(tuple(row)) for row in rows] for kind, rows in zip(_QUERIES, found, strict=True)}

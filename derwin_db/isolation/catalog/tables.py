"""Which tables are fenced, and the condition that picks them out of pg_class as `t`."""

from derwin_db import sql

TABLES = ("projects", *sql.PROJECT_TABLES)

OURS = "t.relnamespace = 'public'::regnamespace AND t.relkind IN ('r', 'p') AND t.relname = ANY ($1::name[])"
"""True for the tables that are named in the first parameter."""

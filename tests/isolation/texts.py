"""SQL text of attacks on a table: reads, writes, scopes made by hand, powers that nobody has, changes of append-only tables.

`{t}` is the table, `{p}` its scope column, `{A}` and `{B}` the projects, `{own}` and `{id}` a row of each, `{columns}` all
columns and `{copy}` their values from A's row, as a new row of B.
"""

import re
from uuid import UUID

from derwin_db.query.builders import table_of
from derwin_db.testing.filling import models_by_table
from tests.isolation.arena import World

NEW = UUID("01900000-0000-7000-8000-00000000abcd")
"""An id that nobody has."""

READS = {
    "everything": "SELECT * FROM {t}",
    "by project": "SELECT * FROM {t} WHERE {p} = '{B}'",
    "by id": "SELECT * FROM {t} WHERE id = '{id}'",
    "by key": "SELECT * FROM {t} WHERE {p} = '{B}' AND id = '{id}'",
    "or true": "SELECT * FROM {t} WHERE {p} = '{B}' OR true",
    "not its own": "SELECT * FROM {t} WHERE NOT ({p} = '{A}')",
    "a range": "SELECT * FROM {t} WHERE {p} >= '{B}' AND {p} <= '{B}'",
    "one of both": "SELECT * FROM {t} WHERE {p} = ANY (ARRAY['{A}', '{B}']::uuid[])",
    "self join": "SELECT b.* FROM {t} a JOIN {t} b ON b.{p} <> a.{p}",
    "full join": "SELECT b.id FROM {t} a FULL JOIN {t} b ON false",
    "cross join": "SELECT count(*) FROM {t} a, {t} b",
    "lateral": "SELECT b.id FROM {t} a, LATERAL (SELECT * FROM {t} c WHERE c.id <> a.id) b",
    "scalar subqueries": "SELECT (SELECT count(*) FROM {t}), (SELECT max(id::text) FROM {t})",
    "cte": "WITH seen AS MATERIALIZED (SELECT * FROM {t}) SELECT * FROM seen WHERE {p} = '{B}' OR true",
    "recursive cte": (
        "WITH RECURSIVE r AS (SELECT id FROM {t} WHERE id = '{id}' UNION SELECT t.id FROM {t} t, r) SELECT * FROM r"
    ),
    "union": "SELECT id FROM {t} UNION ALL SELECT id FROM {t} WHERE {p} = '{B}'",
    "except": "SELECT id FROM {t} EXCEPT SELECT id FROM {t} WHERE {p} = '{A}'",
    "intersect": "SELECT '{id}'::uuid INTERSECT SELECT id FROM {t}",
    "window": "SELECT count(*) OVER (), row_number() OVER (ORDER BY id), lag(id) OVER (ORDER BY id) FROM {t}",
    "count": "SELECT count(*), min(id::text), max(created_at) FROM {t}",
    "group": "SELECT {p}, count(*) FROM {t} GROUP BY ROLLUP ({p})",
    "distinct": "SELECT DISTINCT {p} FROM {t}",
    "exists": "SELECT EXISTS (SELECT FROM {t} WHERE id = '{id}'), EXISTS (SELECT FROM {t} WHERE {p} = '{B}')",
    "not in": "SELECT '{id}'::uuid NOT IN (SELECT id FROM {t})",
    "as json": "SELECT json_agg(t ORDER BY t.id)::text FROM {t} t",
    "as text": "SELECT t::text FROM {t} t",
    "as xml": "SELECT query_to_xml('SELECT id FROM {t} ORDER BY id', true, true, '')::text",
    "table": "TABLE {t}",
    "sample": "SELECT * FROM {t} TABLESAMPLE SYSTEM (100)",
    "by place": "SELECT id FROM {t} WHERE ctid > '(0,0)'",
    "locked": "SELECT id FROM {t} FOR KEY SHARE SKIP LOCKED",
    "an error for a row of B": "SELECT 1 / (CASE WHEN {p} = '{B}' THEN 0 ELSE 1 END) FROM {t}",
    "an error with a value of B": "SELECT * FROM {t} WHERE CASE WHEN {p} <> '{A}' THEN t::text::int = 1 END".replace(
        "{t}", "{t} t"
    ),
    "a block that tells": (
        "DO $$ DECLARE r record; BEGIN FOR r IN SELECT * FROM {t} LOOP "
        "IF r.{p} <> '{A}' THEN RAISE '%', r; END IF; END LOOP; END $$"
    ),
    "a held cursor": "DECLARE held CURSOR WITH HOLD FOR SELECT * FROM {t}; FETCH ALL FROM held",
    "a prepared statement": "PREPARE spy AS SELECT * FROM {t}; EXECUTE spy",
    "statistics": "SELECT attname, most_common_vals::text FROM pg_stats WHERE '{t}' = 'public.' || tablename",
    "raw statistics": "SELECT * FROM pg_statistic",
    "row security off": "SET LOCAL row_security = off; SELECT * FROM {t}",
    "large objects": "SELECT count(*) FROM pg_largeobject_metadata",
}

WRITES = {
    "update all": "UPDATE {t} SET created_at = created_at RETURNING id",
    "update a column it may": "UPDATE {t} SET updated_at = now() RETURNING id",
    "update of B": "UPDATE {t} SET updated_at = now() WHERE {p} = '{B}' RETURNING *",
    "update from B": "UPDATE {t} a SET updated_at = now() FROM {t} b WHERE b.{p} = '{B}' RETURNING a.id",
    "give all to B": "UPDATE {t} SET {p} = '{B}'",
    "give one to B": "UPDATE {t} SET {p} = '{B}' WHERE id = '{own}'",
    "take the id of B": "UPDATE {t} SET id = '{id}' WHERE id = '{own}'",
    "delete all": "DELETE FROM {t} RETURNING id",
    "delete of B": "DELETE FROM {t} WHERE {p} = '{B}' RETURNING *",
    "delete using B": "DELETE FROM {t} a USING {t} b WHERE b.{p} = '{B}' AND a.id <> b.id RETURNING a.id",
    "insert for B": "INSERT INTO {t} ({columns}) SELECT {copy} FROM {t} WHERE id = '{own}' RETURNING *",
    "insert over B": (
        "INSERT INTO {t} ({columns}) SELECT {copy over B} FROM {t} WHERE id = '{own}' ON CONFLICT DO NOTHING RETURNING *"
    ),
    "upsert over B": (
        "INSERT INTO {t} ({columns}) SELECT {copy over B} FROM {t} WHERE id = '{own}' "
        "ON CONFLICT ({key}) DO UPDATE SET created_at = now() RETURNING *"
    ),
    "insert with the id of B": "INSERT INTO {t} ({columns}) SELECT {own copy} FROM {t} WHERE id = '{own}' RETURNING id",
    "insert all there is": "INSERT INTO {t} ({columns}) SELECT {columns} FROM {t}",
    "merge into B": (
        "MERGE INTO {t} t USING (SELECT '{B}'::uuid AS p, '{id}'::uuid AS i) s ON t.{p} = s.p AND t.id = s.i "
        "WHEN MATCHED THEN DELETE"
    ),
    "a cte that deletes": "WITH gone AS (DELETE FROM {t} RETURNING *) SELECT count(*) FROM gone",
    "a cte that updates": "WITH done AS (UPDATE {t} SET updated_at = now() RETURNING *) SELECT count(*) FROM done",
}

SCOPES = {
    "set_config": "SELECT set_config('derwin.project_id', '{B}', true)",
    "set_config for the session": "SELECT set_config('derwin.project_id', '{B}', false)",
    "SET LOCAL": "SET LOCAL derwin.project_id = '{B}'",
    "SET": "SET derwin.project_id = '{B}'",
    "a made-up seal": "SET LOCAL derwin.project_id = '{B}.0000000000000000000000000000000000000000000000000000000000000000'",
    "its own seal on B": (
        "SELECT set_config('derwin.project_id', '{B}' || substr(current_setting('derwin.project_id'), 37), true)"
    ),
    "a list": "SET LOCAL derwin.project_id = '{A},{B}'",
    "nothing": "SET LOCAL derwin.project_id = ''",
    "RESET": "RESET derwin.project_id",
    "RESET ALL": "RESET ALL",
    "DISCARD ALL": "DISCARD ALL",
    "DISCARD PLANS": "DISCARD PLANS",
    "derwin_open with garbage": "SELECT public.derwin_open('garbage')",
    "derwin_open without a seal": "SELECT public.derwin_open('{B}')",
    "derwin_open with a made-up seal": "SELECT public.derwin_open('{B}.' || repeat('0', 64))",
    "derwin_open with its own scope": "SELECT public.derwin_open(current_setting('derwin.project_id'))",
    "derwin_open with its own scope on B": (
        "SELECT public.derwin_open('{B}' || substr(current_setting('derwin.project_id'), 37))"
    ),
    "derwin_open(NULL)": "SELECT public.derwin_open(NULL)",
    "the key": "SELECT * FROM derwin.scope_key",
    "the key's schema": "SELECT derwin.rotate_scope_key()",
    "another derwin_scope": (
        "CREATE OR REPLACE FUNCTION public.derwin_scope() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT '{B}'::uuid $$"
    ),
    "RESET ROLE": "RESET ROLE",
    "SET ROLE NONE": "SET ROLE NONE",
    "SET LOCAL ROLE none": "SET LOCAL ROLE none",
    "set_config of the role": "SELECT set_config('role', 'none', true)",
    "the admin's role": "SET LOCAL ROLE derwin_admin",
    "the backfill's role": "SET LOCAL ROLE derwin_backfill",
    "the owner's role": "SET LOCAL ROLE {owner}",
    "the owner's authorization": "SET SESSION AUTHORIZATION {owner}",
    "the default authorization": "SET SESSION AUTHORIZATION DEFAULT",
    "row_security": "SET row_security = off",
    "replication": "SET session_replication_role = replica",
    "BYPASSRLS": "ALTER ROLE derwin_app BYPASSRLS",
    "a grant of the admin's role": "GRANT derwin_admin TO derwin_app",
    "COMMIT": "COMMIT",
    "END": "END",
    "COMMIT AND CHAIN": "COMMIT AND CHAIN",
    "ROLLBACK": "ROLLBACK",
    "ROLLBACK AND CHAIN": "ROLLBACK AND CHAIN",
    "COMMIT and the role again": "COMMIT; BEGIN; SET LOCAL ROLE derwin_app",
    "COMMIT and a scope": "COMMIT; BEGIN; SET LOCAL ROLE derwin_app; SET LOCAL derwin.project_id = '{B}'",
    "a savepoint that is undone": "SAVEPOINT s; SET LOCAL derwin.project_id = ''; ROLLBACK TO s",
    "PREPARE TRANSACTION": "PREPARE TRANSACTION 'spy'",
    "another search_path": "SET LOCAL search_path = pg_temp, public",
}

POWERS = {
    "truncate": "TRUNCATE {t}",
    "truncate with cascade": "TRUNCATE {t} CASCADE",
    "no policies": "ALTER TABLE {t} DISABLE ROW LEVEL SECURITY",
    "no force": "ALTER TABLE {t} NO FORCE ROW LEVEL SECURITY",
    "drop the policy": "DROP POLICY derwin_scope ON {t}",
    "alter the policy": "ALTER POLICY derwin_scope ON {t} USING (true)",
    "a policy of its own": "CREATE POLICY spy ON {t} USING (true)",
    "disable triggers": "ALTER TABLE {t} DISABLE TRIGGER ALL",
    "another owner": "ALTER TABLE {t} OWNER TO derwin_app",
    "drop": "DROP TABLE {t} CASCADE",
    "rename": "ALTER TABLE {t} RENAME TO spy",
    "a column": "ALTER TABLE {t} ADD COLUMN spy text",
    "a trigger": "CREATE TRIGGER spy BEFORE INSERT ON {t} EXECUTE FUNCTION derwin_refuse_change()",
    "a rule": "CREATE RULE spy AS ON INSERT TO {t} DO ALSO SELECT 1",
    "an index": "CREATE INDEX spy ON {t} (id)",
    "a view": "CREATE VIEW public.spy AS SELECT * FROM {t}",
    "a copy": "CREATE TABLE public.spy AS SELECT * FROM {t}",
    "a table that inherits": "CREATE TABLE public.spy () INHERITS ({t})",
    "a table that refers": "CREATE TABLE public.spy (p uuid, i uuid, FOREIGN KEY (p, i) REFERENCES {t})",
    "a schema": "CREATE SCHEMA spy",
    "a function": "CREATE FUNCTION public.spy() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "a temporary table": "CREATE TEMP TABLE spy AS SELECT * FROM {t}",
    "a temporary table of the same name": "CREATE TEMP TABLE {bare} (id uuid)",
    "a temporary type": "CREATE DOMAIN pg_temp.uuid AS text",
    "a temporary function": "CREATE FUNCTION pg_temp.spy() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "a comment": "COMMENT ON TABLE {t} IS 'spy'",
    "a publication": "CREATE PUBLICATION spy FOR TABLE {t}",
    "statistics": "CREATE STATISTICS public.spy ON id, created_at FROM {t}",
    "an extension": "CREATE EXTENSION pageinspect",
    "reindex": "REINDEX TABLE {t}",
    "cluster": "CLUSTER {t} USING {pk}",
    "a file": "COPY {t} TO '/tmp/derwin-spy'",
    "a program": "COPY {t} TO PROGRAM 'cat'",
    "copy in": "COPY {t} FROM '/dev/null'",
    "read a file": "SELECT pg_read_file('PG_VERSION')",
    "end other sessions": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{owner}'",
    "alter the system": "ALTER SYSTEM SET row_security = off",
    "alter the database": "ALTER DATABASE {database} SET row_security = off",
    "logins": "SELECT rolpassword FROM pg_authid",
}
"""What nobody who sits in a session may do: refused, all of them."""

APPENDED = {
    "update": "UPDATE {t} SET id = id",
    "update of its own": "UPDATE {t} SET {column} = {column} WHERE id = '{own}'",
    "delete": "DELETE FROM {t}",
    "delete of its own": "DELETE FROM {t} WHERE id = '{own}'",
    "truncate": "TRUNCATE {t}",
    "upsert": (
        "INSERT INTO {t} ({columns}) SELECT {columns} FROM {t} WHERE id = '{own}' "
        "ON CONFLICT ({key}) DO UPDATE SET {column} = EXCLUDED.{column}"
    ),
    "merge": "MERGE INTO {t} t USING {t} s ON t.id = s.id WHEN MATCHED THEN DELETE",
    "select for update": "SELECT * FROM {t} FOR UPDATE",
}


def filled_in(sql: str, world: World, table: str) -> str:
    """Return the statement with names and ids of this world."""
    columns = [column.name for column in table_of(models_by_table()[table]).c]
    scope = "id" if table == "projects" else "project_id"
    own, foreign = world.a.rows[table][0], world.b.rows[table][0]
    a, b = f"'{world.a.project_id}'::uuid", f"'{world.b.project_id}'::uuid"

    def copy(project: str, row_id: UUID) -> str:
        return ", ".join(project if name == scope else f"'{row_id}'::uuid" if name == "id" else name for name in columns)

    names = {
        "t": f"public.{table}", "bare": table, "p": scope, "A": world.a.project_id, "B": world.b.project_id,
        "own": own.id, "id": foreign.id, "new": NEW, "columns": ", ".join(columns),
        "copy": copy(b, NEW), "copy over B": copy(b, foreign.id), "own copy": copy(a, foreign.id),
        "key": "id" if table == "projects" else "project_id, id", "pk": f"pk_{table}",
        "column": next(name for name in columns if name not in ("id", scope)),
        "owner": world.database.owner.user, "database": world.database.owner.database,
    }  # fmt: skip
    return re.sub(r"\{([^{}]+)\}", lambda found: str(names[found.group(1)]), sql)

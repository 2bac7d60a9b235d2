"""What all sessions of the server share: each function that reaches beyond its own session is closed, or known to be open.

The list is compared with the server: a function that a new PostgreSQL brings has to be looked at before the test passes.
"""

import re

import pytest
import sqlalchemy as sa

from derwin_db import Database, repos
from derwin_db.deploy.fences import remake_fences
from derwin_db.errors import DerwinError
from derwin_db.isolation.catalog.stores import CLOSED, OPEN, open_functions
from derwin_db.models import ProjectCreate
from derwin_db.testing.examples import example

VOLATILE = """
SELECT DISTINCT p.proname::text FROM pg_proc p
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.provolatile = 'v'
AND has_function_privilege('derwin_app', p.oid, 'EXECUTE')
AND p.prorettype NOT IN ('internal'::regtype, 'trigger'::regtype, 'event_trigger'::regtype, 'index_am_handler'::regtype,
    'table_am_handler'::regtype, 'tsm_handler'::regtype, 'language_handler'::regtype)
"""

READS = re.compile(
    r"pg_(stat_get|last_|current_|get_|control_|is_|isolation_|safe_|wal_|available_|.*_size$|partition_|lock_status|blocking_pids"
    r"|prepared_xact|jit_available|collation_actual|database_collation|xact_|sequence_last|notification_queue|sleep)|txid_status"
    r"|random|setseed|array_s|.*uuid|uuidv.|clock_timestamp|timeofday|current_query|currtid2|currval|lastval|query_to_xml|ts_stat"
    r"|ts_rewrite|cursor_to_xml|amvalidate"
)
"""Functions that answer and change nothing, or sleep."""

OWN = {"set_config", "pg_stat_clear_snapshot", "pg_stat_force_next_flush", "nextval", "setval", "lo_close", "lo_lseek",
       "lo_lseek64", "lo_tell", "lo_tell64"}  # fmt: skip
"""Functions that change the session alone, or sequences, of which there are none, or need an open large object."""

GUARDED = re.compile(
    r"binary_upgrade_|brin_|gin_clean|pg_clear_|pg_restore_|pg_.*replication_slot|pg_logical_slot_|pg_import_system_collations"
    r"|pg_extension_config_dump|pg_nextoid|pg_stop_making_pinned|pg_sync_replication|pg_replication_|plpgsql_"
)
"""Functions that look at the caller themselves: owner, REPLICATION, superuser, binary upgrade."""


class TestFunctionsThatReachOtherSessions:
    async def test_every_one_is_closed_or_known(self, own_database, owner):
        callable_ones = {row[0] for row in await owner.fetch(VOLATILE)}
        unknown = {
            name
            for name in callable_ones - OPEN - OWN
            if not READS.fullmatch(name) and not READS.match(name) and not GUARDED.match(name)
        }

        assert unknown == set()
        assert not callable_ones & set(CLOSED)

    async def test_those_that_look_at_the_caller_refuse(self, own_database, owner):
        calls = (
            "pg_create_physical_replication_slot('spy')", "pg_import_system_collations('public')",
            "pg_extension_config_dump('public.projects', '')", "brin_summarize_new_values('public.pk_projects')",
        )  # fmt: skip
        for call in calls:
            await owner.execute("BEGIN; SET LOCAL ROLE derwin_app")
            with pytest.raises(Exception, match=r"permission|privilege|owner|can only be called|superuser|not a BRIN"):
                await owner.execute(f"SELECT {call}")
            await owner.execute("ROLLBACK")

    async def test_large_objects_are_refused(self, own_database):
        async with Database(**own_database.urls) as database:
            async with database.admin(reason="a test") as admin:
                slug = (await repos.projects.create(admin, example(ProjectCreate, marker="stores"))).slug
            for call in ("lo_create(0)", "lo_creat(-1)", "lo_from_bytea(0, 'x')", "lo_get(1)", "lo_put(1, 0, 'x')",
                         "lo_unlink(1)", "lo_open(1, 131072)", "pg_logical_emit_message(false, 'x', 'y')"):  # fmt: skip
                for before in ("SELECT 1", "RESET ROLE"):
                    with pytest.raises(DerwinError):
                        async with database.project(slug) as session:
                            await session.sql.execute(sa.text(before))
                            await session.sql.execute(sa.text(f"SELECT {call}"))

    async def test_those_that_are_open_again_are_seen(self, own_database, owner):
        assert await open_functions(owner, own_database.service.user) == []
        await owner.execute("GRANT EXECUTE ON FUNCTION pg_catalog.lo_create(oid) TO PUBLIC")

        assert await open_functions(owner, own_database.service.user) == ["lo_create(oid)"]

    async def test_are_closed_again_by_one_command(self, own_database, owner):
        login = own_database.service.user
        for call in ("lo_create(oid)", "pg_cancel_backend(int)", "pg_advisory_lock(bigint)"):
            await owner.execute(f"GRANT EXECUTE ON FUNCTION pg_catalog.{call} TO PUBLIC, derwin_app")
        await owner.execute("DROP EVENT TRIGGER derwin_keep_fences")

        made = await remake_fences(owner)

        assert await open_functions(owner, login) == []
        assert await owner.fetchval("SELECT evtenabled = 'A' FROM pg_event_trigger WHERE evtname = 'derwin_keep_fences'")
        assert made[-1] == "derwin_keep_fences"
        assert {name.split("(")[0] for name in made[:-1]} == {"lo_create", "pg_cancel_backend", "pg_advisory_lock"}
        assert await remake_fences(owner) == []

    async def test_a_monitor_may_signal_still(self, own_database, owner):
        """A role that an administrator made for it, through the server's own."""
        await owner.execute("BEGIN; CREATE ROLE derwin_monitor IN ROLE pg_signal_backend; SET LOCAL ROLE derwin_monitor")
        try:
            assert await owner.fetchval("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE false") is None
        finally:
            await owner.execute("ROLLBACK")

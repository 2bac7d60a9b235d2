"""Units of work on a bad day without a fault of the server: failing statements, savepoints, generators, ends of all kinds."""

import asyncio
import gc
import logging
import warnings

import pytest
import sqlalchemy as sa
import sqlalchemy.exc
from sqlmodel import select

from derwin_db import Database, repos
from derwin_db.errors import (
    Conflict,
    DatabaseUnavailable,
    DerwinError,
    InvalidInput,
    InvalidStatement,
    NotFound,
    ScopeError,
    StaleWrite,
)
from derwin_db.models import QATicket, QATicketUpdate, SpendLedgerCreate
from tests.faults.load import entry, keys_of, make_ticket, raised, spend, ticket, titles_of

BROKEN = sa.text("SELECT 1/0")


async def fail(session) -> None:
    """A statement that fails on the server, unseen by the repositories."""
    await session.sql.execute(BROKEN)


class Own(Exception):
    """An exception of the caller's."""


class TestExceptionsOfTheCaller:
    @pytest.mark.parametrize("kind", [Own, KeyError, TimeoutError, OSError, ConnectionResetError, ValueError, ExceptionGroup])
    async def test_pass_untouched_and_roll_back(self, db: Database, project, kind):
        error = kind("mine", [Own()]) if kind is ExceptionGroup else kind("mine")
        with pytest.raises(kind) as caught:
            async with db.project(project) as session:
                await make_ticket(session)
                raise error
        assert caught.value is error
        assert await titles_of(db, project) == []
        assert session.outcome == "rolled back"

    async def test_so_do_those_of_this_package(self, db: Database, project):
        error = Conflict("mine")
        with pytest.raises(Conflict) as caught:
            async with db.project(project):
                raise error
        assert caught.value is error

    async def test_a_unit_without_a_statement_takes_no_connection(self, db: Database, project):
        await db.start()
        async with db.project(project) as session:
            assert db.connections_in_use() == 0
        assert session.outcome == "committed"


class TestErrorsOfSql:
    @pytest.mark.parametrize(
        ("statement", "kind"),
        [
            ("SELECT 1/0", InvalidInput),
            ("SELECT nonsense FROM public.qa_tickets", DerwinError),
            ("SELEC 1", InvalidStatement),
            ("SELECT nowhere()", InvalidStatement),
            ("VACUUM", ScopeError),
            ("FETCH 1 FROM nothing", InvalidStatement),
            ("SELECT (SELECT n FROM generate_series(1, 2) n)", InvalidInput),
            ("UPDATE public.spend_ledger SET amount_usd = 1", Conflict),
            ("CREATE TABLE public.mine (a int)", ScopeError),
            ("SELECT repeat('x', 2000000000) || repeat('x', 2000000000)", DerwinError),
        ],
    )
    async def test_leave_the_block_as_this_packages_own(self, db: Database, project, statement, kind):
        with pytest.raises(kind) as caught:
            async with db.project(project) as session:
                await session.sql.execute(sa.text(statement))
        assert type(caught.value).__module__ == "derwin_db.errors"
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None

    @pytest.mark.parametrize("value", [object(), 2**70, {"a": object()}, "\ud800", b"x", float])
    async def test_arguments_that_can_not_be_sent(self, db: Database, project, value):
        with pytest.raises(InvalidInput):
            async with db.project(project) as session:
                await session.sql.execute(sa.text("SELECT CAST(:value AS int)"), {"value": value})

    async def test_what_sqlalchemy_raises_by_itself(self, db: Database, project):
        cases = [
            (lambda session: session.sql.execute(select(QATicket).where(QATicket.id == None)), None),  # noqa: E711
            (_one, NotFound),
            (lambda session: session.sql.execute(sa.text("SELECT :absent")), DerwinError),
            (_stale, StaleWrite),
            (lambda session: session.sql.execute(sa.select(sa.column("x").op("?", 5)(sa.bindparam("y")))), DerwinError),
        ]
        for work, kind in cases:

            async def unit(work=work) -> None:
                async with db.project(project) as session:
                    await work(session)

            error = await raised(unit())
            assert error is None if kind is None else isinstance(error, kind)

    async def test_inside_the_block_they_are_sqlalchemys(self, db: Database, project):
        async with db.project(project) as session:
            await make_ticket(session)
            with pytest.raises(sqlalchemy.exc.DBAPIError):
                async with session.sql.begin_nested():
                    await fail(session)
            await make_ticket(session)
        assert len(await titles_of(db, project)) == 2

    async def test_one_that_is_swallowed_fails_the_unit(self, db: Database, project):
        with pytest.raises(ScopeError, match="savepoint"):
            async with db.project(project) as session:
                await make_ticket(session)
                with pytest.raises(sqlalchemy.exc.DBAPIError):
                    await fail(session)
        assert await titles_of(db, project) == []
        assert session.outcome == "rolled back"

    async def test_a_flush_that_fails_at_the_end(self, db: Database, project):
        with pytest.raises(DerwinError):
            async with db.project(project) as session:
                row = await make_ticket(session)
                merged = await session.sql.merge(row)
                merged.confidence = 7.0
        assert await titles_of(db, project) == []


async def _one(session):
    (await session.sql.execute(sa.text("SELECT 1 WHERE false"))).scalar_one()


async def _stale(session):
    row = await make_ticket(session)
    merged = await session.sql.merge(row)
    await repos.qa_tickets.delete(session, row.id)
    merged.title = "gone"
    await session.sql.flush()


class TestAfterAFailure:
    async def test_every_further_call_says_so(self, db: Database, project):
        with pytest.raises(ScopeError):
            async with db.project(project) as session:
                await repos.spend_ledger.append(session, entry("a"))
                with pytest.raises(DerwinError):
                    await _violate(session)
                for call in (
                    lambda: repos.qa_tickets.count(session),
                    lambda: make_ticket(session),
                    lambda: anext(repos.qa_tickets.stream(session)),
                    lambda: session.savepoint().__aenter__(),
                ):
                    with pytest.raises(ScopeError, match="savepoint"):
                        await call()
                with pytest.raises(ScopeError, match="savepoint"):
                    _ = session.sql
                with pytest.raises(ScopeError, match="savepoint"):
                    session.after_commit(print)
        assert await keys_of(db, project) == []


async def _violate(session) -> None:
    """A reference to nothing."""
    data = ticket()
    data.run_id = (await repos.qa_tickets.create(session, ticket())).id
    await repos.qa_tickets.create(session, data)


class TestSavepoint:
    async def test_undoes_the_objects_of_sql_too(self, db: Database, project):
        async with db.project(project) as session:
            id = (await make_ticket(session, "before")).id
            query = select(QATicket).where(QATicket.id == id)
            row = (await session.sql.execute(query)).scalar_one()
            before = row.title
            with pytest.raises(Own):
                async with session.savepoint():
                    row.title = "inside"
                    await session.sql.flush()
                    raise Own
            row = (await session.sql.execute(query)).scalar_one()
            assert row.title == before

    async def test_undoes_its_own_alone(self, db: Database, project):
        async with db.project(project) as session:
            await repos.spend_ledger.append(session, entry("before"))
            with pytest.raises(Own):
                async with session.savepoint():
                    await repos.spend_ledger.append(session, entry("inside"))
                    raise Own
            await repos.spend_ledger.append(session, entry("after"))
        assert sorted(await keys_of(db, project)) == ["after", "before"]

    async def test_nests(self, db: Database, project):
        async with db.project(project) as session, session.savepoint():
            await repos.spend_ledger.append(session, entry("outer"))
            for number in range(3):
                with pytest.raises(DerwinError):
                    async with session.savepoint():
                        await repos.spend_ledger.append(session, entry(f"inner {number}"))
                        await _violate(session)
            async with session.savepoint():
                await repos.spend_ledger.append(session, entry("kept"))
        assert sorted(await keys_of(db, project)) == ["kept", "outer"]

    async def test_as_the_first_thing_of_a_unit(self, db: Database, project):
        async with db.project(project) as session:
            with pytest.raises(Own):
                async with session.savepoint():
                    raise Own
            await repos.spend_ledger.append(session, entry("a"))
        assert await keys_of(db, project) == ["a"]

    @pytest.mark.parametrize("is_swallowed", [True, False])
    async def test_with_sql_in_it(self, db: Database, project, is_swallowed):
        async with db.project(project) as session:
            row = await make_ticket(session, "row")
            merged = await session.sql.merge(row)
            merged.title = "before"
            expected = ScopeError if is_swallowed else InvalidInput
            with pytest.raises(expected):
                async with session.savepoint():
                    merged.title = "inside"
                    await session.sql.flush()
                    if is_swallowed:
                        with pytest.raises(sqlalchemy.exc.DBAPIError):
                            await fail(session)
                    else:
                        await fail(session)
            await session.sql.refresh(merged)
            assert merged.title == "before"
            await repos.spend_ledger.append(session, entry("a"))
        assert await titles_of(db, project) == ["before"]
        assert await keys_of(db, project) == ["a"]

    async def test_a_swallowed_error_of_a_repository_undoes_it_and_says_so(self, db: Database, project):
        async with db.project(project) as session:
            with pytest.raises(ScopeError, match="savepoint"):
                async with session.savepoint():
                    await repos.spend_ledger.append(session, entry("inside"))
                    with pytest.raises(DerwinError):
                        await _violate(session)
            await repos.spend_ledger.append(session, entry("after"))
        assert await keys_of(db, project) == ["after"]

    async def test_is_used_once(self, db: Database, project):
        async with db.project(project) as session:
            savepoint = session.savepoint()
            async with savepoint:
                await repos.spend_ledger.append(session, entry("a"))
            with pytest.raises(ScopeError):
                async with savepoint:
                    pass
        assert await keys_of(db, project) == ["a"]

    async def test_of_a_unit_that_has_ended(self, db: Database, project):
        async with db.project(project) as session:
            savepoint = session.savepoint()
        with pytest.raises(ScopeError):
            async with savepoint:
                pass


class TestAfterCommit:
    async def test_is_called_after_the_commit_and_only_then(self, db: Database, project):
        seen = []

        async def look() -> None:
            seen.append(await keys_of(db, project))

        with pytest.raises(Own):
            async with db.project(project) as session:
                session.after_commit(look)
                await repos.spend_ledger.append(session, entry("no"))
                raise Own
        async with db.project(project) as session:
            session.after_commit(look)
            session.after_commit(lambda: seen.append("plain"))
            await repos.spend_ledger.append(session, entry("a"))
        assert seen == [["a"], "plain"]

    async def test_one_that_fails_keeps_no_other_from_its_call(self, db: Database, project, caplog):
        seen = []

        def bad() -> None:
            raise Own

        with pytest.raises(Own), caplog.at_level(logging.ERROR):
            async with db.project(project) as session:
                session.after_commit(bad)
                session.after_commit(lambda: seen.append(1))
                session.after_commit(bad)
                await repos.spend_ledger.append(session, entry("a"))
        assert seen == [1]
        assert session.outcome == "committed"
        assert await keys_of(db, project) == ["a"]
        assert "a further callback failed" in caplog.text

    async def test_run_never_repeats_what_is_stored(self, db: Database, project):
        calls = []

        def bad() -> None:
            raise DatabaseUnavailable

        async def work(session) -> None:
            calls.append(1)
            session.after_commit(bad)
            await repos.spend_ledger.append(session, entry())

        with pytest.raises(DatabaseUnavailable):
            await db.run(project, work)
        assert len(calls) == 1
        assert len(await keys_of(db, project)) == 1


class TestGenerators:
    async def test_a_stream_abandoned_halfway_harms_nothing(self, db: Database, project):
        async with db.project(project) as session:
            for _ in range(3):
                await make_ticket(session)
            async for _ in repos.qa_tickets.stream(session):
                break
            stream = repos.qa_tickets.stream(session)
            assert await anext(stream)
            assert await repos.qa_tickets.count(session) == 3
            await make_ticket(session)
        assert len(await titles_of(db, project)) == 4

    async def test_a_stream_read_after_its_block_says_so(self, db: Database, project):
        async with db.project(project) as session:
            for _ in range(501):
                await repos.rag_corpus.count(session)
            await repos.qa_tickets.create_many(session, [ticket() for _ in range(600)])
            begun, fresh = repos.qa_tickets.stream(session), repos.qa_tickets.stream(session)
            assert await anext(begun)
        with pytest.raises(ScopeError):
            async for _ in begun:
                pass
        with pytest.raises(ScopeError):
            await anext(fresh)

    async def test_a_unit_inside_a_generator_that_is_closed(self, make_db, project):
        db = make_db(pool_size=1)

        async def rows():
            async with db.project(project) as session:
                await repos.spend_ledger.append(session, entry("half"))
                yield 1
                yield 2

        generator = rows()
        assert await anext(generator) == 1
        await generator.aclose()
        assert await keys_of(db, project) == []

    async def test_a_unit_inside_a_generator_that_is_forgotten(self, make_db, project):
        db = make_db(pool_size=1)

        async def rows():
            async with db.project(project) as session:
                await repos.spend_ledger.append(session, entry("half"))
                yield 1

        async for _ in rows():
            break
        gc.collect()
        assert await keys_of(db, project) == []

    async def test_a_coroutine_that_is_closed_by_hand(self, make_db, project):
        db = make_db(pool_size=1)
        await db.start()

        session = db.project(project)
        await session.__aenter__()
        await repos.spend_ledger.append(session, entry("half"))

        async def rest() -> None:
            try:
                await asyncio.Event().wait()
            except BaseException as error:
                await session.__aexit__(type(error), error, None)
                raise

        coroutine = rest()
        coroutine.send(None)
        coroutine.close()
        assert await keys_of(db, project) == []

    async def test_a_unit_that_is_never_left_gives_its_connection_up(self, make_db, project):
        db = make_db(pool_size=1)
        session = db.project(project)
        await session.__aenter__()
        await repos.spend_ledger.append(session, entry("half"))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del session
            gc.collect()
        assert any("never left" in str(warning.message) for warning in caught)
        assert await keys_of(db, project) == []


class TestReadOnly:
    async def test_a_write_is_refused(self, db: Database, project):
        with pytest.raises(ScopeError, match="read-only"):
            async with db.project(project, read_only=True) as session:
                await make_ticket(session)
        with pytest.raises(ScopeError, match="read-only"):
            async with db.project(project, read_only=True) as session:
                await session.sql.execute(sa.text("DELETE FROM public.qa_tickets"))

    async def test_a_read_is_not(self, db: Database, project):
        async with db.project(project, read_only=True) as session:
            assert session.is_read_only
            assert await repos.qa_tickets.count(session) == 0


class TestNesting:
    async def test_a_unit_in_another_is_independent(self, db: Database, project):
        with pytest.raises(Own):
            async with db.project(project) as outer:
                await repos.spend_ledger.append(outer, entry("outer"))
                async with db.project(project) as inner:
                    await repos.spend_ledger.append(inner, entry("inner"))
                raise Own
        assert await keys_of(db, project) == ["inner"]


class TestUseAfterTheEnd:
    @pytest.mark.parametrize("end", ["commit", "rollback"])
    async def test_sql_that_was_kept_reaches_nothing(self, make_db, project, end):
        db = make_db(pool_size=1)
        kept = {}

        async def unit() -> None:
            async with db.project(project) as session:
                kept["sql"] = session.sql
                kept["raw"] = await (await session.sql.connection()).get_raw_connection()
                kept["driver"] = kept["raw"].driver_connection
                kept["prepared"] = await kept["driver"].prepare("SELECT 1")
                if end == "rollback":
                    raise Own

        await asyncio.gather(unit(), return_exceptions=True)
        async with db.project(project) as other:
            await make_ticket(other)
            with pytest.raises(ScopeError):
                await kept["sql"].execute(sa.text("SELECT 1"))
            with pytest.raises(ScopeError, match="not open"):
                await kept["prepared"].fetch()
            with pytest.raises(ScopeError, match="not open"):
                await kept["driver"].execute("ROLLBACK")
            assert kept["raw"].driver_connection is None
        assert len(await titles_of(db, project)) == 1

    async def test_a_session_is_used_once(self, db: Database, project):
        session = db.project(project)
        with pytest.raises(ScopeError):
            await repos.qa_tickets.count(session)
        async with session:
            await repos.qa_tickets.count(session)
        with pytest.raises(ScopeError):
            await repos.qa_tickets.count(session)
        with pytest.raises(ScopeError):
            async with session:
                pass


class TestClose:
    @pytest.mark.parametrize("fails", [False, True])
    async def test_waits_for_units_in_flight_and_no_longer(self, make_db, project, fails):
        db = make_db(cleanup_timeout=60)
        began, go_on = asyncio.Event(), asyncio.Event()

        async def unit() -> None:
            async with db.project(project) as session:
                await repos.spend_ledger.append(session, entry("a"))
                began.set()
                await go_on.wait()
                await repos.spend_ledger.append(session, entry("b"))
                if fails:
                    raise Own

        task = asyncio.create_task(unit())
        await began.wait()
        closing, pool = asyncio.create_task(db.close()), db._app.pool
        while not pool._is_closed:
            await asyncio.sleep(0)
        assert not closing.done()
        go_on.set()
        await asyncio.wait_for(closing, 10)
        assert task.done()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(result, Own) is fails
        assert sorted(await keys_of(db, project)) == ([] if fails else ["a", "b"])

    async def test_ends_those_that_take_too_long(self, make_db, project, caplog):
        db = make_db(cleanup_timeout=0.2)
        began, go_on = asyncio.Event(), asyncio.Event()

        async def unit() -> None:
            async with db.project(project) as session:
                await repos.spend_ledger.append(session, entry("a"))
                began.set()
                await go_on.wait()
                await repos.spend_ledger.append(session, entry("b"))

        task = asyncio.create_task(raised(unit()))
        await began.wait()
        await db.close()
        go_on.set()
        assert type(await task) is DatabaseUnavailable
        assert "units of work were open" in caplog.text
        assert await keys_of(db, project) == []

    async def test_whoever_waits_for_a_connection_is_told_so(self, make_db, project):
        db = make_db(pool_size=1, cleanup_timeout=0.3)
        held = asyncio.Event()

        async def hold() -> None:
            async with db.project(project) as session:
                await repos.spend_ledger.append(session, entry("held"))
                await held.wait()

        holder = asyncio.create_task(raised(hold()))
        while not db.connections_in_use():
            await asyncio.sleep(0.01)
        waiting = asyncio.create_task(raised(spend(db, project, "a")))
        while not db._app.pool.load()["pending"]:
            await asyncio.sleep(0)
        closing = asyncio.create_task(db.close())
        assert type(await waiting) is DatabaseUnavailable
        held.set()
        await closing
        await holder

    async def test_starts_again_at_the_next_use(self, make_db, project):
        db = make_db()
        for number in range(3):
            await spend(db, project, f"{number}")
            await db.close()
            await db.close()
        assert len(await keys_of(db, project)) == 3

    async def test_leaves_nothing_on_the_server(self, make_db, victim, database, project, alone):
        db = make_db()
        await asyncio.gather(*(spend(db, project, f"{name}") for name in range(10)))
        await db.close()
        assert await victim.until_quiet(database.service.user) == 0


class TestConnectionLife:
    async def test_a_connection_that_is_old_is_replaced(self, make_db, victim, database, project, alone):
        db = make_db(pool_size=2, connection_life=0.2)
        seen = set()
        for number in range(8):
            await spend(db, project, f"{number}")
            seen |= set(await victim.backends(database.service.user))
            await asyncio.sleep(0.08)
        assert len(seen) >= 3

    async def test_what_is_idle_is_ended_in_its_time(self, make_db, victim, database, project, alone):
        db = make_db(connection_life=0.4)
        await asyncio.gather(*(spend(db, project, f"{name}") for name in range(5)))
        assert await victim.until_quiet(database.service.user, seconds=10) == 0


class TestStoredByOthers:
    async def test_a_value_that_does_not_have_its_shape_is_read_as_what_it_is(self, db: Database, project):
        async with db.project(project) as session:
            row = await make_ticket(session)
        async with db.project(project) as session:
            change = sa.text("UPDATE public.qa_tickets SET steps_to_reproduce = '{\"canary-7f3a9c\": 1}' WHERE id = :id")
            await session.sql.execute(change, {"id": row.id})
        async with db.project(project) as session:
            (streamed,) = [row async for row in repos.qa_tickets.stream(session)]
            for read in (await repos.qa_tickets.get(session, row.id), streamed):
                assert read.steps_to_reproduce == {"canary-7f3a9c": 1}


class TestInputThatWasChangedBehindItsBack:
    async def test_is_refused_as_input(self, db: Database, project):
        data = ticket()
        data.steps_to_reproduce.append(object())
        changed = ticket()
        changed.__dict__["title"] = 5
        spent: SpendLedgerCreate = entry()
        spent.details["x"] = object()
        calls = [
            lambda session: repos.qa_tickets.create(session, data),
            lambda session: repos.qa_tickets.create(session, changed),
            lambda session: repos.spend_ledger.append(session, spent),
            lambda session: repos.qa_tickets.create(session, ticket().model_copy(update={"severity": "WORST"})),
        ]
        for call in calls:

            async def unit(call=call) -> None:
                async with db.project(project) as session:
                    await call(session)

            error = await raised(unit())
            assert isinstance(error, InvalidInput), error

    async def test_an_update_of_nothing_is_nothing(self, db: Database, project):
        async with db.project(project) as session:
            row = await make_ticket(session)
            assert (await repos.qa_tickets.update(session, row.id, QATicketUpdate())).version == 1

"""The watch over all fault tests sees what it is there for: each kind of leak is planted, and found."""

import asyncio
import gc
import logging
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from derwin_db import Database
from derwin_db.errors import DatabaseUnavailable, DerwinError
from derwin_db.translation import driver_errors
from tests.faults.load import raised
from tests.faults.watch import CANARY, Watch, watching

BAD_VALUE = sa.text(f"SELECT CAST('{CANARY}' AS integer)")


@pytest.fixture(autouse=True)
def watch(base) -> Iterator[Watch]:
    """Watches, and is content with what is planted here."""
    with watching() as watch:
        watch.secrets.add(base[1].service.password)
        yield watch


async def read(db: Database, project) -> None:
    async with db.project(project) as session:
        await session.sql.execute(BAD_VALUE)


class TestValues:
    async def test_of_a_statement_that_fails_are_not_shown(self, db: Database, project, watch: Watch):
        assert await raised(read(db, project))
        assert watch.errors
        assert watch.leaks() == []

    async def test_are_found_where_the_servers_message_is_repeated(self, db: Database, project, watch: Watch, monkeypatch):
        plain = driver_errors._from_sqlstate

        def repeat(error: BaseException, state: str) -> DerwinError:
            return type(plain(error, state))(str(error))

        monkeypatch.setattr(driver_errors, "_from_sqlstate", repeat)
        assert await raised(read(db, project))
        assert watch.leaks()

    async def test_are_found_in_the_cause_of_an_error(self, watch: Watch):
        with pytest.raises(DatabaseUnavailable):
            try:
                raise ValueError(CANARY)
            except ValueError as error:
                raise DatabaseUnavailable from error
        assert watch.leaks()

    async def test_are_found_in_an_error_that_nobody_lets_out(self, watch: Watch):
        DerwinError(f"{CANARY} is too long.")
        assert watch.leaks()

    def test_are_found_in_a_log_line_of_any_logger_at_any_level(self, watch: Watch):
        logging.getLogger("somewhere.else").debug("row %s", {"title": CANARY})
        assert watch.leaks()

    def test_are_found_in_what_a_log_line_carries_along(self, watch: Watch):
        logging.getLogger("derwin_db").info("a row was written", extra={"parameters": [CANARY]})
        assert watch.leaks()


class TestPasswords:
    def test_are_found_in_a_url(self, database, watch: Watch):
        logging.getLogger("derwin_db.pool").warning("no answer from %s", database.urls["url"])
        assert watch.leaks()

    def test_are_found_in_what_represents_a_connection(self, database, watch: Watch):
        logging.getLogger("derwin_db.pool").warning("no answer from %s", database.service)
        assert watch.leaks() == []
        logging.getLogger("derwin_db.pool").warning("no answer from %s", vars(database.service))
        assert watch.leaks()


class TestLost:
    async def test_an_exception_that_nobody_retrieves_is_heard(self, watch: Watch):
        async def fail() -> None:
            raise KeyError

        task = asyncio.create_task(fail())
        await asyncio.wait({task})
        del task
        gc.collect()
        assert len(watch.lost()) == 1

    async def test_a_connection_that_is_left_open_is_heard(self, watch: Watch):
        logging.getLogger("asyncpg").warning("unclosed connection <asyncpg.connection.Connection>")
        assert watch.lost()

"""No record of a log takes a second line, whatever a reason, a login, a URL or SQL by hand puts into it."""

import logging

import pytest
import sqlalchemy as sa

from derwin_db import Database
from derwin_db.connection.pool import DataSource
from derwin_db.errors import ConfigurationError, DerwinError, ScopeError
from derwin_db.isolation.preamble import Preamble
from derwin_db.models import Project
from derwin_db.observe.text import one_line
from derwin_db.session import AdminSession
from derwin_db.settings import ConnectionInfo
from derwin_db.unit.backend import Route

LINE_ENDS = ["\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
OTHERS = ["\0", "\x1b", "\x7f", "\u202e", "\ud800"]


class TestOneLine:
    @pytest.mark.parametrize("mark", LINE_ENDS + OTHERS)
    def test_every_such_mark_is_written_as_an_escape(self, mark: str) -> None:
        shown = one_line(f"a{mark}b")
        assert shown.isprintable()
        assert len(shown.splitlines()) == 1
        assert (shown[0], shown[1], shown[-1]) == ("a", "\\", "b")

    def test_what_can_be_printed_stays(self) -> None:
        assert one_line("Ünïcode 🙂 'quoted' \\n") == "Ünïcode 🙂 'quoted' \\n"


class TestTheAdminDoor:
    @pytest.mark.parametrize("mark", LINE_ENDS + OTHERS)
    def test_takes_a_reason_of_one_line(self, db: Database, mark: str) -> None:
        with pytest.raises(ScopeError, match="one line"):
            db.admin(reason=f"x{mark}admin door: audited by the board (committed, as root): projects.delete")

    async def test_a_login_with_a_line_end_does_not_forge_one(self, db: Database, caplog) -> None:
        class Named:
            """A pool whose login has two lines."""

            server = type("Server", (), {"login": "root\n2026-01-01 admin door: audited"})()

            async def acquire(self) -> None:
                raise ConfigurationError

        async def choose() -> DataSource:
            return DataSource(Named(), Preamble(None))  # type: ignore[arg-type]

        with caplog.at_level(logging.INFO, "derwin_db.admin"), pytest.raises(ConfigurationError):
            async with AdminSession(db.backend, Route(choose), "a test") as admin:
                await admin.set_for_unit("SET LOCAL lock_timeout = 0")
        (record,) = [record for record in caplog.records if record.name == "derwin_db.admin"]
        assert len(record.getMessage().splitlines()) == 1


class TestErrors:
    @pytest.mark.parametrize("field", ["TABLE", "COLUMN", "CONSTRAINT", "DATATYPE", "SCHEMA"])
    async def test_a_name_that_sql_by_hand_makes_up_is_not_repeated(self, db: Database, project: Project, field: str) -> None:
        raised = f"DO $$ BEGIN RAISE 'x' USING ERRCODE = '23505', {field} = E'a\\n2026-01-01 forged: line'; END $$"
        with pytest.raises(DerwinError) as caught:
            async with db.project(project.id) as session:
                await session.sql.execute(sa.text(raised))
        assert len(caught.value.message.splitlines()) == 1
        assert "forged" not in caught.value.message


class TestUrls:
    @pytest.mark.parametrize("url", ["postgresql://a%0Ab@host/db", "postgresql://a@host%0Ab/db", "postgresql://a@host/d%0Db"])
    def test_a_line_end_in_a_name_is_refused(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="control character"):
            ConnectionInfo.parse(url)

    def test_in_a_password_it_is_taken(self) -> None:
        assert ConnectionInfo.parse("postgresql://a:b%0Ac@host/db").password == "b\nc"

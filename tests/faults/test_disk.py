"""Faults 31 to 33: a disk that is full, and one that goes away. Collected where file systems can be mounted."""

import asyncio
import os
import random
import shutil
from pathlib import Path

import pytest

from derwin_db import Database, repos
from derwin_db.errors import DatabaseUnavailable, StorageFull
from derwin_db.models import QATicketUpdate
from tests.faults.disk import free_bytes, grow, small_disk, vanish
from tests.faults.load import keys_of, make_ticket, new_project, raised, spend, ticket, titles_of
from tests.faults.victim import Victim, own

RNG = random.Random(7)


def bulky(name: str):
    """A ticket of about 200 kB that does not compress."""
    data = ticket(name)
    data.description = RNG.randbytes(100_000).hex()
    return data


async def fill(db: Database, project, *, at_most: int = 400) -> tuple[set[str], list]:
    """Write until nothing more is taken, and a few times more; returns what was acknowledged, and the errors."""
    kept, errors = set(), []
    for number in range(at_most):
        data = bulky(f"{number}")

        async def write(data=data) -> None:
            async with db.project(project) as session:
                await repos.qa_tickets.create(session, data)

        error = await raised(write())
        if error is None:
            kept.add(data.title)
        else:
            errors.append(error)
            if len(errors) == 5:
                break
    return kept, errors


@pytest.fixture
async def own_victim(base, request):
    """A server that this test alone ruins."""
    victim = base[0].copy()
    await asyncio.to_thread(victim.start)
    yield victim
    await asyncio.to_thread(victim.remove)


async def move(victim: Victim, database, folder: Path) -> None:
    """Move the tickets onto another disk."""
    connection = await victim.connect(database.owner.database)
    await connection.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
    await connection.execute("ALTER TABLE public.qa_tickets SET TABLESPACE small")
    await connection.execute("CHECKPOINT")
    await connection.close()


class TestDataDiskFull:
    async def test_says_so_loses_nothing_and_goes_on_when_there_is_room(self, own_victim: Victim, base, make_db):
        with small_disk(12) as folder:
            database = own_victim.moved(base[1])
            await move(own_victim, database, folder)
            db = make_db(database)
            project = (await new_project(db)).id
            kept, errors = await fill(db, project)
            assert {type(error) for error in errors} == {StorageFull}
            assert len(kept) > 10
            assert set(await titles_of(db, project)) == kept
            assert await spend(db, project, "another table")
            grow(folder, 60)
            async with db.project(project) as session:
                row = await repos.qa_tickets.create(session, bulky("after"))
                await repos.qa_tickets.update(session, row.id, QATicketUpdate(title="changed"))
            assert set(await titles_of(db, project)) == kept | {"changed"}
            await db.close()
            await asyncio.to_thread(own_victim.stop)


class TestClusterFull:
    async def test_says_so_loses_nothing_and_goes_on_when_there_is_room(self, base, make_db):
        with small_disk(160) as folder:
            victim = base[0].copy(folder)
            await asyncio.to_thread(victim.start)
            db = make_db(victim.moved(base[1]))
            project = (await new_project(db)).id
            await victim.fetch("SELECT pg_switch_wal()")
            assert await spend(db, project, "before")  # the new segment is there, with room for all that follows
            (at,) = await victim.fetch("SELECT (pg_walfile_name_offset(pg_current_wal_lsn())).file_offset")
            assert at["file_offset"] < 4_000_000
            ballast = folder / "ballast"
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, free_bytes(folder) - 4_000_000)
            kept, errors = await fill(db, project)
            assert {type(error) for error in errors} == {StorageFull}
            assert kept
            assert set(await titles_of(db, project)) == kept
            ballast.unlink()
            assert victim.is_running()
            assert await spend(db, project, "after")
            assert set(await titles_of(db, project)) == kept
            assert sorted(await keys_of(db, project)) == ["after", "before"]
            await db.close()
            await asyncio.to_thread(victim.stop)


class TestLogFull:
    async def test_says_that_the_server_stops_and_loses_nothing(self, base, make_db):
        """The write-ahead log on a disk of its own: without room for it the server can't go on, and says so at its end."""
        with small_disk(50) as folder:
            victim = base[0].copy()
            shutil.move(str(victim.data / "pg_wal"), str(folder / "pg_wal"))
            (victim.data / "pg_wal").symlink_to(folder / "pg_wal")
            for path in [folder / "pg_wal", *(folder / "pg_wal").rglob("*")]:
                own(path)
            victim.configure("max_wal_size = 1GB", "checkpoint_timeout = 1h", "wal_recycle = off", "full_page_writes = on")
            await asyncio.to_thread(victim.start)
            db = make_db(victim.moved(base[1]), cleanup_timeout=0.5)
            project = (await new_project(db)).id
            kept, errors = await fill(db, project)
            full = [error for error in errors if type(error) is StorageFull]
            assert kept
            assert full
            assert all("write-ahead log (pg_wal)" in error.message and "start the server" in error.message for error in full)
            await db.close()
            grow(folder, 400)
            await asyncio.to_thread(victim.stop)
            await asyncio.to_thread(victim.start)
            assert kept <= set(await titles_of(db, project))
            assert await spend(db, project, "after")
            await db.close()
            await asyncio.to_thread(victim.remove)


class TestDiskGone:
    async def test_says_unavailable_and_does_not_hang(self, own_victim: Victim, base, make_db):
        with small_disk(12) as folder:
            database = own_victim.moved(base[1])
            await move(own_victim, database, folder)
            db = make_db(database)
            project = (await new_project(db)).id
            async with db.project(project) as session:
                await make_ticket(session)
            await db.close()
            vanish(folder)
            async with asyncio.timeout(10):
                assert type(await raised(titles_of(db, project))) is DatabaseUnavailable
            assert await spend(db, project, "another table")
            with pytest.raises(Exception, match=r"closed|server|checkpoint"):
                await own_victim.fetch("CHECKPOINT")
            async with asyncio.timeout(10):
                error = await raised(titles_of(db, project))
            assert isinstance(error, DatabaseUnavailable)
            await db.close()
            await asyncio.to_thread(own_victim.kill)

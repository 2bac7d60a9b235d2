"""Embeddings become vectors bit for bit, or the revision refuses and changes nothing."""

import asyncio
import logging
import math
import random
import struct
import threading
from collections.abc import Sequence
from typing import ClassVar

import asyncpg
import pytest

from derwin_db.deploy.migrations import MigrationSettings, downgrade, status, upgrade
from derwin_db.errors import DerwinError
from derwin_db.fields.scalars import new_id
from derwin_db.settings import ConnectionInfo

from .catalog import catalog
from .conftest import FENCED, INDEXED, At, ServerOf, run_sql, settings_of

CONVERTED = "c3d58f0e7a42"
DERIVED = "e41a7c93d0b6"
BITS_INDEXED = "f52b8da4e1c7"
FLOATS = struct.Struct("<1536f")

INSERT = """
INSERT INTO rag_corpus (project_id, id, classification, problem, fix_summary, diff, embedding, token_count)
VALUES ($1, $2, 'ui_bug', 'p', 'f', 'd', $3, 1)
"""


def numbers(seed: int) -> bytes:
    """1,536 floats with the extremes that 32 bits have: denormals, the smallest and the largest, both zeros."""
    source = random.Random(seed)
    edge = [1e-45, -1e-45, 1.1754943508222875e-38, 3.4028234663852886e38, -3.4028234663852886e38, 0.0, -0.0]
    return FLOATS.pack(*edge, *(source.gauss(0, 1) for _ in range(1536 - len(edge))))


def fill(connection: ConnectionInfo, values: Sequence[bytes | None] = ()) -> None:
    """Add a project with these embeddings."""

    async def run() -> None:
        opened = await asyncpg.connect(**connection.connect_arguments())
        try:
            project = new_id()
            await opened.execute("INSERT INTO projects (id, slug, name, type) VALUES ($1, 'old', 'Old', 'ERP')", project)
            await opened.executemany(INSERT, [(project, new_id(), value) for value in values])
        finally:
            await opened.close()

    asyncio.run(run())


@pytest.fixture
def old(at: At) -> MigrationSettings:
    """A database from before pgvector."""
    return at(FENCED)


def stored(connection: ConnectionInfo, expression: str) -> list[object]:
    return [row[0] for row in run_sql(connection, f"SELECT {expression} FROM rag_corpus ORDER BY id")]


def write(connection: ConnectionInfo, row: object, value: bytes) -> None:
    async def run() -> None:
        opened = await asyncpg.connect(**connection.connect_arguments())
        try:
            await opened.execute("UPDATE rag_corpus SET embedding = $2 WHERE id = $1", row, value)
        finally:
            await opened.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    thread.join()


def refused(settings: MigrationSettings) -> str:
    """What the refusal of the revision is and says, or nothing where it is not refused."""
    try:
        upgrade(settings, CONVERTED)
    except DerwinError as refusal:
        return f"{type(refusal).__name__}: {refusal}"
    return ""


class TestConvert:
    def test_bit_for_bit_and_back(self, old: MigrationSettings, caplog: pytest.LogCaptureFixture) -> None:
        values = [numbers(seed) for seed in range(401)]  # more than two batches
        fill(old.connection, [*values, None])
        with caplog.at_level("INFO", logger="derwin_db.migrations"):
            upgrade(old, CONVERTED)
        assert [record.message for record in caplog.records if "converted" in record.message] == [
            "converted 200 of 401 embeddings",
            "converted 400 of 401 embeddings",
            "converted 401 of 401 embeddings",
        ]
        read = stored(old.connection, "embedding::real[]")
        assert read[-1] is None
        assert [FLOATS.pack(*value) for value in read[:-1]] == values
        downgrade(old, FENCED)
        assert stored(old.connection, "embedding") == [*values, None]

    NO_VECTORS: ClassVar = {
        "empty": b"",
        "a byte short": b"\0" * 6143,
        "a number long": b"\0" * 6148,
        "not a number": FLOATS.pack(math.nan, *([1.0] * 1535)),
        "infinite": FLOATS.pack(*([1.0] * 1535), math.inf),
    }

    def test_refuses_what_is_no_vector_by_its_id_and_changes_nothing(self, old: MigrationSettings) -> None:
        fill(old.connection, [numbers(1), b"", numbers(2)])
        before = catalog(old.connection)
        bad_id = run_sql(old.connection, "SELECT id FROM rag_corpus ORDER BY id")[1][0]
        for what, bad in self.NO_VECTORS.items():
            write(old.connection, bad_id, bad)
            rows = stored(old.connection, "embedding")
            told = refused(old)
            assert told.startswith("ConfigurationError: 1 of 3 "), what
            assert str(bad_id) in told, what
            assert (catalog(old.connection), stored(old.connection, "embedding")) == (before, rows), what
            assert run_sql(old.connection, "SELECT version_num FROM alembic_version")[0][0] == FENCED, what
        run_sql(old.connection, f"UPDATE rag_corpus SET embedding = NULL WHERE id = '{bad_id}'", "SELECT 1")
        assert upgrade(old, CONVERTED).current == CONVERTED

    def test_takes_in_what_is_changed_after_its_batch(self, old: MigrationSettings) -> None:
        """A row that is written again after it was converted is converted again, under the lock at the end."""
        fill(old.connection, [numbers(seed) for seed in range(201)])
        changed = numbers(999)
        first = run_sql(old.connection, "SELECT id FROM rag_corpus ORDER BY project_id, id LIMIT 1")[0][0]

        def write_after_the_first_batch(record: logging.LogRecord) -> bool:
            if record.getMessage().startswith("converted 200 of 201"):
                write(old.connection, first, changed)
            return True

        log = logging.getLogger("derwin_db.migrations")
        log.addFilter(write_after_the_first_batch)
        log.setLevel("INFO")
        try:
            upgrade(old, CONVERTED)
        finally:
            log.removeFilter(write_after_the_first_batch)
        read = run_sql(old.connection, f"SELECT embedding::real[] FROM rag_corpus WHERE id = '{first}'")[0][0]
        assert FLOATS.pack(*read) == changed

    def test_goes_on_after_a_kill_half_way(self, old: MigrationSettings) -> None:
        fill(old.connection, [numbers(seed) for seed in range(5)])
        run_sql(
            old.connection,
            "CREATE EXTENSION vector",
            "GRANT SELECT, UPDATE ON rag_corpus TO derwin_backfill",
            "CREATE POLICY derwin_backfill ON rag_corpus TO derwin_backfill USING (true)",
            "ALTER TABLE rag_corpus ADD COLUMN embedding_new vector(1536)",
            "SELECT 1",
        )
        assert upgrade(old, CONVERTED).current == CONVERTED
        assert len(stored(old.connection, "embedding::real[]")) == 5


REFUSE_WITH_THE_INDEX = (
    """
    CREATE FUNCTION refuse_with_the_index() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF to_regclass('public.ix_rag_corpus_embedding') IS NOT NULL THEN RAISE 'the index is still there'; END IF;
        RETURN NEW;
    END $$
    """,
    "CREATE TRIGGER refuse BEFORE UPDATE ON rag_corpus FOR EACH ROW EXECUTE FUNCTION refuse_with_the_index()",
)
"""A row that is written while the index is there is refused."""


class TestIndex:
    @pytest.mark.parametrize(
        ("before", "name", "columns"),
        [
            (CONVERTED, "ix_rag_corpus_embedding", "USING hnsw (embedding vector_cosine_ops)"),
            (DERIVED, "ix_rag_corpus_bits", "(project_id, id)"),
        ],
    )
    def test_drops_an_invalid_leftover_first(self, at: At, before: str, name: str, columns: str) -> None:
        old = at(before)
        run_sql(
            old.connection,
            f"CREATE INDEX {name} ON rag_corpus {columns}",
            f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}'::regclass",
            "SELECT 1",
        )
        upgrade(old, INDEXED if before == CONVERTED else BITS_INDEXED)
        valid = run_sql(old.connection, f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{name}'::regclass")
        assert valid[0][0] is True

    def test_goes_when_nothing_reads_it_any_more_and_comes_back_on_the_way_down(self, server_of: ServerOf) -> None:
        old = settings_of(server_of("18").migrated().owner)
        names = "SELECT indexname FROM pg_indexes WHERE indexname IN ('ix_rag_corpus_embedding', 'ix_rag_corpus_bits')"
        assert [row[0] for row in run_sql(old.connection, names)] == ["ix_rag_corpus_bits"]
        downgrade(old, BITS_INDEXED)
        assert len(run_sql(old.connection, names)) == 2

    @pytest.mark.parametrize("before", [FENCED, INDEXED])
    def test_goes_before_every_row_is_written_again(self, at: At, before: str) -> None:
        """An index that is about to go would take in each row once more: hours, in a large table."""
        old = at(before)
        fill(old.connection, [None])
        run_sql(old.connection, *REFUSE_WITH_THE_INDEX, "SELECT 1")
        upgrade(old)
        assert run_sql(old.connection, "SELECT to_regclass('public.ix_rag_corpus_embedding')") == [(None,)]

    @pytest.mark.parametrize("to", [DERIVED, "+1"])
    def test_stays_for_those_who_go_on_reading_it(self, at: At, to: str) -> None:
        old = at(INDEXED)
        pending = status(old).pending
        assert upgrade(old, to).current == (pending[0] if to == "+1" else to)
        assert run_sql(old.connection, "SELECT to_regclass('public.ix_rag_corpus_embedding') IS NOT NULL") == [(True,)]


TICKET = """
INSERT INTO qa_tickets
    (project_id, id, title, description, steps_to_reproduce, severity, classification, confidence, risk_score)
SELECT id, $1, $2, 'd', '["open it"]', 'LOW', 'ui_bug', 0.5, 0.5 FROM projects
"""
UNDERIVED = "SELECT count(*) FROM {} WHERE words IS NULL"


def add_tickets(connection: ConnectionInfo, titles: list[str]) -> None:
    async def run() -> None:
        opened = await asyncpg.connect(**connection.connect_arguments())
        try:
            await opened.executemany(TICKET, [(new_id(), title) for title in titles])
        finally:
            await opened.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    thread.join()


class TestDerive:
    """What search compares is derived for rows that were there, whatever is written meanwhile."""

    def test_of_every_row_and_back(self, old: MigrationSettings, caplog: pytest.LogCaptureFixture) -> None:
        values = [numbers(seed) for seed in range(3)]
        fill(old.connection, [*values, None])
        add_tickets(old.connection, [f"Total {n}" for n in range(501)])
        with caplog.at_level("INFO", logger="derwin_db.migrations"):
            upgrade(old)
        assert [record.message for record in caplog.records if "for search" in record.message] == [
            "prepared 4 of 4 rows of rag_corpus for search",
            "prepared 500 of 501 rows of qa_tickets for search",
            "prepared 501 of 501 rows of qa_tickets for search",
        ]
        assert [FLOATS.pack(*value) for value in stored(old.connection, "embedding::real[]")[:3]] == values
        assert stored(old.connection, "bits IS NOT DISTINCT FROM binary_quantize(embedding)::bit(1536)") == [True] * 4
        assert run_sql(old.connection, "SELECT count(*) FROM qa_tickets WHERE words @@ 'total & open'")[0][0] == 501
        downgrade(old, INDEXED)
        assert run_sql(old.connection, "SELECT to_regprocedure('public.derwin_words(text)')")[0][0] is None

    def test_takes_in_what_is_written_meanwhile(self, at: At) -> None:
        old = at(INDEXED)
        fill(old.connection)
        add_tickets(old.connection, [f"Total {n}" for n in range(501)])

        def write_after_the_first_batch(record: logging.LogRecord) -> bool:
            if record.getMessage().startswith("prepared 500 of 501"):
                add_tickets(old.connection, ["meanwhile"])
            return True

        log = logging.getLogger("derwin_db.migrations")
        log.addFilter(write_after_the_first_batch)
        log.setLevel("INFO")
        try:
            upgrade(old, DERIVED)
        finally:
            log.removeFilter(write_after_the_first_batch)
        assert run_sql(old.connection, UNDERIVED.format("qa_tickets"))[0][0] == 0
        assert run_sql(old.connection, "SELECT count(*) FROM qa_tickets WHERE words @@ 'meanwhile'")[0][0] == 1

    def test_goes_on_after_a_kill_half_way(self, old: MigrationSettings) -> None:
        fill(old.connection, [numbers(seed) for seed in range(5)])
        add_tickets(old.connection, [f"Total {n}" for n in range(501)])

        class Killed(Exception):
            pass

        def die_after_the_first_batch(record: logging.LogRecord) -> bool:
            if record.getMessage().startswith("prepared 500 of 501"):
                raise Killed
            return True

        log = logging.getLogger("derwin_db.migrations")
        log.addFilter(die_after_the_first_batch)
        log.setLevel("INFO")
        try:
            with pytest.raises(Killed):
                upgrade(old, DERIVED)
        finally:
            log.removeFilter(die_after_the_first_batch)
        assert run_sql(old.connection, UNDERIVED.format("qa_tickets"))[0][0] == 1
        assert upgrade(old, DERIVED).current == DERIVED
        assert run_sql(old.connection, UNDERIVED.format("qa_tickets"))[0][0] == 0
        policies = "SELECT policyname FROM pg_policies WHERE policyname = 'derwin_backfill'"
        assert run_sql(old.connection, policies) == []

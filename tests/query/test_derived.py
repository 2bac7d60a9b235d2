"""Statements that read columns which a trigger derives."""

from derwin_db.models import RAGCorpus
from derwin_db.query.builders import table_of
from derwin_db.query.derived import by_key


def test_the_bounds_of_a_key_leave_out_neither_the_first_nor_the_last() -> None:
    first, last = (str(bound) for bound in by_key(table_of(RAGCorpus)))
    assert "rag_corpus.id >= (SELECT" in first
    assert "rag_corpus.id <= (SELECT" in last

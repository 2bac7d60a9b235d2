"""Search by words: which rows have words of a text, and how much that says.

A word weighs the more, the fewer rows of the project have it; a row weighs the sum of its words. Statistics are those of
the one project: what other projects write about is not to be seen in its answers. The words of a text are those that
`derwin_words` finds (derwin_db/sql/words.*.sql): no language is assumed.

Source:
    The weight is the inverse document frequency of BM25: S. Robertson and H. Zaragoza, The probabilistic relevance framework,
    Foundations and Trends in Information Retrieval 3 (2009) 333-389. Under policies no index serves `@@`, so the project's
    rows are read: docs/performance.md.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY

from derwin_db.query.builders import scope_of
from derwin_db.query.derived import by_key

MOST_WORDS = 64
"""How many words of a text are searched for: the longest, which say the most."""


def scores(table: Any, conditions: Sequence[sa.ColumnElement[bool]]) -> sa.Subquery:
    """Return `id` and `score` of the project's rows that have a word of the parameter `text`. `table` has a column `words`.

    A score is an integer, in millionths, so that a cursor can hold it.
    """
    wanted = _wanted()
    any_word = sa.select(sa.cast(sa.func.string_agg(wanted.c.quoted, " | "), TSQUERY)).scalar_subquery()
    has_word = _matches(table.c.words, sa.cast(wanted.c.quoted, TSQUERY))
    words_of_row = sa.select(sa.func.array_agg(wanted.c.word)).where(has_word).scalar_subquery()
    hits = (
        sa.select(table.c.id, words_of_row.label("words"))
        .where(scope_of(table), *by_key(table), _matches(table.c.words, any_word), *conditions)
        .cte("hits")
    )
    weights = _weights(table, hits)
    word = sa.func.unnest(hits.c.words).table_valued(sa.column("word", sa.Text()), name="w").render_derived(name="w")
    score = sa.cast(sa.func.round(1_000_000 * sa.func.sum(weights.c.weight)), sa.BigInteger)
    query = sa.select(hits.c.id, score.label("score"))
    query = query.select_from(hits.join(word, sa.true()).join(weights, weights.c.word == word.c.word))
    return query.group_by(hits.c.id).subquery("scores")


def _matches(words: sa.ColumnElement[Any], query: Any) -> sa.ColumnElement[bool]:
    return words.op("@@", is_comparison=True)(query)


def _wanted() -> sa.CTE:
    """Return the words of the text, each also as the text of a query that finds it alone, quoted for PostgreSQL's parser."""
    given = sa.func.derwin_words(sa.bindparam("text", type_=sa.Text()))
    words = sa.select(sa.func.unnest(sa.func.tsvector_to_array(given), type_=sa.Text()).label("word")).subquery("given")
    escaped = sa.func.replace(sa.func.replace(words.c.word, "\\", "\\\\"), "'", "''")
    query = sa.select(words.c.word, sa.func.concat("'", escaped, "'", type_=sa.Text()).label("quoted"))
    return query.order_by(sa.func.length(words.c.word).desc(), words.c.word).limit(MOST_WORDS).cte("words")


def _weights(table: Any, hits: sa.CTE) -> sa.CTE:
    rows = sa.select(sa.func.count()).select_from(table).where(scope_of(table), *by_key(table)).scalar_subquery()
    word = sa.func.unnest(hits.c.words).table_valued(sa.column("word", sa.Text()), name="w").render_derived(name="w")
    having = sa.func.count()
    weight: sa.ColumnElement[float] = sa.func.ln(1 + (rows - having + 0.5) / (having + 0.5), type_=sa.Double())
    return (
        sa.select(word.c.word, weight.label("weight"))
        .select_from(hits.join(word, sa.true()))
        .group_by(word.c.word)
        .cte("weights")
    )

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
    of_row = sa.select(sa.func.array_agg(wanted.c.number)).where(_matches(table.c.words, wanted.c.query)).scalar_subquery()
    hits = sa.select(table.c.id, of_row.label("numbers"))
    hits = hits.where(scope_of(table), *by_key(table), _matches(table.c.words, any_word), *conditions)
    found = _found(hits.subquery("hits"))
    weights = _weights(table, found)
    score = sa.cast(sa.func.round(1_000_000 * sa.func.sum(weights.c.weight)), sa.BigInteger)
    query = sa.select(found.c.id, score.label("score"))
    query = query.select_from(found.join(weights, weights.c.number == found.c.number))
    return query.group_by(found.c.id).subquery("scores")


def _matches(words: sa.ColumnElement[Any], query: Any) -> sa.ColumnElement[bool]:
    return words.op("@@", is_comparison=True)(query)


def _wanted() -> sa.CTE:
    """Return the words of the text: a number, the word quoted for PostgreSQL's parser, and the query that finds it alone."""
    given = sa.func.derwin_words(sa.bindparam("text", type_=sa.Text()))
    words = sa.select(sa.func.unnest(sa.func.tsvector_to_array(given), type_=sa.Text()).label("word")).subquery("given")
    escaped = sa.func.replace(sa.func.replace(words.c.word, "\\", "\\\\"), "'", "''")
    quoted = sa.func.concat("'", escaped, "'", type_=sa.Text())
    by_length = [sa.func.length(words.c.word).desc(), words.c.word]
    number = sa.func.row_number().over(order_by=by_length)
    longest = (
        sa.select(number.label("number"), quoted.label("quoted")).order_by(*by_length).limit(MOST_WORDS).subquery("longest")
    )
    return sa.select(*longest.c, sa.cast(longest.c.quoted, TSQUERY).label("query")).cte("words")


def _found(hits: sa.Subquery) -> sa.CTE:
    """Return a row for each row of the table and each word, by its number, that it has."""
    number = (
        sa.func.unnest(hits.c.numbers).table_valued(sa.column("number", sa.BigInteger()), name="w").render_derived(name="w")
    )
    return sa.select(hits.c.id, number.c.number).select_from(hits.join(number, sa.true())).cte("found")


def _weights(table: Any, found: sa.CTE) -> sa.CTE:
    rows = sa.select(sa.func.count()).select_from(table).where(scope_of(table), *by_key(table)).scalar_subquery()
    having = sa.func.count()
    weight: sa.ColumnElement[float] = sa.func.ln(1 + (rows - having + 0.5) / (having + 0.5), type_=sa.Double())
    return sa.select(found.c.number, weight.label("weight")).group_by(found.c.number).cte("weights")

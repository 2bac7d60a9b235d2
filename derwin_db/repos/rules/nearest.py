"""The entries that are most similar to an embedding: exact in effect, from the signs of one project's embeddings alone.

The sign of each number is a bit. How many bits differ between two embeddings tells the angle between them, give or take: of
independent signs a share of angle / pi differs, with the spread of a binomial distribution. So the bits of all entries of the
project are compared, which an index answers by itself, and the true distance is computed where it can matter:

1. `nearest` are the entries that are nearest by bits, and `first` the first of these, compared truly. The best of them are at
   an angle that has to be beaten.
2. `reach` is in how many bits an entry at that angle may differ: as many as the best ones do on average, and four times
   their spread, or that of the binomial distribution if it is larger, but at least five bits.
3. What else is within reach is compared truly. Where no neighbours stand out that is most of the project: it is read exactly
   then, by itself.

Source:
    Signs and angles: M. S. Charikar, Similarity estimation techniques from rounding algorithms, STOC 2002. That the reach
    suffices was measured on seven geometries and on word vectors: benchmarks/vectors.py, docs/performance.md.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from pgvector.sqlalchemy import BIT
from sqlalchemy.dialects.postgresql import ARRAY, REAL

from derwin_db.fields.vector import VECTOR_SIZE, Vector
from derwin_db.models.rag_corpus import RAGCorpus
from derwin_db.query.builders import param, scope_of
from derwin_db.query.derived import by_key, searchable

SPREADS = 4
"""How many times the spread lies between the mean of the best and what is out of reach."""

LEAST_MARGIN = 5
"""Bits that are within reach in any case: nearly equal embeddings have hardly a spread."""

LEAST_BEST = 10
"""Of how many the mean and the spread are taken at least: of one or two they would say little."""

ENTRIES = searchable(RAGCorpus, "bits")

_EMBEDDING = sa.cast(sa.bindparam("embedding", type_=ARRAY(REAL)), Vector())
_WANTED = sa.select(
    _EMBEDDING.label("embedding"), sa.cast(sa.func.binary_quantize(_EMBEDDING), BIT(VECTOR_SIZE)).label("bits")
).cte("wanted")


def sizes(limit: int) -> Mapping[str, int]:
    """Return the parameters of `nearest` for a limit: how many are kept by their bits, compared first, taken for the best."""
    return {"kept": 400 + 10 * limit, "first": 30 + 2 * limit, "best": max(limit, LEAST_BEST)}


def nearest(limit: sa.ColumnElement[int], *, by_name: bool) -> sa.Select[Any]:
    """Return the ids and distances of the entries that are nearest to the parameter `embedding`.

    Order:
        Nearest first, then by id.
    """
    kept = _kept(by_name=by_name)
    first = _compared(sa.select(*kept.c).order_by(*kept.c).limit(_size("first")).subquery("f")).cte("first")
    reach = _reach(kept, first)
    rest = sa.select(*kept.c).where(kept.c.apart <= _one(reach.c.bits), ~_one(reach.c.is_cut))
    rest = rest.order_by(*kept.c).offset(_size("first"))
    compared = sa.union_all(
        sa.select(first.c.id, first.c.distance),
        _distances(_compared(rest.subquery("r"))),
        _beyond(first, reach, by_name=by_name),
    ).subquery("compared")
    return sa.select(*compared.c).order_by(compared.c.distance, compared.c.id).limit(limit)


def similarity(entry: Any) -> sa.ColumnElement[float]:
    """Return the cosine similarity of an entry's embedding to the wanted one."""
    return 1 - _distance(entry)


def _one(column: sa.ColumnElement[Any]) -> Any:
    """Return the value of a CTE of one row. Computed once, whatever plan is made: a plan for any parameters folds nothing."""
    return sa.select(column).scalar_subquery()


def _selected(*columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    return sa.select(*columns)


def _size(name: str) -> sa.BindParameter[int]:
    return sa.bindparam(name, type_=sa.Integer())


def _distance(entry: Any) -> sa.ColumnElement[float]:
    return sa.func.cosine_distance(entry.c.embedding, _one(_WANTED.c.embedding), type_=sa.Double())


def _apart(entry: Any) -> sa.ColumnElement[float]:
    return sa.func.hamming_distance(entry.c.bits, _one(_WANTED.c.bits), type_=sa.Double())


def _entries(*columns: sa.ColumnElement[Any], by_name: bool) -> sa.Select[Any]:
    """Select from the project's entries that have an embedding."""
    query = sa.select(*columns).select_from(ENTRIES).where(scope_of(ENTRIES), ENTRIES.c.bits.is_not(None), *by_key(ENTRIES))
    if by_name:
        query = query.where(ENTRIES.c.classification == param("classification", ENTRIES.c.classification))
    return query


def _kept(*, by_name: bool) -> sa.CTE:
    apart = _apart(ENTRIES)
    query = _entries(apart.label("apart"), ENTRIES.c.id, by_name=by_name)
    return query.order_by(apart, ENTRIES.c.id).limit(_size("kept")).cte("nearest")


def _compared(chosen: sa.Subquery) -> sa.Select[Any]:
    """Return the chosen entries with their true distances, each looked up by its key: a join would read the project."""
    entry = ENTRIES.alias("entry")
    found = sa.select(_distance(entry).label("distance")).where(scope_of(entry), entry.c.id == chosen.c.id).limit(1)
    one = found.correlate(chosen).lateral("one")
    return _selected(chosen.c.apart, chosen.c.id, one.c.distance).select_from(chosen.join(one, sa.true()))


def _distances(compared: sa.Select[Any]) -> sa.Select[Any]:
    inner = compared.subquery("c")
    return _selected(inner.c.id, inner.c.distance)


def _reach(kept: sa.CTE, first: sa.CTE) -> sa.CTE:
    """Return one row: how many bits are within reach, and whether what was kept by its bits ends before that."""
    best = (
        sa.select(first.c.apart, first.c.distance).order_by(first.c.distance, first.c.id).limit(_size("best")).subquery("best")
    )
    cosine = sa.func.greatest(-1.0, sa.func.least(1.0, 1 - sa.func.max(best.c.distance)))
    share = sa.func.least(0.5, sa.func.acos(cosine, type_=sa.Double()) / sa.func.pi(type_=sa.Double()))
    spread = sa.func.greatest(sa.func.stddev_pop(best.c.apart), sa.func.sqrt(VECTOR_SIZE * share * (1 - share)))
    margin: sa.ColumnElement[float] = sa.func.greatest(LEAST_MARGIN, SPREADS * spread, type_=sa.Double())
    bits = sa.select((sa.func.avg(best.c.apart) + margin).label("bits")).subquery("bits")
    edge = (
        sa.select(sa.func.count().label("count"), sa.func.max(kept.c.apart).label("apart")).select_from(kept).subquery("edge")
    )
    is_cut = sa.and_(edge.c.count == _size("kept"), bits.c.bits >= edge.c.apart)
    return sa.select(bits.c.bits, is_cut.label("is_cut")).select_from(bits.join(edge, sa.true())).cte("reach")


def _beyond(first: sa.CTE, reach: sa.CTE, *, by_name: bool) -> sa.Select[Any]:
    """Return all within reach but the first, from the project's entries; nothing where enough were kept by their bits."""
    last = sa.select(first.c.apart, first.c.id).order_by(first.c.apart.desc(), first.c.id.desc()).limit(1).subquery("last")
    apart = _apart(ENTRIES)
    query = _entries(ENTRIES.c.id, _distance(ENTRIES).label("distance"), by_name=by_name)
    query = query.where(_one(reach.c.is_cut), apart <= _one(reach.c.bits), apart >= _one(last.c.apart))
    return query.where(sa.or_(apart > _one(last.c.apart), ENTRIES.c.id > _one(last.c.id)))

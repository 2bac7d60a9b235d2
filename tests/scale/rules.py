"""What no statement may do that is to run on a distributed server, each rule as a function from SQL to what breaks it.

Source: docs/explanation/scale.md.
"""

import re

from derwin_db.sql import PROJECT_TABLES

_CALL = re.compile(r"(?<![\w.])(?:pg_catalog\.|public\.)?([a-z_][a-z0-9_]*)\s*\(", re.IGNORECASE)
_TABLE = re.compile(
    r"\b(?P<how>FROM|JOIN|UPDATE|INTO|,)\s+(?:ONLY\s+)?public\.(?P<table>[a-z_]+)(?![\w.])(?:\s+AS\s+(?P<alias>[a-z_0-9]+))?",
    re.IGNORECASE,
)
_UPSERT = re.compile(r"\bDO UPDATE SET\b(?P<set>.*?)(?:\bWHERE\b|\bRETURNING\b|$)", re.IGNORECASE | re.DOTALL)
_UPDATE = re.compile(r"(?:^|\()\s*UPDATE\b|\bUPDATE public\.", re.IGNORECASE)
_INSERTED = re.compile(r"\bINTO public\.(?P<table>[a-z_]+)(?:\s+AS\s+\w+)?\s*\((?P<columns>[^)]*)\)", re.IGNORECASE)
_RETURNING = re.compile(r"\bRETURNING\b(?P<list>.*)$", re.IGNORECASE | re.DOTALL)

_FROM_VALUES = re.compile(r"\bINTO public\.\w+[^()]*\([^)]*\)\s*VALUES\b(?P<values>.*)", re.IGNORECASE | re.DOTALL)
_FROM_SELECT = re.compile(r"\bINTO public\.\w+[^()]*\([^)]*\)\s*(?:SELECT|WITH)\b(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_SET = re.compile(
    r"\bUPDATE public\.\w+.*?\bSET\b(?P<set>.*?)(?:\bFROM\b|\bWHERE\b|\bRETURNING\b|$)", re.IGNORECASE | re.DOTALL
)
_CHOOSING = re.compile(r"\b(?:coalesce|greatest|least|nullif)\s*\([^()]*\(|\bCASE\b", re.IGNORECASE)

FORBIDDEN = {
    "set_config": re.compile(r"\bset_config\s*\(", re.IGNORECASE),
    "an advisory lock": re.compile(r"\bpg_(?:try_)?advisory_", re.IGNORECASE),
    "MERGE": re.compile(r"(?:^|\W)MERGE\s+INTO\b", re.IGNORECASE),
    "a lock on a table": re.compile(r"\bLOCK\s+TABLE\b", re.IGNORECASE),
    "a sequence": re.compile(r"\b(?:nextval|currval|setval)\s*\(", re.IGNORECASE),
    "session state": re.compile(r"^\s*(?:SET\s+(?!LOCAL\b)|RESET\b|PREPARE\b|LISTEN\b|DECLARE\b)", re.IGNORECASE),
}


def forbidden(sql: str) -> list[str]:
    """Return what of the list above stands in the statement."""
    return [name for name, pattern in FORBIDDEN.items() if pattern.search(sql)]


def reads_in_values(sql: str) -> bool:
    """Tell whether an INSERT of VALUES has a subquery among them."""
    found = _FROM_VALUES.search(sql)
    return found is not None and re.search(r"\(\s*SELECT\b", found["values"], re.IGNORECASE) is not None


def returns_without_conflict(sql: str) -> bool:
    """Tell whether an INSERT from a SELECT returns rows, and says nothing of conflicts."""
    found = _FROM_SELECT.search(sql)
    if found is None or "RETURNING" not in found["rest"]:
        return False
    return "ON CONFLICT" not in found["rest"]


def inserts_from_arrays_alone(sql: str) -> bool:
    """Tell whether an INSERT takes its rows from arrays, and from no table beside them: the coordinator would write them."""
    found = _FROM_SELECT.search(sql)
    if found is None or "unnest(" not in found["rest"]:
        return False
    return re.search(r"\bFROM public\.\w+", found["rest"]) is None or "WITH" in found.group(0).split("unnest(")[0].upper()


def chooses_by_function(sql: str, changing_functions: set[str]) -> set[str]:
    """Return functions that are not immutable, inside of CASE, COALESCE and the like in an UPDATE."""
    parts = [match["set"] for match in _SET.finditer(sql)]
    chosen = [part for part in parts if _CHOOSING.search(part)]
    inside = {name for part in chosen for name in called(re.sub(r"\w+\s*=\s*now\(\)", "", part))}
    return inside & changing_functions


def called(sql: str) -> set[str]:
    """Return the names that look like calls of functions, in lower case."""
    return {name.lower() for name in _CALL.findall(sql)}


def volatile(sql: str, volatile_functions: set[str]) -> set[str]:
    """Return the volatile functions of an UPDATE, of an upsert, or of what a statement returns."""
    parts = [sql] if _UPDATE.search(sql) else []
    parts += [match["set"] for match in _UPSERT.finditer(sql)]
    parts += [match["list"] for match in _RETURNING.finditer(sql)]
    return set().union(*(called(part) for part in parts)) & volatile_functions


def upserted_by_function(sql: str) -> list[str]:
    """Return the functions that an upsert sets columns to: shards might each compute their own."""
    return [name for match in _UPSERT.finditer(sql) for name in sorted(called(match["set"]))]


def unbound(sql: str) -> list[str]:
    """Return the tables of the schema that the statement does not bind to a parameter or to a table that it binds."""
    found = []
    for match in _TABLE.finditer(sql):
        table, name = match["table"], match["alias"] or match["table"]
        if table not in ("projects", *PROJECT_TABLES):
            continue
        column = "id" if table == "projects" else "project_id"
        if match["how"].upper() == "INTO":
            inserted = _INSERTED.search(sql, match.start())
            if inserted is None or column not in inserted["columns"]:
                found.append(f"INSERT INTO {table}")
        elif not re.search(rf"\b{name}\.{column} = \$\d+", sql):
            found.append(name)
    return found

"""What an examination says."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MIGRATE = "`derwin-db migrate`, as the owner"
REMAKE = "`derwin-db roles create --no-passwords`, as the owner, makes policies and grants again"
RESTORE = "as the owner, restore what the migrations make: `derwin-db rollback` to before the fences, then `derwin-db migrate`"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `fix` says what mends it where it is not as it should be."""

    name: str
    ok: bool
    detail: str
    fix: str | None = None


@dataclass(frozen=True)
class Report:
    """All checks, and whether every one is well. A server that can't be reached, or has no schema, is checked no further."""

    ok: bool
    checks: Sequence[Check]


def verdict(name: str, wrong: Iterable[str], *, well: str, fix: str) -> Check:
    """Return the check: well where nothing is wrong, else what is, and what mends it."""
    found = list(wrong)
    return Check(name, ok=not found, detail="; ".join(found) if found else well, fix=fix if found else None)

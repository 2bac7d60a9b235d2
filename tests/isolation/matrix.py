"""The whole attack matrix: every attack there is, samples of it, and how it is run."""

import logging
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import tests.isolation.servers  # noqa: F401  # registers its scripts
from derwin_db.errors import DerwinError
from tests.isolation.arena import Arena
from tests.isolation.callers import caller_cases
from tests.isolation.estimating import estimate_scripts
from tests.isolation.keys import key_scripts
from tests.isolation.methods import method_cases
from tests.isolation.objects import login_cases, object_cases
from tests.isolation.outside import outside_scripts
from tests.isolation.published import outcome_of
from tests.isolation.queueing import queue_scripts
from tests.isolation.sealing import sealing_scripts
from tests.isolation.sharing import sharing_scripts
from tests.isolation.statements import statement_cases
from tests.isolation.states import Case, judge
from tests.isolation.units import Script, unit_scripts
from tests.isolation.writing import writing_scripts

Attack = Case | Script


async def all_attacks(arena: Arena) -> list[Attack]:
    """Return every attack: made from the models, the repositories' methods and the forms of attack."""
    return [
        *await method_cases(arena),
        *caller_cases(),
        *statement_cases(),
        *object_cases(),
        *login_cases(),
        *unit_scripts(),
        *sealing_scripts(),
        *key_scripts(),
        *writing_scripts(),
        *estimate_scripts(),
        *sharing_scripts(),
        *queue_scripts(),
        *outside_scripts(),
    ]


def sample(attacks: Sequence[Attack], size: int, seed: int) -> list[Attack]:
    """Return attacks of each family: as many as its share, five at the least, and no two of one script before all are there."""
    source = random.Random(seed)
    families: dict[int, list[Attack]] = defaultdict(list)
    for attack in attacks:
        families[attack.family].append(attack)
    chosen: list[Attack] = []
    for members in families.values():
        share = max(5, round(size * len(members) / len(attacks)))
        chosen += source.sample(members, min(share, len(members)))
    return chosen


@dataclass
class Result:
    """What a run of the matrix found."""

    cases: int = 0
    seconds: float = 0.0
    by_family: Counter[int] = field(default_factory=Counter)
    outcomes: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Of attacks on methods, by method and state."""
    leaked: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return self.cases > 0 and not (self.leaked or self.changed or self.differs)

    @property
    def failures(self) -> list[str]:
        return [*self.leaked, *self.changed, *self.differs]


async def run(arena: Arena, attacks: Sequence[Attack], *, tell: Callable[[int], None] = lambda _: None) -> Result:
    """Run the attacks, and look at the end, as the owner, whether B is as it was."""
    result = Result()
    started = time.monotonic()
    with watched_logs() as records:
        for attack in attacks:
            await _run_one(arena, attack, result)
            _look_at_logs(arena, attack, records, result)
            tell(result.cases)
    if await arena.shared.digest(arena.b.project_id) != arena.digest:
        result.changed.append("after all: the rows of B are not what they were")
    result.seconds = time.monotonic() - started
    return result


async def _run_one(arena: Arena, attack: Attack, result: Result) -> None:
    result.cases += 1
    result.by_family[attack.family] += 1
    if isinstance(attack, Script):
        try:
            await attack.run(arena)
        except (AssertionError, DerwinError) as error:
            result.leaked.append(f"{attack.title}: {error!r:.500}")
        return
    verdict = await judge(arena, attack)
    if attack.method:
        result.outcomes[attack.method, attack.state][outcome_of(verdict)] += 1
    if verdict.leaked:
        result.leaked.append(str(verdict))
    if verdict.changed:
        result.changed.append(str(verdict))
    if verdict.differs or isinstance(verdict.outcome, AssertionError):
        result.differs.append(str(verdict))


def _look_at_logs(arena: Arena, attack: Attack, records: list[str], result: Result) -> None:
    """Family 10: no record of any attack tells of B."""
    if isinstance(attack, Case):
        result.by_family[10] += 1
        found = arena.of_b.found_in(records)
        if found:
            result.leaked.append(f"{attack.title}: logged {found}")
    records.clear()


@contextmanager
def watched_logs() -> Iterator[list[str]]:
    """Yield all that is logged meanwhile, at any level, as text with its exceptions."""
    records: list[str] = []
    formatter = logging.Formatter()

    class Watching(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(formatter.format(record))

    root, watching = logging.getLogger(), Watching()
    level = root.level
    root.addHandler(watching)
    root.setLevel(logging.DEBUG)
    try:
        yield records
    finally:
        root.removeHandler(watching)
        root.setLevel(level)

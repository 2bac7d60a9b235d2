"""Attacks on the repositories, made from the signatures of their public methods (families 1 to 9).

A method is called with valid arguments of A first, found by trying: that proves that the attack fails for what is foreign in
it, and for nothing else. Then each argument that can name something of another project names something of B.
"""

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Unpack, get_args, get_origin, get_type_hints
from uuid import UUID

from derwin_db import AdminSession, ProjectSession, repos
from derwin_db.errors import DerwinError, InvalidCursor, InvalidInput, InvalidReference, NotFound, ScopeError
from derwin_db.unit.transaction import State
from tests.isolation.arena import Arena, World
from tests.isolation.arguments import Argument, Recorder, Value, candidates, cursors, filters
from tests.isolation.states import STATES, Attack, Case, Undo, collected

_MOST_TRIES = 1000

Call = Mapping[str, Value]


@dataclass(frozen=True)
class Method:
    """One public method of one repository."""

    table: str
    name: str
    parameters: dict[str, inspect.Parameter] = field(hash=False)
    hints: dict[str, Any] = field(hash=False)

    @property
    def title(self) -> str:
        return f"{self.table}.{self.name}"

    @property
    def takes_project(self) -> bool:
        """Whether a project's session may call it."""
        return self.hints["session"] is not AdminSession

    @property
    def required(self) -> list[str]:
        return [
            name for name in self._named() if self.parameters[name].default is inspect.Parameter.empty or name in self.one_of
        ]

    @property
    def one_of(self) -> tuple[str, ...]:
        """Arguments with a default that are given all the same: without any of its like the method refuses."""
        return ("embedding",) if self.title == "rag_corpus.search" else ()

    @property
    def optional(self) -> list[str]:
        return [name for name in self._named() if name not in self.required and name not in ("cursor", "limit")]

    def _named(self) -> list[str]:
        kinds = {name: parameter.kind for name, parameter in self.parameters.items() if name != "session"}
        return [name for name, kind in kinds.items() if kind is not inspect.Parameter.VAR_KEYWORD]

    @property
    def filters(self) -> dict[str, Any]:
        for name, parameter in self.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD and get_origin(self.hints[name]) is Unpack:
                return get_type_hints(get_args(self.hints[name])[0], include_extras=True)
        return {}

    async def call(self, session: Any, arguments: Mapping[str, Any]) -> Any:
        function = getattr(getattr(repos, self.table), self.name)
        result = await collected(function(session, **arguments))
        recorded = [value.seen for value in arguments.values() if isinstance(value, Recorder)]
        return (result, recorded) if recorded else result


def public_methods() -> Iterator[Method]:
    """Yield all public methods of all repositories."""
    for table in repos.__all__:
        repository = getattr(repos, table)
        for name in sorted(dir(type(repository))):
            function = getattr(type(repository), name)
            if name.startswith("_") or not inspect.isfunction(function):
                continue
            parameters = dict(inspect.signature(function).parameters)
            parameters.pop("self")
            yield Method(table, name, parameters, get_type_hints(function, include_extras=True))


async def own_call(arena: Arena, method: Method) -> tuple[dict[str, Argument], bool]:
    """Find arguments of A that the method succeeds with, and brings something back; and whether in the empty project alone.

    AssertionError where there are none.
    """
    required = {name: candidates(method.table, name, method.hints[name]) for name in method.required}
    if method.name == "update_many":  # refused without a filter: this one selects all that the caller has
        required["since"] = [Argument(lambda *_: datetime(2000, 1, 1, tzinfo=UTC))]
    refusals: dict[str, None] = {}
    for in_empty, chosen in itertools.islice(
        itertools.product((False, True), itertools.product(*required.values())), _MOST_TRIES
    ):
        arguments = dict(zip(required, chosen, strict=True))
        try:
            async with arena.alone.wide.project(arena.alone.empty if in_empty else arena.a.project_id) as session:
                values = {name: argument.own(arena.a, arena.b) for name, argument in arguments.items()}
                result = await method.call(session, values)
                raise Undo
        except Undo:
            if brings_something(method, result):
                return arguments, in_empty
            refusals["it brings nothing back"] = None
        except DerwinError as error:
            refusals[repr(error)[:200]] = None
    raise AssertionError(f"{method.title}: no arguments were found that it succeeds with in its own project: {list(refusals)}")


def brings_something(method: Method, result: Any) -> bool:
    """Tell whether the result holds something: an attack on a method that finds nothing at all would prove nothing."""
    if method.hints["return"] is type(None):
        return True
    if isinstance(result, dict):
        return any(result.values())
    return bool(getattr(result, "items", result))


def attacks_on(method: Method, own: Mapping[str, Argument]) -> Iterator[tuple[int, str, Call]]:
    """Yield the family, name and arguments of each attack: one argument at a time, and all at once."""
    call: dict[str, Value] = {name: argument.own for name, argument in own.items()}
    arguments = {**own, **{name: candidates(method.table, name, method.hints[name])[0] for name in method.optional}}
    everything = dict(call)
    for name, argument in arguments.items():
        for label, value in argument.attacks.items():
            what = f"{label} as {name}" if label.endswith("id of B") and "_" not in label else label
            yield _family(label), f"{method.title} with {what}", {**call, name: value}
        if argument.attacks:
            everything[name] = next(iter(argument.attacks.values()))
    if sum(1 for argument in arguments.values() if argument.attacks) > 1:
        yield 6, f"{method.title} with all of B", everything
    for name, forms in filters(method.table, method.filters).items():
        for label, value in forms.items():
            yield 7, f"{method.title} with filter {label}", {**call, name: value}
    if method.filters:
        yield 7, f"{method.title} with an invented filter", {**call, "project_id": lambda _, other: other.project_id}
    if "cursor" in method.parameters:
        for label, value in cursors(method.table).items():
            yield 7, f"{method.title} with {label}", {**call, "cursor": value}
    if "with_embedding" in method.parameters:
        yield 9, f"{method.title} with embeddings", {**call, "with_embedding": lambda *_: True}


def _family(label: str) -> int:
    if label.startswith(("row of", "smuggled")):
        return 4
    if label.startswith(("natural", "input of", "slug", "classification", "fingerprint", "text of")):
        return 8
    if label.endswith("_id of B"):
        return 5
    return 6 if "both" in label or "each" in label else 9 if "embedding" in label else 3


def promise_of(name: str, project_id: UUID) -> Callable[[Any], bool]:
    """Return what the outcome of an attack must be, by what it brings along, for the project that the attack comes from."""
    if name.endswith("with its own"):
        return lambda got: not isinstance(got, BaseException) or "read-only" in str(got)
    if "cursor of B" in name:
        return lambda got: isinstance(got, InvalidCursor)
    if "invented filter" in name:
        return lambda got: isinstance(got, InvalidInput)
    if "row of B" in name or "smuggled" in name:
        return lambda got: isinstance(got, InvalidInput | ScopeError)
    if any(f".{verb} " in name for verb in ("get_many", "of_tickets", "latest_of_tickets")):
        if "ids of B" in name:
            return lambda got: isinstance(got, dict) and not list(rows_in(got))
        least = 1 if ".get_many " in name or "of both" in name else 0  # a single ticket may have none
        return lambda got: isinstance(got, dict) and are_own(got, project_id, least=least)
    if " with filter " in name:
        return lambda got: are_own(got, project_id, least=1 if name.endswith(" of both") else 0)
    if " with id of B" in name or " with ids of B" in name or " of both" in name or " id of each" in name:
        return is_nothing
    return lambda _: True


def is_own(name: str) -> bool:
    """Tell whether nothing in the call is foreign: it shows that what another project stores does not matter."""
    return name.endswith(("with its own", "with embeddings"))


def are_own(got: Any, project_id: UUID, *, least: int) -> bool:
    """Tell whether what was named selected rows of this project alone, at least so many; a number is of them, too.

    A read-only unit may refuse the change.
    """
    if isinstance(got, BaseException):
        return isinstance(got, ScopeError) and "read-only" in str(got)
    if isinstance(got, int):
        return got >= least
    rows = list(rows_in(got))
    return len(rows) >= least and all(getattr(row, "project_id", row.id) == project_id for row in rows)


def rows_in(got: Any) -> Iterator[Any]:
    """Yield the rows of a page, of a list, and of a mapping to rows or to lists of them."""
    for one in got.values() if isinstance(got, dict) else getattr(got, "items", got):
        yield from one if isinstance(one, list | tuple) else [one]


def is_nothing(got: Any) -> bool:
    """Tell whether the outcome is that of an id that names nothing; a read-only unit may refuse a write before it looks."""
    if isinstance(got, BaseException):
        return isinstance(got, NotFound | InvalidReference) or (isinstance(got, ScopeError) and "read-only" in str(got))
    return not getattr(got, "items", got)


def attack_with(method: Method, call: Call) -> Attack:
    """Return the attack that calls the method with these arguments in a session of A."""

    async def attack(world: World, session: ProjectSession, brought: list[Any]) -> Any:
        arguments = {name: value(world.a, world.b) for name, value in call.items()}
        brought.append(arguments)
        return await method.call(session, arguments)

    return attack


async def method_cases(arena: Arena) -> list[Case]:
    """Return all attacks on all methods that a project's session may call, in all states."""
    cases = []
    for method in public_methods():
        if not method.takes_project:
            continue
        own, in_empty = await own_call(arena, method)
        call = {name: argument.own for name, argument in own.items()}
        forms = [(9, f"{method.title} with its own", call), *attacks_on(method, own)]
        is_attacked = not all(is_own(name) for _, name, _ in forms)
        cases += [
            Case(
                family,
                name,
                attack_with(method, call),
                state,
                in_empty,
                promise_of(name, arena.alone.empty if in_empty else arena.a.project_id),
                method="" if is_attacked and is_own(name) else method.title,
            )
            for family, name, call in forms
            for state in STATES
        ]
    return cases


# --- family 1: what is no session of a project ------------------------------------------------------------------------


def not_a_session(arena: Arena) -> dict[str, Any]:
    """Return what somebody may hand in instead of an open session of a project."""
    world = arena.shared
    closed, unopened = world.wide.project(world.a.project_id), world.wide.project(world.b.project_id)
    closed._state = State.ENDED
    return {
        "None": None,
        "''": "",
        "0": 0,
        "the slug of B": world.b.slug,
        "the id of B": world.b.project_id,
        "a look-alike": SimpleNamespace(project_id=world.b.project_id, fetch=None),
        "the database": world.wide,
        "a session that is closed": closed,
        "a session that is not open": unopened,
    }

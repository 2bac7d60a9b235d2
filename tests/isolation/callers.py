"""Attacks by callers who hand in what is no session of theirs, or more than they may (families 1, 2 and 4).

None of these needs a connection. Each is refused with an error of its own; an AssertionError says that it was not.
"""

import copy
import pickle
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from derwin_db import AdminSession, ProjectSession, models, repos
from derwin_db.errors import ScopeError
from derwin_db.fields.table import Input
from derwin_db.testing.examples import example
from derwin_db.testing.traces import fields_of
from derwin_db.unit.backend import Route
from derwin_db.unit.transaction import State
from tests.isolation.arena import World
from tests.isolation.arguments import candidates
from tests.isolation.methods import Method, public_methods
from tests.isolation.states import Attack, Case

NO_PROJECT = (None, "", 0, False, b"", "NIL", "a slug", "-", "..", UUID(int=0), str(UUID(int=0)), 1.5, (), object())


def not_sessions(world: World) -> dict[str, Any]:
    """Return what somebody may hand in instead of an open session of a project."""
    closed = world.wide.project(world.b.project_id)
    closed._state = State.ENDED
    subclass = type("Mine", (ProjectSession,), {})
    return {
        "None": None,
        "''": "",
        "0": 0,
        "the slug of B": world.b.slug,
        "the id of B": world.b.project_id,
        "a look-alike of B": SimpleNamespace(project_id=world.b.project_id, fetch=None),
        "the database": world.wide,
        "a session that is closed": closed,
        "a session that is not open": world.wide.project(world.b.project_id),
        "an instance of a subclass": subclass(world.wide.backend, Route(world.wide.admin_pool), world.b.project_id),
        "a bare instance": object.__new__(ProjectSession),
        "a row of B": world.b.rows["projects"][0],
    }


def an_admin_session(world: World) -> AdminSession:
    session = world.wide.admin(reason="an attack")
    session._state = State.OPEN
    return session


def handing_in(method: Method, name: str) -> Attack:
    """Return the attack that calls the method with something that is no session of a project."""

    async def attack(world: World, _session: ProjectSession, brought: list[Any]) -> Any:
        brought.append(world.b)
        given = an_admin_session(world) if name == "the admin door" else not_sessions(world)[name]
        arguments = {one: candidates(method.table, one, method.hints[one])[0].own(world.a, world.b) for one in method.required}
        return await refusal(ScopeError, lambda: method.call(given, arguments))

    return attack


async def refusal(kinds: Any, call: Callable[[], Awaitable[Any]]) -> BaseException:
    """Return the error that the call raises. AssertionError where it raises none, or one that nobody expects."""
    try:
        got = await call()
    except kinds as error:
        return error
    except AttributeError as error:
        if "'ProjectSession' object has no attribute" in str(error):  # an instance that never saw __init__ has nothing to leak
            return error
        raise AssertionError(f"not refused, but broken: {error!r}") from error
    raise AssertionError(f"not refused: {got!r}")


def session_cases() -> Iterator[Case]:
    """Yield, for every public method, each thing that is no session for it."""
    names = ("None", "''", "0", "the slug of B", "the id of B", "a look-alike of B", "the database", "a session that is closed",
             "a session that is not open", "an instance of a subclass", "a bare instance", "a row of B")  # fmt: skip
    for method in public_methods():
        for name in names:
            yield Case(1, f"{method.title} with {name} as session", handing_in(method, name))
        if method.hints["session"] is ProjectSession:
            yield Case(1, f"{method.title} with the admin door as session", handing_in(method, "the admin door"))
        if not method.takes_project:
            yield Case(1, f"{method.title} with a session of a project", through_the_wrong_door(method))
    for number, value in enumerate(NO_PROJECT):
        yield Case(1, f"a session of {value if number < 12 else 'an object'!r}", opening(value))
    for number, value in enumerate((None, "", "  ", 0, "x" * 501, "\0")):
        yield Case(1, f"the admin door without a reason ({number})", opening_the_door(value))


def through_the_wrong_door(method: Method) -> Attack:
    async def attack(world: World, session: ProjectSession, brought: list[Any]) -> Any:
        brought.append(world.b)
        arguments = {one: candidates(method.table, one, method.hints[one])[0].own(world.b, world.b) for one in method.required}
        return await refusal(ScopeError, lambda: method.call(session, arguments))

    return attack


def opening(value: Any) -> Attack:
    async def attack(world: World, _session: ProjectSession, _brought: list[Any]) -> Any:
        try:
            world.wide.project(value)
        except ScopeError as error:
            return error
        raise AssertionError(f"{value!r} opens a session")

    return attack


def opening_the_door(reason: Any) -> Attack:
    async def attack(world: World, _session: ProjectSession, _brought: list[Any]) -> Any:
        try:
            world.wide.admin(reason=reason)
        except ScopeError as error:
            return error
        raise AssertionError(f"{reason!r} opens the admin door")

    return attack


# --- family 2: copies and new names -----------------------------------------------------------------------------------


async def _pickle(session, world):
    pickle.dumps(session)


async def _copy(session, world):
    copy.copy(session)


async def _deepcopy(session, world):
    copy.deepcopy(session)


async def _assign_project(session, world):
    session.project_id = world.b.project_id


async def _delete_project(session, world):
    del session.project_id


async def _enter_twice(session, world):
    await session.__aenter__()


async def _commit_by_hand(session, world):
    await session.sql.commit()


async def _roll_back_by_hand(session, world):
    await session.sql.rollback()


async def _begin_by_hand(session, world):
    await session.sql.begin()


async def _close_by_hand(session, world):
    await session.sql.execute(models_query())
    await session.sql.close()
    await repos.qa_tickets.list(session)
    raise ScopeError("still A")  # letting go of the SQLAlchemy session changes nothing


def models_query() -> Any:
    import sqlalchemy as sa

    return sa.text("SELECT 1")


REFUSED_ON_SESSIONS = (
    _pickle, _copy, _deepcopy, _assign_project, _delete_project, _enter_twice, _commit_by_hand, _roll_back_by_hand,
    _begin_by_hand, _close_by_hand,
)  # fmt: skip


def still_its_own(change: Callable[[Any, World], None]) -> Attack:
    """Return the attack that renames things around the session and then reads: rows of A, as ever."""

    async def attack(world: World, session: ProjectSession, brought: list[Any]) -> Any:
        brought.append(world.b.project_id)
        change(session, world)
        try:
            return [(await repos.qa_tickets.list(session)).items, session.project_id]
        finally:
            for repository in (repos.qa_tickets, repos.projects):
                repository.__dict__.pop("project_id", None)

    return attack


RENAMED = {
    "the session's __dict__": lambda session, world: vars(session).update(project_id=world.b.project_id),
    "an attribute of the repository": lambda session, world: setattr(repos.qa_tickets, "project_id", world.b.project_id),
    "a parameter of the session": lambda session, world: vars(session).update(project=world.b.slug, scope=world.b.slug),
}


def copy_cases() -> Iterator[Case]:
    for function in REFUSED_ON_SESSIONS:

        async def attack(world: World, session: ProjectSession, brought: list[Any], function: Any = function) -> Any:
            brought.append(world.b)
            return await refusal((ScopeError, AttributeError), lambda: function(session, world))

        yield Case(2, function.__name__[1:].replace("_", " "), attack)
    for name, change in RENAMED.items():
        yield Case(2, f"{name} is renamed to B", still_its_own(change))


# --- family 4: mass assignment ----------------------------------------------------------------------------------------

FORBIDDEN = (
    *("project_id", "id", "created_at", "updated_at", "version", "status", "is_active", "project_slug", "use_count"),
    *("retention_until", "legal_hold", "compliance_mode", "attempt_no", "ticket_id", "duplicate_of_id", "claimed_by"),
)
"""Columns that are set by the repository alone, in some table or in all."""


def inputs() -> dict[str, type[Input]]:
    found = {name: getattr(models, name) for name in models.__all__}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, Input)}


def assigning(kind: type[Input], name: str) -> Attack:
    """Return the attack that puts a column of B's row into an input: at its making, from a dump, and by assignment."""

    async def attack(world: World, _session: ProjectSession, brought: list[Any]) -> Any:
        value = world.b.project_id if name == "project_id" else world.b.ids("qa_tickets")[0] if name.endswith("id") else "x"
        brought.append(world.b)
        plain = example(kind, marker="own")
        outcomes = []
        for make in (
            lambda: example(kind, marker="own", **{name: value}),
            lambda: kind.model_validate({**fields_of(plain), name: value}),
            lambda: kind.model_validate_json(
                plain.model_copy(update={name: str(value)}).model_dump_json()[:-1] + f',"{name}":1}}'
            ),
            lambda: setattr(plain, name, value),
        ):
            try:
                make()
            except (ValidationError, ValueError) as error:
                outcomes.append(type(error).__name__)
            else:
                raise AssertionError(f"{kind.__name__} takes {name}")
        return outcomes

    return attack


def dumping(kind: type[Input], table: str) -> Attack:
    """Return the attack that builds an input from the dump of a row of B."""

    async def attack(world: World, _session: ProjectSession, brought: list[Any]) -> Any:
        brought.append(world.b)
        try:
            kind.model_validate(fields_of(world.b.rows[table][0]))
        except ValidationError as error:
            return [item["type"] for item in error.errors(include_input=False)]
        raise AssertionError(f"{kind.__name__} takes a dump of a row")

    return attack


def assignment_cases() -> Iterator[Case]:
    for title, kind in inputs().items():
        for name in FORBIDDEN:
            if name not in kind.model_fields:
                yield Case(4, f"{title} with {name}", assigning(kind, name))
    for method in public_methods():
        kind = method.hints.get("data")
        if isinstance(kind, type) and issubclass(kind, Input):
            yield Case(4, f"{kind.__name__} from a dump of {method.table}", dumping(kind, method.table))


def caller_cases() -> Iterator[Case]:
    yield from session_cases()
    yield from copy_cases()
    yield from assignment_cases()

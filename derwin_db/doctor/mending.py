"""Which findings of the doctor are mended by `derwin-db doctor --fix`, and why those alone.

Mended is what leads back to what the migrations made, gives nobody more than they do, removes no row, stands in the way of no
traffic, and can be done again. All else is somebody's decision: a new schema (when does the new code run?), a login's power
(who else uses it?), a grant, policy, view or function that is not ours (what is it for?), stored objects and keys (data).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from derwin_db.connection.driver import Connection, DriverOrNetworkError
from derwin_db.connection.facts import INSUFFICIENT_PRIVILEGE, LOCK_NOT_AVAILABLE, connect_once, read_facts
from derwin_db.deploy import mending
from derwin_db.deploy.targets import NOT_THE_OWNER, Urls
from derwin_db.doctor.report import Report
from derwin_db.errors import DerwinError
from derwin_db.settings import ConnectionInfo, Settings
from derwin_db.translation.driver_errors import sqlstate_of, translate


class Mender(NamedTuple):
    """What mends a finding, and why nobody has to be asked."""

    mend: Callable[[Connection, str], Awaitable[list[str]]]
    why: str


_REMADE = Mender(
    mending.mend_fences, "they are made as the migrations make them; until then units of work see less, never more"
)
_ROW_SECURITY = Mender(mending.mend_row_security, "it closes what is open; the policies are there already")
_LOGIN = Mender(
    mending.mend_login, "a unit of work takes its role and its limits itself; the next session begins as the server says"
)

MENDERS: dict[str, Mender] = {
    "policies": _REMADE,
    "grants-missing": _REMADE,
    "rls-enabled": _ROW_SECURITY,
    "rls-forced": _ROW_SECURITY,
    "triggers": Mender(mending.mend_triggers, "those that are there are switched on again; they refuse what nobody may do"),
    "indexes": Mender(mending.mend_indexes, "they are built beside the running traffic; what is read stays the same"),
    "statistics": Mender(
        mending.mend_statistics, "no plan of this package needs them, and they tell of other projects' values"
    ),
    "outer-grants": Mender(mending.mend_outer_grants, "migrations take the same away; nothing of this package uses it"),
    "drop-owned": Mender(mending.mend_dropping, "it refuses one command, which takes all fences down"),
    "login-settings": _LOGIN,
    "login-inherits": _LOGIN,
}
"""By the name of the check, in the order in which they are mended: policies before what they are enforced by."""


@dataclass(frozen=True)
class Mended:
    """What became of one finding: what was done, or why it was not."""

    name: str
    done: tuple[str, ...]
    problem: str | None = None


async def mend(
    report: Report,
    service: ConnectionInfo | None = None,
    settings: Settings | None = None,
    *,
    owner: ConnectionInfo | None = None,
) -> list[Mended]:
    """Mend what of the report can be mended safely, as the owner; the logins are those that `examine` takes.

    Examine again afterwards: what this login may not do, or what is more than was looked at, is still to be mended.

    Errors:
        DatabaseUnavailable. What is refused is told with its finding; on a distributed server all of it is, for tables are
        changed on all of its nodes or on none.
    """
    settings = settings or Settings.load()
    if service is None:
        urls = await Urls.choose(settings, None, None, None, None).resolved(settings)
        service, owner = urls.service, urls.direct
    broken = {check.name for check in report.checks if not check.ok}
    wanted = {name: one for name, one in MENDERS.items() if name in broken}
    if not wanted:
        return []
    opened = await connect_once(owner or service, settings)
    try:
        if (await read_facts(opened)).is_distributed:
            return [
                Mended(name, (), "on a distributed server nothing is mended by itself: type what is said") for name in wanted
            ]
        await opened.execute(mending.LOCK_TIMEOUT)
        once = {one: await _mended(opened, one, service.user) for one in dict.fromkeys(wanted.values())}
        return [Mended(name, *once[one]) for name, one in wanted.items()]
    except DriverOrNetworkError as error:
        raise translate(error) or error from None
    finally:
        opened.terminate()


async def _mended(opened: Connection, mender: Mender, login: str) -> tuple[tuple[str, ...], str | None]:
    """Return what was done, and why it was not."""
    try:
        return tuple(await mender.mend(opened, login)), None
    except DerwinError as error:
        return (), error.message
    except DriverOrNetworkError as error:
        if sqlstate_of(error) == INSUFFICIENT_PRIVILEGE:
            return (), NOT_THE_OWNER
        if sqlstate_of(error) == LOCK_NOT_AVAILABLE:
            return (), "A lock that it needs was not to be had in time: traffic holds it. Try again when there is less."
        translated = translate(error)
        return (), translated.message if translated is not None else "The server refused it."

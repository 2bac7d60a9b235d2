"""Attacks from outside of SQL: files, logs, the embedded server's machine, settings (families 31 to 35).

Those that need no database are given none.
"""

import asyncio
import contextlib
import io
import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import zstandard

from derwin_db import embedded
from derwin_db import session as sessions
from derwin_db.cli import output
from derwin_db.deploy.embedded import folder
from derwin_db.deploy.embedded.account import Account
from derwin_db.errors import ConfigurationError, DerwinError, ScopeError
from derwin_db.fields.scalars import project_id_of
from derwin_db.repos.rules.patching import Replay
from derwin_db.settings import Settings
from derwin_db.transfer import export_project, import_project
from tests.isolation.arena import Arena
from tests.isolation.units import Script
from tests.transfer.files import Lines, counted, erase, exists, packed

NOBODY = 65534

# --- family 31: files that are imported -------------------------------------------------------------------------------

SLUG = "brought-in"
_kept: dict[str, bytes] = {}


async def lines_of_a(arena: Arena) -> Lines:
    """Return the export of A as that of a project that is not there: nothing but what is forged is a reason to refuse it."""
    if arena.a.slug not in _kept:
        sink = io.BytesIO()
        await export_project(arena.shared.wide, arena.a.slug, sink)
        _kept[arena.a.slug] = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(sink.getvalue())).read()
    text = _kept[arena.a.slug].decode().replace(f'"{arena.a.slug}"', f'"{SLUG}"')
    lines = [json.loads(line) for line in text.splitlines()[:-1]]
    lines[1]["row"]["id"] = str(project_id_of(SLUG))
    return lines


def rows_of(lines: Lines, table: str) -> list[dict[str, Any]]:
    return [line["row"] for line in lines if line.get("table") == table]


def changed(lines: Lines, table: str, **values: Any) -> bytes:
    rows_of(lines, table)[0].update(values)
    return packed(lines)


def _in_the_head(lines: Lines, **values: Any) -> bytes:
    lines[0].update(values)
    return packed(lines)


FORGED: dict[str, Callable[[Lines, Arena], bytes]] = {
    "of B's name": lambda lines, arena: _in_the_head(lines, slug=arena.b.slug),
    "of B's id": lambda lines, arena: changed(lines, "projects", id=str(arena.b.project_id)),
    "with entries of B's ledger": lambda lines, arena: changed(lines, "spend_ledger", project_slug=arena.b.slug),
    "with a duplicate of B's ticket": lambda lines, arena: changed(
        lines, "qa_tickets", status="DUPLICATE", duplicate_of_id=str(arena.b.ids("qa_tickets")[0])
    ),
    "with a ticket of B's run": lambda lines, arena: changed(lines, "qa_tickets", run_id=str(arena.b.ids("qa_runs")[0])),
    "with a second project": lambda lines, _: packed([*lines[:2], lines[1], *lines[2:]]),
    "with the key of the seal": lambda lines, _: packed([*lines, {"table": "scope_key", "row": {"is_current": True}}]),
    "with our tables as a service's": lambda lines, _: _in_the_head(lines, own={"projects": ["id"]}),
    "with tables that are nobody's": lambda lines, _: _in_the_head(lines, own={"pg_authid": ["rolname"]}),
    "altered": lambda lines, _: packed(lines, digest="0" * 64),
    "of fewer rows than it says": lambda lines, _: packed(lines[:-1], counted(lines)),
    "that goes on behind its end": lambda lines, _: packed(lines, behind=b"{}\n"),
    "that is cut off": lambda lines, _: packed(lines)[:-40],
    "without an end": lambda lines, _: zstandard.ZstdCompressor().compress(json.dumps(lines[0]).encode() + b"\n"),
    "with a number that is none": lambda lines, _: changed(lines, "qa_tickets", confidence=float("nan")),
    "with a log of times to come": lambda lines, _: changed(
        lines, "project_mode_logs", created_at="9999-12-31T23:59:59.999999+00:00"
    ),
    "with a log that is ahead of its profile": lambda lines, _: changed(lines, "profile_evolution_logs", to_version=1000),
    "with half a character": lambda lines, _: changed(lines, "qa_tickets", title="\ud800"),
    "with a name of two lines": lambda lines, _: _in_the_head(lines, slug=f"{SLUG}\nadmin door: forged"),
}
"""Files that nobody exported: each is refused, and leaves nothing."""


async def refusal(attempt: Awaitable[Any]) -> str | None:
    """Return what the package says to it, or None where it is done."""
    try:
        await attempt
    except DerwinError as error:
        return str(error)
    return None


def importing(name: str) -> Any:
    async def run(arena: Arena) -> None:
        db = arena.shared.wide
        data = FORGED[name](await lines_of_a(arena), arena)
        said = await refusal(import_project(db, io.BytesIO(data)))
        if said is None:
            await erase(db, SLUG)
        assert said is not None, f"a file {name} is imported"
        assert "forged" not in said, said
        assert not await exists(db, SLUG), f"of a file {name} something stays"
        assert not await arena.shared.owner.fetchval("SELECT count(*) FROM derwin.restoring")

    return run


# --- family 32: work and lines of a log without a bound ---------------------------------------------------------------

DOUBLING = [{"op": "copy", "from": "", "path": f"/again{n}"} for n in range(15)]
PATCHES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "that doubles": ({"text": "x" * 1000}, DOUBLING),
    "that nests itself": ({"a": {}}, [{"op": "copy", "from": "/a", "path": "/a" * n} for n in range(2, 400)]),
    "that adds what is too deep": ({}, [{"op": "add", "path": "/a", "value": json.loads("[" * 500 + "]" * 500)}]),
    "of no operations": ({}, [{"op": "conjure", "path": "/a"}]),
    "of no patch": ({}, [1, None, "x"]),
}
FORGED_LINE = "x\nINFO derwin_db.admin: admin door: forged"
FIELDS = ("CONSTRAINT", "COLUMN", "TABLE", "DATATYPE", "SCHEMA")


def replaying(name: str) -> Any:
    async def run(_arena: Arena) -> None:
        content, operations = PATCHES[name]
        try:
            Replay(json.loads(json.dumps(content))).apply(operations)
        except DerwinError:
            return
        raise AssertionError(f"a patch {name} is applied")

    return run


async def a_reason_of_two_lines(_arena: Arena) -> None:
    for reason in (FORGED_LINE, "x\r", "x\u2028y", "x" * 501, "", "\x1b[2K"):
        try:
            sessions.check_reason(reason)
        except ScopeError:
            continue
        raise AssertionError(f"the admin door takes {reason!r}")


async def by_hand(arena: Arena, statement: str) -> None:
    async with arena.shared.narrow.project(arena.a.project_id) as session:
        await session.sql.execute(sa.text(statement))


async def a_name_that_is_raised(arena: Arena) -> None:
    """SQL by hand gives an error any name: none of it forges a line, and none of it is a value."""
    for field in FIELDS:
        raising = f"DO $$ BEGIN RAISE 'x' USING {field} = '{FORGED_LINE}'; END $$"
        said = await refusal(by_hand(arena, raising))
        assert said is not None
        assert "forged" not in said, said


# --- family 33: the embedded server on a machine of many ---------------------------------------------------------------


@contextlib.contextmanager
def a_data_folder() -> Iterator[Path]:
    """A data folder of ours, whose server does not run."""
    data = Path(tempfile.mkdtemp(prefix="dw-"))
    try:
        (data / "derwin-embedded").touch()
        (data / "postgres").mkdir()
        yield data
    finally:
        shutil.rmtree(data)


def _pid_file(data: Path, pid: int) -> None:
    lines = [pid, data / "postgres", 1_700_000_000, 5432, data / "postgres", "", " 123 456", "ready"]
    (data / "postgres" / "postmaster.pid").write_text("\n".join(map(str, lines)) + "\n")


async def a_pid_of_somebody_else(_arena: Arena) -> None:
    """Neither a process that has the number, nor one that has the server's name as well, is taken for it."""
    with a_data_folder() as data:
        shutil.copy("/bin/sleep", data / "postgres" / "postgres")
        for program in ("/bin/sleep", str(data / "postgres" / "postgres")):
            await asyncio.to_thread(spare, data, program)


def spare(data: Path, program: str) -> None:
    """See to it that a process of this program lives on, though the pid file names it."""
    with subprocess.Popen([program, "60"]) as innocent:
        try:
            _pid_file(data, innocent.pid)
            assert embedded.status(data).pid is None
            assert not embedded.stop(data)
            assert innocent.poll() is None, "a process of somebody else was ended"
        finally:
            innocent.kill()


async def a_folder_that_holds_something_else(_arena: Arena) -> None:
    account = _account()
    with a_data_folder() as data:
        (data / "derwin-embedded").unlink()
        (data / "thesis.txt").write_text("years of work")
        try:
            folder.claim(data, account)
        except ConfigurationError:
            assert (data / "thesis.txt").read_text() == "years of work"
            return
    raise AssertionError("a folder of somebody else is taken")


async def a_folder_that_is_open_to_others(_arena: Arena) -> None:
    with a_data_folder() as data:
        data.chmod(0o777)
        folder.claim(data, _account())
        assert stat.S_IMODE(data.stat().st_mode) == 0o700


async def a_socket_folder_that_somebody_made_before(_arena: Arena) -> None:
    """The path is too long for a socket, and at the place of the private folder is a link."""
    account = _account()
    with a_data_folder() as data:
        pgdata = data / ("d" * 120)
        made = folder.socket_folder(pgdata, account)
        made.rmdir()
        made.symlink_to(data)
        try:
            with contextlib.suppress(ConfigurationError):
                taken = folder.socket_folder(pgdata, account)
                assert not taken.is_symlink(), "a link of somebody else is taken for the private folder"
        finally:
            made.unlink()


def _account() -> Account:
    return Account("this one", os.geteuid(), os.getegid(), is_lent=False)


# --- family 34: files that are written --------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


@contextlib.contextmanager
def a_shared_folder() -> Iterator[Path]:
    """A folder like /tmp, in a process whose umask lets everybody read."""
    shared = Path(tempfile.mkdtemp(prefix="dw-"))
    umask = os.umask(0)
    try:
        shared.chmod(0o1777)
        yield shared
    finally:
        os.umask(umask)
        shutil.rmtree(shared)


async def a_file_that_is_half_written(_arena: Arena) -> None:
    with a_shared_folder() as shared:
        (shared / "file").write_bytes(b"old")
        with contextlib.suppress(Interrupted), output.replacing(shared / "file") as file:
            file.write(b"half")
            file.flush()
            assert (shared / "file").read_bytes() == b"old", "the old file is gone before the new one is whole"
            raise Interrupted
        assert [path.name for path in shared.iterdir()] == ["file"]
        assert (shared / "file").read_bytes() == b"old"


async def a_file_that_others_read(_arena: Arena) -> None:
    with a_shared_folder() as shared:
        (shared / "old").write_bytes(b"old")
        (shared / "old").chmod(0o666)
        for name in ("new", "old"):
            with output.replacing(shared / name) as file:
                file.write(b"x")
                assert not [path for path in shared.iterdir() if path.name != "old" and _is_open(path)]
            assert not _is_open(shared / name), f"everybody may read the {name} file"


def _is_open(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


async def a_link_of_somebody_else(_arena: Arena) -> None:
    """Only root can make one here: elsewhere the link is our own, and what it leads to is written."""
    with a_shared_folder() as shared, a_shared_folder() as private:
        (private / "kept").write_bytes(b"kept")
        (shared / "link").symlink_to(private / "kept")
        if os.geteuid() == 0:
            os.chown(shared / "link", NOBODY, NOBODY, follow_symlinks=False)
        with contextlib.suppress(ConfigurationError), output.replacing(shared / "link") as file:
            file.write(b"theirs")
        assert (private / "kept").read_bytes() == (b"kept" if os.geteuid() == 0 else b"theirs")
        assert (shared / "link").is_symlink()


# --- family 35: settings of several sources ---------------------------------------------------------------------------

URLS = ("DATABASE_URL", "ADMIN_URL", "DIRECT_URL", "READ_URL")


@contextlib.contextmanager
def surroundings(environment: dict[str, str], file: dict[str, str]) -> Iterator[None]:
    """An environment and a folder with a `.env`, and nothing else that is set."""
    kept = {name: os.environ.pop(name, None) for name in URLS}
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        Path(".env").write_text("".join(f"{name}={value}\n" for name, value in file.items()))
        os.environ.update(environment)
        try:
            yield
        finally:
            for name, value in kept.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def mixing(name: str) -> Any:
    """One URL in the environment, however empty: none of the others comes from the file of the folder."""

    async def run(_arena: Arena) -> None:
        file = {other: f"postgresql://owner@elsewhere/{other.lower()}" for other in URLS}
        for value in ("postgresql://service@here/app", ""):
            with surroundings({name: value}, file):
                settings = Settings.load()
                taken = {other: getattr(settings, other.lower()) for other in URLS}
            assert not [other for other, url in taken.items() if url is not None and "elsewhere" in url.get_secret_value()]
        with surroundings({}, {name: file[name]}):
            settings = Settings.load()
        assert settings.url_source == ".env"

    return run


def outside_scripts() -> Iterator[Script]:
    for name in FORGED:
        yield Script(31, f"a file {name}", importing(name))
    for name in PATCHES:
        yield Script(32, f"a patch {name}", replaying(name))
    for family, runs in {
        32: (a_reason_of_two_lines, a_name_that_is_raised),
        33: (
            a_pid_of_somebody_else, a_folder_that_holds_something_else, a_folder_that_is_open_to_others,
            a_socket_folder_that_somebody_made_before,
        ),
        34: (a_file_that_is_half_written, a_file_that_others_read, a_link_of_somebody_else),
    }.items():  # fmt: skip
        for run in runs:
            yield Script(family, run.__name__.replace("_", " "), run)
    for name in URLS:
        yield Script(35, f"{name} from the environment, others from a file", mixing(name))

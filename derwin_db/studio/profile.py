"""The profile, and its history as diffs between versions."""

import asyncio
import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import unified_diff
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from derwin_db import repos
from derwin_db.errors import DatabaseTimeout, DatabaseUnavailable, DerwinError, NotFound
from derwin_db.models import ProfileEvolutionLog, ProjectProfile, ProjectProfileCreate
from derwin_db.repos.rules.patching import Replay
from derwin_db.session import ProjectSession
from derwin_db.studio.diffs import Line, numbered
from derwin_db.studio.rendering import render
from derwin_db.studio.request_params import current, place, unit

_PAGE = 10
_CONTEXT = 2
_MOST_LINES = 5_000
"""A diff takes the square of the lines at worst: a profile beyond this is shown by its operations."""
_MOST_SHOWN = 400


@dataclass(frozen=True)
class Change:
    """One entry of the history and the lines that it changed. `diff` is None where there can't be one."""

    entry: ProfileEvolutionLog
    diff: Sequence[Line] | None
    is_cut: bool = False

    @property
    def added(self) -> int:
        """How many lines came."""
        return sum(line.kind == "added" for line in self.diff or ())

    @property
    def removed(self) -> int:
        """How many lines went."""
        return sum(line.kind == "removed" for line in self.diff or ())


async def show(request: Request) -> Response:
    """Show the profile and ten changes of it.

    Cost:
        Five statements, and the log up to the page's first version.
    """
    cursor = place(request)
    async with unit(request) as session:
        project = await current(request, session)
        try:
            profile = await repos.project_profiles.current(session)
        except NotFound:
            profile = None
        page = await repos.profile_evolution_logs.list(session, limit=_PAGE, cursor=cursor)
        changes = await _changes(session, page.items)
    return render(
        request,
        "profile.html",
        project=project,
        section="profile",
        profile=profile,
        changes=changes,
        cursor=page.next_cursor,
        is_first=cursor is None,
    )


async def _changes(session: ProjectSession, entries: Sequence[ProfileEvolutionLog]) -> list[Change]:
    """Replay the entries, oldest first, from the version before them."""
    if not entries:
        return []
    before = entries[-1].from_version
    try:
        content = _content(await repos.project_profiles.at_version(session, before)) if before else {}
        return await asyncio.to_thread(_replayed, content, entries)
    except (DatabaseUnavailable, DatabaseTimeout):
        raise
    except DerwinError:  # what SQL by hand put into the log can't be replayed
        return [Change(entry, None) for entry in entries]


def _replayed(content: dict[str, Any], entries: Sequence[ProfileEvolutionLog]) -> list[Change]:
    changes, replay = [], Replay(content)
    for entry in reversed(entries):
        before = copy.deepcopy(replay.content)
        replay.apply(_plain(entry.patch))
        changes.append(_change(entry, before, replay.content))
    return changes[::-1]


def _content(profile: ProjectProfile) -> dict[str, Any]:
    return {name: _plain(getattr(profile, name)) for name in ProjectProfileCreate.model_fields}


def _plain(value: Any) -> Any:
    """Return a value of the profile as JSON: shapes within lists and mappings too."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.model_dump(mode="json", by_alias=True) if hasattr(value, "model_dump") else value


def _change(entry: ProfileEvolutionLog, before: dict[str, Any], after: dict[str, Any]) -> Change:
    old, new = (json.dumps(content, indent=2, ensure_ascii=False).split("\n") if content else [] for content in (before, after))
    if max(len(old), len(new)) > _MOST_LINES:
        return Change(entry, None)
    lines = list(islice(unified_diff(old, new, lineterm="", n=_CONTEXT), 2, 2 + _MOST_SHOWN + 1))
    return Change(entry, list(numbered(lines[:_MOST_SHOWN])), is_cut=len(lines) > _MOST_SHOWN)

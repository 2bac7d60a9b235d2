"""Who may do what: bearer tokens, and the sessions that a request gets after its token was looked at.

A service of yours asks its identity provider here. What counts is the shape: `may_read` and `may_write` are ordinary
dependencies that return the project or raise, and every session comes through one of them.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, HTTPException, WebSocketException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from derwin_db import Database, ProjectSession
from derwin_db.errors import ProjectNotFound
from derwin_db.fastapi import scoped
from examples.service.parameters import ProjectSlug

db = Database()


@dataclass(frozen=True)
class User:
    """Somebody with a token. An operator looks after projects, and sees into none by that."""

    name: str
    projects: frozenset[str] = frozenset()
    may_write: bool = False
    is_operator: bool = False

    def project_to_write(self, project: str) -> str:
        """Return the project, where this user may change it."""
        if project not in self.projects or not self.may_write:
            raise ProjectNotFound
        return project


DEMO_USERS = {
    "lifeline-token": User("Ada", frozenset({"lifeline"}), may_write=True),
    "reader-token": User("Rosa", frozenset({"lifeline"})),
    "acme-token": User("Grace", frozenset({"acme"}), may_write=True),
    "operator-token": User("Otto", is_operator=True),
}

_USERS = {sha256(token.encode()).digest(): user for token, user in DEMO_USERS.items()}
"""By digest: how long a look-up takes says nothing about a token."""

bearer = HTTPBearer(auto_error=False, description="A demo token, such as lifeline-token.")


def current_user(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> User:
    """Return who sent the request, or 401."""
    user = _USERS.get(sha256(given.credentials.encode("utf-8", "replace")).digest()) if given else None
    if user is None:
        raise HTTPException(401, "A valid bearer token is needed.", headers={"WWW-Authenticate": "Bearer"})
    return user


CurrentUser = Annotated[User, Depends(current_user)]


def user_of(token: str = "") -> User:
    """Return who opens a web socket. Browsers send no header with one, so the token is in its address; refused without."""
    user = _USERS.get(sha256(token.encode("utf-8", "replace")).digest())
    if user is None:
        raise WebSocketException(1008, "A valid token is needed.")
    return user


def may_read(project: ProjectSlug, user: CurrentUser) -> str:
    """Return the project of the path. One that the user has no part in is exactly like one that does not exist."""
    if project not in user.projects:
        raise ProjectNotFound
    return project


def may_write(project: Annotated[str, Depends(may_read)], user: CurrentUser) -> str:
    """Return the project of the path, for those who may change it."""
    if not user.may_write:
        raise HTTPException(403, "This token may read only.")
    return project


def operator(user: CurrentUser) -> User:
    """Return the user, who looks after projects."""
    if not user.is_operator:
        raise HTTPException(403, "This is for operators.")
    return user


Readable = Annotated[str, Depends(may_read)]
Operator = Annotated[User, Depends(operator)]
Scoped = Annotated[ProjectSession, scoped(db, authorize=may_write)]
ReadScoped = Annotated[ProjectSession, scoped(db, authorize=may_read, read_only=True)]
StreamScoped = Annotated[ProjectSession, scoped(db, authorize=may_read, read_only=True, streaming=True)]

"""Projects: looked after by operators, through the admin door; each seen and switched by its own people."""

from typing import Annotated

from fastapi import APIRouter, Body, Query

from derwin_db import Page, repos
from derwin_db.fastapi import Paging
from derwin_db.models import Project, ProjectCreate, ProjectMode, ProjectType
from examples.service.access import CurrentUser, Operator, ReadScoped, Scoped, db

router = APIRouter(prefix="/projects", tags=["projects"])

OfType = Annotated[ProjectType | None, Query(description="Only projects of this type.")]
NewMode = Annotated[ProjectMode, Body(description="How much the platform may do from now on.")]
Reason = Annotated[str, Body(min_length=1, max_length=500, description="Why.", examples=["The first month went well."])]


@router.get("")
async def list_projects(user: Operator, paging: Paging, type: OfType = None) -> Page[Project]:
    """Return the projects that are not archived, newest first."""
    async with db.admin(reason=f"{user.name} lists projects") as admin:
        return await repos.projects.list(admin, type=type, **paging)


@router.post("", status_code=201)
async def create_project(user: Operator, data: ProjectCreate) -> Project:
    """Create a project. A slug is taken once and for all."""
    async with db.admin(reason=f"{user.name} creates a project") as admin:
        return await repos.projects.create(admin, data)


@router.get("/{project}")
async def get_project(session: ReadScoped) -> Project:
    """Return the project."""
    return await repos.projects.current(session)


@router.put("/{project}/mode")
async def set_mode(session: Scoped, user: CurrentUser, mode: NewMode, reason: Reason) -> Project:
    """Say how much the platform may do. Who and why go into the log."""
    return await repos.projects.set_mode(session, mode, actor=user.name, reason=reason)

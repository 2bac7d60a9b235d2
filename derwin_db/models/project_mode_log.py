"""ProjectModeLog: the append-only audit of mode changes."""

from typing import Annotated, Any, ClassVar

from derwin_db.fields.columns import choice
from derwin_db.fields.scalars import ShortText
from derwin_db.fields.table import SCHEMA, Created, ProjectTable, owned_by_project, paged, primary_key
from derwin_db.models.enums import ProjectMode


class ProjectModeLog(Created, ProjectTable, table=True):
    """One change of the project's mode; the first entry has no former mode.

    Written by `projects.create` and `projects.set_mode`; goes only with its whole project.
    """

    __tablename__: ClassVar[str] = "project_mode_logs"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        primary_key("project_mode_logs"),
        owned_by_project("project_mode_logs"),
        paged("project_mode_logs"),
        {"schema": SCHEMA},
    )

    from_mode: ProjectMode | None = choice(ProjectMode, default=None)
    to_mode: Annotated[ProjectMode, choice(ProjectMode)]
    actor: ShortText
    reason: ShortText

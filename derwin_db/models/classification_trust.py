"""ClassificationTrust: the rolling trust score of each classification."""

from datetime import datetime
from typing import Any, ClassVar

from derwin_db.fields.columns import timestamp_now, with_default
from derwin_db.fields.scalars import Classification, Count, Score
from derwin_db.fields.table import SCHEMA, Changing, ProjectTable, owned_by_project, paged, primary_key, unique

WINDOW_DAYS = 30
"""Length of the rolling window that a score looks at, in days."""


class ClassificationTrust(Changing, ProjectTable, table=True):
    """How far fixes of one classification can be trusted: the lower Wilson bound of merged over concluded attempts.

    Unique by its classification. Written whenever an attempt is concluded or reverted, and by `refresh` as the window
    slides; goes with its project.
    """

    __tablename__: ClassVar[str] = "classification_trust"
    __table_args__: ClassVar[tuple[Any, ...]] = (
        primary_key("classification_trust"),
        owned_by_project("classification_trust"),
        unique("classification_trust", "classification"),
        paged("classification_trust"),
        {"schema": SCHEMA},
    )

    classification: Classification
    window_days: int = with_default(Count, default=WINDOW_DAYS, server_default=str(WINDOW_DAYS))
    attempts: int = with_default(Count, default=0, server_default="0")
    successes: int = with_default(Count, default=0, server_default="0")
    reverts: int = with_default(Count, default=0, server_default="0")
    score: float = with_default(Score, default=0.0, server_default="0")
    computed_at: datetime = timestamp_now()

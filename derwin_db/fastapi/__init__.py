"""What FastAPI services use: sessions as dependencies, errors as problems, health, start and end.

    Scoped = Annotated[ProjectSession, scoped(db, authorize=may_access)]
    ReadScoped = Annotated[ProjectSession, scoped(db, authorize=may_access, read_only=True)]

    app = FastAPI(lifespan=lifespan(db))
    install_error_handlers(app)
    app.include_router(health_router(db))

Nothing below knows HTTP. FastAPI itself is the extra `[fastapi]`.
"""

try:
    import fastapi as _fastapi  # noqa: F401  # what follows needs it; said here in one sentence
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError("derwin_db.fastapi needs FastAPI: pip install 'derwin-db[fastapi]'.", name=_error.name) from None

from derwin_db.fastapi.handlers import install_error_handlers
from derwin_db.fastapi.health import health_router
from derwin_db.fastapi.lifespan import lifespan
from derwin_db.fastapi.page import Paging
from derwin_db.fastapi.problem import Problem
from derwin_db.fastapi.scope import OpenUnit, scoped, scoped_units

__all__ = [
    "OpenUnit",
    "Paging",
    "Problem",
    "health_router",
    "install_error_handlers",
    "lifespan",
    "scoped",
    "scoped_units",
]

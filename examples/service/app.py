"""The app: routers, health, error handlers, and a database that starts and ends with it."""

from fastapi_offline import FastAPIOffline

from derwin_db.fastapi import health_router, install_error_handlers, lifespan
from examples.service.access import db
from examples.service.routers import events, fixes, live, projects, runs, spend, tickets, webhooks

MAX_BODY_BYTES = 16 * 1024 * 1024

app = FastAPIOffline(  # its /docs are served from the package, not from a CDN
    title="Derwin, a small service",
    description="Projects, tickets, signals, past fixes, spending, and webhooks. Try it with the token `lifeline-token`.",
    lifespan=lifespan(db),
    max_body_size=MAX_BODY_BYTES,
)
install_error_handlers(app)
app.include_router(health_router(db))
for part in (projects, events, live, tickets, runs, fixes, spend, webhooks):
    app.include_router(part.router)

"""Start the service: `PORT=8000 python -m examples.service`.

Where no DATABASE_URL is set it serves the embedded server, migrated and filled with demo data first.
"""

import asyncio
import os

import uvicorn

from derwin_db.settings import Settings
from examples.service.access import DEMO_USERS
from examples.service.demo import prepare


def main() -> None:
    """Prepare the demo where nobody says which database to serve, then serve."""
    if Settings.load().database_url is None:
        asyncio.run(prepare())
    port = int(os.environ.get("PORT", "8000"))
    print(f"http://127.0.0.1:{port}/docs   tokens: {', '.join(DEMO_USERS)}", flush=True)
    uvicorn.run("examples.service.app:app", port=port, log_level="warning")


if __name__ == "__main__":
    main()

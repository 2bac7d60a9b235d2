"""The studio: pages to look at one project at a time, on this machine. Its packages are the extra `[studio]`.

It reads, and nothing else: every page is a unit of work `db.project(..., read_only=True)`, so that it sees what a service of
that project could see. The list of projects alone comes through the admin door, under a reason. `create_app` is the way in.
"""

try:
    import starlette as _starlette  # noqa: F401  # what follows needs it; said here in one sentence
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError("derwin_db.studio is not installed: pip install 'derwin-db[studio]'.", name=_error.name) from None


from derwin_db.studio.app import create_app
from derwin_db.studio.door import new_token

__all__ = ["create_app", "new_token"]

"""Which revisions this code brings, by their files: cheaper than Alembic, and asked only where the database has another one."""

import re
from functools import cache
from pathlib import Path

_REVISION = re.compile(r"""^revision(?:: str)? = ["'](\w+)["']""", re.MULTILINE)


def script_folder() -> Path:
    """Return the folder of revisions: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parent.parent
    folder = package / "alembic"
    return folder if folder.is_dir() else package.parent / "alembic"


@cache
def known_revisions() -> frozenset[str]:
    """Return the revisions in the folder."""
    texts = (path.read_text(encoding="utf-8") for path in (script_folder() / "versions").glob("*.py"))
    return frozenset(name for text in texts for name in _REVISION.findall(text))

"""`make freeze`: record the revisions and SQL entities that are new, and the newest revision as the head that the code expects.

What is recorded already never changes: a file that has other contents than its hash says is refused by name.
"""

import hashlib
import re
import sys

from alembic.config import Config
from alembic.script import ScriptDirectory

from derwin_db import sql
from derwin_db.deploy.migrations import script_folder

RECORD = script_folder() / "frozen.sha256"
_HEAD = re.compile(r'^HEAD_REVISION = "\w+"$', re.MULTILINE)


def recorded() -> dict[str, str]:
    """Return the hash of each file that is frozen, by its name."""
    return dict(line.split("  ") for line in RECORD.read_text().splitlines())


def present() -> dict[str, str]:
    """Return the hash that each revision and SQL entity has now, by its name."""
    files = (*(script_folder() / "versions").glob("*.py"), *sql.folder().glob("*.sql"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def head() -> str:
    """Return the newest revision."""
    config = Config()
    config.set_main_option("script_location", str(script_folder()))
    revision = ScriptDirectory.from_config(config).get_current_head()
    assert revision is not None
    return revision


def freeze() -> None:
    frozen, now = recorded(), present()
    changed = sorted(name for name, digest in frozen.items() if now.get(name, digest) != digest)
    if changed:
        sys.exit(f"Frozen files never change; write a new revision or version instead of changing {', '.join(changed)}.")
    RECORD.write_text("".join(f"{name}  {digest}\n" for name, digest in sorted(now.items())))
    source = sql.folder() / "__init__.py"
    source.write_text(_HEAD.sub(f'HEAD_REVISION = "{head()}"', source.read_text(), count=1))


if __name__ == "__main__":
    freeze()

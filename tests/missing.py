"""What this machine can't test, by name: files that are not collected because a program or a privilege is missing."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.deploy.servers import HAS_15
from tests.faults.clock import LIBRARY
from tests.faults.disk import can_mount
from tests.pgbouncer import KEEPS_STATEMENTS, NEED, PROGRAM
from tests.studio.browser import CHROMIUM

TESTS = Path(__file__).parent


@dataclass(frozen=True)
class Need:
    """What a file of tests needs to be collected."""

    file: str
    """Below tests/."""
    is_here: Callable[[], bool]
    what: str

    def __str__(self) -> str:
        return f"NOT COLLECTED: tests/{self.file} needs {self.what}"


_CLUSTER = "a Citus cluster (DERWIN_TEST_CITUS_URL: its coordinator, as an administrator)"

NEEDS = (
    *(
        Need(str(path.relative_to(TESTS)), lambda: "DERWIN_TEST_CITUS_URL" in os.environ, _CLUSTER)
        for path in sorted((TESTS / "citus").glob("test_*.py"))
    ),
    Need("faults/test_disk.py", can_mount, "a root that may mount file systems"),
    Need("faults/test_pooler.py", lambda: PROGRAM is not None, NEED),
    Need("faults/test_clock_step.py", lambda: LIBRARY is not None, "the library libfaketime (apt-get install -y libfaketime)"),
    Need("scale/test_pooled.py", lambda: PROGRAM is not None, NEED),
    Need("scale/test_pooled_verbs.py", lambda: PROGRAM is not None, NEED),
    Need("workers/test_pooled.py", lambda: PROGRAM is not None, NEED),
    Need(
        "studio/test_browser.py",
        lambda: CHROMIUM is not None or "CI" in os.environ,  # there it has to be, and the tests say that it is not
        "a browser (apt-get install -y chromium chromium-driver)",
    ),
)


def left_out(conftest: str) -> list[str]:
    """Return the files beside this conftest that are not to be collected."""
    folder = Path(conftest).parent
    return [need.file.partition("/")[2] for need in NEEDS if (TESTS / need.file).parent == folder and not need.is_here()]


def report() -> list[str]:
    """Return a line for each file that is not collected, and for what others leave out."""
    lines = [str(need) for need in NEEDS if not need.is_here()]
    if find_spec("axe_playwright_python") is None:
        lines.append("NOT CHECKED: the rules of axe-core in tests/studio/test_browser.py (make install brings it)")
    if not KEEPS_STATEMENTS:
        lines.append("NOT COLLECTED: the cases of tests/scale/test_kept.py on PgBouncer itself (1.22 or newer)")
    if not HAS_15:
        lines.append("NOT COLLECTED: the cases of tests/deploy/test_revisions.py on Debian's PostgreSQL 15 (postgresql-15)")
    return lines

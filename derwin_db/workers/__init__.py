"""What serves all projects: the worker, which takes queued runs, and the sweeps, which cron runs.

Each project is served in its own scope. Which of them have something to do is asked in one place (`queue`), which is told ids
and nothing else. HTTP and commands are not here, and no statement of the domain.
"""

from derwin_db.workers.job import Job
from derwin_db.workers.sweep import SweepResult
from derwin_db.workers.worker import Worker

__all__ = ["Job", "SweepResult", "Worker"]

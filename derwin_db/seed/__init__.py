"""Seeds: the project Lifeline, and a demo history for it."""

from derwin_db.seed.demo import seed_demo
from derwin_db.seed.demo.history import DemoCounts
from derwin_db.seed.lifeline import LIFELINE, seed_lifeline

__all__ = ["LIFELINE", "DemoCounts", "seed_demo", "seed_lifeline"]

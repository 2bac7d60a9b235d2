"""How long work tells how far it is."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is worked on (a table, or `projects`), how many of it are done, and how many there are."""

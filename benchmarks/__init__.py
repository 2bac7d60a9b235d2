"""How fast derwin-db is: ratios to hand-written asyncpg, in rotation, on an embedded server of its own.

`python -m benchmarks` is the comparison with other libraries; `vectors`, `growth`, `memory`, `fences` and `imports` beside it
measure one thing each. docs/performance.md holds what came out.
"""

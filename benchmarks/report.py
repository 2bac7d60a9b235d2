"""Tables, the goals with what is missing, and the plot."""

from pathlib import Path
from typing import Any

from benchmarks.peers import NAMES, REFERENCE

_GOALS = {
    "get": (2.2, 0.5),
    "three_reads": (1.0, 1.0),
    "list": (1.2, 0.75),
    "insert": (1.0, 1.05),
    "update": (1.0, 1.05),
    "read_write": (1.0, 1.05),
    "spend": (1.8, 0.5),
}
"""What ours is to be at least and at most: throughput as a share of the reference's, latency as a multiple."""

_ORMS = (
    "sqlalchemy_core_unscoped", "sqlmodel_unscoped", "sqlmodel_scoped", "advanced_alchemy_unscoped", "piccolo_unscoped",
    "tortoise_unscoped",
)  # fmt: skip


def text(results: dict[str, Any]) -> str:
    """Return all tables."""
    parts = [_circumstances(results["run"]), _table(results["ops"])]
    if "bulk_100000" in results:
        parts.append(_table({"bulk 100,000": results["bulk_100000"]}))
    if results.get("synchronous_commit_on"):
        parts.append("synchronous_commit on:\n" + _table(results["synchronous_commit_on"]))
    parts.append("Goals\n" + "\n".join(f"  {line}" for line in goals(results)))
    failures = [
        f"  {peer}, {operation}: {found['failure']}"
        for operation, peers in results["ops"].items()
        for peer, found in peers.items()
        if "failure" in found
    ]
    failures += [f"  {peer}: {reason}" for peer, reason in results["missing"].items()]
    if failures:
        parts.append("Not measured\n" + "\n".join(failures))
    return "\n\n".join(parts)


def _circumstances(run: dict[str, Any]) -> str:
    return (
        f"PostgreSQL {run['postgresql']}, Python {run['python']}, {run['cores']} cores, load {run['load_at_start'][0]} at the "
        f"start and {run['load_at_end'][0]} at the end, {run['rounds']} rounds, {run['seconds']} s. Share of the reference's "
        "throughput (16 callers); in brackets its latency (one caller) as a multiple."
    )


def _table(operations: dict[str, Any]) -> str:
    lines = ["  ".join(["peer".ljust(26), *(name.rjust(13) for name in operations)])]
    for peer in NAMES:
        if not any(peer in found for found in operations.values()):
            continue
        cells = [_cell(found.get(peer)) for found in operations.values()]
        lines.append("  ".join([peer.ljust(26), *(cell.rjust(13) for cell in cells)]))
    return "\n".join(lines)


def _cell(found: dict[str, Any] | None) -> str:
    if found is None or "failure" in found:
        return "-"
    return f"{found['throughput']:.2f} ({found['latency']:.2f})"


def goals(results: dict[str, Any]) -> list[str]:
    """Return a line for each goal of the design that this run can tell: what was wanted, what is, pass or the gap."""
    lines = []
    operations = results["ops"]
    for operation, found in operations.items():
        ours = found.get("derwin")
        if ours is None or "failure" in ours:
            continue
        if operation in _GOALS:
            least, most = _GOALS[operation]
            lines += [_at_least(f"{operation}: throughput", ours["throughput"], least)]
            lines += [_at_most(f"{operation}: latency", ours["latency"], most)]
        elif operation == "bulk":
            lines += [_at_most("bulk: time of COPY without policies", ours["latency"], 1.3)]
    if "derwin" in results.get("bulk_100000", {}):
        lines.append(_at_most("bulk 100,000: time of COPY without policies", results["bulk_100000"]["derwin"]["latency"], 1.3))
    if "filters" in results:
        lines.append(
            _at_least("filters chosen at run time: throughput of the fixed form", results["filters"]["throughput"], 0.7)
        )
    for name, found in results.get("policies", {}).items():
        if name != "rounds":
            lines.append(_at_most(f"policies on, {name}: time of the query", found["query"], 1.15))
    lines += _against_orms(operations)
    return lines


def _against_orms(operations: dict[str, Any]) -> list[str]:
    lines = []
    for operation, found in operations.items():
        ours = found.get("derwin", {}).get("throughput")
        others = {name: found[name]["throughput"] for name in _ORMS if "throughput" in found.get(name, {})}
        if ours is None or not others:
            continue
        best = max(others, key=lambda name: others[name])
        lines.append(_at_least(f"{operation}: of the fastest ORM, {best}", ours / others[best], 1.0))
        if "sqlmodel_scoped" in others:
            lines.append(_at_least(f"{operation}: of the scoped ORM", ours / others["sqlmodel_scoped"], 1.0))
    return lines


def _at_least(what: str, value: float, goal: float) -> str:
    return f"{what.ljust(62)} {value:6.2f}   >= {goal:.2f}   {'pass' if value >= goal else f'{goal - value:.2f} short'}"


def _at_most(what: str, value: float, goal: float) -> str:
    return f"{what.ljust(62)} {value:6.2f}   <= {goal:.2f}   {'pass' if value <= goal else f'{value - goal:.2f} over'}"


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw the throughput of each peer in each operation, as a share of the reference."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "derwin"
    from matplotlib import pyplot as plt

    operations = {name: found for name, found in results["ops"].items() if found}
    peers = [name for name in NAMES if name != REFERENCE and any(name in found for found in operations.values())]
    figure, axes = plt.subplots(figsize=(11, 4.6))
    width = 0.85 / len(peers)
    greys = [str(0.35 + 0.5 * place / len(peers)) for place in range(len(peers))]
    for place, peer in enumerate(peers):
        heights = [min(found.get(peer, {}).get("throughput", 0), 3.0) for found in operations.values()]
        positions = [number + (place - len(peers) / 2) * width for number in range(len(operations))]
        colour = "#c2410c" if peer == "derwin" else greys[place]
        axes.bar(positions, heights, width * 0.92, label=peer.replace("_", " "), color=colour)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(operations)), list(operations))
    axes.set_ylabel("throughput, hand-written safe asyncpg = 1")
    axes.set_ylim(0, 3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7.5, ncols=3, frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)

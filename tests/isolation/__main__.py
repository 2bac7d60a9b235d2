"""The long run, `make attack`: every attack, each fence alone, every mutation. Exit 0 if all of it holds.

`--write` puts into docs/isolation.md what was seen; without it, a page that says something else is a failure.
On a cluster (DERWIN_TEST_CITUS_URL) it is every attack that is about what is there, at each place of the other project, and
what is left out is counted by its reason; no guard is taken down there.
`--sample N` takes N attacks of each run instead of all; `--json` prints one object and nothing else; `--verbose` says what
caught each mutation.
"""

import argparse
import asyncio
import json
import os
import sys
import time
import warnings
from collections import Counter
from typing import Any

import asyncpg

from derwin_db.doctor import examine
from derwin_db.testing import TestServer, choose_server
from derwin_db.testing.server import TestCluster
from derwin_db.testing.unfiltered import without_filters
from tests.isolation import expressions, published  # first: it keeps what is compiled from now on
from tests.isolation.arena import prepare
from tests.isolation.clustered import attack_cluster
from tests.isolation.damage import all_damage
from tests.isolation.families import FAMILIES
from tests.isolation.fences import without_policies
from tests.isolation.keys import key_scripts, keys_caught
from tests.isolation.looking import noticed
from tests.isolation.matrix import Attack, Result, run, sample
from tests.isolation.methods import method_cases
from tests.isolation.mutations import MUTATIONS, caught, every_attack, filtered_names, filters_caught, own_arena
from tests.isolation.statements import LATER
from tests.isolation.states import Case

LEAST = 10_000


class Report:
    """What the run has found so far."""

    def __init__(self, *, is_quiet: bool, is_verbose: bool) -> None:
        self.is_quiet, self.is_verbose = is_quiet, is_verbose
        self.results: dict[str, Result] = {}
        self.mutations: dict[str, list[str]] = {}
        self.by_guard: dict[str, int] = {}
        self.families: Counter[int] = Counter()
        self.failures: list[str] = []
        self.outcomes: published.Outcomes = {}
        self.counts: Counter[int] = Counter()
        self.left_out: Counter[str] = Counter()

    def say(self, text: str) -> None:
        if not self.is_quiet:
            print(text, flush=True)

    def add(self, title: str, result: Result) -> None:
        self.results[title] = result
        self.families.update(result.by_family)
        self.failures += result.failures
        self.say(
            f"{title}: {result.cases} cases in {result.seconds:.0f} s, leaked {len(result.leaked)}, "
            f"changed {len(result.changed)}, differs {len(result.differs)}"
        )
        self.say("".join(f"  {failure}\n" for failure in result.failures).rstrip() or "  all of it held")

    def mutated(self, name: str, by: list[str]) -> None:
        self.mutations[name] = by
        if not by:
            self.failures.append(f"nothing notices: {name}")
        if self.is_verbose or not by:
            self.say(f"  {name} -> {', '.join(by) or 'NOTHING'}")

    def as_dict(self) -> dict[str, Any]:
        caught_ones = sum(1 for by in self.mutations.values() if by)
        return {
            "ok": not self.failures,
            "cases": sum(result.cases for result in self.results.values()),
            "families": {f"{number}. {FAMILIES[number]}": self.families[number] for number in sorted(FAMILIES)},
            "leaked": sum(len(result.leaked) for result in self.results.values()),
            "changed": sum(len(result.changed) for result in self.results.values()),
            "differs": sum(len(result.differs) for result in self.results.values()),
            "mutations": len(self.mutations),
            "mutations_caught": caught_ones,
            "filters": self.by_guard,
            "left_out": dict(self.left_out),
            "failures": self.failures[:50],
        }

    def pages(self) -> dict[str, str]:
        """Return what docs/isolation.md shows of it, by the name of the block."""
        runs = {f"with {name}": result.cases for name, result in self.results.items() if name != "all fences"}
        return {
            "attacks": published.numbers(self.counts, {**runs, "mutations, each noticed by name": len(self.mutations)}),
            "outcomes": published.table(self.outcomes),
        }


async def attack(server: TestServer, report: Report, size: int | None) -> None:
    def chosen(attacks: Any) -> list[Attack]:
        return list(attacks) if size is None else sample(list(attacks), size, seed=1)

    if isinstance(server, TestCluster):
        await attack_cluster(server, report, chosen)
        return
    ground = await prepare(server)
    keys = list(key_scripts())
    async with own_arena(server, ground) as arena:
        every = await every_attack(arena)
        by_title = {one.title for one in keys}
        first = chosen(one for one in every if one.title not in by_title)
        result = await run(arena, first, tell=telling(report, len(first)))
        report.add("all fences", result)
        with without_filters():
            report.add("policies alone", await run(arena, chosen(alone(await method_cases(arena)))))
        report.add("keys alone", await run(arena, keys))
        for name, by in (await keys_caught(arena)).items():
            report.mutated(f"for rows of the owner, {name}", [by] if by else [])
    async with without_policies(server, ground) as arena:
        cases = await method_cases(arena)
        report.add("filters alone", await run(arena, chosen(alone(cases))))
        await mutate_filters(report, arena, cases)
    checks, damage = await mutate_database(server, report)
    for mutation in MUTATIONS:
        by = await caught(server, ground, mutation, every)
        report.mutated(mutation.name, [by] if by else [])
    report.outcomes, report.counts = result.outcomes, published.counts_of(every, checks=checks, damage=damage)


def alone(cases: list[Case]) -> list[Case]:
    """Every attack on every method, in the states that matter to a single fence."""
    return [case for case in cases if case.state in ("fresh", "in a savepoint", LATER)]


def telling(report: Report, total: int) -> Any:
    started = time.monotonic()

    def tell(done: int) -> None:
        if done % 1000 == 0:
            left = (time.monotonic() - started) / done * (total - done)
            report.say(f"  {done} of {total}, {left:.0f} s left")

    return tell


async def mutate_filters(report: Report, arena: Any, cases: Any) -> None:
    """Take each project condition out: the guard refuses the expression, and most the matrix notices by itself."""
    made, passed = expressions.survivors()
    names = filtered_names()
    by_attack = await filters_caught(arena, cases, names)
    report.by_guard = {"conditions": made, "refused": made - len(passed), "methods": len(names),
                       "noticed_without_the_guard": sum(1 for by in by_attack.values() if by)}  # fmt: skip
    for name in names:
        by = ["the guard: UnscopedStatement"] if not any(one.startswith(f"{name},") for one in passed) else []
        report.mutated(f"the filter of {name} is gone", by + [by_attack[name] or ""] * bool(by_attack[name]))


async def mutate_database(server: TestServer, report: Report) -> tuple[int, int]:
    """Return how many checks a healthy database passes, and how much damage was done to it."""
    database = await asyncio.to_thread(server.migrated)
    healthy = await examine(database.service, owner=database.owner)
    bad = [check for check in healthy.checks if not check.ok]
    report.families[23] += len(healthy.checks)
    report.failures += [f"doctor finds fault with a healthy database: {check}" for check in bad]
    owner = await asyncpg.connect(**database.owner.connect_arguments(), statement_cache_size=0)
    version = await owner.fetchval("SELECT current_setting('server_version_num')::int")
    damages = list(all_damage(version))
    for damage in damages:
        found = await noticed(owner, database, damage)
        is_found = damage.check in found and (not damage.at_start or "start" in found)
        said = [f"doctor: {name}" if name != "start" else "start-up" for name in found]
        report.mutated(damage.name, said if is_found else [])
    report.families[24] += len(damages)
    await owner.close()
    return len(healthy.checks), len(damages)


def finish(report: Report, *, is_writing: bool) -> None:
    """See to it that it was the whole run, and that docs/isolation.md shows what it found, if it found no fault."""
    cases = sum(result.cases for result in report.results.values())
    if cases < LEAST:
        report.failures.append(f"{cases} cases: at least {LEAST} are wanted")
    for name, text in report.pages().items():
        if is_writing and not report.failures:
            published.write(name, text)
        elif published.block(name) != text:
            report.failures.append(f"docs/isolation.md is stale: {name}. `python -m tests.isolation --write` writes it")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.isolation", description=__doc__)
    parser.add_argument("--sample", type=int, help="this many attacks of each run, instead of all")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--verbose", action="store_true", help="say what caught each mutation")
    parser.add_argument("--write", action="store_true", help="put the outcomes into docs/isolation.md")
    options = parser.parse_args()
    if options.write and (options.sample is not None or "DERWIN_TEST_CITUS_URL" in os.environ):
        parser.error("--write needs all attacks, on one node: leave --sample and DERWIN_TEST_CITUS_URL out")
    warnings.simplefilter("ignore")
    report = Report(is_quiet=options.json, is_verbose=options.verbose)
    started = time.monotonic()
    with choose_server() as server:
        asyncio.run(attack(server, report, options.sample))
    if options.sample is None and not isinstance(server, TestCluster):
        finish(report, is_writing=options.write)
    said = report.as_dict()
    if options.json:
        print(json.dumps(said))
    else:
        for name, count in said["families"].items():
            print(f"{count:6} {name}")
        print(f"\n{said['cases']} cases in {len(FAMILIES)} families, {time.monotonic() - started:.0f} s")
        print(f"leaked {said['leaked']}, changed {said['changed']}, told apart {said['differs']}")
        if report.left_out:
            print("\n".join(f"left out: {count}, {reason}" for reason, count in report.left_out.items()))
        else:
            print(f"mutations caught: {said['mutations_caught']} of {said['mutations']}; filters: {said['filters']}")
        print("\n".join(said["failures"]))
    return 0 if said["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())

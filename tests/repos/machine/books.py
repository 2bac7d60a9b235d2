"""Rules of the state machine: the ledger, evidence, and the end of a project."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from derwin_db import repos
from derwin_db.errors import BudgetExceeded, Conflict, DerwinError, InvalidReference, NotFound, RetentionLocked
from derwin_db.models import ProjectCreate, ProjectType, PruneResult, SpendCap
from tests.repos.evidence import evidence
from tests.repos.machine.base import KEPT, PICK, WHICH, Base
from tests.repos.machine.world import KEYED, World
from tests.repos.rows import a_charge, a_credit, an_artifact

KEY = st.sampled_from("abcdefgh")
AMOUNT = st.sampled_from(["0.000001", "1.5", "3", "7.25", "-0.5", "-2"])
CAP = st.sampled_from([None, None, "5", "10"])


def entry(key: str, amount: str) -> Any:
    return a_credit(key, amount) if amount.startswith("-") else a_charge(key, amount)


class LedgerRules(Base):
    @rule(which=WHICH, key=KEY, amount=AMOUNT, usd=CAP, kept=KEPT)
    def append(self, which: int, key: str, amount: str, usd: str | None, kept: bool) -> None:
        world, _ = self.take(which)
        ledger, value = world.tables["spend_ledger"], Decimal(amount)
        known = world.where("spend_ledger", idempotency_key=key)
        expected: type[DerwinError] | None = None
        if known:
            expected = None if ledger[known[0]]["amount_usd"] == value else Conflict
        elif usd is not None and value > 0 and world.total() + value > Decimal(usd):
            expected = BudgetExceeded
        cap = None if usd is None else SpendCap(Decimal(usd), timedelta(days=1))
        done, row = self.act(
            world, lambda session: repos.spend_ledger.append(session, entry(key, amount), cap=cap), expected, kept=kept
        )
        if done and known:
            assert row.id == known[0]
        elif done:
            ledger[row.id] = {"idempotency_key": key, "amount_usd": value, "project_slug": world.slug}

    @rule(which=WHICH, rows=st.lists(st.tuples(KEY, AMOUNT), max_size=4), kept=KEPT)
    def append_many(self, which: int, rows: list[tuple[str, str]], kept: bool) -> None:
        world, _ = self.take(which)
        ledger = world.tables["spend_ledger"]
        stored = {row["idempotency_key"]: row["amount_usd"] for row in ledger.values()}
        wanted, fresh = dict(stored), set()
        expected: type[DerwinError] | None = None
        for key, amount in rows:
            if wanted.setdefault(key, Decimal(amount)) != Decimal(amount):
                expected = Conflict
            elif key not in stored:
                fresh.add(key)

        async def append(session: Any) -> Any:
            count = await repos.spend_ledger.append_many(session, [entry(*row) for row in rows])
            return count, [row async for row in repos.spend_ledger.stream(session)]

        done, answer = self.act(world, append, expected, kept=kept)
        if done:
            assert answer[0] == len(fresh)
            for row in answer[1]:
                key, value = row.idempotency_key, wanted[row.idempotency_key]
                ledger[row.id] = {"idempotency_key": key, "amount_usd": value, "project_slug": world.slug}


class EvidenceRules(Base):
    @rule(which=WHICH, pick=PICK, column=st.sampled_from([None, "run_id", "ticket_id", "fix_attempt_id"]), kept=KEPT)
    def record(self, which: int, pick: int, column: str | None, kept: bool) -> None:
        world, other = self.take(which)
        references: dict[str, Any] = dict.fromkeys(("run_id", "ticket_id", "fix_attempt_id"))
        row: Any = {}
        if column is not None:
            table = {"run_id": "qa_runs", "ticket_id": "qa_tickets", "fix_attempt_id": "qa_fix_attempts"}[column]
            references[column], row = world.pick(table, pick, other)
        expected = InvalidReference if row is None else None
        data = an_artifact(**references)
        done, written = self.act(world, lambda session: repos.audit_artifacts.record(session, data), expected, kept=kept)
        if done:
            world.tables["audit_artifacts"][written.id] = {**references, "legal_hold": False}

    @rule(which=WHICH)
    def age(self, which: int) -> None:
        """Evidence whose time has come, which no verb can write."""
        world, _ = self.take(which)
        _, id = self.act(world, lambda session: evidence(session, until="now() - interval '1 day'"))
        references = dict.fromkeys(("run_id", "ticket_id", "fix_attempt_id"))
        world.tables["audit_artifacts"][id] = {**references, "legal_hold": False}
        self.aged.add(id)

    @rule(which=WHICH, pick=PICK, is_held=st.booleans(), kept=KEPT)
    def hold_or_release(self, which: int, pick: int, is_held: bool, kept: bool) -> None:
        world, other = self.take(which)
        id, row = world.pick("audit_artifacts", pick, other)
        expected = NotFound if row is None else None
        verb = repos.audit_artifacts.hold if is_held else repos.audit_artifacts.release
        done, _ = self.act(world, lambda session: verb(session, id), expected, kept=kept)
        if done and row is not None:
            row["legal_hold"] = is_held

    @rule(which=WHICH, limit=st.integers(1, 3), with_blobs=st.booleans(), kept=KEPT)
    def prune(self, which: int, limit: int, with_blobs: bool, kept: bool) -> None:
        world, _ = self.take(which)
        due = [id for id in world.where("audit_artifacts", legal_hold=False) if id in self.aged]
        deleted: list[Any] = []

        async def prune(session: Any) -> Any:
            delete_blob = deleted.append if with_blobs else None
            result = await repos.audit_artifacts.prune_expired(session, limit=limit, delete_blob=delete_blob)
            return result, [row.id async for row in repos.audit_artifacts.stream(session)]

        done, answer = self.act(world, prune, kept=kept)
        if done:
            gone = set(world.tables["audit_artifacts"]) - set(answer[1])
            assert gone <= set(due)
            assert answer[0] == PruneResult(min(limit, len(due)), len(due) - len(gone))
            assert {row.id for row in deleted} == (gone if with_blobs else set())
            for id in gone:
                del world.tables["audit_artifacts"][id]

    def __init__(self) -> None:
        self.aged: set[Any] = set()
        super().__init__()


class DeletionRules(EvidenceRules):
    @rule(which=WHICH, despite_retention=st.booleans(), chance=st.integers(0, 9))
    def delete_project(self, which: int, despite_retention: bool, chance: int) -> None:
        if chance:
            return
        world, _ = self.take(which)
        artifacts = world.tables["audit_artifacts"]
        is_held = any(row["legal_hold"] for row in artifacts.values())
        is_kept = not despite_retention and bool(set(artifacts) - self.aged)
        try:
            counts = self.runner.run(self._delete(world, despite_retention=despite_retention))
        except RetentionLocked:
            assert is_held or is_kept
            return
        assert not is_held
        assert not is_kept
        expected = {table: len(world.tables[table]) for table in KEYED if table != "spend_ledger"}
        expected |= {"projects": 1, "project_mode_logs": len(world.modes)}
        expected |= {"project_profiles": int(bool(world.profile)), "profile_evolution_logs": len(world.profile)}
        assert {name: count for name, count in counts.items() if name != "classification_trust"} == expected
        self.runner.run(self._take_slug_again(world))
        self.worlds[which] = self.acted = self.new_world()

    async def _delete(self, world: World, *, despite_retention: bool) -> Any:
        async with self.db.admin(reason="a state machine") as admin:
            return await repos.projects.delete(admin, world.id, despite_retention=despite_retention)

    async def _take_slug_again(self, world: World) -> None:
        """It stays taken while its ledger is on the books; else it is free, and given back at once."""
        data = ProjectCreate(slug=world.slug, name="Again", type=ProjectType.OTHER)
        try:
            async with self.db.admin(reason="a state machine") as admin:
                project = await repos.projects.create(admin, data)
                await repos.projects.delete(admin, project.id)
        except Conflict:
            assert world.tables["spend_ledger"]
        else:
            assert not world.tables["spend_ledger"]

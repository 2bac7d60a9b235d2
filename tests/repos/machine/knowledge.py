"""Rules of the state machine: documents, the profile, the mode, policies and the corpus."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from derwin_db import repos
from derwin_db.errors import Conflict, DerwinError, IllegalTransition, InvalidInput, InvalidReference, NotFound, StaleWrite
from derwin_db.models import DocStatus, ProfileChange, ProjectMode, ProjectProfileUpdate
from tests.repos.machine.base import KEPT, PICK, WHICH, Base
from tests.repos.rows import a_doc, a_fix, a_policy, a_profile, axis

WHO = {"actor": "ada", "reason": "a step"}
SUMMARY = st.sampled_from(["one", "two", "three"])


class DocumentRules(Base):
    @rule(which=WHICH, content=st.sampled_from("abcd"), kept=KEPT)
    def ingest_doc(self, which: int, content: str, kept: bool) -> None:
        world, _ = self.take(which)
        data = a_doc(content)
        known = world.where("ingested_docs", content_hash=data.content_hash)
        done, row = self.act(world, lambda session: repos.ingested_docs.ingest(session, data), kept=kept)
        if done and known:
            assert row.id == known[0]
        elif done:
            state = {"content_hash": data.content_hash, "status": DocStatus.PENDING, "superseded_by": None, "error": None}
            world.tables["ingested_docs"][row.id] = state

    @rule(which=WHICH, pick=PICK, error=st.sampled_from([None, "no"]), kept=KEPT)
    def mark_doc(self, which: int, pick: int, error: str | None, kept: bool) -> None:
        world, other = self.take(which)
        id, doc = world.pick("ingested_docs", pick, other)
        expected: type[DerwinError] | None = None
        if doc is None:
            expected = NotFound
        elif doc["status"] is DocStatus.SUPERSEDED:
            expected = IllegalTransition
        docs = repos.ingested_docs
        done, _ = self.act(
            world,
            lambda session: docs.mark_processed(session, id) if error is None else docs.mark_failed(session, id, error),
            expected,
            kept=kept,
        )
        if done and doc is not None:
            doc |= {"status": DocStatus.PROCESSED if error is None else DocStatus.FAILED, "error": error}

    @rule(which=WHICH, pick=PICK, pick_newer=PICK, kept=KEPT)
    def supersede(self, which: int, pick: int, pick_newer: int, kept: bool) -> None:
        world, other = self.take(which)
        id, doc = world.pick("ingested_docs", pick, other)
        newer_id, newer = world.pick("ingested_docs", pick_newer, other)
        expected: type[DerwinError] | None = None
        if id == newer_id:
            expected = InvalidInput
        elif doc is None:
            expected = NotFound
        elif newer is None:
            expected = InvalidReference
        elif DocStatus.SUPERSEDED in (doc["status"], newer["status"]):
            expected = IllegalTransition
        done, _ = self.act(world, lambda session: repos.ingested_docs.supersede(session, id, newer_id), expected, kept=kept)
        if done and doc is not None:
            doc |= {"status": DocStatus.SUPERSEDED, "superseded_by": newer_id}

    @rule(which=WHICH, pick=PICK, kept=KEPT)
    def delete_doc(self, which: int, pick: int, kept: bool) -> None:
        world, other = self.take(which)
        id, doc = world.pick("ingested_docs", pick, other)
        expected = NotFound if doc is None else Conflict if id in world.doc_of_version.values() else None
        if self.act(world, lambda session: repos.ingested_docs.delete(session, id), expected, kept=kept)[0]:
            del world.tables["ingested_docs"][id]


class ProfileRules(Base):
    @rule(which=WHICH, summary=SUMMARY, kept=KEPT)
    def create_profile(self, which: int, summary: str, kept: bool) -> None:
        world, _ = self.take(which)
        data = a_profile(summary=summary)
        expected = Conflict if world.profile else None
        if self.act(world, lambda session: repos.project_profiles.create(session, data, **WHO), expected, kept=kept)[0]:
            world.profile.append(summary)

    @rule(which=WHICH, summary=SUMMARY, off=st.integers(0, 1), pick=st.none() | PICK, kept=KEPT)
    def evolve(self, which: int, summary: str, off: int, pick: int | None, kept: bool) -> None:
        world, other = self.take(which)
        doc_id, doc = (None, {}) if pick is None else world.pick("ingested_docs", pick, other)
        expected: type[DerwinError] | None = None
        if not world.profile:
            expected = NotFound
        elif off:
            expected = StaleWrite
        elif summary != world.profile[-1] and doc is None:
            expected = InvalidReference
        version = (len(world.profile) or 1) + off
        change = {"change": ProfileChange.LEARNED, "expected_version": version, "doc_id": doc_id, **WHO}
        data = ProjectProfileUpdate(summary=summary)
        done, row = self.act(world, lambda session: repos.project_profiles.evolve(session, data, **change), expected, kept=kept)
        if done and summary != world.profile[-1]:
            world.profile.append(summary)
            if doc_id is not None:
                world.doc_of_version[len(world.profile)] = doc_id
        assert not done or row.version == len(world.profile)

    @rule(which=WHICH, to=st.integers(1, 6), off=st.integers(0, 1), kept=KEPT)
    def roll_back(self, which: int, to: int, off: int, kept: bool) -> None:
        world, _ = self.take(which)
        expected: type[DerwinError] | None = None
        if not world.profile:
            expected = NotFound
        elif off:
            expected = StaleWrite
        elif to > len(world.profile):
            expected = NotFound
        version = (len(world.profile) or 1) + off
        done, _ = self.act(
            world,
            lambda session: repos.project_profiles.roll_back(session, to, expected_version=version, **WHO),
            expected,
            kept=kept,
        )
        if done and world.profile[to - 1] != world.profile[-1]:
            world.profile.append(world.profile[to - 1])

    @rule(which=WHICH, version=st.integers(1, 8))
    def at_version(self, which: int, version: int) -> None:
        world, _ = self.take(which)
        expected = NotFound if version > len(world.profile) else None
        done, row = self.act(world, lambda session: repos.project_profiles.at_version(session, version), expected)
        assert not done or (row.version, row.summary) == (version, world.profile[version - 1])

    @rule(which=WHICH, mode=st.sampled_from(ProjectMode), kept=KEPT)
    def set_mode(self, which: int, mode: ProjectMode, kept: bool) -> None:
        world, _ = self.take(which)
        done, _ = self.act(world, lambda session: repos.projects.set_mode(session, mode, **WHO), kept=kept)
        if done and mode is not world.mode:
            world.modes.append((world.mode, mode))
            world.mode = mode

    @rule(which=WHICH, kept=KEPT)
    def activate(self, which: int, kept: bool) -> None:
        world, _ = self.take(which)
        policies = world.tables["policies"]
        done, row = self.act(world, lambda session: repos.policies.activate(session, a_policy()), kept=kept)
        if done:
            for policy in policies.values():
                policy["is_active"] = False
            policies[row.id] = {"version": len(policies) + 1, "is_active": True}
        done, active = self.act(world, repos.policies.active, None if policies else NotFound)
        assert not done or active.version == len(policies)


class CorpusRules(Base):
    @rule(which=WHICH, angle=st.sampled_from([None, 0.0, 0.5, 1.0]), kept=KEPT)
    def remember(self, which: int, angle: float | None, kept: bool) -> None:
        world, _ = self.take(which)
        data = a_fix(embedding=None if angle is None else axis(1.0, angle))
        done, row = self.act(world, lambda session: repos.rag_corpus.add(session, data), kept=kept)
        if done:
            world.tables["rag_corpus"][row.id] = {"use_count": 0, "diff": data.diff, "embedding": None}
            self.embedded.setdefault(world.id, {})[row.id] = angle

    @rule(which=WHICH, pick=PICK, kept=KEPT)
    def record_use(self, which: int, pick: int, kept: bool) -> None:
        world, other = self.take(which)
        id, entry = world.pick("rag_corpus", pick, other)
        expected = NotFound if entry is None else None
        if self.act(world, lambda session: repos.rag_corpus.record_use(session, id), expected, kept=kept)[0] and entry:
            entry["use_count"] += 1

    @rule(which=WHICH, pick=PICK, kept=KEPT)
    def forget(self, which: int, pick: int, kept: bool) -> None:
        world, other = self.take(which)
        id, entry = world.pick("rag_corpus", pick, other)
        expected = NotFound if entry is None else None
        if self.act(world, lambda session: repos.rag_corpus.delete(session, id), expected, kept=kept)[0]:
            del world.tables["rag_corpus"][id]
            del self.embedded[world.id][id]

    @rule(which=WHICH, limit=st.integers(1, 4))
    def search(self, which: int, limit: int) -> None:
        world, _ = self.take(which)
        angles = {id: angle for id, angle in self.embedded.get(world.id, {}).items() if angle is not None}
        _, matches = self.act(world, lambda session: repos.rag_corpus.search(session, axis(1.0), limit=limit))
        assert [angles[match.entry.id] for match in matches] == sorted(angles.values())[:limit]

    def __init__(self) -> None:
        self.embedded: dict[Any, dict[Any, float | None]] = {}
        super().__init__()

"""policies: versions that are never edited, one of them active."""

from typing import Any

import pytest
import sqlalchemy as sa

from derwin_db import ProjectSession, repos
from derwin_db.errors import Conflict, DerwinError, InvalidInput, NotFound
from derwin_db.models import Bucket, PolicyCreate, PolicyThresholds, RiskTierRule
from tests.repos.rows import a_policy, a_ticket


class TestActivate:
    async def test_writes_the_next_version_and_ends_the_former(self, session: ProjectSession) -> None:
        data = a_policy(
            risk_tier_rules=[RiskTierRule(tier="high", min_risk=0.7, bucket=Bucket.HUMAN_ONLY, required_approvals=2)],
            classification_overrides={"billing": Bucket.HUMAN_ONLY},
            note="strict",
        )
        first = await repos.policies.activate(session, data)
        assert first.model_dump(include=set(PolicyCreate.model_fields)) == data.model_dump()
        assert (first.version, first.is_active) == (1, True)
        assert isinstance(first.thresholds, PolicyThresholds)
        second = await repos.policies.activate(session, a_policy())
        assert (second.version, second.is_active) == (2, True)
        former = await repos.policies.get(session, first.id)
        assert former == first.model_copy(update={"is_active": False, "updated_at": former.updated_at})

    async def test_the_same_content_is_a_version_of_its_own(self, session: ProjectSession) -> None:
        versions = [(await repos.policies.activate(session, a_policy())).version for _ in range(4)]
        assert versions == [1, 2, 3, 4]
        rows = (await repos.policies.list(session)).items
        assert [(row.version, row.is_active) for row in rows] == [(4, True), (3, False), (2, False), (1, False)]

    async def test_other_input_is_refused(self, session: ProjectSession) -> None:
        bad: Any
        for bad in (a_ticket(), {}, None):
            with pytest.raises(InvalidInput):
                await repos.policies.activate(session, bad)


class TestActive:
    async def test_before_the_first_is_not_found(self, session: ProjectSession) -> None:
        with pytest.raises(NotFound):
            await repos.policies.active(session)

    async def test_is_the_newest(self, session: ProjectSession) -> None:
        await repos.policies.activate(session, a_policy())
        newest = await repos.policies.activate(session, a_policy(note="second"))
        assert await repos.policies.active(session) == newest


class TestDatabase:
    async def test_two_active_ones_are_refused(self, session: ProjectSession) -> None:
        for _ in range(2):
            await repos.policies.activate(session, a_policy())
        with pytest.raises(Conflict):
            async with session.savepoint():
                await session.sql.execute(sa.text("UPDATE policies SET is_active = true"))

    async def test_a_version_is_not_edited(self, session: ProjectSession) -> None:
        await repos.policies.activate(session, a_policy())
        for verb in ("UPDATE policies SET note = 'x'", "DELETE FROM policies"):
            with pytest.raises(DerwinError):
                async with session.savepoint():
                    await session.sql.execute(sa.text(verb))

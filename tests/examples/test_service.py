"""The example service through HTTP: what it promises, and that one project is nobody else's business."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx
import pytest

from derwin_db.fastapi import Problem
from derwin_db.fields.scalars import new_id
from derwin_db.models import QATicket
from derwin_db.testing import TestDatabase, factories
from tests.examples.conftest import client

LIFELINE, ACME = "/projects/lifeline", "/projects/acme"


def body_of(data: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(data.model_dump_json())
    return body


def ticket(**overrides: Any) -> dict[str, Any]:
    return body_of(factories.ticket(**overrides))


def webhook(**overrides: Any) -> dict[str, Any]:
    return {"url": f"https://hooks.example.org/{new_id().hex}", "event": "TICKET_OPENED", **overrides}


def spend(**overrides: Any) -> dict[str, Any]:
    return body_of(factories.spend(idempotency_key=str(new_id()), **overrides))


async def create(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


class TestTickets:
    async def test_are_written_and_read(self, ada: httpx.AsyncClient) -> None:
        made = await create(ada, f"{LIFELINE}/tickets", ticket(title="Totals drift"))
        read = (await ada.get(f"{LIFELINE}/tickets/{made['id']}")).json()
        assert read == made
        assert QATicket.model_validate(read).title == "Totals drift"
        listed = (await ada.get(f"{LIFELINE}/tickets", params={"limit": 1, "status": "OPEN"})).json()
        assert listed["items"] == [made]
        assert listed["next_cursor"]

    async def test_are_listed_by_several_values_in_an_order_with_a_total(self, ada: httpx.AsyncClient) -> None:
        kind = f"k_{new_id().hex[-12:]}"
        for severity, risk in (("LOW", 0.2), ("HIGH", 0.9), ("HIGH", 0.5), ("MEDIUM", 0.7)):
            await create(ada, f"{LIFELINE}/tickets", ticket(severity=severity, risk_score=risk, classification=kind))
        asked = {"classification": kind, "severity": ["HIGH", "LOW"], "order": "-risk_score", "with_total": True, "limit": 2}
        page = (await ada.get(f"{LIFELINE}/tickets", params=asked)).json()
        assert [row["risk_score"] for row in page["items"]] == [0.9, 0.5]
        assert (page["total"], page["is_total_exact"]) == (3, True)
        rest = (await ada.get(f"{LIFELINE}/tickets", params={**asked, "cursor": page["next_cursor"]})).json()
        assert [row["risk_score"] for row in rest["items"]] == [0.2]
        without = {"classification": kind, "bucket": "NONE", "min_risk_score": 0.7}
        assert len((await ada.get(f"{LIFELINE}/tickets", params=without)).json()["items"]) == 2
        for wrong in ({"order": "title"}, {"severity": "BAD"}, {"min_risk_score": 2}, {"bucket": "NO"}):
            refused = await ada.get(f"{LIFELINE}/tickets", params=wrong)
            assert (refused.status_code, refused.json()["errors"][0]["field"].split(".")[1]) == (422, next(iter(wrong)))

    async def test_move_along_their_state_machine(self, ada: httpx.AsyncClient) -> None:
        made = await create(ada, f"{LIFELINE}/tickets", ticket())
        path = f"{LIFELINE}/tickets/{made['id']}/transition"
        refused = await ada.post(path, json={"to": "RESOLVED"})
        assert (refused.status_code, refused.json()["code"]) == (409, "illegal_transition")
        moved = await ada.post(path, json={"to": "TRIAGED", "expected_version": 1})
        assert (moved.json()["status"], moved.json()["version"]) == ("TRIAGED", 2)
        stale = await ada.post(path, json={"to": "IN_PROGRESS", "expected_version": 1})
        assert (stale.status_code, stale.json()["code"]) == (409, "stale_write")

    async def test_change_only_in_what_is_given(self, ada: httpx.AsyncClient) -> None:
        made = await create(ada, f"{LIFELINE}/tickets", ticket(expected="A sum"))
        path = f"{LIFELINE}/tickets/{made['id']}"
        changed = (await ada.patch(path, json={"data": {"title": "Other", "expected": None}})).json()
        assert changed == {**made, "title": "Other", "expected": None, "version": 2, "updated_at": changed["updated_at"]}
        for field in ("status", "project_id", "id", "version", "created_at"):
            refused = await ada.patch(path, json={"data": {field: made[field]}})
            assert (refused.status_code, refused.json()["errors"][0]["rule"]) == (422, "extra_forbidden")

    async def test_are_counted(self, ada: httpx.AsyncClient) -> None:
        before = (await ada.get(f"{LIFELINE}/tickets/counts")).json()
        await create(ada, f"{LIFELINE}/tickets", ticket())
        assert (await ada.get(f"{LIFELINE}/tickets/counts")).json() == {**before, "OPEN": before["OPEN"] + 1}

    async def test_end_as_duplicates(self, ada: httpx.AsyncClient) -> None:
        first, second = [(await create(ada, f"{LIFELINE}/tickets", ticket()))["id"] for _ in range(2)]
        ended = (await ada.post(f"{LIFELINE}/tickets/{second}/duplicate", json={"of": first})).json()
        assert (ended["status"], ended["duplicate_of_id"]) == ("DUPLICATE", first)
        assert (await ada.post(f"{LIFELINE}/tickets/{first}/duplicate", json={"of": second})).status_code == 409

    async def test_are_exported_line_by_line(self, ada: httpx.AsyncClient) -> None:
        counts = (await ada.get(f"{LIFELINE}/tickets/counts")).json()
        async with ada.stream("GET", f"{LIFELINE}/tickets/export") as answer:
            sent = await answer.aread()
        ids = [json.loads(line)["id"] for line in sent.splitlines()]  # of bytes: a text may hold other ends of lines
        assert len(ids) == len(set(ids)) == sum(counts.values())


class TestSignals:
    async def test_are_ingested_once_and_attached(self, ada: httpx.AsyncClient) -> None:
        run = await create(ada, f"{LIFELINE}/runs", body_of(factories.run()))
        batch = [body_of(factories.signal()) for _ in range(20)]
        path = f"{LIFELINE}/runs/{run['id']}/signals"
        assert (await ada.post(path, json=batch)).json() == {"inserted": 20, "duplicates": 0}
        assert (await ada.post(path, json=batch)).json() == {"inserted": 0, "duplicates": 20}
        pending = (await ada.get(f"{path}/pending")).json()
        assert {each["fingerprint"] for each in pending} == {each["fingerprint"] for each in batch}
        made = await create(ada, f"{LIFELINE}/tickets", ticket(run_id=run["id"]))
        attached = await ada.post(
            f"{LIFELINE}/tickets/{made['id']}/signals", json={"ids": [each["id"] for each in pending[:3]]}
        )
        assert attached.json() == 3
        assert len((await ada.get(f"{path}/pending")).json()) == 17

    async def test_of_an_unknown_run_are_not_found(self, ada: httpx.AsyncClient) -> None:
        answer = await ada.post(f"{LIFELINE}/runs/{new_id()}/signals", json=[body_of(factories.signal())])
        assert answer.status_code == 404


class TestFixes:
    async def test_are_found_by_similarity(self, grace: httpx.AsyncClient) -> None:
        made = [
            await create(grace, f"{ACME}/fixes", body_of(factories.past_fix(embedding=factories.vector(n)))) for n in (1, 2, 3)
        ]
        found = (await grace.post(f"{ACME}/fixes/search", json={"embedding": factories.vector(2), "limit": 2})).json()
        assert found[0]["entry"]["id"] == made[1]["id"]
        assert found[0]["similarity"] == pytest.approx(1)
        assert len(found) == 2

    async def test_refuse_a_vector_of_another_length(self, grace: httpx.AsyncClient) -> None:
        answer = await grace.post(f"{ACME}/fixes/search", json={"embedding": [0.5]})
        assert (answer.status_code, answer.json()["errors"][0]["rule"]) == (422, "too_short")


class TestSpend:
    async def test_is_booked_once_and_exactly(self, grace: httpx.AsyncClient) -> None:
        before = float((await grace.get(f"{ACME}/spend/total")).json())
        entry = spend(amount_usd="0.100001")
        answers = await asyncio.gather(*(grace.post(f"{ACME}/spend", json=entry) for _ in range(5)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert float((await grace.get(f"{ACME}/spend/total")).json()) == pytest.approx(before + 0.100001, abs=1e-9)
        other = await grace.post(f"{ACME}/spend", json={**entry, "amount_usd": "0.2"})
        assert (other.status_code, other.json()["code"]) == (409, "conflict")

    async def test_stays_below_its_cap_whoever_spends_at_once(self, grace: httpx.AsyncClient) -> None:
        entries = [spend(amount_usd="7") for _ in range(12)]
        answers = await asyncio.gather(*(grace.post(f"{ACME}/spend", json=entry) for entry in entries))
        codes = [answer.status_code for answer in answers]
        assert set(codes) == {200, 409}
        assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"budget_exceeded"}
        assert float((await grace.get(f"{ACME}/spend/total")).json()) <= 50
        assert "ANTHROPIC" in (await grace.get(f"{ACME}/spend/by/source")).json()


class TestProjects:
    async def test_are_made_by_operators(self, otto: httpx.AsyncClient) -> None:
        slug = f"p-{new_id().hex[-20:]}"
        made = await create(otto, "/projects", body_of(factories.project(slug=slug)))
        assert made["mode"] == "OBSERVE"
        assert (await otto.post("/projects", json=body_of(factories.project(slug=slug)))).status_code == 409
        listed = (await otto.get("/projects", params={"limit": 1})).json()
        assert listed["items"] == [made]

    async def test_are_switched_by_their_own_people(self, grace: httpx.AsyncClient) -> None:
        answer = await grace.put(f"{ACME}/mode", json={"mode": "TRIAGE", "reason": "We begin."})
        assert (answer.status_code, answer.json()["mode"]) == (200, "TRIAGE")
        assert (await grace.get(ACME)).json()["mode"] == "TRIAGE"


class TestWebhooks:
    async def test_are_written_changed_and_deleted(self, ada: httpx.AsyncClient) -> None:
        made = await create(ada, f"{LIFELINE}/webhooks", webhook())
        path = f"{LIFELINE}/webhooks/{made['id']}"
        changed = (await ada.patch(path, json={"data": {"note": "For the dashboard"}, "expected_version": 1})).json()
        assert changed == {**made, "note": "For the dashboard", "version": 2, "updated_at": changed["updated_at"]}
        assert (await ada.get(path)).json() == changed
        assert (await ada.delete(path)).status_code == 204
        assert (await ada.get(path)).status_code == 404

    async def test_are_listed_by_event_with_a_total(self, ada: httpx.AsyncClient) -> None:
        first = await create(ada, f"{LIFELINE}/webhooks", webhook(event="TICKET_RESOLVED"))
        asked = {"event": ["TICKET_RESOLVED"], "with_total": True, "order": "created_at"}
        page = (await ada.get(f"{LIFELINE}/webhooks", params=asked)).json()
        assert first in page["items"]
        assert page["total"] == len(page["items"])

    async def test_come_in_bulk_with_an_answer_for_each(self, ada: httpx.AsyncClient) -> None:
        there = await create(ada, f"{LIFELINE}/webhooks", webhook())
        rows = [webhook(), webhook(url=there["url"]), webhook(ticket_id=str(new_id()))]
        report = (await ada.post(f"{LIFELINE}/webhooks/bulk", json=rows)).json()
        assert report["inserted"] == 1
        assert [(one["row"], one["code"]) for one in report["failures"]] == [(1, "conflict"), (2, "invalid_reference")]

    async def test_of_another_project_do_not_exist(self, ada: httpx.AsyncClient, grace: httpx.AsyncClient) -> None:
        foreign = await create(ada, f"{LIFELINE}/webhooks", webhook())
        for call in (grace.get, grace.delete):
            assert (await call(f"{ACME}/webhooks/{foreign['id']}")).status_code == 404
        assert (await grace.get(f"{ACME}/webhooks")).json()["items"] == []

    async def test_go_with_their_ticket(self, ada: httpx.AsyncClient) -> None:
        of = await create(ada, f"{LIFELINE}/tickets", ticket())
        made = await create(ada, f"{LIFELINE}/webhooks", webhook(ticket_id=of["id"]))
        assert (made["ticket_id"], made["version"]) == (of["id"], 1)


class TestDescription:
    async def test_says_what_everything_means(self, ada: httpx.AsyncClient) -> None:
        described = (await ada.get("/openapi.json")).json()
        for name, schema in described["components"]["schemas"].items():
            fields = schema.get("properties", {}) if "enum" not in schema else {"the whole": schema}
            assert [field for field, shown in fields.items() if not shown.get("description")] == [], name
        for path, operations in described["paths"].items():
            for operation in operations.values():
                assert operation["summary"], path
                assert operation["description"], path
                assert [one["name"] for one in operation.get("parameters", []) if not one.get("description")] == [], path


class TestAccess:
    @pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}])
    async def test_needs_a_token(self, service: str, headers: dict[str, str]) -> None:
        async with httpx.AsyncClient(base_url=service, headers=headers, verify=False) as stranger:
            answer = await stranger.get(LIFELINE)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"

    async def test_that_reads_does_not_write(self, service: str) -> None:
        async with client(service, "reader-token") as rosa:
            assert (await rosa.get(LIFELINE)).status_code == 200
            assert (await rosa.post(f"{LIFELINE}/tickets", json=ticket())).status_code == 403

    async def test_of_an_operator_opens_no_project(self, otto: httpx.AsyncClient) -> None:
        assert (await otto.get(LIFELINE)).status_code == 404

    async def test_to_the_list_of_projects_is_for_operators(self, ada: httpx.AsyncClient) -> None:
        assert (await ada.get("/projects")).status_code == 403

    async def test_to_another_project_is_like_access_to_none(self, ada: httpx.AsyncClient, service: str) -> None:
        described = (await ada.get("/openapi.json")).json()["paths"]
        paths = [(path, method) for path, methods in described.items() for method in methods if "{project}" in path]
        assert len(paths) > 15
        for path, method in paths:
            answers = []
            for project in ("acme", "nobody"):
                filled = path.format(
                    project=project, ticket_id=UUID(int=7), run_id=UUID(int=7), webhook_id=UUID(int=7), key="source"
                )
                answers.append(await ada.request(method, filled, json={}))
            assert [answer.status_code for answer in answers] == [404, 404], (method, path)
            assert answers[0].text == answers[1].text

    async def test_to_a_row_of_another_project_is_like_access_to_none(
        self, ada: httpx.AsyncClient, grace: httpx.AsyncClient
    ) -> None:
        foreign = (await create(ada, f"{LIFELINE}/tickets", ticket()))["id"]
        own = (await create(grace, f"{ACME}/tickets", ticket()))["id"]
        for id in (foreign, str(new_id())):
            path = f"{ACME}/tickets/{id}"
            calls = [
                grace.get(path),
                grace.patch(path, json={"data": {"title": "Mine"}}),
                grace.post(f"{path}/transition", json={"to": "TRIAGED"}),
                grace.post(f"{path}/duplicate", json={"of": own}),
            ]
            answers = [await call for call in calls]
            assert {answer.status_code for answer in answers} == {404}
            assert {answer.json()["detail"] for answer in answers} == {"No such row in this project."}
            refused = await grace.post(f"{ACME}/tickets/{own}/duplicate", json={"of": id})
            assert (refused.status_code, refused.json()["code"]) == (422, "invalid_reference")
        assert (await ada.get(f"{LIFELINE}/tickets/{foreign}")).json()["status"] == "OPEN"

    async def test_of_a_cursor_ends_with_its_project(self, ada: httpx.AsyncClient, grace: httpx.AsyncClient) -> None:
        cursor = (await ada.get(f"{LIFELINE}/tickets", params={"limit": 1})).json()["next_cursor"]
        answer = await grace.get(f"{ACME}/tickets", params={"limit": 1, "cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


async def events(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
    async for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


class TestEvents:
    async def test_tell_of_new_tickets_of_the_project_alone(self, ada: httpx.AsyncClient, grace: httpx.AsyncClient) -> None:
        await create(ada, f"{LIFELINE}/tickets", ticket(title="Before"))
        async with asyncio.timeout(60), ada.stream("GET", f"{LIFELINE}/tickets/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.aiter_lines()
            assert await anext(lines) == ": listening"
            await create(grace, f"{ACME}/tickets", ticket(title="Elsewhere"))
            made = [await create(ada, f"{LIFELINE}/tickets", ticket(title=f"New {n}")) for n in range(3)]
            told = events(lines)
            assert [await anext(told) for _ in range(3)] == made
            late = await create(ada, f"{LIFELINE}/tickets", ticket(title="Late"))
            assert await anext(told) == late

    async def test_hold_no_connection_and_leave_none_behind(self, ada: httpx.AsyncClient, database: TestDatabase) -> None:
        busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND state LIKE 'idle in transaction%'"
        owner = await asyncpg.connect(**database.owner.connect_arguments())
        async with asyncio.timeout(30):
            for _ in range(5):
                async with ada.stream("GET", f"{LIFELINE}/tickets/events") as answer:
                    assert await anext(answer.aiter_lines()) == ": listening"
            async with ada.stream("GET", f"{LIFELINE}/tickets/export") as answer:
                await anext(answer.aiter_lines())
            while await owner.fetchval(busy, database.owner.database):
                await asyncio.sleep(0.05)
        await owner.close()


class TestOperation:
    async def test_is_ready(self, service: str) -> None:
        async with client(service, None) as anybody:
            assert (await anybody.get("/health/live")).json() == (await anybody.get("/health/ready")).json() == {"status": "ok"}

    async def test_refuses_a_body_that_is_too_large(self, ada: httpx.AsyncClient) -> None:
        answer = await ada.post(f"{LIFELINE}/tickets", content=b"x" * (17 * 1024 * 1024))
        assert answer.status_code == 413
        assert Problem.model_validate(answer.json()).code == "too_large"


class TestDocs:
    async def test_load_nothing_from_another_host(self, service: str) -> None:
        async with client(service, None) as anybody:
            page = (await anybody.get("/docs")).text
            loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
            assert [url for url in loaded if urlsplit(url).netloc] == []
            assert len(loaded) >= 3
            for url in loaded:
                assert (await anybody.get(url)).status_code == 200, url

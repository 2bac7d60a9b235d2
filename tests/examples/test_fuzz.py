"""Whatever is sent, the service does not fail: no 500, and nothing that its description does not say."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from derwin_db.fastapi import Problem
from derwin_db.testing import factories

_CONFORMANCE = ("status_code", "content_type", "response_headers", "response_schema")
CHECKS = ",".join(["not_a_server_error", *(f"{what}_conformance" for what in _CONFORMANCE)])
STREAMS = ("/projects/{project}/tickets/events", "/projects/{project}/tickets/export")


OF_OPERATORS = """
[[operations]]
include-path = "/projects"
headers = { Authorization = "Bearer operator-token" }
"""


def fuzz(service: str, folder: Path, token: str, *options: str, more: str = "", **parameters: str) -> int:
    """Run schemathesis against the service and return how many cases it tried. Its seed is in its output."""
    config = folder / "schemathesis.toml"
    named = "".join(f'"path.{name}" = "{value}"\n' for name, value in parameters.items())
    config.write_text(f"[parameters]\n{named}{more}")
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        "--config-file",
        str(config),
        "run",
        f"{service}/openapi.json",
    ]
    excluded = [option for path in STREAMS for option in ("--exclude-path", path)]
    result = subprocess.run(
        [*command, "-H", f"Authorization: Bearer {token}", "--checks", CHECKS, *excluded, *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    tried = re.search(r"(\d+) generated, \1 passed", result.stdout)
    assert tried, result.stdout
    return int(tried.group(1))


@pytest.fixture
async def rows(ada: httpx.AsyncClient) -> dict[str, str]:
    """A ticket and a run to aim at."""
    ticket = await ada.post("/projects/lifeline/tickets", content=factories.ticket().model_dump_json(), headers=JSON)
    run = await ada.post("/projects/lifeline/runs", content=factories.run().model_dump_json(), headers=JSON)
    hook = {"url": f"https://hooks.example.org/{run.json()['id']}", "event": "TICKET_OPENED"}
    webhook = await ada.post("/projects/lifeline/webhooks", json=hook)
    ids = {"ticket_id": ticket.json()["id"], "run_id": run.json()["id"], "webhook_id": webhook.json()["id"]}
    return {"project": "lifeline", **ids}


JSON = {"Content-Type": "application/json"}
QUICK = ("--phases", "coverage,fuzzing", "-n", "1", "--seed", "1")
SHORT = ("--phases", "coverage,fuzzing", "-n", "3", "--seed", "1")
"""The same in each run: what is found by chance is found by the long ones."""
LONG = ("--phases", "coverage,fuzzing,stateful", "-n", "30")


class TestDescription:
    async def test_holds_for_tickets_that_are_there_and_for_operators(
        self, service: str, otto: httpx.AsyncClient, rows: dict[str, str], tmp_path: Path
    ) -> None:
        """In one run, most of whose time is its start."""
        before = (await otto.get("/projects", params={"limit": 1})).json()["items"]
        chosen = ("--include-path-regex", r"^/projects(/\{project\}/tickets(/\{ticket_id\}/transition)?)?$")
        assert fuzz(service, tmp_path, "lifeline-token", *chosen, *QUICK, more=OF_OPERATORS, **rows) > 400
        after = (await otto.get("/projects", params={"limit": 1})).json()["items"]
        assert after != before, "an operator has made one"

    @pytest.mark.long
    def test_holds_for_rows_that_are_there(self, service: str, rows: dict[str, str], tmp_path: Path) -> None:
        assert fuzz(service, tmp_path, "lifeline-token", *SHORT, **rows) > 500

    @pytest.mark.long
    def test_holds_for_any_project(self, service: str, tmp_path: Path) -> None:
        assert fuzz(service, tmp_path, "lifeline-token", *SHORT) > 500

    @pytest.mark.long
    @pytest.mark.parametrize("token", ["lifeline-token", "operator-token", "wrong"])
    def test_holds_at_length(self, service: str, rows: dict[str, str], tmp_path: Path, token: str) -> None:
        assert fuzz(service, tmp_path, token, *LONG, **rows) > 1000


NASTY: list[Any] = [
    None, True, False, 0, -1, 1.5, 2**31, 2**63, 10**400, 1e308, "", " ", "\0", "\ud800", "x" * 501, "x" * 1_000_001,
    "NaN", "Infinity", "-0", "1E+200000", "0.0000001", "123456789.1", "not-a-uuid", "00000000-0000-0000-0000-000000000000",
    "01890a5d-ac96-774b-bcce-b302099a8057", "2026-01-01", "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00", "javascript:alert(1)", "http://user:pass@host/", "'; DROP TABLE projects; --", "%", "\u202e",
    [], [None], [[]], ["x"] * 2000, {}, {"\0": 1}, {"a": {"\ud800": [10**30]}}, {"$ref": "#"},
    math.nan, math.inf, -math.inf,
]  # fmt: skip
INPUTS = {
    "/projects/lifeline/tickets": factories.ticket(),
    "/projects/lifeline/runs": factories.run(),
    "/projects/lifeline/spend": factories.spend(),
    "/projects/lifeline/fixes": factories.past_fix(),
}
EVERY = pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.long)])


def bodies(valid: Any, every: int) -> Iterator[tuple[str, bytes]]:
    """Each field of a valid body replaced by every n-th nasty value: one field takes other ones than the next."""
    body = json.loads(valid.model_dump_json())
    for number, field in enumerate([*body, "project_id"]):
        yield from ((field, json.dumps({**body, field: value}).encode()) for value in NASTY[number % every :: every])
    deep = b'{"x":' * 3000 + b"1" + b"}" * 3000
    yield "*", deep
    yield "*", json.dumps({**body, "nested": None}).replace("null", "[" * 500 + "]" * 500).encode()


class TestBadValues:
    @EVERY
    @pytest.mark.parametrize("path", INPUTS)
    async def test_are_refused_or_stored_and_never_fail(self, ada: httpx.AsyncClient, path: str, every: int) -> None:
        codes: dict[int, int] = {}
        for field, body in bodies(INPUTS[path], every):
            answer = await ada.post(path, content=body, headers=JSON)
            assert answer.status_code in {200, 201, 400, 409, 413, 422}, (field, body[:200], answer.text)
            codes[answer.status_code] = codes.get(answer.status_code, 0) + 1
            if answer.status_code >= 400:
                problem = Problem.model_validate(answer.json())
                assert problem.status == answer.status_code
                assert len(answer.content) < 20_000
        assert codes[422] > 100 / every

    @EVERY
    @pytest.mark.parametrize("times", [1, 2])
    async def test_in_a_batch_refuse_the_batch(
        self, ada: httpx.AsyncClient, rows: dict[str, str], times: int, every: int
    ) -> None:
        path = f"/projects/lifeline/runs/{rows['run_id']}/signals"
        for field, body in bodies(factories.signal(), every):
            answer = await ada.post(path, content=b"[" + b",".join([body] * times) + b"]", headers=JSON)
            assert answer.status_code in {200, 400, 413, 422}, (field, body[:200], answer.text)

    @pytest.mark.parametrize("value", ["%00", "%ff%fe", "%ED%A0%80", "..%2f..", "%F0%9F%92%A9", "a" * 5000, "1;DROP", "%25"])
    async def test_in_paths_and_queries_never_fail(self, ada: httpx.AsyncClient, value: str) -> None:
        for url in (
            f"/projects/{value}/tickets",
            f"/projects/lifeline/tickets/{value}",
            f"/projects/lifeline/tickets?classification={value}",
            f"/projects/lifeline/tickets?cursor={value}",
            f"/projects/lifeline/tickets?limit={value}",
            f"/projects/lifeline/tickets?status={value}",
            f"/projects/lifeline/spend/total?since={value}",
            f"/projects/lifeline/spend/by/{value}",
        ):
            answer = await ada.get(url)
            assert answer.status_code in {200, 307, 400, 404, 422}, (url, answer.text)

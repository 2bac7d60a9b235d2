"""The alert rules and the dashboard in monitoring/ name metrics and labels that exist, as Prometheus names them."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.metrics.export import Sum

from derwin_db import Database, repos
from derwin_db.cli.doctor import metrics_of
from derwin_db.doctor import Check, Report
from derwin_db.errors import DatabaseUnavailable, InvalidReference
from derwin_db.fields.scalars import new_id
from derwin_db.models import Project
from derwin_db.observe.events import Endpoint, RunEvent, RunStep, tell
from derwin_db.testing.factories import create_ticket
from tests.observe.conftest import Telemetry

ROOT = Path(__file__).parents[2]
ALERTS = yaml.safe_load((ROOT / "monitoring" / "alerts.yaml").read_text())["groups"][0]["rules"]
PANELS = json.loads((ROOT / "monitoring" / "dashboard.json").read_text())["panels"]
EXPRESSIONS = [rule["expr"] for rule in ALERTS] + [target["expr"] for panel in PANELS for target in panel["targets"]]
OF_PROMETHEUS = {"job", "instance"}
SERIES = re.compile("_(count|sum|bucket)$")
SUFFIXES = {"s": "_seconds"}
"""Units in Prometheus' names; those in braces are left out. Source: OpenTelemetry, Prometheus and OpenMetrics Compatibility."""


@pytest.fixture
async def metrics(telemetry: Telemetry, project: Project) -> dict[str, set[str]]:
    """Every metric that the package has, as Prometheus names it, with its labels: each from something that happened."""
    async with telemetry.db.project(project.id) as session:
        await repos.qa_tickets.list(session)
    with pytest.raises(InvalidReference):
        async with telemetry.db.project(project.id) as session:
            await create_ticket(session, run_id=new_id())
    with pytest.raises(DatabaseUnavailable):
        async with telemetry.db.project(project.id, snapshot=True) as session:
            await repos.qa_tickets.list(session)
            session._connection.terminate()
            await repos.qa_tickets.list(session)
    for step in ("claimed", "completed", "requeued"):
        tell(telemetry.db.observers, RunEvent(step, "worker-1", project.id, None, 1.0))
    telemetry.db.observers[-1].timed_out(Endpoint("h", 1, "d", "l"))
    found: dict[str, set[str]] = {}
    for resource in telemetry.reader.get_metrics_data().resource_metrics:
        for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
            name = metric.name.replace(".", "_") + SUFFIXES.get(metric.unit, "")
            labels = {key.replace(".", "_") for point in metric.data.data_points for key in point.attributes}
            if isinstance(metric.data, HistogramData):
                found |= {f"{name}_count": labels, f"{name}_sum": labels, f"{name}_bucket": {*labels, "le"}}
            else:
                is_counter = isinstance(metric.data, Sum) and metric.data.is_monotonic
                found[f"{name}_total" if is_counter else name] = labels
    text = metrics_of(Report(False, [Check("policies", ok=False, detail="gone")]))
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \d+$", text, re.MULTILINE):
        found[name] = set(re.findall(r"(\w+)=", labels))
    return found


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """The metrics that an expression selects, with the labels that it selects them by."""
    found = re.findall(
        r"\b((?:db_client|derwin)_\w+?)\b(?:\{([^}]*)\})?(?=[\s\[)*]|$)", re.sub(r"by \([^)]*\)", "", expression)
    )
    return [(name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", labels))) for name, labels in found]


class TestNames:
    async def test_are_those_of_metrics_that_exist(self, metrics: dict[str, set[str]]) -> None:
        for expression in EXPRESSIONS:
            chosen = selectors(expression)
            assert chosen, expression
            for name, labels in chosen:
                assert name in metrics, (name, sorted(metrics))
                assert labels <= metrics[name] | OF_PROMETHEUS, (name, expression)
            grouped = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r"[,\s]+", group)}
            assert grouped <= set().union(OF_PROMETHEUS, *(metrics[name] for name, _ in chosen)), expression

    async def test_leave_no_metric_out(self, metrics: dict[str, set[str]]) -> None:
        shown = {SERIES.sub("", name) for expression in EXPRESSIONS for name, _ in selectors(expression)}
        assert {SERIES.sub("", name) for name in metrics} <= shown

    def test_one_that_does_not_exist_would_be_seen(self) -> None:
        assert selectors('sum by (job) (rate(derwin_nothing_total{job="x", no="y"}[5m])) > 0') == [
            ("derwin_nothing_total", {"job", "no"})
        ]


class TestAlerts:
    @pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
    def test_say_who_is_woken_and_what_to_do(self, rule: dict[str, object]) -> None:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert anchor == rule["alert"].lower()
        section = (ROOT / page).read_text().partition(f"### {rule['alert']}\n\n")[2]
        assert section.startswith(f"`{rule['labels']['severity']}`: ")

    @pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
    def test_name_only_labels_that_their_expression_keeps(self, rule: dict[str, object]) -> None:
        used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        kept = {label for group in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in re.split(r"[,\s]+", group)}
        assert used <= kept

    def test_are_all_on_the_page(self) -> None:
        page = (ROOT / "docs" / "how-to" / "pager.md").read_text()
        assert re.findall(r"^### (Derwin\w+)$", page, re.MULTILINE) == [rule["alert"] for rule in ALERTS]

    def test_name_outcomes_of_runs_that_exist(self) -> None:
        named = {
            name
            for rule in ALERTS
            for found in re.findall(r'run_outcome=~"([^"]+)"', rule["expr"])
            for name in found.split("|")
        }
        assert named
        assert named < set(get_args(RunStep))

    def test_name_classes_of_errors_and_checks_that_exist(self) -> None:
        from derwin_db import errors

        named = {
            name
            for rule in ALERTS
            for found in re.findall(r'error_type=~?"([^"]+)"', rule["expr"])
            for name in found.split("|")
        }
        assert len(named) >= 3
        assert {name for name in named if not hasattr(errors, name)} == set()


class TestUnits:
    async def test_are_timed_by_kind_and_outcome(self, telemetry: Telemetry, project: Project) -> None:
        async with telemetry.db.project(project.id) as session:
            await repos.qa_tickets.count(session)
        with pytest.raises(KeyError):
            async with telemetry.db.admin(reason="a test"):
                raise KeyError
        points = telemetry.points("derwin.unit.duration")
        assert {tuple(dict(key).values()): point.count for key, point in points.items()} == {
            ("project", "committed"): 1, ("admin", "rolled back", "KeyError"): 1,
        }  # fmt: skip

    async def test_connections_that_are_given_up_are_counted(self, telemetry: Telemetry, project: Project) -> None:
        with pytest.raises(DatabaseUnavailable):
            async with telemetry.db.project(project.id, snapshot=True) as session:
                await repos.qa_tickets.list(session)
                session._connection.terminate()
                await repos.qa_tickets.list(session)
        (point,) = telemetry.points("derwin.connection.given_up").values()
        assert point.value == 1

    async def test_that_nobody_observes_cost_nothing(self, db: Database, project: Project) -> None:
        assert db.observers == []
        async with db.project(project.id) as session:
            await repos.qa_tickets.count(session)

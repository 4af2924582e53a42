"""What is counted, who may count it, and that what is drawn and alarmed about exists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from scripts import metrics_page

from sandgraph.telemetry.metrics import MOST_TENANTS, Metrics

ROOT = Path(__file__).resolve().parents[3]
DASHBOARD = ROOT / "deploy" / "grafana" / "sandgraph.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"

#: A metric in a page, by its unit.
_METRIC = r"`(sandgraph_\w+_(?:total|seconds|bytes|info))(?:`|\{)"

#: What Prometheus itself adds.
OF_PROMETHEUS = {"job", "instance", "le"}


def known() -> dict[str, set[str]]:
    """Return each series that there may be, and its labels."""
    found = dict[str, set[str]]()
    process = re.findall(r"^\| `(sandgraph_process_\w+)`", metrics_page.render(), re.MULTILINE)
    for name in process:
        found[name] = set()
    for each in Metrics().described:
        names = (
            [f"{each.name}_{part}" for part in ("bucket", "sum", "count")] if each.kind == "histogram" else [each.name]
        )
        found |= {name: set(each.labels) for name in names}
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Return every expression of PromQL in the repository, and where it is."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def unknown(expression: str, series: dict[str, set[str]]) -> set[str]:
    """Return the metrics and labels of an expression that do not exist."""
    found = re.findall(r"\b(sandgraph_\w+|up)(?:\{([^}]*)\})?", expression)
    labels = {label for _, selected in found for label in re.findall(r"(\w+)\s*[=!]", selected)}
    labels |= {label.strip() for group in re.findall(r"\bby\s*\(([^)]*)\)", expression) for label in group.split(",")}
    there = set[str]().union(*(series.get(name, set()) for name, _ in found)) | OF_PROMETHEUS
    return {name for name, _ in found if name not in series and name != "up"} | (labels - there)


def test_the_reader_of_expressions_finds_what_does_not_exist() -> None:
    series = {"sandgraph_a_total": {"status"}}
    assert unknown('sum by (status) (rate(sandgraph_a_total{status="x",instance=~"y"}[5m]))', series) == set()
    assert unknown('sum by (node, le) (rate(sandgraph_b_total{run="x"}[5m]))', series) == {
        "sandgraph_b_total",
        "node",
        "run",
    }


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_dashboard_and_alerts_speak_of_metrics_and_labels_that_exist(where: str, expression: str) -> None:
    assert "sandgraph_" in expression or "up{" in expression, where
    assert unknown(expression, known()) == set(), where


def test_everything_that_operators_asked_for_is_drawn() -> None:
    drawn = " ".join(expression for where, expression in expressions() if where.startswith("panel"))
    undrawn = {each.name for each in Metrics().described if each.name not in drawn}
    assert undrawn == set()


def test_dashboard_panels_have_places_of_their_own() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set[tuple[int, int]]()
    for panel in panels:
        place: dict[str, int] = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_every_alert_says_how_grave_it_is_and_what_to_do() -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"critical", "warning", "info"}
            assert f"`{rule['alert']}`" in page


def test_the_page_of_metrics_is_up_to_date() -> None:
    assert metrics_page.PAGE.read_text() == metrics_page.render(), "run: python -m scripts.metrics_page"


def values(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    text, _ = metrics.exposition("")
    return {
        tuple(sample.labels.values()): sample.value
        for family in read_text(text.decode())
        for sample in family.samples
        if sample.name == name
    }


def use_all(metrics: Metrics) -> None:
    metrics.run_accepted("acme")
    metrics.run_ended("completed", "acme")
    metrics.run_waited(0.2)
    metrics.attempt_ended("succeeded", took_s=1.0, slot_wait_s=0.2, lease_s=0.3, inside_s=0.4)
    metrics.printed(3, 120)
    metrics.sandbox_started("runc", 0.3)
    metrics.sandbox_leased("hit")
    metrics.engine_called("create", 0.02, failed=True)
    metrics.transaction("write", 0.001, 0.002)
    metrics.requested("GET", "/graph/list", 429, 0.01)
    metrics.webhook_tried("delivered")
    metrics.loop_was_late(0.001)
    metrics.loop_stalled()
    metrics.watch(lambda: {"runs_active": 2, "pool_sandboxes": {"idle": 1.0, "leased": 3.0}})


def test_both_formats_can_be_read_and_say_the_same() -> None:
    metrics = Metrics()
    use_all(metrics)
    text, kind = metrics.exposition("text/plain")
    assert kind.startswith("text/plain")
    open_text, open_kind = metrics.exposition("application/openmetrics-text; version=1.0.0")
    assert open_kind.startswith("application/openmetrics-text")
    samples = [
        {sample.name for family in read(body.decode()) for sample in family.samples if "created" not in sample.name}
        for read, body in ((read_text, text), (read_openmetrics, open_text))
    ]
    assert samples[0] == samples[1]
    assert {each for each in samples[0] if not each.startswith("sandgraph_")} == set()


def test_what_is_described_is_what_is_given() -> None:
    metrics = Metrics()
    use_all(metrics)
    given = {
        sample.name: set(sample.labels) - {"le"}
        for family in read_text(metrics.exposition("")[0].decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    described = known()
    assert set(given) <= set(described)
    assert {name: labels for name, labels in given.items() if labels != described[name]} == {}


def test_dispatch_is_what_was_not_waiting_for_a_slot_nor_work() -> None:
    metrics = Metrics()
    use_all(metrics)
    assert values(metrics, "sandgraph_dispatch_seconds_sum")[()] == pytest.approx(0.4)
    assert values(metrics, "sandgraph_attempts_total") == {("succeeded",): 1}
    assert values(metrics, "sandgraph_pool_sandboxes") == {("idle",): 1, ("leased",): 3}
    assert values(metrics, "sandgraph_http_rate_limited_total") == {("/graph/list",): 1}


def test_two_platforms_count_for_themselves() -> None:
    one, other = Metrics(), Metrics()
    one.run_accepted("acme")
    assert values(one, "sandgraph_runs_accepted_total") == {(): 1}
    assert values(other, "sandgraph_runs_accepted_total") == {(): 0}


def test_tenants_are_labels_only_where_wanted_and_then_not_without_end() -> None:
    metrics = Metrics(by_tenant=True)
    for number in range(3 * MOST_TENANTS):
        metrics.run_accepted(f"t{number}")
        metrics.run_ended("failed", f"t{number}")
    accepted = values(metrics, "sandgraph_runs_accepted_total")
    assert len(accepted) == MOST_TENANTS + 1
    assert accepted[("other",)] == 2 * MOST_TENANTS
    assert len(values(metrics, "sandgraph_runs_ended_total")) == MOST_TENANTS + 1


def test_who_follows_is_counted_while_it_does() -> None:
    metrics = Metrics()
    with metrics.following("sse"):
        assert values(metrics, "sandgraph_followers") == {("sse",): 1}
    assert values(metrics, "sandgraph_followers") == {("sse",): 0}


def test_no_label_names_a_single_run_or_request() -> None:
    found: list[Any] = Metrics(by_tenant=True).described
    assert not {label for each in found for label in each.labels} & {"run", "run_id", "node", "attempt", "key", "graph"}


def test_what_is_started_beside_the_platform_finds_its_files() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.metrics.yml").read_text())["services"]
    mounted = [str(volume).split(":")[0] for each in services.values() for volume in each.get("volumes", ())]
    files = [name for name in mounted if name.startswith("./")]
    assert len(files) == 4
    assert [name for name in files if not (ROOT / name).exists()] == []
    scraped = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    assert scraped["scrape_configs"][0]["static_configs"][0]["targets"] == ["platform:8000"]
    assert scraped["rule_files"] == ["/etc/prometheus/alerts.yml"]
    providers = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/sandgraph.yml").read_text())["providers"]
    assert f"{providers[0]['options']['path']}/sandgraph.json:ro" in str(services["grafana"]["volumes"])


def test_pages_speak_of_metrics_that_exist() -> None:
    series = set(known()) | {each.name for each in Metrics().described}
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    named = {(page.name, name) for page in pages for name in re.findall(_METRIC, page.read_text())}
    assert {each for each in named if each[1] not in series} == set()
    assert named

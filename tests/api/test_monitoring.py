"""What docker/ watches is what the service tells: every metric, label and stage that is named."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT
from tests.factories import view_bytes

DOCKER = ROOT / "docker"
ALERTS = yaml.safe_load((DOCKER / "alerts.yml").read_text(encoding="utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((DOCKER / "grafana/dashboards/cairn.json").read_text(encoding="utf-8"))
OTHERS = {"up"}  # Prometheus's own
ADDED = {"job", "instance", "le"}  # labels that Prometheus adds, and those of buckets
WORDS = {"by", "on", "or", "unless", "and", "sum", "count", "rate", "increase", "changes"}
WORDS |= {"absent", "histogram_quantile", "vector"}


def expressions() -> list[str]:
    """Give every expression of the alerts and of the dashboard, in their language."""
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    variables = [
        re.sub(r"label_values\((.*), (\w+)\)", r"count by (\2) (\1)", variable["definition"])
        for variable in DASHBOARD["templating"]["list"]
    ]
    return [*(rule["expr"] for rule in RULES), *panels, *variables]


def selectors(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each metric of an expression with what is asked of its labels."""
    bare = re.sub(r'"[^"]*"|\[[^]]*\]|\b(by|on) \([^)]*\)', "", expression)
    names = set(re.findall(r"[a-zA-Z_][\w:]*", re.sub(r"\{[^}]*\}", "", bare))) - WORDS
    for name in names:
        for labels in re.findall(rf"\b{name}\b(?:\{{([^}}]*)\}})?", expression):
            yield name, dict(re.findall(r'(\w+)(?:=~|!=|!~|=)"([^"]*)"', labels))


@pytest.fixture(scope="module")
def told(service: object) -> dict[str, set[str]]:
    """Ask a real service for its metrics, after it has answered; give the labels of each."""
    url = service.url  # type: ignore[attr-defined] (a Running)
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        assert client.post("/predict", content=view_bytes(1, 0)).status_code == 200
        text = client.get("/metrics").text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        found.setdefault(f"{family.name}_total" if family.type == "counter" else family.name, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_every_metric_that_is_watched_is_told(told: dict[str, set[str]]) -> None:
    """No alert and no panel waits for a metric or a label that the service does not have."""
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    watched = [pair for expression in expressions() for pair in selectors(expression)]
    assert len({name for name, _ in watched}) > 12
    assert {name for name, _ in watched} <= set(told) | recorded | OTHERS
    for name, labels in watched:
        if told.get(name):  # not counted yet: its labels are not known
            assert set(labels) <= told[name] | ADDED, name


def test_every_metric_that_is_told_is_watched(told: dict[str, set[str]]) -> None:
    """What the service counts of itself is shown somewhere."""
    own = {re.sub(r"_(bucket|sum|count|created|total)$", "", name) for name in told}
    own = {name for name in own if name.startswith("cairn_")}
    text = " ".join(expressions())
    assert len(own) > 8
    assert [name for name in sorted(own) if name not in text] == []


def test_what_is_grouped_by_is_a_label(told: dict[str, set[str]]) -> None:
    """No panel groups by a label that no metric has."""
    groups = re.findall(r"\b(?:by|on) \(([^)]*)\)", " ".join(expressions()))
    assert len(groups) > 5
    labels = set().union(*told.values()) | ADDED | {"outcome"}
    assert {label for group in groups for label in re.split(r",\s*", group)} <= labels


def test_every_alert_says_what_to_do() -> None:
    """It has a severity, one line for who is woken, and where to look."""
    alerts = [rule for rule in RULES if "alert" in rule]
    assert len(alerts) >= 8
    for alert in alerts:
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert set(alert["annotations"]) == {"summary", "description"}


def test_the_dashboard_asks_the_data_source_that_is_provisioned() -> None:
    """Every panel names it by the uid of the provisioned file, and none overlaps another."""
    path = DOCKER / "grafana/provisioning/datasources/prometheus.yml"
    source = yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"][0]
    named = re.findall(r'"uid": "(?!cairn")([^"]*)"', json.dumps(DASHBOARD))
    assert named
    assert set(named) == {source["uid"]}
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_prometheus_reads_it(tmp_path: Path) -> None:
    """Promtool takes the configuration, the alerts, and the dashboard's expressions."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; Debian's package prometheus has it")
    config = (DOCKER / "prometheus.yml").read_text(encoding="utf-8")
    assert "/etc/prometheus/alerts.yml" in config
    here = tmp_path / "prometheus.yml"
    here.write_text(config.replace("/etc/prometheus/", f"{DOCKER}/"))
    asked = [
        {"record": f"asked:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(expressions())
    ]
    rules = tmp_path / "rules.yml"
    rules.write_text(json.dumps({"groups": [{"name": "asked", "rules": asked}]}))
    for kind, path in (("config", here), ("rules", rules)):
        ended = subprocess.run(
            [promtool, "check", kind, path], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

"""What docker/ watches is what the service tells: every metric, label and stage that is named."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.app import create_app
from service.http.problems import RULES as OF_ERRORS
from service.inference.tasks import Task
from service.resources.memory import memory_bytes
from service.settings import Settings
from tests.api.conftest import Artifacts, Running, fork_server_of, serving, workers_of
from tests.conftest import ROOT
from tests.factories import view_bytes

DOCKER = ROOT / "docker"
ALERTS = yaml.safe_load((DOCKER / "alerts.yml").read_text(encoding="utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((DOCKER / "grafana/dashboards/cairn.json").read_text(encoding="utf-8"))
OTHERS = {"up", "ALERTS"}  # Prometheus's own
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
    bare = re.sub(r'"[^"]*"|\[[^]]*\]|\b(by|on|group_left) \([^)]*\)', "", expression)
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
    groups = re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", " ".join(expressions()))
    assert len(groups) > 5
    labels = set().union(*told.values()) | ADDED | {"outcome", "reason"}  # nothing refused yet
    assert {label for group in groups for label in re.split(r",\s*", group)} <= labels


def measured(running: Running) -> tuple[float, float]:
    """Ask for the CPU time and the memory."""
    text = httpx.get(f"{running.url}/metrics", timeout=30, trust_env=False).text
    families = {one.name: one for one in text_string_to_metric_families(text)}
    names = ("process_cpu_seconds", "process_resident_memory_bytes")
    cpu_seconds, memory = (families[name].samples[0].value for name in names)
    return cpu_seconds, memory


def test_time_and_memory_are_those_of_all_processes(artifacts: Artifacts, tmp_path: Path) -> None:
    """What they share counts once; the time of those that have ended stays in the sum."""
    with serving(artifacts, tmp_path / "log", "--threads", "2") as running:
        others = [fork_server_of(running), *workers_of(running)]
        cpu_seconds, memory = measured(running)
        shares = [memory_bytes(one, "Pss") for one in (running.process.pid, *others)]
        assert memory == pytest.approx(sum(shares), rel=0.2)
        assert memory > 2 * shares[0]
        times = [Path(f"/proc/{one}/stat").read_text().split()[13:15] for one in others]
        ticks = sum(int(number) for numbers in times for number in numbers)
        assert cpu_seconds > ticks / os.sysconf("SC_CLK_TCK") - 0.1 > 0
        for worker in others[1:]:
            os.kill(worker, signal.SIGKILL)
        assert measured(running)[0] >= cpu_seconds


def outcomes_in(expression: str) -> list[set[str]]:
    """Give the outcomes that each selector of pictures names."""
    found = re.findall(r'cairn_pictures_total\{[^}]*outcome=~"([^"]*)"', expression)
    return [set(outcomes.split("|")) for outcomes in found]


def test_whatever_the_service_fails_at_raises_an_alert() -> None:
    """Each code of a problem that is not the client's own doing, by one alert and by one panel."""
    rules = {rule.code: rule.status for rule in OF_ERRORS.values()}
    turned_away = {code for code, status in rules.items() if status in (429, 503)}
    failed = {code for code, status in rules.items() if status >= 500} - turned_away
    assert len(turned_away) > 3
    assert len(failed) > 1
    alerts = {rule["alert"]: rule["expr"] for rule in RULES if "alert" in rule}
    panels = {panel["title"]: panel["targets"][0]["expr"] for panel in DASHBOARD["panels"]}
    for expression in (alerts["CairnErrors"], panels["Errors of the service"]):
        assert outcomes_in(expression) == [failed]
    for expression in (alerts["CairnOverloaded"], panels["Turned away"]):
        assert outcomes_in(expression) == [turned_away]


def test_no_alert_counts_how_slowly_a_client_sends() -> None:
    """The time of a whole request has the time of its upload in it."""
    assert [rule for rule in RULES if "cairn_request_seconds" in rule["expr"]] == []
    staged = [rule["expr"] for rule in RULES if "cairn_stage_seconds" in rule["expr"]]
    assert staged
    assert all(
        'cairn_stage_seconds_bucket{stage!="receive"}' in expression for expression in staged
    )


def test_the_dashboard_shows_the_alerts() -> None:
    """Those of a service, and those of all services together, which name none."""
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    assert [expr for expr in expressions if "ALERTS" in expr] == ['ALERTS{instance=~"$instance|"}']


def outcomes_after(client: httpx.Client, ask: Callable[[], object]) -> dict[str, float]:
    """Tell by how much each outcome of pictures was counted up while something was asked."""

    def told() -> dict[str, float]:
        return {
            sample.labels["outcome"]: sample.value
            for family in text_string_to_metric_families(client.get("/metrics").text)
            for sample in family.samples
            if sample.name == "cairn_pictures_total"
        }

    before = told()
    ask()
    return {
        outcome: count - before.get(outcome, 0)
        for outcome, count in told().items()
        if count != before.get(outcome, 0)
    }


def test_each_picture_of_several_is_counted_once(client: httpx.Client) -> None:
    """By what became of it."""
    files = [("file", (name, data)) for name, data in (("a", view_bytes(1, 0)), ("b", b"none"))]
    counted = outcomes_after(client, lambda: client.post("/predict/batch", files=files))
    assert counted == {"answered": 1, "not-a-picture": 1}


def test_a_request_for_several_that_fails_as_a_whole_is_counted(client: httpx.Client) -> None:
    """As one, since nobody knows how many it holds."""
    counted = outcomes_after(client, lambda: client.post("/predict/batch", content=b"no form"))
    assert counted == {"multipart-malformed": 1}


class Failing:
    """Stands where the batcher does, and has a fault of the program."""

    pool = "there is one"

    def refuse_if_full(self, client: str) -> None:
        """Let everyone in."""

    async def ask(self, task: Task, *, client: str = "") -> None:
        """Fail."""
        raise ZeroDivisionError


@pytest.mark.parametrize(("address", "status"), [("/predict", 500), ("/predict/batch", 200)])
def test_a_fault_of_the_program_is_counted_as_one(address: str, status: int) -> None:
    """Not as an answer, whether the picture came alone or among others, which are answered."""
    app = create_app(Settings(store=Path("absent"), embedder=Path("absent")))
    app.state.batcher = Failing()

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.post(address, files={"file": ("a", b"a picture")})

    assert asyncio.run(ask()).status_code == status
    text = app.state.metrics.expose().decode()
    assert re.findall(r"^cairn_pictures_total.*", text, re.MULTILINE) == [
        'cairn_pictures_total{outcome="internal"} 1.0'
    ]


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


OBSERVED = "0+60x20"  # a minute's growth of what is asked once a second, for 20 minutes


def growing(name: str, **labels: str) -> dict[str, str]:
    """Word a counter that grows evenly, for promtool."""
    told = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return {"series": f"{name}{{{told}}}", "values": OBSERVED}


def stage(name: str, within: float) -> list[dict[str, str]]:
    """Word a stage that takes up to ``within`` seconds each time; a bound of the histogram."""
    bounds = [bound for bound in ("1", "2", "5", "10", "30", "+Inf") if float(bound) >= within]
    return [growing("cairn_stage_seconds_bucket", stage=name, le=bound) for bound in bounds]


FIRING = {
    "a batch whose pictures fail": (
        [
            growing("cairn_requests_total", address="/predict/batch", status="200"),
            growing("cairn_pictures_total", outcome="deadline"),
        ],
        "CairnErrors",
    ),
    "a batch whose pictures are turned away": (
        [
            growing("cairn_requests_total", address="/predict/batch", status="200"),
            growing("cairn_pictures_total", outcome="overloaded"),
        ],
        "CairnOverloaded",
    ),
    "stages that are slow together": ([*stage("queue", 5), *stage("decode", 5)], "CairnSlow"),
    "an upload that is slow": (
        [
            *stage("queue", 1),
            growing("cairn_request_seconds_bucket", address="/predict", le="30"),
            growing("cairn_request_seconds_bucket", address="/predict", le="+Inf"),
            growing("cairn_pictures_total", outcome="answered"),
        ],
        None,
    ),
    "pictures of clients that are refused": (
        [growing("cairn_pictures_total", outcome="not-a-picture")],
        None,
    ),
}


@pytest.mark.parametrize("case", FIRING)
def test_an_alert_is_raised_by_what_it_is_for(tmp_path: Path, case: str) -> None:
    """And by nothing else; promtool computes the rules over counters that are made up."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; Debian's package prometheus has it")
    series, expected = FIRING[case]
    raised = {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing", alertname!="CairnAbsent"})',
        "eval_time": "15m",
        "exp_samples": [{"labels": f'{{alertname="{expected}"}}', "value": 1}] if expected else [],
    }
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [raised]}
    file = tmp_path / "test.yml"
    file.write_text(json.dumps({"rule_files": [str(DOCKER / "alerts.yml")], "tests": [test]}))
    ended = subprocess.run(
        [promtool, "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr

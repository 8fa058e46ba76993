"""What hostile clients do: it ends in words or in silence, and others are answered meanwhile."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterator
from types import ModuleType

import httpx
import pytest

from tests.api.conftest import Artifacts, Running, serving
from tests.conftest import ROOT
from tests.factories import view_bytes

pytestmark = pytest.mark.serial


def load_attackers() -> ModuleType:
    """Load the attacks, which the benchmark has, too."""
    path = ROOT / "benchmarks" / "attackers.py"
    spec = importlib.util.spec_from_file_location("attackers", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["attackers"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


attackers = load_attackers()
CLOSED, STANDING = attackers.CLOSED, attackers.STANDING


@pytest.fixture(scope="module")
def attacked(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run one service with the default limits, but little memory for uploads."""
    log = tmp_path_factory.mktemp("attacked") / "log"
    with serving(artifacts, log, "--held-bytes", str(100 << 20)) as running:
        yield running


OUTCOMES = {
    "endless_header": {431},
    "tiny_headers": {431},
    "endless_url": {431},
    "dripped_header": {431},
    "chunk_extension": {400},
    "trailers": {400},
    "tiny_chunks": {400},
    "pipelined_requests": {CLOSED},
    "silent_connections": {429, STANDING},
    "slow_bodies": {STANDING},
    "stalled_uploads": {503, STANDING},
    "unread_answers": {STANDING},
    "form_of_boundaries": {400},
    "many_objects": {400},
    "spaced_base64": {415},
    "scan_bomb": {400},
    "scattered_picture": {400},
}
CLIENTS = {
    "silent_connections": 300,
    "many_objects": 1,
    "spaced_base64": 1,
    "scattered_picture": 1,
}


def ask_for(seconds: float, service: Running) -> list[float]:
    """Ask again and again, and return how long each answer took."""
    took = []
    ends = time.monotonic() + seconds
    with httpx.Client(base_url=service.url, timeout=20, trust_env=False) as client:
        while (started := time.monotonic()) < ends:
            answer = client.post("/predict", content=view_bytes(1, 0))
            assert answer.status_code == 200, answer.text
            took.append(time.monotonic() - started)
            time.sleep(0.01)
    return took


@pytest.mark.parametrize("name", OUTCOMES)
def test_an_attack_is_refused_and_others_are_answered(attacked: Running, name: str) -> None:
    """Every connection of it ends as foreseen; every other request is answered, and soon."""
    seconds = 6 if name == "scan_bomb" else 3  # which has to be made first
    with attackers.attacking(name, attacked.url, seconds, CLIENTS.get(name)) as counted:
        took = ask_for(seconds, attacked)
    assert OUTCOMES[name] <= counted.keys() <= OUTCOMES[name] | {STANDING}, counted
    assert max(took) < 2
    assert "Traceback" not in attacked.log.read_text()


def test_every_attack_is_tried() -> None:
    """Those of the benchmark, and no others."""
    assert OUTCOMES.keys() == attackers.ATTACKS.keys()

"""What a service does while another takes its place: ports, readiness, keys, kept connections."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.contract.api_keys import digest_of
from tests.api.conftest import Artifacts, Running, command, environment, serving
from tests.conftest import ROOT
from tests.factories import view_bytes


def status(url: str, path: str, **sent: object) -> int:
    """Ask over a new connection, and return the status."""
    method = "POST" if "predict" in path else "GET"
    with httpx.Client(timeout=20, trust_env=False) as client:
        return client.request(method, f"{url}{path}", **sent).status_code  # type: ignore[arg-type] # as given


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def test_readiness_fails_before_the_service_stops(artifacts: Artifacts, tmp_path: Path) -> None:
    """So that a balancer sends no more; what it sends all the same is answered meanwhile."""
    with serving(artifacts, tmp_path / "log", "--drain-seconds", "3") as running:
        with httpx.Client(base_url=running.url, timeout=20, trust_env=False) as kept:
            assert "connection" not in kept.get("/readyz").headers
            running.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            answer = kept.get("/readyz")
            assert answer.status_code == 503
            assert answer.json()["code"] == "stopping"
            assert answer.headers["connection"] == "close"
        assert status(running.url, "/healthz") == 200
        assert status(running.url, "/predict", content=view_bytes(1, 0)) == 200
        assert running.process.poll() is None
        assert running.process.wait(20) == 0


@pytest.mark.parametrize(
    "signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]], ids=["Ctrl-C", "twice"]
)
def test_a_person_need_not_wait(
    artifacts: Artifacts, tmp_path: Path, signals: list[signal.Signals]
) -> None:
    """Ctrl-C stops at once, and so does a second SIGTERM."""
    with serving(artifacts, tmp_path / "log", "--drain-seconds", "100") as running:
        for number in signals:
            running.process.send_signal(number)
            time.sleep(0.3)
        assert running.process.wait(20) == 0


def test_the_second_service_on_a_port_says_so(artifacts: Artifacts, service: Running) -> None:
    """In one sentence, before it opens anything."""
    port = str(urlsplit(service.url).port)
    ended = subprocess.run(
        [*command(artifacts), "--port", port, "--store", "/nowhere"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == (
        f"cairn-serve: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    )


def test_management_has_a_port_of_its_own(artifacts: Artifacts, tmp_path: Path) -> None:
    """And its connections do not count among the others."""
    port = free_port()
    flags = ("--management-port", str(port), "--connections", "2")
    with serving(artifacts, tmp_path / "log", *flags) as running:
        management = f"http://127.0.0.1:{port}"
        address = urlsplit(running.url)
        silent = [
            socket.create_connection((address.hostname, address.port), timeout=20) for _ in range(2)
        ]
        for path in ("/readyz", "/healthz", "/metrics"):
            assert status(management, path) == 200
            assert status(running.url, path) == 404
        assert status(running.url, "/predict", content=view_bytes(1, 0)) == 200
        assert status(management, "/predict", content=view_bytes(1, 0)) == 404
        for link in silent:
            link.close()


@pytest.mark.parametrize("seconds", [1, 3])
def test_a_connection_is_kept_for_as_long_as_it_is_set(
    artifacts: Artifacts, tmp_path: Path, seconds: int
) -> None:
    """By default longer than a balancer keeps its own, which is a minute."""
    with serving(artifacts, tmp_path / "log", "--keep-alive-seconds", str(seconds)) as running:
        address = urlsplit(running.url)
        with socket.create_connection((address.hostname, address.port), timeout=20) as link:
            link.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            data = b""
            while not data.endswith(b"}"):
                data += link.recv(1 << 16)
            assert data.startswith(b"HTTP/1.1 200 ")
            started = time.monotonic()
            assert link.recv(1) == b""
            assert seconds - 0.5 < time.monotonic() - started < seconds + 2


def test_keys_can_be_changed_while_the_service_runs(artifacts: Artifacts, tmp_path: Path) -> None:
    """A new one is known, and an old one is refused, a second later."""
    file = tmp_path / "keys"
    file.write_text(f"old={digest_of('old')}")
    with serving(artifacts, tmp_path / "log", "--api-keys", f"@{file}") as running:

        def answers(key: str) -> int:
            return status(
                running.url, "/predict", content=view_bytes(1, 0), headers={"X-API-Key": key}
            )

        assert (answers("old"), answers("new")) == (200, 401)
        file.write_text(f"new={digest_of('new')}")
        time.sleep(1.2)
        assert (answers("old"), answers("new")) == (401, 200)


def test_a_batch_says_of_each_picture_when_to_ask_again(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    """Pictures without room are refused one by one, with their time."""
    flags = ("--threads", "1", "--waiting-pictures", "1")
    with serving(artifacts, tmp_path / "log", *flags) as running:
        files = [("file", (f"{number}.jpg", view_bytes(1, number))) for number in range(16)]
        answer = httpx.post(
            f"{running.url}/predict/batch", files=files, timeout=60, trust_env=False
        )
    assert answer.status_code == 200, answer.text
    problems = [one["problem"] for one in answer.json()["outcomes"] if one["problem"]]
    assert 0 < len(problems) < 16
    for problem in problems:
        assert problem["code"] == "overloaded"
        assert 1 <= problem["retry_after"] <= 60


def test_the_form_s_boundary_is_asked_for(service: Running) -> None:
    """By its name."""
    answer = httpx.post(
        f"{service.url}/predict",
        content=b"x",
        headers={"Content-Type": "multipart/form-data"},
        timeout=20,
        trust_env=False,
    )
    assert answer.status_code == 400
    assert "boundary" in answer.json()["detail"]

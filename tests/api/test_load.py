"""More than the service can do, clients that are slow or leave, and what it counts."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from service.cli import main
from tests.api.conftest import Artifacts, Running, serving, workers_of
from tests.api.test_bad_input import encoded
from tests.factories import picture, view_bytes

pytestmark = pytest.mark.serial


def counted(service: Running) -> dict[str, float]:
    """Read ``/metrics``: the value of each line."""
    text = httpx.get(f"{service.url}/metrics", timeout=60, trust_env=False).text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def link_to(service: Running) -> socket.socket:
    """Open a socket to the service."""
    address = urlsplit(service.url)
    return socket.create_connection((address.hostname, address.port), timeout=20)


def ask_many(service: Running, pictures: list[bytes]) -> list[httpx.Response]:
    """Ask about all of them at once."""

    async def ask() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=len(pictures))
        async with httpx.AsyncClient(
            base_url=service.url, timeout=60, limits=limits, trust_env=False
        ) as client:
            return await asyncio.gather(
                *(client.post("/predict", content=data) for data in pictures)
            )

    return asyncio.run(ask())


def test_overload_is_refused_in_words_and_passes(artifacts: Artifacts, tmp_path: Path) -> None:
    """Each answer is 200, or 503 with a time to come again; afterwards all is well."""
    large = encoded(picture(1).resize((1500, 1500)), "PNG")
    flags = ("--threads", "1", "--waiting-pictures", "2")
    with serving(artifacts, tmp_path / "log", *flags) as service:
        answers = ask_many(service, [large] * 30)
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 503}
        for answer in answers:
            if answer.status_code == 503:
                assert answer.json()["code"] == "overloaded"
                assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert httpx.post(
            f"{service.url}/predict", content=large, timeout=60, trust_env=False
        ).is_success
        assert counted(service)['cairn_pictures_total{outcome="overloaded"}'] == statuses.count(503)


def test_what_is_late_is_a_timeout(artifacts: Artifacts, tmp_path: Path) -> None:
    """504, with the code that programs know it by."""
    large = encoded(picture(1).resize((2000, 2000)), "PNG")
    with serving(artifacts, tmp_path / "log", "--deadline-seconds", "0.002") as service:
        answer = httpx.post(f"{service.url}/predict", content=large, timeout=60, trust_env=False)
    assert answer.status_code == 504, answer.text
    assert answer.json()["code"] == "deadline"


def test_memory_for_all_pictures_together_is_bounded(artifacts: Artifacts, tmp_path: Path) -> None:
    """A body that would exceed it is refused for the moment, not for good."""
    with serving(artifacts, tmp_path / "log", "--held-bytes", "100000") as service:
        answer = httpx.post(
            f"{service.url}/predict", content=bytes(200_000), timeout=60, trust_env=False
        )
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["retry-after"]) >= 1
        assert httpx.post(
            f"{service.url}/predict", content=view_bytes(1, 0), timeout=60, trust_env=False
        ).is_success
        assert counted(service)["cairn_held_bytes"] == 0


def test_no_memory_to_decode_in_is_no_fault_of_the_program(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    """With address space for small pictures only, a large one is 503, and small ones go on."""
    large = encoded(picture(1).convert("L").resize((8000, 7900)), "PNG")
    with serving(artifacts, tmp_path / "log", "--threads", "1") as service:
        url = f"{service.url}/predict"
        assert httpx.post(url, content=view_bytes(1, 0), timeout=60, trust_env=False).is_success
        [worker] = workers_of(service)
        status = Path(f"/proc/{worker}/status").read_text()
        used = 1024 * int(re.search(r"VmSize:\s+(\d+) kB", status)[1])  # type: ignore[index] # it is there
        limit = used + (100 << 20)
        resource.prlimit(worker, resource.RLIMIT_AS, (limit, limit))
        answer = httpx.post(url, content=large, timeout=60, trust_env=False)
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "out-of-memory"
        assert httpx.post(url, content=view_bytes(1, 0), timeout=60, trust_env=False).is_success


def test_slow_clients_are_let_go(artifacts: Artifacts, tmp_path: Path) -> None:
    """One that sends no head is cut off, one that sends no body is told why."""
    with serving(artifacts, tmp_path / "log", "--receive-seconds", "1") as service:
        started = time.monotonic()
        with link_to(service) as silent, link_to(service) as headless, link_to(service) as bodiless:
            headless.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-")
            bodiless.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nab")
            assert silent.recv(100) == b""
            assert headless.recv(100) == b""
            answer = b"".join(iter(lambda: bodiless.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"request-timeout" in answer
        assert time.monotonic() - started < 10
        with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
            for _ in range(3):  # a connection that is kept is not taken for a slow one
                assert client.get("/healthz").is_success
                time.sleep(0.6)


def test_a_client_that_leaves_is_not_waited_for(artifacts: Artifacts, tmp_path: Path) -> None:
    """Its pictures are taken out of the queues, and the next client finds them empty."""
    large = encoded(picture(1).resize((2500, 2500)), "PNG")
    with serving(artifacts, tmp_path / "log", "--threads", "1") as service:
        links = [link_to(service) for _ in range(20)]
        for link in links:
            head = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(large)}\r\n\r\n"
            link.sendall(head.encode() + large)
        for link in links:
            link.close()
        deadline = time.monotonic() + 20
        while (now := counted(service)).get("cairn_pictures_waiting", 1) > 0 or not any(
            "client-left" in name for name in now
        ):
            assert time.monotonic() < deadline, now
            time.sleep(0.05)
        assert now.get('cairn_stage_seconds_count{stage="decode"}', 0) < 20
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_what_happens_is_counted(artifacts: Artifacts, tmp_path: Path) -> None:
    """Stages, batches, outcomes, requests, and who answers."""
    with serving(artifacts, tmp_path / "log") as service:
        before = counted(service)
        ask_many(service, [view_bytes(1, n) for n in range(7)] + [b"no picture"])
        after = counted(service)
        ready = httpx.get(f"{service.url}/readyz", timeout=60, trust_env=False).json()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    for stage, least in {"queue": 7, "decode": 7, "network": 1, "search": 1}.items():
        assert grown(f'cairn_stage_seconds_count{{stage="{stage}"}}') >= least
    assert grown("cairn_batch_pictures_sum") == 7
    assert grown('cairn_pictures_total{outcome="answered"}') == 7
    assert grown('cairn_pictures_total{outcome="not-a-picture"}') == 1
    name = 'cairn_requests_total{address="/predict",method="POST",status="200"}'
    assert grown(name) == 7
    who = f'gallery="{ready["gallery"]}"'
    assert any(who in name and ready["embedder"] in name for name in after)
    assert after["cairn_gallery_rows"] == 30
    assert after["cairn_pictures_waiting"] == 0


def test_the_log_is_json_and_holds_no_secret(artifacts: Artifacts, tmp_path: Path) -> None:
    """A line per request with its id; neither the query nor a header is in it."""
    with serving(artifacts, tmp_path / "log") as service:
        httpx.post(
            f"{service.url}/predict?k=1&token=SECRET",
            content=view_bytes(1, 0),
            headers={"X-Request-ID": "mine", "X-API-Key": "SECRET", "Cookie": "SECRET"},
            timeout=60,
            trust_env=False,
        )
        httpx.get(f"{service.url}/a%0Ab", timeout=60, trust_env=False)
    text = (tmp_path / "log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert "SECRET" not in text
    [mine] = [line for line in lines if line.get("request_id") == "mine"]
    assert (mine["path"], mine["status"], mine["method"]) == ("/predict", 200, "POST")
    assert any(line.get("path") == "/a%0Ab" for line in lines)


def test_the_first_request_is_as_fast_as_the_others(artifacts: Artifacts, tmp_path: Path) -> None:
    """Everything was run once before the service said where it answers."""
    with (
        serving(artifacts, tmp_path / "log") as service,
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client,
    ):
        client.get("/healthz")  # the client's own first time
        seconds = []
        for number in range(30):
            started = time.perf_counter()
            assert client.post("/predict", content=view_bytes(1, number)).is_success
            seconds.append(time.perf_counter() - started)
    assert seconds[0] < max(0.05, 5 * float(np.median(seconds)))


@pytest.mark.parametrize("size", [-1, 257])
def test_a_batch_size_out_of_bounds_is_refused(size: int) -> None:
    """Memory is set aside for a batch of a few hundred pictures at most."""
    with pytest.raises(SystemExit, match="2"):
        main(["--store", "a", "--embedder", "b", "--batch-pictures", str(size)])

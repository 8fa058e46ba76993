"""Every line that is logged about a request has its id, foreseen or not."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.api.conftest import Artifacts, environment
from tests.conftest import ROOT

PROGRAM = """
import logging, sys
from pathlib import Path
from embedder.errors import ArtifactMissingError
from service.app import create_app
from service.lifecycle.server import listen, serve
from service.settings import Settings

store, embedder, form = sys.argv[1:]
origins = "https://a.example"
places = {"store": Path(store), "embedder": Path(embedder)}
settings = Settings(**places, port=0, log_format=form, origins=origins)
app = create_app(settings)

@app.get("/unforeseen")
async def unforeseen():
    logging.getLogger("anyone").warning("about to fail")
    raise ZeroDivisionError("a secret")

@app.get("/foreseen")
async def foreseen():
    raise ArtifactMissingError(Path("/a/secret"))

serve(app, settings, listen(settings))
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer of a service with faulty endpoints, and its log."""

    answer: httpx.Response
    log: str


@pytest.fixture(scope="module", params=["json", "text"])
def failures(
    request: pytest.FixtureRequest, artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Failure]]:
    """Ask each faulty endpoint once, by an id of its own; stop the service; read its log."""
    log = tmp_path_factory.mktemp("faulty") / "log"
    arguments = [str(artifacts.store), str(artifacts.embedder), request.param]
    with (
        log.open("w") as sink,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, log.read_text()
        answers = {
            name: httpx.get(
                f"{url}/{name}",
                headers={"X-Request-ID": f"id-of-{name}", "Origin": "https://a.example"},
                timeout=60,
                trust_env=False,
            )
            for name in ("unforeseen", "foreseen")
        }
        process.terminate()
        process.wait(30)
    text = log.read_text()
    return request.param, {name: Failure(answer, text) for name, answer in answers.items()}


def lines_of(failure: Failure, identity: str) -> list[dict[str, Any]]:
    """Give the lines of a JSON log that are about one request."""
    lines = map(json.loads, failure.log.splitlines())
    return [line for line in lines if line.get("request_id") == identity]


@pytest.mark.parametrize(
    ("name", "status", "code"), [("unforeseen", 500, "internal"), ("foreseen", 503, "not-ready")]
)
def test_a_failure_is_answered_and_logged_under_one_id(
    failures: tuple[str, dict[str, Failure]], name: str, status: int, code: str
) -> None:
    """The client gets a problem with its id and no cause; the log has the cause with the id."""
    form, found = failures
    failure, identity = found[name], f"id-of-{name}"
    answer = failure.answer
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers.get_list("x-request-id") == [identity]
    assert answer.json()["request_id"] == identity
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert "secret" not in answer.text
    if form == "json":
        lines = lines_of(failure, identity)
        assert [line for line in lines if "secret" in line.get("traceback", "")]
        assert [line for line in lines if line["message"].startswith(f"GET /{name} {status} ")]
    else:
        assert f"[{identity}]: GET /{name} {status} " in failure.log


def test_any_line_has_the_id_of_its_request(failures: tuple[str, dict[str, Failure]]) -> None:
    """Whoever logs it; lines about no request have none."""
    form, found = failures
    if form == "text":
        assert "anyone [id-of-unforeseen]: about to fail" in found["unforeseen"].log
        assert "[-]: ready: " in found["unforeseen"].log
        return
    lines = lines_of(found["unforeseen"], "id-of-unforeseen")
    assert "about to fail" in [line["message"] for line in lines]
    ready = [line for line in found["unforeseen"].log.splitlines() if "ready: " in line]
    assert len(ready) == 1
    assert "request_id" not in json.loads(ready[0])

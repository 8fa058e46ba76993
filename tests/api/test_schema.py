"""The service does what its OpenAPI document says, whatever a client sends.

schemathesis makes requests out of the document, right and wrong ones, always the same.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.contract.api_keys import digest_of
from tests.api.conftest import Artifacts, serving

ADMIN = "an admin key for the document's test"
BOUNDED = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
PATIENCE_SECONDS = 600
"""A reload starts processes that give way to all others: on a busy machine it takes minutes."""

FORESEEN = {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
"""Failures that the document allows a service that is busy."""


@pytest.fixture(scope="module")
def described(
    artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[schemathesis.BaseSchema]:
    """Run a service that takes orders, and read its document."""
    log = tmp_path_factory.mktemp("described") / "log"
    with serving(artifacts, log, "--admin-keys", digest_of(ADMIN)) as running:
        document = httpx.get(f"{running.url}/openapi.json", timeout=60, trust_env=False).json()
        loaded = schemathesis.openapi.from_dict(document)
        loaded.config.update(
            base_url=running.url, headers={"X-API-Key": ADMIN}, request_timeout=PATIENCE_SECONDS
        )
        yield loaded


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.name.lower())
def test_every_address_keeps_to_the_document(
    described: schemathesis.BaseSchema, mode: GenerationMode
) -> None:
    """No status, content type or shape that is not described, and no failure of the program."""
    asked = Counter[str]()

    def ask(case: Case) -> None:
        with requests.Session() as session:
            session.trust_env = False
            answer = case.call(session=session)
        assert answer.status_code < 500 or answer.status_code in FORESEEN, answer.text
        case.validate_response(answer, checks=CHECKS)
        asked[case.operation.path] += 1

    for result in described.get_all_operations():
        with contextlib.suppress(Unsatisfiable):  # one that takes nothing cannot be asked wrongly
            BOUNDED(given(result.ok().as_strategy(generation_mode=mode))(ask))()
    assert {"/predict", "/predict/batch", "/landmarks"} <= asked.keys()

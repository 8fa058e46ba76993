"""The service does what its OpenAPI document says, whatever a client sends.

schemathesis makes requests out of the document, right and wrong ones, always the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.security import digest_of
from tests.api.conftest import Artifacts, serving

ADMIN = "an admin key for the document's test"
EXAMPLES = 25
"""Requests that are made up for each address, beside those at the edges of what is allowed."""

CHECKS: list[CheckFunction] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
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
        loaded.config.update(base_url=running.url, headers={"X-API-Key": ADMIN}, request_timeout=60)
        yield loaded


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_address_keeps_to_the_document(case: schemathesis.Case) -> None:
    """No status, content type or shape that is not described, and no failure of the program."""
    with requests.Session() as session:
        session.trust_env = False
        answer = case.call(session=session)
    assert answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR or answer.status_code in FORESEEN
    case.validate_response(answer, checks=CHECKS)

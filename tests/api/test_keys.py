"""Who may ask and who may give orders."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from service.contract.api_keys import digest_of, new_key
from tests.api.conftest import Artifacts, Running, serving
from tests.api.test_requests import problem
from tests.factories import view_bytes

KEYS = {"phone": new_key(), "page": new_key()}
ADMIN = new_key()
ORIGIN = "https://page.example"


@pytest.fixture(scope="module")
def guarded(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run a service that asks for keys."""
    directory = tmp_path_factory.mktemp("guarded")
    entries = "\n".join(f"{name}={digest_of(key)}" for name, key in KEYS.items())
    (directory / "keys").write_text(entries)
    flags = ("--api-keys", f"@{directory / 'keys'}", "--admin-keys", digest_of(ADMIN))
    with serving(artifacts, directory / "log", *flags, "--origins", ORIGIN) as running:
        yield running


def ask(service: Running, method: str, path: str, key: str | None) -> httpx.Response:
    """Ask with a key, or without."""
    headers = {} if key is None else {"X-API-Key": key}
    content = view_bytes(1, 0) if "predict" in path else None
    return httpx.request(
        method,
        f"{service.url}{path}",
        headers=headers,
        content=content,
        timeout=60,
        trust_env=False,
    )


GUARDED = [
    ("POST", "/predict"),
    ("POST", "/v1/predict"),
    ("POST", "/v1/predict/batch"),
    ("GET", "/v1/landmarks"),
    ("GET", "/pictures/landmark-0/picture-0-0"),
    ("GET", "/v1/pictures/landmark-0/picture-0-0"),
    ("POST", "/admin/reload"),
]


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize(
    "key",
    [None, "", "wrong", pytest.param(digest_of(KEYS["phone"]), id="its digest")],
)
def test_without_a_known_key_nothing_is_answered(
    guarded: Running, method: str, path: str, key: str | None
) -> None:
    """Not even with the digest that is kept."""
    answer = ask(guarded, method, path, key)
    problem(answer, 401, "key-refused")
    assert answer.headers["www-authenticate"] == "X-API-Key"


@pytest.mark.parametrize("name", KEYS)
def test_each_key_opens_and_is_named_in_the_log(guarded: Running, name: str) -> None:
    """By its name, never by itself."""
    assert ask(guarded, "POST", "/predict", KEYS[name]).is_success
    assert ask(guarded, "GET", "/landmarks", KEYS[name]).is_success
    text = guarded.log.read_text()
    assert f'"client": "{name}"' in text
    assert KEYS[name] not in text


def test_orders_need_a_key_of_their_own(guarded: Running) -> None:
    """A client's key gives no orders, and an admin's asks no questions."""
    problem(ask(guarded, "POST", "/admin/reload", KEYS["phone"]), 401, "key-refused")
    problem(ask(guarded, "POST", "/predict", ADMIN), 401, "key-refused")
    assert ask(guarded, "POST", "/admin/reload", ADMIN).is_success


def test_where_no_admin_key_is_configured_there_are_no_orders(client: httpx.Client) -> None:
    """For nobody, rather than for everybody."""
    problem(client.post("/admin/reload"), 403, "admin-off")


def test_pages_of_listed_origins_may_ask(guarded: Running) -> None:
    """And of no others."""
    for origin, allowed in ((ORIGIN, True), ("https://elsewhere.example", False)):
        answer = httpx.options(
            f"{guarded.url}/predict",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "X-API-Key",
            },
            timeout=60,
            trust_env=False,
        )
        assert (answer.headers.get("access-control-allow-origin") == origin) == allowed


def test_health_needs_no_key(guarded: Running) -> None:
    """Whatever watches the service has none."""
    for path in ("/healthz", "/readyz", "/metrics"):
        assert ask(guarded, "GET", path, None).is_success

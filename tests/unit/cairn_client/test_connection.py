"""Proxies of the environment: an answer, or one sentence; never a failure inside httpx."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from cairn_client import AsyncClient, Client
from service.http import openapi_examples as examples
from tests.clients import KINDS, ask, holds
from tests.scripted_server import playing, says

ANSWERS = says(200, examples.ANSWER.model_dump_json().encode())
NOBODY = "http://127.0.0.1:9"  # a proxy through which nothing is reached


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without those of this machine."""
    for scheme in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme.upper()}_PROXY", raising=False)


def predict(client: Any) -> Any:
    """Ask about something."""
    return client.predict(b"a picture")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "listed",
    [
        "127.0.0.1",
        "127.0.0.0/8",
        "localhost,fd07:b51a:cc66:f0::/64,127.0.0.1",
        "fd07:b51a:cc66:f0::/64 127.0.0.1/32",
        "[::1], [, ///, 999.0.0.0/8, 10.0.0.0/99, 127.0.0.1",
        "x,*",
    ],
)
def test_what_no_proxy_lists_is_asked_directly(
    kind: str, listed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses and networks of both kinds; entries that are neither do no harm."""
    monkeypatch.setenv("HTTP_PROXY", NOBODY)
    monkeypatch.setenv("NO_PROXY", listed)
    with playing(ANSWERS) as script:
        assert holds(ask(kind, script.url, predict), examples.ANSWER)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("listed", ["localhost,fd07:b51a:cc66:f0::/64", "10.0.0.0/8", ""])
def test_what_it_does_not_list_goes_through_the_proxy(
    kind: str, variable: str, listed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the whole address, as proxies are asked."""
    with playing(ANSWERS) as proxy:
        monkeypatch.setenv(variable, proxy.url.removeprefix("http://"))
        monkeypatch.setenv("NO_PROXY", listed)
        assert holds(ask(kind, "http://service.example", predict), examples.ANSWER)
        [asked] = proxy.asked
    assert asked.path == "http://service.example/v1/predict?k=1"


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    "url",
    [
        "socks4://127.0.0.1:1080",
        "http://me:sec/ret@host:x",
        "http://[::1",
        "http://",
        ":::",
        "http://a..b:1",
        f"http://{'a' * 70}",
        "http://127.0.0.1:99999",
    ],
)
def test_a_proxy_that_cannot_be_one_is_told_in_one_sentence(
    client: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name of the variable; its text may hold a password."""
    monkeypatch.setenv("ALL_PROXY", url)
    with pytest.raises(ValueError, match=r"^ALL_PROXY in the environment is no address") as caught:
        client("http://service.example")
    assert "ret" not in str(caught.value)


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_a_socks_proxy_without_its_package_is_told_in_one_sentence(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to install; where it is installed, the client is made."""
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(ValueError, match=r"^ALL_PROXY .* pip install 'httpx\[socks\]'$"):
        client("http://service.example")


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_certificates_that_cannot_be_read_are_told(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name of the variable."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    with pytest.raises(ValueError, match="SSL_CERT_FILE"):
        client("https://service.example")

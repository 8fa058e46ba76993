"""Whom a request is from and what it is addressed to."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.contract.api_keys import digest_of
from service.settings import Settings

PROXY, CLIENT = "10.1.2.3", "203.0.113.9"


def ask(
    path: str, *, method: str = "GET", peer: str = PROXY, port: int = 8000, **given: Any
) -> tuple[httpx.Response, list[str]]:
    """Ask an application that was never started; return the answer, and who asked a batcher.

    Args:
        path: What is asked for.
        method: And how.
        peer: Address that the connection comes from.
        port: Port that it comes to.
        given: ``headers``, ``content``, and settings of the service.
    """
    sent = {name: given.pop(name) for name in ("headers", "content") if name in given}
    app = create_app(Settings(store=Path("absent"), embedder=Path("absent"), **given))
    clients: list[str] = []

    async def fail(_task: object, *, client: str) -> None:
        clients.append(client)
        raise RuntimeError("secret")

    app.state.batcher = SimpleNamespace(pool=object(), refuse_if_full=clients.append, ask=fail)

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(peer, 1))
        base = f"http://localhost:{port}"
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            return await client.request(method, path, **sent)

    return asyncio.run(call()), clients


def client_of(peer: str, headers: dict[str, str], **settings: Any) -> str:
    """Return whose turn a picture counts for."""
    _, clients = ask(
        "/predict", method="POST", peer=peer, headers=headers, content=b"x", **settings
    )
    return clients[0]


def test_a_trusted_proxy_tells_whom_it_asks_for() -> None:
    """What the client wrote itself stands farther left and does not count."""
    forwarded = {"X-Forwarded-For": f"192.0.2.1, {CLIENT}, 10.9.9.9"}
    trusted = {"trusted_proxies": "10.0.0.0/8"}
    assert client_of(PROXY, forwarded, **trusted) == CLIENT
    assert client_of(PROXY, {"X-Forwarded-For": "2001:db8:0:1::5"}, **trusted) == (
        "2001:db8:0:1::/64"
    )
    assert client_of(PROXY, {}, **trusted) == PROXY


@pytest.mark.parametrize("peer", [CLIENT, "127.0.0.1", "::1"])
def test_nobody_else_is_believed(peer: str) -> None:
    """Not even from this machine: an address that anyone can forge tells no client from others."""
    forwarded = {"X-Forwarded-For": "192.0.2.1"}
    for settings in ({}, {"trusted_proxies": "10.0.0.0/8"}):
        assert client_of(peer, forwarded, **settings) in (peer, "::/64")


@pytest.mark.parametrize("path", ["/openapi.json", "/cairn/openapi.json", "/cairn/openapi.json/"])
def test_behind_a_prefix_the_document_says_so(path: str) -> None:
    """Whether the proxy takes the prefix off or not; from others it does not count."""
    headers = {"X-Forwarded-Prefix": "/cairn/"}
    answer, _ = ask(path, headers=headers, trusted_proxies="10.0.0.0/8")
    assert answer.json()["servers"] == [{"url": "/cairn"}]
    answer, _ = ask("/openapi.json", headers=headers)
    assert "servers" not in answer.json()


@pytest.mark.parametrize("path", ["/", "/cairn", "/cairn/"])
def test_behind_a_prefix_the_page_is_there(path: str) -> None:
    """Its links are relative to where it is."""
    headers = {"X-Forwarded-Prefix": "/cairn"}
    answer, _ = ask(path, headers=headers, trusted_proxies="10.0.0.0/8")
    assert "Cairn" in answer.text
    assert '="/' not in answer.text


@pytest.mark.parametrize("prefix", ["//elsewhere.example", "/a b", "/a\tb", "a", "/<script>"])
def test_a_prefix_that_is_no_path_does_not_count(prefix: str) -> None:
    """Though a trusted proxy may only have handed it on."""
    headers = {"X-Forwarded-Prefix": prefix}
    answer, _ = ask("/openapi.json", headers=headers, trusted_proxies="10.0.0.0/8")
    assert "servers" not in answer.json()


@pytest.mark.parametrize("path", ["/predict/", "/v1/predict/", "/predict//"])
def test_a_slash_at_the_end_does_not_matter(path: str) -> None:
    """There is no redirect, which would lose the body or the prefix."""
    answer, clients = ask(path, method="POST", content=b"x")
    assert answer.status_code == 500  # of what answers here
    assert clients


def asked_as(name: str, /, **settings: Any) -> int:
    """Return the status of a request for a host."""
    answer, _ = ask("/healthz", headers={"Host": name}, **settings)
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "host-refused"
    return answer.status_code


LOCAL = ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "a.localhost", "cairn"]


@pytest.mark.parametrize("host", LOCAL)
def test_a_service_for_this_machine_is_asked_by_local_names(host: str) -> None:
    """And by addresses, which no other site can have as its name."""
    assert asked_as(host) == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example"])
def test_a_name_of_another_site_is_refused(host: str) -> None:
    """Its page would read our answers as its own, if the name pointed here."""
    assert asked_as(host) == 421
    assert asked_as(host, host="0.0.0.0") == 200  # noqa: S104 (nothing listens)
    assert asked_as(host, hosts="any") == 200


def test_names_can_be_listed() -> None:
    """Then no others count, but addresses, by which probes ask."""
    listed = {"hosts": "cairn.example,*.Cairn.example", "host": "0.0.0.0"}  # noqa: S104 (as above)
    for host in ("cairn.example", "CAIRN.example:443", "a.b.cairn.example.", "192.0.2.7", "[::1]"):
        assert asked_as(host, **listed) == 200
    for host in ("localhost", "xcairn.example", "example", "cairn.example.evil.example"):
        assert asked_as(host, **listed) == 421


def test_management_can_have_a_port_of_its_own() -> None:
    """What is for operators is there and nowhere else."""
    for path in ("/healthz", "/metrics", "/healthz/"):
        assert ask(path, port=9000, management_port=9000)[0].status_code == 200
        assert ask(path, port=8000, management_port=9000)[0].status_code == 404
        assert ask(path, port=8000)[0].status_code == 200
    for path in ("/", "/openapi.json"):
        assert ask(path, port=9000, management_port=9000)[0].status_code == 404
        assert ask(path, port=8000, management_port=9000)[0].status_code == 200
    refused, _ = ask("/admin/reload", method="POST", port=8000, management_port=9000)
    assert refused.status_code == 404


def test_an_unforeseen_error_harms_no_other_picture(caplog: pytest.LogCaptureFixture) -> None:
    """It is one picture's problem, without its text; the log has it."""
    files = {"file": ("a.jpg", b"x")}
    content = httpx.Request("POST", "http://a", files=files)
    content.read()
    with caplog.at_level(logging.ERROR):
        answer, _ = ask(
            "/predict/batch",
            method="POST",
            content=content.content,
            headers={"Content-Type": content.headers["Content-Type"]},
        )
    assert answer.status_code == 200, answer.text
    [outcome] = answer.json()["outcomes"]
    assert outcome["problem"]["code"] == "internal"
    assert "secret" not in answer.text
    assert "secret" in caplog.text


def test_keys_are_read_again_when_their_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A second later; a file that is faulty or gone changes nothing."""
    from service.contract import api_keys

    file = tmp_path / "keys"
    file.write_text(f"old={digest_of('old')}")
    now = 100.0
    monkeypatch.setattr(api_keys.time, "monotonic", lambda: now)
    keys = api_keys.Keys(f"@{file}")
    assert list(keys.current().values()) == ["old"]
    file.write_text(f"new={digest_of('new')}\nother={digest_of('other')}")
    assert list(keys.current().values()) == ["old"]
    now += 1
    assert list(keys.current().values()) == ["new", "other"]
    for spoil in (lambda: file.write_text("not a key"), file.unlink):
        spoil()
        now += 1
        assert list(keys.current().values()) == ["new", "other"]
    assert "not a key" not in caplog.text
    assert caplog.text.count("the keys of before are kept") == 2
    file.write_text(f"last={digest_of('last')}")
    now += 1
    assert list(keys.current().values()) == ["last"]

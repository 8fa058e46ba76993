"""The page's files: what they are, how long a browser keeps them, and what they may load."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest
from fastapi import FastAPI

from service.http.problems import RULES
from service.http.static_page import FOLDER, add_page
from tests.api.conftest import MAX_BYTES

SCRIPTS = (
    *("announce", "card", "compare", "found", "history", "intake", "key", "nodes", "page"),
    *("service", "shrink", "trouble", "words"),
)
ADDRESSES = {
    "/": "text/html; charset=utf-8",
    "/docs": "text/html; charset=utf-8",
    "/page/icon.svg": "image/svg+xml",
    "/page/style.css": "text/css; charset=utf-8",
    **{f"/page/{name}.js": "text/javascript; charset=utf-8" for name in SCRIPTS},
}


def test_these_are_all_files_of_the_page() -> None:
    """Each has its own address, and nothing else has one."""
    files = {f"/page/{path.name}" for path in FOLDER.iterdir()} - {"/page/index.html"}
    assert {"/", "/docs", *files} == set(ADDRESSES)


@pytest.mark.parametrize(("address", "kind"), ADDRESSES.items())
def test_a_file_of_the_page_is_what_it_says(client: httpx.Client, address: str, kind: str) -> None:
    """It may load nothing but its own files, and be shown inside no other page.

    It asks for no camera, microphone or place, and is never kept without being asked for again.
    """
    answer = client.get(address)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == kind
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-cache"
    forbidden = answer.headers["Permissions-Policy"].split(", ")
    assert {"camera=()", "geolocation=()", "microphone=()"} <= set(forbidden)
    assert client.head(address).headers["Content-Length"] == str(len(answer.content))


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_file_is_sent_again_only_if_it_changed(client: httpx.Client, address: str) -> None:
    """A browser asks by the tag that it has."""
    first = client.get(address)
    tag = first.headers["ETag"]
    again = client.get(address, headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    for name in ("Content-Security-Policy", "Permissions-Policy", "Cache-Control"):
        assert again.headers[name] == first.headers[name]
    assert client.get(address, headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_page_knows_how_large_a_picture_may_be(client: httpx.Client) -> None:
    """It is this service's own limit, so that the page need not ask in vain."""
    assert re.findall(r'name="max-bytes" content="([^"]*)"', client.get("/").text) == [
        str(MAX_BYTES)
    ]


def test_the_page_has_words_for_every_problem() -> None:
    """By its stable code; the service's own sentences are for those who write programs."""
    script = (FOLDER / "trouble.js").read_text(encoding="utf-8")
    worded = set(re.findall(r'^  "?([a-z-]+)"?: (?:\[|[A-Z]+,)', script, re.MULTILINE))
    elsewhere = {"admin-off", "reload-refused", "picture-unknown"}  # of what the page passes over
    codes = {rule.code for rule in RULES.values()}
    assert elsewhere < codes
    assert codes - elsewhere <= worded
    assert worded - codes == {"file-unreadable", "folder", "timeout", "unreachable"}


@pytest.mark.parametrize("keeps_unsure", [False, True])
def test_the_page_says_whether_pictures_are_kept(*, keeps_unsure: bool) -> None:
    """One of two sentences is shown, without a script."""
    app = FastAPI()
    add_page(app, MAX_BYTES, keeps_unsure=keeps_unsure)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get("/")

    page = asyncio.run(ask()).text
    upload = page.partition('id="ask"')[2].partition("</section>")[0]
    shown = " ".join(re.findall(r'<p class="small" >([^<]+)</p>', upload))
    assert ("does not store" in shown) is not keeps_unsure
    assert ("may be kept" in shown) is keeps_unsure
    assert len(re.findall(r'<p class="small" hidden>', upload)) == 1
    assert not re.search(r"\{\w+\}", page)


def test_lists_are_called_lists() -> None:
    """VoiceOver takes what has no bullets for no list, unless it has the role."""
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    lists = re.findall(r"<[ou]l\b[^>]*>", page)
    assert len(lists) >= 4
    assert [one for one in lists if 'role="list"' not in one] == []


def test_every_file_that_the_page_names_is_there(client: httpx.Client) -> None:
    """And all of them are this service's own."""
    named = re.findall(r'(?:href|src)="([^"]+)"', client.get("/").text)
    assert len(named) == 4
    for address in named:
        assert client.get(f"/{address}").status_code == 200


@pytest.mark.parametrize(
    "address", ["/page/", "/page/../app.py", "/page/..%2Fapp.py", "/page/index.html", "/page/x"]
)
def test_nothing_else_of_the_disk_is_sent(client: httpx.Client, address: str) -> None:
    """A path in a request is only ever compared."""
    assert client.get(address).status_code == 404

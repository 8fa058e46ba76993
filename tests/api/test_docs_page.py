"""The page /docs: all of the OpenAPI document, without a script and without another host."""

from __future__ import annotations

import asyncio
import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from service.app import create_app
from service.http.docs_page import render
from service.settings import Settings
from tests.api.browsing import Visit
from tests.api.conftest import Running
from tests.factories import view_bytes


def test_the_page_is_made_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making it takes as long as many pictures, which would wait."""
    app = create_app(Settings(store=Path("absent"), embedder=Path("absent")))
    openapi, makers = app.openapi, []

    def noted() -> dict[str, Any]:
        makers.append(threading.current_thread())
        return openapi()

    monkeypatch.setattr(app, "openapi", noted)

    async def scene() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as asking:
            for address in ("/docs", "/openapi.json"):
                assert (await asking.get(address)).is_success

    asyncio.run(scene())
    assert len(makers) == 2
    assert threading.main_thread() not in makers


def test_every_endpoint_is_described(client: httpx.Client) -> None:
    """With its parameters, answers, and examples; what has a short name is told once."""
    page = html.unescape(client.get("/docs").text)
    document = client.get("/openapi.json").json()
    operations = {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if f"/v1{path}" not in document["paths"]
    }
    assert len(operations) >= 8
    sections = re.findall(r"<section.*?</section>", page, re.DOTALL)
    assert len(sections) == len(operations)
    for section, (name, operation) in zip(sections, operations.items(), strict=True):
        assert f"<code>{name}</code></h2>" in section
        assert f'id="{operation["operationId"]}"' in section
        assert f'href="#{operation["operationId"]}"' in page
        for parameter in operation.get("parameters", []):
            assert f"<dt><code>{parameter['name']}</code>" in section
        for kind in operation.get("requestBody", {}).get("content", {}):
            assert f"<code>{kind}</code>" in section
        for status, response in operation["responses"].items():
            assert f"<summary>{status} " in section
            for content in response.get("content", {}).values():
                example = content["example"]
                told = example if isinstance(example, str) else json.dumps(example, indent=1)
                assert told in section


def test_whatever_the_document_says_is_text() -> None:
    """Markup in it is shown."""
    operation = {
        "operationId": "a",
        "description": "<script>alert(1)</script> `<b>`",
        "responses": {"200": {"description": "<i>", "content": {"a/b": {"example": "<u>"}}}},
    }
    info = {"title": "<title>", "version": "<1>"}
    page = render({"info": info, "paths": {"/<p>": {"get": operation}}})
    for markup in ("<script", "<b>", "<i>", "<u>", "<p>/", "<1>", "/<p>"):
        assert markup not in page
    assert "<code>&lt;b&gt;</code>" in page


def test_the_shown_commands_work(service: Running, client: httpx.Client, tmp_path: Path) -> None:
    """Each, as it stands there: it is answered, or refused for what is absent here."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl")
    (tmp_path / "picture.jpg").write_bytes(view_bytes(1, 0))
    page = client.get("/docs").text
    lines = [html.unescape(line) for line in re.findall(r"curl [^<\n]+", page)]
    assert len(lines) >= 9
    statuses = {}
    for line in lines:
        command = line.replace("curl ", f"{curl} -s -o /dev/null -w '%{{http_code}}' ", 1)
        run = subprocess.run(
            ["sh", "-c", command],
            cwd=tmp_path,
            env={"URL": service.url, "no_proxy": "*"},
            capture_output=True,
            text=True,
            check=True,
        )
        statuses[line] = int(run.stdout)
    refused = {line: status for line, status in statuses.items() if status != 200}
    absent = [line for line in refused if re.search(r"138982|17660ef415d37059|admin", line)]
    assert list(refused) == absent, refused


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_and_fits_a_phone_without_scripts(
    visit: Callable[..., Visit], open_service: Running, scheme: str
) -> None:
    """It is plain HTML; links lead to the endpoints."""
    phone = {"width": 320, "height": 640}
    visited = visit(open_service, viewport=phone, color_scheme=scheme)
    visited.page.goto(f"{open_service.url}/docs")
    assert visited.page.locator("script").count() == 0
    visited.demand_accessible()
    assert visited.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    visited.page.get_by_role("link", name="GET /v1/landmarks").click()
    expect(visited.page.get_by_role("heading", name="GET /v1/landmarks")).to_be_in_viewport()

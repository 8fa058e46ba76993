"""The page ``/docs``: the OpenAPI document for people, with nothing loaded from elsewhere.

FastAPI's own pages load scripts from other hosts. This one is plain HTML, made from the document
alone: what an endpoint declares is what is shown.
"""

import asyncio
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response

from service.http.openapi import SHORT_NAMES
from service.http.static_page import page_response

Described = Mapping[str, Any]
"""A part of the document."""

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}: the HTTP interface</title>
<link rel="icon" href="page/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="page/style.css">
</head>
<body class="docs">
<header>
  <h1>{title}</h1>
  <p>The HTTP interface, version {version}</p>
</header>
<main>
<p>Addresses under <code>/v1</code> also exist without it. Where the service needs a key, add
<code>--header "X-API-Key: $KEY"</code>. Clients can be generated from
<a href="openapi.json">openapi.json</a>. To try pictures by hand, use <a href="./">the page</a>.</p>
<pre tabindex="0"><code>URL=http://127.0.0.1:8000  # where this page is, without /docs</code></pre>
<nav aria-label="Endpoints"><ul role="list">
{contents}
</ul></nav>
{sections}
</main>
</body>
</html>
"""


def add_docs(app: FastAPI) -> None:
    """Serve the page at ``/docs``; it is made at the first request."""

    @cache
    def content() -> str:
        return render(app.openapi())

    async def docs(request: Request) -> Response:
        return page_response(request, await asyncio.to_thread(content))  # the first takes long

    app.add_route("/docs", docs, methods=["GET", "HEAD"], include_in_schema=False)


def render(document: Described) -> str:
    """Make the page from an OpenAPI document."""
    operations = list(_operations(document))
    return _PAGE.format(
        title=escape(document["info"]["title"]),
        version=escape(document["info"]["version"]),
        contents="\n".join(_entry(name, operation) for name, operation in operations),
        sections="\n".join(_section(name, one, document) for name, one in operations),
    )


def _operations(document: Described) -> Iterator[tuple[str, Described]]:
    """Yield endpoints as ``POST /v1/predict`` with what is said of them, without short names."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if SHORT_NAMES not in operation.get("tags", []):
                yield f"{method.upper()} {path}", operation


def _entry(name: str, operation: Described) -> str:
    address = f'<a href="#{escape(operation["operationId"])}"><code>{escape(name)}</code></a>'
    return f"<li>{address} {_prose(_first_line(operation['description']))}</li>"


def _first_line(text: str) -> str:
    return text.partition("\n\n")[0].replace("\n", " ")


def _section(name: str, operation: Described, document: Described) -> str:
    identifier = escape(operation["operationId"])
    parts = [
        f'<section id="{identifier}" aria-labelledby="{identifier}-name">',
        f'<h2 id="{identifier}-name"><code>{escape(name)}</code></h2>',
        f"<p>{_prose(operation['description'])}</p>",
        f'<p class="small">Operation id: <code>{identifier}</code></p>',
        *_body(operation),
        _code("\n".join(_curl_lines(name, operation))),
        *_parameters(operation.get("parameters", [])),
        "<h3>Answers</h3>",
        *(_answer(status, one, document) for status, one in sorted(operation["responses"].items())),
        "</section>",
    ]
    return "\n".join(parts)


def _prose(text: str) -> str:
    """Escape a text; what stands in backticks becomes code."""
    return re.sub(r"(`+)(.+?)\1", r"<code>\2</code>", escape(text))


def _code(text: str) -> str:
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'


def _body(operation: Described) -> Iterator[str]:
    if kinds := operation.get("requestBody", {}).get("content"):
        yield f"<p>Body: {', '.join(f'<code>{escape(kind)}</code>' for kind in kinds)}</p>"


def _parameters(parameters: list[Described]) -> Iterator[str]:
    if parameters:
        yield "<h3>Parameters</h3>\n<dl>"
    for parameter in parameters:
        facts = [parameter["in"], *_constraints(parameter["schema"])]
        if parameter.get("required"):
            facts.append("required")
        yield f"<dt><code>{escape(parameter['name'])}</code> ({escape(', '.join(facts))})</dt>"
        yield f"<dd>{_prose(parameter.get('description', ''))}</dd>"
    if parameters:
        yield "</dl>"


def _constraints(schema: Described) -> Iterator[str]:
    """Word the type of a parameter, its range, default and example; null is left out."""
    for kind in schema.get("anyOf", [schema]):
        if kind.get("type") == "null":
            continue
        yield str(kind.get("type", "any"))
        yield from (
            f"{word} {kind[key]}"
            for key, word in (("minimum", "from"), ("maximum", "to"), ("enum", "one of"))
            if key in kind
        )
    if "default" in schema:
        yield f"default {schema['default']}"
    yield from (f"such as {example}" for example in schema.get("examples", [])[:1])


def _curl_lines(name: str, operation: Described) -> Iterator[str]:
    """Yield a command for each form of the body, with the parameters that are required."""
    method, _, path = name.partition(" ")
    query = []
    for parameter in operation.get("parameters", []):
        if parameter.get("required"):
            example = str(parameter["schema"]["examples"][0])
            path = path.replace(f"{{{parameter['name']}}}", example)
            if parameter["in"] == "query":
                query.append(f"{parameter['name']}={example}")
    address = f'"$URL{path}{"?" if query else ""}{"&".join(query)}"'
    bodies = operation.get("requestBody", {}).get("content", {})
    options = dict.fromkeys(_body_options(kind, body) for kind, body in bodies.items())
    if not bodies:
        options = {"" if method == "GET" else f"--request {method} ": None}
    yield from (f"curl {option}{address}" for option in options)


def _body_options(kind: str, body: Described) -> str:
    if kind == "application/json":
        return f"--json {shlex.quote(json.dumps(body['example']))} "
    if kind != "multipart/form-data":
        return "--data-binary @picture.jpg "
    files = []
    for name, field in body["schema"]["properties"].items():
        files += [name] * (2 if field["type"] == "array" else 1)
    return "".join(f"--form {name}=@picture.jpg " for name in files)


def _answer(status: str, response: Described, document: Described) -> str:
    title = f"{status} {HTTPStatus(int(status)).phrase}"
    inside = [f"<p>{_prose(response['description'])}</p>"]
    for header, described in response.get("headers", {}).items():
        inside.append(f"<p><code>{escape(header)}</code>: {_prose(described['description'])}</p>")
    for kind, content in response.get("content", {}).items():
        inside.append(f'<p class="small"><code>{escape(kind)}</code></p>')
        example = content["example"]
        inside.append(_code(example if isinstance(example, str) else json.dumps(example, indent=1)))
        meaning = _meaning(content.get("schema", {}), document)
        if meaning and status == "200":
            inside.append(f'<p class="meaning">{_prose(meaning)}</p>')
    opened = " open" if status == "200" else ""
    return f"<details{opened}><summary>{escape(title)}</summary>\n{''.join(inside)}</details>"


def _meaning(schema: Described, document: Described) -> str:
    """Return what the schemas' own text says of the fields; empty where nothing is said."""
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    described: Described = document.get("components", {}).get("schemas", {}).get(name, {})
    return str(described.get("description", ""))

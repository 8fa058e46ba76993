"""What the OpenAPI document says of bodies, answers and problems."""

import asyncio
import json
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from service.contract.schemas import Problem
from service.http import openapi_examples as examples
from service.http.problems import DESCRIBED
from service.http.uploads import FIELD

Responses = dict[int | str, dict[str, Any]]

SHORT_NAMES = "short names of v1"
"""Tag of the addresses without ``/v1``."""

_FILE = {"type": "string", "format": "binary"}
_PICTURE = {"schema": _FILE, "example": examples.FILE}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "Whole seconds after which to ask again.",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_RETRY_STATUSES = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


def _form(schema: dict[str, Any], example: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    properties = {"type": "object", "required": [FIELD], "properties": {FIELD: schema}}
    return {"multipart/form-data": {"schema": properties, "example": {FIELD: example}}}


def _json(example: dict[str, Any], **properties: dict[str, Any]) -> dict[str, Any]:
    """Describe an object with one of the properties."""
    schema = {
        "type": "object",
        "properties": properties,
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
    return {"application/json": {"schema": schema, "example": example}}


_ONE_JSON = {"picture": examples.BASE64}
_TEXT = {"type": "string", "description": "base64, or a data: URL of that"}
_FILES = {"type": "array", "minItems": 1, "items": _FILE}
_TEXTS = {"type": "array", "minItems": 1, "items": _TEXT}

_RAW = {"image/*": _PICTURE, "application/octet-stream": _PICTURE}
_ONE_FORM = _form(_FILE, examples.FILE)

PICTURE_BODY = {
    "description": "One picture; none where `picture` names one of the gallery.",
    "content": _ONE_FORM | _json(_ONE_JSON, picture=_TEXT) | _RAW,
}

QUERY_BODY = {
    "description": "One picture, or with `together` several: more fields of the same name in a "
    "form, or `pictures` in JSON. None where `picture` names one of the gallery.",
    "content": _ONE_FORM | _json(_ONE_JSON, picture=_TEXT, pictures=_TEXTS) | _RAW,
}

PICTURES_BODY = {
    "required": True,
    "content": _form(_FILES, [examples.FILE, examples.FILE])
    | _json({"pictures": [examples.BASE64, examples.BASE64]}, picture=_TEXT, pictures=_TEXTS),
}
"""Several pictures in a form, or in JSON."""

VECTOR: Responses = {
    200: {
        "content": {
            "application/json": {"example": examples.EMBEDDING.model_dump(mode="json")},
            "application/octet-stream": {
                "schema": _FILE,
                "example": "(float32 numbers, little-endian)",
            },
        }
    }
}

THUMBNAIL: Responses = {
    200: {
        "description": "The picture, small.",
        "content": {"image/jpeg": {"schema": _FILE, "example": "(the bytes of a JPEG)"}},
    },
    304: {"description": "The picture still has the `ETag` that was sent."},
}


def success(example: BaseModel) -> Responses:
    """Describe the successful answer of an endpoint by an example."""
    content = {"application/json": {"example": example.model_dump(mode="json")}}
    return {200: {"content": content}}


def problems(*statuses: int) -> Responses:
    """Describe the failures of an endpoint, and those of every one: 421, 431 and 500."""
    return {status: _problem(status) for status in (*statuses, 421, 431, 500)}


def _problem(status: int) -> dict[str, Any]:
    meanings = dict.fromkeys(rule.meaning for rule in DESCRIBED if rule.status == status)
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}  # defined: Outcome refers to it
    example = examples.PROBLEMS[status].model_dump(mode="json")
    described: dict[str, Any] = {
        "description": f"{'; or '.join(meanings)}.".capitalize(),
        "content": {"application/problem+json": {"schema": schema, "example": example}},
    }
    if status in _RETRY_STATUSES:
        described["headers"] = _RETRY_AFTER
    return described


def operation_id(route: APIRoute) -> str:
    """Name an endpoint for generated clients: by its function, so that the name stays."""
    return f"{route.name}_short" if SHORT_NAMES in route.tags else route.name


class DocumentedAPI(FastAPI):
    """FastAPI, but its document describes the failures that come, as they come.

    FastAPI describes a status 422 wherever a parameter is taken, even if that takes any text, and
    with a schema that is never sent.
    """

    def openapi(self) -> dict[str, Any]:
        """Make the document once, with what really comes in place of what FastAPI describes."""
        if self.openapi_schema is None:
            document = super().openapi()
            for item in document["paths"].values():
                for operation in item.values():
                    _describe_bad_parameters(operation)
            for schema in ("HTTPValidationError", "ValidationError"):
                document["components"]["schemas"].pop(schema, None)
        return super().openapi()


def add_document(app: FastAPI) -> None:
    """Serve the document; unlike FastAPI, make its text once, not for each request.

    Behind a proxy that takes a prefix off, the document says so.
    """
    texts: dict[str, bytes] = {}

    async def document(request: Request) -> Response:
        prefix = request.scope.get("root_path", "")
        if prefix not in texts:
            servers = {"servers": [{"url": prefix}]} if prefix else {}
            made = await asyncio.to_thread(app.openapi)  # takes as long as many pictures
            texts.clear()  # there is one prefix, as a rule
            texts[prefix] = json.dumps(made | servers).encode()
        return Response(texts[prefix], media_type="application/json")

    app.add_route("/openapi.json", document, include_in_schema=False)


def _describe_bad_parameters(operation: dict[str, Any]) -> None:
    """Describe 422 where FastAPI can refuse a parameter, and only there."""
    responses = operation["responses"]
    if "HTTPValidationError" not in str(responses.get("422")):
        return
    if all(map(_takes_anything, operation.get("parameters", ()))):
        del responses["422"]
    else:
        responses["422"] = _problem(422)


def _takes_anything(parameter: dict[str, Any]) -> bool:
    """Tell whether no value of a parameter is refused: it is free text, and may be absent."""
    schema = parameter["schema"]
    kinds = schema.get("anyOf", [{name: schema[name] for name in schema.keys() & _REFUSING}])
    may_be_absent = parameter["in"] == "path" or not parameter["required"]
    return may_be_absent and all(kind in ({"type": "string"}, {"type": "null"}) for kind in kinds)


_REFUSING = {"type", "enum", "const", "format", "pattern", "minLength", "maxLength", "items"}
"""What a schema can say that some values do not meet."""

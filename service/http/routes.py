"""The endpoints. No logic: read the request, call the batcher, answer."""

import asyncio
import hashlib
import logging
import struct
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.security import APIKeyHeader

from embedder.errors import CairnError
from embedder.text import normal_form
from service.contract.addresses import client_of
from service.contract.api_keys import name_of
from service.contract.schemas import (
    Alive,
    Answer,
    Embedding,
    Landmarks,
    Outcome,
    Outcomes,
    Ready,
    Verification,
)
from service.dispatch.batcher import Batcher
from service.http import openapi
from service.http import openapi_examples as examples
from service.http.cancellation import cancel_on_disconnect
from service.http.direct_route import direct_route
from service.http.errors import AdminOffError, KeyRefusedError, NotReadyError
from service.http.forms import Upload
from service.http.problems import problem_of
from service.http.queries import BatchQuery, EmbedQuery, PredictQuery, VerifyQuery
from service.http.security_headers import matches_etag
from service.http.uploads import body_reader
from service.inference.errors import StoppingError
from service.inference.tasks import Options, Task, Wanted
from service.lifecycle.reload import Reloader
from service.telemetry.metrics import CONTENT_TYPE
from service.telemetry.request_record import record_of

log = logging.getLogger(__name__)

Key = Annotated[
    str | None, Depends(APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="key"))
]


# Dependencies are coroutines: FastAPI would send a plain function to a thread.


async def _batcher(request: Request) -> Batcher:
    batcher: Batcher | None = request.app.state.batcher
    if batcher is None or batcher.pool is None:
        reloader: Reloader | None = request.app.state.reloader
        refusal = reloader and reloader.refusal
        cause = f"what is published is refused ({refusal.reason})" if refusal else "not open yet"
        raise NotReadyError(f"no gallery can be served: {cause}")
    return batcher


async def _reloader(request: Request, _: Annotated[Batcher, Depends(_batcher)]) -> Reloader:
    reloader: Reloader = request.app.state.reloader  # opened together with the batcher
    return reloader


def _identify(request: Request, key: str | None, keys: Mapping[str, str]) -> str:
    name = name_of(key or "", keys)
    if name is None:
        raise KeyRefusedError("send a known API key in the header X-API-Key")
    record_of(request.scope).client = name
    return name


async def _client(request: Request, key: Key) -> str:
    """Identify the client: by the name of its key where keys are needed, else by its address."""
    keys: Mapping[str, str] = request.app.state.keys.current()
    if keys:
        return _identify(request, key, keys)
    return client_of(request.client.host) if request.client else ""


async def _admin(request: Request, key: Key) -> None:
    """Let only clients with an admin key pass."""
    keys: Mapping[str, str] = request.app.state.admin_keys.current()
    if not keys:
        raise AdminOffError("no admin key is configured, so nobody may do this")
    _identify(request, key, keys)


Client = Annotated[str, Depends(_client)]
OpenBatcher = Annotated[Batcher, Depends(_batcher)]


class _Asked(NamedTuple):
    """A request about pictures, who sent it, and what answers it."""

    request: Request
    client: str
    batcher: Batcher


async def _asked(request: Request, client: Client, batcher: OpenBatcher) -> _Asked:
    return _Asked(request, client, batcher)


async def _asked_directly(request: Request) -> _Asked:
    """Find what :func:`_asked` gets by FastAPI's dependencies."""
    client = await _client(request, request.headers.get("X-API-Key"))
    return await _asked(request, client, await _batcher(request))


Asked = Annotated[_Asked, Depends(_asked)]
api = APIRouter(route_class=direct_route(_asked_directly))
"""For clients; needs a key where keys are configured."""

operation = APIRouter()
"""For those who run the service."""

OpenReloader = Annotated[Reloader, Depends(_reloader)]

_RECEIVING = (400, 401, 408, 413, 422, 429, 503)
_ANSWERING = openapi.problems(*_RECEIVING, 415, 504)
_LOOKING_UP = (401, 429, 503, 504)
_QUERY = {"requestBody": openapi.QUERY_BODY}


async def _ask(asked: _Asked, options: Options, wants: Wanted, most: int = 1) -> Any:  # noqa: ANN401 - by what is wanted
    """Read the 1 to ``most`` pictures of a request, and perform one task with them."""
    request, client, batcher = asked
    record_of(request.scope).asks_about_pictures = True
    batcher.refuse_if_full(client)
    with body_reader(request, client) as reader:
        files: list[Upload] = []
        if options.picture is None:
            files = await reader.pictures(most)
        else:
            await reader.nothing()
        task = Task(tuple(file.data for file in files), options, wants)
        return await cancel_on_disconnect(request, _answer(asked, task))


async def _answer(asked: _Asked, task: Task) -> Any:  # noqa: ANN401 - by what is wanted
    """Perform a task; keep its picture where the answer is unsure and the operator wants it."""
    answer = await asked.batcher.ask(task, client=asked.client)
    asked.request.app.state.unsure.offer(task, answer)
    return answer


@api.post(
    "/predict",
    openapi_extra=_QUERY,
    responses=openapi.success(examples.ANSWER) | _ANSWERING,
)
async def predict(asked: Asked, query: Annotated[PredictQuery, Query()]) -> Answer:
    """Recognize the landmark of one picture, or of several that show the same.

    A picture is a JPEG, PNG, WebP, GIF, AVIF or HEIC.
    """
    most = asked.request.app.state.max_pictures if query.together else 1
    answer: Answer = await _ask(asked, query.options(), "answer", most)
    return answer


@api.post(
    "/verify",
    openapi_extra=_QUERY,
    responses=openapi.success(examples.VERIFICATION) | _ANSWERING,
)
async def verify(asked: Asked, query: Annotated[VerifyQuery, Query()]) -> Verification:
    """Tell whether a picture shows one landmark, by comparing it with every picture of that."""
    most = asked.request.app.state.max_pictures if query.together else 1
    verification: Verification = await _ask(asked, query.options(), "verification", most)
    return verification


@api.post(
    "/embed",
    openapi_extra={"requestBody": openapi.PICTURE_BODY},
    response_model=Embedding,
    responses=openapi.VECTOR | _ANSWERING,
)
async def embed(asked: Asked, query: Annotated[EmbedQuery, Query()]) -> Embedding | Response:
    """Give the vector of a picture, as JSON or, where the client accepts them, as bytes."""
    embedding: Embedding = await _ask(asked, query.options(), "vector")
    if not _accepts_bytes(asked.request.headers.get("accept", "")):
        return embedding
    return Response(struct.pack(f"<{embedding.dimension}f", *embedding.vector), media_type=_BYTES)


_BYTES = "application/octet-stream"


def _accepts_bytes(accept: str) -> bool:
    """Tell whether a client names bytes among the media types it accepts, and not JSON first."""
    named = [kind.partition(";")[0].strip().lower() for kind in accept.split(",")]
    found = [kind for kind in named if kind in (_BYTES, "application/json")]
    return found[:1] == [_BYTES]


@api.post(
    "/predict/batch",
    openapi_extra={"requestBody": openapi.PICTURES_BODY},
    responses=openapi.success(examples.OUTCOMES) | openapi.problems(*_RECEIVING),
)
async def predict_batch(asked: Asked, query: Annotated[BatchQuery, Query()]) -> Outcomes:
    """Recognize the landmarks of several pictures; one that is refused does not affect others."""
    request, client, batcher = asked
    record, options = record_of(request.scope), query.options()
    record.asks_about_pictures = True
    batcher.refuse_if_full(client)

    async def outcome(upload: Upload) -> Outcome:
        try:
            answer = await _answer(asked, Task((upload.data,), options))
        except Exception as error:  # whatever it is belongs to this picture alone
            if not isinstance(error, CairnError):
                log.exception("an error that nobody foresaw")
            problem = problem_of(error)
            record.outcomes.append(problem.code)
            return Outcome(name=upload.name, problem=problem)
        record.outcomes.append("answered")
        return Outcome(name=upload.name, answer=answer)

    async def outcomes(files: list[Upload]) -> Outcomes:
        return Outcomes(outcomes=tuple(await asyncio.gather(*map(outcome, files))))

    with body_reader(request, client) as reader:
        files = await reader.pictures(request.app.state.max_pictures, raw=False)
        return await cancel_on_disconnect(request, outcomes(files))


@api.get(
    "/landmarks",
    response_model=Landmarks,
    responses=openapi.success(examples.LANDMARKS) | openapi.problems(422, *_LOOKING_UP),
)
async def landmarks(
    client: Client,
    batcher: OpenBatcher,
    offset: Annotated[
        int, Query(ge=0, le=1 << 31, description="landmarks to skip", examples=[0])
    ] = 0,
    limit: Annotated[
        int, Query(ge=1, le=1000, description="most landmarks to return", examples=[100])
    ] = 100,
    q: Annotated[
        str | None,
        Query(
            max_length=200,
            description="what their names hold; case and accents do not matter",
            examples=["hawa mahal"],
        ),
    ] = None,
) -> Response:
    """List the landmarks of the gallery, or search for them by name."""
    page = await batcher.landmarks(client, offset, limit, q)
    return Response(page, media_type="application/json")


_REVALIDATE = "private, no-cache"  # the picture may have been removed from the gallery


@api.get(
    "/pictures/{picture:path}",
    response_class=Response,
    responses=openapi.THUMBNAIL | openapi.problems(404, *_LOOKING_UP),
)
async def picture(
    client: Client,
    batcher: OpenBatcher,
    picture: Annotated[
        str,
        Path(description="id, as in a neighbor of an answer", examples=[examples.PICTURE]),
    ],
    gallery: Annotated[
        str | None,
        Query(
            description="build that must be serving; by default any", examples=[examples.GALLERY]
        ),
    ] = None,
    if_none_match: Annotated[
        str | None,
        Header(description="`ETag` of the picture that the client has", examples=[examples.ETAG]),
    ] = None,
) -> Response:
    """Show a picture of the gallery, where it was built with thumbnails."""
    data = await batcher.thumbnail(client, normal_form(picture), gallery)
    headers = {
        "ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"',
        "Cache-Control": _REVALIDATE,
    }
    if matches_etag(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/jpeg", headers=headers)


@operation.get("/healthz", responses=openapi.success(examples.ALIVE) | openapi.problems())
async def healthz() -> Alive:
    """Report that the process is alive."""
    return Alive()


@operation.get("/readyz", responses=openapi.success(examples.READY) | openapi.problems(503))
async def readyz(request: Request, batcher: OpenBatcher, reloader: OpenReloader) -> Ready:
    """Report whether the service can answer, and with what."""
    if request.app.state.draining:
        raise StoppingError("the service is about to stop")
    return batcher.ready.model_copy(update={"refused": reloader.refusal})


_METRICS: openapi.Responses = {200: {"content": {"text/plain": {"example": examples.METRICS}}}}


@operation.get(
    "/metrics", response_class=PlainTextResponse, responses=_METRICS | openapi.problems()
)
async def metrics(request: Request) -> Response:
    """Give the metrics to Prometheus."""
    text = await asyncio.to_thread(request.app.state.metrics.expose)  # it looks at all processes
    return Response(text, media_type=CONTENT_TYPE)


@operation.post(
    "/admin/reload",
    dependencies=[Depends(_admin)],
    responses=openapi.success(examples.READY) | openapi.problems(401, 403, 409, 503),
)
async def reload(reloader: OpenReloader) -> Ready:
    """Switch to the published embedder and gallery, without dropping a request."""
    return await reloader.reload()

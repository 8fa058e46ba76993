"""The questions that a service answers: one function for each, which both clients have as a method.

A picture is given by its bytes, its path, or its id in the gallery as a :class:`GalleryPicture`.
Every call may raise:

- ``ServiceRefusedError``: the picture, a parameter or the key is refused.
- ``ServiceBusyError``: the service was full or not ready at the last attempt too.
- ``ServiceFailedError``: the service failed, or another program responded.
- ``ServiceUnreachableError``: no response in time.
- ``OSError``: the picture's file cannot be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from cairn_client.answers import (
    Alive,
    Answer,
    Embedding,
    Landmarks,
    Outcome,
    Outcomes,
    Ready,
    Verification,
)
from cairn_client.errors import ServiceError
from cairn_client.exchange import AnyClient, Exchange, Question
from cairn_client.json_shapes import parse
from cairn_client.retry import BUSY, Reply

_T = TypeVar("_T")
_Part = tuple[str, tuple[str, bytes]]  # of a form: the field, and the name and bytes of a file


@dataclass(frozen=True, slots=True)
class GalleryPicture:
    """A picture of the gallery, by the id that a neighbor has; it does not find itself."""

    id: str


Picture = bytes | Path | GalleryPicture


def predict(
    client: AnyClient,
    picture: Picture,
    k: int = 1,
    *,
    landmarks: int | None = None,
    only: Sequence[str] = (),
) -> Exchange[Answer]:
    """Find the landmark that a picture shows.

    Args:
        client: Who asks.
        picture: Its bytes, its path, or one of the gallery.
        k: Neighbors to return, 0 to 100.
        landmarks: Distinct landmarks to return, 1 to 100; by default none.
        only: Ids of the landmarks that may answer, at most 1000; all of them by default.
    """
    query = _query(picture, _params(k, landmarks, only))
    return client.ask(_post("v1/predict", Answer, **query))


def predict_together(
    client: AnyClient,
    pictures: Sequence[bytes | Path],
    k: int = 1,
    *,
    by: Literal["mean", "max"] = "mean",
    landmarks: int | None = None,
    only: Sequence[str] = (),
) -> Exchange[Answer]:
    """Find the one landmark that several pictures show.

    Args:
        client: Who asks.
        pictures: 1 to as many as the service accepts (16 by default).
        k: As for ``predict``.
        by: Compare with the mean of the pictures, or take the best of them for each neighbor.
        landmarks: Distinct landmarks to return.
        only: Ids of the landmarks that may answer.
    """
    params = _params(k, landmarks, only) | {"together": by}
    return client.ask(_post("v1/predict", Answer, params=params, files=_form(pictures)))


def predict_batch(
    client: AnyClient,
    pictures: Sequence[bytes | Path],
    k: int = 1,
    *,
    landmarks: int | None = None,
    only: Sequence[str] = (),
) -> Exchange[Outcomes]:
    """Find the landmarks of several pictures; those that the service is too full for are resent.

    Args:
        client: Who asks.
        pictures: 1 to as many as the service accepts (16 by default).
        k: As for ``predict``, for each, like the others.
        landmarks: Distinct landmarks to return.
        only: Ids of the landmarks that may answer.

    Returns:
        For each picture, in the same order, its answer or why there is none; named by the
        file, or by the picture's number where bytes were given.
    """
    return _ask_until_answered(client, _params(k, landmarks, only), _form(pictures))


def verify(client: AnyClient, picture: Picture, landmark: str) -> Exchange[Verification]:
    """Tell whether a picture shows one landmark.

    Args:
        client: Who asks.
        picture: Its bytes, its path, or one of the gallery.
        landmark: The landmark's id; refused with 422 where the gallery has no such landmark.
    """
    query = _query(picture, {"landmark": landmark})
    return client.ask(_post("v1/verify", Verification, **query))


def verify_together(
    client: AnyClient,
    pictures: Sequence[bytes | Path],
    landmark: str,
    *,
    by: Literal["mean", "max"] = "mean",
) -> Exchange[Verification]:
    """Tell whether several pictures of one thing show one landmark.

    Args:
        client: Who asks.
        pictures: As for ``predict_together``, like ``by``.
        landmark: As for ``verify``.
        by: Compare with the mean of the pictures, or take the best of them.
    """
    params = {"landmark": landmark, "together": by}
    return client.ask(_post("v1/verify", Verification, params=params, files=_form(pictures)))


def embed(client: AnyClient, picture: Picture) -> Exchange[Embedding]:
    """Get the vector of a picture.

    Args:
        client: Who asks.
        picture: Its bytes, its path, or one of the gallery.
    """
    return client.ask(_post("v1/embed", Embedding, **_query(picture, {})))


def landmarks(
    client: AnyClient, offset: int = 0, limit: int = 100, *, name: str = ""
) -> Exchange[Landmarks]:
    """List landmarks of the gallery.

    Args:
        client: Who asks.
        offset: Landmarks to skip.
        limit: Most landmarks to return, 1 to 1000.
        name: What their names contain, in any case and without accents.
    """
    params = {"offset": offset, "limit": limit} | ({"q": name} if name else {})
    return client.ask(_get("v1/landmarks", Landmarks, params=params))


def picture(client: AnyClient, picture: str, *, gallery: str | None = None) -> Exchange[bytes]:
    """Get a picture of the gallery as a small JPEG; refused with 404 where there is none.

    Args:
        client: Who asks.
        picture: Its id, as a neighbor has it.
        gallery: Build that must be serving; by default any.
    """
    params = {} if gallery is None else {"gallery": gallery}
    path = f"v1/pictures/{quote(picture, safe='')}"
    return client.ask(Question("GET", path, _jpeg, {"params": params}))


def ready(client: AnyClient) -> Exchange[Ready]:
    """Describe the gallery and embedder in use; waits until the service is ready."""
    return client.ask(_get("readyz", Ready))


def alive(client: AnyClient) -> Exchange[Alive]:
    """Tell that the process runs, ready or not."""
    return client.ask(_get("healthz", Alive))


def metrics(client: AnyClient) -> Exchange[str]:
    """Get the metrics in Prometheus's text format."""
    return client.ask(Question("GET", "metrics", lambda reply: reply.body.decode()))


def reload(client: AnyClient) -> Exchange[Ready]:
    """Make the service load the published gallery; needs an admin key.

    Refused with 409 where that gallery cannot be served.
    """
    return client.ask(_post("admin/reload", Ready))


def _ask_until_answered(
    client: AnyClient, params: Mapping[str, Any], form: Sequence[_Part]
) -> Exchange[Outcomes]:
    """Send a form, then again those of its pictures that the service had no room for.

    What was answered is kept, whatever becomes of the others.
    """
    attempts, pause = client.attempts(), 0.0
    outcomes: dict[int, Outcome] = {}
    left: Sequence[int] = range(len(form))
    while True:
        options = {"params": params, "files": [form[number] for number in left]}
        question = Question("POST", "v1/predict/batch", partial(_one_each, len(left)), options)
        try:
            found = yield from client.ask(question, attempts, pause)
        except ServiceError:
            if not outcomes:
                raise
            break
        outcomes |= zip(left, found, strict=True)
        waits = {number: wait for number in left if (wait := _wait(outcomes[number])) is not None}
        next_pause = attempts.pause(max(waits.values())) if waits else None
        if next_pause is None:
            break
        left, pause = list(waits), next_pause
    return Outcomes(outcomes=tuple(outcomes[number] for number in range(len(form))))


def _wait(outcome: Outcome) -> float | None:
    """Return the seconds after which to send a picture again; ``None`` if that is of no use."""
    problem = outcome.problem
    return (problem.retry_after or 0) if problem and problem.status in BUSY else None


def _post(path: str, shape: type[_T], **options: Any) -> Question[_T]:  # noqa: ANN401 - of httpx
    return Question("POST", path, partial(_shaped, shape), options)


def _get(path: str, shape: type[_T], **options: Any) -> Question[_T]:  # noqa: ANN401 - of httpx
    return Question("GET", path, partial(_shaped, shape), options)


def _shaped(shape: type[_T], reply: Reply) -> _T:
    return parse(shape, reply.body)


def _one_each(count: int, reply: Reply) -> Sequence[Outcome]:
    outcomes = parse(Outcomes, reply.body).outcomes
    if len(outcomes) != count:
        raise ValueError(f"{len(outcomes)} outcomes of {count} pictures")
    return outcomes


def _jpeg(reply: Reply) -> bytes:
    if reply.headers.get("content-type") != "image/jpeg":
        raise ValueError("the answer is no JPEG")
    return reply.body


def _params(k: int, landmarks: int | None, only: Sequence[str]) -> dict[str, Any]:
    params = {"k": k, "landmarks": landmarks, "only": list(only)}
    return {name: value for name, value in params.items() if value is not None}


def _query(picture: Picture, params: dict[str, Any]) -> dict[str, Any]:
    """Return httpx's options for a request about one picture."""
    if isinstance(picture, GalleryPicture):
        return {"params": params | {"picture": picture.id}}
    return {"params": params, "content": _bytes_of(picture)}


def _form(pictures: Sequence[bytes | Path]) -> list[_Part]:
    return [("file", (_name_of(p, number), _bytes_of(p))) for number, p in enumerate(pictures)]


def _bytes_of(picture: bytes | Path) -> bytes:
    return picture.read_bytes() if isinstance(picture, Path) else picture


def _name_of(picture: bytes | Path, number: int) -> str:
    if not isinstance(picture, Path):
        return str(number)
    return picture.name.encode(errors="replace").decode()  # a file's name may not be UTF-8

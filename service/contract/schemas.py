"""The shapes of what the service answers: the contract with its clients.

Nothing here is optional by accident. ``landmark_id``, ``name`` and ``confidence`` are in every
answer. ``probability`` and ``known`` need a gallery that was calibrated on held-out queries;
until one is, they are ``null``: the service has no grounds to say either "known" or "unknown",
and a made-up ``true`` would be believed. A client that wants to reject strangers before that
compares ``confidence`` with a threshold of its own.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Cosine = Annotated[float, Field(ge=-1, le=1)]


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Credit(_Shape):
    """Whose picture it is, and how it may be used; ``null`` where that is not told.

    Attributes:
        author: In the words of the gallery's list, as the other fields are.
        license: Its name or its address.
        title: Of the picture.
        url: Where it was published; as little to be trusted as any address in a list.
    """

    author: str | None
    license: str | None
    title: str | None
    url: str | None


class Neighbor(_Shape):
    """One picture of the gallery near the query.

    Attributes:
        landmark_id: The landmark it shows.
        name: Its name; the id again where the gallery has no name for it.
        picture: Its id in the gallery; ``/pictures/{picture}`` may show it.
        similarity: Its cosine with the query.
        credit: Whose picture it is; ``null`` where the gallery does not know.
    """

    landmark_id: str
    name: str
    picture: str
    similarity: Cosine
    credit: Credit | None


class Answer(_Shape):
    """What the service says about one picture.

    Attributes:
        landmark_id: What the gallery's ranking answers; by default the landmark of the nearest
            picture.
        name: Its name; the id again where the gallery has no name for it.
        confidence: Larger is surer. By default the cosine between the query and that picture, in
            [-1, 1]; of a vote the power mean of the cosines that spoke for the landmark; less what
            likeness to pictures of no landmark costs.
        probability: Chance that the answer is right; ``null`` while the gallery is not calibrated.
        known: Whether the answer is to be believed: ``false`` below the confidence that the
            calibration chose; ``null`` while the gallery is not calibrated.
        neighbors: The nearest pictures, nearest first; present only when asked for.
        gallery: Build id of the gallery that answered.
        embedder: Digest of the embedder that answered.
    """

    landmark_id: str
    name: str
    confidence: Annotated[float, Field(allow_inf_nan=False)]
    probability: Annotated[float, Field(ge=0, le=1)] | None = None
    known: bool | None = None
    neighbors: tuple[Neighbor, ...] | None = Field(
        default=None, exclude_if=lambda value: value is None
    )
    gallery: str
    embedder: str


class Alive(_Shape):
    """The process runs its event loop. It says nothing of whether it can answer."""

    status: str = "alive"


class Refusal(_Shape):
    """What is published and refused; what was served before still is.

    Attributes:
        gallery: Build id of the gallery that is published.
        reason: Stable name of what is wrong; the log tells more.
    """

    gallery: str
    reason: str


class Ready(_Shape):
    """The service can answer, and with what.

    Attributes:
        gallery: Build id of the gallery.
        rows: Pictures in the gallery.
        embedder: Digest of the embedder.
        device: Where the network runs.
        runtime: The engine that runs it.
        precision: Numbers the network computes with here.
        gallery_precision: Numbers it computed with when the gallery was built.
        refused: What is published but not served; present only while there is such a thing.
    """

    status: str = "ready"
    gallery: str
    rows: int
    embedder: str
    device: str
    runtime: str
    precision: str
    gallery_precision: str
    refused: Refusal | None = Field(default=None, exclude_if=lambda value: value is None)


class ParameterFault(_Shape):
    """One parameter of a request that is wrong: where it stands, and why, in words."""

    where: str
    message: str


class Problem(_Shape):
    """Why a request was not answered, as RFC 9457 ``application/problem+json``.

    Attributes:
        type: Always ``about:blank``: ``code`` tells problems apart.
        title: The phrase of the HTTP status.
        status: The HTTP status.
        code: Stable name of the problem, for programs.
        detail: What is wrong and what to do, for people.
        request_id: The id under which the service logged the request.
        faults: For ``bad-parameters``, each of them.
    """

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    faults: tuple[ParameterFault, ...] | None = Field(
        default=None, exclude_if=lambda value: value is None
    )


class Outcome(_Shape):
    """What became of one picture of several: an answer or a problem.

    Attributes:
        name: The file name that its sender gave it.
        answer: As of a picture by itself; ``null`` where there is a problem.
        problem: Why there is no answer; ``null`` where there is one.
    """

    name: str
    answer: Answer | None = None
    problem: Problem | None = None


class Outcomes(_Shape):
    """What became of several pictures, in the order in which they were sent."""

    outcomes: tuple[Outcome, ...]


class Landmark(_Shape):
    """One landmark that the gallery shows: its id, and its name for people."""

    landmark_id: str
    name: str


class Landmarks(_Shape):
    """A page of the landmarks that the gallery shows, in the order of their ids.

    Attributes:
        gallery: Build id of the gallery.
        total: How many landmarks it shows.
        offset: How many come before this page.
        landmarks: The page; empty past the end.
    """

    gallery: str
    total: int
    offset: int
    landmarks: tuple[Landmark, ...]

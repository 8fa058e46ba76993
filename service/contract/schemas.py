"""The schemas of the service's answers: the contract with its clients.

``landmark_id``, ``name`` and ``confidence`` are in every answer. ``probability`` and ``known``
need a gallery that was calibrated on held-out queries; until then they are ``null``, since
nothing tells "known" from "unknown". A client that wants to reject pictures of no landmark before
that compares ``confidence`` with a threshold of its own.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Cosine = Annotated[float, Field(ge=-1, le=1)]


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Credit(_Schema):
    """Author and license of a picture; each ``null`` where it is unknown.

    Attributes:
        author: As the list of the gallery's photographs has it, like the other fields.
        license: Its name or its address.
        title: Of the picture.
        url: Where it was published; not verified, like any address in a list.
    """

    author: str | None
    license: str | None
    title: str | None
    url: str | None


class Neighbor(_Schema):
    """One picture of the gallery near the query.

    Attributes:
        landmark_id: The landmark it shows.
        name: Its name; the id again where the gallery has no name for it.
        url: Address of a page about the landmark; ``null`` where the gallery has none.
        picture: Its id in the gallery; ``/pictures/{picture}`` may show it.
        similarity: Its cosine with the query; of several pictures, with the nearest of them.
        credit: Its author and license; ``null`` where the gallery has none.
    """

    landmark_id: str
    name: str
    url: str | None = None
    picture: str
    similarity: Cosine
    credit: Credit | None


class Answer(_Schema):
    """The landmark of one picture.

    Attributes:
        landmark_id: First of the gallery's ranking; by default the landmark of the nearest
            picture.
        name: Its name; the id again where the gallery has no name for it.
        url: Address of a page about it; ``null`` where the gallery has none.
        confidence: Larger is surer. By default the cosine between the query and that picture, in
            [-1, 1]; of a vote, the power mean of the cosines of the landmark's neighbors; minus the
            penalty for similarity to distractors.
        probability: Calibrated probability that the answer is right; ``null`` while the gallery is
            not calibrated.
        known: Whether the answer reaches the threshold that the calibration chose, of the
            probability or of ``confidence``; ``null`` while the gallery is not calibrated.
        neighbors: The nearest pictures, nearest first; present only with ``k``.
        landmarks: The best landmarks, each once by its nearest picture, beginning with the
            answer; present only with ``landmarks``, and fewer only where there are no more.
        gallery: Build id of the gallery that answered.
        embedder: Digest of the embedder that answered.
    """

    landmark_id: str
    name: str
    url: str | None = None
    confidence: Annotated[float, Field(allow_inf_nan=False)]
    probability: Annotated[float, Field(ge=0, le=1)] | None = None
    known: bool | None = None
    neighbors: tuple[Neighbor, ...] | None = Field(
        default=None, exclude_if=lambda value: value is None
    )
    landmarks: tuple[Neighbor, ...] | None = Field(
        default=None, exclude_if=lambda value: value is None
    )
    gallery: str
    embedder: str


class Verification(_Schema):
    """Whether a picture shows one landmark.

    Attributes:
        landmark_id: The landmark that was asked about.
        name: Its name; the id again where the gallery has no name for it.
        url: Address of a page about it; ``null`` where the gallery has none.
        similarity: Cosine with the most similar picture of the landmark, all of which are
            compared.
        probability: Calibrated probability of an answer of this confidence; ``null`` while the
            gallery is not calibrated.
        same: Whether the confidence reaches ``threshold``; ``null`` while the gallery is not
            calibrated, since nothing tells "same" from "other" then.
        threshold: Of the confidence, as the calibration chose it; likewise. The confidence is
            that of an answer from a gallery of this landmark alone: by default ``similarity``.
        gallery: Build id of the gallery.
        embedder: Digest of the embedder.
    """

    landmark_id: str
    name: str
    url: str | None = None
    similarity: Cosine
    probability: Annotated[float, Field(ge=0, le=1)] | None
    same: bool | None
    threshold: float | None
    gallery: str
    embedder: str


class Embedding(_Schema):
    """The vector of a picture.

    Attributes:
        vector: Of length 1; cosines of two vectors are their inner product. Only vectors of the
            same embedder can be compared.
        dimension: How many numbers it has.
        embedder: Digest of the embedder.
    """

    vector: tuple[float, ...]
    dimension: int
    embedder: str


class Alive(_Schema):
    """The process runs its event loop; ``Ready`` tells whether it can answer."""

    status: str = "alive"


class Refusal(_Schema):
    """What is published but refused; what was served before still is.

    Attributes:
        gallery: Build id of the published gallery.
        reason: Stable name of what is wrong; the log has details.
    """

    gallery: str
    reason: str


class Ready(_Schema):
    """The service can answer, and with what.

    Attributes:
        gallery: Build id of the gallery.
        rows: Pictures in the gallery.
        embedder: Digest of the embedder.
        device: Where the network runs.
        runtime: The engine that runs it.
        precision: Number format of the network here.
        gallery_precision: Number format when the gallery was built.
        refused: What is published but not served; present only while something is.
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


class ParameterFault(_Schema):
    """One wrong parameter of a request: its place, and what is wrong."""

    where: str
    message: str


class Problem(_Schema):
    """Why a request was not answered, as RFC 9457 ``application/problem+json``.

    Attributes:
        type: Always ``about:blank``; ``code`` distinguishes problems.
        title: The phrase of the HTTP status.
        status: The HTTP status.
        code: Stable name of the problem, for programs.
        detail: What is wrong and what to do, for people.
        request_id: The id of the request in the service's log.
        faults: For ``bad-parameters``, each wrong parameter.
        retry_after: Whole seconds after which to ask again; only where that may help.
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
    retry_after: int | None = Field(default=None, exclude_if=lambda value: value is None)


class Outcome(_Schema):
    """The outcome for one picture of several: an answer or a problem.

    Attributes:
        name: The file name that the client gave it.
        answer: As from ``/predict``; ``null`` where there is a problem.
        problem: Why there is no answer; ``null`` where there is one.
    """

    name: str
    answer: Answer | None = None
    problem: Problem | None = None


class Outcomes(_Schema):
    """The outcomes for several pictures, in the order in which they were sent."""

    outcomes: tuple[Outcome, ...]


class Landmark(_Schema):
    """One landmark of the gallery: its id, its name for people, a page about it if known."""

    landmark_id: str
    name: str
    url: str | None = None


class Landmarks(_Schema):
    """A page of the gallery's landmarks, in the order of their ids.

    Of those whose name holds a text, the ones whose name begins with it come first.

    Attributes:
        gallery: Build id of the gallery.
        total: Landmarks on all pages.
        offset: Landmarks before this page.
        landmarks: The page; empty past the end.
    """

    gallery: str
    total: int
    offset: int
    landmarks: tuple[Landmark, ...]

"""What a service answers, as frozen dataclasses.

The same fields as the schemas of the service, without importing them. A field that a newer service
adds is ignored; one that an older service does not know is ``None``.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """Author and license of a picture; each ``None`` where it is unknown.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbor:
    """One picture of the gallery near the query.

    Attributes:
        landmark_id: The landmark it shows.
        name: Its name; the id again where the gallery has no name for it.
        url: Address of a page about the landmark; ``None`` where the gallery has none.
        picture: Its id in the gallery, for :meth:`~cairn_client.Client.picture`.
        similarity: Its cosine with the query; of several pictures, with the nearest of them.
        credit: Its author and license; ``None`` where the gallery has none.
    """

    landmark_id: str
    name: str
    url: str | None = None
    picture: str
    similarity: float
    credit: Credit | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The landmark of one picture.

    Attributes:
        landmark_id: First of the gallery's ranking.
        name: Its name; the id again where the gallery has no name for it.
        url: Address of a page about it; ``None`` where the gallery has none.
        confidence: Larger is surer; by default the cosine with the nearest picture.
        probability: Calibrated probability that the answer is right; ``None`` while the gallery
            is not calibrated.
        known: Whether the answer reaches the threshold that the calibration chose, of the
            probability or of ``confidence``; ``None`` while the gallery is not calibrated.
        neighbors: The nearest pictures, nearest first, as many as asked for by ``k``.
        landmarks: The best landmarks, each once by its nearest picture, beginning with the
            answer, as many as asked for by ``landmarks``; ``None`` where none were.
        gallery: Build id of the gallery that answered.
        embedder: Digest of the embedder that answered.
    """

    landmark_id: str
    name: str
    url: str | None = None
    confidence: float
    probability: float | None = None
    known: bool | None = None
    neighbors: tuple[Neighbor, ...] | None = None
    landmarks: tuple[Neighbor, ...] | None = None
    gallery: str
    embedder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Whether a picture shows one landmark.

    Attributes:
        landmark_id: The landmark that was asked about.
        name: Its name; the id again where the gallery has no name for it.
        url: Address of a page about it; ``None`` where the gallery has none.
        similarity: Cosine with the most similar picture of the landmark.
        probability: Calibrated probability of an answer of this confidence; ``None`` while the
            gallery is not calibrated, like ``same`` and ``threshold``.
        same: Whether the confidence reaches ``threshold``.
        threshold: Of the confidence, as the calibration chose it. The confidence is that of an
            answer from a gallery of this landmark alone: by default ``similarity``.
        gallery: Build id of the gallery.
        embedder: Digest of the embedder.
    """

    landmark_id: str
    name: str
    url: str | None = None
    similarity: float
    probability: float | None
    same: bool | None
    threshold: float | None
    gallery: str
    embedder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """The process runs; :class:`Ready` tells whether it can answer."""

    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What is published but refused; what was served before still is.

    Attributes:
        gallery: Build id of the published gallery.
        reason: Stable name of what is wrong; the service's log has details.
    """

    gallery: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The service can answer, and with what.

    Attributes:
        status: ``ready``.
        gallery: Build id of the gallery.
        rows: Pictures in the gallery.
        embedder: Digest of the embedder.
        device: Where the network runs.
        runtime: The engine that runs it.
        precision: Number format of the network there.
        gallery_precision: Number format when the gallery was built.
        refused: What is published but not served.
    """

    status: str
    gallery: str
    rows: int
    embedder: str
    device: str
    runtime: str
    precision: str
    gallery_precision: str
    refused: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterFault:
    """One wrong parameter of a request: its place, and what is wrong."""

    where: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a request or one of its pictures was not answered.

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

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    faults: tuple[ParameterFault, ...] | None = None
    retry_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome for one picture of several: an answer or a problem.

    Attributes:
        name: The picture's file name, or its number where bytes were given.
        answer: ``None`` where there is a problem.
        problem: Why there is no answer; ``None`` where there is one.
    """

    name: str
    answer: Answer | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """The outcomes for several pictures, in the order in which they were given."""

    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Landmark:
    """One landmark of the gallery: its id, its name for people, a page about it if known."""

    landmark_id: str
    name: str
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Landmarks:
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

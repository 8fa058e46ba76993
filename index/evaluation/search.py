"""Search the gallery for one picture, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embedder.embedder import Embedder
from embedder.preprocess import read_file
from index.building.pipeline import DEFAULT_OPTIONS, PipelineOptions
from index.evaluation.defaults import SHOWN_NEIGHBORS
from index.gallery.gallery import Gallery
from index.gallery.recognize import recognize


@dataclass(frozen=True, slots=True)
class FoundPicture:
    """A picture of the gallery that was found.

    Attributes:
        similarity: Its cosine to the query.
        landmark_id: Its landmark.
        name: The name of that.
        picture: Its id.
        file: Where it lay when the gallery was built.
    """

    similarity: float
    landmark_id: str
    name: str
    picture: str
    file: str


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer to one picture.

    Attributes:
        landmark_id: The landmark.
        name: Its name.
        confidence: Larger is surer.
        probability: Of the landmark being right; ``None`` without a calibration.
        known: Whether the answer reaches the threshold; ``None`` without a calibration.
        neighbors: The nearest pictures, nearest first by the gallery's ranking.
        build_id: The gallery.
    """

    landmark_id: str
    name: str
    confidence: float
    probability: float | None
    known: bool | None
    neighbors: tuple[FoundPicture, ...]
    build_id: str

    def lines(self) -> Iterator[str]:
        """Word the answer for a terminal, a line for each neighbor."""
        words = [f"confidence {self.confidence:.4f}"]
        if self.probability is not None:
            words.append(f"probability {self.probability:.2f}")
        if self.known is not None:
            words.append("known" if self.known else "below the threshold")
        yield f"{self.name} ({self.landmark_id}): {', '.join(words)}"
        for one in self.neighbors:
            named = one.name if one.name == one.landmark_id else f"{one.name} ({one.landmark_id})"
            yield f"{one.similarity:7.4f}  {named}  {one.picture}  {one.file}"


def search(
    gallery: Gallery,
    embedder: Embedder,
    picture: Path,
    k: int = SHOWN_NEIGHBORS,
    options: PipelineOptions = DEFAULT_OPTIONS,
) -> SearchResult:
    """Answer one picture, with its ``k`` nearest neighbors.

    It may be as large as ``options`` say, by default as large as a picture of the gallery.

    Raises:
        PictureError: It cannot be used.
    """
    embedder = embedder.within(options.limits(gallery.manifest.limits))
    prepared = embedder.prepare(read_file(picture, embedder.limits))
    (answer,) = recognize(gallery, embedder.embed([prepared]), k)
    catalog, neighbors = gallery.catalog, []
    for row, similarity in zip(answer.rows.tolist(), answer.similarities.tolist(), strict=True):
        stored = catalog.row(row)
        file = Path(gallery.manifest.sources[stored.source].data) / stored.path
        name = catalog.name(int(catalog.landmarks[row]))
        neighbors.append(
            FoundPicture(similarity, stored.landmark_id, name, stored.picture_id, str(file))
        )
    return SearchResult(
        landmark_id=catalog.landmark_id(answer.landmark),
        name=catalog.name(answer.landmark),
        confidence=answer.confidence,
        probability=answer.probability,
        known=answer.known,
        neighbors=tuple(neighbors),
        build_id=gallery.build_id,
    )

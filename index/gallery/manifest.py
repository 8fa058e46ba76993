"""The manifest of a gallery: its kind, its embedder, its lists of photographs, its files."""

from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from embedder.artifacts.documents import FrozenModel, read_document, validate, write_document
from embedder.artifacts.files import FileRecord
from embedder.embedder import Embedder
from embedder.preprocess import PictureLimits
from index.ranking.calibration import Calibration, needs_distractors
from index.ranking.ranking import Ranking
from index.search.kinds import AUTO, resolve
from photographs import Layout

MANIFEST = "manifest.json"
SCHEMA_VERSION = 5
_OLDEST_SCHEMA = 2  # without `asked_kind`; 3 is without segments, 4 without `learned`

_DIGEST = r"^sha256:[0-9a-f]{64}$"


class EmbedderReference(FrozenModel):
    """The embedder that made the vectors, and how it was run.

    Attributes:
        name: For people.
        digest: A gallery opens only with this embedder.
        runtime: The engine that ran it.
        precision: Its arithmetic.
    """

    name: str
    digest: str = Field(pattern=_DIGEST)
    runtime: str
    precision: str

    @classmethod
    def of(cls, embedder: Embedder) -> Self:
        """Refer to an open embedder."""
        return cls(
            name=embedder.manifest.name,
            digest=embedder.digest,
            runtime=embedder.runtime,
            precision=embedder.precision,
        )


class ListReference(FrozenModel):
    """A list of photographs: one source of a gallery.

    Attributes:
        data: The data folder, absolute; paths in the catalog are relative to it.
        name: The list file, or ``folders`` where each folder is a landmark.
        layout: The layout of the folder; ``None`` in a gallery of an earlier release.
        digest: Of the ids and landmarks of the list, in its order; files are not in it.
        pictures: How many it lists.
        prefix: What stands before its ids in the gallery, so that they are there once.
        dropped: Whether it is no longer a source. Its place stays, since rows name sources by it.
    """

    data: str
    name: str
    digest: str = Field(pattern=_DIGEST)
    pictures: int = Field(ge=1)
    prefix: str = ""
    layout: Layout | None = None
    dropped: bool = False

    @property
    def key(self) -> tuple[str, str] | None:
        """Identity of a source: its folder and its list; ``None`` once it is dropped."""
        return None if self.dropped else (self.data, self.name)


class Recall(FrozenModel):
    """How the answers of a gallery compare with the exact ones, measured when it was built.

    Each query is a picture of the gallery that may not find itself. The exact answer is that of
    a matrix product over the same fp16 vectors.

    Attributes:
        queries: How many were searched; 0 for an exact gallery.
        recall_at_1: The share whose first row is the exact one, or as near but for rounding.
            Rows of a large class are nearly tied, so this may be low where the next two are
            perfect.
        class_agreement: The share whose first row shows the landmark of the exact one.
        worst_cosine_gap: By how much the similarity of the first row falls short, at worst.
    """

    queries: int = Field(ge=0)
    recall_at_1: float = Field(ge=0, le=1)
    class_agreement: float = Field(ge=0, le=1)
    worst_cosine_gap: float = Field(ge=0)


class DistractorReference(FrozenModel):
    """The pictures of no landmark that penalties are computed from, or their substitute.

    Attributes:
        data: The folder or list they came from, absolute; ``gallery`` for the centers of the
            gallery's own landmarks.
        pictures: How many of them could be read, or how many centers there are.
    """

    data: str
    pictures: int = Field(ge=1)


class Segment(FrozenModel):
    """Rows that were added to a gallery, in a folder of its own with files of the same names.

    Attributes:
        folder: Relative to the gallery.
        rows: Number of vectors.
    """

    folder: str = Field(pattern=r"^segments/[1-9][0-9]*$")
    rows: int = Field(ge=1)


class GalleryManifest(FrozenModel):
    """What a gallery is.

    Attributes:
        schema_version: Layout of this file; older ones are brought to this one when read.
        build_id: The name of its directory in the store.
        created: When it was published.
        kind: ``exact``: all vectors compared in fp16. ``fastscan``: candidates by 4-bit product
            quantization of all vectors, refined in fp16. ``factory``: candidates by an index of
            the user's choice, refined in fp16.
        factory: The same as a factory string of FAISS.
        asked_kind: The kind that was asked for, as :func:`index.search.kinds.resolve` takes it;
            a later build of the gallery asks for it again.
        k_factor: Candidates that are refined for the nearest row; ``None`` for ``exact``.
        recall: Against exact search; ``None`` where it was not measured.
        rows: Number of vectors in its files.
        segments: What was added to its first segment, whose files lie beside this one.
        removed: Number of dead rows: removed or replaced since, which no search finds.
        landmarks: Number of landmarks that a search can find.
        dimension: Length of a vector.
        embedder: What made the vectors.
        list: The list that it was first built from.
        added: Lists added since, in that order.
        thumbnail_side: Most pixels of a side of its thumbnails; 0 where it has none.
        unreadable: How many pictures of the list are left out because they cannot be read.
        limits: The largest picture that was read.
        ranking: How neighbors become an answer.
        distractors: What penalties are computed from, if anything. Its two npy files, as the
            file of vectors, have no version of their own: that of this manifest holds for them.
        calibration: Of its confidences, once it was learned.
        files: Record of every other file of the gallery, by its place in it.
    """

    schema_version: Literal[5] = 5
    build_id: str
    created: datetime
    kind: Literal["exact", "fastscan", "factory"] = "exact"
    factory: str = "SQfp16"
    asked_kind: str = AUTO
    k_factor: int | None = Field(default=None, ge=1)
    recall: Recall | None = None
    rows: int = Field(ge=1)
    segments: tuple[Segment, ...] = ()
    removed: int = Field(default=0, ge=0)
    landmarks: int = Field(ge=1)
    dimension: int = Field(ge=1)
    embedder: EmbedderReference
    list: ListReference
    added: tuple[ListReference, ...] = ()
    thumbnail_side: int = Field(default=0, ge=0)
    unreadable: int = Field(ge=0)
    limits: PictureLimits = PictureLimits()
    ranking: Ranking = Ranking()
    distractors: DistractorReference | None = None
    calibration: Calibration | None = None
    files: dict[str, FileRecord]

    @property
    def sources(self) -> tuple[ListReference, ...]:
        """All lists; the catalog refers to them by their index here."""
        return (self.list, *self.added)

    def folders(self, directory: Path) -> dict[Path, int]:
        """Return the folders of all segments of the gallery in ``directory``, with their rows."""
        added = {directory / segment.folder: segment.rows for segment in self.segments}
        return {directory: self.rows - sum(added.values()), **added}

    @model_validator(mode="after")
    def _rows_are_those_of_segments(self) -> Self:
        if sum(segment.rows for segment in self.segments) >= self.rows:
            raise ValueError("its segments have more rows than it")
        return self

    @model_validator(mode="after")
    def _penalties_need_distractors(self) -> Self:
        if self.distractors is None and needs_distractors(self.ranking, self.calibration):
            raise ValueError("a ranking or calibration with penalties needs distractors")
        return self


def write_manifest(directory: Path, manifest: GalleryManifest) -> None:
    """Write :data:`MANIFEST` into ``directory``."""
    write_document(directory / MANIFEST, manifest)


def read_manifest(directory: Path) -> GalleryManifest:
    """Read the manifest of the gallery in ``directory``.

    Raises:
        ArtifactMissingError: There is no manifest.
        ArtifactDamagedError: It is not a gallery's manifest.
        ArtifactMismatchError: Its schema version is not supported.
    """
    path = directory / MANIFEST
    content, _ = read_document(
        path, "a gallery manifest", oldest=_OLDEST_SCHEMA, newest=SCHEMA_VERSION
    )
    manifest = validate(path, GalleryManifest, {**content, "schema_version": SCHEMA_VERSION})
    if content["schema_version"] < 3:
        manifest = manifest.model_copy(update={"asked_kind": _likely_asked_kind(manifest)})
    return manifest


def _likely_asked_kind(old: GalleryManifest) -> str:
    """Return ``auto`` if that gives the kind of the gallery; else the kind."""
    auto = resolve(AUTO, old.rows, dimension=old.dimension)
    return AUTO if old.kind == auto.name else old.factory if old.kind == "factory" else old.kind

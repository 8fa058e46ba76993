"""A gallery of several segments against one of the same rows in one segment."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from embedder.artifacts.files import record, sha256_bytes
from embedder.errors import ArtifactDamagedError
from index.gallery.catalog import CatalogRow, CatalogWriter
from index.gallery.credits import CREDITS, write_credits
from index.gallery.distractors import DISTRACTORS, PENALTIES, penalties, write_array
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.manifest import (
    DistractorReference,
    EmbedderReference,
    GalleryManifest,
    ListReference,
    Segment,
    read_manifest,
    write_manifest,
)
from index.gallery.recognize import Recognition, recognize_by
from index.gallery.thumbnails import THUMBNAILS, ThumbnailWriter
from index.gallery.tombstones import TOMBSTONES, Tombstones, write_tombstones
from index.ranking.ranking import Ranking
from index.search.faiss_search import write_vectors
from index.search.kinds import Kind, resolve
from photographs import CREDIT_COLUMNS
from tests.unit.index.gallery.test_gallery import random_rows

DIGEST = sha256_bytes(b"the embedder")
DIMENSION = 32
KINDS = ("exact", "fastscan", "IVF16,PQ8x4fs;nprobe=16", "SQ8")


class World:
    """Pictures, their landmarks and their vectors, some of which are equal."""

    def __init__(self, count: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.vectors = random_rows(count, DIMENSION, seed)
        twins = rng.permutation(count)[: count // 5]
        self.vectors[twins] = self.vectors[twins[0]]
        self.twin = self.vectors[twins[0]]
        self.landmarks = [str(number) for number in rng.integers(1, 40, count)]
        self.ids = [f"{number:04x}" for number in rng.permutation(count)]

    def write(
        self, directory: Path, places: NDArray[np.int64], kind: Kind, codes_of: Path | None
    ) -> None:
        """Write the pictures at ``places`` as a segment."""
        directory.mkdir(parents=True, exist_ok=True)
        order = sorted(places.tolist(), key=lambda n: (int(self.landmarks[n]), self.ids[n]))
        vectors, shape = self.vectors[order], {"rows": len(order), "dimension": DIMENSION}
        write_vectors(directory / VECTORS, [vectors], kind=kind, codes_of=codes_of, **shape)
        with CatalogWriter(directory, {}) as catalog:
            catalog.add(
                [
                    CatalogRow(self.ids[n], self.landmarks[n], "a.jpg", bytes([n % 256] * 32), n, n)
                    for n in order
                ]
            )
        credited = [{"id": self.ids[n], "author": f"by {n}"} for n in order if n % 7 == 0]
        write_credits(directory, [pa.Table.from_pylist(credited, CREDIT_COLUMNS)])
        with ThumbnailWriter(directory) as thumbnails:
            thumbnails.add(self.ids[n].encode() for n in order)
        rounded = vectors.astype(np.float16).astype(np.float32)
        write_array(directory / PENALTIES, penalties([rounded], self.vectors[:5], 2))

    def publish(
        self,
        directory: Path,
        parts: list[NDArray[np.int64]],
        asked: str,
        dead: frozenset[str] = frozenset(),
    ) -> Gallery:
        """Write a gallery of these segments, with the pictures ``dead`` dead, and open it."""
        rows = sum(map(len, parts))
        kind = resolve(asked, rows, dimension=DIMENSION)
        folders = [directory, *(directory / f"segments/{n}" for n in range(1, len(parts)))]
        for folder, part in zip(folders, parts, strict=True):
            # what is trained first on all rows is trained on the same rows as by one segment
            codes_of = directory.parent / "trained" / VECTORS
            if kind.candidates and not codes_of.exists():
                self.write(codes_of.parent, np.arange(len(self.ids)), kind, None)
            self.write(folder, part, kind, codes_of if kind.candidates else None)
        write_array(directory / DISTRACTORS, self.vectors[:5])
        gallery = Gallery.of_files(directory, self.manifest(directory, parts, kind))
        removed = np.array(
            [row for row in range(rows) if gallery.catalog.picture_id(row) in dead], np.int64
        )
        write_tombstones(directory, Tombstones(rows=removed))
        manifest = self.manifest(directory, parts, kind).model_copy(
            update={"removed": len(removed)}
        )
        write_manifest(directory, manifest)
        return Gallery.open_directory(directory, embedder_digest=DIGEST)

    def manifest(
        self, directory: Path, parts: list[NDArray[np.int64]], kind: Kind
    ) -> GalleryManifest:
        """Describe the files that are there."""
        files = [path for path in directory.rglob("*.*") if path.name != "manifest.json"]
        return GalleryManifest(
            build_id=directory.name,
            created=datetime(2026, 11, 21, tzinfo=UTC),
            kind=kind.name,
            factory=kind.factory,
            k_factor=100,
            rows=sum(map(len, parts)),
            segments=tuple(
                Segment(folder=f"segments/{n}", rows=len(part))
                for n, part in enumerate(parts[1:], 1)
            ),
            landmarks=39,
            dimension=DIMENSION,
            embedder=EmbedderReference(
                name="tiny", digest=DIGEST, runtime="openvino", precision="f32"
            ),
            list=ListReference(data="/data", name="train.csv", digest=DIGEST, pictures=1),
            thumbnail_side=8,
            unreadable=0,
            distractors=DistractorReference(data="/other", pictures=5),
            files={str(path.relative_to(directory)): record(path) for path in sorted(files)},
        )


def both(
    tmp_path: Path, asked: str, dead_share: float, seed: int
) -> tuple[World, Gallery, Gallery]:
    """Publish the same pictures in one segment and in several, with the same dead ones."""
    rng = np.random.default_rng(seed)
    world = World(1200, seed)
    shuffled = rng.permutation(1200)
    parts = np.split(shuffled, np.sort(rng.choice(np.arange(1, 1199), 4, replace=False)))
    dead = frozenset(world.ids[n] for n in rng.permutation(1200)[: int(dead_share * 1200)])
    whole = world.publish(tmp_path / "whole", [shuffled], asked, dead)
    return world, whole, world.publish(tmp_path / "parts", parts, asked, dead)


def named(gallery: Gallery, rows: NDArray[np.int64]) -> list[list[str]]:
    """Return the ids of the pictures in rows."""
    return [[gallery.catalog.picture_id(row) for row in own] for own in rows.tolist()]


@pytest.mark.parametrize("asked", KINDS)
@pytest.mark.parametrize("dead", [0.0, 0.3])
@pytest.mark.parametrize("k", [1, 7, 1500])
def test_several_segments_answer_as_one(tmp_path: Path, asked: str, dead: float, k: int) -> None:
    """The same pictures and the same digits, with ties across segments and removed rows."""
    world, whole, parts = both(tmp_path, asked, dead, seed=k)
    queries = np.vstack([random_rows(40, DIMENSION, seed=9), world.twin[None]])
    for disk in (False, True):
        parts.expect_disk(expected=disk)
        one, several = whole.search(queries, k), parts.search(queries, k)
        assert several.rows.shape == one.rows.shape
        same = np.array(named(whole, one.rows)) == np.array(named(parts, several.rows))
        assert same.all()
        assert np.array_equal(one.similarities, several.similarities)


@pytest.mark.parametrize(
    "ranking",
    [
        Ranking(rule="vote", neighbors=5, power=2),
        Ranking(gallery_penalty=1.0, query_penalty=0.5, gallery_distractors=2),
        Ranking(gallery_penalty=40.0, gallery_distractors=2),
    ],
    ids=["vote", "penalties", "scan"],
)
@pytest.mark.parametrize("together", [False, True])
def test_recognition_is_the_same(tmp_path: Path, ranking: Ranking, together: bool) -> None:  # noqa: FBT001 (a case)
    """By votes and penalties, where every row is compared, of one picture and of several."""
    world, whole, parts = both(tmp_path, "exact", 0.2, seed=3)
    queries = np.vstack([random_rows(12, DIMENSION, seed=9), world.twin[None]])

    def answers(gallery: Gallery) -> list[tuple[object, ...]]:
        def tell(answer: Recognition) -> tuple[object, ...]:
            rows = named(gallery, np.stack([answer.rows])) + named(
                gallery, np.stack([answer.landmark_rows])
            )
            landmark = gallery.catalog.landmark_id(answer.landmark)
            return landmark, answer.confidence, answer.similarities.tolist(), rows

        found = recognize_by(ranking, gallery, queries, 9, landmarks=6, together=together)
        return [tell(answer) for answer in found]

    assert answers(whole) == answers(parts)


def test_a_part_is_the_same(tmp_path: Path) -> None:
    """Of some landmarks, and without a row."""
    world, whole, parts = both(tmp_path, "fastscan", 0.2, seed=4)
    ids = ["3", "12", "38"]
    found = []
    for gallery in (whole, parts):
        without = gallery.find_picture(world.ids[0])
        codes = [*gallery.catalog.landmarks_of_ids(ids).values()]
        part = gallery.part(codes, without=without)
        neighbors = part.search(world.vectors[:9], 6)
        shown = [part.catalog.landmark_id(code) for code in part.landmarks().tolist()]
        found.append(
            (len(part), shown, named(part, neighbors.rows), neighbors.similarities.tolist())
        )
    assert found[0] == found[1]
    assert found[0][1] == ids


def test_every_picture_keeps_what_belongs_to_it(tmp_path: Path) -> None:
    """Vector, catalog, credit, thumbnail, penalty; landmarks are in one order."""
    _, whole, parts = both(tmp_path, "exact", 0.1, seed=5)
    assert len(whole) == len(parts)
    assert whole.catalog.landmark_count == parts.catalog.landmark_count
    for code in range(whole.catalog.landmark_count):
        assert whole.catalog.landmark_id(code) == parts.catalog.landmark_id(code)
    assert whole.landmarks().tolist() == parts.landmarks().tolist()
    order = parts.catalog.sort(np.arange(1200))
    for row, other in enumerate(order.tolist()):
        mine, theirs = whole.catalog.row(row), parts.catalog.row(other)
        assert mine == theirs
        assert whole.credits
        assert parts.credits
        assert whole.credits[row] == parts.credits[other]
        assert whole.thumbnail(mine.picture_id) == parts.thumbnail(mine.picture_id)
        assert (parts.find_picture(mine.picture_id) is None) == (row in whole.tombstones.rows)
    assert np.array_equal(whole.vectors(np.arange(1200)), parts.vectors(order))
    assert whole.distractors
    assert parts.distractors
    assert np.array_equal(whole.distractors.penalties, parts.distractors.penalties[order])
    for code, rows in parts.rows_by_landmark().items():
        assert set(named(parts, rows[None])[0]) == set(
            named(whole, whole.rows_by_landmark()[code][None])[0]
        )


def test_all_mapped_files_are_read_ahead(tmp_path: Path) -> None:
    """Everything but the codes, which opening has read."""
    _, _, parts = both(tmp_path, "fastscan", 0.0, seed=6)
    vectors = 1200 * DIMENSION * 2
    assert vectors <= sum(parts.read_ahead()) < vectors * 1.1


@pytest.mark.parametrize("name", [VECTORS, "catalog.arrow", THUMBNAILS, PENALTIES, CREDITS])
def test_files_of_another_segment_are_refused(tmp_path: Path, name: str) -> None:
    """Each file has the rows of its own segment."""
    world, _, parts = both(tmp_path, "exact", 0.0, seed=7)
    first, second = (parts.directory / f"segments/{n}" / name for n in (1, 2))
    first.write_bytes(second.read_bytes())
    files = {**parts.manifest.files, f"segments/1/{name}": record(first)}
    manifest = parts.manifest.model_copy(update={"files": files})
    with pytest.raises(Exception, match=name) as told:
        Gallery.of_files(parts.directory, manifest)
    assert type(told.value).__name__ in {"ArtifactDamagedError", "ArtifactMismatchError"}
    assert world


def test_a_segment_that_is_missing_is_told(tmp_path: Path) -> None:
    """By the name of its file."""
    _, _, parts = both(tmp_path, "fastscan", 0.0, seed=8)
    (parts.directory / "segments/2" / VECTORS).unlink()
    with pytest.raises(Exception, match=r"segments/2/vectors\.faiss is missing"):
        Gallery.open_directory(parts.directory, embedder_digest=DIGEST)


def test_codes_of_another_kind_are_refused(tmp_path: Path) -> None:
    """A segment of a coded gallery has the codes of its kind."""
    world, _, parts = both(tmp_path, "fastscan", 0.0, seed=8)
    world.write(
        parts.directory / "segments/1", np.arange(9), resolve("exact", 9, dimension=1), None
    )
    manifest = read_manifest(parts.directory)
    with pytest.raises(ArtifactDamagedError, match="not those of a segment"):
        Gallery.of_files(parts.directory, manifest)


def test_the_last_name_of_a_landmark_counts(tmp_path: Path) -> None:
    """A segment may name landmarks of which it has no row."""
    row = CatalogRow("a", "7", "a.jpg", bytes(32), 1, 1)
    for folder, names in (("one", {"7": "Old", "9": "Nine"}), ("two", {"7": "New", "8": "Eight"})):
        (tmp_path / folder).mkdir()
        others = ["7"] if folder == "two" else []
        with CatalogWriter(tmp_path / folder, names, others=others) as catalog:
            number = "9" if folder == "one" else "8"
            rows = [replace(row, landmark_id=number)]
            catalog.add([row, *rows] if folder == "one" else rows)
    from index.gallery.catalog import Catalog

    joined = Catalog.open(tmp_path / "one", tmp_path / "two")
    assert [joined.name(code) for code in range(3)] == ["New", "Eight", "Nine"]
    assert joined.landmarks.tolist() == [0, 2, 1]
    assert TOMBSTONES

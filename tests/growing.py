"""A gallery that grows, shrinks and is compacted: an embedder without a network, and a model.

The embedder turns the bytes of a file into a vector, so that a history of many commands takes
milliseconds and a process can be forked in the middle of one.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from embedder.artifacts.files import sha256_bytes
from embedder.embedder import Embedder, Prepared
from embedder.preprocess import PictureLimits
from index.building.build import write_gallery
from index.building.compact import compact
from index.building.embedder_choice import EmbedderChoice, LazyEmbedder
from index.building.plan import RowPlan
from index.building.rebuild import rebuild
from index.building.recipe import BuildRecipe
from index.building.sources import merge_sources, read_source
from index.gallery.gallery import Gallery
from index.gallery.manifest import EmbedderReference, GalleryManifest
from index.gallery.store import Store
from index.maintenance.add import add
from index.maintenance.history import roll_back
from index.maintenance.remove import remove
from index.ranking.ranking import Ranking
from photographs import open_data

DIMENSION = 16
FOLDERS = ("first", "second")


class ByteEmbedder:
    """Embeds the bytes of a file; those of the same first byte are near each other."""

    limits = PictureLimits()
    dimension = DIMENSION

    def within(self, limits: PictureLimits) -> ByteEmbedder:
        """Set how large a picture may be."""
        self.limits = limits
        return self

    def prepare(self, data: bytes) -> Prepared:
        """Turn a file into what is embedded."""
        own, shared = hashlib.sha256(data).digest(), hashlib.sha256(data[:1]).digest()
        mixed = np.frombuffer(own, np.int8)[:DIMENSION] + 2.0 * np.frombuffer(shared, np.int8)[:16]
        return (mixed.astype(np.float32),)

    def embed(self, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        """Return unit rows."""
        rows = np.stack([one for (one,) in prepared])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


LAZY = LazyEmbedder(
    EmbedderReference(
        name="bytes", digest=sha256_bytes(b"bytes"), runtime="openvino", precision="f32"
    ),
    DIMENSION,
    Ranking(),
    lambda: nullcontext(cast("Embedder", ByteEmbedder())),
)


class ByteChoice(EmbedderChoice):
    """The choice of it."""

    def run_like(self, published: EmbedderReference) -> LazyEmbedder:
        """Run it."""
        return LAZY


CHOICE = ByteChoice(Path("bytes"))


def build_first(store: Store, data: Path, recipe: BuildRecipe) -> GalleryManifest:
    """Build a folder from nothing."""
    with store.writing():
        sources = merge_sources([read_source(open_data(data))])
        return write_gallery(store, RowPlan.read_all(sources), LAZY, recipe)


@contextmanager
def segments_of_any_size(*, segments: int = 4) -> Iterator[None]:
    """Let small galleries grow by segments, and be compacted after so many."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("writer", "compact"):
            patch.setattr(f"index.building.{module}.WHOLE_ROWS", 0)
        patch.setattr("index.building.compact.MAX_SEGMENTS", segments)
        yield


class World:
    """A store and its data folders, and what they should hold.

    Attributes:
        root: Holds all.
        store: The store.
        disk: Of each folder, the content of each file by landmark and name.
        live: Of each folder that the gallery has, likewise what a search should find.
        out: Of each of these, ids of removed pictures and landmarks.
    """

    def __init__(self, root: Path, seed: int, kind: str) -> None:
        self.rng = np.random.default_rng(seed)
        self.root, self.store = root, Store(root / "store")
        self.disk: dict[str, dict[str, bytes]] = {name: {} for name in FOLDERS}
        self.live: dict[str, dict[str, bytes]] = {}
        self.out: dict[str, set[str]] = {}
        self.states: dict[str, Any] = {}
        self.recipe = BuildRecipe(kind=kind)
        for name in FOLDERS:
            for number in range(30):
                self.write(name, self.new_name(name, number), self.new_content())
        build_first(self.store, root / FOLDERS[0], self.recipe)
        self.live[FOLDERS[0]] = dict(self.disk[FOLDERS[0]])
        self.out[FOLDERS[0]] = set()
        self.note()

    def new_name(self, folder: str, number: int) -> str:
        """Return an id: landmark and name; landmarks are in both folders, names are not."""
        return f"{self.rng.integers(1, 12)}/{folder}-{number:03d}"

    def new_content(self) -> bytes:
        """Draw a content; some are drawn again and again."""
        twins = self.rng.random() < 0.3
        return bytes([self.rng.integers(0, 6), *([7] if twins else self.rng.bytes(8))])

    def write(self, folder: str, name: str, content: bytes) -> None:
        """Write a file."""
        path = self.root / folder / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.disk[folder][name] = content

    def change_files(self, folder: str) -> None:
        """Change, delete and add some files of a folder."""
        names = sorted(self.disk[folder])
        for name in self.rng.permutation(names)[: self.rng.integers(0, 4)].tolist():
            if self.rng.random() < 0.5 or len(self.disk[folder]) < 9:
                self.write(folder, name, self.new_content())
            else:
                (self.root / folder / f"{name}.jpg").unlink()
                del self.disk[folder][name]
        for _ in range(self.rng.integers(0, 4)):
            number = int(self.rng.integers(100, 999))
            self.write(folder, self.new_name(folder, number), self.new_content())

    def note(self) -> None:
        """Remember the state of the builds that are new: also of one that was compacted at once."""
        for build_id in self.store.build_ids():
            self.states.setdefault(build_id, deepcopy((self.live, self.out)))

    def step(self) -> str:
        """Do something to the store, and return what."""
        does = [self.add, self.rebuild, self.remove, self.compact, self.roll_back]
        act = does[self.rng.choice(5, p=[0.3, 0.25, 0.25, 0.1, 0.1])]
        act()
        self.note()
        return act.__name__

    def add(self) -> None:
        """Add a folder, perhaps again."""
        folder = FOLDERS[self.rng.integers(0, 2)]
        self.change_files(folder)
        add(self.store, CHOICE, open_data(self.root / folder))
        self.live[folder], self.out[folder] = dict(self.disk[folder]), set()

    def rebuild(self) -> None:
        """Follow the files of all folders that the gallery has."""
        for folder in self.live:
            self.change_files(folder)
        left = {folder: self.left(folder, self.disk[folder]) for folder in self.live}
        if any(left.values()):
            rebuild(self.store, CHOICE)
            self.live = left

    def left(self, folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
        """Return what is not removed of some files of a folder."""
        out = self.out[folder]
        return {n: c for n, c in files.items() if n not in out and n.split("/")[0] not in out}

    def remove(self) -> None:
        """Remove some pictures, and perhaps a landmark."""
        ids = sorted(name for files in self.live.values() for name in files)
        pictures = self.rng.permutation(ids)[: self.rng.integers(1, 4)].tolist()
        landmarks = [pictures[0].split("/")[0]] if self.rng.random() < 0.4 else []
        before = deepcopy(self.out)
        for out in self.out.values():
            out.update(pictures, landmarks)
        left = {folder: self.left(folder, files) for folder, files in self.live.items()}
        if not any(left.values()):
            self.out = before
            return
        remove(self.store, pictures=pictures, landmarks=landmarks)
        self.live = left

    def compact(self) -> None:
        """Merge the segments."""
        compact(self.store)

    def roll_back(self) -> None:
        """Publish an earlier build."""
        earlier = [name for name in self.store.build_ids() if name < str(self.store.current())]
        if earlier:
            build_id = roll_back(self.store).build_id
            self.live, self.out = deepcopy(self.states[build_id])

    def pictures(self) -> dict[str, bytes]:
        """Return what a search should find: content by id."""
        return {name: content for files in self.live.values() for name, content in files.items()}

    def build_from_nothing(self) -> Store:
        """Build the live pictures from nothing, in another store."""
        target = self.root / "anew"
        shutil.rmtree(target, ignore_errors=True)
        for name, content in self.pictures().items():
            path = target / "data" / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        store = Store(target / "store")
        build_first(store, target / "data", self.recipe)
        return store


def rows_of(gallery: Gallery) -> dict[str, tuple[str, bytes]]:
    """Return landmark and digest of each live picture, by its id."""
    rows = [gallery.catalog.row(row) for row in gallery.live_rows().tolist()]
    assert len({row.picture_id for row in rows}) == len(rows) == len(gallery)
    return {row.picture_id: (row.landmark_id, row.sha256) for row in rows}


def answers(store: Store, queries: NDArray[np.float32], k: int) -> tuple[list[Any], list[Any]]:
    """Return the pictures and the similarities that each query finds."""
    with closing(Gallery.open(store.path, embedder_digest=None)) as gallery:
        found = gallery.search(queries, k)
        ids = [[gallery.catalog.picture_id(row) for row in own] for own in found.rows.tolist()]
        return ids, found.similarities.tolist()

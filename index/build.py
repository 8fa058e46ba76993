"""Build a gallery: stream the photographs, embed them, store the shards, publish the whole.

A build may be killed anywhere. Embedded pictures are kept in a journal (:mod:`index.journal`)
named after everything that decides the vectors, and the next build of the same list with the
same embedder goes on from there; readers see the old gallery until the new one is complete.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.digest import record
from embedder.embedder import Embedder
from embedder.errors import CatalogError, GalleryError
from embedder.photographs import Photograph, PhotographSet
from index.catalog import CATALOG, LANDMARKS, CatalogRow, CatalogWriter
from index.gallery import VECTORS, Gallery, write_vectors
from index.journal import SHARD_PICTURES, Journal, Shard
from index.manifest import EmbedderReference, GalleryManifest, ListReference, write_manifest
from index.store import Store
from index.stream import BATCH_PICTURES, embed_files, progress_bar
from index.unreadable import Unreadable, write_report

REPORT = "unreadable.csv"
"""Lists the pictures that a gallery lacks because they cannot be read, and why."""

DEFAULT_LISTS = ("train_clean.csv", "train.csv", "index.csv")
"""The gallery of a GLDv2 folder, unless another list is asked for: the first that is there."""

_MAX_UNREADABLE, _FEW_PICTURES = 0.01, 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BuildRecipe:
    """What is asked of a build beside its pictures and its embedder.

    Attributes:
        list_name: Which list of the data folder is the gallery; by default the first of
            :data:`DEFAULT_LISTS`.
        max_unreadable: The share of pictures that may be unreadable, in [0, 1]. By default
            one in a hundred, or five pictures if that is more.
        batch_pictures: Pictures that the network gets at once.
        readers: Threads that read and decode; 0 for one per core.
    """

    list_name: str | None = None
    max_unreadable: float | None = None
    batch_pictures: int = BATCH_PICTURES
    readers: int = 0

    def limit(self, total: int) -> float:
        """Return the share of ``total`` pictures that may be unreadable."""
        if self.max_unreadable is not None:
            return self.max_unreadable
        return max(_MAX_UNREADABLE, _FEW_PICTURES / total)


def build(
    store: Store, embedder: Embedder, data: PhotographSet, recipe: BuildRecipe | None = None
) -> GalleryManifest:
    """Build a gallery of the kind ``exact`` and publish it.

    The result does not depend on how often the build was killed before: the same photographs
    and the same embedder make the same files.

    Args:
        store: Where the gallery goes.
        embedder: Makes the vectors.
        data: The photographs.
        recipe: How; the defaults where it is ``None``.

    Returns:
        The manifest of the published gallery.

    Raises:
        StoreBusyError: Another process writes to the store.
        TooManyUnreadableError: Too many pictures cannot be read; what was published stays.
        GalleryError: None of the pictures can be read, or the store cannot be written.
        CatalogError: The list is missing or faulty.
    """
    try:
        with store.writing():
            return _build(store, embedder, data, recipe or BuildRecipe())
    except OSError as error:
        raise GalleryError(
            f"{error.filename or store.path} cannot be written: {error.strerror or error}; "
            "what was published is unchanged, and the same build goes on when this is mended"
        ) from error


def _build(
    store: Store, embedder: Embedder, data: PhotographSet, recipe: BuildRecipe
) -> GalleryManifest:
    name = recipe.list_name or _default_list(data)
    photographs = _photographs(data, name)
    listed = ListReference(
        data=str(data.directory.resolve()),
        name=name,
        digest=_list_digest(photographs),
        pictures=len(photographs),
    )
    maker = EmbedderReference(
        name=embedder.manifest.name,
        digest=embedder.digest,
        runtime=embedder.runtime,
        precision=embedder.precision,
    )
    directory = store.work / _journal_name(listed, maker)
    journal = Journal(directory, photographs, dimension=embedder.dimension)
    unreadable = _embed_missing(journal, embedder, recipe)
    manifest = _publish(store, journal, data, unreadable, (listed, maker))
    journal.discard()
    return manifest


def _default_list(data: PhotographSet) -> str:
    if data.layout == "folders":
        return "folders"
    for name in DEFAULT_LISTS:
        if (data.directory / name).is_file():
            return name
    raise CatalogError(data.directory, f"it holds none of {', '.join(DEFAULT_LISTS)}")


def _photographs(data: PhotographSet, name: str) -> list[Photograph]:
    """List the photographs that can be answers: those whose landmark is known."""
    listed = data.gallery(None if name == "folders" else name)
    photographs = [photograph for photograph in listed if photograph.landmark_id is not None]
    if not photographs:
        raise CatalogError(data.directory, f"no picture of {name} has a landmark")
    if left_out := len(listed) - len(photographs):
        _log.warning("%d pictures of %s show no known landmark; left out", left_out, name)
    return photographs


def _list_digest(photographs: Sequence[Photograph]) -> str:
    """Digest the ids and landmarks of a list, in its order."""
    digest = hashlib.sha256()
    for photograph in photographs:
        try:
            digest.update(f"{photograph.id}\0{photograph.landmark_id}\n".encode())
        except UnicodeEncodeError as error:
            raise CatalogError(photograph.path, "its name is not text in UTF-8") from error
    return f"sha256:{digest.hexdigest()}"


def _journal_name(listed: ListReference, maker: EmbedderReference) -> str:
    """Name a journal after all that decides what is in it."""
    facts = [listed.data, listed.digest, SHARD_PICTURES, maker.model_dump()]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _embed_missing(journal: Journal, embedder: Embedder, recipe: BuildRecipe) -> Unreadable:
    """Complete the journal, and count the pictures that cannot be read."""
    total = len(journal.listed)
    unreadable = Unreadable(total, recipe.limit(total), journal.directory / REPORT)
    missing: list[int] = []
    for number in range(len(journal)):
        shard = journal.read_current(number)
        if shard is None:
            missing.append(number)
        else:
            unreadable.add(number, shard)
    left = sum(len(journal.photographs(number)) for number in missing)
    if left < total:
        _log.info(
            "%d of %d pictures were embedded before; going on from there", total - left, total
        )
    with progress_bar(total, done=total - left, what="embed") as bar:
        for number, shard in _embed_shards(journal, missing, embedder, recipe):
            journal.write(number, shard)
            unreadable.add(number, shard)
            bar.update(len(shard.pictures))
    return unreadable


def _embed_shards(
    journal: Journal, numbers: Sequence[int], embedder: Embedder, recipe: BuildRecipe
) -> Iterator[tuple[int, Shard]]:
    """Embed shards one after the other; no batch spans two of them."""
    size = recipe.batch_pictures
    cuts = {number: range(0, len(journal.photographs(number)), size) for number in numbers}
    stream = embed_files(
        (
            [photograph.path for photograph in journal.photographs(number)[start : start + size]]
            for number in numbers
            for start in cuts[number]
        ),
        embedder,
        readers=recipe.readers,
    )
    for number in numbers:
        batches = [next(stream) for _ in cuts[number]]
        pictures = [picture for batch in batches for picture in batch.pictures]
        vectors = np.concatenate([batch.vectors for batch in batches])
        yield number, Shard(journal.photographs(number), pictures, vectors)


def _publish(
    store: Store,
    journal: Journal,
    data: PhotographSet,
    unreadable: Unreadable,
    made_of: tuple[ListReference, EmbedderReference],
) -> GalleryManifest:
    """Write the gallery from the complete journal, look at it once more, and publish it."""
    listed, maker = made_of
    if unreadable.count == listed.pictures:
        raise GalleryError(f"none of the pictures can be read; {unreadable.write()} names them")
    build_id = store.new_build_id()
    with store.staging(build_id) as staged:
        with CatalogWriter(staged, data.names()) as catalog:
            blocks = _store_rows(journal, catalog, data.directory)
            rows = write_vectors(staged / VECTORS, journal.dimension, blocks)
        write_report(staged / REPORT, unreadable.lines())
        manifest = GalleryManifest(
            build_id=build_id,
            created=datetime.now(UTC).replace(microsecond=0),
            rows=rows,
            landmarks=catalog.landmark_count,
            dimension=journal.dimension,
            embedder=maker,
            list=listed,
            unreadable=unreadable.count,
            files={name: record(staged / name) for name in (VECTORS, CATALOG, LANDMARKS, REPORT)},
        )
        write_manifest(staged, manifest)
        Gallery.open_directory(staged, embedder_digest=maker.digest).close()
        directory = store.publish(build_id)
    if unreadable.count:
        _log.warning(
            "%d pictures cannot be read; %s names them", unreadable.count, directory / REPORT
        )
    return manifest


def _store_rows(
    journal: Journal, catalog: CatalogWriter, root: Path
) -> Iterator[NDArray[np.float32]]:
    """Write the usable pictures of each shard to the catalog and yield their vectors."""
    for number in range(len(journal)):
        shard = journal.read(number)
        usable = [place for place, picture in enumerate(shard.pictures) if picture.usable]
        catalog.add([_row(shard, place, root) for place in usable])
        yield shard.vectors[usable]


def _row(shard: Shard, place: int, root: Path) -> CatalogRow:
    photograph, picture = shard.photographs[place], shard.pictures[place]
    inside = photograph.path.is_relative_to(root)
    return CatalogRow(
        picture_id=photograph.id,
        landmark_id=photograph.landmark_id or "",
        path=(photograph.path.relative_to(root) if inside else photograph.path).as_posix(),
        sha256=picture.sha256,
        bytes=picture.bytes,
        mtime_ns=picture.mtime_ns,
    )

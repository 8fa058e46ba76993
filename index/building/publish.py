"""Publish an open gallery once more: the same files, another manifest."""

import logging
import os
import shutil
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

from embedder.artifacts.files import FileRecord, check_blocks, record
from index.gallery.gallery import Gallery
from index.gallery.manifest import GalleryManifest, write_manifest
from index.gallery.store import Store
from index.progress import progress_bar

_log = logging.getLogger(__name__)


def republish(
    store: Store,
    gallery: Gallery,
    *,
    write: Callable[[Path], None] = lambda _: None,
    no_publish: bool = False,
    **changes: object,
) -> GalleryManifest:
    """Publish a gallery with another manifest, unless that would say the same.

    Args:
        store: The gallery's store; the caller is its writer.
        gallery: Shares its files with the new build.
        write: Writes new or replaced files of the gallery into a directory.
        no_publish: Leave the new build unpublished.
        **changes: Fields of the manifest.

    Returns:
        The manifest of the new build, or of ``gallery`` if that would say the same.
    """
    before, build_id = gallery.manifest, store.new_build_id()
    with store.staging(build_id) as staged:
        write(staged)
        written = {path.name: record(path) for path in sorted(staged.iterdir())}
        files = {**link_files(gallery, staged, without=written), **written}
        facts = {"build_id": build_id, "created": now(), "files": dict(sorted(files.items()))}
        manifest = before.model_copy(update={**facts, **changes})
        if same_content(manifest, before):
            _log.info("nothing has changed; %s stays as it is", before.build_id)
            return before
        write_manifest(staged, manifest)
        Gallery.open_directory(staged, embedder_digest=None).close()
        store.publish(build_id, no_publish=no_publish)
    return manifest


def same_content(one: GalleryManifest, other: GalleryManifest) -> bool:
    """Compare two galleries without names, times and what was measured."""
    names = {"build_id", "created", "k_factor", "recall"}
    return one.model_dump(exclude=names) == other.model_dump(exclude=names)


def now() -> datetime:
    """Return the time of a manifest: UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def link_files(
    gallery: Gallery, directory: Path, *, without: Collection[str] = ()
) -> dict[str, FileRecord]:
    """Share the files of a gallery, but for some, with another one; return their records."""
    kept = {name: one for name, one in gallery.manifest.files.items() if name not in without}
    for name in kept:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        link(gallery.directory / name, directory / name)
    return kept


def link(source: Path, target: Path) -> None:
    """Give an immutable file a second name, or copy it where the file system has no hard links.

    The two builds share its bytes on disk: damage to one damages the other, and is detected in
    both by their digests.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def check_every_byte(gallery: Gallery) -> None:
    """Read all files of a gallery, with a progress bar.

    Raises:
        ArtifactError: One is missing or was altered.
    """
    files = gallery.manifest.files
    total = sum(expected.bytes for expected in files.values())
    with progress_bar(total, what="read", unit="B") as bar:
        for name, expected in files.items():
            before = bar.n
            for done in check_blocks(gallery.directory / name, expected):
                bar.update(before + done - bar.n)

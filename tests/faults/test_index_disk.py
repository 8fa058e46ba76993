"""``cairn-index build`` on a disk that takes no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from embedder.artifacts.files import check_files
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.manifest import read_manifest
from tests.conftest import ROOT
from tests.factories import photographs, tiny_embedder

LIMITED = """
import resource, sys
from index.cli import main
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(main())
"""
"""The command, in a process of which no file can grow past a limit, as on a full disk."""

PLENTY = 1 << 30


def build(
    data: Path, embedder: Path, store: Path, *more: str, max_file_bytes: int
) -> tuple[int, str]:
    """Build with a limit on every file; return the exit code and what was said."""
    flags = ("--data", data, "--embedder", embedder, "--store", store, *more)
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(max_file_bytes), "build", *map(str, flags)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    return ended.returncode, ended.stderr


def published(store: Path) -> Path:
    """Return the published build, every byte of it checked."""
    gallery = Gallery.open(store, embedder_digest=None)
    check_files(gallery.directory, gallery.manifest.files, deep=True)
    return gallery.directory


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Make an embedder, a few photographs and many."""
    root = tmp_path_factory.mktemp("work")
    embedder = tiny_embedder(root / "embedder", dimension=512)
    few = photographs(root / "few", landmarks=2, views=2)
    return embedder, few, photographs(root / "many", landmarks=6, views=102)


@pytest.mark.parametrize("what", ["the cache", "the vectors"])
def test_a_full_disk_leaves_the_published_gallery_alone(
    work: tuple[Path, Path, Path], tmp_path: Path, what: str
) -> None:
    """Whatever does not fit, the error is a sentence, and with room the build resumes."""
    embedder, few, many = work
    store, whole = tmp_path / "store", tmp_path / "whole"
    for data, where in ((few, store), (many, whole)):
        assert build(data, embedder, where, max_file_bytes=PLENTY)[0] == 0
    before = published(store)
    needed = (published(whole) / VECTORS).stat().st_size
    limit = {"the cache": needed // 2, "the vectors": needed - 1}[what]
    if what == "the vectors":  # the cache holds more bytes, and is written before
        late = "IDMap,PQ8x4fs"  # FAISS refuses it only after training
        code, said = build(many, embedder, store, "--kind", late, max_file_bytes=PLENTY)
        assert "FAISS cannot make" in said
    reason = {"the cache": "disk I/O error", "the vectors": "File too large"}[what]
    code, said = build(many, embedder, store, max_file_bytes=limit)
    assert code == 6, said
    assert said.splitlines()[-1].startswith("cairn-index: ")
    assert f": {reason}; what was published is unchanged" in said
    assert "Traceback" not in said
    assert published(store) == before
    assert not list((store / "builds").glob(".new-*"))
    code, said = build(many, embedder, store, max_file_bytes=PLENTY)
    assert code == 0
    assert "were embedded before" in said
    assert read_manifest(published(store)).files == read_manifest(published(whole)).files

"""Galleries that have grown by any history, against a build from nothing of the same pictures."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from embedder.artifacts.arrays import unit_rows
from embedder.preprocess import PictureLimits
from index.building.build import write_gallery
from index.building.compact import compact
from index.building.pipeline import PipelineOptions
from index.building.plan import RowPlan
from index.building.publish import same_content
from index.building.recipe import BuildRecipe
from index.building.sources import merge_sources, read_source
from index.gallery.gallery import VECTORS, Gallery
from index.gallery.manifest import read_manifest
from index.maintenance.add import add
from index.maintenance.remove import remove
from index.maintenance.verify import verify
from photographs import open_data
from tests.growing import (
    CHOICE,
    DIMENSION,
    FOLDERS,
    LAZY,
    World,
    answers,
    rows_of,
    segments_of_any_size,
)

BATCH = 25
HISTORIES = [
    *(pytest.param(n, id=f"{n}") for n in range(2)),
    *(pytest.param(n, id=f"{n}", marks=pytest.mark.full) for n in range(2, 20)),
]
"""Batches of histories: 50 of them in `make test-all`, 500 in `make test-full`."""


@pytest.mark.parametrize("batch", HISTORIES)
def test_any_history_ends_as_a_build_from_nothing(tmp_path: Path, batch: int) -> None:
    """Pictures, answers, digits and counts, with ties across segments and more asked for."""
    seen = set()
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        world = World(tmp_path / f"{seed}", seed, "SQ8" if seed % 3 == 0 else "exact")
        queries = unit_rows(world.rng.standard_normal((7, DIMENSION)))
        with segments_of_any_size():
            steps = [world.step() for _ in range(world.rng.integers(2, 8))]
        expected = {
            name: (name.split("/")[0], hashlib.sha256(content).digest())
            for name, content in world.pictures().items()
        }
        with closing(Gallery.open(world.store.path, embedder_digest=None)) as gallery:
            assert rows_of(gallery) == expected, (seed, steps)
            shown = {landmark for landmark, _ in expected.values()}
            assert len(gallery.landmarks()) == gallery.manifest.landmarks == len(shown)
            seen.add(len(gallery.manifest.segments))
            queries = np.concatenate([queries, gallery.vectors(gallery.live_rows()[:9])])
        anew = world.build_from_nothing()
        for k in (1, 6, len(expected) + 3):
            assert answers(world.store, queries, k) == answers(anew, queries, k), (seed, steps, k)
    assert {0, 1, 2} <= seen


def grown(world: World, data: str, *, whole: bool = False) -> None:
    """Add a folder as a segment, or to a whole gallery."""
    if whole:
        add(world.store, CHOICE, open_data(world.root / data))
        return
    with segments_of_any_size():
        add(world.store, CHOICE, open_data(world.root / data))


@pytest.mark.parametrize("kind", ["exact", "SQ8", "fastscan"])
def test_after_compact_the_files_are_those_of_a_build_from_nothing(
    tmp_path: Path, kind: str
) -> None:
    """Byte for byte: the digests of all files are equal."""
    world = World(tmp_path, 1, kind)
    grown(world, FOLDERS[1])
    with segments_of_any_size():
        world.change_files(FOLDERS[1])
        grown(world, FOLDERS[1])
    before = read_manifest(world.store.directory())
    assert before.segments
    assert before.removed
    compacted = compact(world.store)
    sources = merge_sources([read_source(open_data(world.root / name)) for name in FOLDERS])
    store = type(world.store)(tmp_path / "other")
    with store.writing():
        anew = write_gallery(store, RowPlan.read_all(sources), LAZY, world.recipe)
    assert same_content(compacted, anew)
    assert compacted.files[VECTORS] == anew.files[VECTORS]
    assert (compacted.removed, compacted.segments) == (0, ())
    assert compact(world.store).build_id == compacted.build_id


def test_an_added_folder_is_a_segment_and_all_else_is_shared(tmp_path: Path) -> None:
    """Every file of before has a second name; the new ones are those of the new rows."""
    world = World(tmp_path, 2, "exact")
    before = world.store.directory()
    grown(world, FOLDERS[1])
    after, manifest = world.store.directory(), read_manifest(world.store.directory())
    assert [(one.folder, one.rows) for one in manifest.segments] == [("segments/1", 30)]
    for name in read_manifest(before).files:
        if name != "unreadable.csv":
            assert (before / name).samefile(after / name)
    verify(world.store)
    with segments_of_any_size():
        remove(world.store, landmarks=[sorted(world.pictures())[0].split("/")[0]])
    written = [path for path in world.store.directory().rglob("*") if path.stat().st_nlink == 1]
    assert {path.name for path in written if path.is_file()} == {"manifest.json", "removed.npz"}


def test_a_small_gallery_is_written_whole(tmp_path: Path) -> None:
    """Which takes no longer than a segment."""
    world = World(tmp_path, 3, "exact")
    grown(world, FOLDERS[1], whole=True)
    assert read_manifest(world.store.directory()).segments == ()


def test_too_many_segments_are_merged(tmp_path: Path) -> None:
    """By the command that finds them; what it published first stays, for a rollback."""
    world = World(tmp_path, 4, "exact")
    with segments_of_any_size(segments=2):
        for number in range(3):
            world.write(FOLDERS[1], f"5/again-{number}", bytes([1, number]))
            manifest = add(world.store, CHOICE, open_data(world.root / FOLDERS[1]))
    assert (manifest.segments, manifest.removed) == ((), 0)
    assert world.store.current() == manifest.build_id
    assert len(world.store.build_ids()) == 5
    world.live[FOLDERS[1]] = dict(world.disk[FOLDERS[1]])
    with closing(Gallery.open(world.store.path, embedder_digest=None)) as gallery:
        assert rows_of(gallery).keys() == world.pictures().keys()


def test_many_dead_rows_are_left_out(tmp_path: Path) -> None:
    """Above a share of all rows."""
    world = World(tmp_path, 5, "exact")
    ids = sorted(world.pictures())
    with segments_of_any_size():
        assert remove(world.store, pictures=ids[:5]).removed == 5
        manifest = remove(world.store, pictures=ids[:12])
    assert (manifest.rows, manifest.removed) == (18, 0)


def test_codes_that_do_not_fit_are_trained_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gallery is then written whole."""
    world = World(tmp_path, 6, "SQ8")
    monkeypatch.setattr("index.building.writer.reuses_codes", lambda *_, **__: False)
    grown(world, FOLDERS[1])
    manifest = read_manifest(world.store.directory())
    assert (manifest.rows, manifest.segments) == (60, ())


def test_another_kind_is_written_whole(tmp_path: Path) -> None:
    """Codes of two kinds do not compare."""
    world = World(tmp_path, 7, "exact")
    with segments_of_any_size():
        recipe = BuildRecipe(kind="SQ8")
        manifest = add(world.store, CHOICE, open_data(world.root / FOLDERS[1]), recipe)
    assert (manifest.kind, manifest.segments) == ("factory", ())


def test_compact_keeps_the_limits_of_pictures(tmp_path: Path) -> None:
    """Else the next rebuild would leave out pictures that are larger than usual."""
    world = World(tmp_path, 8, "exact")
    recipe = BuildRecipe(pipeline=PipelineOptions(max_pixels=250_000_000))
    with segments_of_any_size():
        grown = add(world.store, CHOICE, open_data(world.root / FOLDERS[1]), recipe)
    assert grown.segments
    assert compact(world.store).limits == grown.limits == PictureLimits(max_pixels=250_000_000)

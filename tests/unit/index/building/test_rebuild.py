"""A published gallery brought up to date, without embedding anything twice."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import pytest

from embedder.embedder import Embedder
from embedder.errors import (
    ArtifactDamagedError,
    ArtifactMismatchError,
    GalleryError,
    NoGalleryError,
    TooManyUnreadableError,
)
from embedder.manifest import read_manifest, write_manifest
from index.building.build import build
from index.building.embedder_choice import EmbedderChoice
from index.building.extras import Extras
from index.building.publish import same_content
from index.building.rebuild import rebuild
from index.building.recipe import BuildRecipe
from index.building.segment import SegmentWriter
from index.building.unreadable import REPORT, ReportLine, read_left_out, write_report
from index.gallery.gallery import VECTORS
from index.gallery.manifest import GalleryManifest
from index.gallery.manifest import read_manifest as read_gallery
from index.gallery.manifest import write_manifest as write_gallery_manifest
from index.gallery.store import Store
from index.maintenance.add import add
from index.maintenance.remove import remove
from index.maintenance.verify import verify
from index.ranking.ranking import Ranking
from photographs import open_data
from tests.factories import photographs, tiny_embedder, view_bytes, write_tar
from tests.unit.index.conftest import count_embedded


def full(tmp_path: Path, embedder: Embedder, data: Path) -> GalleryManifest:
    """Build the same photographs from nothing."""
    return build(Store(tmp_path / "full"), embedder, open_data(data))


@pytest.mark.usefixtures("never")
def test_nothing_changed_is_nothing_done(store: Store, choice: EmbedderChoice) -> None:
    """The published build stays, and the network is not even loaded."""
    before = store.current()
    assert rebuild(store, choice).build_id == before == store.current()
    assert store.build_ids() == [before]
    assert not list(store.work.iterdir())


def test_only_what_changed_is_embedded_and_all_is_as_built_anew(
    store: Store,
    choice: EmbedderChoice,
    embedder: Embedder,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Changed, new, deleted and spoiled pictures, and a new landmark: the same files."""
    (data / "landmark-0/picture-0-0.jpg").write_bytes(view_bytes(0, 100))
    (data / "landmark-1/another.jpg").write_bytes(view_bytes(1, 101))
    (data / "landmark-2/picture-2-3.jpg").unlink()
    (data / "landmark-3/picture-3-3.jpg").write_bytes(b"")
    photographs(tmp_path / "more", landmarks=7, views=2)
    shutil.copytree(tmp_path / "more/landmark-6", data / "landmark-6")
    embedded = count_embedded(monkeypatch)
    manifest = rebuild(store, choice)
    assert sum(embedded) == 4
    assert manifest.unreadable == 1
    assert same_content(manifest, full(tmp_path, embedder, data))


@pytest.mark.usefixtures("never")
def test_a_touched_or_moved_picture_is_not_embedded(
    store: Store, choice: EmbedderChoice, embedder: Embedder, data: Path, tmp_path: Path
) -> None:
    """Another time with the same content is written down, and nothing more; so is a new folder."""
    os.utime(data / "landmark-0/picture-0-0.jpg", ns=(5, 5))
    moved = data.rename(tmp_path / "moved")
    manifest = rebuild(store, choice, data=[moved])
    assert manifest.list.data == str(moved)
    assert same_content(manifest, full(tmp_path, embedder, moved))
    vectors = [store.directory(name) / VECTORS for name in store.build_ids()]
    assert len(vectors) == 2
    assert vectors[0].samefile(vectors[1])


def test_pictures_that_are_packed_into_tars_are_not_embedded(
    embedder: Embedder, choice: EmbedderChoice, gldv2: Path, tmp_path: Path
) -> None:
    """Their size, time and content are the same there, and a changed one is noticed."""
    store, train = Store(tmp_path / "store"), gldv2 / "train"
    pictures = sorted(train.rglob("*.jpg"))
    for path in pictures:
        os.utime(path, (10, 10))
    first = build(store, embedder, open_data(gldv2))
    with tarfile.open(train / "images_000.tar", "w") as archive:
        for path in pictures:
            archive.add(path, path.relative_to(train).as_posix())
            path.unlink()
    with pytest.MonkeyPatch.context() as patch:
        embedded = count_embedded(patch)
        packed = rebuild(store, choice)
        assert sum(embedded) == 0
    assert packed.rows == first.rows == len(pictures) == 12
    assert same_content(packed, full(tmp_path, embedder, gldv2))
    assert verify(store, embedder).sample == 12
    with pytest.MonkeyPatch.context() as patch:
        embedded = count_embedded(patch)
        write_tar(train / "images_000.tar", {"0/0/0/000abc.jpg": view_bytes(0, 100)})
        changed = rebuild(store, choice, recipe=BuildRecipe(max_unreadable=1.0))
        assert (sum(embedded), changed.rows, changed.unreadable) == (1, 1, 11)


def test_a_renamed_picture_is_read_but_not_embedded(
    store: Store,
    choice: EmbedderChoice,
    embedder: Embedder,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its content is known, whatever it is called."""
    (data / "landmark-0").rename(data / "landmark-00")
    embedded = count_embedded(monkeypatch)
    manifest = rebuild(store, choice)
    assert sum(embedded) == 0
    assert same_content(manifest, full(tmp_path, embedder, data))


def test_a_change_of_the_same_size_and_time_is_found_by_content(
    store: Store, choice: EmbedderChoice, embedder: Embedder, data: Path, tmp_path: Path
) -> None:
    """Without --hash it cannot be seen, with it it is."""
    path = data / "landmark-0/picture-0-0.jpg"
    status, old = path.stat(), path.read_bytes()
    views = (view_bytes(landmark, 77) for landmark in range(100, 200))
    new = next(view for view in views if len(view) <= len(old))
    path.write_bytes(new.ljust(len(old), b"\0"))
    before = store.current()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert rebuild(store, choice).build_id == before
    manifest = rebuild(store, choice, by_content=True)
    assert manifest.build_id != before
    assert same_content(manifest, full(tmp_path, embedder, data))


def test_another_embedder_embeds_everything(store: Store, data: Path, tmp_path: Path) -> None:
    """The gallery is then that of a build with it."""
    directory = tiny_embedder(tmp_path / "other", seed=1)
    manifest = rebuild(store, EmbedderChoice(directory, precision="f32"))
    with_other = Embedder.load(directory, precision="f32")
    assert same_content(manifest, full(tmp_path, with_other, data))


def test_a_gallery_ranks_as_the_embedder_advises_that_it_is_rebuilt_with(
    store: Store, tmp_path: Path
) -> None:
    """What was chosen for other vectors is not taken over."""
    directory = tiny_embedder(tmp_path / "other", seed=1)
    advising = read_manifest(directory)[0].model_copy(update={"ranking": {"rule": "vote"}})
    write_manifest(directory, advising)
    manifest = rebuild(store, EmbedderChoice(directory, precision="f32"))
    assert manifest.ranking == Ranking(rule="vote")


def test_a_ranking_and_a_kind_outlive_another_way_to_run_the_embedder(
    embedder: Embedder, embedder_directory: Path, data: Path, tmp_path: Path
) -> None:
    """The vectors mean the same: what was chosen for them is not lost."""
    store, ranking = Store(tmp_path / "s"), Ranking(rule="vote", neighbors=3, power=2)
    asked = BuildRecipe(extras=Extras(ranking), kind="HNSW8")
    made = build(store, embedder, open_data(data), asked)
    _pretend_bf16(store)
    manifest = rebuild(store, EmbedderChoice(embedder_directory, precision="f32", threads=1))
    assert manifest.build_id != made.build_id
    assert manifest.ranking == ranking
    assert (manifest.kind, manifest.factory) == ("factory", made.factory)


@pytest.mark.parametrize("asked", ["exact", "fastscan"])
def test_a_kind_that_was_asked_for_stays(
    embedder: Embedder,
    choice: EmbedderChoice,
    data: Path,
    tmp_path: Path,
    asked: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where a gallery has grown to a size at which auto is another, and for other vectors."""
    store, other = Store(tmp_path / "s"), tiny_embedder(tmp_path / "other", seed=1)
    build(store, embedder, open_data(data), BuildRecipe(kind=asked))
    rows = {"exact": 31, "fastscan": 100_000}[asked]
    monkeypatch.setattr("index.search.kinds.AUTO_EXACT_ROWS", rows)
    more = photographs(tmp_path / "more", landmarks=8, views=1)
    assert add(store, choice, open_data(more)).kind == asked
    (data / "landmark-1/another.jpg").write_bytes(view_bytes(1, 101))
    assert rebuild(store, choice).kind == asked
    assert rebuild(store, EmbedderChoice(other, precision="f32", threads=1)).kind == asked


@pytest.mark.parametrize("unknown", ["runtime", "precision"])
def test_an_unknown_way_to_run_is_another_one(
    store: Store, choice: EmbedderChoice, data: Path, unknown: str
) -> None:
    """A rebuild embeds everything, and an addition says that only a rebuild can."""
    _pretend(store, **{unknown: "of tomorrow"})
    with pytest.raises(ArtifactMismatchError, match=r"only a rebuild.*of tomorrow"):
        add(store, choice, open_data(data))
    manifest = rebuild(store, choice)
    assert (manifest.embedder.runtime, manifest.embedder.precision) == ("openvino", "f32")


def _pretend_bf16(store: Store) -> None:
    """Let the published gallery say that its vectors were computed in bfloat16."""
    _pretend(store, precision="bf16")


def _pretend(store: Store, **run: str) -> None:
    """Let the published gallery say that its embedder was run in another way."""
    manifest = read_gallery(store.directory())
    made = manifest.embedder.model_copy(update=run)
    write_gallery_manifest(store.directory(), manifest.model_copy(update={"embedder": made}))


def test_lost_choices_are_logged_when_the_embedder_changes(
    embedder: Embedder, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Old and new ranking and kind are named where they differ, and only there."""
    other = EmbedderChoice(tiny_embedder(tmp_path / "other", seed=1), precision="f32")
    plain, chosen = Store(tmp_path / "plain"), Store(tmp_path / "chosen")
    build(plain, embedder, open_data(data))
    rebuild(plain, other)
    assert "not kept" not in caplog.text
    ranking = Ranking(rule="vote", neighbors=3, power=2)
    asked = BuildRecipe(extras=Extras(ranking), kind="HNSW8")
    build(chosen, embedder, open_data(data), asked)
    rebuild(chosen, other)
    assert "ranking was a vote of 3 to the power of 2 and is now top1" in caplog.text
    assert "kind was HNSW8 and is now auto" in caplog.text


def test_a_rebuild_stops_at_too_many_unreadable_pictures(
    store: Store, choice: EmbedderChoice, data: Path
) -> None:
    """The share is that of what is read, and what was published stays."""
    before = store.current()
    for view in range(6):
        (data / f"landmark-0/picture-0-{view}.jpg").unlink()
        (data / f"landmark-0/picture-0-{view}.jpg").touch()
    with pytest.raises(TooManyUnreadableError) as caught:
        rebuild(store, choice)
    assert (caught.value.unreadable, caught.value.total) == (6, 6)
    assert store.current() == before


@pytest.fixture
def spoiled(store: Store, choice: EmbedderChoice, data: Path) -> Store:
    """Publish the gallery without four pictures, each unreadable in its own way."""
    folder = data / "landmark-0"
    (folder / "picture-0-0.jpg").write_bytes(b"text")
    (folder / "picture-0-1.jpg").write_bytes(b"")
    (folder / "picture-0-2.jpg").unlink()
    (folder / "picture-0-2.jpg").symlink_to(folder / "nowhere.jpg")
    rebuild(store, choice)
    return store


def test_an_unreadable_picture_that_stays_as_it_is_costs_nothing(
    spoiled: Store, choice: EmbedderChoice, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the embedder nor a row is touched; once it is mended, it is embedded."""
    before = spoiled.current()
    monkeypatch.setattr(EmbedderChoice, "open", lambda _: pytest.fail("it was opened"))
    monkeypatch.setattr(SegmentWriter, "_vectors", lambda *_: pytest.fail("rows are written"))
    manifest = rebuild(spoiled, choice)
    assert (manifest.build_id, manifest.rows, manifest.unreadable) == (before, 27, 3)
    assert add(spoiled, choice, open_data(data)).build_id == before
    monkeypatch.undo()
    folder = data / "landmark-0"
    (folder / "picture-0-1.jpg").write_bytes(view_bytes(0, 1))
    (folder / "nowhere.jpg").write_bytes(view_bytes(0, 2))
    manifest = rebuild(spoiled, choice)
    assert (manifest.rows, manifest.unreadable) == (30, 1)
    assert [line.id for line in read_left_out(spoiled.directory() / REPORT)] == [
        "landmark-0/picture-0-0"
    ]


def test_a_gallery_of_pictures_that_stay_unreadable_is_refused(
    spoiled: Store, choice: EmbedderChoice, data: Path
) -> None:
    """The readable ones have been deleted."""
    for picture in data.rglob("*.jpg"):
        if not picture.name.startswith("picture-0-") or picture.stem[-1] > "2":
            picture.unlink()
    with pytest.raises(GalleryError, match=r"none of the pictures of .*data can be read"):
        rebuild(spoiled, choice)


def test_the_report_of_a_rebuild_is_that_of_a_build(
    spoiled: Store, choice: EmbedderChoice, embedder: Embedder, data: Path, tmp_path: Path
) -> None:
    """Whatever was known before; one of an earlier version is read and written anew."""
    (data / "landmark-3/picture-3-0.jpg").write_bytes(b"text")
    rebuild(spoiled, choice)
    full(tmp_path, embedder, data)
    reports = [store.directory() / REPORT for store in (spoiled, Store(tmp_path / "full"))]
    assert reports[0].read_bytes() == reports[1].read_bytes()
    write_report(tmp_path / REPORT, [ReportLine(*line[:3]) for line in read_left_out(reports[0])])
    left_out = read_left_out(tmp_path / REPORT)
    assert [line.source for line in left_out] == [-1] * 4
    assert not any(line.still_holds() for line in left_out)


def test_a_damaged_gallery_is_not_copied(store: Store, choice: EmbedderChoice) -> None:
    """A flipped bit would live on under a new digest."""
    path = store.directory() / VECTORS
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ArtifactDamagedError, match=VECTORS):
        rebuild(store, choice)


def test_an_empty_store_has_nothing_to_change(tmp_path: Path, choice: EmbedderChoice) -> None:
    """Rebuilding and removing need a published gallery."""
    store = Store(tmp_path / "empty")
    with pytest.raises(NoGalleryError):
        rebuild(store, choice)
    with pytest.raises(NoGalleryError):
        remove(store, pictures=["x"])


def test_a_rebuild_keeps_the_list_unless_another_is_asked_for(
    embedder: Embedder, choice: EmbedderChoice, gldv2: Path, tmp_path: Path
) -> None:
    """The options of the published build stay its options."""
    store = Store(tmp_path / "s")
    build(store, embedder, open_data(gldv2), BuildRecipe("train.csv"))
    (gldv2 / "train_clean.csv").write_text("landmark_id,images\n9,000abc\n")
    assert rebuild(store, choice).list.name == "train.csv"
    changed = rebuild(store, choice, BuildRecipe("train_clean.csv"))
    assert (changed.list.name, changed.rows) == ("train_clean.csv", 1)

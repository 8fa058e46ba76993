"""Credits travel from the lists into galleries, and stay with their pictures."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from embedder.embedder import Embedder
from embedder.errors import ArtifactDamagedError, CatalogError
from index.building.build import build
from index.building.embedder_choice import EmbedderChoice
from index.building.publish import same_content
from index.building.rebuild import rebuild
from index.gallery.credits import CREDITS, Credits
from index.gallery.gallery import Gallery
from index.gallery.store import Store
from index.maintenance.add import add
from index.maintenance.remove import remove
from index.maintenance.verify import verify
from photographs import Credit, open_data
from tests.factories import photographs

LINES = [
    ("000abc", "http://x/1", "Ann", "CC BY 3.0", "File:A.jpg"),
    ("elsewhere", "http://x/2", "Bob", "CC BY 3.0", "File:B.jpg"),
    ("230abc", "", "Ann", "", ""),
    ("120abc", "", "", "", ""),
]
KNOWN = {
    "000abc": Credit("Ann", "CC BY 3.0", "File:A.jpg", "http://x/1"),
    "230abc": Credit("Ann", None, None, None),
}


def attribute(directory: Path, lines: list[tuple[str, ...]]) -> None:
    """Write the file of credits of a data folder."""
    with (directory / "train_attribution.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "url", "author", "license", "title"), *lines])


def told(store: Store) -> dict[str, Credit]:
    """Return the credits of the published gallery by picture, as far as there are any."""
    gallery = Gallery.open(store.path, embedder_digest=None)
    assert gallery.credits is not None
    ids = gallery.catalog.column("picture_id").to_pylist()
    found = {name: gallery.credits[row] for row, name in enumerate(ids)}
    return {name: credit for name, credit in found.items() if credit is not None}


@pytest.fixture
def store(embedder: Embedder, gldv2: Path, tmp_path: Path) -> Store:
    """Build a gallery of which two pictures have a credit."""
    attribute(gldv2, LINES)
    store = Store(tmp_path / "s")
    build(store, embedder, open_data(gldv2))
    return store


def test_each_picture_gets_its_own_credit(store: Store) -> None:
    """Of pictures that are not in the gallery nothing is kept; a line of nothing is no credit."""
    assert told(store) == KNOWN


def test_a_gallery_without_credits_has_no_file_of_them(
    embedder: Embedder, gldv2: Path, tmp_path: Path
) -> None:
    """Nor where the credits that are there are of other pictures."""
    store = Store(tmp_path / "s")
    for lines in ([], LINES[1:2], LINES[3:]):
        attribute(gldv2, lines)
        assert CREDITS not in build(store, embedder, open_data(gldv2)).files
        assert Gallery.open(store.path, embedder_digest=None).credits is None


def test_credits_survive_growth_and_removal(
    store: Store, choice: EmbedderChoice, gldv2: Path, tmp_path: Path
) -> None:
    """What is added takes rows among them, and the old lists need not be there for it."""
    more = photographs(tmp_path / "more", landmarks=2, views=2)
    (more / "landmark-0").rename(more / "10")
    away = gldv2.rename(tmp_path / "away")
    add(store, choice, open_data(more))
    assert told(store) == KNOWN
    away.rename(gldv2)
    grown = rebuild(store, choice)
    assert told(store) == KNOWN
    assert rebuild(store, choice).build_id == grown.build_id
    remove(store, pictures=["230abc"])
    rebuild(store, choice)
    assert told(store) == {"000abc": KNOWN["000abc"]}
    assert verify(store).rows == 15


def test_each_source_tells_of_its_own_pictures(
    store: Store, choice: EmbedderChoice, gldv2: Path, tmp_path: Path
) -> None:
    """A file of credits may name a picture that the gallery has from another folder."""
    other = tmp_path / "other"
    place = other / "train/9/9/9/999abc.jpg"
    place.parent.mkdir(parents=True)
    shutil.copy(next(gldv2.rglob("000abc.jpg")), place)
    (other / "train.csv").write_text("id,url,landmark_id\n999abc,,9\n")
    attribute(other, [("999abc", "", "Zoe", "", ""), ("000abc", "", "Liar", "", "")])
    add(store, choice, open_data(other))
    assert told(store) == KNOWN | {"999abc": Credit("Zoe", None, None, None)}


def test_new_credits_are_a_change_without_embedding(
    store: Store,
    choice: EmbedderChoice,
    embedder: Embedder,
    gldv2: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rebuild follows the file, and makes what a build would make."""
    before = store.current()
    attribute(gldv2, [*LINES[:2], ("120abc", "", "Eve", "CC0", "")])
    other = Store(tmp_path / "other")
    built = build(other, embedder, open_data(gldv2))

    def fail(choice: EmbedderChoice) -> Embedder:
        raise AssertionError(f"{choice.directory} was opened")

    monkeypatch.setattr(EmbedderChoice, "open", fail)
    manifest = rebuild(store, choice)
    assert manifest.build_id != before
    assert same_content(manifest, built)
    assert told(store)["120abc"] == Credit("Eve", "CC0", None, None)


def test_a_faulty_file_of_credits_stops_the_build(
    store: Store, embedder: Embedder, gldv2: Path
) -> None:
    """With its line, before anything is embedded, and what was published stays."""
    before = store.current()
    with (gldv2 / "train_attribution.csv").open("a") as file:
        file.write("010abc,too short\n")
    with pytest.raises(CatalogError, match=r"train_attribution\.csv.*line 6"):
        build(store, embedder, open_data(gldv2))
    assert not list(store.work.iterdir())
    assert store.current() == before


def test_a_file_of_other_columns_or_rows_is_refused(store: Store) -> None:
    """Each row needs its place, or pictures would be credited to strangers."""
    path = store.directory() / CREDITS
    with pytest.raises(ArtifactDamagedError, match="12 credits for 13 rows"):
        Credits.open({path.parent: 13})
    path.unlink()
    with pa.ipc.new_file(str(path), pa.schema([("x", pa.int8())])):
        pass
    with pytest.raises(ArtifactDamagedError, match="columns"):
        Credits.open({path.parent: 12})

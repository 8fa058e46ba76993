"""Pictures in tars are found once, and listed as if they lay in folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embedder.errors import CatalogError
from embedder.preprocess import PictureLimits, read_file
from photographs import list_pictures, open_data
from photographs.prepare.prepare import Preparation, Selection, prepare
from photographs.tars import MEMBERS, read_members
from tests.factories import picture_bytes, write_tar


@pytest.fixture
def gldv2(tmp_path: Path) -> Path:
    """Make a GLDv2 folder: two pictures in tars, one unpacked, one missing; a query in a tar."""
    folder = tmp_path / "gldv2"
    write_tar(folder / "train/images_000.tar", {"./a/a/a/aaa1.jpg": picture_bytes(1)})
    write_tar(
        folder / "train/images_001.tar",
        {"a/a/a/aaa2.jpg": picture_bytes(2), "a/a/a/aaa9.jpg": picture_bytes(9)},
    )
    write_tar(folder / "test/images_000.tar", {"c/c/c/ccc1.jpg": picture_bytes(5)})
    unpacked = folder / "train/b/b/b/bbb3.jpg"
    unpacked.parent.mkdir(parents=True)
    unpacked.write_bytes(picture_bytes(3))
    (folder / "train.csv").write_text("id,landmark_id\naaa1,7\naaa2,7\nbbb3,8\nbbb4,8\n")
    (folder / "recognition_solution_v2.1.csv").write_text("id,landmarks,Usage\nccc1,7,Public\n")
    return folder


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Make a folder of two shards, with labels of both kinds, and a picture without any."""
    folder = tmp_path / "shards"
    write_tar(
        folder / "part-0.tar",
        {
            "0001.jpg": picture_bytes(1),
            "0001.cls": b"9\n",
            "0002.seg.png": b"no picture of its own",
            "0002.png": picture_bytes(2, kind="PNG"),
            "0002.json": json.dumps({"landmark_id": 10, "label": 3}).encode(),
        },
    )
    write_tar(
        folder / "part-1.tar",
        {
            "0003.json": b'{"label": "9"}',
            "0003.jpg": picture_bytes(3),
            "0004.jpg": picture_bytes(4),
            "0004.json": b"{",
        },
    )
    return folder


def test_pictures_of_gldv2_are_read_from_tars_and_folders(gldv2: Path) -> None:
    """A picture in a tar is taken from there, another from its folder, whether it is or not."""
    data = open_data(gldv2)
    pictures = {p.id: p.path for p in data.gallery()}
    for name, number in (("aaa1", 1), ("aaa2", 2), ("bbb3", 3)):
        assert read_file(pictures[name], PictureLimits()) == picture_bytes(number)
    assert pictures["bbb4"] == gldv2 / "train/b/b/b/bbb4.jpg"
    (query,) = data.queries()
    assert read_file(query.path, PictureLimits()) == picture_bytes(5)


def test_lists_for_prediction_find_pictures_in_tars(gldv2: Path) -> None:
    """Of ids, and of a whole folder."""
    (gldv2 / "mine.csv").write_text("id\nccc1\n")
    for source in (gldv2 / "mine.csv", gldv2 / "test"):
        (picture,) = list_pictures(source)
        assert (picture.id, read_file(picture.path, PictureLimits())) == ("ccc1", picture_bytes(5))


def test_headers_are_read_once(gldv2: Path) -> None:
    """The table of a tar is kept until the tar changes."""
    folder = gldv2 / "train"
    read_members(folder)
    tables = sorted((folder / MEMBERS).iterdir())
    times = [table.stat().st_mtime_ns for table in tables]
    assert [table.name for table in tables] == ["images_000.arrow", "images_001.arrow"]
    read_members(folder)
    assert [table.stat().st_mtime_ns for table in tables] == times
    write_tar(folder / "images_000.tar", {"a/a/a/aaa8.jpg": picture_bytes(8)})
    members = read_members(folder)
    assert members
    assert members.keys.to_pylist() == ["a/a/a/aaa8", "a/a/a/aaa2", "a/a/a/aaa9"]
    assert [
        table.stat().st_mtime_ns == time for table, time in zip(tables, times, strict=True)
    ] == [
        False,
        True,
    ]
    tables[1].write_bytes(b"damaged")
    again = read_members(folder)
    assert again
    assert again.files.equals(members.files)


def test_tables_that_cannot_be_kept_stop_nothing(gldv2: Path) -> None:
    """A file where the folder of the tables would be is as good as a disk that is read-only."""
    (gldv2 / "train" / MEMBERS).touch()
    assert len(open_data(gldv2).gallery()) == 4


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100])
def test_a_file_that_is_no_tar_is_refused_by_name(gldv2: Path, content: bytes) -> None:
    """Rather than that its pictures are missing."""
    (gldv2 / "train/images_002.tar").write_bytes(content)
    with pytest.raises(CatalogError, match=r"images_002\.tar: it is no tar"):
        open_data(gldv2).gallery()


def test_shards_are_a_data_folder(shards: Path) -> None:
    """Keys are ids, labels are landmarks, and what has none has no known landmark."""
    data = open_data(shards)
    assert data.layout == "shards"
    gallery = data.gallery()
    assert [(p.id, p.landmark_id) for p in gallery] == [
        ("0001", "9"),
        ("0003", "9"),
        ("0002", "10"),
        ("0004", None),
    ]
    assert read_file(gallery[1].path, PictureLimits()) == picture_bytes(3)
    assert [(q.id, q.landmark_ids) for q in data.queries()][2:] == [("0003", ("9",)), ("0004", ())]
    assert data.names() == {"9": "9", "10": "10"}


def test_a_list_of_shards_takes_some_of_their_pictures(shards: Path) -> None:
    """What the list says of a picture outranks its shard; another picture is named."""
    (shards / "mine.csv").write_text("id,landmark_id\n0004,11\n0001,9\n")
    data = open_data(shards)
    assert [(p.id, p.landmark_id) for p in data.gallery("mine.csv")] == [
        ("0001", "9"),
        ("0004", "11"),
    ]
    (shards / "mine.csv").write_text("id,landmark_id\n0001,9\n0005,9\n")
    with pytest.raises(CatalogError, match=r"line 3: there is no picture 0005"):
        data.gallery("mine.csv")


def test_a_key_of_two_pictures_is_refused(shards: Path) -> None:
    """Both places are named."""
    write_tar(shards / "part-2.tar", {"0003.jpg": picture_bytes(8)})
    with pytest.raises(CatalogError, match=r"part-1\.tar.*part-2\.tar.*both have the id 0003"):
        open_data(shards)


def test_a_folder_is_prepared_out_of_tars(gldv2: Path, shards: Path, tmp_path: Path) -> None:
    """The new folder has files; what is neither in a tar nor unpacked is not present."""
    selection = Selection(only_present=True)
    prepare(gldv2, tmp_path / "out", Preparation(selection=selection))
    prepared = open_data(tmp_path / "out")
    pictures = {p.id: p.path for p in prepared.gallery()}
    assert sorted(pictures) == ["aaa1", "aaa2", "bbb3"]
    assert pictures["aaa2"] == tmp_path / "out/train/a/a/a/aaa2.jpg"
    assert pictures["aaa2"].read_bytes() == picture_bytes(2)
    assert prepared.queries()[0].path.read_bytes() == picture_bytes(5)
    with pytest.raises(CatalogError, match="shards"):
        prepare(shards, tmp_path / "none", Preparation())

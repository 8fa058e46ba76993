"""A set with the counts of Google Landmarks v2: its shape, its pictures, and how it goes on."""

import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from embedder.errors import CatalogError
from photographs import open_data
from photographs.sample.full_size import (
    FullSize,
    class_sizes,
    list_drawings,
    write_full_size_set,
)
from photographs.sample.tiny_pictures import SIDE, draw_tiny, draw_tiny_scene

TINY = FullSize(scale=0.0005, seed=3)
"""790 training pictures of 41 landmarks, 381 of the index, 59 queries."""


def files_of(directory: Path) -> dict[str, bytes]:
    """Return the bytes of every picture, by its path."""
    found = directory.rglob("*.jpg")
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def test_the_whole_set_has_the_counts_and_the_spread_of_the_clean_list() -> None:
    """The published counts, and quartiles and extremes near those of train_clean.csv."""
    train, index, test = (list_drawings(FullSize(), split) for split in ("train", "index", "test"))
    sizes = np.bincount(train.landmarks)
    assert (len(sizes), sizes.sum(), sizes.min()) == (81_313, 1_580_470, 2)
    assert np.percentile(sizes, (25, 50, 75)).tolist() == [5, 9, 20]
    assert 4_000 < sizes.max() < 10_000
    assert (index.landmarks.max() + 1, len(index.ids)) == (101_302, 761_757)
    assert len(test.ids) == 117_577
    assert np.mean(test.landmarks >= 0) == pytest.approx(0.013, abs=1e-5)
    assert len(np.unique(np.concatenate([train.ids, index.ids, test.ids]))) == 2_459_804


def test_a_landmark_has_at_least_two_pictures_whatever_the_scale() -> None:
    """Rounding loses and adds no picture."""
    for landmarks, pictures in ((1, 2), (7, 14), (813, 15_805)):
        sizes = class_sizes(landmarks, pictures)
        assert (len(sizes), sizes.sum()) == (landmarks, pictures)
        assert sizes.min() >= 2


def test_pictures_of_a_landmark_are_distinct_and_resemble_each_other() -> None:
    """Nearer to each other than to those of another landmark, though none is the same."""

    def pixels(landmark: int, picture: int) -> np.ndarray:
        image = Image.open(io.BytesIO(draw_tiny(1, landmark, picture))).resize((8, 8))
        values = np.asarray(image, np.float64).ravel()
        values -= values.mean()
        return values / np.linalg.norm(values)

    views = np.array([[pixels(mark, n) for n in range(6)] for mark in range(20)])
    cosines = np.einsum("anx,bmx->abnm", views, views)
    same = cosines[np.arange(20), np.arange(20)]
    assert np.median(same[:, *np.triu_indices(6, 1)]) > 0.4
    assert abs(np.median(cosines[0, 1:])) < 0.1
    assert len({draw_tiny(1, mark, n) for mark in range(20) for n in range(20)}) == 400
    assert draw_tiny(1, 2, 3) == draw_tiny(1, 2, 3)
    assert draw_tiny(2, 2, 3) != draw_tiny(1, 2, 3)
    assert draw_tiny_scene(1, 2) not in {draw_tiny(1, 2, n) for n in range(3)}


def test_a_set_is_a_gldv2_folder(tmp_path: Path) -> None:
    """Lists and files agree, and every picture is a small JPEG."""
    told = write_full_size_set(tmp_path, TINY, workers=1)
    data = open_data(tmp_path)
    gallery, queries = data.gallery(), data.queries()
    assert told["drawn"] == 790 + 381 + 59
    assert {key: told[key] for key in ("train", "index", "test")} == {
        "train": len(gallery),
        "index": len(data.gallery("index.csv")),
        "test": len(queries),
    }
    sizes = Counter(picture.landmark_id for picture in gallery)
    expected = np.bincount(list_drawings(TINY, "train").landmarks)
    assert sorted(sizes.values()) == sorted(expected.tolist())
    shown = [query.landmark_ids for query in queries if query.landmark_ids]
    assert len(shown) == 59 // 4
    assert {mark for marks in shown for mark in marks} <= sizes.keys() == data.names().keys()
    assert len(set(data.names().values())) == len(sizes) == 41
    assert set(data.credits("train_clean.csv")["id"].to_pylist()) == {p.id for p in gallery}
    listed = [p.path for p in [*gallery, *data.gallery("index.csv")]] + [q.path for q in queries]
    files = files_of(tmp_path)
    assert sorted(files) == sorted(str(path.relative_to(tmp_path)) for path in listed)
    assert len(set(files.values())) == len(files)
    assert all(len(picture) < 2_000 for picture in files.values())
    pictures = [Image.open(io.BytesIO(path.read_bytes())) for path in listed[::50]]
    assert {(image.format, image.size) for image in pictures} == {("JPEG", (SIDE, SIDE))}


def test_a_killed_drawing_goes_on_where_it_was(tmp_path: Path) -> None:
    """Nothing that is there is drawn again, and the result is that of an undisturbed drawing."""
    set_of = "from photographs.sample import FullSize as F, write_full_size_set as w; from pathlib"
    run = f"{set_of} import Path; w(Path({str(tmp_path / 'a')!r}), F(0.0005, 3), workers=2)"
    script = f"if __name__ == '__main__':\n    {run.replace('; ', chr(10) + '    ')}\n"
    (tmp_path / "draw.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[4])}
    process = subprocess.Popen([sys.executable, str(tmp_path / "draw.py")], env=environment)
    while not any((tmp_path / "a").rglob("*.jpg")):
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1)  # the workers end with it
    before = files_of(tmp_path / "a")
    assert 0 < len(before) < 1_230
    assert not (tmp_path / "a" / "train_clean.csv").exists()
    whole = [name for name, data in before.items() if data]
    (tmp_path / "a" / whole[0]).write_bytes(b"")  # as a kill may leave others, too
    told = write_full_size_set(tmp_path / "a", TINY, workers=1)
    assert told["drawn"] == 1_230 - len(whole) + 1
    write_full_size_set(tmp_path / "b", TINY, workers=1)
    undisturbed = files_of(tmp_path / "b")
    assert {k: v for k, v in files_of(tmp_path / "a").items() if v} == undisturbed
    for path in (tmp_path / "b").glob("*.csv"):
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()
    assert write_full_size_set(tmp_path / "a", TINY, workers=1)["drawn"] == 0


def test_another_set_is_not_drawn_over_one(tmp_path: Path) -> None:
    """Neither a set of other sizes nor a folder with something else in it is touched."""
    write_full_size_set(tmp_path / "a", TINY, workers=1)
    with pytest.raises(CatalogError, match="was begun there"):
        write_full_size_set(tmp_path / "a", FullSize(scale=0.001, seed=3), workers=1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").touch()
    with pytest.raises(CatalogError, match="not empty"):
        write_full_size_set(tmp_path / "b", TINY, workers=1)


def test_a_disk_that_is_too_small_is_refused_before_the_first_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The space is compared with what is free."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(CatalogError, match="are needed"):
        write_full_size_set(tmp_path, TINY, workers=1)
    assert not list(tmp_path.rglob("*.jpg"))

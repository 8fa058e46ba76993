"""A prepared folder holds what was asked for, and reads like the one it was made of."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from embedder.errors import CairnError, CatalogError
from embedder.preprocess import PictureLimits, decode
from photographs import Photograph, open_data
from photographs.prepare.copies import CopyRecipe, make_copies, shrink
from photographs.prepare.prepare import Parts, Preparation, Selection, prepare, select
from photographs.prepare.split import CountsRecipe
from tests.factories import photographs, picture, picture_bytes
from trainer.cli import main

SIZES = {"7": 9, "30": 6, "4": 4, "12": 1}


@pytest.fixture
def gldv2(tmp_path: Path) -> Path:
    """Write a folder in the layout of GLDv2: four landmarks of 9, 6, 4 and 1 pictures."""
    folder = tmp_path / "gldv2"
    rows, clean = [], []
    for landmark, size in SIZES.items():
        names = [f"{int(landmark):02x}{number:014x}" for number in range(size)]
        for name in names:
            write(folder, "train", name, side=96)
            rows.append(f"{name},http://x/{name},{landmark}")
        clean.append(f"{landmark},{' '.join(names[::2])}")
    write(folder, "test", "feed000000000000", side=96)
    lists = {
        "train.csv": ["id,url,landmark_id", *rows],
        "train_clean.csv": ["landmark_id,images", *clean],
        "train_label_to_category.csv": ["landmark_id,category", "7,http://x/Category:Seven"],
        "recognition_solution_v2.1.csv": ["id,landmarks,Usage", "feed000000000000,7,Private"],
    }
    for name, lines in lists.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def write(folder: Path, split: str, name: str, *, side: int) -> None:
    """Write a picture where the layout wants it."""
    path = folder / split / name[0] / name[1] / name[2] / f"{name}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture_bytes(int(name[-4:], 16), side=side))


def sizes(listed: list[Photograph]) -> dict[str | None, int]:
    """Count the pictures of each landmark."""
    return dict(Counter(photograph.landmark_id for photograph in listed))


def test_a_prepared_folder_has_the_same_pictures_and_lists_shrink(
    gldv2: Path, tmp_path: Path
) -> None:
    """Every listed picture and query is there at the asked size, names and solution too."""
    out = tmp_path / "small"
    asked = Preparation(lists=("train.csv", "train_clean.csv"), copies=CopyRecipe(48))
    report = prepare(gldv2, out, asked)
    before, after = open_data(gldv2), open_data(out)
    for name, total in (("train.csv", 20), ("train_clean.csv", 11)):
        old, new = before.gallery(name), after.gallery(name)
        assert [(p.id, p.landmark_id) for p in new] == [(p.id, p.landmark_id) for p in old]
        assert len(new) == report["lists"][name] == total
    assert after.names() == {"7": "Seven"}
    pictures = [photograph.path for photograph in after.gallery("train.csv")]
    for path in [*pictures, *(query.path for query in after.queries())]:
        with Image.open(path) as image:
            assert image.size == (48, 48)
    assert len(after.queries()) == 1
    assert not (tmp_path / "small.part").exists()
    assert json.loads((out / "report.json").read_text()) == {
        "schema_version": 1,
        "pictures": 21,
        "unreadable": 0,
        "lists": {"train.csv": 20, "train_clean.csv": 11},
    }


@pytest.mark.parametrize(("measure", "size"), [("longest", (60, 30)), ("shortest", (120, 60))])
def test_a_copy_is_upright_plain_and_of_the_asked_size(measure: str, size: tuple[int, int]) -> None:
    """Orientation is baked in, EXIF is gone, and a picture that is small already stays so."""
    tall = picture(1, side=200).resize((200, 400))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "somebody"
    buffer = io.BytesIO()
    tall.save(buffer, "JPEG", exif=exif, quality=95)
    recipe = CopyRecipe(60, "longest" if measure == "longest" else "shortest", 95)
    with Image.open(io.BytesIO(shrink(buffer.getvalue(), recipe))) as copy:
        assert (copy.format, copy.mode, copy.size) == ("JPEG", "RGB", size)
        assert not copy.getexif()
        seen = np.asarray(copy.resize((8, 4), Image.Resampling.BOX)).astype(int)
    upright = tall.transpose(Image.Transpose.ROTATE_270).resize((8, 4), Image.Resampling.BOX)
    assert np.abs(seen - np.asarray(upright).astype(int)).mean() < 5
    kept = shrink(picture_bytes(1, side=40), recipe)
    assert decode(kept, limits=PictureLimits()).size == (40, 40)


def test_quality_is_that_of_the_jpeg() -> None:
    """A lower quality gives fewer bytes."""
    data = picture_bytes(1, side=200)
    lengths = [len(shrink(data, CopyRecipe(150, quality=quality))) for quality in (40, 90)]
    assert lengths[0] < 0.7 * lengths[1]


def test_without_a_side_files_are_linked(gldv2: Path, tmp_path: Path) -> None:
    """Lists can be made of a large folder without a second copy of it."""
    prepare(gldv2, tmp_path / "out", Preparation(queries=False))
    new = open_data(tmp_path / "out")
    for old, linked in zip(open_data(gldv2).gallery(), new.gallery(), strict=True):
        assert linked.path.samefile(old.path)
    assert not (tmp_path / "out" / "test").exists()
    assert not new.queries()


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), SIZES),
        (Selection(at_least=4), {"7": 9, "30": 6, "4": 4}),
        (Selection(landmarks=2), {"7": 9, "30": 6}),
        (Selection(pictures=3), {"7": 3, "30": 3, "4": 3, "12": 1}),
        (Selection(at_least=4, landmarks=2, pictures=5), {"7": 5, "30": 5}),
    ],
)
def test_a_selection_takes_what_it_says(
    gldv2: Path, selection: Selection, expected: dict[str, int]
) -> None:
    """By size of landmark, by number of landmarks, by pictures of each, and all together."""
    everything = open_data(gldv2).gallery("train.csv")
    taken = select(everything, selection, seed=1)
    assert sizes(taken) == expected
    assert taken == [photograph for photograph in everything if photograph in taken]


def test_a_total_is_drawn_by_its_seed(gldv2: Path) -> None:
    """So many of all, alike for the same seed, otherwise for another."""
    everything = open_data(gldv2).gallery("train.csv")
    drawn = [select(everything, Selection(total=8), seed=seed) for seed in (1, 1, 2)]
    assert [len(taken) for taken in drawn] == [8, 8, 8]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(select(everything, Selection(total=100), seed=1)) == 20


def test_only_what_is_present_is_taken(gldv2: Path, tmp_path: Path) -> None:
    """After a download of some of the tars the lists name pictures that are not there."""
    listed = open_data(gldv2).gallery("train.csv")
    for photograph in listed[::2]:
        photograph.path.unlink()
    asked = Preparation(lists=("train.csv",), selection=Selection(only_present=True))
    report = prepare(gldv2, tmp_path / "out", asked)
    assert report["unreadable"] == 0
    kept = [p.id for p in open_data(tmp_path / "out").gallery("train.csv")]
    assert kept == [p.id for p in listed[1::2]]


def test_folds_hold_every_landmark_and_leave_nothing_out(gldv2: Path, tmp_path: Path) -> None:
    """Each fold has its share; with what is without it, it is the list again."""
    prepare(gldv2, tmp_path / "out", Preparation(lists=("train.csv",), parts=Parts(folds=3)))
    data = open_data(tmp_path / "out")
    everything = data.gallery("train.csv")
    left_out = []
    for fold in range(3):
        kept_back = data.gallery(f"train_fold_{fold}.csv")
        learned = data.gallery(f"train_without_fold_{fold}.csv")
        assert sizes(kept_back)["7"] == 3
        assert sizes(kept_back)["30"] == 2
        assert sorted(p.id for p in [*kept_back, *learned]) == sorted(p.id for p in everything)
        left_out += [p.id for p in kept_back]
    assert sorted(left_out) == sorted(p.id for p in everything if p.landmark_id != "12")


def test_counts_are_the_sizes_of_their_lists(gldv2: Path, tmp_path: Path) -> None:
    """Three disjoint lists, of which the first has every landmark."""
    counts = CountsRecipe(kind="counts", train=10, validation=5, test=4)
    prepare(gldv2, tmp_path / "out", Preparation(lists=("train.csv",), parts=Parts(counts=counts)))
    data = open_data(tmp_path / "out")
    parts = [data.gallery(f"train_{name}.csv") for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [10, 5, 4]
    assert len({p.id for part in parts for p in part}) == 19
    assert set(sizes(parts[0])) == set(SIZES)


def test_unreadable_pictures_are_named_and_left_out(gldv2: Path, tmp_path: Path) -> None:
    """Below the limit they are in no list; above it nothing is put in place."""
    damaged = open_data(gldv2).gallery("train.csv")[:3]
    damaged[0].path.write_bytes(b"no picture")
    damaged[1].path.write_bytes(damaged[1].path.read_bytes()[:300])
    damaged[2].path.unlink()
    asked = {"lists": ("train.csv",), "copies": CopyRecipe(48), "parts": Parts(folds=2)}
    with pytest.raises(CatalogError, match=r"names 3 of 21 pictures.*more than 10\.0%"):
        prepare(gldv2, tmp_path / "strict", Preparation(**asked, max_unreadable=0.1))
    assert not (tmp_path / "strict").exists()
    report = prepare(gldv2, tmp_path / "strict", Preparation(**asked, max_unreadable=0.2))
    (tmp_path / "strict").rename(tmp_path / "out")
    assert (report["unreadable"], report["lists"]["train.csv"]) == (3, 17)
    named = (tmp_path / "out" / "unreadable.txt").read_text().splitlines()
    assert {Path(line.split("\t")[0]).stem for line in named} == {p.id for p in damaged}
    assert all(line.split("\t")[1] for line in named)
    for path in (tmp_path / "out").glob("train*.csv"):
        if "category" not in path.name:
            assert not {p.id for p in open_data(tmp_path / "out").gallery(path.name)} & {
                p.id for p in damaged
            }


def test_folders_stay_folders(tmp_path: Path) -> None:
    """One folder per landmark is selected, made smaller, and has lists of its folds."""
    data = photographs(tmp_path / "data", landmarks=3, views=4)
    (data / "landmark-1" / "more").mkdir()
    (data / "landmark-1" / "more" / "odd.png").write_bytes(picture_bytes(9, kind="PNG"))
    asked = Preparation(
        selection=Selection(landmarks=2, pictures=3), parts=Parts(folds=3), copies=CopyRecipe(32)
    )
    report = prepare(data, tmp_path / "out", asked, workers=2)
    new = open_data(tmp_path / "out")
    assert sizes(new.gallery()) == {"landmark-0": 3, "landmark-1": 3}
    assert report["lists"]["pictures.csv"] == 6
    assert sizes(new.gallery("pictures_fold_1.csv")) == {"landmark-0": 1, "landmark-1": 1}
    only = Preparation(lists=("pictures_fold_1.csv",))
    prepare(tmp_path / "out", tmp_path / "fold", only)
    assert len(open_data(tmp_path / "fold").gallery()) == 2


@pytest.mark.parametrize("copies", [CopyRecipe(32), None])
def test_ids_of_folders_stay_what_they_are(tmp_path: Path, copies: CopyRecipe | None) -> None:
    """Pictures that differ in nothing but the extension do not fall together; lists agree."""
    data = photographs(tmp_path / "data", landmarks=2, views=2)
    (data / "landmark-1" / "picture-1-0.png").write_bytes(picture_bytes(9, kind="PNG"))
    prepare(data, tmp_path / "out", Preparation(copies=copies))
    before, after = open_data(data), open_data(tmp_path / "out")
    assert [p.id for p in after.gallery()] == [p.id for p in before.gallery()]
    assert after.gallery("pictures.csv") == after.gallery()


def test_a_folder_is_not_written_over(gldv2: Path, tmp_path: Path) -> None:
    """Neither a finished one, nor one that was begun with other options."""
    (tmp_path / "out").mkdir()
    with pytest.raises(CatalogError, match="there already"):
        prepare(gldv2, tmp_path / "out", Preparation())
    (tmp_path / "other.part").mkdir()
    with pytest.raises(CatalogError, match="begun with other options"):
        prepare(gldv2, tmp_path / "other", Preparation())


def test_what_cannot_be_made_is_told_before_any_work(gldv2: Path, tmp_path: Path) -> None:
    """Nothing is left behind that would be in the way of the next try."""
    counts = CountsRecipe(kind="counts", train=100, validation=5)
    for asked in (
        Preparation(parts=Parts(counts=counts)),
        Preparation(selection=Selection(at_least=100)),
        Preparation(lists=("none.csv",)),
    ):
        with pytest.raises(CairnError):
            prepare(gldv2, tmp_path / "out", asked)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gldv2"]


def test_what_is_copied_is_not_copied_again(tmp_path: Path) -> None:
    """A copy that is there stays as it is, whoever made it."""
    (tmp_path / "a.jpg").write_bytes(picture_bytes(1))
    (tmp_path / "b.jpg").write_bytes(b"here already")
    jobs = [(tmp_path / "a.jpg", tmp_path / "b.jpg"), (tmp_path / "a.jpg", tmp_path / "c.jpg")]
    assert list(make_copies(jobs, CopyRecipe(32), workers=1)) == [(0, ""), (1, "")]
    assert (tmp_path / "b.jpg").read_bytes() == b"here already"
    assert (tmp_path / "c.jpg").stat().st_size > 0


@pytest.mark.slow
def test_a_killed_preparation_goes_on(tmp_path: Path) -> None:
    """Killed in the middle, the same command ends with the same files as one never killed."""
    data = tmp_path / "data"
    for number in range(300):
        write(data, "train", f"{number:016x}"[::-1], side=800)
    names = [path.stem for path in data.rglob("*.jpg")]
    rows = [f"{name},,{number % 5}\n" for number, name in enumerate(sorted(names))]
    (data / "train.csv").write_text("id,url,landmark_id\n" + "".join(rows))
    command = [sys.executable, "-m", "trainer", "prepare", "--data", str(data), "--side", "500"]
    command += ["--workers", "2", "--folds", "3", "--out"]

    killed = tmp_path / "killed"
    process = subprocess.Popen([*command, str(killed)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(killed.with_name("killed.part").rglob("*.jpg"))) < 40:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.exists()

    for out in (killed, tmp_path / "whole"):
        subprocess.run([*command, str(out)], check=True, stderr=subprocess.DEVNULL)
    trees = [
        {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for out in (killed, tmp_path / "whole")
    ]
    assert trees[0] == trees[1]
    assert len(trees[0]) == 300 + 7 + 3


def test_the_command_needs_no_options(gldv2: Path, tmp_path: Path) -> None:
    """All that is left out has a default that is allowed."""
    assert main(["prepare", "--data", str(gldv2), "--out", str(tmp_path / "out")]) == 0
    assert not list((tmp_path / "out").glob("*fold*"))


def test_the_command_does_what_its_options_say(
    gldv2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every option reaches the folder."""
    options = "--list train.csv --no-queries --at-least 2 --landmarks 3 --pictures 5 --total 9"
    options += " --folds 2 --counts 6,3 --side 40 --shortest --quality 80 --workers 1 --seed 3"
    arguments = ["--data", str(gldv2), "--out", str(tmp_path / "out"), *options.split()]
    assert main(["prepare", *arguments, "--max-unreadable", "0.5", "--only-present"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["lists"]["train.csv"] == report["pictures"] == 9
    assert report["lists"]["train_train.csv"] == 6
    assert "train_test.csv" not in report["lists"]
    assert "train_fold_1.csv" in report["lists"]
    for arguments in (["--counts", "5"], ["--landmarks", "1"], ["--side", "0"], ["--folds", "1"]):
        with pytest.raises(SystemExit, match="2"):
            main(["prepare", "--data", str(gldv2), "--out", str(tmp_path / "no"), *arguments])


def test_gldv2x_is_every_picture_of_the_clean_landmarks(gldv2: Path, tmp_path: Path) -> None:
    """Drawn from the two lists where it is no file; prepared, it is one, and says the same."""
    clean = gldv2 / "train_clean.csv"
    lines = [line for line in clean.read_text().splitlines() if not line.startswith("30,")]
    clean.write_text("\n".join(lines) + "\n")
    name = "train_gldv2x.csv"
    listed = open_data(gldv2).gallery(name)
    assert sizes(listed) == {"7": 9, "4": 4, "12": 1}
    assert {photograph.path.parts[-5] for photograph in listed} == {"train"}

    report = prepare(gldv2, tmp_path / "small", Preparation(lists=(name, "train_clean.csv")))
    assert report["lists"][name] == 14
    assert (tmp_path / "small" / name).is_file()
    found = open_data(tmp_path / "small").gallery(name)
    assert [(p.id, p.landmark_id) for p in found] == [(p.id, p.landmark_id) for p in listed]
    (gldv2 / "train.csv").unlink()
    with pytest.raises(CatalogError, match=r"train\.csv"):
        open_data(gldv2).gallery(name)


def test_landmarks_beside_an_unrelated_list_are_prepared(tmp_path: Path) -> None:
    """The layout is a choice."""
    folder = photographs(tmp_path / "data", landmarks=2, views=2)
    (folder / "train.csv").write_text("id,label\naaa,1\n")
    prepare(folder, tmp_path / "out", Preparation(layout="folders"))
    assert len(open_data(tmp_path / "out").gallery()) == 4

"""Write drawn photographs as a data folder in the layout of Google Landmarks v2."""

import csv
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image
from tqdm import tqdm

from photographs.sample.pictures import draw_landmark, draw_scene, landmark_name

_CATEGORY = "http://commons.wikimedia.org/wiki/Category:"
_LANDMARKS_OF_GLDV2 = 203_094


def write_sample_set(  # noqa: PLR0913 (the sizes of a set, each by its name)
    directory: Path,
    *,
    landmarks: int = 12,
    pictures: int = 24,
    queries: int = 6,
    scenes: int = 24,
    seed: int = 0,
    side: int = 256,
) -> None:
    """Draw a sample set: a gallery to train on, and queries to judge by.

    The lists are written last, so a folder that was broken off is not taken for a data folder.

    Args:
        directory: Where; made if missing. Files of an earlier set of the same sizes are replaced.
        landmarks: How many there are.
        pictures: How many of each are in ``train/``.
        queries: How many others of each are in ``test/``.
        scenes: How many queries show no landmark.
        seed: Of everything; another seed gives other landmarks.
        side: Length of the pictures' longer side in pixels.
    """
    train: list[tuple[str, str]] = []
    test: list[tuple[str, str]] = []
    total = landmarks * (pictures + queries) + scenes
    progress = tqdm(total=total, desc="drawing", unit=" pictures", leave=False)
    for landmark in range(landmarks):
        shown = _landmark_id(seed, landmark)
        for picture in range(pictures + queries):
            name = _picture_id(seed, landmark, picture)
            is_query = picture >= pictures
            (test if is_query else train).append((name, shown))
            image = draw_landmark(seed, landmark, picture, side)
            _save(image, directory / ("test" if is_query else "train"), name)
            progress.update()
    for picture in range(scenes):
        name = _picture_id(seed, "scene", picture)
        test.append((name, ""))
        _save(draw_scene(seed, picture, side), directory / "test", name)
        progress.update()
    progress.close()
    _write_lists(directory, sorted(train), sorted(test))
    names = landmark_categories(seed, landmarks)
    _write(directory / "train_label_to_category.csv", ("landmark_id", "category"), names)


def _write_lists(
    directory: Path, train: list[tuple[str, str]], test: list[tuple[str, str]]
) -> None:
    clean: dict[str, list[str]] = {}
    for name, landmark in train:
        clean.setdefault(landmark, []).append(name)
    usage = ("Private", "Private", "Public")
    solution = [(name, mark, usage[i % 3]) for i, (name, mark) in enumerate(test)]
    _write(directory / "test.csv", ("id",), ((name,) for name, _ in test))
    _write(directory / "recognition_solution_v2.1.csv", ("id", "landmarks", "Usage"), solution)
    _write(
        directory / "train_clean.csv",
        ("landmark_id", "images"),
        ((mark, " ".join(clean[mark])) for mark in sorted(clean, key=int)),
    )
    rows = ((name, "", mark) for name, mark in train)
    _write(directory / "train.csv", ("id", "url", "landmark_id"), rows)


def landmark_categories(seed: int, landmarks: int) -> list[tuple[str, str]]:
    """Give id and category of every landmark, the latter as an address, no two alike."""
    taken: set[str] = set()
    rows = []
    for landmark in range(landmarks):
        name = landmark_name(seed, landmark)
        while name in taken:
            name += " the Younger"
        taken.add(name)
        address = _CATEGORY + quote(name.replace(" ", "_"))
        rows.append((_landmark_id(seed, landmark), address))
    return rows


def _landmark_id(seed: int, landmark: int) -> str:
    """Give a number as arbitrary as GLDv2's, no two alike in a set."""
    return str((landmark * 7919 + seed * 104_729 + 4_211) % _LANDMARKS_OF_GLDV2)


def _picture_id(seed: int, landmark: int | str, picture: int) -> str:
    return sha256(f"{seed}/{landmark}/{picture}".encode()).hexdigest()[:16]


def _save(image: Image.Image, root: Path, name: str) -> None:
    path = root / name[0] / name[1] / name[2] / f"{name}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    quality = int(np.random.default_rng(int(name, 16)).integers(70, 94))
    image.save(path, quality=quality)


def _write(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)

"""Draw a folder with as many photographs and landmarks as Google Landmarks v2 has, or a share.

For rehearsals: what grows with the number of pictures, landmarks and queries is as large as there,
and the pictures are tiny. Sizes of landmarks are spread as in the clean list: quartiles 5, 9 and 20
pictures, some thousands at most. A killed drawing goes on where it was: folders that are complete
stand in a file of their own, and of the others only missing pictures are drawn.
"""

import json
import logging
import math
import os
import shutil
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from embedder.errors import CatalogError
from photographs.lists import BY_LANDMARK, write_csv
from photographs.sample.facades import PLANS, SYLLABLES
from photographs.sample.sample_set import landmark_id
from photographs.sample.tiny_pictures import draw_tiny, draw_tiny_scene
from photographs.workers import run_tasks

Numbers = NDArray[np.int64]

PICTURES = {"train": 1_580_470, "index": 761_757, "test": 117_577}
LANDMARKS = {"train": 81_313, "index": 101_302}
SHOWN = 0.013
"""Share of the queries that show a landmark; more in a small set, enough to calibrate by."""

_FEWEST_SHOWN = 100

_DRAWN = ".drawn"
_INDEX = 1 << 30  # number of the first landmark of the index, whose landmarks are others
_BLOCK = 4096  # bytes that a file takes, at least
_FOLDERS = 256
_USAGES = ("Private", "Private", "Public")
_PLACES = (*SYLLABLES[:2], *SYLLABLES[1:])
_NAMES = len(PLANS) * math.prod(map(len, _PLACES))
_FILE_SECONDS = 1e-4

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FullSize:
    """What is drawn.

    Attributes:
        scale: Share of the counts of Google Landmarks v2, in (0, 1].
        seed: Of everything; another seed gives other pictures under other names.
    """

    scale: float = 1.0
    seed: int = 0

    def pictures(self, split: str) -> int:
        """Count the pictures of a split."""
        return max(1, round(PICTURES[split] * self.scale))

    def sizes(self, split: str) -> Numbers:
        """Return the number of pictures of each landmark of a split, at least two, rising."""
        landmarks = max(1, round(LANDMARKS[split] * self.scale))
        return class_sizes(landmarks, max(self.pictures(split), 2 * landmarks))

    def shown(self) -> Numbers:
        """Return the landmark of each query that shows one; these queries come first."""
        rng = np.random.default_rng((self.seed, 7))
        queries = self.pictures("test")
        count = max(round(queries * SHOWN), min(_FEWEST_SHOWN, queries // 4))
        return rng.integers(0, len(self.sizes("train")), count)


@dataclass(frozen=True)
class Drawings:
    """The pictures of a split, in the order of their landmarks.

    Attributes:
        ids: ``(n,)`` the number that is the name of each, in hexadecimal.
        landmarks: ``(n,)`` what each shows, from 0; -1 for no landmark.
        numbers: ``(n,)`` which picture of its landmark each is.
    """

    ids: NDArray[np.uint64]
    landmarks: Numbers
    numbers: Numbers

    def names(self) -> list[str]:
        """Return the ids as they stand in lists: 16 hexadecimal digits."""
        return [f"{number:016x}" for number in self.ids.tolist()]


def class_sizes(landmarks: int, pictures: int) -> Numbers:
    """Spread pictures over landmarks as GLDv2's clean list does, at least two for each.

    >>> class_sizes(8, 100).tolist()
    [2, 4, 5, 7, 9, 14, 20, 39]
    """
    share = (np.arange(landmarks) + 0.5) / landmarks
    sizes = np.exp(np.interp(share, (0, 0.25, 0.5, 0.75), np.log((2, 5, 9, 20))))
    sizes *= np.clip(0.25 / (1 - share), 1, 11_000) ** 0.625
    more = (sizes - 2) * (pictures - 2 * landmarks) / np.sum(sizes - 2)
    ends = np.round(np.cumsum(2 + more)).astype(np.int64)
    return np.diff(ends, prepend=0)


def list_drawings(plan: FullSize, split: str) -> Drawings:
    """List the pictures of a split."""
    if split == "test":
        shown = plan.shown()
        scenes = plan.pictures("test") - len(shown)
        landmarks = np.append(shown, np.full(scenes, -1))
        numbers = np.arange(len(landmarks)) + (1 << 20)  # beyond those of the training pictures
    else:
        sizes = plan.sizes(split)
        landmarks = np.repeat(np.arange(len(sizes)), sizes)
        numbers = np.arange(len(landmarks)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    first = plan.seed << 34 | list(PICTURES).index(split) << 32 | 1
    return Drawings(_scatter(first + np.arange(len(landmarks))), landmarks, numbers)


def write_full_size_set(directory: Path, plan: FullSize, *, workers: int) -> dict[str, Any]:
    """Draw the set, or what is missing of it.

    The lists are written last, so an interrupted folder is not taken for a data folder.

    Args:
        directory: Where; made if missing.
        plan: What to draw.
        workers: Processes.

    Returns:
        The counts of the set, and how many pictures were drawn now.

    Raises:
        CatalogError: Another set was begun there, or the disk has too little space.
    """
    directory.mkdir(parents=True, exist_ok=True)
    done = _begin(directory, plan)
    folders = [f"{split}/{n:02x}" for split in PICTURES for n in range(_FOLDERS)]
    left = [folder for folder in folders if folder not in done]
    total = sum(plan.pictures(split) for split in PICTURES)
    _tell(directory, plan, total * len(left) // len(folders), workers)
    drawn = 0
    answers = run_tasks(partial(_draw_folder, directory, plan), left, workers=workers)
    with (
        closing(answers),
        (directory / _DRAWN).open("a") as file,
        tqdm(
            total=total,
            initial=total - total * len(left) // len(folders),
            unit="picture",
            mininterval=1,
        ) as bar,
    ):
        for folder, (listed, fresh) in zip(left, answers, strict=True):
            file.write(f"{folder}\n")
            file.flush()
            bar.update(listed)
            drawn += fresh
    if left or not (directory / "train_clean.csv").is_file():
        os.sync()
        _write_lists(directory, plan)
    counts = {split: plan.pictures(split) for split in PICTURES}
    return {"data": str(directory), "landmarks": len(plan.sizes("train")), **counts, "drawn": drawn}


def _begin(directory: Path, plan: FullSize) -> set[str]:
    """Return the folders that are complete."""
    path, asked = directory / _DRAWN, json.dumps(asdict(plan))
    if not path.is_file():
        if next(directory.iterdir(), None) is not None:
            raise CatalogError(directory, "it is not empty; give the name of a new folder")
        path.write_text(f"{asked}\n")
    begun, *folders = path.read_text().splitlines()
    if begun != asked:
        raise CatalogError(directory, f"a set of {begun} was begun there, not of {asked}")
    return set(folders)


def _tell(directory: Path, plan: FullSize, pictures: int, workers: int) -> None:
    """Say what will be drawn, and refuse where it does not fit."""
    if not pictures:
        return
    started, sample = time.perf_counter(), 64
    for number in range(sample):
        draw_tiny(plan.seed, number, 0)
    each = (time.perf_counter() - started) / sample + _FILE_SECONDS
    folders = min(pictures, len(PICTURES) * 16 * _FOLDERS)
    space, free = (pictures + 2 * folders) * _BLOCK, shutil.disk_usage(directory).free
    _log.info(
        "%d pictures are to be drawn: %.1f GB in as many files (%.0f GB are free), "
        "about %.0f minutes with %d processes",
        *(pictures, space / 1e9, free / 1e9, pictures * each / 60 / workers + 0.5, workers),
    )
    if space > free:
        raise CatalogError(directory, f"{space / 1e9:.1f} GB are needed, {free / 1e9:.1f} free")


def _draw_folder(directory: Path, plan: FullSize, folder: str) -> tuple[int, int]:
    """Draw what is missing of ``split/ab``; return how many pictures it has, and how many now."""
    split, prefix = folder.split("/")
    drawings = _sorted_drawings(plan, split)
    first, end = np.searchsorted(drawings.ids >> np.uint64(56), (n := int(prefix, 16), n + 1))
    root, drawn, made = f"{directory}/{split}/{prefix[0]}/{prefix[1]}", 0, ""
    for place in range(first, end):
        name = f"{drawings.ids[place]:016x}"
        parent = f"{root}/{name[2]}"
        if parent != made:
            os.makedirs(made := parent, exist_ok=True)  # noqa: PTH103 (millions: paths are text)
            there = {entry.name for entry in os.scandir(parent) if entry.stat().st_size}
        if f"{name}.jpg" in there:
            continue
        with open(f"{parent}/{name}.jpg", "wb", buffering=0) as file:  # noqa: PTH123 (the same)
            file.write(_draw(plan.seed, split, int(drawings.landmarks[place]), drawings, place))
        drawn += 1
    return int(end - first), drawn


def _draw(seed: int, split: str, landmark: int, drawings: Drawings, place: int) -> bytes:
    number = int(drawings.numbers[place])
    if landmark < 0:
        return draw_tiny_scene(seed, number)
    return draw_tiny(seed, landmark + _INDEX * (split == "index"), number)


@lru_cache(maxsize=1)
def _sorted_drawings(plan: FullSize, split: str) -> Drawings:
    drawings = list_drawings(plan, split)
    order = np.argsort(drawings.ids)
    return Drawings(drawings.ids[order], drawings.landmarks[order], drawings.numbers[order])


def _write_lists(directory: Path, plan: FullSize) -> None:
    """Write every list, the one that makes it a data folder last."""
    for split in ("index", "train"):
        categories = ((mark, _category(n)) for n, mark in enumerate(_landmark_ids(plan, split)))
        path = directory / f"{split}_label_to_category.csv"
        write_csv(path, ("landmark_id", "category"), categories)
    marks, shown = _landmark_ids(plan, "train"), plan.shown().tolist()
    names = list_drawings(plan, "test").names()
    truths = [*(marks[number] for number in shown), *[""] * (len(names) - len(shown))]
    queries = sorted(zip(names, truths, _USAGES * len(names), strict=False))
    write_csv(directory / "recognition_solution_v2.1.csv", ("id", "landmarks", "Usage"), queries)
    write_csv(directory / "test.csv", ("id",), ([name] for name in sorted(names)))
    marks, index = _landmark_ids(plan, "index"), list_drawings(plan, "index")
    rows = zip(index.names(), map(marks.__getitem__, index.landmarks.tolist()), strict=True)
    write_csv(directory / "index_image_to_landmark.csv", ("id", "landmark_id"), rows)
    write_csv(directory / "index.csv", ("id",), ([name] for name in index.names()))
    _write_train_lists(directory, plan)


def _write_train_lists(directory: Path, plan: FullSize) -> None:
    marks, names = _landmark_ids(plan, "train"), list_drawings(plan, "train").names()
    ends = np.cumsum(plan.sizes("train")).tolist()
    groups = list(zip(marks, [0, *ends], ends, strict=False))
    columns = ("id", "url", "author", "license", "title")
    write_csv(directory / "train_attribution.csv", columns, map(_credit, names))
    rows = ((name, "", mark) for mark, first, end in groups for name in names[first:end])
    write_csv(directory / "train.csv", ("id", "url", "landmark_id"), rows)
    lines = ((mark, " ".join(names[first:end])) for mark, first, end in groups)
    write_csv(directory / "train_clean.csv", BY_LANDMARK, lines)


def _landmark_ids(plan: FullSize, split: str) -> list[str]:
    return [landmark_id(plan.seed + (split == "index"), n) for n in range(len(plan.sizes(split)))]


def _category(number: int) -> str:
    """Return the address of the category of a landmark, no two alike among 290,304."""
    number = number * 7919 % _NAMES
    number, kind = divmod(number, len(PLANS))
    place = ""
    for syllables in _PLACES:
        number, n = divmod(number, len(syllables))
        place += syllables[n]
    name = f"{list(PLANS)[kind]} of {place}"
    return f"http://commons.wikimedia.org/wiki/Category:{quote(name.replace(' ', '_'))}"


def _credit(name: str) -> tuple[str, ...]:
    author = f"Photographer {int(name[:4], 16)}"
    page = f"https://commons.wikimedia.org/wiki/File:{name}.jpg"
    return name, page, author, "https://creativecommons.org/licenses/by/4.0/", f"File:{name}.jpg"


def _scatter(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Scatter numbers over 64 bits, no two to one place (the finalizer of SplitMix64)."""
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        mixed = (mixed ^ mixed >> np.uint64(shift)) * np.uint64(factor)
    return mixed

"""Write drawn photographs as a data folder in the layout of Google Landmarks v2."""

from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from tqdm import tqdm

from photographs.lists import write_csv, write_list
from photographs.photograph import Photograph
from photographs.sample.facades import build
from photographs.sample.pictures import draw_landmark, draw_scene


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
    """Draw a sample set: a gallery to train on, and queries to evaluate with.

    The lists are written last, so an interrupted folder is not taken for a data folder.

    Args:
        directory: Where; made if missing. Files of an earlier set of the same sizes are replaced.
        landmarks: How many there are.
        pictures: How many of each are in ``train/``.
        queries: How many others of each are in ``test/``.
        scenes: How many queries show no landmark.
        seed: Of everything; another seed gives other landmarks.
        side: Length of the pictures' longer side in pixels.
    """
    photographs: dict[str, list[Photograph]] = {"train": [], "test": []}
    numbers = [(mark, n) for mark in range(landmarks) for n in range(pictures + queries)]
    numbers += [(landmarks, n) for n in range(scenes)]
    for mark, n in tqdm(numbers, "drawing", unit=" pictures", leave=False):
        is_scene = mark == landmarks
        name = sha256(f"{seed}/{'scene' if is_scene else mark}/{n}".encode()).hexdigest()[:16]
        split = "test" if is_scene or n >= pictures else "train"
        path = directory / split / name[0] / name[1] / name[2] / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = draw_scene(seed, n, side) if is_scene else draw_landmark(seed, mark, n, side)
        image.save(path, quality=70 + int(name, 16) % 24)
        label = None if is_scene else landmark_id(seed, mark)
        photographs[split].append(Photograph(name, path, label))
    _write_lists(directory, **photographs)
    names = landmark_categories(seed, landmarks)
    write_csv(directory / "train_label_to_category.csv", ("landmark_id", "category"), names)


def _write_lists(directory: Path, train: list[Photograph], test: list[Photograph]) -> None:
    test, usage = sorted(test, key=lambda query: query.id), ("Private", "Private", "Public")
    rows = [(query.id, query.landmark_id, usage[i % 3]) for i, query in enumerate(test)]
    write_csv(directory / "recognition_solution_v2.1.csv", ("id", "landmarks", "Usage"), rows)
    write_csv(directory / "test.csv", ("id",), [(query.id,) for query in test])
    write_list(directory / "train_clean.csv", train, by_landmark=True)
    write_list(directory / "train.csv", train, by_landmark=False)


def landmark_categories(seed: int, landmarks: int) -> list[tuple[str, str]]:
    """Return id and category of every landmark, no two alike; it has no address anywhere."""
    names: dict[str, str] = {}
    for landmark in range(landmarks):
        name, _ = build(seed, landmark)
        while name in names:
            name += " the Younger"
        names[name] = landmark_id(seed, landmark)
    return [(mark, "Category:" + quote(name.replace(" ", "_"))) for name, mark in names.items()]


def landmark_id(seed: int, landmark: int) -> str:
    """Return a number as arbitrary as those of GLDv2's 203,094, no two alike in a set."""
    return str((landmark * 7919 + seed * 104_729 + 4_211) % 203_094)

"""A tiny real embedder, and a small data folder in the layout of Google Landmarks v2."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedder.embedder import Embedder
from index.building.build import build
from index.building.embedder_choice import EmbedderChoice
from index.gallery.store import Store
from photographs import open_data
from tests.factories import photographs, picture, picture_bytes, tiny_embedder

LANDMARKS = ("9", "10", "700")
"""In the order of landmarks: as numbers, not as text."""
VIEWS = 4


@pytest.fixture(scope="session")
def embedder_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a real embedder artifact of eight dimensions."""
    return tiny_embedder(tmp_path_factory.mktemp("embedder"))


@pytest.fixture(scope="session")
def embedder(embedder_directory: Path) -> Iterator[Embedder]:
    """Open it in float32 on the CPU."""
    opened = Embedder.load(embedder_directory, device="cpu", precision="f32", threads=1)
    yield opened
    opened.close()


@pytest.fixture
def gldv2(tmp_path: Path) -> Path:
    """Write four views of three landmarks, and four queries: two known, one double, one of none."""
    root = tmp_path / "gldv2"
    root.mkdir()
    lines = ["id,url,landmark_id"]
    for number, landmark in enumerate(LANDMARKS):
        for view in range(VIEWS):
            name = f"{number}{view}0abc"
            _spread(root / "train", name, view_bytes(number, view))
            lines.append(f"{name},,{landmark}")
    (root / "train.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    (root / "train_label_to_category.csv").write_text(
        "landmark_id,category\n9,http://commons.wikimedia.org/wiki/Category:Hawa_Mahal\n"
    )
    queries = {"aaa0": (0, "9"), "bbb0": (1, "10"), "ccc0": (2, "700 9"), "ddd0": (50, "")}
    solution = ["id,landmarks,Usage"]
    for name, (pattern, truth) in queries.items():
        data = view_bytes(pattern, 99)
        _spread(root / "test", name, data)
        solution.append(f"{name},{truth},Public")
    (root / "recognition_solution_v2.1.csv").write_text("\n".join(solution) + "\n")
    (root / "test.csv").write_text("\n".join(["id", *queries]) + "\n")
    return root


def view_bytes(landmark: int, view: int) -> bytes:
    """Encode a view of a landmark that differs visibly from its other views."""
    own = picture(1000 + 100 * landmark + view)
    buffer = io.BytesIO()
    Image.blend(picture(landmark), own, 0.3).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _spread(root: Path, name: str, data: bytes) -> None:
    path = root / name[0] / name[1] / name[2] / f"{name}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def choice(embedder_directory: Path) -> EmbedderChoice:
    """Choose the tiny embedder."""
    return EmbedderChoice(embedder_directory, threads=1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Draw five landmarks, one folder each."""
    return photographs(tmp_path / "data", landmarks=5, views=6)


@pytest.fixture
def store(tmp_path: Path, data: Path, embedder: Embedder) -> Store:
    """Build them."""
    store = Store(tmp_path / "store")
    build(store, embedder, open_data(data))
    return store


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no embedder be opened."""

    def fail(choice: EmbedderChoice) -> Embedder:
        raise AssertionError(f"{choice.directory} was opened")

    monkeypatch.setattr(EmbedderChoice, "open", fail)


def count_embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the size of each batch that a network gets."""
    sizes: list[int] = []
    embed = Embedder.embed

    def counted(self: Embedder, prepared: list[tuple[np.ndarray, ...]]) -> np.ndarray:
        sizes.append(len(prepared))
        return embed(self, prepared)

    monkeypatch.setattr(Embedder, "embed", counted)
    monkeypatch.setattr(Embedder, "golden_cosine", lambda *_: 1.0)
    return sizes


@pytest.fixture
def distractors(tmp_path: Path) -> Path:
    """Write twelve pictures that are like nothing else, and one that is none."""
    folder = tmp_path / "nothing"
    folder.mkdir()
    for number in range(12):
        (folder / f"nothing{number}.jpg").write_bytes(picture_bytes(500 + number))
    (folder / "broken.jpg").write_bytes(b"text")
    return folder

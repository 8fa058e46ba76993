"""What the page says of answers: how sure, whose the neighbors are, and what is not there."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import expect

from embedder.embedder import Embedder
from index.building.build import build
from index.building.recipe import BuildRecipe
from index.evaluation.calibrate import calibrate
from index.gallery.store import Store
from photographs import open_data
from tests.api.browsing import Visit
from tests.api.conftest import Artifacts, Running, serving
from tests.factories import picture, picture_bytes, tiny_embedder, view_bytes

LANDMARKS, VIEWS = 5, 6
QUERIES = 300
"""Of each landmark, and as many of none: enough to be surer than 99.5 % of what is alike."""

CREDITS = {
    "000c": (
        "http://example.org/a",
        "Ann",
        "CC BY 3.0",
        "File:A.jpg",
        "File:A.jpg, Ann, CC BY 3.0",
    ),
    "010c": ("", "Bob <b>B</b>", "CC0", "", "Bob <b>B</b>, CC0"),
    "020c": ("javascript:alert(1)", "Eve", "", "", "Eve"),
    "030c": ("https://example.org/d", "", "", "", "Source"),
    "040c": ("", "", "", "", ""),
    "050c": ("", "Fay", "", "", "Fay"),
}
"""Of the pictures of landmark 0: address, author, license, title, and how the page words them."""

STRANGER = picture_bytes(503)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serve a gallery that knows whose its pictures are, and what a confidence is worth."""
    directory = tmp_path_factory.mktemp("calibrated")
    data = _photographs(directory / "data")
    maker, store = tiny_embedder(directory / "embedder", dimension=48), Store(directory / "store")
    embedder = Embedder.load(maker)
    build(store, embedder, open_data(data), BuildRecipe(thumbnail_side=48))
    calibrate(store, embedder, open_data(_queries(directory / "queries")))
    embedder.close()
    with serving(Artifacts(data, maker, store.path), directory / "log") as running:
        yield running


def _photographs(data: Path) -> Path:
    """Write a data folder with names and credits."""
    rows = []
    for landmark in range(LANDMARKS):
        for view in range(VIEWS):
            name = f"{landmark}{view}0c"
            rows.append(f"{name},,{landmark}\n")
            path = data / "train" / name[0] / name[1] / name[2] / f"{name}.jpg"
            path.parent.mkdir(parents=True)
            path.write_bytes(view_bytes(landmark, view))
    credited = [",".join((name, *told[:4])) + "\n" for name, told in CREDITS.items()]
    category = "http://commons.wikimedia.org/wiki/Category:Hawa_Mahal"
    files = {
        "train.csv": "id,url,landmark_id\n" + "".join(rows),
        "train_attribution.csv": "id,url,author,license,title\n" + "".join(credited),
        "train_label_to_category.csv": f"landmark_id,category\n0,{category}\n",
    }
    for name, text in files.items():
        (data / name).write_text(text)
    return data


def _queries(directory: Path) -> Path:
    """Write views that the gallery has not, and pictures of no landmark."""
    for landmark in range(LANDMARKS):
        folder = directory / str(landmark)
        folder.mkdir(parents=True)
        for number in range(QUERIES):
            (folder / f"{number}.jpg").write_bytes(view_bytes(landmark, 100 + number))
            stranger = picture_bytes(2000 + landmark * QUERIES + number)
            (directory / f"{landmark}-{number}.jpg").write_bytes(stranger)
    return directory


def _blend(first: int, second: int) -> bytes:
    """Draw two patterns, half and half."""
    buffer = io.BytesIO()
    Image.blend(picture(first), picture(second), 0.5).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _ask(service: Running, data: bytes) -> dict[str, Any]:
    address = f"{service.url}/predict?k=5"
    found: dict[str, Any] = httpx.post(address, content=data, timeout=60, trust_env=False).json()
    return found


def _probability(service: Running, data: bytes) -> float:
    found: float = _ask(service, data)["probability"]
    return found


def _choose(visited: Visit, path: Path, data: bytes) -> None:
    path.write_bytes(data)
    visited.choose(path)


def test_what_is_not_known_is_a_guess(
    visit: Callable[..., Visit], calibrated: Running, tmp_path: Path
) -> None:
    """The headline names no landmark; the nearest is told as a guess, and is announced."""
    answer = _ask(calibrated, STRANGER)
    assert answer["known"] is False
    visited = visit(calibrated)
    _choose(visited, tmp_path / "stranger.jpg", STRANGER)
    expect(visited.headline()).to_have_text("Probably not a landmark I know")
    guess = f"Nearest guess: {answer['name']}."
    expect(visited.card()).to_contain_text(guess)
    expect(visited.card().locator(".neighbors li")).to_have_count(5)
    assert f"Probably not a landmark I know. {guess}" in visited.wait_for_news("stranger.jpg: ")


@pytest.mark.parametrize(
    ("data", "bounds", "words"),
    [
        pytest.param(view_bytes(0, 50), (0.995, 1), "over 99 %", id="certain"),
        pytest.param(STRANGER, (0, 0.005), "under 1 %", id="impossible"),
    ],
)
def test_nothing_is_certain_or_impossible(
    visit: Callable[..., Visit],
    calibrated: Running,
    tmp_path: Path,
    data: bytes,
    bounds: tuple[float, float],
    words: str,
) -> None:
    """What would be rounded to 100 % is said to be above 99 %, and 0 % to be under 1 %."""
    assert bounds[0] < _probability(calibrated, data) < bounds[1]
    visited = visit(calibrated)
    _choose(visited, tmp_path / "a.jpg", data)
    expect(visited.card()).to_contain_text(f"right with a probability of {words}")


def test_a_probability_is_told_in_whole_percents(
    visit: Callable[..., Visit], calibrated: Running, tmp_path: Path
) -> None:
    """As the service gave it."""
    data = _blend(1, 501)
    probability = _probability(calibrated, data)
    assert 0.05 < probability < 0.95
    visited = visit(calibrated)
    _choose(visited, tmp_path / "a.jpg", data)
    expect(visited.card()).to_contain_text(f"a probability of {100 * probability:.0f} %")


def test_neighbors_say_whose_they_are(
    visit: Callable[..., Visit], calibrated: Running, tmp_path: Path
) -> None:
    """Author and license are text; only an address of the web becomes a link."""
    data = view_bytes(0, 50)
    visited = visit(calibrated)
    _choose(visited, tmp_path / "a.jpg", data)
    expect(visited.headline()).to_have_text("Hawa Mahal")
    told = [CREDITS[neighbor["picture"]] for neighbor in _ask(calibrated, data)["neighbors"]]
    assert len(told) == 5
    credits = visited.page.locator(".credit")
    expect(credits).to_have_text([words for *_, words in told])
    links = credits.get_by_role("link")
    addresses = [address for address, *_ in told if address.startswith("http")]
    assert addresses
    assert [link.get_attribute("href") for link in links.all()] == addresses
    assert {link.get_attribute("rel") for link in links.all()} == {"noopener noreferrer"}


def test_a_calibrated_answer_is_accessible_on_a_phone(
    visit: Callable[..., Visit], calibrated: Running, tmp_path: Path
) -> None:
    """With credits and a guess, in the dark; nothing wider than the screen."""
    phone = {"width": 320, "height": 640}
    visited = visit(calibrated, viewport=phone, color_scheme="dark")
    for name, data in {"known": view_bytes(0, 50), "stranger": STRANGER}.items():
        _choose(visited, tmp_path / f"{name}.jpg", data)
    expect(visited.page.locator(".answered")).to_have_count(2)
    expect(visited.page.locator(".neighbors img").last).to_be_visible()
    visited.demand_accessible()
    assert visited.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_a_gallery_without_thumbnails_shows_names_only(
    visit: Callable[..., Visit], service: Running, pictures: list[Path]
) -> None:
    """No picture is shown as broken, and nothing is called a trouble."""
    visited = visit(service, "404")
    visited.choose(pictures[1])
    expect(visited.headline()).to_have_text("Best guess: landmark-1")
    neighbors = visited.card().locator(".neighbors li")
    expect(neighbors).to_have_count(5)
    expect(neighbors.first).to_contain_text("landmark-1")
    visited.page.wait_for_function(
        """() => performance.getEntriesByType("resource")
          .filter((entry) => entry.name.includes("/pictures/")).length === 5"""
    )
    expect(neighbors.locator("img:visible")).to_have_count(0)
    expect(visited.page.locator(".trouble")).to_have_count(0)

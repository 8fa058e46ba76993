"""Pictures of the gallery over HTTP, whose they are, and nothing else of the disk."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from PIL import Image

from embedder.embedder import Embedder
from embedder.thumbnail import make_thumbnail
from index.building.build import build
from index.building.embedder_choice import EmbedderChoice
from index.building.recipe import BuildRecipe
from index.gallery.store import Store
from index.maintenance.add import add
from photographs import open_data
from service.contract.api_keys import digest_of, new_key
from tests.api.conftest import Artifacts, serving
from tests.api.test_requests import problem
from tests.factories import photographs, view_bytes

KEY = new_key()
SIDE = 24
PLAIN, NESTED = "abc1", "landmark-0/picture-0-0"
"""Ids of both layouts of a data folder: a name, and a path."""


@pytest.fixture(scope="module")
def shown(
    artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Artifacts, httpx.Client]]:
    """Serve a gallery with thumbnails to one with a key: two pictures with credits, and folders."""
    directory = tmp_path_factory.mktemp("shown")
    data, store = directory / "data", Store(directory / "store")
    for name, landmark in ((PLAIN, 7), ("abd2", 8)):
        path = data / "train" / name[0] / name[1] / name[2] / f"{name}.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(view_bytes(landmark, 0))
    files = {
        "train.csv": "id,url,landmark_id\nabc1,,7\nabd2,,8\n",
        "train_attribution.csv": "id,url,author,license,title\nabc1,http://x/1,Ann,CC0,\nabd2,,,,\n",
        "train_label_to_category.csv": "landmark_id,category\n7,http://x/Category:Hawa_Mahal\n",
    }
    for name, text in files.items():
        (data / name).write_text(text)
    embedder = Embedder.load(artifacts.embedder)
    build(store, embedder, open_data(data), BuildRecipe(thumbnail_side=SIDE))
    embedder.close()
    folders = photographs(directory / "folders")
    add(store, EmbedderChoice(artifacts.embedder), open_data(folders))
    own = replace(artifacts, photographs=directory, store=store.path)
    flags = ("--api-keys", digest_of(KEY))
    with (
        serving(own, directory / "log", *flags) as service,
        httpx.Client(
            base_url=service.url, timeout=60, trust_env=False, headers={"X-API-Key": KEY}
        ) as client,
    ):
        yield own, client


@pytest.fixture
def visitor(shown: tuple[Artifacts, httpx.Client]) -> httpx.Client:
    """Ask with the key."""
    return shown[1]


@pytest.mark.parametrize("path", [f"/pictures/{NESTED}", "/v1/pictures/landmark-0%2Fpicture-0-0"])
def test_a_picture_of_the_gallery_is_shown_small(
    shown: tuple[Artifacts, httpx.Client], path: str
) -> None:
    """By its id, slashes and all, as it was made when the gallery was built."""
    own, visitor = shown
    answer = visitor.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    file = own.photographs / "folders" / f"{NESTED}.jpg"
    assert answer.content == make_thumbnail(file.read_bytes(), SIDE)
    assert Image.open(io.BytesIO(answer.content)).size == (SIDE, SIDE)


def test_every_neighbor_of_an_answer_can_be_shown(visitor: httpx.Client) -> None:
    """The ids of an answer are addresses; different pictures look different."""
    answer = visitor.post("/predict", params={"k": 32}, content=view_bytes(7, 0)).json()
    pictures = [neighbor["picture"] for neighbor in answer["neighbors"]]
    params = {"gallery": answer["gallery"]}
    answers = [visitor.get(f"/pictures/{picture}", params=params) for picture in pictures]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == len(pictures) == 32


def test_neighbors_bring_names_and_credits(visitor: httpx.Client) -> None:
    """What is not known of a picture is null; what is known nothing of has no credit."""
    answer = visitor.post("/predict", params={"k": 32}, content=view_bytes(7, 0)).json()
    neighbors = {neighbor["picture"]: neighbor for neighbor in answer["neighbors"]}
    assert neighbors[PLAIN]["name"] == answer["name"] == "Hawa Mahal"
    credit = {"author": "Ann", "license": "CC0", "title": None, "url": "http://x/1"}
    assert neighbors[PLAIN]["credit"] == credit
    assert (neighbors["abd2"]["name"], neighbors["abd2"]["credit"]) == ("8", None)
    assert neighbors[NESTED]["credit"] is None


def test_what_has_not_changed_is_not_sent_again(visitor: httpx.Client) -> None:
    """Browsers may keep a picture for themselves, and ask by its tag whether it is still that."""
    first = visitor.get(f"/pictures/{PLAIN}")
    assert "private" in first.headers["cache-control"]
    assert "no-cache" in first.headers["cache-control"]
    tag = first.headers["etag"]
    again = visitor.get(f"/pictures/{PLAIN}", headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    other = visitor.get(f"/pictures/{NESTED}", headers={"If-None-Match": tag})
    assert (other.status_code, other.headers["etag"] != tag) == (200, True)


@pytest.mark.parametrize(
    "path",
    [
        "nobody",
        "",
        "landmark-0",
        "landmark-0/picture-0-0.jpg",
        "..%2F..%2Fdata%2Ftrain%2Fa%2Fb%2Fc%2Fabc1",
        "%2Fetc%2Fpasswd",
        "abc1%00",
        "%ff%fe",
        "x" * 4000,
    ],
)
def test_what_the_gallery_does_not_hold_is_unknown(visitor: httpx.Client, path: str) -> None:
    """Paths among it: ids are looked up in the catalog, and never on the disk."""
    code = "picture-unknown" if path else "not-found"  # without an id it is no such address
    problem(visitor.get(f"/pictures/{path}"), 404, code)


def test_a_picture_of_another_gallery_is_unknown(visitor: httpx.Client) -> None:
    """An id may be another picture's there."""
    answer = visitor.get(f"/pictures/{PLAIN}", params={"gallery": "2001-01-01T00-00-00Z-0000"})
    problem(answer, 404, "picture-unknown")


def test_a_gallery_without_thumbnails_shows_none(client: httpx.Client) -> None:
    """It answers all the same."""
    problem(client.get(f"/pictures/{NESTED}"), 404, "picture-unknown")


def test_pictures_are_shown_although_the_photographs_are_gone(
    shown: tuple[Artifacts, httpx.Client],
) -> None:
    """The gallery brings all that it shows."""
    own, visitor = shown
    shutil.move(own.photographs / "folders", own.photographs / "away")
    assert visitor.get(f"/pictures/{NESTED}").status_code == 200

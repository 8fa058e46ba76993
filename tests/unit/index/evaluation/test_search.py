"""One picture is searched for, and answered in words or in JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from embedder.embedder import Embedder
from embedder.errors import PictureError, PictureTooLargeError, PictureUndecodableError
from embedder.preprocess import PictureLimits
from index.building.build import build
from index.building.pipeline import PipelineOptions
from index.cli import main
from index.evaluation.search import SearchResult, search
from index.gallery.gallery import Gallery
from index.gallery.store import Store
from photographs import open_data


@pytest.fixture
def gallery(embedder: Embedder, gldv2: Path, tmp_path: Path) -> Gallery:
    """Build and open the gallery of the data folder."""
    build(Store(tmp_path / "s"), embedder, open_data(gldv2))
    return Gallery.open(tmp_path / "s", embedder_digest=embedder.digest)


def test_the_nearest_pictures_are_named(gallery: Gallery, embedder: Embedder, gldv2: Path) -> None:
    """With similarity, landmark, id and file, nearest first."""
    query = gldv2 / "train/0/0/0/000abc.jpg"
    found = search(gallery, embedder, query, 3)
    assert (found.landmark_id, found.name) == ("9", "Hawa Mahal")
    assert found.confidence == pytest.approx(1, abs=1e-3)
    assert (found.probability, found.known) == (None, None)
    assert [one.similarity for one in found.neighbors] == sorted(
        (one.similarity for one in found.neighbors), reverse=True
    )
    first = found.neighbors[0]
    assert (first.picture, first.file) == ("000abc", str(query))
    assert len(found.neighbors) == 3


def test_an_answer_is_worded_for_people() -> None:
    """A line for the answer, and one for each neighbor."""
    answer = SearchResult("9", "Hawa Mahal", 0.87312, 0.97, True, (), "b")  # noqa: FBT003 (known)
    assert list(answer.lines()) == ["Hawa Mahal (9): confidence 0.8731, probability 0.97, known"]


def test_the_command_prints_json_to_a_pipe_and_words_to_a_terminal(
    gallery: Gallery,
    embedder_directory: Path,
    gldv2: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same answer; a picture that cannot be read is one sentence."""
    picture, store = gldv2 / "test/a/a/a/aaa0.jpg", gallery.directory.parents[1]
    words = ["--store", str(store), "--embedder", str(embedder_directory), "--k", "2"]
    assert main(["search", str(picture), *words]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["landmark_id"], len(answer["neighbors"])) == ("9", 2)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["search", str(picture), *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert re.fullmatch(r"Hawa Mahal \(9\): confidence \d\.\d{4}", lines[0])
    assert all("/train/" in line for line in lines[1:])
    picture.write_bytes(b"text")
    assert main(["search", str(picture), *words]) == PictureError.exit_code


def test_a_missing_picture_is_refused(gallery: Gallery, embedder: Embedder, tmp_path: Path) -> None:
    """By the words of the system."""
    with pytest.raises(PictureUndecodableError, match="No such file"):
        search(gallery, embedder, tmp_path / "nothing.jpg")


def test_a_picture_may_be_as_large_as_those_of_the_gallery(
    gallery: Gallery, embedder: Embedder, gldv2: Path
) -> None:
    """Or as large as is asked for."""
    query = gldv2 / "train/0/0/0/000abc.jpg"
    with pytest.raises(PictureTooLargeError):
        search(gallery, embedder, query, 1, PipelineOptions(max_pixels=64))
    limits = PictureLimits(max_pixels=64)
    gallery.manifest = gallery.manifest.model_copy(update={"limits": limits})
    with pytest.raises(PictureTooLargeError):
        search(gallery, embedder, query, 1)
    assert search(gallery, embedder, query, 1, PipelineOptions(max_pixels=4096)).confidence

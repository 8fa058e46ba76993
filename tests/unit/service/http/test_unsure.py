"""Which pictures are kept for people to sort, how many, and that nothing of it harms an answer."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path

import pytest

from service.contract.schemas import Answer
from service.http import openapi_examples as examples
from service.http import unsure
from service.http.unsure import UnsurePictures
from service.inference.tasks import Options, Task

UNKNOWN = examples.ANSWER.model_copy(update={"known": False})
JPEG = b"\xff\xd8 a picture"


def offer(folder: Path | None, *offers: tuple[Task, object]) -> None:
    """Offer pictures with their answers, and wait until they are written."""
    kept = UnsurePictures(folder)
    for task, answer in offers:
        kept.offer(task, answer)
        kept._writer.submit(int).result()
    kept.close()


def files(folder: Path) -> set[str]:
    """Give the names of all files, hidden ones too."""
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_a_picture_that_is_not_known_is_kept_as_sent_with_its_answer(tmp_path: Path) -> None:
    """Once, however often it comes; in a folder that only its owner can read."""
    folder = tmp_path / "new" / "unsure"
    offer(folder, *[(Task((JPEG,)), UNKNOWN)] * 3)
    [picture] = folder.glob("*.jpg")
    assert files(folder) == {picture.name, f"{picture.stem}.json"}
    assert picture.read_bytes() == JPEG
    assert Answer(**json.loads(picture.with_suffix(".json").read_text())) == UNKNOWN
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        (Task((JPEG,)), UNKNOWN.model_copy(update={"known": True})),
        (Task((JPEG,)), UNKNOWN.model_copy(update={"known": None})),
        (Task((JPEG,), Options(only=("7",))), UNKNOWN),
        (Task((JPEG, JPEG)), UNKNOWN),
        (Task((), Options(picture="7")), UNKNOWN),
        (Task((JPEG,), wants="vector"), examples.EMBEDDING),
    ],
)
def test_no_other_picture_is_kept(tmp_path: Path, task: Task, answer: object) -> None:
    """Known, not calibrated, narrowed, several together, the gallery's own, or not asked about."""
    offer(tmp_path / "unsure", (task, answer))
    assert files(tmp_path) == set()


def test_without_a_folder_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even at the place where the service runs."""
    monkeypatch.chdir(tmp_path)
    offer(None, (Task((JPEG,)), UNKNOWN))
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("limit", "value", "kept"), [("MOST_PICTURES", 2, 2), ("MOST_BYTES", 5000, 3)]
)
def test_the_folder_is_bounded_in_pictures_and_bytes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    limit: str,
    value: int,
    kept: int,
) -> None:
    """What lies there already counts, sorted into folders or not; the log says it once."""
    monkeypatch.setattr(unsure, limit, value)
    (tmp_path / "sorted").mkdir()
    (tmp_path / "sorted" / "earlier.jpg").write_bytes(JPEG)
    pictures = [bytes([number]) + bytes(800) for number in range(8)]
    offer(tmp_path, *[(Task((data,)), UNKNOWN) for data in pictures])
    assert len(list(tmp_path.rglob("*.jpg"))) == kept
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "full" in caplog.text


def test_a_folder_that_cannot_be_written_is_told_and_forgotten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once a minute; the caller never hears of it."""
    (tmp_path / "file").write_bytes(b"")
    offer(tmp_path / "file" / "unsure", *[(Task((JPEG,)), UNKNOWN)] * 3)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_full_disk_leaves_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a picture without its answer nor an answer without its picture."""
    write = unsure.write_atomic

    def fails(path: Path, data: bytes) -> None:
        if path.suffix == ".jpg":
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(unsure, "write_atomic", fails)
    offer(tmp_path, (Task((JPEG,)), UNKNOWN))
    assert files(tmp_path) == set()
    assert "No space left" in caplog.text
    assert logging.WARNING in {record.levelno for record in caplog.records}


def test_after_the_end_an_offer_is_harmless(tmp_path: Path) -> None:
    """An answer may still be on its way."""
    kept = UnsurePictures(tmp_path)
    kept.close()
    kept.offer(Task((JPEG,)), UNKNOWN)
    assert files(tmp_path) == set()


def test_pictures_wait_in_bounded_memory(tmp_path: Path) -> None:
    """While the disk is slow, further ones are not kept."""
    kept = UnsurePictures(tmp_path)
    release = unsure.threading.Event()
    kept._writer.submit(release.wait)
    for number in range(20):
        kept.offer(Task((bytes([number]),)), UNKNOWN)
    release.set()
    kept.close()
    assert len(list(tmp_path.glob("*.jpg"))) == unsure.MOST_PENDING

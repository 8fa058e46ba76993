"""Pages show what they are given, and nothing that a picture or a name brings along."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

from PIL import ExifTags, Image

from embedder.reports.page import figure, page, table
from tests.factories import picture


def test_a_figure_holds_a_small_upright_picture_without_exif(tmp_path: Path) -> None:
    """A large picture turned by its EXIF data is shown small, turned, and without that data."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.ImageDescription] = "at home"
    picture(1, side=400).crop((0, 0, 400, 300)).save(tmp_path / "a.jpg", exif=exif)
    found = re.search(r"data:image/jpeg;base64,([^\"]+)", figure(tmp_path / "a.jpg", ""))
    assert found
    shown = Image.open(io.BytesIO(base64.b64decode(found[1])))
    assert shown.size == (126, 168)
    assert not shown.getexif()


def test_a_picture_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    """Neither a missing file nor one that is no picture spoils the page."""
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    for name in ("a.jpg", "b.jpg"):
        assert "not there" in figure(tmp_path / name, "")


def test_names_are_escaped() -> None:
    """A title or a cell with markup stays text."""
    markup = "<script>alert('1')</script>"
    shown = page(markup, [table([{markup: markup}])]).decode()
    assert "<script>" not in shown
    assert shown.count("&lt;script&gt;") == 4

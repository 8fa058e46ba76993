"""Copies of pictures, smaller or linked, made by several processes; none is made twice.

A smaller copy is a JPEG of the picture as it is seen: upright, without transparency, without EXIF
and other metadata, but with its ICC profile. It saves disk space; what a network sees of it is
decided by ``Preprocess``.
"""

import io
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

from PIL import Image

from embedder.errors import PictureError
from embedder.manifest import Fit, Preprocess
from embedder.picture_files import open_file
from embedder.preprocess import PictureLimits, decode, read_file, resized_size
from photographs.workers import run_tasks

_LIMITS = PictureLimits()
_PICTURES_PER_TASK = 32

Job = tuple[Path, Path]
"""A picture, and the path of its copy."""


@dataclass(frozen=True, slots=True)
class CopyRecipe:
    """How smaller copies are made.

    Attributes:
        side: Pixels of the longest or the shortest side; smaller pictures keep their size.
        measure: Which of the two.
        quality: Of the JPEG, 1 to 100.
    """

    side: int
    measure: Literal["longest", "shortest"] = "longest"
    quality: int = 90


def make_copies(
    jobs: Iterable[Job], recipe: CopyRecipe | None, *, workers: int
) -> Generator[tuple[int, str]]:
    """Make the copies that are not there yet, each whole or not at all.

    Args:
        jobs: What to copy where; folders are made. They are taken as they are needed.
        recipe: How; ``None`` links the files, or copies them where links cannot be.
        workers: Processes; 1 copies in this one.

    Yields:
        For each job in turn its position, and why its picture cannot be read; empty if it can.

    Raises:
        OSError: A copy cannot be written.
    """
    remaining = iter(jobs)
    tasks = iter(lambda: list(islice(remaining, _PICTURES_PER_TASK)), [])
    with closing(run_tasks(partial(_copy_all, recipe=recipe), tasks, workers=workers)) as results:
        yield from enumerate(reason for reasons in results for reason in reasons)


def shrink(data: bytes, recipe: CopyRecipe) -> bytes:
    """Return the JPEG of a smaller copy.

    Args:
        data: The picture's file.
        recipe: Its size and quality.

    Raises:
        PictureError: The picture cannot be read.
    """
    fit = Fit.PAD if recipe.measure == "longest" else Fit.CENTER_CROP
    target = Preprocess(side=recipe.side, fit=fit, crop=1.0, color_profiles=True)
    image = decode(data, limits=_LIMITS, targets=[target])
    size = resized_size(image.width, image.height, target)
    if size[0] < image.width:
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    profile = image.info.get("icc_profile")
    image.save(buffer, "JPEG", quality=recipe.quality, optimize=True, icc_profile=profile)
    return buffer.getvalue()


def _copy_all(jobs: Sequence[Job], recipe: CopyRecipe | None) -> list[str]:
    return [_copy(source, target, recipe) for source, target in jobs]


def _copy(source: Path, target: Path, recipe: CopyRecipe | None) -> str:
    """Make one copy; return why the picture cannot be read, or nothing."""
    if target.exists():
        return ""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        if recipe:
            part.write_bytes(shrink(read_file(source, _LIMITS), recipe))
        else:
            _link(source, part)
    except (PictureError, FileNotFoundError) as error:
        return error.reason if isinstance(error, PictureError) else "No such file or directory"
    part.replace(target)
    return ""


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or one without links, or a picture in a tar
        with open_file(source) as picture:
            target.write_bytes(picture.read(picture.size))

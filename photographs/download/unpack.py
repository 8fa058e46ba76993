"""Take the pictures out of a tar of Google Landmarks v2, and let nothing else out.

A tar is read through before its first picture is written. Only plain files named
``a/b/c/abc….jpg`` may be in it, beside folders, which are passed over: a tar that holds a link, a
device or any other path is refused whole.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Container
from pathlib import Path

from embedder.errors import DownloadError

_CHARACTER = "[0-9A-Za-z_-]"
_PICTURE = re.compile(
    rf"(?:\./)?(?P<path>({_CHARACTER})/({_CHARACTER})/({_CHARACTER})/"
    rf"(?P<id>\2\3\4{_CHARACTER}*)\.jpg)"
)


def unpack(
    tar: Path,
    root: Path,
    *,
    wanted: Container[str] | None = None,
    before_each: Callable[[], None] = lambda: None,
) -> int:
    """Write the pictures of a tar below a folder, each whole or not at all.

    Args:
        tar: Not compressed.
        root: Folder of the split.
        wanted: Ids of the pictures to write; ``None`` writes all.
        before_each: Called before each picture; what it raises ends the work.

    Returns:
        How many pictures were written; those that were there are written again.

    Raises:
        DownloadError: It is no tar, or holds something else than pictures; nothing was written.
        OSError: A picture cannot be written.
    """
    try:
        with tarfile.open(tar, "r:") as archive:
            pictures = _pictures(archive)
            chosen = [entry for name, entry in pictures.items() if wanted is None or name in wanted]
            made: set[Path] = set()
            for path, member in chosen:
                before_each()
                _write(archive, member, root / path, made)
    except (tarfile.TarError, EOFError) as error:
        raise DownloadError(f"it is no tar that can be read: {error}") from error
    return len(chosen)


def _pictures(archive: tarfile.TarFile) -> dict[str, tuple[str, tarfile.TarInfo]]:
    """List the pictures with their paths, by id; refuse everything else."""
    found = {}
    for member in archive:
        if member.isdir():
            continue
        picture = _PICTURE.fullmatch(member.name)
        if not picture or not member.isreg() or member.issparse():
            raise DownloadError(f"its member {member.name!r} is not a picture a/b/c/abc….jpg")
        found[picture["id"]] = picture["path"], member
    return found


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path, made: set[Path]) -> None:
    if path.parent not in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        made.add(path.parent)
    content = archive.extractfile(member)
    if content is None:  # only of members that _pictures refuses
        raise DownloadError(f"its member {member.name!r} has no content")
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content.read())
    part.replace(path)

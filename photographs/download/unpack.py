"""Take the pictures out of a tar of Google Landmarks v2, and let nothing else out.

A tar is read through before its first picture is written. Only plain files named
``a/b/c/abc….jpg`` may be in it, beside folders, which are passed over: a tar that holds a link, a
device or any other path is refused whole.
"""

import re
import tarfile
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
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
    wanted: Container[str] | None,
    *,
    before_each: Callable[[], None],
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
    with _open(tar) as archive:
        chosen = [
            (path, member)
            for picture_id, path, member in _list_pictures(archive)
            if wanted is None or picture_id in wanted
        ]
        for folder in {Path(path).parent for path, _ in chosen}:
            (root / folder).mkdir(parents=True, exist_ok=True)
        for path, member in chosen:
            before_each()
            _write(archive, member, root / path)
    return len(chosen)


def count_pictures(tar: Path) -> int:
    """Count the pictures of a tar that stays as it is.

    Raises:
        DownloadError: It is no tar, or holds something else than pictures.
    """
    with _open(tar) as archive:
        return len(_list_pictures(archive))


@contextmanager
def _open(tar: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(tar, "r:") as archive:
            yield archive
    except (tarfile.TarError, EOFError) as error:
        raise DownloadError(f"it is no tar that can be read: {error}") from error


def _list_pictures(archive: tarfile.TarFile) -> list[tuple[str, str, tarfile.TarInfo]]:
    """List ids, paths and members of the pictures; refuse everything else but folders."""
    pictures = []
    for member in archive:
        if member.isdir():
            continue
        named = _PICTURE.fullmatch(member.name)
        if not named or not member.isreg() or member.issparse():
            raise DownloadError(f"its member {member.name!r} is not a picture a/b/c/abc….jpg")
        pictures.append((named["id"], named["path"], member))
    return pictures


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = archive.extractfile(member)
    if content is None:  # only of members that _list_pictures refuses
        raise DownloadError(f"its member {member.name!r} has no content")
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content.read())
    part.replace(path)

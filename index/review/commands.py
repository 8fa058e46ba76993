"""Commands that look at builds before they are served; ``cairn-index`` has them.

Heavy libraries are imported after the arguments are parsed, so that ``--help`` is instant.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from embedder.command_line import Folder, LayoutName, Share
from embedder.errors import GalleryError
from index.cli_options import Asking, BuildId

if TYPE_CHECKING:
    from index.gallery.store import Store
    from index.review.labeled_queries import LabeledQueries

Result = dict[str, Any]
Build = Annotated[str, Parameter(metavar="ID")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Checking:
    """What is checked, and what is written.

    Attributes:
        list_name: With --data: list that would be the gallery (default: as for build).
        layout: With --data: which layout it has (default: the first that is found).
        build: With --store: which build (default: the published one).
        out: Write the pictures whose landmark is probably wrong, for remove --list.
        report: Write a page with these pictures.
    """

    list_name: Annotated[str | None, Parameter(name="--list", metavar="NAME")] = None
    layout: LayoutName | None = None
    build: BuildId = None
    out: Annotated[Path | None, Parameter(metavar="CSV")] = None
    report: Annotated[Path | None, Parameter(metavar="HTML")] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Differing:
    """What a comparison writes.

    Attributes:
        out: Write all pictures that are new, gone or changed: change,picture,landmark_id.
        report: Write a page with such pictures, and with answers that differ.
    """

    out: Annotated[Path | None, Parameter(metavar="CSV")] = None
    report: Annotated[Path | None, Parameter(metavar="HTML")] = None


def publish(
    build: Build,
    /,
    *,
    store: Folder,
    if_gap_at_least: Share | None = None,
    unless_worse_than: Annotated[str | None, Parameter(metavar="ID|CURRENT")] = None,
    asking: Asking = Asking(),  # noqa: B008 (frozen)
) -> Result:
    """Publish a build, if it is good enough.

    Args:
        build: Id of the build, as list shows it.
        store: Folder of the galleries.
        if_gap_at_least: Refuse a build with a lower GAP on the queries of --data.
        unless_worse_than: Refuse a build with a lower GAP than this one, or the published one,
            on the queries of --data.
        asking: Queries.
    """
    from index.gallery.store import Store
    from index.review.publish import PublishCondition, publish

    galleries, condition = Store(store), None
    measured = if_gap_at_least is not None or unless_worse_than is not None
    if measured != (asking.data is not None):
        raise GalleryError(
            "--if-gap-at-least and --unless-worse-than need labeled queries, --data, and these one "
            "of the two"
        )
    if (queries := _labeled_queries(galleries, asking)) is not None:
        condition = PublishCondition(queries, if_gap_at_least, unless_worse_than)
    return asdict(publish(galleries, build, condition))


def diff(
    old: Build,
    new: Build,
    /,
    *,
    store: Folder,
    asking: Asking = Asking(),  # noqa: B008 (frozen)
    writing: Differing = Differing(),
) -> Result:
    """Compare two builds: their pictures, landmarks, and answers.

    Args:
        old: Id of the one, as list shows it.
        new: Id of the other.
        store: Folder of the galleries.
        asking: Queries.
        writing: Files.
    """
    from index.gallery.store import Store
    from index.review.diff import DiffOutput, diff

    galleries, output = Store(store), DiffOutput(writing.out, writing.report)
    return asdict(diff(galleries, old, new, _labeled_queries(galleries, asking), output))


def check(
    *,
    data: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    store: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    checking: Checking = Checking(),
) -> Result:
    """Look for pictures that do not belong where they are, in photographs or in a gallery.

    Args:
        data: Photographs, in a layout that build reads: the same file under two landmarks,
            landmarks with one picture, files that are passed over.
        store: Folder of the galleries. By the vectors of a gallery also: nearly the same picture
            under two landmarks, and pictures unlike their landmark.
        checking: Options.
    """
    from index.gallery.gallery import Gallery
    from index.review.check import check_data, check_gallery
    from index.review.check_page import write_check_page
    from photographs import open_data

    if data is not None and store is None and checking.build is None:
        found = check_data(open_data(data, checking.layout), checking.list_name)
    elif store is not None and data is None and checking.list_name is None:
        with closing(Gallery.open(store, embedder_digest=None, build=checking.build)) as gallery:
            found = check_gallery(gallery)
    else:
        raise GalleryError("say --data DIR, with or without --list, or --store DIR, with --build")
    if checking.out is not None:
        found.write_list(checking.out)
    if checking.report is not None:
        write_check_page(checking.report, found)
    return found.summary()


def export_vectors(
    *, store: Folder, out: Annotated[Path, Parameter(metavar="PARQUET")], build: BuildId = None
) -> Result:
    """Write the vectors of a gallery to a Parquet file, with ids, landmarks and digests.

    Args:
        store: Folder of the galleries.
        out: The file to write.
        build: Which build (default: the published one).
    """
    from index.gallery.gallery import Gallery
    from index.review.export_vectors import export_vectors

    with closing(Gallery.open(store, embedder_digest=None, build=build)) as gallery:
        return asdict(export_vectors(gallery, out))


def _labeled_queries(store: Store, asking: Asking) -> LabeledQueries | None:
    from index.building.pipeline import PipelineOptions
    from index.building.vector_cache import CACHE
    from index.review.labeled_queries import LabeledQueries
    from photographs import open_data

    if asking.data is None:
        return None
    options = PipelineOptions(asking.batch_size, asking.threads, store.path / CACHE)
    choices = [asking.choice(embedder) for embedder in asking.embedder]
    return LabeledQueries(open_data(asking.data, asking.layout), choices, options)


COMMANDS = (publish, diff, check, export_vectors)

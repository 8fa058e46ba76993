"""The command ``cairn-index``: parse, call one function, print its result.

Heavy libraries are imported after the arguments are parsed, so that ``--help`` is instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from embedder.command_line import RESUMABLE, Folder, PositiveCount, command_app, run
from index.cli_options import BuildId, Data, Embedding, Making, RankingOptions, Running
from index.evaluation import commands as evaluation_commands
from index.maintenance.commands import sources
from index.maintenance.defaults import IDLE_HOURS, KEEP_BUILDS, SAMPLE_PICTURES
from index.review import commands as review_commands

if TYPE_CHECKING:
    from index.building.embedded import Tally
    from index.gallery.manifest import GalleryManifest
    from index.gallery.store import Store

Result = dict[str, Any]
Ids = Annotated[tuple[str, ...], Parameter(metavar="ID...", consume_multiple=(1, None))]
Side = Annotated[int, Parameter(validator=Number(gte=0, lte=512), metavar="SIDE")]

app = command_app("cairn-index", "Build galleries of photographs, search and maintain them.")
for command in (*evaluation_commands.COMMANDS, *review_commands.COMMANDS):
    app.command(command)
app.command(sources)


@app.command
def build(
    *,
    store: Folder,
    data: Data,
    embedding: Embedding,
    making: Making = Making(),  # noqa: B008 (frozen)
    thumbnails: Side | None = None,
    ranking: RankingOptions = RankingOptions(),  # noqa: B008 (frozen)
) -> Result:
    """Embed photographs and publish them as a gallery.

    Args:
        store: Folder of the galleries; made if missing.
        data: Photographs.
        embedding: Embedder.
        making: Recipe.
        thumbnails: Keep a small JPEG of each picture in the gallery, for people who look at
            answers: no side longer than SIDE pixels, at most 512; 0 keeps none (default: none).
        ranking: Ranking.
    """
    from index.building.build import build
    from index.building.embedded import Tally
    from index.building.extras import Extras

    photographs = data.open()
    ranking.check()
    with embedding.open() as embedder:
        making.check(embedder)
        distractors = ranking.embed_distractors(embedder, embedding.pipeline(store))
        extras = Extras(ranking.resolve(embedder), distractors)
        recipe = replace(making.recipe(embedding, thumbnails), extras=extras)
        galleries, tally = _store(store), Tally()
        return _describe(galleries, build(galleries, embedder, photographs, recipe, tally), tally)


@app.command
def rebuild(
    *,
    store: Folder,
    embedding: Embedding,
    making: Making = Making(),  # noqa: B008 (frozen)
    data: Annotated[tuple[Path, ...], Parameter(metavar="DIR")] = (),
    thumbnails: Side | None = None,
    hash: bool = False,
) -> Result:
    """Bring the gallery up to date, embedding only what changed.

    Args:
        store: Folder of the galleries.
        embedding: Embedder.
        making: Recipe.
        data: Where the photographs are now, once for each folder of the gallery, in the order in
            which they were added (default: where they were).
        thumbnails: Longest side of the thumbnails, at most 512 pixels; 0 keeps none (default: as
            the gallery has them; for others every picture is read).
        hash: Read every file: find pictures that changed and kept their size and time.
    """
    from index.building.embedded import Tally
    from index.building.rebuild import rebuild

    galleries, choice, tally = _store(store), embedding.choice(embedding.embedder), Tally()
    recipe = making.recipe(embedding, thumbnails)
    manifest = rebuild(galleries, choice, recipe, data=data, by_content=hash, tally=tally)
    return _describe(galleries, manifest, tally)


@app.command
def add(
    *,
    store: Folder,
    data: Data,
    embedding: Embedding,
    making: Making = Making(),  # noqa: B008 (frozen)
    prefix: str = "",
) -> Result:
    """Add a folder of photographs to the gallery, or bring it up to date.

    Args:
        store: Folder of the galleries.
        data: Photographs.
        embedding: Embedder.
        making: Recipe.
        prefix: What the ids of its pictures begin with in the gallery (default: nothing, or the
            name of the folder where it uses an id of another picture).
    """
    from index.building.embedded import Tally
    from index.maintenance.add import add

    galleries, choice, tally = _store(store), embedding.choice(embedding.embedder), Tally()
    recipe = making.recipe(embedding)
    manifest = add(galleries, choice, data.open(), recipe, tally, prefix=prefix)
    return _describe(galleries, manifest, tally)


@app.command
def remove(
    *,
    store: Folder,
    pictures: Ids = (),
    landmarks: Ids = (),
    listed: Annotated[Path | None, Parameter(name="--list", metavar="CSV")] = None,
) -> Result:
    """Remove pictures or landmarks from the gallery for good.

    Args:
        store: Folder of the galleries.
        pictures: Ids of pictures.
        landmarks: Ids of landmarks.
        listed: List with a column id of more pictures, as check writes it.
    """
    from index.maintenance.remove import remove
    from photographs import read_rows

    galleries = _store(store)
    if listed is not None:
        pictures = (*pictures, *(picture for _, (picture,) in read_rows(listed, ("id",))))
    return _describe(galleries, remove(galleries, pictures=pictures, landmarks=landmarks))


@app.command
def compact(*, store: Folder) -> Result:
    """Merge what was added to the gallery into it, and drop what was removed.

    Args:
        store: Folder of the galleries.
    """
    from index.building.compact import compact

    galleries = _store(store)
    return _describe(galleries, compact(galleries))


@app.command(name="list")
def list_builds(*, store: Folder) -> Result:
    """List the builds of a store.

    Args:
        store: Folder of the galleries.
    """
    from index.maintenance.history import list_builds

    builds = list_builds(_store(store))
    return {
        "current": next((build.build_id for build in builds if build.current), None),
        "builds": [build.summary() for build in builds],
    }


@app.command
def verify(
    *,
    store: Folder,
    embedder: Folder | None = None,
    running: Running = Running(),  # noqa: B008 (frozen)
    sample: PositiveCount = SAMPLE_PICTURES,
    build: BuildId = None,
) -> Result:
    """Check a build: bytes, counts and vectors.

    Args:
        store: Folder of the galleries.
        embedder: Embed a sample again with this artifact and compare (default: only read and
            count).
        running: How to embed.
        sample: Pictures that are embedded again.
        build: Which build (default: the published one).
    """
    from index.maintenance.verify import verify

    opened = closing(running.choice(embedder).open()) if embedder else nullcontext()
    with opened as loaded:
        return asdict(verify(_store(store), loaded, build_id=build, sample=sample))


@app.command
def rollback(*, store: Folder, build: BuildId = None) -> Result:
    """Publish an earlier build again.

    Args:
        store: Folder of the galleries.
        build: Which build (default: the one that was published before).
    """
    from index.maintenance.history import roll_back

    galleries = _store(store)
    return _describe(galleries, roll_back(galleries, build))


@app.command
def gc(
    *,
    store: Folder,
    keep: PositiveCount = KEEP_BUILDS,
    idle_hours: Annotated[float, Parameter(metavar="H")] = IDLE_HOURS,
) -> Result:
    """Delete old builds and abandoned work.

    Args:
        store: Folder of the galleries.
        keep: Newest builds that stay, beside the published one.
        idle_hours: An unfinished build is abandoned when nothing was written for so long.
    """
    from index.maintenance.history import clean

    return asdict(clean(_store(store), keep=keep, idle_hours=idle_hours))


def _store(directory: Path) -> Store:
    from index.gallery.store import Store

    return Store(directory)


def _describe(store: Store, manifest: GalleryManifest, tally: Tally | None = None) -> Result:
    shown = {"build_id", "kind", "rows", "removed", "landmarks", "dimension"}
    shown |= {"recall", "thumbnail_side", "unreadable"}
    return {
        **manifest.model_dump(mode="json", include=shown),
        "published": manifest.build_id == store.current(),
        **(asdict(tally) if tally else {}),
        "list": manifest.list.name,
        "embedder": manifest.embedder.digest,
        "gallery": str(store.directory(manifest.build_id)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run(app, arguments, resume_hints=dict.fromkeys((build, rebuild, add), RESUMABLE))

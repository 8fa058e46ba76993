"""The commands ``cairn-index sources …``: parse, call one function, print its result.

Heavy libraries are imported after the arguments are parsed.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from embedder.command_line import Folder

Result = dict[str, Any]
ListName = Annotated[str | None, Parameter(name="--list", metavar="NAME")]

sources = App(
    name="sources", version_flags=(), help="List, drop and relocate the folders of the gallery."
)


@sources.command(name="list")
def list_sources(*, store: Folder) -> Result:
    """List the folders of the gallery, which add has added.

    Args:
        store: Folder of the galleries.
    """
    from index.gallery.store import Store
    from index.maintenance.sources import list_sources

    return {"sources": [asdict(source) for source in list_sources(Store(store))]}


@sources.command
def drop(*, store: Folder, data: Folder, list_name: ListName = None) -> Result:
    """Remove the pictures of a folder from the gallery, and read it no more.

    Args:
        store: Folder of the galleries.
        data: The folder, which may be gone.
        list_name: Its list, where the gallery has several.
    """
    from index.gallery.store import Store
    from index.maintenance.sources import drop_source

    manifest = drop_source(Store(store), data, list_name)
    return manifest.model_dump(mode="json", include={"build_id", "rows", "removed"})


@sources.command
def relocate(
    *,
    store: Folder,
    data: Folder,
    to: Annotated[Path, Parameter(metavar="DIR")],
    list_name: ListName = None,
) -> Result:
    """Tell where a folder of the gallery is now, without embedding anything again.

    Args:
        store: Folder of the galleries.
        data: Where it was.
        to: Where it is now, with the same pictures under the same names.
        list_name: Its list, where the gallery has several.
    """
    from index.gallery.store import Store
    from index.maintenance.sources import relocate_source

    manifest = relocate_source(Store(store), data, to, list_name)
    return manifest.model_dump(mode="json", include={"build_id", "rows", "removed"})

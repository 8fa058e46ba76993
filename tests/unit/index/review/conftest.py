"""A gallery, and a worse one beside it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from embedder.embedder import Embedder
from index.building.build import build
from index.building.embedder_choice import EmbedderChoice
from index.building.recipe import BuildRecipe
from index.gallery.store import Store
from index.review.labeled_queries import LabeledQueries
from photographs import open_data
from tests.factories import tiny_embedder


@pytest.fixture(scope="session")
def worse_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an embedder of two dimensions, which confuses landmarks."""
    return tiny_embedder(tmp_path_factory.mktemp("worse"), dimension=2, seed=5)


@pytest.fixture
def asked(gldv2: Path, worse_directory: Path, embedder_directory: Path) -> LabeledQueries:
    """Ask the queries of the data folder by either embedder."""
    choices = [EmbedderChoice(path, threads=1) for path in (worse_directory, embedder_directory)]
    return LabeledQueries(open_data(gldv2), choices)


@pytest.fixture
def builds(
    tmp_path: Path, gldv2: Path, embedder: Embedder, worse_directory: Path
) -> tuple[Store, str, str]:
    """Publish a build; beside it lies a worse one, unpublished."""
    store, data = Store(tmp_path / "s"), open_data(gldv2)
    good = build(store, embedder, data).build_id
    with closing(EmbedderChoice(worse_directory, threads=1).open()) as other:
        worse = build(store, other, data, BuildRecipe(no_publish=True)).build_id
    return store, good, worse

"""Vectors are exported for other programs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from embedder.embedder import Embedder
from embedder.errors import CatalogError
from index.gallery.gallery import Gallery
from index.gallery.store import Store
from index.maintenance.remove import remove
from index.review import export_vectors as module
from index.review.export_vectors import export_vectors


@pytest.mark.parametrize("block", [4, 1 << 14])
def test_each_picture_is_a_row(
    block: int,
    store: Store,
    data: Path,
    embedder: Embedder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With its landmark, the digest of its file and its vector; removed ones are left out."""
    monkeypatch.setattr(module, "_BLOCK_ROWS", block)
    remove(store, pictures=["landmark-0/picture-0-0"], landmarks=["landmark-3"])
    gallery = Gallery.open(store.path, embedder_digest=None)
    out = tmp_path / "new" / "vectors.parquet"
    written = export_vectors(gallery, out)
    table = pq.read_table(out)
    assert table.column_names == ["picture_id", "landmark_id", "sha256", "vector"]
    assert len(table) == written.rows == 5 * 6 - 1 - 6
    ids = table["picture_id"].to_pylist()
    files = [(data / f"{name}.jpg").read_bytes() for name in ids]
    assert table["sha256"].to_pylist() == [hashlib.sha256(file).hexdigest() for file in files]
    assert table["landmark_id"].to_pylist() == [name.split("/")[0] for name in ids]
    vectors = np.stack(table["vector"].to_numpy())
    again = embedder.embed([embedder.prepare(file) for file in files])
    assert vectors.dtype == np.float32
    assert vectors == pytest.approx(again, abs=2e-3)
    facts = {name.decode(): text.decode() for name, text in table.schema.metadata.items()}
    assert facts["embedder_digest"] == embedder.digest == written.embedder
    assert facts["build_id"] == gallery.build_id
    assert (written.dimension, written.bytes) == (8, out.stat().st_size)


def test_a_failed_export_leaves_the_old_file(store: Store, tmp_path: Path) -> None:
    """Whole or not at all; a folder is no file."""
    gallery = Gallery.open(store.path, embedder_digest=None)
    out = tmp_path / "vectors.parquet"
    out.write_bytes(b"old")
    gallery.close()
    with pytest.raises(ValueError, match="closed"):
        export_vectors(gallery, out)
    assert out.read_bytes() == b"old"
    assert not list(tmp_path.glob(".vectors*"))
    with pytest.raises(CatalogError, match="a folder"):
        export_vectors(gallery, tmp_path)

"""Every embedder introduces itself in a page made of its own files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import JsonValue

from embedder.manifest import read_manifest
from tests.factories import tiny_embedder, view_bytes
from trainer.export.export import export
from trainer.export.readme import README, write_readme


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the tiny run."""
    out = tmp_path_factory.mktemp("exported") / "embedder"
    export(run, out)
    return out


def test_a_trained_embedder_says_what_it_learned_from_and_how_well(exported: Path) -> None:
    """Pictures, landmarks, backbone, weights and the metrics of every rule; it is recorded."""
    page = (exported / README).read_text(encoding="utf-8")
    assert README in read_manifest(exported)[0].files
    assert page.startswith("# tiny\n")
    assert "a vector of 16 numbers" in page
    assert "Backbone: `mobilenetv3_small_050`." in page
    assert re.search(r"Trained on 2\d photographs of 4 landmarks", page)
    assert "It began with random weights." in page
    assert "License of the photographs: not known to Cairn" in page
    assert re.search(r"\| ranking \| gap \|.*\n\| --- .*\n\| head \| \d\.\d{4} \|", page)
    assert "| tiny | 48 × 48, squash | 16 | model.onnx, " in page
    assert str(exported.parent) not in page


def test_what_the_page_tells_to_do_works(exported: Path, tmp_path: Path) -> None:
    """Its Python runs as it stands there, with the names of a folder and a picture put in."""
    page = (exported / README).read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert found
    (tmp_path / "picture.jpg").write_bytes(view_bytes(1, 2))
    code = found[1].replace("EMBEDDER", str(exported))
    names: dict[str, object] = {}
    exec(code.replace("PICTURE", str(tmp_path / "picture.jpg")), names)  # noqa: S102 (our own page)
    assert getattr(names["vector"], "shape", None) == (16,)


def test_a_file_of_weights_is_named_by_its_digest_with_the_license_of_timms(
    tmp_path: Path,
) -> None:
    """Of a network that was not trained here, the page says so."""
    folder = tiny_embedder(tmp_path / "embedder")
    (folder / "recipe.yaml").write_text("network: {backbone: mobilenetv2_100}")
    members = read_manifest(folder)[0].members
    whitened: dict[str, JsonValue] = {"pictures": 29}
    write_readme(folder, "zero", members, {"weights": "sha256:ab", "whitened": whitened})
    page = (folder / README).read_text(encoding="utf-8")
    assert "A pretrained network that Cairn did not train." in page
    assert "Pretrained weights: a file, sha256:ab. License: apache-2.0, as timm states" in page
    assert "Then whitened: a linear layer learned from 29 photographs." in page
    (folder / "recipe.yaml").unlink()
    write_readme(folder, "zero", members, {})
    page = (folder / README).read_text(encoding="utf-8")
    assert "Pretrained weights: not recorded which. License: not known to Cairn." in page


def test_an_embedder_of_several_networks_tells_of_each(tmp_path: Path) -> None:
    """Recipe and report of each begin with its name."""
    folder = tiny_embedder(tmp_path / "embedder")
    member = read_manifest(folder)[0].members[0]
    members = [member, member.model_copy(update={"name": "other"})]
    (folder / "tiny.recipe.yaml").write_text("network: {backbone: resnet18}")
    (folder / "other.recipe.yaml").write_text("network: {backbone: resnet50}")
    write_readme(folder, "both", members, {})
    page = (folder / README).read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)\n\nBackbone: `(\w+)`", page, re.MULTILINE) == [
        ("tiny", "resnet18"),
        ("other", "resnet50"),
    ]
    assert "a vector of 16 numbers" in page

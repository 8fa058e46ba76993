"""``README.md`` of an embedder: what it is and was trained on, how well it does, how to use it.

It is made of the other files of the embedder and says nothing that these do not: no time and no
folder, so that equal trainings export equal embedders.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import JsonValue

from embedder.manifest import Member
from trainer.model.backbone import pretrained_license
from trainer.model.run_folder import RECIPE, REPORT

README = "README.md"

_USE = """## Use

```sh
cairn-index build --embedder EMBEDDER --data PHOTOGRAPHS --store STORE
cairn-serve --embedder EMBEDDER --store STORE
```

```python
from pathlib import Path

from embedder.embedder import Embedder

embedder = Embedder.load(Path("EMBEDDER"))
picture = embedder.prepare(Path("PICTURE").read_bytes())
vector = embedder.embed([picture])[0]  # of length 1; the cosine tells how alike two pictures are
```

Opening it checks every file by its digest, and the network by the vectors in `golden.npz`.
"""


def write_readme(
    folder: Path, name: str, members: Sequence[Member], provenance: Mapping[str, JsonValue]
) -> None:
    """Write the page of an embedder whose other files lie in a folder.

    Args:
        folder: Holds the networks; recipes and reports where there are any, of an embedder of
            several networks each with its name in front.
        name: Of the embedder.
        members: Its networks.
        provenance: Where it comes from, as the manifest says it.
    """
    dimension = sum(member.dimension for member in members)
    parts = [
        f"# {name}",
        "An embedder of Cairn for the recognition of landmarks: it turns a photograph into a "
        f"vector of {dimension} numbers, which is like those of other photographs of the same "
        "landmark.",
        _table([_describe_network(folder, member) for member in members]),
    ]
    for member in members:
        prefix = f"{member.name}." if len(members) > 1 else ""
        parts += _describe_training(folder, member.name, prefix, provenance)
    parts += _describe_adapters(provenance)
    parts += ["## Provenance", f"```json\n{json.dumps(dict(provenance), indent=2)}\n```", _USE]
    (folder / README).write_text("\n\n".join(parts), encoding="utf-8")


def _describe_network(folder: Path, member: Member) -> dict[str, object]:
    files = [member.onnx, *([member.exported] if member.exported else [])]
    sizes = [f"{file}, {(folder / file).stat().st_size / 1e6:.1f} MB" for file in files]
    return {
        "network": member.name,
        "pictures": f"{member.preprocess.side} × {member.preprocess.side}, {member.preprocess.fit}",
        "numbers": member.dimension,
        "files": "; ".join(sizes),
    }


def _describe_training(
    folder: Path, name: str, prefix: str, provenance: Mapping[str, JsonValue]
) -> Iterator[str]:
    """Yield the paragraphs about one network: photographs, weights, licenses and metrics."""
    recipe: Any = _read_recipe(folder / f"{prefix}{RECIPE}")
    report = folder / f"{prefix}{REPORT}"
    yield f"## {name}"
    network = recipe.get("network", {})
    backbone = network.get("backbone")
    if backbone:
        yield f"Backbone: `{backbone}`."
    if not report.is_file():
        yield "A pretrained network that Cairn did not train."
        yield _describe_weights(backbone, provenance.get("weights"))
        return
    metrics: Any = json.loads(report.read_bytes())
    stages = metrics["stages"]
    trained = "; then ".join(
        f"{stage['pictures']} photographs of {stage['landmarks']} landmarks"
        + (f" (`{Path(stage['list']).name}`)" if stage["list"] else "")
        for stage in stages
    )
    yield f"Trained on {trained}. {metrics['kept_back']} photographs were kept for validation."
    yield _describe_weights(backbone, metrics.get("weights"))
    yield (
        "License of the photographs: not known to Cairn, ask whoever gave them to you. Google "
        "Landmarks v2 names one for each picture in its lists of attributions."
    )
    yield from _describe_metrics(metrics)


def _describe_adapters(provenance: Mapping[str, JsonValue]) -> Iterator[str]:
    for name in ("whitened", "adapted"):
        learned = provenance.get(name)
        if isinstance(learned, dict):
            yield f"Then {name}: a linear layer learned from {learned['pictures']} photographs."


def _describe_weights(backbone: str | None, source: JsonValue) -> str:
    """Say where the weights come from that a network began with, and their license.

    ``source`` is a digest, or what a recipe says in ``pretrained``; None: it is not recorded.
    """
    if source == "none":
        return "It began with random weights."
    origin = "timm's" if source in ("timm's", "required", "preferred") else f"a file, {source}"
    license_of_timm = pretrained_license(backbone) if backbone else None
    said = "not known to Cairn"
    if license_of_timm:
        said = f"{license_of_timm}, as timm states it for its own of this name"
    return f"Pretrained weights: {origin if source else 'not recorded which'}. License: {said}."


def _describe_metrics(report: Mapping[str, Any]) -> Iterator[str]:
    if not (ladder := report.get("ladder")):
        return
    yield (
        f"Metrics on the {report['kept_back']} validation photographs, by the rule that answers. "
        "The network was chosen by them, and random photographs of known landmarks are easy: they "
        "compare embedders, they promise nothing for yours."
    )
    yield _table(ladder)
    if "test_gap" in report:
        tested = f"{report['tested']} test photographs, by which nothing was chosen"
        yield f"GAP by the nearest picture on {tested}: {report['test_gap']:.4f}."


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    """Write a table in Markdown; a cell that a row lacks stays empty."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row.get(column)) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else str(value).replace("|", "\\|")


def _read_recipe(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_bytes()) or {} if path.is_file() else {}

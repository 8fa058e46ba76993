"""Print two rehearsals side by side as a table in Markdown: how each figure grows.

    python benchmarks/rehearsal_growth.py 0.1/rehearsal.json 1.0/rehearsal.json

``grows`` is the figure of the second by that of the first; it is bold where it is more than the
number of pictures grows, and the figure is not too small to tell.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SHOWN = {"seconds": 10.0, "cpu_s": 10.0, "peak_gb": 0.2, "read_gb": 0.5, "written_gb": 0.5}
"""What is shown of each stage, and from where on it tells something."""

_ROUNDING = 1.1


def rows(small: dict[str, Any], large: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the cells of each row of the table, its head first."""
    most = large["pictures"] / small["pictures"] * _ROUNDING
    yield ["stage", *(f"{name}{what}" for name in _SHOWN for what in ("", ", grows"))]
    for stage, after in large["stages"].items():
        cells, before = [stage], small["stages"][stage]
        for name, least in _SHOWN.items():
            value = after.get(name)
            cells += ["", ""] if value is None else [f"{before[name]:.3g} → {value:.3g}", ""]
            if value is not None and before[name] and value >= least:
                grows = value / before[name]
                cells[-1] = f"**{grows:.1f}**" if grows > most else f"{grows:.1f}"
        yield cells


def main() -> None:
    """Read two results and print the table."""
    small, large = (json.loads(Path(path).read_text(encoding="utf-8")) for path in sys.argv[1:3])
    head, *others = rows(small, large)
    for cells in (head, ["---"] * len(head), *others):
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()

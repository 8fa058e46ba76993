"""What the contract tests look at: the modules of the program, as files and as names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

PACKAGES = ("cairn_client", "embedder", "index", "photographs", "service", "trainer")


@dataclass(frozen=True, slots=True)
class Module:
    """One module of the program: its dotted name, its file, and its text."""

    name: str
    path: Path
    source: str


def modules() -> list[Module]:
    """Read every module of the packages."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append(Module(name, path, path.read_text(encoding="utf-8")))
    return found


MODULES = modules()

"""What the documents say is so: the drawing of the rooms, commands, links."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.contract.modules import PACKAGES

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "importlinter"
]["contracts"]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def drawn_rooms() -> dict[str, list[str]]:
    """Read the drawing in README: the rooms of each package, from left to right."""
    drawing = README.partition("## Rooms")[2].split("```")[1]
    rooms: dict[str, list[str]] = {}
    package = ""
    for line in drawing.strip().splitlines():
        if line.startswith("  "):
            rooms[package] = re.findall(r"(\w+)/", line)
        else:
            package = line.split("/")[0]
    return rooms


def layers(package: str) -> list[set[str]]:
    """Read the layers of a package from its contract, from top to bottom."""
    (contract,) = [
        one for one in CONTRACTS if one["type"] == "layers" and one.get("containers") == [package]
    ]
    return [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]


def test_readme_is_short() -> None:
    """A person reads it to the end."""
    assert len(README.splitlines()) <= 150


def test_every_package_is_drawn() -> None:
    """The drawing holds all packages, and each has rooms."""
    assert set(drawn_rooms()) == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_drawing_shows_the_folders(package: str) -> None:
    """Its rooms are the folders of the package, at most eight."""
    folders = {
        path.name
        for path in (ROOT / package).iterdir()
        if path.is_dir() and (any(path.glob("*.py")) or path.name == "page")
    }
    assert set(drawn_rooms()[package]) == folders
    assert 0 < len(folders) <= 8


@pytest.mark.parametrize("package", PACKAGES)
def test_a_room_is_drawn_left_of_what_it_may_import(package: str) -> None:
    """From left to right is from the top layer of the contract to the lowest."""
    depth = {room: number for number, layer in enumerate(layers(package)) for room in layer}
    drawn = [depth[room] for room in drawn_rooms()[package] if room in depth]
    assert len(drawn) >= 3
    assert drawn == sorted(drawn)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_has_a_layer(package: str) -> None:
    """No folder with modules escapes the contract, but a client that stands alone."""
    known = set().union(*layers(package)) | {"client", "page"}
    assert set(drawn_rooms()[package]) <= known


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """A relative link names a file that is there."""
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing == []
